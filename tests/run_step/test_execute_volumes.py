"""Volumes, mounts and image volumes (rows S63 to S65, S54) in real steps, with equal results in every way to run one:
as root by chroot, runc and crun, and as an ordinary user by chroot, runc and crun.
"""

import functools
import json
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
from rows import row
from watching import until
from ways import CONFINED, RemoteStep, Step, isolations, made_up_host, prefix_of

from run_step import HostError, ImageDefaults, RequestError, recover

pytestmark = pytest.mark.root

WAYS = [*CONFINED, "oci of crun", "rootless of crun"]
AS_USER = ("rootless", "chroot as a user", "rootless of crun")
SLAVE = ["unshare", "--mount", "--propagation", "slave", *crun_alone.PREFIX[2:]]
"""What crun needs, with the host's later mounts in sight."""


class Way:
    """One way to run steps, with a new root filesystem and a new directory of the host, ``host``, for each test.

    ``tree`` is a directory of the host with another mount in it, ``sub``, which was there before the builder.
    """

    def __init__(self, name, step, top):
        self.name = name
        self.step = step
        self.top = top
        self.tree = f"{top}/shared/tree"
        self.user = name in AS_USER
        self.crun = "crun" in name
        self.count = 0

    def fresh(self):
        self.count += 1
        self.host = f"{self.top}/host-{self.count}"
        os.mkdir(self.host)
        self.give(self.host)
        self.rootfs = self.step.rootfs = make_rootfs(f"{self.top}/rootfs-{self.count}")
        self.given = False
        self.work = self.step.work_dir

    def clean(self):
        assert os.listdir(self.work) == []
        for path in (self.host, self.rootfs):
            shutil.rmtree(path)

    def give(self, path):
        """Make what is root's in a tree the user's, who is root in the namespace of its steps."""
        for top, directories, files in os.walk(path) if self.user else ():
            for name in (".", *directories, *files):
                status = os.lstat(f"{top}/{name}")
                if status.st_uid == 0:
                    os.chown(f"{top}/{name}", as_user.UID, as_user.UID, follow_symlinks=False)
                    if not stat.S_ISLNK(status.st_mode):
                        os.chmod(f"{top}/{name}", stat.S_IMODE(status.st_mode))

    def id(self, number):
        """The host's ID of a step's."""
        return number if not self.user else as_user.UID if number == 0 else as_user.RANGE[0] + number - 1

    def file(self, path, text="host\n", mode=0o644):
        """A file of the host, with the directories above it; its path."""
        full = f"{self.host}/{path}"
        self.directory(os.path.dirname(path))
        with open(full, "w", encoding="ascii") as stream:
            stream.write(text)
        os.chmod(full, mode)
        self.give(self.host)
        return full

    def directory(self, path):
        """A directory of the host; its path."""
        os.makedirs(f"{self.host}/{path}", exist_ok=True)
        self.give(self.host)
        return f"{self.host}/{path}"

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
        with self.nothing_remains(), pytest.raises((HostError, RequestError)) as caught:
            self.run(*(args or ("true",)), **fields)
        return str(caught.value)

    @contextmanager
    def nothing_remains(self):
        """The image, the host's directory, the mounts and the work directory are in the end as they were."""
        self._begin()
        before = listing(self.rootfs), listing(self.host), host_mounts(self.top)
        yield
        assert os.listdir(self.work) == []
        assert (listing(self.rootfs), listing(self.host), host_mounts(self.top)) == before


@contextmanager
def mounted(path):
    """An empty filesystem on the host, in a peer group as most of a host's are, while it lasts."""
    os.makedirs(path, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", path], check=True)
    try:
        subprocess.run(["mount", "--make-shared", path], check=True)
        yield
    finally:
        subprocess.run(["umount", path], check=True)


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
    with mounted(f"{top}/shared"), mounted(f"{top}/shared/tree/sub"), running(request.param, top) as step:
        way = Way(request.param, step, top)
        way.give(way.tree)
        yield way
    shutil.rmtree(top)


@pytest.fixture
def way(every_way):
    every_way.fresh()
    yield every_way
    every_way.clean()


def seen(path):
    with open(path, encoding="ascii") as stream:
        return stream.read()


# Options of a volume


@row("S64")
def test_what_may_be_written(way):
    v = os.path.dirname(way.file("v/file"))
    line = (
        "cat /plain/file /rw/file /ro/file; echo one > /plain/one; echo two > /rw/two; stat -c %u:%g /ro/one"
    )
    line += "; echo x > /ro/three || echo refused; echo x > /ro/file || echo refused; rm -f /ro/one || echo refused"
    text = way.text(line, volumes=(f"{v}:/plain", f"{v}:/rw:rw", f"{v}:/ro:ro"))
    assert text == "host\n" * 3 + "0:0\n" + "refused\n" * 3
    assert sorted(os.listdir(v)) == ["file", "one", "two"]
    assert os.stat(f"{v}/two").st_uid == way.id(0)


@row("S64")
def test_without_selinux_a_label_changes_nothing(way):
    v = os.path.dirname(way.file("v/file"))
    before = listing(v), os.listxattr(v), os.listxattr(f"{v}/file")
    assert way.text("cat /a/file /b/file", volumes=(f"{v}:/a:z", f"{v}:/b:Z")) == "host\n" * 2
    assert (listing(v), os.listxattr(v), os.listxattr(f"{v}/file")) == before


@row("S64")
def test_the_users_own(way):
    """U: all of it and nothing else, each step anew; what is right already is left alone, set-user-ID bits too."""
    way.file("outside")
    way.file("v/deep/file", mode=0o4755)
    way.file("v/other")
    os.symlink("../outside", f"{way.host}/v/link")
    way.give(way.host)
    line = (
        "find /v | sort | xargs stat -c '%u:%g %n'; echo mine > /v/deep/file; : > /v/new; chmod 4711 /v/other"
    )
    names = ("/v", "/v/deep", "/v/deep/file", "/v/link", "/v/other")
    text = way.text(line, volumes=(f"{way.host}/v:/v:U",), user="7:8")
    assert text == "".join(f"7:8 {name}\n" for name in names)
    assert os.stat(f"{way.host}/outside").st_uid == way.id(0)
    status = os.stat(f"{way.host}/v/deep/file")
    assert (status.st_uid, status.st_gid) == (way.id(7), way.id(8))
    assert way.text("stat -c %a /v/other", volumes=(f"{way.host}/v:/v:U",), user="7:8") == "4711\n"
    assert way.text("stat -c %u /v/deep/file", volumes=(f"{way.host}/v:/v:U",)) == "0\n"


WAIT = (
    "touch /ready/now; i=0; while [ ! -e /ready/go ] && [ $i -lt 500 ]; do usleep 20000; i=$((i+1)); done; "
)


def meanwhile(way, action, line, volumes, **fields):
    """What a step prints that waits, where its line says ``WAIT``, until ``action`` has been done on the host."""
    ready = way.directory("ready")
    failures = []

    def act():
        if until(lambda: os.path.exists(f"{ready}/now")):
            try:
                action()
            except (OSError, subprocess.CalledProcessError) as error:
                failures.append(error)
        open(f"{ready}/go", "w").close()

    thread = threading.Thread(target=act)
    thread.start()
    try:
        return way.text(line, volumes=(f"{ready}:/ready", *volumes), **fields)
    finally:
        thread.join()
        shutil.rmtree(ready)
        assert failures == []


RECEIVING = ("slave", "rslave", "shared", "rshared")


@row("S64")
@pytest.mark.parametrize("modes", [("", "private", "rprivate"), RECEIVING], ids=["private", "receiving"])
def test_what_the_host_mounts_while_the_step_runs(way, modes):
    """Below the volume and below another mount in it."""
    if not modes[0] and way.name in ("oci-runc", "rootless"):
        # Outside of a build, whose own mounts are private then, runc shows what is mounted below another mount.
        modes = ("rprivate",)
    places = [f"{way.tree}/late", f"{way.tree}/sub/late"]
    for path in places:
        os.makedirs(path, exist_ok=True)

    def act():
        for path in places:
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
            open(f"{path}/file", "w").close()

    shown = "; ".join(f"ls /v-{mode}/late /v-{mode}/sub/late | grep -c file" for mode in modes)
    volumes = [f"{way.tree}:/v-{mode}{mode and ':' + mode}" for mode in modes]
    try:
        text = meanwhile(way, act, f"{WAIT}{shown}; true", volumes)
    finally:
        for path in places:
            subprocess.run(["umount", path], check=True)
    assert text.split() == ["2" if modes == RECEIVING else "0"] * len(modes)


@row("S64")
def test_nothing_that_a_step_mounts_gets_out(way):
    """Not even with the capability for that, and with a word that could be taken for it."""
    places = [f"{way.tree}/{path}{mode}" for path in ("in-", "sub/in-") for mode in RECEIVING]
    for path in places:
        os.makedirs(path, exist_ok=True)
    found = []
    line = "for m in slave rslave shared rshared; do for d in /$m/in-$m /$m/sub/in-$m; do mount -t tmpfs tmpfs $d && "
    line += "touch $d/x && echo made; done; done; " + WAIT
    before = host_mounts(way.top)
    text = meanwhile(
        way,
        lambda: found.extend(
            [*host_mounts(way.top), *(name for path in places for name in os.listdir(path))]
        ),
        line,
        [f"{way.tree}:/{mode}:{mode}" for mode in RECEIVING],
        cap_add=("SYS_ADMIN",),
        seccomp="unconfined",
    )
    assert (text, found) == ("made\n" * 8, before)


def as_asked(way, text, expected, ignored):
    """crun 1.8 leaves some options of a volume out where an ordinary user runs it (see docs/run-step.md)."""
    if way.crun and way.user and text.split() == ignored:
        pytest.xfail("this crun leaves noexec, nosuid and nodev out for an ordinary user")
    assert text.split() == expected


@functools.cache
def whoami():
    """A program without libraries that says as whom it runs."""
    code = (
        b'#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf("%d\\n", geteuid()); return 0; }\n'
    )
    with tempfile.TemporaryDirectory() as directory:
        command = ["gcc", "-static", "-xc", "-o", f"{directory}/whoami", "-"]
        subprocess.run(command, input=code, check=True, capture_output=True)
        with open(f"{directory}/whoami", "rb") as stream:
            return stream.read()


@row("S64")
def test_what_may_be_executed(way):
    v = os.path.dirname(way.file("v/script", "#!/bin/sh\necho ran\n", 0o755))
    shutil.copy(f"{way.rootfs}/bin/busybox", f"{v}/echo")
    line = "for d in plain exec noexec; do /$d/script; echo $?; /$d/echo ran; echo $?; done 2>/dev/null"
    text = way.text(line, volumes=(f"{v}:/plain", f"{v}:/exec:exec", f"{v}:/noexec:noexec"))
    as_asked(way, text, ["ran", "0", "ran", "0"] * 2 + ["126", "126"], ["ran", "0"] * 6)


@row("S64")
def test_whose_powers_a_program_gets(way):
    v = way.directory("v")
    with open(f"{v}/whoami", "wb") as stream:
        stream.write(whoami())
    os.chmod(f"{v}/whoami", 0o4755)
    way.give(v)
    line = "for d in plain suid nosuid; do /$d/whoami; done"
    volumes = (f"{v}:/plain", f"{v}:/suid:suid", f"{v}:/nosuid:nosuid")
    as_asked(way, way.text(line, volumes=volumes, user="bob"), ["0", "0", "1000"], ["0"] * 3)


@row("S64")
def test_device_nodes_in_a_volume(way):
    """With neither word it is the device cgroup that says which may be opened, and nodev where there is none."""
    v = way.directory("v")
    os.mknod(f"{v}/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.chmod(f"{v}/zero", 0o666)
    way.give(v)
    line = "for d in plain with without; do head -c 1 /$d/zero | wc -c; done 2>/dev/null"
    text = way.text(line, volumes=(f"{v}:/plain", f"{v}:/with:dev", f"{v}:/without:nodev"))
    as_asked(way, text, ["0" if "chroot" in way.name else "1", "1", "0"], ["1"] * 3)


@row("S31")
def test_nor_in_what_is_mounted_below_a_volume(way):
    """A node of a device that no step may use; an ordinary user can make none."""
    line = "for d in /v /v/sub; do mknod $d/node b 7 0 && head -c 1 $d/node && echo opened; rm -f $d/node; done; true"
    for volume in (f"{way.tree}:/v", f"{way.tree}:/v:nodev"):
        assert way.text(line, volumes=(volume,)) == ""


@row("S64")
def test_mounts_below_a_volume(way):
    open(f"{way.tree}/sub/file", "w").close()
    text = way.text("ls /?/sub/file", volumes=(f"{way.tree}:/a", f"{way.tree}:/b:rbind"))
    assert text.split() == ["/a/sub/file", "/b/sub/file"]
    if way.user:
        # What root has covered stays covered in the namespace of a user, so the kernel refuses it.
        words = way.refused(volumes=(f"{way.tree}:/v:bind",))
        assert "nvalid argument" in words and "/v" in words
        assert "use rbind" in words or "chroot" not in way.name
    else:
        assert way.text("ls /v/sub", volumes=(f"{way.tree}:/v:bind",)) == ""


@row("S64")
def test_read_only_all_the_way_down(way):
    line = "for d in /v /v/sub; do touch $d/x || echo refused; done; rm -f /v/sub/x; true"
    text = way.text(line, volumes=(f"{way.tree}:/v:ro",))
    assert text == ("refused\n" if way.crun else "refused\nrefused\n")  # this crun does not say that it can
    text = way.text(line, mounts=(f"type=bind,src={way.tree},dst=/v,ro",))
    assert text == ("refused\n" if way.crun else "refused\nrefused\n")


# Sources and destinations


@row("S64")
def test_a_volume_that_is_a_file(way):
    one, two = way.file("one"), way.file("two")
    with open(f"{way.rootfs}/etc/motd", "w", encoding="ascii") as stream:
        stream.write("the image's own\n")
    before = listing(way.rootfs) if not way.user else None
    line = "cat /one /deep/er/two /etc/motd; echo x > /one; echo x > /etc/motd || echo refused; rm /one || echo busy"
    text = way.text(line, volumes=(f"{one}:/one", f"{two}:/deep/er/two:ro", f"{two}:/etc/motd:ro"))
    assert text == "host\n" * 3 + "refused\nbusy\n"
    assert (seen(one), seen(two), seen(f"{way.rootfs}/etc/motd")) == ("x\n", "host\n", "the image's own\n")
    assert before is None or listing(way.rootfs) == before
    assert not {"one", "deep"} & set(os.listdir(way.rootfs))


@row("S64")
def test_a_file_is_no_directory(way):
    file, directory = way.file("file"), way.directory("directory")
    for volume in (f"{file}:/tmp", f"{directory}:/etc/passwd"):
        assert "ot a directory" in way.refused(volumes=(volume,))
    words = way.refused(volumes=(f"{file}:/v:O",))
    assert words == f"volume '{file}:/v:O': {file} is not a directory; an overlay needs one"


SOURCES = {
    "./v": "volume './v:/b': the host path './v' must be absolute",
    "v": "volume 'v:/b': the host path 'v' must be absolute",
    "HOST/no": "volume source 'HOST/no' does not exist on this host",
    "HOST/v/file/below": "volume source 'HOST/v/file/below' does not exist on this host",
    "HOST/dangling": "volume source 'HOST/dangling' does not exist on this host",
}


@row("S64")
def test_a_source_that_is_none_is_told_before_anything_is_changed(way):
    way.file("v/file")
    os.symlink("nowhere", f"{way.host}/dangling")
    for name, words in SOURCES.items():
        source, expected = name.replace("HOST", way.host), words.replace("HOST", way.host)
        first = f"{way.host}/v:/a:U"
        assert way.refused(volumes=(first, f"{source}:/b"), user="7:8") == expected
        if name.startswith("HOST"):
            mounts = (f"type=bind,src={source},dst=/b",)
            assert way.refused(volumes=(first,), mounts=mounts, user="7:8") == expected


@row("S64")
def test_a_source_may_be_a_link(way):
    way.file("real/deep/file")
    for name, target in (("link", "real"), ("to-file", f"{way.host}/real/deep/file"), ("twice", "link")):
        os.symlink(target, f"{way.host}/{name}")
    volumes = (
        f"{way.host}/twice:/a",
        f"{way.host}/link/deep:/b:ro",
        f"{way.host}/to-file:/c",
        f"{way.host}/link:/d:O",
    )
    text = way.text("cat /a/deep/file /b/file /c /d/deep/file; touch /a/new /d/gone", volumes=volumes)
    assert text == "host\n" * 4
    assert sorted(os.listdir(f"{way.host}/real")) == ["deep", "new"]
    text = way.text(
        "stat -c %u:%g /a /a/deep/file /c", volumes=(f"{way.host}/twice:/a:U", volumes[2]), user="7:8"
    )
    assert text.split() == ["7:8"] * 3
    assert os.lstat(f"{way.host}/twice").st_uid == 0
    os.symlink("/", f"{way.host}/root")
    words = way.refused(volumes=(f"{way.host}/root/usr:/a:U",), user="7:8")
    assert (
        words
        == f"the volume {way.host}/root/usr leads to /usr of the host, which must not be given another owner"
    )


LINKS = {
    "to-directory": "/real",
    "relative": "far/../real-2",
    "up": "../../../real-3",
    "twice": "once",
    "to-nothing": "/not/there",
    "through": "/real",
}


@row("S64")
def test_destinations_through_links_of_the_image(way):
    """Inside of the image, whatever the host has of that name."""
    for name in ("real/in", "real-2", "real-3", "real-4", "far"):
        os.makedirs(f"{way.rootfs}/{name}")
    for name, target in {**LINKS, "once": "/real-4"}.items():
        os.symlink(target, f"{way.rootfs}/{name}")
    places = ["to-directory", "relative", "up", "twice", "to-nothing", "through/in", "through/not/there"]
    volumes = []
    for number, name in enumerate(places):
        v = os.path.dirname(way.file(f"{number}/file", f"{name}\n"))
        for below in ("in", "not/there"):
            way.directory(f"{number}/{below}")  # where others are mounted in this one
        volumes.append(f"{v}:/{name}")
    really = ["/real", "/real-2", "/real-3", "/real-4", "/not/there", "/real/in", "/real/not/there"]
    with way.nothing_remains():
        text = way.text(f"cat {' '.join(f'{name}/file' for name in really)}", volumes=tuple(volumes))
    assert text.split() == places
    way.text(f"touch {' '.join(f'{name}/new' for name in really)}", volumes=tuple(volumes))
    assert all(os.path.exists(f"{way.host}/{number}/new") for number in range(len(places)))


@row("S64")
def test_a_destination_that_leads_nowhere_is_refused(way):
    v = way.directory("v")
    for name, target in (("top", "/"), ("up", "../.."), ("loop", "loop")):
        os.symlink(target, f"{way.rootfs}/{name}")
    for name in ("top", "up", "loop"):
        way.refused(volumes=(f"{v}:/{name}",))


@row("S64")
def test_a_place_in_the_step_s_own_dev(way):
    """Beside what is there, and in the place of it: rootless steps have a /dev of another make."""
    v, file = way.directory("v"), way.file("file", "of the host\n")
    way.file("v/in", "in\n")
    text = way.text(
        "cat /dev/deep/er/in /dev/file; df -k /dev/shm | tail -n 1 | awk '{ print $2 }'",
        volumes=(f"{v}:/dev/deep/er", f"{file}:/dev/file"),
        mounts=("type=tmpfs,target=/dev/shm,tmpfs-size=3m",),
    )
    assert text.split("\n") == ["in", "of the host", "3072", ""]


@row("S64")
def test_the_first_of_one_destination_wins(way):
    one, two = (os.path.dirname(way.file(f"{name}/{name}")) for name in ("one", "two"))
    volumes = (f"{one}:/v", f"{two}:/v/:U", f"{two}://v:ro")
    with way.nothing_remains():
        assert way.text("ls /v", volumes=volumes, mounts=("type=tmpfs,dst=/v",), user="7:8") == "one\n"


@row("S64")
def test_volumes_below_volumes(way):
    """In whatever order they are given; what lies below another mount is in the end where that is."""
    outer = os.path.dirname(way.file("outer/inner/hidden"))
    outer = os.path.dirname(outer)
    way.file("outer/file", "of the outer\n")
    inner, file = os.path.dirname(way.file("inner/seen")), way.file("one")
    way.file("inner/deep/nothing")
    volumes = [f"{file}:/v/file:ro", f"{inner}:/v/inner/deep:O", f"{inner}:/v/inner", f"{outer}:/v"]
    line = "cat /v/file; ls /v/inner /v/inner/deep; touch /v/inner/new /v/inner/deep/gone"
    for order in (volumes, volumes[::-1]):
        found = names(inner)
        text = way.text(line, volumes=tuple(order))
        assert text.split() == ["host", "/v/inner:", *found, "/v/inner/deep:", *found]
        os.unlink(f"{inner}/new")
    assert names(outer) == ["file", "inner"] and names(f"{outer}/inner") == ["hidden"]
    assert names(inner) == ["deep", "seen"]


def names(path):
    return sorted(os.listdir(path))


@row("S64")
def test_a_place_below_a_volume_is_made_there(way):
    """As with every builder: what is mounted in a directory of the host needs a place in it, and that stays."""
    outer, inner = way.directory("outer"), os.path.dirname(way.file("inner/file"))
    assert way.text("ls /v/made/here", volumes=(f"{outer}:/v", f"{inner}:/v/made/here")) == "file\n"
    assert names(f"{outer}/made/here") == []
    shutil.rmtree(f"{outer}/made")
    if not way.crun:  # it makes the place before the outer one is read-only
        assert "ead-only" in way.refused(volumes=(f"{outer}:/v:ro", f"{inner}:/v/made"))
    with way.nothing_remains():
        assert way.text("ls /v/made", volumes=(f"{outer}:/v:O", f"{inner}:/v/made")) == "file\n"


# --mount


@row("S64")
def test_keys_of_a_bind_mount(way):
    v = os.path.dirname(way.file("v/file"))
    mounts = (
        f"type=bind,source={v},target=/a",
        f"type=bind,src={v},dst=/b,ro",
        f"type=bind,src={v},destination=/c,readonly=true",
        f"type=bind,src={v},dst=/d,rw=false,bind-propagation=rprivate",
        f"type=bind,src={v},dst=/e,ro=false,relabel=shared,bind-nonrecursive",
        f"type=bind,src={v},dst=/f,rw,relabel=private,bind-nonrecursive=false",
        f"type=bind,src={v}/file,dst=/g,ro",
    )
    line = "cat /g; for d in a b c d e f; do cat /$d/file; touch /$d/$d 2>/dev/null || echo $d refused; done"
    text = way.text(line, mounts=mounts)
    words = ["host", "host", "host", "b refused", "host", "c refused", "host", "d refused", "host", "host"]
    assert text.splitlines() == words
    assert names(v) == ["a", "e", "f", "file"]
    for key in ("U", "chown", "chown=true"):
        way.give(way.host)
        mount = f"type=bind,src={v},dst=/v,{key}"
        assert way.text("stat -c %u:%g /v /v/file", mounts=(mount,), user="7:8") == "7:8\n7:8\n"


@row("S64")
def test_keys_of_a_tmpfs_mount(way):
    mounts = (
        "type=tmpfs,target=/plain",
        "type=tmpfs,target=/small,tmpfs-size=1m,tmpfs-mode=1700",
        "type=tmpfs,dst=/other,size=65536,mode=0751",
        "type=tmpfs,dst=/ro,readonly",
        "type=tmpfs,dst=/home/bob",
    )
    line = "stat -c '%a %u:%g' /small /other; for d in small other; do head -c 2000000 /dev/zero > /$d/x || echo full"
    line += "; done 2>/dev/null; stat -c %s /small/x /other/x; touch /ro/x || echo refused; touch /plain/x"
    line += "; ls /home/bob; grep -E ' /(plain|small) ' /proc/mounts | grep -c nosuid,nodev"
    with way.nothing_remains():
        text = way.text(line, mounts=mounts)
    assert text.split() == "1700 0:0 751 0:0 full full 1048576 65536 refused 2".split()


@row("S64")
def test_many_at_once(way):
    volumes, mounts, expected = [], [], []
    for number in range(12):
        way.file(f"{number}/file", f"{number}\n")
        option = ("", ":ro", ":O", ":z", ":nosuid,noexec", ":ro,rprivate,nodev")[number % 6]
        volumes.append(f"{way.host}/{number}:/v/{number}{option}")
        mounts.append(f"type=bind,src={way.host}/{number}/file,dst=/f/{number},ro")
        mounts.append(f"type=tmpfs,dst=/t/{number},tmpfs-size=64k")
        expected += [f"{number}"] * 2
    line = "for i in $(seq 0 11); do cat /v/$i/file /f/$i; touch /t/$i/x; done; ls -d /t/*/x | wc -l"
    with way.nothing_remains():
        text = way.text(line, volumes=tuple(volumes), mounts=tuple(mounts))
    assert text.split() == [*expected, "12"]


# Row S54


@row("S54")
@pytest.mark.parametrize("line", ["true", "exit 3"])
def test_places_made_for_volumes_are_gone(way, line):
    """And the directories that they were made in have their times; what was there keeps its content and times."""
    v, file = os.path.dirname(way.file("v/file")), way.file("one")
    os.makedirs(f"{way.rootfs}/there/below")
    for path in ("there/own", "there/below/own", "own"):
        with open(f"{way.rootfs}/{path}", "w", encoding="ascii") as stream:
            stream.write("the image's own\n")
    for top, directories, files in os.walk(way.rootfs):
        for name in (*directories, *files):
            os.utime(f"{top}/{name}", ns=(10**18, 10**18), follow_symlinks=False)
    os.utime(way.rootfs, ns=(10**18, 10**18))
    volumes = [
        f"{v}:/{place}"
        for place in ("there", "there/below", "there/not", "new", "newer/and/deep", "home/bob")
    ]
    volumes += [f"{file}:/{place}" for place in ("own", "etc/one", "other/one")] + [f"{v}:/thrown/away:O"]
    for name in ("below", "not"):
        way.directory(f"v/{name}")  # where other volumes are mounted in this one
    with way.nothing_remains():
        way.run(line, volumes=tuple(volumes), mounts=("type=tmpfs,dst=/t/t", "type=tmpfs,dst=/tmp"))
    assert seen(f"{way.rootfs}/there/own") == "the image's own\n"


# Image volumes, as a frontend asks for them


@row("S63")
def test_image_volumes_are_copies(way):
    """Filled from the image with owners and modes, made where it has none, and gone with the step."""
    os.makedirs(f"{way.rootfs}/srv/sub/closed")
    for path, text, mode in (("srv/sub/file", "kept", 0o4711), ("srv/sub/closed/file", "kept too", 0o600)):
        with open(f"{way.rootfs}/{path}", "w", encoding="ascii") as stream:
            stream.write(text)
        os.chown(f"{way.rootfs}/{path}", 0, 50)
        os.chmod(f"{way.rootfs}/{path}", mode)
    os.mkfifo(f"{way.rootfs}/srv/fifo")
    os.symlink("../srv/sub", f"{way.rootfs}/home/volume")
    os.chown(f"{way.rootfs}/srv", 1000, 50)
    os.chmod(f"{way.rootfs}/srv", 0o3770)
    os.symlink("sub/file", f"{way.rootfs}/srv/link")
    volumes = ("/srv", "made/deep", "/home/volume/closed", "/srv/sub/new", "/home/bob")
    line = "stat -c '%u:%g %a %F' /srv /srv/sub/file /srv/sub/closed/file /srv/fifo /made/deep /srv/sub/new"
    line += "; cat /srv/link; touch /made/deep/x /srv/sub/closed/x /home/volume/new/x; rm /srv/link; chown 7:8 /srv"
    line += "; ls /srv/sub/*/x"
    expected = (
        "1000:50 3770 directory|0:50 4711 regular file|0:50 600 regular file|0:0 644 fifo|0:0 755 directory|"
        "0:0 755 directory|kept/srv/sub/closed/x|/srv/sub/new/x|"
    )
    with way.nothing_remains():
        for _ in range(2):
            assert way.text(line, image=ImageDefaults(volumes=volumes)) == expected.replace("|", "\n")
        line = "touch /home/bob/x; for d in /srv /made/deep; do touch $d/x 2>/dev/null || echo $d; done"
        assert way.text(line, user="bob", image=ImageDefaults(volumes=volumes)) == "/made/deep\n"


@row("S63")
def test_a_volume_of_the_step_comes_first(way):
    v = os.path.dirname(way.file("v/file"))
    image = ImageDefaults(volumes=("/tmp", "/home/bob", "/tmp/below"))
    with open(f"{way.rootfs}/tmp/hidden", "w", encoding="ascii"):
        pass
    line = "ls /tmp /home/bob; touch /tmp/below/x"
    text = way.text(line, volumes=(f"{v}:/tmp",), mounts=("type=tmpfs,dst=/home/bob",), image=image)
    assert text.split() == ["/home/bob:", "/tmp:", "below", "file"]
    assert names(v) == ["below", "file"] and names(f"{v}/below") == []


@row("S63")
def test_a_file_is_no_image_volume(way):
    words = "the image declares the volume '/etc/passwd', but that is not a directory"
    assert way.refused(image=ImageDefaults(volumes=("/etc/passwd",))) == words


# Overlays, and what remains of a step with all kinds of mounts, however it ends


@row("S64", "S65")
def test_an_overlay_takes_what_is_written(way):
    way.file("v/deep/file")
    way.file("v/gone")
    os.symlink("deep/file", f"{way.host}/v/link")
    way.give(way.host)
    line = "cat /v/link; echo step > /v/link; rm /v/gone; chmod 700 /v; mv /v/deep /v/moved; touch /v/new"
    line += "; cat /v/moved/file; ls /v; cp /bin/busybox /a/echo; /a/echo x 2>/dev/null || echo refused"
    line += "; grep -c ' /a .*nosuid' /proc/mounts"
    v = f"{way.host}/v"
    volumes = (f"{v}:/v:O", f"{v}:/a:O,rw,noexec,nosuid,rprivate", f"{v}:/b:ro")
    with way.nothing_remains():
        for _ in range(2):
            text = way.text(line, volumes=volumes)
            assert text.split() == "host step link moved new refused 1".split()


@row("S64")
def test_an_overlay_keeps_what_it_collects(way):
    v = os.path.dirname(way.file("v/file"))
    upper, work = way.directory("upper"), way.directory("work")
    kept = f"{v}:/v:O,upperdir={upper},workdir={work}"
    before = listing(v)
    assert way.text("echo kept > /v/file; touch /v/new; rm -f /x", volumes=(kept,)) == ""
    assert way.text("cat /v/file; ls /v; touch /v/more", volumes=(kept,)).split() == ["kept", "file", "new"]
    assert way.text("cat /v/file; ls /v", volumes=(f"{v}:/v:O",)).split() == ["host", "file"]
    assert names(upper) == ["file", "more", "new"] and seen(f"{upper}/file") == "kept\n"
    assert listing(v) == before
    assert names(way.work) == []


@row("S64")
def test_where_an_overlay_collects_is_checked_before(way):
    v, upper, file = way.directory("v"), way.directory("upper"), way.file("file")
    for option in (f"upperdir={upper},workdir={way.host}/no", f"upperdir={way.host}/no,workdir={upper}"):
        assert (
            way.refused(volumes=(f"{v}:/v:O,{option}",))
            == f"volume source '{way.host}/no' does not exist on this host"
        )
    volume = f"{v}:/v:O,upperdir={file},workdir={upper}"
    assert (
        way.refused(volumes=(volume,))
        == f"volume '{volume}': {file} is not a directory; an overlay needs one"
    )


class Kinds:
    """A step with a mount of every kind that it writes to, and what must be so afterwards."""

    line = "for d in /thrown /kept /image/made /tmpfs /deep/er; do echo step > $d/file; done; echo started; "

    def __init__(self, host, rootfs, give=lambda path: None):
        self.host = host
        for name in ("source", "upper", "work", "plain"):
            os.makedirs(f"{host}/{name}")
            with open(f"{host}/source/own", "w", encoding="ascii") as stream:
                stream.write("host\n")
        give(host)
        os.makedirs(f"{rootfs}/image/there")
        self.fields = {
            "volumes": (
                f"{host}/source:/thrown:O",
                f"{host}/source:/kept:O,upperdir={host}/upper,workdir={host}/work",
                f"{host}/plain:/deep/er",
            ),
            "mounts": ("type=tmpfs,dst=/tmpfs",),
            "image": ImageDefaults(volumes=("/image/there", "/image/made")),
        }
        self.before = listing(f"{host}/source")

    def check(self, started=True):
        """The host's directory is as it was, and what was to be kept is."""
        assert listing(f"{self.host}/source") == self.before
        for name in ("upper", "plain"):
            assert names(f"{self.host}/{name}") == (["file"] if started else [])
            assert not started or seen(f"{self.host}/{name}/file") == "step\n"


@row("S65")
@pytest.mark.parametrize("end", ["true", "exit 3", "sleep NAP & sleep NAP", "/no/such", "mount"])
def test_whatever_becomes_of_the_step(way, end):
    """It succeeds, fails, takes too long, cannot begin for want of its command, or of a place to mount on."""
    kinds = Kinds(way.host, way.rootfs, way.give)
    way._begin()
    mounts, image = host_mounts(way.top), listing(way.rootfs)
    nap = marker()
    if end in ("/no/such", "mount"):
        args = (end, "x") if end == "/no/such" else ("/bin/true", "x")
        fields = dict(kinds.fields)
        if end == "mount":
            fields["volumes"] += (f"{way.host}/source:/etc/passwd",)
        with pytest.raises(HostError):
            way.run(*args, **fields)
    else:
        result = way.run(
            kinds.line + end.replace("NAP", nap), timeout=3 if "NAP" in end else 60, **kinds.fields
        )
        assert way.stdout == "started\n"
        assert (result.timed_out, result.status) == (
            ("NAP" in end),
            {"true": 0, "exit 3": 3}.get(end, result.status),
        )
    kinds.check("/" not in end and end != "mount")
    assert processes(nap) == []
    assert (host_mounts(way.top), listing(way.rootfs), names(way.work)) == (mounts, image, [])


@row("S65", "X82")
@pytest.mark.parametrize("how", ["builder fails", "cancel", "supervisor"])
def test_whoever_ends_the_step(step, tmp_path, how):
    """A program that takes its output and fails, a cancel, the supervisor killed."""
    kinds = Kinds(str(tmp_path / "host"), step.rootfs)
    mounts, image = host_mounts(str(tmp_path)), listing(step.rootfs)
    nap, cancel = marker(), threading.Event()

    def output(stream, data):
        if how == "cancel":
            cancel.set()
        elif how == "supervisor":
            os.kill(step.executor.supervisor._process.pid, signal.SIGKILL)
        else:
            raise ZeroDivisionError

    line = f"{kinds.line} sleep {nap} & sleep {nap}"
    if how == "builder fails":
        with pytest.raises(ZeroDivisionError):
            step.run(line, output=output, **kinds.fields)
    else:
        result = step.run(
            line, output=output, cancel=cancel, timeout=2 if how == "supervisor" else 60, **kinds.fields
        )
        assert result.cancelled or result.timed_out
    kinds.check()
    assert processes(nap) == []
    assert (host_mounts(str(tmp_path)), listing(step.rootfs), os.listdir(step.work_dir)) == (
        mounts,
        image,
        [],
    )


BUILDER = """
import json, sys
from run_step import RunRequest, LocalExecutor
executor = LocalExecutor(work_dir=sys.argv[2])
request = RunRequest.from_json(json.loads(sys.argv[1]))
executor.execute(executor.plan(request), request.rootfs)
"""


@row("S65", "X82")
def test_a_killed_builder_leaves_nothing_mounted(step, tmp_path):
    """Files are left in its work directory, which the next build takes away: see test_build_volumes.py."""
    kinds = Kinds(str(tmp_path / "host"), step.rootfs)
    mounts, nap = host_mounts(str(tmp_path)), marker()
    request = step.request("/bin/sh", "-c", f"{kinds.line} sleep {nap} & sleep {nap}", **kinds.fields)
    command = [sys.executable, "-c", BUILDER, json.dumps(request.to_json()), step.work_dir]
    builder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert builder.stdout.readline() == b"started\n"
    builder.kill()
    builder.wait()
    builder.stdout.close()
    assert until(lambda: not processes(nap)), "the step outlived its builder"
    recover(step.work_dir)
    kinds.check()
    assert host_mounts(str(tmp_path)) == mounts
    shutil.rmtree(step.work_dir)  # nothing in it is held
    os.mkdir(step.work_dir)
