"""Manifests, indexes and configs: each member of a wrong type is told, whatever is read is typed, any bytes are one or
the other."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildfront.errors import BuildError
from buildfront.image import documents
from buildfront.image.digest import Digest
from buildfront.image.documents import json_object
from buildfront.image.image_config import ImageConfig
from buildfront.image.manifest import Index, Manifest, find_manifest
from buildfront.image.media_types import INDEX, MANIFEST

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"

A_DESCRIPTOR = {"mediaType": GZIP, "digest": DIGEST, "size": 3}
A_MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": MANIFEST,
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": OTHER, "size": 2},
    "layers": [A_DESCRIPTOR],
}
AN_INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": INDEX,
    "manifests": [
        {**A_DESCRIPTOR, "mediaType": MANIFEST, "platform": {"os": "linux", "architecture": "amd64"}},
        {
            "mediaType": MANIFEST,
            "digest": OTHER,
            "size": 1,
            "platform": {"os": "linux", "architecture": "arm64"},
        },
    ],
}
A_CONFIG: dict[str, Any] = {
    "created": "2024-01-02T03:04:05.678Z",
    "author": "somebody",
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "User": "app",
        "Env": ["A=1"],
        "Cmd": ["sh"],
        "Entrypoint": None,
        "Volumes": {"/v": {}},
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"a": "b"},
        "Healthcheck": {"Test": ["NONE"], "Interval": 5},
        "OnBuild": ["RUN x"],
        "Shell": ["/bin/sh", "-c"],
        "WorkingDir": "/w",
        "StopSignal": "SIGTERM",
        "Unknown": {"kept": [1]},
    },
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
    "history": [{"created": "2024-01-02T03:04:05Z", "created_by": "x", "empty_layer": True}],
}


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def changed(document: dict[str, Any], path: str, value: Any) -> bytes:
    """The document with another value at a path such as ``layers.0.size``; MISSING takes the member away."""
    whole = copy.deepcopy(document)
    *parts, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = whole
    for part in parts:
        place = place[part]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return dumped(whole)


MISSING = object()


def test_what_is_right_is_read() -> None:
    manifest = Manifest.parse(dumped(A_MANIFEST), "it")
    assert (manifest.config.digest, manifest.layers[0].size) == (OTHER, 3)
    assert [item.digest for item in manifest.blobs] == [OTHER, DIGEST]
    config = ImageConfig.parse(dumped(A_CONFIG), "it")
    assert (config.platform, config.diff_ids, config.created) == (
        "linux/amd64",
        (DIGEST,),
        "2024-01-02T03:04:05.678Z",
    )
    assert config.value["config"]["Unknown"] == {"kept": [1]}
    index = Index.parse(dumped(AN_INDEX), "it")
    assert index.pick("linux/arm64", "it").digest == OTHER


@pytest.mark.parametrize("name", ["Cmd", "Entrypoint", "Shell"])
def test_a_command_that_is_a_text_is_a_list_of_one(name: str) -> None:
    config = ImageConfig.parse(changed(A_CONFIG, f"config.{name}", "sh"), "it")
    assert config.value["config"][name] == ["sh"]


NUMBERS = [True, -5, 1.5, "3", None, 2**63, 2**70, [], {}]
TEXTS = [1, True, [], {}]


@pytest.mark.parametrize("place", ["config", "layers.0"])
@pytest.mark.parametrize("size", [*NUMBERS, MISSING])
def test_a_size_is_a_whole_number(place: str, size: Any) -> None:
    with pytest.raises(BuildError, match=r"size is not a whole number of at least 0"):
        Manifest.parse(changed(A_MANIFEST, f"{place}.size", size), "the manifest of x")


@pytest.mark.parametrize("place", ["config", "layers.0"])
@pytest.mark.parametrize(
    "digest",
    [
        *TEXTS,
        None,
        MISSING,
        "",
        "sha256:",
        "sha256:../../etc/passwd",
        "sha512:" + "0" * 128,
        DIGEST + "0",
        DIGEST.upper(),
    ],
)
def test_a_digest_is_one(place: str, digest: Any) -> None:
    with pytest.raises(BuildError, match="unsupported digest"):
        Manifest.parse(changed(A_MANIFEST, f"{place}.digest", digest), "it")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("config", MISSING, "not an image manifest"),
        ("layers", MISSING, "not an image manifest"),
        ("layers", None, "not an image manifest"),
        ("layers", {}, "layers is not a list"),
        ("layers", 3, "layers is not a list"),
        ("config", [], "config is not an object"),
        ("layers.0", [], r"layers\[0\] is not an object"),
        ("layers.0", None, r"layers\[0\] is not an object"),
        ("layers.0.mediaType", 3, "mediaType is not a text"),
        ("layers.0.mediaType", "x\x1b[31m", "mediaType is not a media type"),
        ("layers.0.annotations", [], "annotations is not an object of texts"),
        ("layers.0.annotations", {"a": 1}, "annotations is not an object of texts"),
        ("mediaType", 3, "mediaType is not a text"),
        ("mediaType", "application/vnd.docker.distribution.manifest.v1+prettyjws", "is not an image"),
        ("config.mediaType", "application/vnd.cncf.helm.config.v1+json", "is not an image"),
        ("layers", [A_DESCRIPTOR] * 10_000, "layers has 10000 entries"),
    ],
)
def test_manifests_that_are_wrong(path: str, value: Any, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        Manifest.parse(changed(A_MANIFEST, path, value), "the manifest of x")


def test_one_digest_has_one_size() -> None:
    found = Manifest.parse(changed(A_MANIFEST, "layers", [A_DESCRIPTOR, {**A_DESCRIPTOR, "size": 4}]), "it")
    with pytest.raises(BuildError, match="two sizes"):
        _ = found.blobs


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        *(
            (f"config.{name}", value, "is not a text")
            for name in ("User", "WorkingDir", "StopSignal")
            for value in TEXTS
        ),
        *(
            (f"config.{name}", value, "is not a list of texts")
            for name in ("Env", "OnBuild", "Cmd", "Entrypoint", "Shell")
            for value in ({}, 1, [1], [None], [["x"]])
        ),
        *(
            (f"config.{name}", value, "is not an object")
            for name in ("Volumes", "ExposedPorts")
            for value in ([], "x", 1)
        ),
        *(
            ("config.Labels", value, "is not an object of texts")
            for value in ([], "x", {"a": 1}, {"a": None})
        ),
        *(("config.Healthcheck", value, "is not an object") for value in ([], "x", 1)),
        ("config.Healthcheck.Test", "x", "is not a list of texts"),
        ("config.Healthcheck.Interval", -1, "is not a whole number"),
        ("config.Env", ["A=\0"], "free of null bytes"),
        ("config.User", "a\0b", "free of null bytes"),
        ("config.Volumes", {"/a\0": {}}, "free of null bytes"),
        ("config.Labels", {"a": "\0"}, "free of null bytes"),
        ("config", [], "config is not an object"),
        ("config", "x", "config is not an object"),
        ("rootfs", [], "rootfs is not an object"),
        ("rootfs.diff_ids", {}, "is not a list of texts"),
        ("rootfs.diff_ids", [1], "is not a list of texts"),
        ("rootfs.diff_ids", ["x"], "unsupported digest"),
        ("rootfs.diff_ids", [DIGEST] * 10_000, "has 10000 layers"),
        ("history", {}, "history is not a list"),
        ("history", [1], r"history\[0\] is not an object"),
        ("history", [{"created": 1}], "is not a text"),
        ("history", [{"created": "yesterday"}], "is not a time"),
        ("history", [{"empty_layer": "yes"}], "is not true or false"),
        ("history", [{"created_by": []}], "is not a text"),
        ("created", 5, "is not a text"),
        ("created", "\x1b[31m", "is not a time"),
        ("author", {}, "is not a text"),
        ("architecture", 5, "is not a text"),
        ("architecture", MISSING, "has no platform"),
        ("architecture", "a/b/c/d", "has no platform"),
        ("os", ["linux"], "is not a text"),
        ("variant", {}, "is not a text"),
        ("os.version", MISSING, ""),
    ],
)
def test_configs_that_are_wrong(path: str, value: Any, words: str) -> None:
    if path == "os.version":
        with pytest.raises(BuildError, match="is not a text"):
            ImageConfig.parse(dumped({**A_CONFIG, "os.version": 1}), "it")
        with pytest.raises(BuildError, match="is not a list of texts"):
            ImageConfig.parse(dumped({**A_CONFIG, "os.features": "x"}), "it")
        return
    with pytest.raises(BuildError, match=words):
        ImageConfig.parse(changed(A_CONFIG, path, value), "the config of x")


@pytest.mark.parametrize("empty", [None, MISSING])
@pytest.mark.parametrize("path", ["config", "history", "created", "author", "config.Env", "config.Labels"])
def test_what_may_be_missing(path: str, empty: Any) -> None:
    assert ImageConfig.parse(changed(A_CONFIG, path, empty), "it").platform == "linux/amd64"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe{\0}\0", "is not JSON"),
        (b'"\xed\xa0\x80"', "is not JSON"),
        (b"{} x", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"3", "is not a JSON object"),
        (b'{"a": NaN}', "is not JSON"),
        (b'{"a": Infinity}', "is not JSON"),
        (b'{"a": 1e999}', "number that is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b"[" * 100_000, "deep"),
        (b'{"a":' * 100_000, "deep"),
        (b"[" * 300 + b"]" * 300, "deep"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "deep"),
        (b'{"a": "' + b"x" * (5 << 20) + b'"}', "larger than 4 MiB"),
        (b'{"a": [' + b"[]," * 600_000 + b"1]}", "too many values"),
    ],
)
def test_bytes_that_are_no_document(data: bytes, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        json_object(data, "the manifest of x")


def test_the_error_names_the_document_and_the_place() -> None:
    with pytest.raises(BuildError, match=r"^the manifest of x: layers\[0\]\.size is not a whole number"):
        Manifest.parse(changed(A_MANIFEST, "layers.0.size", True), "the manifest of x")
    with pytest.raises(BuildError, match=r"^the config of x: config\.Healthcheck\.Interval is not"):
        ImageConfig.parse(changed(A_CONFIG, "config.Healthcheck.Interval", 1.5), "the config of x")


# indexes


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("manifests", {}, "manifests is not a list"),
        ("manifests", "x", "manifests is not a list"),
        ("manifests.0", 1, r"manifests\[0\] is not an object"),
        ("manifests.0.platform", [], "platform is not an object"),
        ("manifests.0.platform.os", 1, "is not a text"),
        ("manifests.0.size", True, "is not a whole number"),
        ("manifests.0.annotations", 3, "is not an object of texts"),
    ],
)
def test_indexes_that_are_wrong(path: str, value: Any, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        Index.parse(changed(AN_INDEX, path, value), "it")


def test_an_index_names_what_it_has() -> None:
    with pytest.raises(BuildError) as caught:
        Index.parse(dumped(AN_INDEX), "it").pick("linux/s390x", "x:1")
    assert caught.value.what == "x:1 has nothing for linux/s390x"
    assert caught.value.hint == "it has linux/amd64, linux/arm64"


def nested(depth: int) -> tuple[bytes, dict[str, bytes]]:
    """An index in an index and so on, and the blobs."""
    blobs: dict[str, bytes] = {}
    data = dumped(A_MANIFEST)
    kind = MANIFEST
    for _ in range(depth):
        blobs[Digest.of(data)] = data
        entry = {"mediaType": kind, "digest": Digest.of(data), "size": len(data)}
        data, kind = dumped({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}), INDEX
    return data, blobs


@pytest.mark.parametrize("depth", [0, 1, 8])
def test_indexes_in_each_other_lead_to_a_manifest(depth: int) -> None:
    data, blobs = nested(depth)
    found, manifest = find_manifest(data, "", "linux/amd64", "it", lambda item: blobs[item.digest])
    assert (found, manifest.config.digest) == (dumped(A_MANIFEST), OTHER)


@pytest.mark.parametrize("depth", [9, 1500])
def test_too_many_indexes_in_each_other(depth: int) -> None:
    data, blobs = nested(depth)
    with pytest.raises(BuildError, match="more than 8 indexes in each other"):
        find_manifest(data, "", "linux/amd64", "it", lambda item: blobs[item.digest])


def test_what_an_index_leads_to_is_what_it_says() -> None:
    data, blobs = nested(1)
    with pytest.raises(BuildError, match="is damaged"):
        find_manifest(data, "", "linux/amd64", "it", lambda item: blobs[item.digest] + b" ")


# any bytes

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from([DIGEST, MANIFEST, INDEX, GZIP, "linux", "amd64", "2024-01-02T03:04:05Z", "\0"])
)
_KEYS = st.sampled_from(
    [
        *(
            "mediaType",
            "digest",
            "size",
            "annotations",
            "platform",
            "os",
            "architecture",
            "variant",
            "manifests",
        ),
        *(
            "config",
            "layers",
            "rootfs",
            "diff_ids",
            "history",
            "created",
            "created_by",
            "empty_layer",
            "author",
        ),
        *(
            "Env",
            "Cmd",
            "Entrypoint",
            "Labels",
            "Volumes",
            "ExposedPorts",
            "Healthcheck",
            "Test",
            "User",
            "Shell",
        ),
    ]
) | st.text(max_size=3)
VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=30,
)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A document of which one member is something else."""
    whole = copy.deepcopy(draw(st.sampled_from([A_MANIFEST, AN_INDEX, A_CONFIG])))
    place: Any = whole
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
            place[key] = draw(VALUES)
            return dumped(whole)
        place = inner


@settings(max_examples=600, deadline=None)
@given(st.one_of(st.binary(max_size=60), VALUES.map(dumped), spoilt()))
def test_any_bytes_are_a_document_or_an_error(data: bytes) -> None:
    for parse in (Manifest.parse, ImageConfig.parse, Index.parse):
        try:
            found = parse(data, "it")
        except BuildError as error:
            assert error.what
            continue
        if isinstance(found, Manifest):
            sizes = [item.size for item in (found.config, *found.layers)]
            assert all(type(size) is int and size >= 0 for size in sizes)
        elif isinstance(found, ImageConfig):
            assert not any(math.isinf(item) for item in found.value.values() if isinstance(item, float))
            documents.json_object(dumped(dict(found.value)), "again")
