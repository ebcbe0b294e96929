""".dockerignore patterns, against the documented examples and a matcher written another way."""

import posixpath
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
    ("text", "message"),
    [
        ("a\n!\n", "line 2: a pattern is missing"),
        ("[a", "line 1: bad pattern '[a' (a closing ] is missing)"),
        ("# c\n\nb\n!x[a-", "line 4: bad pattern 'x[a-' (a closing ] is missing)"),
        ("[]", "a ] in [ ] stands for itself only after a \\"),
        ("[^]a]", "a ] in [ ] stands for itself"),
        ("[a-]", "a ] in [ ] stands for itself"),
        ("[-a]", "a - in [ ] stands for itself"),
        ("[b-a]", "the range b-a in [b-a] is upside down"),
        ("[\\]", "a closing ] is missing"),
        ("a\\", "escapes nothing"),
        ("**\\", "escapes nothing"),
    ],
)
def test_malformed(text, message):
    with pytest.raises(BuildError) as caught:
        ignore.parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("[!a]", "!a", "b"),  # Go knows ^ alone
        ("[^a]", "b!", "a"),
        (r"[\]a]", "]a", "\\"),
        (r"[\^a]", "^a", "b"),
        (r"[\\]", "\\", "a"),
        ("[a-ce]", "abce", "df"),
        ("[é-ü]", "éü", "ea"),
        ("[a^]", "a^", "b"),
        ("]", "]", "["),
        (r"\[", "[", "\\"),
    ],
)
def test_characters_in_brackets(pattern, matches, others):
    compiled = ignore.compile_pattern(pattern)
    assert [char for char in matches + others if compiled.fullmatch(char)] == list(matches)


def test_stars_of_a_name_do_not_count_as_directories():
    compiled = ignore.compile_pattern("a***b", directories=False)
    assert compiled.fullmatch("axb")
    assert not compiled.fullmatch("a/b")


def slow(pattern, text, directories):
    """Whether the pattern matches all of the text: everything is tried."""
    if directories and pattern.startswith("**") and not set("*?[/") & set(pattern[2:]):
        return text.endswith(pattern[2:])
    return slow_inner(pattern, text, directories)


def slow_inner(pattern, text, directories):
    if not pattern:
        return not text
    if directories and pattern.startswith("**"):
        rest = pattern[2:].removeprefix("/")
        if not rest:
            return True
        below = [text[n + 1 :] for n, char in enumerate(text) if char == "/"]
        return any(slow_inner(rest, part, directories) for part in [text, *below])
    if pattern[0] == "*":
        ends = range((text + "/").index("/") + 1)
        return any(slow_inner(pattern[1:], text[n:], directories) for n in ends)
    if pattern[0] == "[":
        end = pattern.index("]")
        negated = pattern[1] == "^"
        return bool(text) and (
            ((text[0] in pattern[1 + negated : end]) != negated)
            and slow_inner(pattern[end + 1 :], text[1:], directories)
        )
    here = bool(text) and (text[0] == pattern[0] or (pattern[0] == "?" and text[0] != "/"))
    return here and slow_inner(pattern[1:], text[1:], directories)


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


pieces = st.sampled_from(["a", "b", "/", "*", "**", "**/", "?", "[ab]", "[^a]", "[^/]", "[b/]"])
written = st.lists(pieces, min_size=1, max_size=6).map("".join)
texts = st.text(alphabet="ab/", max_size=7)


@settings(max_examples=1500)
@given(written, texts, st.booleans())
def test_like_trying_everything(pattern, text, directories):
    found = ignore.compile_pattern(pattern, directories=directories).fullmatch(text)
    assert found is slow(pattern, text, directories)


@settings(max_examples=500)
@given(st.lists(st.tuples(st.booleans(), written), max_size=5), st.lists(texts, min_size=1, max_size=5))
def test_many_patterns_and_paths_at_once_are_each_one_alone(rules, paths):
    """The automaton of all patterns, and what is remembered of the path before, change nothing."""
    whole = ignore.parse("\n".join(("!" if keep else "") + (text or "x") for keep, text in rules))

    def matches(at, path):
        text = whole.rules[at].text
        return slow(text, path, True) if ignore.has_wildcard(text) else text == path

    for path in paths:
        path = posixpath.normpath("/" + path).lstrip("/") or "a"
        assert whole.excludes(path) is excluded_slowly([rule.exclude for rule in whole.rules], matches, path)


def excluded_slowly(rules, matches, path):
    """Whether a path is left out, as moby/patternmatcher says: an exception needs something that it takes back."""
    parts = path.split("/")
    matched, above = False, [False] * len(rules)
    for end in range(1, len(parts) + 1):
        matched, here = False, [False] * len(rules)
        for at, exclude in enumerate(rules):
            if not above[at] and exclude == matched:
                continue
            if above[at] or matches(at, "/".join(parts[:end])):
                here[at], matched = True, exclude
        above = here
    return matched


def test_an_exception_counts_for_a_directory_only_where_something_before_it_matched():
    rules = ignore.parse("*/x\n!a")
    assert not rules.excludes("a") and rules.excludes("a/x") and rules.excludes("b/x")
    assert not ignore.parse("a\n*/x\n!a").excludes("a/x")


@given(st.text(alphabet="ab*?[]\\^-/", max_size=12))
def test_a_pattern_of_a_path_matches_it_alone(path):
    pattern = ignore.literal(path)
    assert ignore.as_written(pattern) == path
    if ignore.has_wildcard(path):
        compiled = ignore.compile_pattern(pattern, directories=False)
        assert compiled.fullmatch(path)
        assert not compiled.fullmatch(path + "a")
        assert not compiled.fullmatch(path.replace("*", "b") + "b")


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_ignore_file_is_read_or_refused(text, path):
    try:
        ignore.parse(text).excludes(path)
    except BuildError as error:
        assert error.what.startswith(".dockerignore")


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.booleans(), st.lists(parts, min_size=1, max_size=3)), max_size=4),
    st.lists(names, min_size=1, max_size=4),
)
def test_like_the_reference_matcher(rules, path):
    text = "\n".join(("!" if keep else "") + "/".join(pattern) for keep, pattern in rules)
    wanted = excluded_slowly(
        [not keep for keep, _ in rules],
        lambda at, prefix: segments(rules[at][1], prefix.split("/")),
        "/".join(path),
    )
    assert excluded(text, "/".join(path)) is wanted
