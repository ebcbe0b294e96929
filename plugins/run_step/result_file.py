"""The file that tells a caller in another language what became of a step: ``python -m run_step --result FILE``."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress

from .errors import RequestError


class ResultFile:
    """A file that is written once, and is there as a whole or not at all.

    A file of that name is removed first: where there is none afterwards, this process was killed before it could write.
    What is not a regular file (a pipe, ``/dev/fd/3``) is written to as it is. Raises RequestError for a path where
    nothing can be written, before anything is done.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._in_place = False
        try:
            there = os.stat(path)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            raise self._unwritable(error) from None
        else:
            if stat.S_ISDIR(there.st_mode):
                raise RequestError(f"the result can't be written to {path}: it is a directory")
            self._in_place = not stat.S_ISREG(there.st_mode)
        if self._in_place:
            return
        try:
            with suppress(FileNotFoundError):
                os.unlink(path)
            if not os.access(os.path.dirname(path) or ".", os.W_OK | os.X_OK):
                os.stat(os.path.dirname(path) or ".")
                raise PermissionError(0, "its directory can't be written to")
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: Exception) -> RequestError:
        why = (error.strerror if isinstance(error, OSError) else "") or str(error)
        return RequestError(f"the result can't be written to {self.path}: {why}")

    def write(self, value: Mapping[str, object]) -> None:
        """Write a JSON object. Raises OSError."""
        text = json.dumps(value) + "\n"
        if self._in_place:
            with open(self.path, "w", encoding="utf-8") as stream:
                stream.write(text)
            return
        new = f"{self.path}.{os.urandom(4).hex()}.new"
        try:
            with open(new, "x", encoding="utf-8") as stream:
                stream.write(text)
            os.rename(new, self.path)
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise
