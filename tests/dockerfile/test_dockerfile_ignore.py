""".dockerignore patterns, against the documented examples and a matcher written another way."""

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildfront.dockerfile import ignore
from buildfront.errors import BuildError


def excluded(text, path):
    return ignore.parse(text).excludes(path)


@pytest.mark.parametrize(
    ("text", "out", "kept"),
    [
        ("# comment\n*/temp*", ["a/temp", "a/temporary.txt", "a/temp/x"], ["temp", "a/b/temp"]),
        ("*/*/temp*", ["a/b/temporary.txt"], ["a/temp", "a/b/c/temp"]),
        ("temp?", ["tempa", "tempb", "tempa/x"], ["temp", "tempab", "a/tempa"]),
        ("**/*.go", ["x.go", "a/x.go", "a/b/x.go"], ["x.c", "x.go.c"]),
        ("*.md\n!README.md", ["a.md"], ["README.md", "a/b.md"]),
        ("*.md\n!README*.md\nREADME-secret.md", ["a.md", "README-secret.md"], ["README.md", "README-x.md"]),
        ("*.md\nREADME-secret.md\n!README*.md", ["a.md"], ["README.md", "README-secret.md"]),
        ("*\n!a", ["b", "b/c"], ["a", "a/b"]),
        ("/foo/bar", ["foo/bar", "foo/bar/x"], ["foo", "x/foo/bar"]),
        ("foo/bar", ["foo/bar"], ["x/foo/bar"]),
        ("foo/", ["foo", "foo/x"], ["x/foo"]),
        ("foo/**", ["foo/x", "foo/x/y"], ["foo", "foox"]),
        ("**", ["a", "a/b"], []),
        ("**/foo", ["foo", "a/foo", "a/b/foo/c"], ["afoo", "a/foob"]),
        ("**foo", ["foo", "afoo", "a/foo"], ["foob"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/xb", "b"]),
        ("a**b", ["ab", "ax/b"], ["axb"]),
        ("[a-c].x", ["a.x", "c.x"], ["d.x", "-.x"]),
        ("[^a].x", ["b.x"], ["a.x"]),
        (r"\*.x", ["*.x"], ["a.x"]),
        ("arr[[]0].txt", ["arr[0].txt"], ["arr0.txt"]),
        ("a.b", ["a.b"], ["axb"]),
        ("a/../b", ["b"], ["a"]),
        ("./a//b", ["a/b"], ["a"]),
        (".", [], ["a"]),
        ("  a  ", ["a"], []),
        ("! a\na", ["a"], []),
        ("a\n! a", [], ["a"]),
        ("dir\n!dir/keep", ["dir", "dir/x"], ["dir/keep", "dir/keep/y"]),
        ("\ufeffa\r\nb\r\n", ["a", "b"], ["c"]),
        ("a\x0cb", ["a\x0cb"], ["a", "b"]),
        ("", [], ["a"]),
        (" #a", ["#a"], []),
        ("$x+(y)", ["$x+(y)"], []),
    ],
)
def test_patterns(text, out, kept):
    assert [path for path in out if not excluded(text, path)] == []
    assert [path for path in kept if excluded(text, path)] == []


@pytest.mark.parametrize(
    ("text", "message"), [("a\n!\n", "line 2: a pattern is missing"), ("[a", "a closing ] is missing")]
)
def test_malformed(text, message):
    with pytest.raises(BuildError) as caught:
        ignore.parse(text)
    assert message in str(caught.value)


def test_exceptions_are_known():
    assert not ignore.parse("a").has_exceptions
    assert ignore.parse("a\n!b").has_exceptions


def test_a_class_with_a_bracket_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ignore.compile_pattern("a[[&&]b").fullmatch("a[b")


@pytest.mark.parametrize(("text", "wild"), [("a", False), ("a*", True), ("a?", True), ("[a]", True)])
def test_has_wildcard(text, wild):
    assert ignore.has_wildcard(text) is wild


def segments(pattern, path):
    """Whole-segment patterns, matched by recursion."""
    if not pattern:
        return not path
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        if not rest:
            return bool(path)
        return any(segments(rest, path[n:]) for n in range(len(path) + 1))
    return bool(path) and letters(head, path[0]) and segments(rest, path[1:])


def letters(pattern, name):
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(letters(pattern[1:], name[n:]) for n in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and letters(pattern[1:], name[1:])


names = st.text(alphabet="ab", min_size=1, max_size=3)
parts = st.one_of(
    st.text(alphabet="ab*?", min_size=1, max_size=3).filter(lambda text: "**" not in text), st.just("**")
)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.booleans(), st.lists(parts, min_size=1, max_size=3)), max_size=4),
    st.lists(names, min_size=1, max_size=4),
)
def test_like_the_reference_matcher(rules, path):
    wanted = False
    for keep, pattern in rules:
        if any(segments(pattern, path[: n + 1]) for n in range(len(path))):
            wanted = not keep
    text = "\n".join(("!" if keep else "") + "/".join(pattern) for keep, pattern in rules)
    assert excluded(text, "/".join(path)) is wanted
