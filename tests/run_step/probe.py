"""What a step sees of its surroundings, as text in sections: a script for busybox and a small static program.

``sections()`` makes of the output what two ways to run a step must have in common.
"""

import os
import re
import shutil
import subprocess

CGROUPS = "/sys/fs/cgroup"

PROGRAM = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
/* The errno of calls with arguments that are wrong, and attributes of the process that /proc does not show. */
int main(void) {
    static const struct { const char *name; long number, first; } calls[] = {
        {"mount", 165, 0}, {"unshare", 272, 0x04000000}, {"bpf", 321, 0}, {"keyctl", 250, 0}, {"setns", 308, -1},
        {"io_uring_setup", 425, 0}, {"open_tree", 428, -1}, {"clone3", 435, 0}, {"openat2", 437, -1},
        {"memfd_secret", 447, -1}, {"cachestat", 451, -1}, {"fchmodat2", 452, -1}, {"futex_wake", 454, 0},
        {"futex_requeue", 456, 0}, {"open_tree_attr", 467, -1}, {"listns", 470, -1}, {"nobodys", 999, 0},
        {"far", 5000, 0}, {"socket of AF_VSOCK", 41, 40}, {"socket of AF_ALG", 41, 38}, {"personality", 135, 0x40000},
        {"chroot", 161, 0}, {"reboot", 169, 0}, {"userfaultfd", 323, -1}, {"perf_event_open", 298, 0},
    };
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        errno = 0;
        long r = syscall(calls[i].number, calls[i].first, 0, 0, 0, 0, 0);
        printf("%s %d\n", calls[i].name, r == -1 ? errno : 0);
    }
    printf("== attributes\n");
    printf("dumpable %d\n", prctl(PR_GET_DUMPABLE));
    printf("keepcaps %d\n", prctl(PR_GET_KEEPCAPS));
    printf("securebits %d\n", prctl(PR_GET_SECUREBITS));
    printf("slack %d\n", prctl(PR_GET_TIMERSLACK));
    printf("nice %d\n", getpriority(PRIO_PROCESS, 0));
    return 0;
}
"""

SCRIPT = r"""
s() { echo "== $1"; }
s identity; id -u; id -g; pwd
s privileges; grep -E '^(Groups|Cap|NoNewPrivs|Seccomp|Umask|SigBlk|SigIgn)' /proc/self/status
cat /proc/self/oom_score_adj
s limits; cat /proc/self/limits
s mounts; cat /proc/self/mountinfo
s descriptors; for n in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && readlink /proc/$$/fd/$n; done
s environment; env
s files; for f in hosts resolv.conf hostname; do [ -e /etc/$f ] && stat -c '%n %a %u %g' /etc/$f && cat /etc/$f; done
[ -e /run/.containerenv ] && stat -c '%n %a %u %g %s' /run/.containerenv
s devices; for f in /dev/* /dev/pts/*; do stat -c '%n %F %a %u %g %t %T' $f; done
s process; echo $$; cut -d' ' -f1,2,4,5,6,7,8,19 /proc/$$/stat; set -- /proc/[0-9]*; echo $#; cat /proc/$$/comm
s names; hostname; cat /proc/sys/kernel/domainname
s network; cut -d: -f1 -s /proc/net/dev
s kernel; for f in /proc/kcore /proc/keys /proc/timer_list /proc/sysrq-trigger /proc/sys/kernel/core_pattern \
  /sys/firmware /sys/kernel/profiling; do
  [ -e $f ] || { echo "$f none"; continue; }
  w=no; if [ -d $f ]; then (mkdir $f/x) 2>/dev/null && rmdir $f/x && w=yes; else (: >>$f) 2>/dev/null && w=yes; fi
  [ -d $f ] && echo "$f directory $w" || echo "$f $(head -c 1 $f 2>/dev/null | wc -c) $w"
done
w=no; for d in /sys/fs/cgroup/*/; do (mkdir $d/x) 2>/dev/null && rmdir $d/x && w=yes; done; echo "cgroups $w"
s calls; /bin/probe-program
"""


def install(rootfs, cache):
    """Put the program in place; it is compiled once into the directory ``cache``."""
    program = os.path.join(cache, "probe-program")
    if not os.path.exists(program):
        source = program + ".c"
        with open(source, "w", encoding="ascii") as stream:
            stream.write(PROGRAM)
        subprocess.run(["cc", "-static", "-o", program, source], check=True)
    shutil.copy(program, os.path.join(rootfs, "bin", "probe-program"))
    os.chmod(os.path.join(rootfs, "bin", "probe-program"), 0o755)


_KEPT = {"ro", "rw", "nosuid", "noexec"}


def _mount(line):
    """Destination, options and kind. Of the kernel's files that are masked or read-only there is the place alone:
    runtimes take different things to cover them, and whether they can be written is tried in another section. Of
    /dev's nodes, and of cgroups, which runtimes show in their own ways, nothing."""
    words = line.split()
    destination, options = words[4], set(words[5].split(","))
    kind = words[words.index("-") + 1]
    if re.fullmatch(r"/dev/(null|zero|full|tty|random|urandom)", destination) or destination.startswith(
        CGROUPS
    ):
        return ""
    if destination.startswith(("/proc/", "/sys/")):
        return destination
    kind = kind if kind in ("proc", "sysfs", "tmpfs", "devpts", "mqueue") else "bind"
    return f"{destination} {kind} {','.join(sorted(options & _KEPT))}"


def _descriptor(line):
    return re.sub(r"(pipe|socket):\[\d+\]", r"\1", line)


def sections(text):
    """Each section's lines, normalised and in an order."""
    found = {}
    for part in ("\n" + text).split("\n== ")[1:]:
        name, _, body = part.partition("\n")
        lines = body.splitlines()
        if name == "mounts":
            lines = sorted({_mount(line) for line in lines} - {""})
        elif name == "descriptors":
            lines = [_descriptor(line) for line in lines]
        elif name == "environment":
            lines = sorted(line for line in lines if not line.startswith(("_=", "SHLVL=")))
        elif (
            name == "network"
        ):  # of the machine's own devices, which come and go, only whether they are in sight
            names = {line.strip() for line in lines}
            lines = ["lo" if "lo" in names else "", "others" if names - {"lo"} else "alone"]
        elif name == "limits":
            lines = [" ".join(line.split()) for line in lines]
        found[name] = lines
    return found


def differences(first, other):
    """Lines that one of two has alone, by section."""
    out = {}
    for name in {**first, **other}:
        mine, theirs = first.get(name, []), other.get(name, [])
        if mine != theirs:
            out[name] = (
                [line for line in mine if line not in theirs],
                [line for line in theirs if line not in mine],
            )
    return out
