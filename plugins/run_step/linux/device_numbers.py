"""The device nodes that every step has (runtime-spec, config-linux.md, "Default Devices"), and the rule for others."""

from __future__ import annotations

from typing import Any

DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
"""Name below /dev, major and minor number (Linux, admin-guide/devices.txt). All are character devices."""

DENY_ALL: dict[str, Any] = {"allow": False, "access": "rwm"}
"""The first rule of a device cgroup (runtime-spec, config-linux.md, "Allowed Device list"). Runtimes allow
the devices above themselves, but some, such as crun, forbid no others unless the rules do.
"""
