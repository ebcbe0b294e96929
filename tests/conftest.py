"""What holds for the whole suite: options, and what it does not take over from whoever starts it."""

from __future__ import annotations

import signal

import pytest


def pytest_configure() -> None:
    # A shell without job control, a CI runner or a service manager may start the suite with interrupts ignored. A
    # process that is executed inherits that, and then the builders that tests interrupt would run to their end.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--row", action="append", default=[], metavar="NAME", help="run the tests of a row only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(config.getoption("--row"))
    if not wanted:
        return
    chosen = [item for item in items if any(wanted & set(mark.args) for mark in item.iter_markers("row"))]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
