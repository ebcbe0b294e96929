"""Row S34: the default profile forbids what Docker's forbids and allows what it allows, asked of the kernel."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from rows import row

from run_step import RequestError, plan
from run_step.pipeline.seccomp import parse, resolve
from run_step.pipeline.seccomp_profile import default_profile

PROBE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
/* name number args...: the errno that the call gives, 0 for success */
int main(int argc, char **argv) {
    long a[6] = {0};
    for (int i = 2; i < argc && i < 8; i++) a[i - 2] = strtol(argv[i], 0, 0);
    errno = 0;
    long r = syscall(atol(argv[1]), a[0], a[1], a[2], a[3], a[4], a[5]);
    printf("%d\n", r == -1 ? errno : 0);
    return 0;
}
"""
EPERM, ENOSYS, EINVAL, EFAULT, EBADF, ENOENT, ESRCH, EAFNOSUPPORT = 1, 38, 22, 14, 9, 2, 3, 97

# x86_64 numbers (asm/unistd_64.h). What comes back without a filter is never EPERM for these arguments and root.
FORBIDDEN = {
    "unshare(CLONE_NEWUTS)": (272, 0x04000000),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount2": (166, 0, 0),
    "setns": (308, -1, 0),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "ioperm": (173, 0, 0, 0),
    "init_module": (175, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "reboot": (169, 0, 0, 0),
    "swapon": (167, 0, 0),
    "settimeofday": (164, 0, 1),
    "open_by_handle_at": (304, -1, 0, 0),
    "userfaultfd": (323, -1),
    "io_uring_setup": (425, 0, 0),
    "keyctl": (250, 0, 0, 0),
    "add_key": (248, 0, 0, 0, 0, 0),
    "personality(ADDR_NO_RANDOMIZE)": (135, 0x0040000),
    "clone(CLONE_NEWUSER)": (56, 0x10000000, 0, 0, 0, 0),
    "socket(AF_VSOCK)": (41, 40, 1, 0),
    "fsopen": (430, 0, 0),
    "acct": (163, 0),
    "mbind": (237, 0, 0, 0, 0, 0, 0),
}
ALLOWED = {
    "getpid": ((39,), 0),
    "personality(query)": ((135, 0xFFFFFFFF), 0),
    "personality(PER_LINUX)": ((135, 0), 0),
    "chroot": ((161, 0), EFAULT),
    "ptrace": ((101, 16, 999999, 0, 0), ESRCH),
    "socket(AF_UNIX)": ((41, 1, 1, 0), 0),
    "socket(AF_NETLINK)": ((41, 16, 3, 0), 0),
    "openat2": ((437, -1, 0, 0, 0), EINVAL),
    "memfd_create": ((319, 0, 0), EFAULT),
    "name_to_handle_at": ((303, -1, 0, 0, 0, 0), EFAULT),
    "seccomp": ((317, 99, 0, 0), EINVAL),
    "statx": ((332, -1, 0, 0, 0, 0), EFAULT),
    "mknod": ((133, 0, 0, 0), EFAULT),
    "landlock_create_ruleset": ((444, 0, 0, 1), None),
    "clone3": ((435, 0, 0), ENOSYS),
}


@pytest.fixture
def probe(step, tmp_path):
    """The program, in the step's root filesystem."""
    assert shutil.which("cc"), "a C compiler is needed"
    source = tmp_path / "probe.c"
    source.write_text(PROBE)
    subprocess.run(["cc", "-static", "-o", f"{step.rootfs}/bin/probe", str(source)], check=True)
    return lambda call, **more: int(step.text("/bin/probe", *map(str, call), **more))


@row("S34")
def test_what_docker_forbids_is_forbidden(probe):
    assert {name: probe(call) for name, call in FORBIDDEN.items()} == dict.fromkeys(FORBIDDEN, EPERM)


@row("S34")
def test_what_docker_allows_works(probe):
    found = {name: probe(call) for name, (call, _) in ALLOWED.items()}
    assert {name: code for name, code in found.items() if ALLOWED[name][1] is not None} == {
        name: code for name, (_, code) in ALLOWED.items() if code is not None
    }
    assert EPERM not in found.values()


@row("S34")
def test_a_capability_brings_its_calls(probe):
    assert probe(FORBIDDEN["unshare(CLONE_NEWUTS)"], cap_add=("SYS_ADMIN",)) == 0
    assert probe(FORBIDDEN["settimeofday"], cap_add=("SYS_TIME",)) != EPERM
    assert probe(ALLOWED["chroot"][0], cap_drop=("SYS_CHROOT",)) == EPERM


@row("S34")
def test_unconfined_and_a_profile_of_ones_own(probe):
    assert probe(FORBIDDEN["unshare(CLONE_NEWUTS)"], seccomp="unconfined", cap_add=("SYS_ADMIN",)) == 0
    assert probe(FORBIDDEN["socket(AF_VSOCK)"], seccomp="unconfined") != EPERM
    refuse = {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 42}
    own = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refuse]})
    assert probe((140, 0, 0), seccomp=own) == 42
    assert probe((140, 0, 0), seccomp=own, no_new_privileges=True) == 42


def names(filtered, action="SCMP_ACT_ALLOW"):
    return {name for rule in filtered["syscalls"] if rule["action"] == action for name in rule["names"]}


@row("S34")
@pytest.mark.parametrize(
    ("machine", "kernel", "capabilities", "has", "lacks"),
    [
        ("x86_64", "6.1", set(), {"arch_prctl", "modify_ldt", "ptrace"}, {"mount", "cacheflush", "bpf"}),
        ("aarch64", "6.1", set(), {"cacheflush", "set_tls"}, {"arch_prctl", "modify_ldt"}),
        ("s390x", "6.1", set(), {"s390_runtime_instr"}, {"arch_prctl"}),
        ("x86_64", "4.4.0-1", set(), set(), {"ptrace"}),
        ("x86_64", "4.4", {"CAP_SYS_PTRACE"}, {"ptrace", "kcmp"}, set()),
        ("x86_64", "6.1", {"CAP_BPF"}, {"bpf"}, {"perf_event_open"}),
        ("x86_64", "6.1", {"CAP_SYS_ADMIN"}, {"mount", "clone3", "setns"}, {"reboot"}),
    ],
)
def test_by_architecture_kernel_and_capability(machine, kernel, capabilities, has, lacks):
    allowed = names(resolve(default_profile(), capabilities, machine, kernel))
    assert has <= allowed
    assert not lacks & allowed


@row("S34")
def test_it_is_decided_after_the_capabilities_are_known(ask, host):
    assert "chroot" in names(plan(ask(), host).spec["linux"]["seccomp"])
    assert "chroot" not in names(plan(ask(cap_drop=("SYS_CHROOT",)), host).spec["linux"]["seccomp"])
    assert "seccomp" not in plan(ask(seccomp="unconfined"), host).spec["linux"]


@row("S34")
@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"defaultAction": "SCMP_ACT_MAYBE"}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ALLOW"}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "NO"}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW",'
        ' "args": [{"index": 0, "value": 1, "op": "~"}]}]}',
    ],
)
def test_a_malformed_profile_is_refused(text):
    with pytest.raises(RequestError, match="seccomp profile"):
        parse(text)
