"""Work on several items at a time, which ends together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
_THREADS = 4


def each(items: Iterable[T], work: Callable[[T], None], abort: Callable[[], None]) -> None:
    """Call ``work`` for each item, four at a time.

    If one call fails, or the user interrupts, ``abort`` is called; it must make the other calls fail. When this
    function returns, or raises the first failure, no call is running any more.
    """
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait  # loads logging and more

    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            waiting = [pool.submit(work, item) for item in items]
            for future in wait(waiting, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:
            abort()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
