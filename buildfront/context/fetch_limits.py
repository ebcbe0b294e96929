"""How long a download may take, and how large it may be: the environment's, or the defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from run_step import RequestError
from run_step.option_text import parse_size

from ..durations import parse_duration
from ..errors import BuildError


class FetchLimits(NamedTuple):
    """``seconds`` for one download or one command of git, and ``size`` in bytes of one downloaded file."""

    seconds: float = 3600.0
    size: int = 64 << 30


def fetch_limits(environ: Mapping[str, str] = os.environ) -> FetchLimits:
    """Return the limits of BUILDFRONT_FETCH_TIMEOUT and BUILDFRONT_FETCH_LIMIT. Raise BuildError for a wrong value."""
    seconds, size = FetchLimits()
    if text := environ.get("BUILDFRONT_FETCH_TIMEOUT"):
        try:
            seconds = parse_duration(text) / 1e9
        except BuildError as error:
            raise BuildError(f"BUILDFRONT_FETCH_TIMEOUT: {error.what}", hint=error.hint, status=2) from None
    if text := environ.get("BUILDFRONT_FETCH_LIMIT"):
        try:
            size = parse_size(text)
        except RequestError as error:
            raise BuildError(f"BUILDFRONT_FETCH_LIMIT: {error}", hint="for instance 20g", status=2) from None
    return FetchLimits(seconds, size)
