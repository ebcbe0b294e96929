"""Where the store is when nobody says. Hot path: imports os alone."""

from __future__ import annotations

import os


def default_root() -> str:
    """``BUILDFRONT_ROOT``, else /var/lib/buildfront as root, else the user's data directory."""
    asked = os.environ.get("BUILDFRONT_ROOT")
    if asked:
        return asked
    if os.geteuid() == 0:
        return "/var/lib/buildfront"
    return os.path.join(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "buildfront")
