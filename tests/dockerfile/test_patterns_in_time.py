"""Patterns that try to keep a build busy: the limits are generous, what they catch would take hours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from buildfront.dockerfile import ignore
from buildfront.dockerfile.pattern import LARGEST
from buildfront.engine.selection import Wanted, select
from buildfront.errors import BuildError
from run_step import Root

pytestmark = pytest.mark.no_cover


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.process_time()  # whatever else the machine does
    yield
    assert time.process_time() - began < seconds


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 1000 + "b", "a" * 10_000),
        ("*" * 1000 + "b", "a" * 10_000),
        ("**/*a" * 300 + "b", "a/" * 5000 + "a"),
        ("**/" * 1000 + "b", "a/" * 5000 + "a"),
        ("*?" * 1000 + "b", "a" * 10_000),
        ("*[a-z]" * 1000 + "b", "a" * 10_000),
        ("**a" * 1000 + "b", "a" * 10_000),
        ("a*" * 120 + "b", "a" * 120),
        ("*" + "a" * 5000 + "b", "a" * 10_000),
    ],
)
def test_stars_are_tried_once(pattern: str, path: str) -> None:
    with within(20):
        assert not ignore.compile_pattern(pattern).fullmatch(path)
        assert not ignore.parse(pattern).excludes(path)


@pytest.mark.parametrize(
    "line", ["**/a{n}*b*", "*{n}*", "**/{n}/*/x", "!**/[a-c]*{n}", "dir{n}/x", "a{n}?*[^x]*"]
)
def test_ten_thousand_patterns_for_ten_thousand_paths(line: str) -> None:
    with within(60):
        rules = ignore.parse("\n".join(line.replace("{n}", str(n)) for n in range(10_000)))
        found = [rules.excludes(f"dir{n // 100}/a{n}b") for n in range(10_000)]
    assert len(found) == 10_000


def test_a_deep_tree_costs_each_name_once() -> None:
    rules = ignore.parse("**/x*y\n**/*.tmp\n!keep")
    path = "a"
    with within(20):
        for _ in range(5000):
            path += "/b"
            assert not rules.excludes(path)


def test_more_patterns_than_can_be_held_are_refused() -> None:
    with pytest.raises(
        BuildError, match=r"\.dockerignore: the patterns with wildcards are too many or too long"
    ):
        ignore.parse("\n".join(f"*{n}*" for n in range(LARGEST // 4)))
    with pytest.raises(BuildError, match="too many or too long"):
        ignore.parse("\n".join(f"*[{chr(n)}-{chr(n + 9)}]" for n in range(500, 20_000)))
    with pytest.raises(BuildError, match="too many or too long"):
        ignore.compile_pattern("*a" * LARGEST)


def test_a_wildcard_of_copy_does_not_go_round_in_links(tmp_path) -> None:
    """Each link would double the names of the level below."""
    for name in ("a", "b", "c"):
        (tmp_path / name).symlink_to(".")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/file").write_text("x")
    with Root(str(tmp_path)) as root, within(20):
        with pytest.raises(BuildError, match="is not in the context"):
            select(root, Wanted(("*/" * 40 + "file",)))
        assert [found.path for found in select(root, Wanted(("*/file",)))] == ["dir/file"]
        assert [found.path for found in select(root, Wanted(("a/*/file",)))] == ["a/dir/file"]
