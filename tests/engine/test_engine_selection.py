"""Which files a COPY reads, and the digest over them."""

import os

import pytest

from buildfront.dockerfile import ignore
from buildfront.engine.selection import Wanted, is_pattern, select
from buildfront.engine.selection_digest import digest, hash_fd
from buildfront.errors import BuildError
from run_step import Root


@pytest.fixture
def top(tmp_path):
    place = tmp_path / "context"
    for name in ("dir/sub", "other", "empty"):
        (place / name).mkdir(parents=True)
    for name in ("a.txt", "b.txt", ".hidden", "dir/one", "dir/sub/two.txt", "other/x.txt", "lock[0]"):
        (place / name).write_text(name)
    (place / "to-dir").symlink_to("dir")
    (place / "to-file").symlink_to("/a.txt")
    (place / "out").symlink_to("../../../../../../etc/passwd")
    (place / "host").symlink_to("/etc")
    (place / "dangling").symlink_to("nowhere")
    return place


def find(top, *sources, rules="", prune=None, what="build context", **more):
    patterns = ignore.parse(rules)
    prune = not patterns.has_exceptions if prune is None else prune
    with Root(str(top)) as root:
        return select(root, Wanted(sources, **more), excludes=patterns.excludes, prune=prune, what=what)


def paths(selections):
    return [(item.path, [inner.name for inner in item.items]) for item in selections]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.txt", [("a.txt", [""])]),
        ("/a.txt", [("a.txt", [""])]),
        ("./dir/../a.txt", [("a.txt", [""])]),
        ("dir", [("dir", ["", "one", "sub", "sub/two.txt"])]),
        ("dir/", [("dir", ["", "one", "sub", "sub/two.txt"])]),
        ("empty", [("empty", [""])]),
        ("*.txt", [("a.txt", [""]), ("b.txt", [""])]),
        ("?.txt", [("a.txt", [""]), ("b.txt", [""])]),
        ("[b-z].txt", [("b.txt", [""])]),
        ("*/*.txt", [("other/x.txt", [""])]),
        ("d*/s*", [("dir/sub", ["", "two.txt"])]),
        (".h*", [(".hidden", [""])]),
        ("lock[[]0]", [("lock[0]", [""])]),
        ("to-dir", [("to-dir", ["", "one", "sub", "sub/two.txt"])]),
        ("to-file", [("to-file", [""])]),
        ("to-dir/one", [("to-dir/one", [""])]),
    ],
)
def test_sources(top, source, expected):
    assert paths(find(top, source)) == expected


def test_the_whole_context(top):
    for source in (".", "/", "./"):
        (found,) = find(top, source)
        assert found.directory and found.path == ""
        assert {"a.txt", "dir/sub/two.txt", "out", "host", ".hidden"} <= {item.name for item in found.items}


def test_a_path_that_is_meant_to_the_letter_is_told_as_it_was_written(top):
    with pytest.raises(BuildError, match=r"'a\*\?\[b\]' is not in the build context"):
        find(top, ignore.literal("a*?[b]"))


def test_several_sources_in_their_order(top):
    assert [item.path for item in find(top, "b.txt", "a.txt", "b.txt")] == ["b.txt", "a.txt", "b.txt"]


@pytest.mark.parametrize(
    "source", ["none", "dir/nothing", "a.txt/x", "*.none", "dangling", "none/*", "out", "host/passwd"]
)
def test_missing(top, source):
    with pytest.raises(BuildError, match="is not in the build context") as caught:
        find(top, source)
    told = caught.value.hint
    assert repr(source) in str(caught.value) and ("count from the root" in told or "did you mean" in told)


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("A.TXT", "a.txt"),
        ("b.tx", "b.txt"),
        ("dirr/one", "dir/one"),
        ("DIR/sub", "dir/sub"),
        ("dir/On", "dir/one"),
    ],
)
def test_a_name_that_is_written_almost_so_is_proposed(tmp_path, source, meant):
    (tmp_path / "dir/sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "dir/one"):
        (tmp_path / name).touch()
    with pytest.raises(BuildError) as caught:
        find(tmp_path, source)
    assert caught.value.hint == f"did you mean {meant}?"


def test_a_name_that_is_left_out_is_not_proposed(tmp_path):
    (tmp_path / "secret.txt").touch()
    with pytest.raises(BuildError) as caught:
        find(tmp_path, "secrets.txt", rules="secret.txt")
    assert "did you mean" not in caught.value.hint


def test_a_pattern_without_a_match_selects_nothing(top):
    for sources in (("*.none",), ("*.none", "none?"), ("dir/*.none",), ("a.txt/*",), ("*/none",)):
        assert find(top, *sources, required=False) == []
    assert [item.path for item in find(top, "a.txt", "lock.json*", required=False)] == ["a.txt"]
    for source in ("none", "none/*", "a\\*"):
        with pytest.raises(BuildError, match="is not in the build context"):
            find(top, "a.txt", source, required=False)


@pytest.mark.parametrize("source", ["../a.txt", "dir/../../a.txt", "/../a.txt", "../../dir/../a.txt"])
def test_a_path_that_leads_above_the_top_begins_at_the_top(top, source):
    assert paths(find(top, source)) == [("a.txt", [""])]
    assert find(top, "..")[0].path == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", False),
        ("a*", True),
        ("?", True),
        ("[a]", True),
        ("a]", False),
        ("a\\*b", False),
        ("a\\\\*", True),
        ("\\", False),
    ],
)
def test_a_wildcard_after_a_backslash_is_none(text, expected):
    assert is_pattern(text) is expected


def test_an_escaped_character_below_a_wildcard_stands_for_itself(top):
    (top / "other/x*").write_text("")
    assert paths(find(top, "o*/x\\*")) == [("other/x*", [""])]


def test_links_out_of_the_context_end_inside(top):
    (top / "etc").mkdir()
    (top / "etc/passwd").write_text("inside")
    with Root(str(top)) as root:
        (found,) = select(root, Wanted(("out",)))
        fd = root.open(found.path)
        assert os.read(fd, 100) == b"inside"
        os.close(fd)
        assert paths(select(root, Wanted(("host",)))) == [("host", ["", "passwd"])]


def test_links_inside_a_directory_are_taken_as_links(top):
    (top / "dir/out").symlink_to("/etc/passwd")
    (found,) = find(top, "dir")
    assert [oct(item.status.st_mode >> 12) for item in found.items if item.name == "out"] == ["0o12"]


def test_ignored(top):
    with pytest.raises(BuildError, match=r"is not in the build context: \.dockerignore leaves it out"):
        find(top, "a.txt", rules="*.txt")
    with pytest.raises(BuildError, match="dockerignore leaves it out"):
        find(top, "dir/one", rules="dir")
    with pytest.raises(BuildError) as caught:
        find(top, "c.txt", rules="*.txt")
    assert "dockerignore" not in str(caught.value)


def test_ignored_inside_a_directory(top):
    assert paths(find(top, "dir", rules="**/*.txt")) == [("dir", ["", "one", "sub"])]
    assert paths(find(top, "dir", rules="dir/sub")) == [("dir", ["", "one"])]
    assert paths(find(top, "*.txt", rules="a.*")) == [("b.txt", [""])]


def test_exceptions_inside_an_ignored_directory(top):
    rules = "dir\n!dir/sub/two.txt"
    assert paths(find(top, "dir", rules=rules)) == [("dir", ["", "sub", "sub/two.txt"])]
    assert paths(find(top, "dir/sub/two.txt", rules=rules)) == [("dir/sub/two.txt", [""])]
    with pytest.raises(BuildError, match="leaves it out"):
        find(top, "dir/one", rules=rules)


# --exclude and --parents


def names(selections):
    return [[item.name + "+" * item.passage for item in found.items] for found in selections]


@pytest.mark.parametrize(
    ("source", "left_out", "expected"),
    [
        ("dir", ("one",), [["", "sub", "sub/two.txt"]]),
        ("dir", ("sub",), [["", "one"]]),
        ("dir", ("**/*.txt",), [["", "one", "sub"]]),
        ("dir", ("sub", "!sub/two.txt"), [["", "one", "sub+", "sub/two.txt"]]),
        ("dir", ("sub", "!sub"), [["", "one", "sub", "sub/two.txt"]]),
        ("dir", ("sub", "!other"), [["", "one"]]),
        ("dir", ("dir", "/one"), [["", "one", "sub", "sub/two.txt"]]),
        ("dir", ("**",), [[""]]),
        ("d*", ("one",), [["", "sub", "sub/two.txt"]]),
        ("a.txt", ("a.txt",), [[""]]),
        ("*.txt", ("a.txt", "b.txt"), [[""], [""]]),
    ],
)
def test_files_that_are_left_out(top, source, left_out, expected):
    assert names(find(top, source, left_out=left_out, required=False))[: len(expected)] == expected


@pytest.mark.parametrize(
    ("source", "path", "expected"),
    [
        ("dir/one", "", ["", "dir+", "dir/one"]),
        ("/dir/sub/", "", ["", "dir+", "dir/sub", "dir/sub/two.txt"]),
        ("./dir/../dir/one", "", ["", "dir+", "dir/one"]),
        ("dir/./sub/two.txt", "dir", ["", "sub+", "sub/two.txt"]),
        ("./dir/./one", "dir", ["", "one"]),
        ("dir/./*", "dir", ["", "one", "sub", "sub/two.txt"]),
        ("*/one", "", ["", "dir+", "dir/one"]),
        (
            "**/*.txt",
            "",
            ["", "a.txt", "b.txt", "dir+", "dir/sub+", "dir/sub/two.txt", "other+", "other/x.txt"],
        ),
        ("none*", "", [""]),
        ("d*/./one", "dir", ["", "one"]),
        ("to-file", "", ["", "to-file"]),
        ("to-dir/./one", "to-dir", ["", "one"]),
    ],
)
def test_parents(top, source, path, expected):
    found = find(top, source, parents=True)
    assert (found[0].path, names(found)[0]) == (path, expected)


@pytest.mark.parametrize(
    "source", ["none", "dir/none", "to-dir/one", "dir/./none", "none/./one", "none/./*", "."]
)
def test_parents_of_what_is_missing(top, source):
    with pytest.raises(BuildError, match="is not in the build context"):
        find(top, source, parents=True)


def test_parents_with_files_that_are_left_out(top):
    assert names(find(top, "dir", parents=True, left_out=("**/one",))) == [
        ["", "dir", "dir/sub", "dir/sub/two.txt"]
    ]
    with pytest.raises(BuildError, match="is not in the build context"):
        find(top, "dir/one", parents=True, left_out=("dir/one",))


def test_patterns_that_are_malformed(top):
    for more in ({"left_out": ("[",)}, {"parents": True}):
        with pytest.raises(BuildError, match="bad pattern"):
            find(top, "d[", **more)


# the digest


def value(top, *sources, owners=False):
    with Root(str(top)) as root:
        return digest(root, select(root, Wanted(sources)), hash_fd, owners=owners)


def test_times_do_not_count(top):
    before = value(top, ".")
    os.utime(top / "a.txt", (1, 1))
    os.utime(top / "dir", (1, 1))
    assert value(top, ".") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda top: (top / "dir/one").write_text("other"),
        lambda top: (top / "dir/one").chmod(0o755),
        lambda top: (top / "dir/sub").chmod(0o700),
        lambda top: (top / "dir").chmod(0o700),
        lambda top: (top / "dir/one").rename(top / "dir/uno"),
        lambda top: (top / "dir/new").touch(),
        lambda top: (top / "dir/new").mkdir(),
        lambda top: (top / "dir/one").unlink(),
        lambda top: (top / "dir/link").symlink_to("one"),
    ],
)
def test_what_counts(top, change):
    before = value(top, "dir")
    change(top)
    assert value(top, "dir") != before


def test_a_links_target_counts(top):
    (top / "dir/link").symlink_to("one")
    before = value(top, "dir")
    (top / "dir/link").unlink()
    (top / "dir/link").symlink_to("two")
    assert value(top, "dir") != before


def test_names_of_what_is_copied(top):
    before = value(top, "dir")
    (top / "dir").rename(top / "rid")
    assert value(top, "rid") == before
    file = value(top, "a.txt")
    (top / "a.txt").rename(top / "c.txt")
    assert value(top, "c.txt") != file


def test_order_and_borders(top):
    assert value(top, "a.txt", "b.txt") != value(top, "b.txt", "a.txt")
    assert value(top, "dir", "empty") != value(top, "dir")


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_owners_count_when_asked(top):
    before, owned = value(top, "dir"), value(top, "dir", owners=True)
    os.chown(top / "dir/one", 5, 6)
    assert value(top, "dir") == before
    assert value(top, "dir", owners=True) != owned


def test_a_name_that_is_no_text(top):
    with open(os.fsencode(top / "dir") + b"/\xff", "wb"):
        pass
    assert value(top, "dir").startswith("sha256:")
