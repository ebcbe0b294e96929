"""Remove, at the next start, what the steps of a killed builder have left on the machine.

The notes that it reads are data: their owner and what they name are checked before anything is done.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from . import notes
from .isolation.bundle_files import RUNTIME_NOTE
from .isolation.cgroup import remove_noted
from .isolation.runtimes import RUNTIMES
from .network import cni
from .network.model import STATE


def recover(
    work_dir: str, *, runtimes: Sequence[str] = (), cni_plugin_dirs: Sequence[str] = ()
) -> tuple[str, ...]:
    """Remove the leftovers of a killed builder's steps in ``work_dir``. Never raises.

    They are control groups, containers of OCI runtimes, and networks. Returns a warning for each that was
    left because its notes can't be trusted.

    The processes were killed when the builder ended; this is the second line of defence. Only the bundles
    that :func:`run_step.execute` made there are read, if they are ours and no other user may write them,
    because a runtime believes the state that it reads, hooks included. The only programs that are run are
    runtimes and CNI plugins that this machine knows, or that are in the directories ``cni_plugin_dirs`` or
    among the paths ``runtimes``, which come from the builder's own options. A group without our mark is not
    touched.
    """
    warnings: list[str] = []
    try:
        names = sorted(name for name in os.listdir(work_dir) if name.startswith("bundle-"))
    except (OSError, ValueError):
        names = []
    for name in names:
        bundle = os.path.join(work_dir, name)
        if not notes.is_own_directory(bundle):
            warnings.append(
                f"{bundle} is left as it is: others may write it, or it is not a directory of ours"
            )
            continue
        warnings += _delete_containers(bundle, runtimes)
        remove_noted(bundle)
        warnings += cni.recover(bundle, cni_plugin_dirs)
    if os.path.isdir(STATE):
        from .network import bridge  # it loads pyroute2

        bridge.recover()
    return tuple(warnings)


def _delete_containers(bundle: str, runtimes: Sequence[str]) -> list[str]:
    noted = notes.lines(bundle, RUNTIME_NOTE)
    state = os.path.join(bundle, "runtime")
    if not noted or not notes.is_own_directory(state):
        return []  # chroot isolation, or it was killed before it had a container
    containers = [name for name in os.listdir(state) if name.startswith("buildfront-")]
    containers = [name for name in containers if notes.is_own_directory(os.path.join(state, name))]
    if not containers:
        return []
    runtime = noted[0]
    if len(noted) > 1 or not (runtime in runtimes or notes.known_program(runtime, RUNTIMES)):
        return [
            f"a container in {state} is left as it is: its note names {runtime!r}, which is not an OCI runtime that "
            f"this machine knows by itself ({', '.join(RUNTIMES)} on PATH, root's, and not writable by others)"
        ]
    for name in containers:
        try:
            subprocess.run(
                [runtime, "--root", state, "delete", "--force", name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=30,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            pass  # the runtime has gone, or hangs; its processes and groups are removed without it
    return []
