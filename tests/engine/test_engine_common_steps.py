"""Steps that several stages have in common."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from buildfront.engine.cancellation import Cancellation, Cancelled
from buildfront.engine.common_steps import CommonSteps


def test_a_name_is_made_once_and_another_name_for_itself() -> None:
    common = CommonSteps(lambda: None)
    assert [common.once("a", lambda: 1), common.once("a", lambda: 2), common.once("b", lambda: 3)] == [
        1,
        1,
        3,
    ]


def _two(common: CommonSteps, fails: bool) -> tuple[Future[int], Future[int]]:
    """Return the calls of two threads of which the second comes while the first is busy."""
    begun, waited = threading.Event(), threading.Event()

    def first() -> int:
        begun.set()
        assert waited.wait(60)
        if fails:
            raise ValueError("the first fails")
        return 1

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(common.once, "a", first)
        assert begun.wait(60)
        two = pool.submit(common.once, "a", lambda: 2)
        with pytest.raises(TimeoutError):
            two.result(0.3)
        waited.set()
    return one, two


def test_a_caller_waits_for_the_one_that_is_busy() -> None:
    one, two = _two(CommonSteps(lambda: None), fails=False)
    assert (one.result(), two.result()) == (1, 1)


def test_a_caller_takes_over_when_the_other_fails() -> None:
    one, two = _two(CommonSteps(lambda: None), fails=True)
    with pytest.raises(ValueError, match="the first fails"):
        one.result()
    assert two.result() == 2


def test_a_caller_that_waits_ends_with_the_build() -> None:
    cancel = Cancellation()
    common = CommonSteps(cancel.check)
    begun, end = threading.Event(), threading.Event()

    def first() -> int:
        begun.set()
        assert end.wait(60)
        return 1

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(common.once, "a", first)
        assert begun.wait(60)
        two = pool.submit(common.once, "a", lambda: 2)
        cancel.stop()
        with pytest.raises(Cancelled):
            two.result(60)
        end.set()
        assert one.result() == 1
