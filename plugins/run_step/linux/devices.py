"""The device nodes that every step has (runtime-spec, config-linux.md, "Default Devices")."""

from __future__ import annotations

DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
"""Name below /dev, major and minor number (Linux, admin-guide/devices.txt). All are character devices."""
