"""Files of an OCI bundle: its configuration, and the note about its runtime."""

from __future__ import annotations

import json
import os
from typing import Any

RUNTIME_NOTE = "runtime.path"
"""The file of a bundle with the path of the runtime that made its container."""


def write_config(bundle: str, spec: dict[str, Any]) -> None:
    """Write config.json with mode 0600, atomically (row S70)."""
    temporary = os.path.join(bundle, "config.json.new")
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as stream:
        json.dump(spec, stream)
    os.rename(temporary, os.path.join(bundle, "config.json"))
