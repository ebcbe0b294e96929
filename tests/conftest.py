"""What holds for the whole suite: options, and what it does not take over from whoever starts it."""

from __future__ import annotations

import fnmatch
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FAST = """
    dockerfile/* graph/* engine/* export/* image/* progress/* steps/test_steps_select.py
    registry/test_registry_answers.py registry/test_registry_auth_files.py registry/test_registry_challenge.py
    registry/test_registry_credentials.py web/*
    context/test_http_names.py
    run_step/test_cdi.py run_step/test_defaults.py run_step/test_plan_*.py run_step/test_network_pools.py
    run_step/test_network_verdicts.py run_step/test_seccomp.py
    test_cli_values.py test_docs.py test_expressions.py test_golden.py test_house.py test_schemas.py
""".split()
"""The modules of ``pytest --fast``, which is `make test-fast`: texts, plans and documents. They need neither root nor
programs beside Python, but for tests that are marked so, or skip themselves. A test of more than a second is marked
``slow`` and left out."""


def pytest_configure() -> None:
    # A shell without job control, a CI runner or a service manager may start the suite with interrupts ignored. A
    # process that is executed inherits that, and then the builders that tests interrupt would run to their end.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run tests that measure time without a trace function: pytest-cov's own pause does not reach xdist's workers."""
    if item.get_closest_marker("no_cover") is None:
        return (yield)
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(trace)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--row", action="append", default=[], metavar="NAME", help="run the tests of a row only")
    parser.addoption(
        "--fast", action="store_true", help="run what needs no root and no programs, in a minute"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if config.getoption("--fast") and collection_path.name.startswith("test_"):
        name = collection_path.relative_to(Path(__file__).parent).as_posix()
        if not any(fnmatch.fnmatch(name, pattern) for pattern in FAST):
            return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(config.getoption("--row"))
    left_out = [
        item
        for item in items
        if (wanted and not any(wanted & set(mark.args) for mark in item.iter_markers("row")))
        or (config.getoption("--fast") and any(item.get_closest_marker(name) for name in ("slow", "root")))
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        left = {id(item) for item in left_out}
        items[:] = [item for item in items if id(item) not in left]
