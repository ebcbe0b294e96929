"""Several transfers at a time, which end together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
_THREADS = 4


def each(items: Iterable[T], work: Callable[[T], None], abort: Callable[[], None]) -> None:
    """Call ``work`` for each item, four at a time.

    When one fails, or we are interrupted, ``abort`` is called, which has to make the others fail; nothing runs any
    more when this returns or raises the first failure.
    """
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            waiting = [pool.submit(work, item) for item in items]
            for future in wait(waiting, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:
            abort()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
