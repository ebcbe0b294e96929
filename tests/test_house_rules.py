"""The rules of the house that import-linter does not know: names of modules, where imports stand, no circles.

The sources are read with ``ast``; nothing is imported.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).parent.parent
PACKAGES = {"buildfront": PROJECT, "run_step": PROJECT / "plugins"}

BORDER = {
    ("run_step.doctor", "run_step.network.bridge"): "the bridge loads pyroute2",
    ("run_step.network.connect", "run_step.network.bridge"): "the bridge loads pyroute2",
    ("run_step.recovery", "run_step.network.bridge"): "the bridge loads pyroute2",
    (
        "run_step.supervisor",
        "run_step.network.bridge",
    ): "the bridge loads pyroute2, from a directory handed over",
    (
        "buildfront.dockerfile.lint.linter",
        "buildfront.dockerfile.lint.own_rules",
    ): "rules that are off by default",
    ("buildfront.api.places", "buildfront.api.run_options"): "it loads the plans of the plugin",
    ("buildfront.image.compression", "buildfront.image.zstd_frames"): "it loads zstandard",
    ("buildfront.progress.display", "buildfront.progress.tty"): "it loads rich",
    ("buildfront.context.remote", "buildfront.context.git_trees"): "it loads subprocess",
    ("buildfront.context.remote", "buildfront.context.http_file"): "it loads httpcore",
    ("buildfront.registry.pull", "buildfront.registry.client"): "it loads httpcore",
    ("buildfront.registry.push", "buildfront.registry.client"): "it loads httpcore",
    ("buildfront.__main__", "buildfront.replay_cache"): "only a build may have an answer there",
    ("buildfront.__main__", "buildfront.cli"): "a cached build is answered without it",
    ("buildfront.store.location", "buildfront.errors"): "a cached build is answered without it",
}
"""Own imports that stand in a function, with the reason: a heavy third party, or the path of a cached build."""


class Import(NamedTuple):
    """An import of one of our own modules: whether it stands at the top of its module, and on which line."""

    target: str
    top: bool
    line: int


@cache
def modules(package: str) -> dict[str, Path]:
    """Return the files of a package by the names of their modules."""
    found = {}
    for path in sorted((PACKAGES[package] / package).rglob("*.py")):
        parts = path.relative_to(PACKAGES[package]).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def own_imports(name: str, path: Path) -> list[Import]:
    """Return the imports of modules of both packages in the module ``name``."""
    known = modules("buildfront") | modules("run_step")
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def walk(node: ast.AST, top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                base = package.split(".")[: len(package.split(".")) - child.level + 1] if child.level else []
                origin = ".".join([*base, *([child.module] if child.module else [])])
                found = [
                    f"{origin}.{alias.name}" if f"{origin}.{alias.name}" in known else origin
                    for alias in child.names
                ]
            else:
                inner = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, top and not inner)
                continue
            for target in found:
                if target.partition(".")[0] in PACKAGES:
                    yield Import(target, top, child.lineno)

    return list(walk(ast.parse(path.read_text(encoding="utf-8")), True))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_two_modules_of_a_package_have_one_name(package: str) -> None:
    files = (path for path in modules(package).values() if path.name != "__init__.py")
    names = Counter(path.stem for path in files)
    assert {name for name, count in names.items() if count > 1} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_own_imports_stand_at_the_top(package: str) -> None:
    wrong = [
        f"{path.relative_to(PROJECT)}:{found.line}: {found.target}"
        for name, path in modules(package).items()
        for found in own_imports(name, path)
        if not found.top and (name, found.target) not in BORDER
    ]
    assert wrong == []


def test_every_exception_is_needed() -> None:
    """An exception that is not used any more hides the next one."""
    used = {
        (name, found.target)
        for package in PACKAGES
        for name, path in modules(package).items()
        for found in own_imports(name, path)
        if not found.top
    }
    assert BORDER.keys() - used == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_no_import_circle(package: str) -> None:
    """Imports for type checking count as well; packages don't hide circles between their own modules."""
    graph = {
        name: {found.target for found in own_imports(name, path)} - {name}
        for name, path in modules(package).items()
        if name != package  # its public names, loaded when they are first used
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("a circle: " + " -> ".join(error.args[1]))
