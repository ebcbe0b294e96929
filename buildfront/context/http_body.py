"""The body of an answer, written to a file while it is hashed. A broken connection is resumed where the server can."""

from __future__ import annotations

import hashlib
import re
import time
import zlib
from collections.abc import Callable
from typing import IO

from ..errors import BuildError
from ..sizes import decimal_size
from ..web.http import Broken, Response
from .downloaded import Report
from .fetch_limits import FetchLimits

_TRIES = 5
"""How often a body that breaks off is begun or resumed without getting further."""
_MOST_TRIES = 100
"""How often it is begun or resumed at all: a server could send a byte each time."""
_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]+/(?:[0-9]+|\*)")

Ask = Callable[[dict[str, str]], Response]
"""Sends the request with more headers, and returns the answer."""


class Body:
    """Receives the body of a file into ``out``, and hashes it with SHA-256 and ``algorithm``."""

    def __init__(
        self, shown: str, out: IO[bytes], algorithm: str, limits: FetchLimits, report: Report, ask: Ask
    ) -> None:
        self._shown = shown
        self._out = out
        self._algorithm = algorithm
        self._limits = limits
        self._report = report
        self._ask = ask
        self._deadline = time.monotonic() + limits.seconds
        self._start()

    @property
    def digests(self) -> dict[str, str]:
        """The digests in hexadecimal digits, by algorithm."""
        return {name: value.hexdigest() for name, value in self._hashes.items()}

    def receive(self, response: Response) -> Response:
        """Write the whole body. Return the answer that it began with, which is another one if the file has changed."""
        first, idle, tries, furthest = response, 0, 0, 0
        while True:
            try:
                self._copy(response)
                return first
            except Broken as error:
                tries += 1
                idle = 1 if self._got > furthest else idle + 1
                furthest = max(furthest, self._got)
                if idle >= _TRIES or tries >= _MOST_TRIES or not error.transient:
                    raise
            finally:
                response.close()
            response = self._again(first)
            if response.status != 206:
                first = response
                self._start()

    def _start(self) -> None:
        self._out.seek(0)
        self._out.truncate()
        self._hashes = {name: hashlib.new(name) for name in ("sha256", self._algorithm)}
        self._got = 0

    def _again(self, first: Response) -> Response:
        """Return the answer to the next attempt: the rest of the same file (206), or all of it."""
        validator = first.header("etag")
        if not validator or validator.startswith("W/"):
            validator = first.header("last-modified")
        if validator and self._got and first.header("accept-ranges").lower() != "none" and not _zipped(first):
            response = self._ask({"Range": f"bytes={self._got}-", "If-Range": validator})
            found = _RANGE.fullmatch(response.header("content-range"))
            if response.status == 206 and found and int(found[1]) == self._got:
                return response
            if response.status == 200:
                return response
            response.finish()
        response = self._ask({})
        if response.status != 200:
            response.close()
            raise BuildError(
                f"{self._shown} can't be fetched: the server answers {response.status} after a part of it"
            )
        return response

    def _copy(self, response: Response) -> None:
        length = response.header("content-length")
        unzip = zlib.decompressobj(47) if _zipped(response) else None
        total = int(length) + self._got if length.isdecimal() and len(length) < 19 and unzip is None else None
        if total is not None and total > self._limits.size:
            raise self._too_large()
        for chunk in response.chunks():
            while chunk:
                try:
                    data = chunk if unzip is None else unzip.decompress(chunk, 1 << 20)
                except zlib.error:
                    raise BuildError(
                        f"{self._shown} is damaged: it is not gzip, as its header says"
                    ) from None
                chunk = b"" if unzip is None else unzip.unconsumed_tail
                self._got += len(data)
                if self._got > self._limits.size:
                    raise self._too_large()
                self._out.write(data)
                for value in self._hashes.values():
                    value.update(data)
                self._report(self._got, total)
                if time.monotonic() > self._deadline:
                    raise BuildError(
                        f"{self._shown} takes longer than {self._limits.seconds:.0f} seconds",
                        hint="BUILDFRONT_FETCH_TIMEOUT allows more",
                    )
        if unzip is not None and not unzip.eof:
            raise BuildError(f"{self._shown} is damaged: its gzip data is cut off")

    def _too_large(self) -> BuildError:
        return BuildError(
            f"{self._shown} is larger than {decimal_size(self._limits.size)}",
            hint="BUILDFRONT_FETCH_LIMIT allows more",
        )


def _zipped(response: Response) -> bool:
    """Return whether the server compresses the file for the way, although it was asked not to."""
    return response.header("content-encoding").lower() == "gzip"
