"""Whatever index.json holds: success, or an error that says where, why and what to do. Never a traceback."""

import contextlib
import json
import os
import resource
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_place import ENTRY, READING

from buildfront import images, info, inspect, tag
from buildfront.errors import BuildError
from buildfront.image.layout_index import REF_NAME, NamedEntry
from buildfront.store.image_store import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts filesystems")


# index.json


def entry(**more):
    return NamedEntry.parse({**ENTRY, **more}, "it")


def index(manifests):
    return json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()


ODD = {
    "empty": (b"", "not JSON"),
    "no-json": (b"{", "line 1 is not JSON"),
    "list": (b"[]", "not a JSON object"),
    "null": (b"null", "not a JSON object"),
    "manifests-object": (index({}), "manifests is not a list"),
    "manifests-number": (index(3), "manifests is not a list"),
    "manifests-text": (index("x"), "manifests is not a list"),
    "entry-null": (index([None]), "manifests[0] is not a JSON object"),
    "entry-text": (index([ENTRY, "x"]), "manifests[1] is not a JSON object"),
    "annotations-list": (index([{**ENTRY, "annotations": []}]), "annotations"),
    "annotations-number": (index([{**ENTRY, "annotations": {"a": 1}}]), "annotations"),
    "annotations-null": (index([{**ENTRY, "annotations": None}]), "annotations"),
    "no-digest": (index([{"mediaType": "m", "size": 1}]), "has no digest"),
    "digest-number": (index([{**ENTRY, "digest": 5}]), "digest that is not a text"),
    "digest-path": (index([{**ENTRY, "digest": "sha256:../../../etc/passwd"}]), "malformed digest"),
    "digest-empty": (index([{**ENTRY, "digest": ""}]), "malformed digest"),
    "digest-escape": (index([{**ENTRY, "digest": "sha256:\x1b[2J"}]), "malformed digest"),
    "size-true": (index([{**ENTRY, "size": True}]), "size"),
    "size-negative": (index([{**ENTRY, "size": -5}]), "size"),
    "size-text": (index([{**ENTRY, "size": "1"}]), "size"),
    "size-huge": (index([{**ENTRY, "size": 10**30}]), "size"),
    "no-media-type": (index([{"digest": "sha256:" + "a" * 64, "size": 1}]), "has no mediaType"),
    "half-a-character": (index([{**ENTRY, "annotations": {"a": "\ud800"}}]), "annotations"),
    "not-utf-8": (b'{"manifests": ["\xff"]}', "not UTF-8"),
    "utf-16": ('{"manifests": []}'.encode("utf-16"), "not UTF-8"),
    "deep": (b'{"manifests": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too deep"),
    "long-number": (b'{"manifests": ' + b"1" * 10_000 + b"}", "not JSON"),
    "large": (b" " * (5 << 20), "larger than"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_index_is_named(place, name):
    content, says = ODD[name]
    with open(f"{place.root}/index.json", "wb") as stream:
        stream.write(content)
    with Store(place.root) as store:
        for call in (store.index.read, lambda: store.index.find("x"), lambda: store.index.set("x", entry())):
            with pytest.raises(BuildError) as caught:
                call()
            assert (
                says in caught.value.what
                and place.root in caught.value.what
                and "index.json" in caught.value.what
            )
            assert caught.value.hint
    with open(f"{place.root}/index.json", "rb") as stream:
        assert stream.read() == content, "it is left as it is"
    assert not os.path.exists(f"{place.root}/index.json.new")


def test_every_command_says_so(place):
    (place.context / "x.tar").write_bytes(b"")
    with open(f"{place.root}/index.json", "w", encoding="utf-8") as stream:
        stream.write("[")
    for words in (
        *READING[:1],
        *READING[2:],
        ["tag", "app", "b"],
        ["push", "app", "127.0.0.1:1/x"],
        ["info"],
        ["build", "."],
    ):
        if words != ["plan", "."]:  # it needs no name
            place.fails(*words, says="index.json can't be used")
    place.good("prune", "-f")


def test_a_gigabyte_is_not_read(place):
    with open(f"{place.root}/index.json", "wb") as stream:
        stream.truncate(1 << 30)
    limit = 600 << 20

    def bounded():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    place.fails("images", says="larger than", preexec_fn=bounded)


def test_many_names_are_no_matter_of_minutes(place):
    with Store(place.root) as store:
        entries = [
            entry(digest=f"sha256:{number:064x}", annotations={REF_NAME: f"n{number}"})
            for number in range(10_000)
        ]
        began = time.monotonic()
        store.index.change(lambda _: entries)
        store.index.set("one", entry())
        assert len(store.index.read()) == 10_001
        assert time.monotonic() - began < 30
        with pytest.raises(BuildError, match="too many names"):
            store.index.change(lambda _: [entry(annotations={"a": "x" * (5 << 20)})])
        assert len(store.index.read()) == 10_001


def test_an_index_in_Gos_manner_and_a_missing_one(place):
    with open(f"{place.root}/index.json", "w", encoding="utf-8") as stream:
        stream.write('{"schemaVersion": 2, "manifests": null}')
    assert images(place.root) == []
    os.unlink(f"{place.root}/index.json")
    assert images(place.root) == []
    place.works_again()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["mediaType", "digest", "size", "annotations", "manifests", "x"]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode()),
                         JSON.map(lambda value: index([value])), JSON.map(index)))  # fmt: skip
def test_fuzz_index(place, content):
    with open(f"{place.root}/index.json", "wb") as stream:
        stream.write(content)
    for call in (
        lambda: images(place.root),
        lambda: inspect("app", place.root),
        lambda: tag("app", "b", place.root),
        lambda: info(place.root),
    ):
        with contextlib.suppress(BuildError):
            call()
