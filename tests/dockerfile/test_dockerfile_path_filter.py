"""Patterns of --exclude and --parents, as moby/patternmatcher reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.dockerfile.ignore import compile_pattern
from buildfront.dockerfile.path_filter import PathFilter
from buildfront.errors import BuildError


def matches(patterns: list[str], path: str) -> bool:
    found = PathFilter(patterns)
    above, matched = found.top, False
    for name in path.split("/"):
        matched, above = found.match(above, name)
    return matched


@pytest.mark.parametrize(
    ("patterns", "path", "matched"),
    [
        (["a"], "a", True),
        (["a"], "a/b", True),
        (["a"], "b/a", False),
        (["a/"], "a", True),
        (["./a"], "a", True),
        (["/a"], "a", False),
        (["*"], "a/b", True),
        (["*.txt"], "a.txt", True),
        (["*.txt"], "d/a.txt", False),
        (["**/*.txt"], "d/e/a.txt", True),
        (["**/*.txt"], "a.txt", True),
        (["**"], "a/b", True),
        (["a/**"], "a", False),
        (["a/**"], "a/b/c", True),
        (["**/two"], "d/sub/two", True),
        (["**/two"], "d/twofold", False),
        (["a", "!a/b"], "a/b", False),
        (["a", "!a/b"], "a/c", True),
        (["a", "!a"], "a/b", False),
        (["!a", "a"], "a", True),
        (["!a"], "a", False),
        ([" a "], "a", True),
        (["", "  "], "a", False),
        (["."], "a", False),
        ([r"a\*"], "a*", True),
        ([r"a\*"], "ab", False),
        # An exception counts for a directory only where something before it matched there.
        (["*/x", "!a"], "a/x", True),
        (["*", "!a"], "a/x", False),
        (["a*", "!a", "*/x"], "a/x", True),
    ],
)
def test_what_is_matched(patterns: list[str], path: str, matched: bool) -> None:
    assert matches(patterns, path) is matched


@pytest.mark.parametrize("pattern", ["[", "a[b", "a\\", "!", "[b-a]"])
def test_a_malformed_pattern(pattern: str) -> None:
    with pytest.raises(BuildError, match=r"bad|missing"):
        PathFilter([pattern], "--exclude pattern")


def test_the_error_names_the_patterns() -> None:
    with pytest.raises(BuildError, match="--exclude pattern"):
        PathFilter(["a", "["], "--exclude pattern")


@pytest.mark.parametrize(
    ("pattern", "path", "may"),
    [
        ("a/b/c", "a", True),
        ("a/b/c", "a/b", True),
        ("a/b/c", "a/x", False),
        ("a/b/c", "a/b/c", True),
        ("a*/x", "a1", True),
        ("a*/x", "b", False),
        ("**/x", "b", True),
        ("ab", "a", False),
    ],
)
def test_what_may_match_below(pattern: str, path: str, may: bool) -> None:
    found = PathFilter([pattern])
    above = found.top
    for name in path.split("/"):
        above = found.match(above, name)[1]
    assert found.may_match_below(above) is may


def slow(patterns: list[str], path: str) -> bool:
    """Go from the top down, and try every pattern at every level."""
    parts = path.split("/")
    above = [False] * len(patterns)
    matched = False
    for count in range(1, len(parts) + 1):
        here, matched = [False] * len(patterns), False
        whole = "/".join(parts[:count])
        for at, pattern in enumerate(patterns):
            exception = pattern.startswith("!")
            if not above[at] and exception != matched:
                continue
            here[at] = above[at] or compile_pattern(pattern.removeprefix("!")).fullmatch(whole)
            if here[at]:
                matched = not exception
        above = here
    return matched


words = st.sampled_from(["a", "b", "ab", "*", "a*", "?", "**", "[ab]"])
some = st.lists(
    st.builds(
        lambda no, parts: no + "/".join(parts),
        st.sampled_from(["", "!"]),
        st.lists(words, min_size=1, max_size=3),
    ),
    max_size=5,
)


@given(some, st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map("/".join))
def test_it_agrees_with_a_slow_and_obvious_one(patterns: list[str], path: str) -> None:
    assert matches(patterns, path) is slow(patterns, path)
