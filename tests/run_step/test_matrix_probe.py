"""A probe looks around in a step: what it sees is the same in every way to run one, but for what is listed here.

Besides the isolations of the matrix there is crun, in a mount namespace that has cgroup version 2 alone.
"""

import os
import pathlib
import re
import resource
import shutil
import tempfile
from contextlib import ExitStack

import as_user
import probe
import pytest
from busybox_root import make_rootfs, why_not_run
from crun_alone import crun, missing
from rows import row
from ways import EVERY, RemoteStep, isolations, prefix_of

from run_step import HostError, RunMount, RunRequest

pytestmark = [pytest.mark.root, pytest.mark.slow]

CRUN = ["oci of crun", "rootless of crun"]
TOOL = "#!/bin/sh\necho I ran\n"

CASES = {
    "default": {},
    "a user": {"user": "bob"},
    "a user by number": {"user": "1000:50"},
    "a directory that the user can't enter": {"user": "1000", "cwd": "/root"},
    "a directory that the user alone can enter": {"user": "1000", "cwd": "/home/bob"},
    "a directory that is not there": {"user": "1000", "cwd": "/srv/made/here"},
    "groups": {"user": "bob", "group_add": ("audio", "77")},
    "groups of root": {"group_add": ("staff", "1234")},
    "umask and score": {"umask": "0027", "oom_score_adj": 500},
    "a hostname": {"hostname": "box"},
    "no network": {"network": "none"},
    "limits": {"ulimits": ("nofile=100:200", "core=0", "nproc=4000")},
    "a default limit": {"default_ulimits": ("nofile=300:400",)},
    "capabilities": {"cap_add": ("NET_ADMIN", "SYS_PTRACE"), "cap_drop": ("CHOWN",)},
    "no capabilities": {"cap_drop": ("all",)},
    "no new privileges": {"no_new_privileges": True},
    "no new privileges, a user": {"no_new_privileges": True, "user": "bob"},
    "no filter": {"seccomp": "unconfined"},
    "environment": {
        "env": ("A=1", "B=", "HOSTNAME=mine"),
        "add_hosts": ("db:10.0.0.1",),
        "dns": ("192.0.2.1",),
    },
    "the image's files": {"no_hosts": True, "dns": ("none",), "no_hostname": True},
    "mounts": {"mounts": ("type=tmpfs,dst=/mnt/x,tmpfs-size=1048576,tmpfs-mode=1770",), "shm_size": "1m"},
    "masks": {"mask": ("/etc/group",), "unmask": ("/proc/keys",)},
    "secrets": {
        "run_mounts": (
            RunMount("secret", target="/run/tool", id=TOOL, mode=0o755),
            RunMount("secret", target="/run/text", id="text"),
        ),
        "line": "/run/tool; stat -c '%a %u %g' /run/tool /run/text; (: > /run/tool) 2>/dev/null || echo kept",
    },
    "a secret of one user": {
        "user": "1000",
        "run_mounts": (RunMount("secret", target="/run/tool", id=TOOL, mode=0o500, uid=1000, gid=1000),),
        "line": "/run/tool",
    },
    "/etc moved without a network": {
        "network": "none",
        "line": "mv /etc /etc2 && mv /etc2 /etc && grep -c localhost /etc/hosts",
    },
    "/etc/hostname written": {"line": "echo mine > /etc/hostname && cat /etc/hostname"},
}

BY_DESIGN = (
    # (ways, sections, lines, why)
    (
        r"rootless.*",
        "environment|names|files",
        r".*\b(box|[0-9a-f]{12}|vm)\b.*|HOSTNAME=.*|NAME",
        "S67: the host's UTS",
    ),
    (r"rootless.*", "mounts|files", r"/etc/hostname .*", "S67: the host's UTS has no name of the step's own"),
    (r".*", "devices", r"/dev/core .*", "runc before 1.2 does not make it"),
    (
        r"rootless.*|chroot as a user",
        "devices",
        r"/dev/\w+ character.*",
        "the host's own node: its root is not mapped",
    ),
    (
        "chroot in a container",
        "environment|files",
        r"HOSTNAME=.*|(127.0.0.1|::1) c{12}",
        "X81: the builder's name",
    ),
    (
        r".*crun.*",
        "devices",
        r"/dev/null .*",
        "crun gives its standard input, the step's own /dev/null, to the user",
    ),
    (
        r"rootless.*|chroot as a user",
        "kernel",
        r"/proc/keys .*",
        "who is root of the machine alone may write there",
    ),
    (r".*", "mounts", r"/etc/group .*", "runtimes hide a file behind a device node of another filesystem"),
    (
        r"oci-runc|oci.*|rootless.*",
        "calls",
        r"(listns|open_tree_attr) .*",
        "newer than the runtime's libseccomp",
    ),
)
"""Lines that are in neither of two that are compared, with the reason."""

ALONE = {"identity", "environment", "files"}
"""What of a step with chroot(2) alone can be compared: it has no /proc, no mounts, no filter."""

REFUSED = {"a hostname", "no network", "mounts", "masks", "secrets", "a secret of one user"}
REFUSED |= {"/etc moved without a network"}
"""What chroot(2) alone can't do, and says so."""


def kept(way, found):
    """The sections without what differs by design."""
    out = {}
    for name, lines in found.items():
        if way == "chroot in a container" and name not in ALONE:
            continue
        out[name] = [
            line
            for line in lines
            if not any(
                re.fullmatch(where, way) and re.fullmatch(sections, name) and re.fullmatch(pattern, line)
                for where, sections, pattern, _ in BY_DESIGN
            )
        ]
    return out


@pytest.fixture(scope="module")
def steps(module_host):
    """One process for each way, for all cases; and a directory that everybody can reach."""
    assert not why_not_run() and not missing()
    with ExitStack() as stack:
        # Apart, so that a runtime that raises its own soft limit, and hands it on, is seen.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        top = pathlib.Path(tempfile.mkdtemp(prefix="probe-"))
        stack.callback(shutil.rmtree, top)
        top.chmod(0o755)
        made = {}
        for number, way in enumerate([*EVERY, *CRUN]):
            path = top / f"way-{number}"
            work, nothing = path / "work", path / "nothing"
            for directory in (path, work, nothing):
                directory.mkdir()
            isolation, _, runtime = way.partition(" of ")
            if runtime:
                made[way] = stack.enter_context(crun(isolation, str(nothing), path, module_host))
                continue
            if "container" not in way and way not in isolations():
                as_user.give(str(work))
            prefix = [] if way in isolations() else prefix_of(way, str(path / "user"))
            made[way] = RemoteStep("/", way.split("-")[0].split()[0], str(work), module_host, prefix)
            stack.callback(made[way].close)
            if way.startswith("oci-"):
                made[way].runtime = way.partition("-")[2]
        yield top, made


def look(step, way, top, case):
    """What the probe finds, what the case's own line prints, the layer; or why it was refused."""
    path = tempfile.mkdtemp(dir=top)
    os.chmod(path, 0o755)
    for name in ("rootfs", "pristine"):
        rootfs = make_rootfs(f"{path}/{name}")
        probe.install(rootfs, str(top))
        os.chmod(f"{rootfs}/root", 0o700)
        os.chmod(f"{rootfs}/home/bob", 0o700)
    if "rootless" in way or "user" in way:
        as_user.give(path)
    fields = {"network": "host", "container_id": "c" * 64, **case}
    line = fields.pop("line", ":")
    request = RunRequest(
        ("/bin/sh", "-c", f"{probe.SCRIPT}\necho '== line'; {line}"),
        f"{path}/rootfs",
        isolation=step.isolation,
        runtime=step.runtime,
        **fields,
    )
    try:
        answer = step.ask(request, pristine=f"{path}/pristine")
    except HostError as error:
        return None, str(error)
    finally:
        shutil.rmtree(path)
    found = probe.sections(step.stdout.decode())
    found["status"] = [str(answer["result"]["status"])]
    found["layer"] = [answer["layer"]]
    return found, ""


@row("X83")
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_probe_sees_the_same(steps, name):
    top, made = steps
    first, *others = made
    wanted, why = look(made[first], first, top, CASES[name])
    assert wanted is not None, why
    assert wanted["status"] == ["0"], wanted
    told = {}
    for way in others:
        found, why = look(made[way], way, top, CASES[name])
        if found is None:
            assert way == "chroot in a container" and name in REFUSED, f"{way}: {why}"
            continue
        different = probe.differences(kept(way, wanted_for(way, wanted)), kept(way, found))
        if different:
            told[way] = different
    assert told == {}, f"these differ from {first}"


def wanted_for(way, wanted):
    """By design a line is left out of both: by the way that is compared."""
    return wanted if "container" not in way else {key: wanted[key] for key in ALONE}
