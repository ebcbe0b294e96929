"""Runs a command as an ordinary container would have it: python as_container.py COMMAND…

Root with docker's default capabilities, so without CAP_SYS_ADMIN, a PID namespace, and a seccomp filter that
forbids mounts and namespaces. What the command starts is held to the same; whatever it kills, it kills in there.
"""

import os
import signal
import sys

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(PROJECT, "plugins"))

FORBIDDEN = (
    "mount umount umount2 pivot_root unshare setns move_mount open_tree fsopen fsmount fsconfig fspick mount_setattr"
).split()
NEW_NAMESPACES = 0x7E020000
"""The CLONE_NEW… flags of clone(2) (linux/sched.h)."""


def main(command):
    from run_step.linux import mount as m
    from run_step.linux import process as p

    m.unshare(m.CLONE_NEWPID | m.CLONE_NEWNS)
    child = os.fork()
    if child == 0:
        p.prctl(p.PR_SET_PDEATHSIG, signal.SIGKILL)
        m.mount("", "/", flags=m.MS_PRIVATE | m.MS_REC)
        m.mount("proc", "/proc", "proc")
        enter(command)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(status)
    sys.exit(status if status >= 0 else 128 - status)


def enter(command):
    """Give the powers up and become the command."""
    from run_step.linux import process as p
    from run_step.linux.seccomp_filter import compile_filter
    from run_step.linux.seccomp_install import install
    from run_step.pipeline.capabilities import DEFAULT

    flags = {"index": 0, "value": NEW_NAMESPACES, "valueTwo": NEW_NAMESPACES, "op": "SCMP_CMP_MASKED_EQ"}
    rules = [{"names": FORBIDDEN, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
    for bit in range(32):
        if NEW_NAMESPACES >> bit & 1:
            one = {**flags, "value": 1 << bit, "valueTwo": 1 << bit}
            rules.append({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [one]})
    # glibc falls back to clone(2) where clone3(2) is not implemented, as under docker's own filter.
    rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38})
    install(compile_filter({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    keep = {p.capability_number(name) for name in DEFAULT}
    p.drop_bounding(keep)
    p.capset(keep, keep, set())
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
