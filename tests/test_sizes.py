"""Sizes as docker prints them: binary units for memory, decimal ones for images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.sizes import decimal_size
from run_step import size_text


@pytest.mark.parametrize(
    ("size", "binary", "decimal"),
    [
        (0, "0B", "0B"),
        (999, "999B", "999B"),
        (1000, "1000B", "1kB"),
        (1024, "1KiB", "1.02kB"),
        (999_999, "976.6KiB", "1MB"),
        (13_034_000, "12.43MiB", "13MB"),
        (142_100_000, "135.5MiB", "142MB"),
        (1 << 30, "1GiB", "1.07GB"),
        ((1 << 30) - 1, "1GiB", "1.07GB"),
        (5 * 10**15, "4547TiB", "5000TB"),
    ],
)
def test_sizes(size: int, binary: str, decimal: str) -> None:
    assert (size_text(size), decimal_size(size)) == (binary, decimal)


@given(st.integers(0, 1 << 62))
def test_a_size_is_short_and_has_no_exponent(size: int) -> None:
    for text in (size_text(size), decimal_size(size)):
        assert len(text) < 14 and text.rstrip("kKMGTiB").replace(".", "").isdecimal()
