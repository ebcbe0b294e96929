"""Digests, descriptors and entries of an index: each refuses what is malformed, and says what is wrong."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.errors import BuildError
from buildfront.image.descriptor import Descriptor
from buildfront.image.digest import Digest
from buildfront.image.documents import Fields
from buildfront.image.layout_index import (
    IMAGE_NAME,
    REF_NAME,
    NamedEntry,
    dump_index,
    parse_index,
)

DIGEST = "sha256:" + "ab" * 32
ENTRY: dict[str, Any] = {"mediaType": "a/b", "digest": DIGEST, "size": 3}


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        True,
        [],
        {},
        "",
        "sha256",
        "sha256:",
        "sha256:" + "ab" * 31,
        DIGEST + "a",
        DIGEST.upper(),
        DIGEST + "\n",
        " " + DIGEST,
        "sha512:" + "0" * 128,
        "sha256:" + "g" * 64,
        "sha256:../../etc/passwd",
        "sha256:" + "\u0661" * 64,
    ],
)
def test_what_is_not_a_digest(value: object) -> None:
    with pytest.raises(BuildError, match=r"^the thing: unsupported digest") as caught:
        Digest.parse(value, "the thing")
    assert caught.value.hint == "only sha256 is supported" and len(caught.value.what) < 300
    if isinstance(value, str):
        assert not Digest.is_valid(value)


@given(st.binary())
def test_a_digest_of_bytes(data: bytes) -> None:
    digest = Digest.of(data)
    assert digest == "sha256:" + hashlib.sha256(data).hexdigest() == Digest.parse(str(digest))
    assert digest.hex[:12] == digest.short and len(digest.hex) == 64
    assert json.loads(json.dumps({"a": digest})) == {"a": digest}


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("mediaType", 3, "mediaType is not a text"),
        ("mediaType", "no slash", "mediaType is not a media type"),
        ("mediaType", "a/b\n", "mediaType is not a media type"),
        ("digest", None, "digest: unsupported digest"),
        ("digest", "x", "digest: unsupported digest"),
        ("size", None, "size is not a whole number"),
        ("size", -1, "size is not a whole number"),
        ("size", True, "size is not a whole number"),
        ("size", 1.0, "size is not a whole number"),
        ("size", 1 << 63, "size is not a whole number"),
        ("annotations", ["a"], "annotations is not an object of texts"),
        ("annotations", {"a": None}, "annotations is not an object of texts"),
    ],
)
def test_descriptors_that_are_malformed(member: str, value: object, words: str) -> None:
    with pytest.raises(BuildError, match=rf"^it: layers\[0\]\.{words}"):
        Descriptor.parse(Fields({**ENTRY, member: value}, "it", "layers[0]"))


def test_a_descriptor_is_written_as_it_was_read() -> None:
    value = {**ENTRY, "annotations": {"a": "b"}}
    assert Descriptor.parse(Fields(value, "it")).to_json() == value
    found = Descriptor.parse(Fields({"digest": DIGEST, "size": 0, "annotations": None}, "it"), "c/d")
    assert found == Descriptor("c/d", Digest(DIGEST), 0)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "is not a JSON object"),
        ([], "is not a JSON object"),
        ({"digest": DIGEST, "size": 1}, "has no mediaType"),
        ({**ENTRY, "mediaType": None}, "mediaType that is not a text"),
        ({"mediaType": "a/b", "size": 1}, "has no digest"),
        ({**ENTRY, "digest": "sha256"}, "malformed digest"),
        ({**ENTRY, "digest": ":a"}, "malformed digest"),
        ({**ENTRY, "digest": "sha256:a/b"}, "malformed digest"),
        ({**ENTRY, "digest": "\ud800"}, "digest that is not a text"),
        ({"mediaType": "a/b", "digest": DIGEST}, "has no size"),
        ({**ENTRY, "size": 1.5}, "size that is not a number of bytes"),
        ({**ENTRY, "annotations": None}, "annotations that are not texts"),
        ({**ENTRY, "annotations": {REF_NAME: 1}}, "annotations that are not texts"),
    ],
)
def test_entries_that_are_malformed(value: object, words: str) -> None:
    with pytest.raises(BuildError, match=f"^the entry .*{words}"):
        NamedEntry.parse(value, "the entry")


def test_an_entry_is_given_a_name_and_loses_it() -> None:
    value = {**ENTRY, "digest": "sha512:" + "0" * 128, "platform": {"os": "x"}, "annotations": {"a": "b"}}
    before = copy.deepcopy(value)
    entry = NamedEntry.parse(value, "it")
    assert (entry.name, entry.shown_name) == ("", value["digest"])
    named = entry.named("app")
    assert (named.name, named.shown_name) == ("app", "app")
    assert named.value == {**value, "annotations": {"a": "b", REF_NAME: "app"}}
    assert named.unnamed() == entry
    assert "annotations" not in entry.named("").value
    assert named.annotated({IMAGE_NAME: "full", REF_NAME: "1"}).shown_name == "full"
    assert value == before, "entries are not changed in place"


def test_an_index_is_written_as_it_was_read() -> None:
    entries = [{**ENTRY, "unknown": [{"a": None}]}, {**ENTRY, "annotations": {REF_NAME: "n"}}]
    data = json.dumps({"schemaVersion": 2, "manifests": entries, "other": 1}).encode()
    found = parse_index(data, "it")
    assert [entry.value for entry in found] == entries
    assert parse_index(dump_index(found, "it"), "it") == found


@given(st.binary(max_size=40) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([DIGEST, ENTRY]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from([*ENTRY, "manifests", "annotations"]), inner, max_size=4),
    max_leaves=12,
).map(lambda value: json.dumps({"manifests": value}).encode()))  # fmt: skip
def test_any_bytes_are_an_index_or_an_error(data: bytes) -> None:
    try:
        found = parse_index(data, "it")
    except BuildError as error:
        assert error.what.startswith("it: ")
        return
    for entry in found:
        assert entry.digest and all(isinstance(text, str) for text in entry.annotations.values())
    assert parse_index(dump_index(found, "it"), "it") == found
