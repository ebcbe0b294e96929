"""Sizes and times that a RUN used, in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def usage_text(usage: Mapping[str, Any] | None) -> str:
    """Return what a RUN used, in a few words: ``cpu 0.12s, memory 3.4MB``; empty when nothing is known."""
    if not usage:
        return ""
    parts = [f"cpu {(usage['user_us'] + usage['system_us']) / 1e6:.2f}s"]
    parts.append(f"memory {size_text(usage.get('peak_memory') or usage['max_rss'])}")
    for key, word in (("read_bytes", "read"), ("write_bytes", "wrote")):
        if usage.get(key):
            parts.append(f"{word} {size_text(usage[key])}")
    return ", ".join(parts)


def size_text(size: float) -> str:
    """``3.4MB``: a size for a person, in units of a thousand."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:.3g}GB"
