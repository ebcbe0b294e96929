"""White space as BuildKit sees it: Unicode's at the ends of a text and between words, ASCII's after a keyword."""

from __future__ import annotations

import re

BLANKS = (
    "\t\n\v\f\r \x85\xa0\u1680"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's White_Space. Python's own ``str.strip`` also takes the four ASCII separators, which are none."""

BLANK_RUN = re.compile(f"[{BLANKS}]+")
"""White space between the words of ENV, LABEL and ARG, and in expanded text."""

ASCII_RUN = re.compile(r"[\t\v\f\r ]+")
"""White space after a keyword, and between the words of all other instructions: a no-break space is part of one."""
