"""Text of strangers, made fit for a terminal, a log and an error message."""

from __future__ import annotations

import re

# Controls (C0, DEL, C1), line and paragraph separators, what turns the direction of writing, lone surrogates, and the
# byte order mark: what moves the cursor, breaks a line, or shows another order than the one that is there.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def visible(text: str, limit: int = 2000) -> str:
    r"""Return ``text`` on one line, what can't be seen as ``\xNN`` or ``\uNNNN``, and no longer than ``limit``."""
    out = _UNSEEN.sub(_escape, text[: limit + 1])
    return out if len(out) <= limit else out[: limit - 1] + "…"
