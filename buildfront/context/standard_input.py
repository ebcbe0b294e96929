"""Standard input, where a Dockerfile or an archive may come from."""

from __future__ import annotations

import sys
from typing import BinaryIO

from ..errors import BuildError


def standard_input() -> BinaryIO:
    """Return standard input as a stream of bytes. Raises BuildError where it is closed."""
    if sys.stdin is None:
        raise BuildError("standard input is closed", hint="name a file")
    return sys.stdin.buffer
