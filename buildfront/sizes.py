"""Sizes of images and data for people."""

from __future__ import annotations

from run_step import size_text


def decimal_size(size: float) -> str:
    """Return a size in kB, MB and so on, as docker prints images: ``12.4MB``."""
    return size_text(size, decimal=True)
