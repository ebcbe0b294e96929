"""Text from others, made safe to print on a terminal."""

from __future__ import annotations

import re

LIMIT = 2000
SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, or (as Python reads files) a byte that is not UTF-8."""

_COLOUR = re.compile(r"(\x1b\[[0-9;:]{0,60}m)")


def visible(text: str, limit: int = LIMIT, *, keep: str = "") -> str:
    r"""Return ``text`` with everything that would control a terminal, or deceive the eye, as ``\xNN`` or ``\uNNNN``.

    Escaped are controls (ESC, CR and line breaks too), overrides of the direction, line separators, halves of
    surrogate pairs, and code points that Unicode has not assigned. Printable characters of all scripts stay, and those
    of ``keep``. A text of more than ``limit`` characters loses its middle: error messages quote at the beginning and
    end with the reason.
    """
    shown = _escape(text[:limit], keep)
    if len(text) <= limit and len(shown) <= limit:
        return shown
    left_out = f" …{len(text) - limit} characters… " if len(text) > limit else " … "
    end = limit // 4
    start = limit - end - len(left_out)
    if start < end or not end:
        return (shown[: max(limit - 1, 0)] + "…")[:limit]
    return shown[:start] + left_out + _escape(text[-end:], keep)[-end:]


def _escape(text: str, keep: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    number = ord(char)
    if char.isspace() and number >= 0xA0 and number not in (0x2028, 0x2029):
        return char  # a wide or a narrow blank is a blank
    if number in (0x200C, 0x200D):
        return char  # Persian and Indic scripts are written with them, and so are families of pictures
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"  # a byte that is not UTF-8
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )


def step_line(line: str, *, colours: bool = False) -> str:
    """Return a line that a step printed, made safe for a terminal.

    Of parts that would overwrite each other (CR) the last one is kept. Tabs stay, and colours where ``colours`` is
    true. Everything else that would control the terminal is escaped as in :func:`visible`.
    """
    line = line.rstrip("\r").rpartition("\r")[2]
    if line.replace("\t", "").isprintable():
        return line
    pieces = _COLOUR.split(line)
    out = [_escape(piece, "\t") for piece in pieces[::2]]
    if not colours or len(out) == 1:
        return "".join(out)
    return "".join(f"{text}{colour}" for text, colour in zip(out, [*pieces[1::2], "\x1b[0m"], strict=True))
