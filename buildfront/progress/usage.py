"""How much a RUN step used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from run_step import size_text

from ..sizes import decimal_size


def usage_text(usage: Mapping[str, Any] | None) -> str:
    """Return how much a RUN step used, as in ``cpu 0.12s, memory 3.4MiB``; empty when nothing is known."""
    if not usage:
        return ""
    parts = [f"cpu {(usage['user_us'] + usage['system_us']) / 1e6:.2f}s"]
    parts.append(f"memory {size_text(usage.get('peak_memory') or usage['max_rss'])}")
    for key, word in (("read_bytes", "read"), ("write_bytes", "wrote")):
        if usage.get(key):
            parts.append(f"{word} {decimal_size(usage[key])}")
    return ", ".join(parts)
