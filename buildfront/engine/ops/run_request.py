"""The request of one RUN: the options that every RUN gets, and what the instruction asks for itself."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import replace

import run_step

from ...graph.document_files import PIPES
from ...graph.step_graph import RunOp
from ...options import EngineOptions

DEFAULTS = run_step.RunRequest(args=("",), rootfs="/", terminal="without", http_proxy=True)
"""The options that every RUN gets where the caller gives none."""

SCRIPT = "script"
"""The name that a plan has for the directory of a script."""

_INSECURE_DEVICES = ("kmsg", "cuse", "fuse", "kvm", "net/tun", "loop-control", "loop[0-9]*")
"""The devices that BuildKit gives to a RUN --security=insecure, of those that the machine has."""


def run_request(
    options: EngineOptions,
    op: RunOp,
    rootfs: str,
    identity: str,
    mounts: tuple[run_step.RunMount, ...],
    devices: tuple[str, ...] | None = None,
) -> run_step.RunRequest:
    """Return the request for one RUN in ``rootfs``, with the options that every RUN gets.

    ``devices`` are the CDI devices of the instruction that the step gets; None for all of them.
    """
    defaults = options.run_defaults or DEFAULTS
    if op.script is not None:
        mounts = (run_step.RunMount(kind="bind", target=PIPES, source=SCRIPT, read_only=True), *mounts)
    own = tuple(device.name for device in op.devices) if devices is None else devices
    request = replace(
        defaults,
        args=op.command,
        rootfs=rootfs,
        image=run_step.ImageDefaults(
            env=op.env,
            user=op.user,
            working_dir=op.cwd,
            volumes=op.volumes if options.compat_volumes else (),
        ),
        env=op.args + op.proxy,
        container_id=identity,
        network=op.network if op.network not in ("", "default") else defaults.network,
        run_mounts=mounts,
        devices=(*defaults.devices, *own),
    )
    return _insecure(request) if op.security == "insecure" else request


def _insecure(request: run_step.RunRequest) -> run_step.RunRequest:
    """Return the request with all that keeps a step from the machine taken away."""
    return replace(
        request,
        cap_add=("all",),
        cap_drop=(),
        no_new_privileges=False,
        seccomp="unconfined",
        apparmor="unconfined",
        labels=("disable",),
        mask=(),
        unmask=("ALL",),
        devices=(*request.devices, *_present(_INSECURE_DEVICES)),
    )


def _present(names: Iterable[str]) -> list[str]:
    """Return the paths of those devices that this machine has and that can be used."""
    import glob  # few steps need it

    found = []
    for path in (path for name in names for path in sorted(glob.glob(f"/dev/{name}"))):
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue
        if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and os.access(path, os.R_OK | os.W_OK):
            found.append(path)
    return found
