"""Steps of crun, where it works: in a mount namespace that has cgroup version 2 alone.

Root's crun raises its memlock limit before it loads a filter for devices, and gives up where it may not, though
kernels since 5.11 do not count filters so (BPF and memory cgroups). There a library makes that call do nothing.
"""

import atexit
import functools
import os
import resource
import shutil
import subprocess
import tempfile
from contextlib import contextmanager

import as_user
from busybox_root import why_not_run
from ways import RemoteStep

from run_step import probe
from run_step.helper_programs import find_runtime

LINE = 'umount -R -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"'
PREFIX = ["unshare", "-m", "sh", "-ec", LINE, "sh"]

LIBRARY = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/resource.h>
int setrlimit(__rlimit_resource_t what, const struct rlimit *limit) {
    int (*next)(__rlimit_resource_t, const struct rlimit *) = dlsym(RTLD_NEXT, "setrlimit");
    return what == RLIMIT_MEMLOCK ? 0 : next(what, limit);
}
int setrlimit64(__rlimit_resource_t what, const struct rlimit64 *limit) {
    int (*next)(__rlimit_resource_t, const struct rlimit64 *) = dlsym(RTLD_NEXT, "setrlimit64");
    return what == RLIMIT_MEMLOCK ? 0 : next(what, limit);
}
"""


@functools.cache
def filters():
    """Whether root's crun can load its filter for devices here by itself."""
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] == resource.RLIM_INFINITY
    return unlimited or "SYS_RESOURCE" in probe(runtimes=False).capabilities


def missing():
    """Why there are no steps of crun; empty when there are."""
    if not find_runtime("crun"):
        return "crun is not installed"
    return why_not_run() or (
        "" if filters() or shutil.which("gcc") else "crun needs help here, and there is no gcc"
    )


@functools.cache
def runtime():
    """What to give as root's ``--runtime`` for crun; what it needs is made once for all tests."""
    if filters():
        return "crun"
    directory = tempfile.mkdtemp(prefix="crun-")
    atexit.register(shutil.rmtree, directory)
    path, library, source = (os.path.join(directory, name) for name in ("crun", "crun.so", "crun.c"))
    with open(source, "w", encoding="ascii") as stream:
        stream.write(LIBRARY)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    with open(path, "w", encoding="ascii") as stream:
        stream.write(f'#!/bin/sh\nLD_PRELOAD={library} exec {find_runtime("crun")} "$@"\n')
    os.chmod(path, 0o755)
    return path


@contextmanager
def crun(isolation, rootfs, path, host):
    """A step of crun: as root for ``oci``, as an ordinary user for ``rootless``. The root filesystem is given away."""
    work = path / "work-of-crun"
    work.mkdir()
    prefix = PREFIX
    if isolation == "rootless":
        as_user.give(rootfs)
        as_user.give(str(work))
        prefix = [*PREFIX, *as_user.words(as_user.make_home(str(path / "home-of-crun")))]
    step = RemoteStep(rootfs, isolation, str(work), host, prefix)
    step.runtime = "crun" if isolation == "rootless" else runtime()
    try:
        yield step
    finally:
        step.close()
