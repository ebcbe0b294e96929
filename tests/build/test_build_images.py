"""Images in and out: archives, layouts, plain files, a real registry, other tools reading what we wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest


def tool(*command: object) -> str:
    """Run another program; its stdout."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def app(box):
    """A store with the image ``app``, and its context."""
    context = box.context(
        'FROM box\nRUN echo new > /new && rm /data/kept\nENV A=1\nCMD ["/bin/cat", "/new"]\n'
    )
    box.build(context, "-t", "app")
    box.app = context
    return box


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_archives_are_read_by_skopeo_and_by_us(app, kind, tmp_path) -> None:
    archive = tmp_path / "app.tar"
    app.build(app.app, "-t", "app:one", "-o", f"type={kind},dest={archive}")
    config = json.loads(tool("skopeo", "inspect", "--config", f"{kind}-archive:{archive}"))
    assert config["config"]["Cmd"] == ["/bin/cat", "/new"]
    tool("skopeo", "copy", f"{kind}-archive:{archive}", f"dir:{tmp_path / 'dir'}")
    app.build(app.app, "-t", "app:one", "-t", "other/app:two", "-o", f"type={kind},dest={archive}")
    wanted = json.loads(app("inspect", "app:one").stdout)[0]["id"]
    app.store = tmp_path / "second"
    assert app("load", "-i", archive).stdout.count("loaded") == 2
    rows = json.loads(app("images", "--format", "json").stdout)
    assert {row["name"] for row in rows} == {"docker.io/library/app:one", "docker.io/other/app:two"}
    assert {row["image_id"] for row in rows} == {wanted}


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_archives_that_skopeo_wrote_are_loaded(app, kind, tmp_path) -> None:
    layout, archive = tmp_path / "layout", tmp_path / "a.tar"
    app.build(app.app, "-o", f"type=oci,dest={layout},tar=false")
    tool("skopeo", "copy", f"oci:{layout}", f"{kind}:{archive}:example.org/team/app:v1")
    with open(archive) as stream:
        done = app("load", stdin=stream)
    assert "example.org/team/app:v1" in done.stdout
    out = app.files(app.context("FROM example.org/team/app:v1\nRUN cat /new\n"))
    assert (out / "new").read_text() == "new\n"
    assert os.listdir(out / "data") == []


def test_the_store_is_an_image_layout(app, tmp_path) -> None:
    shown = json.loads(tool("skopeo", "inspect", f"oci:{app.store}:docker.io/library/app:latest"))
    assert shown["Digest"] == json.loads(app("inspect", "app").stdout)[0]["digest"]


def test_local_and_tar_outputs_are_the_root_filesystem(app, tmp_path) -> None:
    app.build(app.app, "-o", f"type=tar,dest={tmp_path / 'r.tar'}", "-o", str(tmp_path / "local"))
    with tarfile.open(tmp_path / "r.tar") as tar:
        names = {name.rstrip("/") for name in tar.getnames()}
    walked = {str(path.relative_to(tmp_path / "local")) for path in (tmp_path / "local").rglob("*")}
    assert names - {"."} == walked
    piped = subprocess.run(
        [
            "sh",
            "-c",
            f"{shutil.which('env')} BUILDFRONT_ROOT={app.store} '{_program()}' build -q -o - {app.app} | tar -t",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {name.rstrip("/") for name in piped.stdout.split()} == names


def _program() -> str:
    import program

    return str(program.BUILDFRONT)


def test_ids_and_metadata(app, tmp_path) -> None:
    iid, meta = tmp_path / "iid", tmp_path / "meta.json"
    done = app("build", "-q", "-t", "x", "--iidfile", iid, "--metadata-file", meta, app.app)
    image = json.loads(app("inspect", "x").stdout)[0]
    assert (done.stdout, done.stderr) == (image["id"] + "\n", "")
    assert iid.read_text() == image["id"]
    wanted = {
        "containerimage.digest": image["digest"],
        "containerimage.config.digest": image["id"],
        "image.name": "docker.io/library/x:latest",
    }
    assert json.loads(meta.read_text()) == wanted


def test_tag_inspect_and_short_ids(app) -> None:
    app("tag", "app", "example.org/new:1")
    image = json.loads(app("inspect", "app", "example.org/new:1").stdout)
    assert image[0]["id"] == image[1]["id"]
    assert json.loads(app("inspect", image[0]["id"][7:19]).stdout)[0]["id"] == image[0]["id"]
    table = app("images").stdout
    assert "app:latest" in table and "example.org/new:1" in table


@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_push_and_pull_by_a_real_registry(app, registry, compression, tmp_path) -> None:
    name = f"{registry}/team/app:v1"
    app.build(app.app, "-t", name, "--no-cache", "--compression", compression, "--push")
    first = json.loads(app("inspect", name).stdout)[0]
    shown = json.loads(tool("skopeo", "inspect", "--tls-verify=false", f"docker://{name}"))
    assert shown["Digest"] == first["digest"]
    app.store = tmp_path / "second"
    assert app("pull", name).stdout.strip() == first["digest"]
    assert json.loads(app("inspect", name).stdout)[0] == first
    app.store = tmp_path / "third"
    out = app.files(app.context(f"FROM {name}\n"))
    assert (out / "new").read_text() == "new\n"
    again = app("push", name, f"{registry}/copy:v2")
    assert "is there already" not in again.stderr or again.stdout.strip() == first["digest"]
    assert app("push", name).stderr.count("is there already") >= 2


def test_an_image_that_skopeo_pushed_is_a_base(app, registry, tmp_path) -> None:
    layout = tmp_path / "layout"
    app.build(app.app, "-o", f"type=oci,dest={layout},tar=false")
    destination = f"docker://{registry}/by-skopeo:1"
    tool("skopeo", "copy", "--dest-tls-verify=false", "--format", "v2s2", f"oci:{layout}", destination)
    out = app.files(app.context(f"FROM {registry}/by-skopeo:1\nRUN test ! -e /data/kept\n"))
    assert (out / "new").read_text() == "new\n"


def test_pull_policies(app, registry) -> None:
    name = f"{registry}/base:1"
    app("tag", "box", name)
    app("push", name)
    context = app.context(f"FROM {name}\nRUN echo 1\n")
    app.build(context)
    app("tag", "app", name)
    app("push", name)
    app("tag", "box", name)
    assert app.ran(context) == []
    assert app.ran(context, "--pull=never") == []
    assert app.ran(context, "--pull") == ["RUN echo 1"]


def test_the_built_image_runs_under_runc(app, tmp_path) -> None:
    archive, layout, bundle = tmp_path / "a.tar", tmp_path / "l", tmp_path / "bundle"
    app.build(app.app, "-t", "app", "-o", f"type=oci,dest={archive}")
    tool("skopeo", "copy", f"oci-archive:{archive}", f"oci:{layout}:app")
    bundle.mkdir()
    manifest = json.loads(
        _blob(layout, json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])
    )
    for layer in manifest["layers"]:
        tool("tar", "-C", _mkdir(bundle / "rootfs"), "-xf", layout / "blobs/sha256" / layer["digest"][7:])
    assert run_in(bundle, ["/bin/cat", "/new"]) == "new\n"


def _mkdir(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def _blob(layout: Path, digest: str) -> str:
    return (layout / "blobs" / "sha256" / digest[7:]).read_text()


def run_in(bundle: Path, args: list[str]) -> str:
    """A command in a bundle's rootfs under runc."""
    tool("runc", "spec", "--bundle", bundle)
    config = json.loads((bundle / "config.json").read_text())
    config["process"].update(args=args, terminal=False)
    (bundle / "config.json").write_text(json.dumps(config))
    return tool("runc", "--root", bundle / "state", "run", "--bundle", bundle, "test-container")


PROGRAM = '#include <stdio.h>\nint main(void) { puts("compiled in the first stage"); return 0; }\n'


@pytest.mark.slow
def test_a_c_program_compiled_from_debians_packages(bf, debian_tar, isolation, registry, tmp_path) -> None:
    """apt-get in a RUN, a second stage with the result; read, unpacked and run by others; pushed and pulled."""
    bf("import", debian_tar, "-t", "debian")
    context = bf.context(
        "FROM debian AS build\n"
        "RUN apt-get update && apt-get install -y --no-install-recommends gcc make libc6-dev\n"
        "COPY hello.c Makefile /src/\nWORKDIR /src\nRUN make hello\n"
        'FROM scratch\nCOPY --from=build /src/hello /hello\nCMD ["/hello"]\n',
        Makefile="hello: hello.c\n\tgcc -static -o hello hello.c\n",
    )
    (context / "hello.c").write_text(PROGRAM)
    archive, layout, bundle = tmp_path / "hello.tar", tmp_path / "layout", tmp_path / "bundle"
    name = f"{registry}/hello:1"
    bf.build(context, "-t", name, "--isolation", isolation, "-o", f"type=oci,dest={archive}")
    shown = json.loads(tool("skopeo", "inspect", f"oci-archive:{archive}"))
    tool("skopeo", "copy", f"oci-archive:{archive}", f"oci:{layout}:x")
    manifest = json.loads(
        _blob(layout, json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])
    )
    bundle.mkdir()
    for layer in manifest["layers"]:
        tool("tar", "-C", _mkdir(bundle / "rootfs"), "-xf", layout / "blobs/sha256" / layer["digest"][7:])
    assert run_in(bundle, ["/hello"]) == "compiled in the first stage\n"
    bf("push", name)
    assert (
        json.loads(tool("skopeo", "inspect", "--tls-verify=false", f"docker://{name}"))["Digest"]
        == shown["Digest"]
    )
    before = json.loads(bf("inspect", name).stdout)[0]
    bf.store = tmp_path / "empty"
    bf("pull", name)
    assert json.loads(bf("inspect", name).stdout)[0] == before


# names and IDs


def _named_like_an_id(app, kind: str) -> tuple[str, str]:
    """Another image called as the ID or the digest of ``app`` begins; the name and the other image's ID."""
    image = json.loads(app("inspect", "app").stdout)[0]
    name = image["id" if kind == "id" else "digest"][7:19]
    app("tag", "box", name)
    return name, json.loads(app("inspect", "box").stdout)[0]["id"]


@pytest.mark.parametrize("kind", ["id", "digest"])
def test_a_name_comes_before_an_id(app, kind) -> None:
    """Else an image could be made whose ID stands in the place of a name."""
    name, other = _named_like_an_id(app, kind)
    app_id = json.loads(app("inspect", "app").stdout)[0]["id"]
    assert json.loads(app("inspect", name).stdout)[0]["id"] == other
    for text in (
        f"FROM {name}\n",
        f"FROM scratch\nCOPY --from={name} / /\n",
        f"FROM box AS b\nFROM {name}\n",
    ):
        assert not (app.files(app.context(text)) / "new").exists()
    assert json.loads(app("inspect", f"sha256:{name}").stdout)[0]["id"] == app_id
    assert (
        app.files(app.context("FROM x\n"), "--build-context", f"x=docker-image://sha256:{name}") / "new"
    ).exists()
    app("tag", name, "copied")
    assert json.loads(app("inspect", "copied").stdout)[0]["id"] == other


def test_a_few_digits_are_no_id_in_a_dockerfile(app) -> None:
    digits = json.loads(app("inspect", "app").stdout)[0]["id"][7:]
    for count, status in ((7, 1), (11, 1), (12, 0), (64, 0)):
        done = app.build(app.context(f"FROM {digits[:count]}\n"), "--pull=never", check=False)
        assert done.returncode == status, (count, done.stderr)
    assert (
        "is not in the store"
        in app.build(app.context(f"FROM {digits[:8]}\n"), "--pull=never", check=False).stderr
    )


def test_the_beginning_of_several_images_is_told(bf, tmp_path) -> None:
    """Made until two of them meet in seven digits would take a while: the store's names are asked with fewer."""
    from buildfront.errors import BuildError
    from buildfront.image.documents import dumps
    from buildfront.image.layout_index import NamedEntry
    from buildfront.image.manifest import image_manifest
    from buildfront.image.media_types import CONFIG, MANIFEST
    from buildfront.store.image_store import Store
    from buildfront.store.lookup import _by_id, find

    with Store(str(tmp_path / "many")) as store, store.session() as session:
        for number in range(40):
            config = session.put(
                dumps({"os": "linux", "architecture": "amd64", "author": str(number)}), CONFIG
            )
            manifest = session.put(image_manifest(config, []), MANIFEST)
            store.index.set("", NamedEntry.of(manifest))
        digests = [item.digest for item in store.index.read()]
        with pytest.raises(BuildError, match="is the beginning of several images: sha256:"):
            _by_id(store, "a", "sha256:")
        for digest in digests:
            for name in (digest, digest[:19], digest[7:19]):
                entry = find(store, name)
                assert entry is not None and entry.digest == digest


def test_64_hex_digits_are_no_name(app) -> None:
    done = app("tag", "app", "ab" * 32, check=False)
    assert done.returncode == 1 and "64 hex digits are an image ID, not a name" in done.stderr
