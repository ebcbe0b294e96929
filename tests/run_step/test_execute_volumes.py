"""Volumes, mounts and image volumes (rows S63 to S65, S54) in real steps, with equal results in every way to run one:
as root by chroot, runc and crun, and as an ordinary user by chroot, runc and crun.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager

import as_user
import crun_alone
import pytest
from busybox_root import host_mounts, listing, make_rootfs, marker, processes, why_not_run
from watching import until
from ways import CONFINED, RemoteStep, Step, isolations, made_up_host, prefix_of

from run_step import HostError, ImageDefaults, RequestError, recover

pytestmark = pytest.mark.root

WAYS = [*CONFINED, "oci of crun", "rootless of crun"]
AS_USER = ("rootless", "chroot as a user", "rootless of crun")
SLAVE = ["unshare", "--mount", "--propagation", "slave", *crun_alone.PREFIX[2:]]
"""What crun needs, with the host's later mounts in sight."""


class Way:
    """One way to run steps; a new root filesystem and a new directory of the host for each test.

    ``host`` is an ordinary directory, ``shared`` one of a mount that is shared, as most hosts' are.
    """

    def __init__(self, name, step, top):
        self.name = name
        self.step = step
        self.top = top
        self.user = name in AS_USER
        self.count = 0

    def fresh(self):
        self.count += 1
        self.host = f"{self.top}/host-{self.count}"
        self.shared = f"{self.top}/shared/{self.count}"
        for path in (self.host, self.shared):
            os.mkdir(path)
            self.give(path)
        self.rootfs = self.step.rootfs = make_rootfs(f"{self.top}/rootfs-{self.count}")
        self.given = False
        self.work = self.step.work_dir

    def clean(self):
        assert os.listdir(self.work) == []
        for path in (self.host, self.rootfs):
            shutil.rmtree(path)

    def give(self, path):
        """Make a tree of root's the user's, as it is seen from inside of its namespace."""
        if self.user:
            as_user.give(path)

    def id(self, number):
        """The host's ID of a step's."""
        return number if not self.user else as_user.UID if number == 0 else as_user.RANGE[0] + number - 1

    def file(self, path, text="host\n", mode=0o644, top=None):
        """A file of the host with the directories above it."""
        full = os.path.join(top or self.host, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="ascii") as stream:
            stream.write(text)
        os.chmod(full, mode)
        self.give(os.path.dirname(full))
        return full

    def directory(self, path, top=None):
        full = os.path.join(top or self.host, path)
        os.makedirs(full)
        self.give(full)
        return full

    def _begin(self):
        if self.user and not self.given:
            as_user.give(self.rootfs)
            self.given = True

    def text(self, line, **fields):
        self._begin()
        return self.step.text(line, **fields)

    def run(self, *args, **fields):
        self._begin()
        return self.step.run(*args, **fields)

    @property
    def stdout(self):
        return self.step.stdout.decode()

    def refused(self, *args, **fields):
        """The words of the error that a step ends with before it has begun."""
        self._begin()
        before, mounted = listing(self.rootfs), host_mounts(self.top)
        with pytest.raises((HostError, RequestError, OSError)) as caught:
            self.step.run(*(args or ("true",)), **fields)
        assert listing(self.rootfs) == before
        assert host_mounts(self.top) == mounted
        assert os.listdir(self.work) == []
        return str(caught.value)


@contextmanager
def running(name, top):
    """The step of a way."""
    host = made_up_host()
    work = f"{top}/work"
    os.mkdir(work)
    if name in isolations():
        step = Step("/", name, work, host)
        yield step
        step.executor.close()
        return
    isolation, _, runtime = name.partition(" of ")
    prefix = SLAVE if runtime else []
    if name in AS_USER:
        as_user.give(work)
        prefix = [*prefix, *prefix_of("a user", f"{top}/user")]
    step = RemoteStep("/", isolation.split()[0], work, host, prefix)
    if runtime:
        step.runtime = "crun" if isolation == "rootless" else crun_alone.runtime()
    yield step
    step.close()


@pytest.fixture(scope="module", params=WAYS)
def every_way(request):
    """One process for all tests of this module."""
    if why_not_run():
        pytest.skip(why_not_run())
    if " of crun" in request.param and crun_alone.missing():
        pytest.skip(crun_alone.missing())
    top = tempfile.mkdtemp(prefix="volumes-")
    os.chmod(top, 0o755)
    os.mkdir(f"{top}/shared")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", f"{top}/shared"], check=True)
    try:
        subprocess.run(["mount", "--make-shared", f"{top}/shared"], check=True)
        os.makedirs(f"{top}/shared/early/sub")
        subprocess.run(["mount", "-t","tmpfs","tmpfs", f"{top}/shared/early/sub"], check=True)
        open(f"{top}/shared/early/sub/below","w").close()
        with running(request.param, top) as step:
            yield Way(request.param, step, top)
    finally:
        subprocess.run(["umount", "-R", f"{top}/shared"], check=True)
        shutil.rmtree(top)


@pytest.fixture
def way(every_way):
    every_way.fresh()
    yield every_way
    every_way.clean()


@contextmanager
def mounted(path, *options, kind="tmpfs"):
    """A filesystem on the host while it lasts."""
    subprocess.run(["mount", "-t", kind, *options, kind, path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)



import time
MODES = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
def test_explore(way):
    line="touch /ready/now; i=0; while [ ! -e /ready/go ] && [ $i -lt 200 ]; do usleep 20000; i=$((i+1)); done; "
    line += "for m in default private rprivate slave rslave shared rshared; do echo $m $(ls /v/$m/late) : $(ls /v/$m/sub/late); grep \" /v/$m\" /proc/self/mountinfo | cut -d' ' -f5-8; done"
    early=f"{way.top}/shared/early"
    for d in (f"{early}/late", f"{early}/sub/late"): os.makedirs(d, exist_ok=True)
    ready=way.directory("ready")
    def later():
        for _ in range(1000):
            if os.path.exists(ready+"/now"): break
            time.sleep(.01)
        for d in (f"{early}/late", f"{early}/sub/late"):
            subprocess.run(["mount","-t","tmpfs","tmpfs",d],check=True); open(d+"/seen","w").close()
        open(ready+"/go","w").close()
    t=threading.Thread(target=later); t.start()
    try:
        print(way.name, way.text(line, volumes=(f"{ready}:/ready", f"{early}:/v/default", *(f"{early}:/v/{m}:{m}" for m in MODES))))
    finally:
        t.join()
        for d in (f"{early}/late", f"{early}/sub/late"): subprocess.run(["umount", d])
