"""Every golden spec is given to the real runtime: it creates a container of each, with a command that does nothing.

The hosts of the golden cases are recorded ones. What this machine does not have of them is put in its place:
paths that a spec mounts, hooks that it calls, namespaces that it joins; labels of a security module that is not
here are left out, because every runtime refuses them then.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import tempfile
from dataclasses import replace

import golden_cases
import pytest
from busybox_root import make_rootfs, why_not_run

from run_step import write_bundle
from run_step.helper_programs import find_runtime
from run_step.host_probe import probe
from run_step.planning import ForwardAgent, MountPoint, PutSecret, SetSecret, TakeSource

CASES = [
    case
    for case in golden_cases.CASES
    if list(case.glob("expected/plan-*.json")) and case.name != "row-no-mounts"  # made for chroot(2) alone
]


HANDED = tuple(f"@bundle@/{name}/" for name in ("sources", "private", "agents"))
HELD = {f"CAP_{name}" for name in probe(runtimes=False).capabilities}


def made_here(path, directory, place):
    """The system's own path, or one that stands for the recorded host's: no test changes files of this machine."""
    if path.startswith(("@", "/proc", "/sys")) or (path.startswith("/dev") and os.path.exists(path)):
        return path
    stand_in = os.path.join(place, "host", path.lstrip("/"))
    os.makedirs(stand_in if directory else os.path.dirname(stand_in), exist_ok=True)
    if not directory:
        open(stand_in, "w").close()
    return stand_in


def fit_to_this_host(made, place):
    """The plan with stand-ins for what the recorded host had."""
    spec = made.spec
    files = {item.path for item in made.actions if type(item).__name__ == "MountPoint" and not item.directory}
    for item in spec["mounts"]:
        if item["type"] == "bind" and item["source"].startswith(HANDED):
            item["source"] = made_here(item["source"][1:], "sources" in item["source"], place)
        elif item["type"] == "bind":
            item["source"] = made_here(item["source"], item["destination"] not in files, place)
        item["options"] = [
            f"{key}={made_here(path, True, place)}" if key in ("lowerdir", "upperdir", "workdir") else option
            for option in item["options"]
            for key, _, path in [option.partition("=")]
        ]
    for hooks in spec.get("hooks", {}).values():
        for hook in hooks:
            hook["path"] = "/bin/true"
    kinds = {"network": "net", "mount": "mnt"}
    for item in spec["linux"]["namespaces"]:
        if "path" in item:
            item["path"] = f"/proc/self/ns/{kinds.get(item['type'], item['type'])}"
    spec["process"].pop("selinuxLabel", None)
    spec["linux"].pop("mountLabel", None)
    spec["process"].pop("apparmorProfile", None)
    for limit in spec["process"].get("rlimits", ()):
        if limit["type"] == "RLIMIT_NOFILE":  # the recorded builder's own, where nothing was asked for
            ours = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            limit |= {"soft": min(limit["soft"], ours), "hard": min(limit["hard"], ours)}
    spec["process"]["args"] = ["/bin/true"]
    for names in spec["process"]["capabilities"].values():
        names[:] = [name for name in names if name in HELD]
    if "cpus" in spec["linux"].get("resources", {}).get("cpu", {}):
        spec["linux"]["resources"]["cpu"]["cpus"] = "0"
    actions = [
        replace(item, source=made_here(item.source, True, place)) if hasattr(item, "source") else item
        for item in made.actions
    ]
    # What a frontend hands over for one run can't be in a bundle.
    actions = [MountPoint(item.path, True) if isinstance(item, TakeSource) else item for item in actions]
    actions = [item for item in actions if not isinstance(item, PutSecret | SetSecret | ForwardAgent)]
    actions = [item for item in actions if not isinstance(item, MountPoint) or item.path]
    return replace(made, spec=spec, actions=tuple(actions))


@pytest.fixture
def place():
    """Where a user namespace's root can look: pytest's own directories are closed to it."""
    directory = tempfile.mkdtemp(prefix="golden-")
    os.chmod(directory, 0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_runtime_takes_the_spec(place, case):
    runc = find_runtime("runc")
    reason = why_not_run() or ("runc is not installed" if not runc else "")
    if reason:
        pytest.skip(reason)
    for number, (name, made) in enumerate(golden_cases.plans(case).items()):
        bundle = os.path.join(place, f"bundle-{number}")
        make_rootfs(os.path.join(bundle, "rootfs"))
        write_bundle(fit_to_this_host(made, place), bundle)
        console = os.path.join(place, f"console-{number}")
        listener = socket.socket(socket.AF_UNIX)  # the runtime hands a terminal to whoever listens
        listener.bind(console)
        listener.listen()
        extra = ["--console-socket", console] if made.spec["process"]["terminal"] else []
        base = [runc, "--root", os.path.join(place, "state")]
        container = f"golden-{os.path.basename(place)}-{number}"
        try:
            done = subprocess.run(
                [*base, "create", "--bundle", bundle, *extra, container],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=open(os.path.join(place, "log"), "wb"),
                check=False,
                timeout=30,
            )
            words = open(os.path.join(place, "log")).read()
            assert done.returncode == 0, f"{name}: {words}"
        finally:
            subprocess.run([*base, "delete", "--force", container], capture_output=True, check=False)
            listener.close()
