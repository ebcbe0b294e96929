"""Blobs that are damaged, missing, or not what their image says: made or fetched again, or named, never passed on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DOCKERFILE = "FROM box\nRUN echo new > /new\n"


def flip(path: Path) -> None:
    """Change one byte and nothing else that a name or a size would tell."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)


def blob(builds: Any, digest: str) -> Path:
    return builds.store / "blobs" / "sha256" / digest.removeprefix("sha256:")


def layers(builds: Any, name: str) -> list[str]:
    manifest = json.loads(builds("inspect", name).stdout)[0]["manifest"]
    return [item["digest"] for item in manifest["layers"]]


def whole(builds: Any, digest: str) -> bool:
    return "sha256:" + hashlib.sha256(blob(builds, digest).read_bytes()).hexdigest() == digest


@pytest.fixture
def app(box: Any) -> Any:
    """A store with ``app``, of a base and one layer of its own."""
    box.app = box.context(DOCKERFILE)
    box.build(box.app, "-t", "app")
    return box


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flipped": flip,
    "shorter": lambda path: os.truncate(path, 10),
    "longer": lambda path: os.truncate(path, path.stat().st_size + 1),
    "gone": os.unlink,
    "a link": replace_by_link,
    "a directory": replace_by_directory,
}
OUTPUTS = {
    "none": "",
    "oci": "type=oci,dest={}/out.tar",
    "docker": "type=docker,dest={}/out.tar",
    "layout": "type=oci,dest={}/out,tar=false",
    "local": "type=local,dest={}/out",
    "tar": "type=tar,dest={}/out.tar",
}


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name != "a directory"])
def test_a_layer_that_was_built_here_is_made_again(app: Any, damage: str, tmp_path: Path) -> None:
    digest = layers(app, "app")[-1]
    DAMAGE[damage](blob(app, digest))
    for name in ("first", "second"):
        done = app.build(app.app, "-t", "app", "-o", f"type=oci,dest={tmp_path / name}")
        assert ("CACHED" in done.stderr.split("RUN")[-1]) is (name == "second")
        with tarfile.open(tmp_path / name) as tar:
            for member in tar:
                if member.name.startswith("blobs/sha256/"):
                    stream = tar.extractfile(member)
                    assert stream is not None
                    assert hashlib.sha256(stream.read()).hexdigest() == member.name.rpartition("/")[2]
    assert all(whole(app, item) for item in layers(app, "app"))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_a_base_that_nobody_can_fetch_is_named(app: Any, damage: str, output: str, tmp_path: Path) -> None:
    digest = layers(app, "box")[0]
    DAMAGE[damage](blob(app, digest))
    given = ["-o", OUTPUTS[output].format(tmp_path)] if output != "none" else []
    done = app.build(app.app, "-t", "other", "--pull=never", *given, check=False)
    assert done.returncode == 1
    state = "missing" if damage == "gone" else "damaged"
    assert f"the layer {digest} is {state}" in done.stderr
    assert "hint: pull or load the image again" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out.tar").exists() and not (tmp_path / "out").exists()
    assert "other" not in app("images").stdout


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("what", ["manifest", "config"])
def test_documents_that_are_damaged_are_named(app: Any, damage: str, what: str) -> None:
    image = json.loads(app("inspect", "box").stdout)[0]
    digest = image["digest"] if what == "manifest" else image["id"]
    DAMAGE[damage](blob(app, digest))
    for words in (("inspect", "box"), ("build", "--pull=never", app.app), ("push", "box", "127.0.0.1:1/x")):
        done = app(*words, check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert digest in done.stderr
    listed = app("images")
    assert "app:latest" in listed.stdout and "<damaged>" in listed.stdout
    assert digest in listed.stderr
    rows = {row["name"]: row for row in json.loads(app("images", "--format", "json").stdout)}
    assert (
        rows["docker.io/library/box:latest"]["problem"]
        and not rows["docker.io/library/app:latest"]["problem"]
    )


def test_the_same_command_again_notices(app: Any) -> None:
    """A note of a cached build answers for blobs that are as they were."""
    for _ in range(2):
        app.build(app.app, "-t", "app")
    flip(blob(app, layers(app, "app")[-1]))
    app.build(app.app, "-t", "app")
    assert all(whole(app, item) for item in layers(app, "app"))


# what a registry has


@pytest.fixture
def pushed(app: Any, registry: str) -> tuple[Any, str]:
    """The image ``REGISTRY/base``, in the store and in the registry."""
    name = f"{registry}/base:1"
    app("tag", "box", name)
    app("push", name)
    return app, name


@pytest.mark.parametrize("damage", ["flipped", "shorter", "gone"])
@pytest.mark.parametrize("options", [(), ("--pull=always",), ("--pull=newer",)])
def test_a_base_is_fetched_again(pushed: tuple[Any, str], damage: str, options: tuple[str, ...]) -> None:
    builds, name = pushed
    digest = layers(builds, name)[0]
    DAMAGE[damage](blob(builds, digest))
    builds.build(builds.context(f"FROM {name}\nRUN echo x > /x\n"), *options)
    assert whole(builds, digest)


def test_pull_fetches_what_is_damaged(pushed: tuple[Any, str]) -> None:
    builds, name = pushed
    image = json.loads(builds("inspect", name).stdout)[0]
    for digest in (image["digest"], image["id"], *layers(builds, name)):
        flip(blob(builds, digest))
        builds("pull", name)
        assert whole(builds, digest)


def test_what_is_fetched_again_is_the_same_image(pushed: tuple[Any, str], registry: str) -> None:
    """The name means something else in the registry by now: the image that the store has is what it had."""
    builds, name = pushed
    before = json.loads(builds("inspect", name).stdout)[0]["digest"]
    builds("push", "app", name)
    flip(blob(builds, layers(builds, name)[0]))
    out = builds.files(builds.context(f"FROM {name}\nRUN echo x > /x\n"))
    assert not (out / "new").exists()
    assert json.loads(builds("inspect", name).stdout)[0]["digest"] == before


# what an image says of itself


def layout(builds: Any, tmp_path: Path) -> Path:
    path = tmp_path / "layout"
    builds.build(builds.app, "-t", "app", "-o", f"type=oci,dest={path},tar=false")
    return path


def put(path: Path, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (path / "blobs" / "sha256" / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def documents(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    def read(digest: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((path / "blobs" / "sha256" / digest[7:]).read_bytes())
        return value

    index = json.loads((path / "index.json").read_text())
    manifest = read(index["manifests"][0]["digest"])
    return index, manifest, read(manifest["config"]["digest"])


def rewrite(path: Path, manifest: dict[str, Any], config: dict[str, Any] | None = None) -> None:
    """Make the layout's image one of these documents, every digest right."""
    index, _, _ = documents(path)
    if config is not None:
        manifest["config"] |= put(path, json.dumps(config).encode())
    index["manifests"][0] |= put(path, json.dumps(manifest).encode())
    (path / "index.json").write_text(json.dumps(index))


def packed(path: Path, kind: str) -> list[str]:
    """The words that bring the layout's image in."""
    if kind == "layout":
        return ["load", "-i", str(path)]
    archive = path.parent / "packed.tar"
    with tarfile.open(archive, "w") as tar:
        if kind == "docker":
            _, manifest, _ = documents(path)
            entry = {
                "Config": "blobs/sha256/" + manifest["config"]["digest"][7:],
                "RepoTags": ["lying:1"],
                "Layers": ["blobs/sha256/" + item["digest"][7:] for item in manifest["layers"]],
            }
            (path / "manifest.json").write_text(json.dumps([entry]))
            (path / "oci-layout").unlink()
        tar.add(path, ".")
    return ["load", "-i", str(archive)]


@pytest.mark.parametrize("kind", ["layout", "oci", "docker"])
@pytest.mark.parametrize("known", [True, False])
def test_a_layer_that_is_not_its_diff_id_does_not_come_in(
    app: Any, kind: str, known: bool, tmp_path: Path
) -> None:
    """Whether the store has the blob already or not: it is the image that lies."""
    path = layout(app, tmp_path)
    _, manifest, config = documents(path)
    config["rootfs"]["diff_ids"][-1] = "sha256:" + "12" * 32
    rewrite(path, manifest, config)
    if not known:
        app.store = tmp_path / "second"
        app("images")
    before = app.snapshot()
    done = app(*packed(path, kind), check=False)
    assert done.returncode == 1
    assert "its diff ID is sha256:" in done.stderr and "12" * 32 in done.stderr
    assert app.snapshot() == before


@pytest.mark.parametrize("known", [True, False])
def test_a_layer_that_is_not_its_diff_id_is_not_pulled(
    app: Any, registry: str, known: bool, tmp_path: Path
) -> None:
    path = layout(app, tmp_path)
    _, manifest, config = documents(path)
    config["rootfs"]["diff_ids"].reverse()
    rewrite(path, manifest, config)
    _upload(registry, "lying", path)
    if not known:
        app.store = tmp_path / "second"
        app("images")
    before = app.snapshot()
    for words in (["pull", f"{registry}/lying:1"], ["build", app.context(f"FROM {registry}/lying:1\n")]):
        done = app(*words, check=False)
        assert done.returncode == 1 and "its diff ID is sha256:" in done.stderr
        assert app.snapshot() == before


def _upload(registry: str, name: str, path: Path) -> None:
    """An image of a layout as it is, by the distribution API: other tools would check it."""

    def send(method: str, place: str, data: bytes = b"", kind: str = "application/octet-stream") -> str:
        request = urllib.request.Request(place, data, {"Content-Type": kind}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.headers["location"])

    base = f"http://{registry}/v2/{name}"
    index, manifest, _ = documents(path)
    for item in (manifest["config"], *manifest["layers"]):
        data = (path / "blobs" / "sha256" / item["digest"][7:]).read_bytes()
        send("PUT", f"{send('POST', f'{base}/blobs/uploads/')}&digest={item['digest']}", data)
    data = (path / "blobs" / "sha256" / index["manifests"][0]["digest"][7:]).read_bytes()
    send("PUT", f"{base}/manifests/1", data, manifest["mediaType"])


@pytest.mark.parametrize("size", [True, -5, 2**70, "3", 1.5, 0])
@pytest.mark.parametrize("place", ["config", "layer"])
def test_sizes_that_are_none(app: Any, place: str, size: Any, tmp_path: Path) -> None:
    path = layout(app, tmp_path)
    _, manifest, _ = documents(path)
    item = manifest["config"] if place == "config" else manifest["layers"][0]
    item["size"] = size
    rewrite(path, manifest)
    before = app.snapshot()
    done = app("load", "-i", path, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert (
        "size" if size else "is longer than its descriptor says"
    ) in done.stderr or "damaged" in done.stderr
    assert app.snapshot() == before


def test_thousands_of_layers_and_nested_indexes_end_in_seconds(app: Any, tmp_path: Path) -> None:
    path = layout(app, tmp_path)
    _, manifest, config = documents(path)
    many = {**manifest, "layers": manifest["layers"][-1:] * 10_000}
    rewrite(path, many)
    done = app("load", "-i", path, check=False, timeout=60)
    assert done.returncode == 1 and "10000 entries" in done.stderr
    rewrite(path, manifest, config)
    index, _, _ = documents(path)
    for _ in range(1500):
        inner = put(path, json.dumps(index).encode())
        kind = "application/vnd.oci.image.index.v1+json"
        index = {"schemaVersion": 2, "mediaType": kind, "manifests": [{"mediaType": kind, **inner}]}
    (path / "index.json").write_text(json.dumps(index))
    done = app("load", "-i", path, check=False, timeout=60)
    assert done.returncode == 1 and "indexes in each other" in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        '{"manifests": 3}',
        '{"manifests": [3]}',
        '{"manifests": [{"digest": 3}]}',
        "[]",
        "",
        "[" * 100_000,
        '{"manifests": [{"mediaType": "a/b", "digest": "sha256:'
        + "ab" * 32
        + '", "size": 3, "annotations": [1]}]}',
    ],
)
def test_indexes_of_layouts_that_are_none(app: Any, text: str, tmp_path: Path) -> None:
    path = layout(app, tmp_path)
    (path / "index.json").write_text(text)
    before = app.snapshot()
    for words in (
        ["load", "-i", path],
        ["build", "--build-context", f"x=oci-layout://{path}", app.context("FROM x\n")],
        ["build", app.app, "-o", f"type=oci,dest={path},tar=false"],
    ):
        done = app(*words, check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert "index.json" in done.stderr
        assert app.snapshot() == before
    assert (path / "index.json").read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "3",
        "[3]",
        '[{"Config": 3}]',
        '[{"Config": "c", "Layers": 3}]',
        '[{"Layers": []}]',
        "{}",
        "[" * 100_000,
        "[null]",
    ],
)
def test_docker_archives_that_are_none(app: Any, text: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    (path / "manifest.json").write_text(text)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(path, ".")
    before = app.snapshot()
    done = app("load", "-i", tmp_path / "a.tar", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert app.snapshot() == before
    shutil.rmtree(path)
