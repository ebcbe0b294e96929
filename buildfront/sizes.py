"""Sizes for people, as docker prints them: memory in binary units, images and data in decimal ones."""

from __future__ import annotations


def binary_size(size: float) -> str:
    """Return a size in KiB, MiB and so on, for example ``12.43MiB``."""
    return _text(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB"), 4)


def decimal_size(size: float) -> str:
    """Return a size in kB, MB and so on, for example ``12.4MB``."""
    return _text(size, 1000, ("B", "kB", "MB", "GB", "TB"), 3)


def _text(size: float, step: int, units: tuple[str, ...], digits: int) -> str:
    value = float(size)
    unit = 0
    while unit < len(units) - 1 and float(f"{value:.{digits}g}") >= step:
        value /= step
        unit += 1
    number = f"{value:.{digits}g}"
    return f"{float(number):.0f}{units[unit]}" if "e" in number else f"{number}{units[unit]}"
