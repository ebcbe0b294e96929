"""The digest of a selection: equal ones give equal copies. A random search for two that are not."""

from __future__ import annotations

import itertools
import json
import os
import stat
import tempfile
from pathlib import Path

import pytest
from file_trees import make, seen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildfront.dockerfile.ignore import literal
from buildfront.engine import cache_key
from buildfront.engine.ops.copier import Copier
from buildfront.engine.selection import Item, Selection, Wanted, select, wanted
from buildfront.engine.selection_digest import describe, digest, encode, hash_fd
from buildfront.graph import CopyOp, Origin
from run_step import Root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")

# Names and contents that look like what a digest might be made of.
NAMES = ("a", "[0a]", "0a", "[1]", "100644", "b\n", "ü", "\udcff", '"', '["item","a",33188]', "a,b", "\\")
CONTENTS = ("", "a", "[0a]", "sha256:a", '["item"]')


def value(top: Path, sources: tuple[str, ...], *, owners: bool = False) -> str:
    with Root(str(top)) as root:
        return digest(root, select(root, Wanted(sources)), hash_fd, owners=owners)


def copied(top: Path, sources: tuple[str, ...], *, owners: bool = False, for_mount: bool = False) -> object:
    """All that a layer would tell of a copy, but for times."""
    with tempfile.TemporaryDirectory() as target:
        op = CopyOp(sources, "/content" if for_mount else "/d/", Origin("context"), for_mount=for_mount)
        with Root(str(top)) as source, Root(target) as root:
            copier = Copier(op, root)
            copier.copy(source, select(source, wanted(op, sources)), keep=owners)
            copier.finish()
        return seen(target)


PAIRS = {
    "a name like the head of a source": (
        ({"a": {}, "file.txt": "x"}, ("a", "file.txt")),
        ({"a": {"[0file.txt]": "x"}}, ("a",)),
    ),
    "a name like the head of a source that is a directory": (
        ({"a": {"z": {}}, "b": {"c": "x"}}, ("a", "b")),
        ({"a": {"z": {}, "[1]": {"c": "x"}}}, ("a",)),
    ),
    "a name like a part of it": (
        ({"a": {}, "b": "x"}, ("a", "b")),
        ({"a": {'["source",false,"b",false]': "x"}}, ("a",)),
    ),
    "two files and one file with several names": (
        ({"d": {"a": "x", "b": "x"}}, ("d",)),
        ({"d": {"a": "x", "b": ("hard", "a")}}, ("d",)),
    ),
    "which of three files are one": (
        ({"d": {"a": "x", "b": "x", "c": ("hard", "a")}}, ("d",)),
        ({"d": {"a": "x", "b": "x", "c": ("hard", "b")}}, ("d",)),
    ),
    "a file and a directory that holds it": (({"a": "x"}, ("a",)), ({"a": {"b": "x"}}, ("a",))),
    "an empty directory and none": (({"d": {"e": {}}}, ("d",)), ({"d": {}}, ("d",))),
    "a link and a file that holds its target": (
        ({"d": {"a": ("link", "x")}}, ("d",)),
        ({"d": {"a": "x"}}, ("d",)),
    ),
    "the order of sources that say the same name": (
        ({"x": {"n": "1"}, "y": {"n": "2"}}, ("x", "y")),
        ({"x": {"n": "1"}, "y": {"n": "2"}}, ("y", "x")),
    ),
    "a program for everybody and one with the set-user-ID bit": (
        ({"d": {"a": ("x", 0o755)}}, ("d",)),
        ({"d": {"a": ("x", 0o4755)}}, ("d",)),
    ),
    "names that are no text": (({"d": {"\udcfe": "x"}}, ("d",)), ({"d": {"\udcff": "x"}}, ("d",))),
    "a name that is no text and one that says so": (
        ({"d": {"\udcff": "x"}}, ("d",)),
        ({"d": {"\\udcff": "x"}}, ("d",)),
    ),
    "border between name and mode": (
        ({"d": {"a": "", "100644": ""}}, ("d",)),
        ({"d": {"a\n100644": ""}}, ("d",)),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_copied_otherwise_has_another_digest(tmp_path, name):
    (one, first), (other, second) = PAIRS[name]
    make(tmp_path / "one", one)
    make(tmp_path / "other", other)
    assert copied(tmp_path / "one", first) != copied(tmp_path / "other", second)
    for owners in (False, True):
        assert value(tmp_path / "one", first, owners=owners) != value(
            tmp_path / "other", second, owners=owners
        )


@pytest.mark.parametrize("kind", ["fifo", "device", "other device"])
def test_special_files_count(tmp_path, kind):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("")
    before = value(tmp_path, ("d",))
    (tmp_path / "d/a").unlink()
    if kind == "fifo":
        os.mkfifo(tmp_path / "d/a", 0o644)
    else:
        os.mknod(tmp_path / "d/a", stat.S_IFCHR | 0o644, os.makedev(1, 3))
    found = value(tmp_path, ("d",))
    assert found != before
    if kind == "other device":
        (tmp_path / "d/a").unlink()
        os.mknod(tmp_path / "d/a", stat.S_IFCHR | 0o644, os.makedev(1, 5))
        assert value(tmp_path, ("d",)) != found


def test_attributes_count_where_they_are_copied(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("x")
    plain, owned = value(tmp_path, ("d",)), value(tmp_path, ("d",), owners=True)
    files = copied(tmp_path, ("d",))
    os.setxattr(tmp_path / "d/a", "user.note", b"1")
    assert value(tmp_path, ("d",)) == plain and copied(tmp_path, ("d",)) == files
    assert value(tmp_path, ("d",), owners=True) != owned
    assert copied(tmp_path, ("d",), owners=True) != files


def test_attributes_of_what_a_link_leads_to_are_copied_and_count(tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "to-a").symlink_to("a")
    before = value(tmp_path, ("to-a",), owners=True)
    os.setxattr(tmp_path / "a", "user.note", b"1")
    assert value(tmp_path, ("to-a",), owners=True) != before
    assert "user.note" in repr(copied(tmp_path, ("to-a",), owners=True))


def test_the_top_of_a_context_is_mounted_as_another_directory_than_one_in_it(tmp_path):
    for name in ("one", "other"):
        make(tmp_path / name, {"d": {"a": "x"}})
        (tmp_path / name / "d").chmod(0o700)
    top = tmp_path / "one" / "d"
    files = copied(top, (".",), for_mount=True), copied(tmp_path / "other", ("d",), for_mount=True)
    assert files[0] != files[1]
    assert value(top, (".",)) != value(tmp_path / "other", ("d",))


def test_a_file_that_two_sources_lead_to_is_no_hard_link(tmp_path):
    """Not even where it has several names: as with BuildKit, links are kept within one source."""
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").symlink_to("a")
    before, files = value(tmp_path, ("a", "b")), copied(tmp_path, ("a", "b"))
    os.link(tmp_path / "a", tmp_path / "elsewhere")
    assert value(tmp_path, ("a", "b")) == before and copied(tmp_path, ("a", "b")) == files


def test_attributes_of_directories_count_where_they_are_copied(tmp_path):
    (tmp_path / "d/e").mkdir(parents=True)
    plain, owned = value(tmp_path, ("d",)), value(tmp_path, ("d",), owners=True)
    os.setxattr(tmp_path / "d/e", "user.note", b"1")
    assert value(tmp_path, ("d",)) == plain and value(tmp_path, ("d",), owners=True) != owned
    assert "user.note" in repr(copied(tmp_path, ("d",), owners=True))


# the search

files = st.one_of(
    st.sampled_from(CONTENTS),
    st.tuples(st.just("link"), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(CONTENTS), st.sampled_from((0o644, 0o600, 0o755, 0o4755))),
)
names = st.sampled_from(NAMES)
inner = st.dictionaries(names, files, max_size=3)
trees = st.dictionaries(names, st.one_of(files, inner), min_size=1, max_size=3)


@st.composite
def contexts(draw):
    """A tree, some names of it twice, and sources that are there."""
    tree = draw(trees)
    plain = [name for name, item in tree.items() if not isinstance(item, dict) and item[:1] != ("link",)]
    if plain and draw(st.booleans()):
        new = draw(names)
        if new not in tree:
            tree[new] = ("hard", draw(st.sampled_from(plain)))
    usable = [name for name, item in tree.items() if not (isinstance(item, tuple) and item[0] == "link")]
    chosen = draw(st.lists(st.sampled_from(usable or ["."]), min_size=1, max_size=3))
    return tree, tuple(map(literal, chosen))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(contexts(), min_size=2, max_size=6), st.booleans())
def test_equal_digests_give_equal_copies(found, owners):
    """Of any two contexts, and of any two ways to name sources in one."""
    with tempfile.TemporaryDirectory() as place:
        results = []
        for number, (tree, sources) in enumerate(found):
            top = Path(place, str(number))
            make(top, tree)
            for wanted in (sources, (".",), sources[::-1]):
                try:
                    files = copied(top, wanted, owners=owners)
                except Exception as error:  # noqa: BLE001 - a file in the way of a directory: no result, but one
                    files = str(type(error))
                results.append((value(top, wanted, owners=owners), repr(files)))
        for one, other in itertools.combinations(results, 2):
            assert one[0] != other[0] or one[1] == other[1]


def status(mode: int, number: int, links: int) -> os.stat_result:
    return os.stat_result((mode, number, 1, links, 5, 6, 0, 0, 0, 0))


text = st.text(st.characters(codec=None), max_size=8)
modes = st.sampled_from(
    (stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFSOCK | 0o600)
)
items = st.builds(lambda name, mode, target: Item(name, name, status(mode, 1, 1), target), text, modes, text)
selections = st.lists(
    st.builds(
        lambda path, directory, items: Selection(path, directory, tuple(items)),
        text,
        st.booleans(),
        st.lists(items),
    ),
    max_size=3,
)


@settings(deadline=None)
@given(selections)
def test_a_selection_can_be_read_back_from_what_is_hashed(given_):
    """So no two have one encoding. Surrogates in names too, in pairs as well."""
    with Root("/") as root:
        parts = list(describe(root, given_, hash_fd, owners=False))
    assert decode(encode(parts)) == parts


def decode(data: bytes) -> object:
    return json.loads(data.decode("utf-8", "surrogatepass"))


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=6,
)


@settings(deadline=None)
@given(values, values)
def test_keys_of_different_parts_differ(one, other):
    same = repr(one) == repr(other) or json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert same or cache_key.digest(one) != cache_key.digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\U0001f480", "\ud83d\udc80"),
        ("\udcff", "\\udcff"),
        (["a", "b"], ["a,b"]),
        (["a b"], ["a", "b"]),
        (1, "1"),
        (1, True),
        (None, ""),
        ({"a": 1}, [["a", 1]]),
    ],
)
def test_keys_of_parts_that_look_alike(one, other):
    assert cache_key.digest(one) != cache_key.digest(other)
    assert cache_key.key_of({"x": one}) != cache_key.key_of({"x": other})
