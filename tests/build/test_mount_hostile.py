"""RUN --mount against Dockerfiles, contexts, images, caches and steps that mean harm.

Each attempt is refused with an error that says why, or stays in the step. Whatever it was: what the builder reads of
the host is as before, nothing is mounted, no process and no session is left, and a layer has nothing of the mounts.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import as_user
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mount_builds import CGROUP_2, Place, Way, told
from rows import row

from buildfront.dockerfile import mount_flags as syntax
from buildfront.dockerfile import parse
from buildfront.errors import BuildError
from buildfront.graph import GraphOptions, NamedContext, build_graph, references
from buildfront.graph.run_mounts import resolve
from run_step import Root, remove_tree, wrong_target

WAYS = (
    Way("chroot"),
    Way("oci", "runc"),
    Way("rootless", "runc", user=True),
    Way("rootless", "crun", user=True),
    Way("chroot", user=True),
)
UP = "../../../../../../../../../../.."

ROWS = dict[str, tuple[Any, ...]]


def tree(top: Path) -> ROWS:
    """Everything below a directory, the times of changes included."""
    found: ROWS = {}
    for directory, directories, files in os.walk(top):
        for name in [".", *directories, *files]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content = Path(path).read_bytes() if kind == stat.S_IFREG else b""
            content = os.fsencode(os.readlink(path)) if kind == stat.S_IFLNK else content
            owner = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink)
            found[path] = (status.st_ino, *owner, status.st_mtime_ns, status.st_ctime_ns, content)
    return found


class Ground:
    """A place to build in, and beside it what a step must not reach: open to everybody, so that nothing else than
    where it lies keeps a step from it."""

    def __init__(self, path: Path, way: Way, tar: Path) -> None:
        self.way = way
        self.place = Place(path, way, tar)
        self.victim = self.place.outside / "victim"
        for name in ("empty", "deep/er"):
            (self.victim / name).mkdir(parents=True)
        for name in ("file", "deep/er/file"):
            (self.victim / name).write_text("the host's own\n")
        for item in (self.victim, *self.victim.rglob("*")):
            item.chmod(0o777 if item.is_dir() else 0o666)

    @contextmanager
    def unharmed(self) -> Iterator[None]:
        """What is done meanwhile changes nothing beside the store, and leaves nothing."""
        outside, beside = tree(self.place.outside), sorted(os.listdir(self.place.path))
        yield
        assert tree(self.place.outside) == outside
        assert sorted(os.listdir(self.place.path)) == beside
        assert self.place.left() == []
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        assert [line for line in mounts if str(self.place.path) in line or "/hostile " in line] == []
        assert [path for path, _, _ in os.walk("/sys/fs/cgroup") if path.endswith("/hostile")] == []

    def attempts(
        self, context: Path, targets: list[str], secrets: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Build each of the stages, all by one process; what was said of each, or ``built``."""
        job = {
            "context": str(context),
            "root": str(self.place.store),
            "targets": targets,
            "run": {"isolation": self.way.isolation, "runtime": self.way.runtime},
            "secrets": dict(secrets or {}),
        }
        words = ["env", "-C", "/", f"TMPDIR={self.place.temporary}", sys.executable, "-c", BUILD_EACH]
        if self.way.user:
            words = as_user.words(self.place.path, *words)
        words = [*CGROUP_2, *words] if self.way.runtime == "crun" else words
        done = subprocess.run(
            words,
            input=json.dumps(job),
            env=self.place.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(line) for line in done.stdout.splitlines())


BUILD_EACH = """
import json, sys
from buildfront import BuildError, BuildOptions, build, enter_user_namespace
from run_step import RunRequest, Secret

enter_user_namespace()
job = json.load(sys.stdin)
run = RunRequest(args=("",), rootfs="/", terminal="without", **job["run"])
secrets = {name: Secret(text.encode()) for name, text in job["secrets"].items()}
for target in job["targets"]:
    try:
        build(BuildOptions(job["context"], target=target, run_defaults=run, secrets=secrets, root=job["root"]))
        said = "built"
    except BuildError as error:
        said = error.what
    print(json.dumps([target, said]))
"""


@pytest.fixture(scope="module", params=WAYS, ids=str)
def ground(request: pytest.FixtureRequest, busybox_tar: Path) -> Iterator[Ground]:
    path = Path(tempfile.mkdtemp(prefix="hostile-"))
    path.chmod(0o755)
    found = Ground(path, request.param, busybox_tar)
    yield found
    for process in found.place.started:
        process.kill()
        process.communicate()
    remove_tree(str(path))


# What the text alone says


def graph(dockerfile: str) -> None:
    """Read a Dockerfile as a build does before anything else."""
    options = GraphOptions(contexts={"files": NamedContext("dir", "/somewhere")})
    instructions = parse(dockerfile, "Dockerfile")
    build_graph(instructions, options, {name: {} for name in references(instructions, options)})


LONG = "9" * 5000
REFUSED_TEXTS = {
    "target=/": "the root directory",
    "target=//": "the root directory",
    "target=/./": "the root directory",
    "target=..": "the root directory",
    "target=../../..": "the root directory",
    "target=/a/..": "the root directory",
    "type=cache,target=/a/../../b/..": "the root directory",
    "type=tmpfs,target=${NOTHING:-/}": "the root directory",
    "type=secret,id=x,target=..": "the root directory",
    "type=ssh,target=/": "the root directory",
    "target=/proc": "in /proc",
    "target=//proc//": "in /proc",
    "type=tmpfs,target=/x/../proc/sys": "in /proc",
    "type=cache,target=../proc/self/fd": "in /proc",
    "type=secret,id=x,target=/proc/1/environ": "in /proc",
    "type=ssh,target=/proc/self/root/x": "in /proc",
    "target=$PROC/sysrq-trigger": "in /proc",
    "type=tmpfs,target=/sys": "in /sys",
    "type=tmpfs,target=/sys/fs/cgroup/hostile": "in /sys",
    "type=cache,target=/sys/kernel": "in /sys",
    "type=cache,target=/dev": "own /dev",
    "type=tmpfs,target=/dev/.": "own /dev",
    "target=/dev/null": "own /dev",
    "target=/dev/fd": "own /dev",
    "type=cache,target=/dev/stdin/x": "own /dev",
    "type=tmpfs,target=/x\0y": "null byte",
    "target=/x,source=/a\0b": "null byte",
    "type=cache,target=/x,id=a\0b": "null byte",
    "target=/x,from=last": "comes later",
    "target=/x,from=this": "in a circle",
    "target=/x,from=1": "in a circle",
    f"target=/x,from={LONG}": "no stage of that number",
    "target=/x,from=../../etc": "invalid image reference",
    "target=/x,from=/etc": "invalid image reference",
    "target=/x,from=$PROC": "takes no variable",
    f"type=cache,target=/x,uid={LONG}": "a number is wanted",
    "type=cache,target=/x,gid=4294967295": "a number is wanted",
    "type=secret,id=x,mode=77777": "an octal mode",
    "type=npipe,target=/x": "unknown type",
    "type=bind,target=/x,propagation=shared": "unknown key",
}


@pytest.mark.parametrize(("text", "what"), REFUSED_TEXTS.items(), ids=range(len(REFUSED_TEXTS)))
def test_what_the_text_alone_says_is_refused_before_anything_runs(text: str, what: str) -> None:
    head = "FROM box AS first\nFROM box AS this\nENV PROC=/proc\nWORKDIR /work\n"
    with pytest.raises(BuildError) as caught:
        graph(f"{head}RUN --mount={text} true\nFROM this AS last\n")
    assert what in caught.value.what + (caught.value.hint or "")


KEYS = (
    "type",
    "target",
    "dst",
    "source",
    "src",
    "from",
    "id",
    "sharing",
    "readonly",
    "rw",
    "required",
    "mode",
)
KEY = st.sampled_from((*KEYS, "uid", "gid", "size", "env", "relabel", "z"))
PART = st.sampled_from(("..", ".", "", "proc", "sys", "dev", "null", "x", "$A", "${A:-/}", "\\", '"', "fd"))
PATH = st.lists(PART, max_size=6).map("/".join)
KIND = st.sampled_from(tuple(syntax.KEYS))
VALUE = st.one_of(PATH, st.text(max_size=8), st.integers(-5, 1 << 70).map(str), KIND)
FLAG = st.lists(st.tuples(KEY, st.sampled_from(("=", "")), VALUE).map("".join), max_size=6).map(",".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(FLAG, st.text(max_size=40)), PATH)
def test_no_text_does_more_than_raise_a_BuildError(text: str, cwd: str) -> None:
    try:
        mount = resolve(syntax.parse(text), lambda value: value.replace("$A", "/proc"), "/" + cwd)
    except BuildError as error:
        assert error.what
        return
    if mount.target:
        assert wrong_target(mount.target) == ""
        assert os.path.normpath(mount.target) == mount.target
        assert mount.target.startswith("/") and not mount.target.startswith("//") and mount.target != "/"
        assert mount.target.split("/")[1] not in ("proc", "sys", "..")
        assert "\0" not in mount.target
    assert mount.source.startswith("/") and ".." not in mount.source.split("/")
    assert mount.uid is None or 0 <= mount.uid < (1 << 32) - 1


@settings(max_examples=150, deadline=None)
@given(st.one_of(FLAG, st.text(max_size=40)))
def test_no_Dockerfile_with_such_a_text_does_more_either(text: str) -> None:
    assume("\n" not in text and "<<" not in text)
    try:
        graph(f"FROM box\nENV A=..\nRUN --mount={text} true\n")
    except BuildError as error:
        assert error.what


# What only the context, a stage or a cache says


LINKS = """\
FROM box AS links
RUN ln -s / /to-root; ln -s {up} /to-up; ln -s /proc /to-proc; ln -s /proc/sys /to-sys; ln -s /sys/fs/cgroup /to-group
RUN ln -s /dev /to-dev; ln -s /dev/null /to-null; ln -s loop /loop; ln -s b /a; ln -s a /b; ln -s /c /z
RUN ln -s to-root /two && mkdir -p /c /src/empty && cd /src && ln -s {victim} victim && ln -s {up}{victim} up && \\
    ln -s /proc/self/root{victim} self && ln -s /proc/1/root{victim} one && ln -s /proc/self/fd/0 fd && \\
    ln -s self-loop self-loop && ln -s /proc/self/exe exe && ln -s /c out && ln -s /proc/sys kernel && ln -s / top
"""

SRC, EMPTY = "target=/m,from=links,source=/src", "target=/c,from=links,source=/src/empty"

REFUSED = {
    # a target through links of the image
    "type=cache,target=/to-root": "/to-root leads to / by links: the target is the root directory",
    "type=tmpfs,target=/to-up": "/to-up leads to / by links: the target is the root directory",
    "type=secret,id=token,target=/to-root": "/to-root leads to / by links: the target is the root directory",
    "target=/two,from=links,source=/src": "/two leads to / by links: the target is the root directory",
    "type=tmpfs,target=/to-root/proc": "/to-root/proc leads to /proc by links: .* in /proc",
    "type=cache,target=/to-proc": "/to-proc leads to /proc by links: .* in /proc",
    "type=cache,target=/to-proc/self/fd": "/to-proc/self/fd leads to /proc/self/fd by links",
    "type=tmpfs,target=/to-sys/kernel": "/to-sys/kernel leads to /proc/sys/kernel by links",
    "type=tmpfs,target=/to-group/hostile": "/to-group/hostile leads to /sys/fs/cgroup/hostile by links",
    "type=cache,target=/to-dev": "/to-dev leads to /dev by links: .* own /dev",
    "type=secret,id=token,target=/to-null": "/to-null leads to /dev/null by links: .* own /dev",
    "type=cache,target=/loop": "/loop can't be mounted on: Too many levels of symbolic links",
    "type=tmpfs,target=/a/x": "/a/x can't be mounted on: Too many levels of symbolic links",
    "type=tmpfs,target=/etc/passwd/x": "/etc/passwd/x can't be mounted on: Not a directory",
    "type=tmpfs,target=/etc/passwd": "is a file in the image",
    "type=cache,target=/etc/passwd": "/etc/passwd is a file in the image",
    "type=cache,target=/run/.containerenv/x": "(?i)not a directory",
    f"type=cache,target=/{'x' * 300}": "File name too long",
    f"type=cache,target={'/x' * 2500}": "File name too long",
    "type=secret,id=..": "the secret '..' has no name for a file",
    "type=secret,id=a/": "the secret 'a/' has no name for a file",
    # a target through links of another mount
    f"{EMPTY} --mount=type=tmpfs,target=/z/x": "/z/x is to be mounted in /c, which is a read",
    f"{SRC} --mount=type=tmpfs,target=/m/top": "/m/top leads to / by links",
    f"{SRC} --mount=type=tmpfs,target=/m/kernel/vm": "/m/kernel/vm leads to /proc/sys/vm by links",
    f"{SRC} --mount=type=tmpfs,target=/m/self-loop": "/m/self-loop can't be mounted on",
    f"{SRC} --mount=type=tmpfs,target=/m/new": "/m/new is to be mounted in /m, which is a read",
    f"{EMPTY} --mount={SRC} --mount=type=tmpfs,target=/m/out/x": (
        "/m/out/x is to be mounted in /c, which is a read"
    ),
    # a source through links of a stage
    f"{SRC}/victim": "is not in the stage|No such file",
    f"{SRC}/victim/file": "is not in the stage|No such file",
    f"{SRC}/up": "is not in the stage|No such file",
    f"{SRC}/self": "is not in the stage|No such file",
    f"{SRC}/one": "is not in the stage|No such file",
    f"{SRC}/fd": "is not in the stage|No such file",
    f"{SRC}/exe": "is not in the stage|No such file",
    f"{SRC}/self-loop": "is not in the stage|Too many levels",
    "target=/m,from=links,source={up}{victim}": "is not in the stage|No such file",
    "type=cache,target=/m,from=links,source=/src/victim": "is not in the stage|No such file",
    "type=cache,target=/m,from=links,source=/etc/passwd": "is not a directory",
    # a source in the context
    "target=/m,source={up}{victim}": "is not in the build context",
    "target=/m,source=absolute": "is not in the build context",
    "target=/m,source=absolute/file": "is not in the build context",
    "target=/m,source=up": "is not in the build context",
    "target=/m,source=chain": "is not in the build context",
    "target=/m,source=loop": "is not in the build context",
    "target=/m,source=magic": "is not in the build context",
    "target=/m,source=ignored": "dockerignore leaves it out",
    "target=/m,source=x/../ignored": "dockerignore leaves it out",
    "target=/m,source=link-ignored": "dockerignore leaves it out",
    "target=/m,source=private/key": "dockerignore leaves it out",
    "target=/m,source=link-private": "dockerignore leaves it out",
    "target=/m,source=link-private/key": "dockerignore leaves it out",
    "target=/m,source=deep/up/private/key": "dockerignore leaves it out",
    # images
    "target=/m,from=localhost:1/nothing": "can't be reached",
}
"""The text of a flag, and what is said of it."""


def hostile_context(ground: Ground, dockerfile: str) -> Path:
    """With links, things that are no files, what is ignored and ways to it."""
    place, victim = ground.place, ground.victim
    path = place.context(
        dockerfile, file="of the context\n", ignored="TOP\n", **{".dockerignore": "ignored\nprivate\n"}
    )
    links = {
        "absolute": str(victim),
        "up": UP + str(victim),
        "chain": "chain-2",
        "chain-2": "absolute/deep",
        "loop": "loop",
        "magic": f"/proc/self/root{victim}",
        "link-ignored": "ignored",
        "link-private": "private",
        "etc": "/etc",
        "top": UP,
    }
    for name, target in links.items():
        (path / name).symlink_to(target)
    for name in ("private", "deep"):
        (path / name).mkdir()
    (path / "private/key").write_text("TOP\n")
    (path / "deep/up").symlink_to("..")
    os.link(ground.victim / "file", path / "hard")
    os.mkfifo(path / "fifo")
    os.mknod(path / "memory", stat.S_IFCHR | 0o666, os.makedev(1, 1))
    os.mknod(path / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 0))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path / "socket"))
    for name in ("fifo", "memory", "disk", "socket"):
        (path / name).chmod(0o666)
    return path


def test_what_the_files_say_is_refused(ground: Ground) -> None:
    values = {"up": UP, "victim": str(ground.victim)}
    stages = {
        f"t{number}": (text.format_map(values), what) for number, (text, what) in enumerate(REFUSED.items())
    }
    dockerfile = LINKS.format_map(values)
    for name, (text, _) in stages.items():
        dockerfile += f"FROM links AS {name}\nRUN --mount={text} echo ran > /ran\n"
    context = hostile_context(ground, dockerfile)
    secrets = {"token": "top", "..": "top", "a/": "top"}
    with ground.unharmed():
        said = ground.attempts(context, list(stages), secrets)
    wrong = {text: said[name] for name, (text, what) in stages.items() if not re.search(what, said[name])}
    assert wrong == {}


# What is not refused, and stays in the step


ATTACK = r"""#!/bin/sh
# Change the directory $1, which has a file, dir/inner and dir/empty, in every way; say what works.
d=$1
t() { name=$1; shift; if (eval "$@") >/dev/null 2>&1; then echo "$name"; fi; }
t create "echo x > $d/new"
t overwrite "echo x > $d/file"
t append "echo x >> $d/file"
t open "true 3<> $d/file"
t truncate "busybox truncate -s 1 $d/file"
t descriptor "exec 3< $d/file; echo x > /proc/self/fd/3"
t other-root "echo x > /proc/self/root$d/file"
t other-way "cd $d/dir && echo x > ../file"
t in-place "busybox dd if=/dev/zero of=$d/file bs=1 count=1 conv=notrunc"
t mode "chmod 777 $d/file"
t owner "busybox chown 0:0 $d/file"
t times "touch -c -d @1 $d/file"
t hard-link "ln $d/file $d/linked"
t link "ln -s x $d/symlink"
t fifo "busybox mkfifo $d/fifo"
t mkdir "mkdir $d/made"
t rename "busybox mv $d/file $d/renamed && busybox mv $d/renamed $d/file"
t remove "rm $d/dir/inner"
t rmdir "rmdir $d/dir/empty"
t out "ln $d/file /out-of-it"
t away "busybox mv $d $d.moved"
"""
WAYS_TO_CHANGE = re.findall(r"(?m)^t ([\w-]+)", ATTACK)
"""What works in a directory of the step's own: all of it."""

UNMOUNT = r"""#!/bin/sh
# Change what is mounted at $1 in every way; say what works.
d=$1
t() { if (eval "$@") >/dev/null 2>&1; then echo "$*"; fi; }
t busybox mount -o remount,rw $d
t busybox mount -o remount,bind,rw $d
t busybox mount -o bind /etc $d
t busybox mount -t tmpfs none $d
t busybox mount -o move $d /tmp
t busybox umount $d
t busybox umount -l $d
t busybox umount -f $d
t busybox unshare -m true
t busybox unshare -r -m busybox umount $d
t busybox nsenter -t 1 -m true
t busybox pivot_root / $d
t rmdir $d
"""

CONFINED = """\
FROM box AS kit
COPY --chmod=755 attack unmount /bin/
RUN ln -s {victim} /to-host; ln -s {up}{victim} /to-host-too; mkdir -p /own/dir/empty && touch /own/file /own/dir/inner
RUN busybox cp -a /own /seed && echo seed > /seed/file && ln -s /etc /seed/etc && ln -s {victim} /seed/victim && \
    ln -s {victim}/file /seed/leaf && ln -s {up} /seed/up
FROM kit
"""
CACHE, KIT, CONTEXT = "type=cache,target=/m", "target=/m,from=kit", "target=/m"
TOKEN = "type=secret,id=token"
SEEDED = "dir etc file leaf up victim".split()
FIRST = "root:x:0:0::/root:/bin/sh"
OURS = "the host's own"

STEPS: list[tuple[str, str, list[str]]] = [
    ("type=tmpfs,target=/unused", "attack /own", WAYS_TO_CHANGE),
    # links of a context and of a stage begin at the step's root; what is no file is of no use
    (CONTEXT, "head -n 1 /m/etc/passwd; head -n 1 /m/top/etc/passwd", [FIRST, FIRST]),
    (CONTEXT, "cat /m/absolute/file /m/up/file /m/magic/file /m/chain/er/file", []),
    (CONTEXT, "head -c 1 /m/memory; head -c 1 /m/disk; stat -c %F /m/fifo", ["fifo"]),
    (CONTEXT, "ls /m/socket /m/ignored /m/private; cat /m/link-ignored /m/link-private/key", []),
    (f"{CONTEXT},source=fifo", "stat -c %F /m", ["fifo"]),
    (f"{CONTEXT},source=x/{{up}}/deep/../file", "cat /m", ["of the context"]),
    (f"{CONTEXT},source=hard,rw", "cat /m; echo x > /m; cat /m", [OURS, "x"]),
    (f"{CONTEXT},rw", "echo x > /m/hard; echo x > /m/file; rm -rf /m/deep; chmod 7 /m; cat /m/file", ["x"]),
    (CONTEXT, "cat /m/file /m/hard; attack /m", ["of the context", OURS]),
    (f"{KIT},source=/seed/etc/passwd", "head -n 1 /m", [FIRST]),
    (f"{KIT},source=/seed/up/seed/file", "cat /m", ["seed"]),
    (f"{KIT},source=/seed", "cat /m/victim/file /m/leaf; head -n 1 /m/etc/group", ["root:x:0:"]),
    # nothing changes a mount that can only be read; what changes another is gone afterwards
    (f"{KIT},source=/seed", "attack /m; unmount /m", []),
    (f"{CACHE},id=seeded,from=kit,source=/seed,ro", "attack /m; unmount /m", []),
    ("type=tmpfs,target=/m,ro", "unmount /m; echo x > /m/x; ls /m", []),
    (f"{TOKEN},mode=0777,target=/m/file", "unmount /m/file; attack /m | grep -E '^(o|ap|tr|in|mo|re)'", []),
    (f"{KIT},source=/seed,rw", "attack /m; rm -rf /m/*; unmount /m", WAYS_TO_CHANGE[:-2]),
    (f"{KIT},source=/seed", "ls -A /m; cat /m/file; stat -c %a /m/file", [*SEEDED, "seed", "644"]),
    # targets through links to places of the host
    ("type=cache,id=host,target=/to-host", "echo x > /to-host/made; ls {victim}", ["made"]),
    ("type=tmpfs,target=/to-host-too/in", "echo x > /to-host-too/in/made; ls {victim}/in", ["made"]),
    (f"{TOKEN},target=/to-host/token", "cat {victim}/token | wc -c", ["5"]),
    ("type=ssh,target=/to-host/deep/agent", "stat -c %F $SSH_AUTH_SOCK {victim}/deep/agent", ["socket"] * 2),
    ("target=/to-host/file,source=file", "cat {victim}/file; echo x > {victim}/file", ["of the context"]),
    # what a step has anyway
    ("target=/etc/resolv.conf,source=file", "cat /etc/resolv.conf; attack /etc/resolv.conf", ["of the context"]),
    ("target=/run/.containerenv,source=file", "cat /run/.containerenv", ["of the context"]),
    ("type=cache,id=etc,target=/etc", "ls /etc | grep -v hostname", ["hosts", "resolv.conf"]),
    ("type=cache,id=run,target=/run", "ls -A /run", [".containerenv"]),
    ("type=cache,id=dev,target=/dev/hostile", "touch /dev/hostile/x; ls /dev/hostile", ["x"]),
    ("type=tmpfs,target=/dev/shm/x", "touch /dev/shm/x/y; ls /dev/shm", ["x"]),
    # names that try to be paths
    ("type=secret,id=../../x --mount=type=secret,id=/etc/y", "ls /run/secrets", ["x", "y"]),
    (f"{TOKEN},target={{up}}/etc/../of-a-mount", "ls /of-a-mount", ["/of-a-mount"]),
    (f"{CACHE},id=../../../victim", "ls /m; echo x > /m/x", []),
    (f"{CACHE},id=/", "ls /m; echo x > /m/x", []),
    (f"{CACHE},id=..", "ls /m; echo x > /m/x", []),
    (f"{CACHE},id=-rf\x1b[2J\u202e", "ls /m; echo x > /m/x", []),
    (f"{CACHE},id={'x' * 5000}", "ls /m; echo x > /m/x", []),
    # the surroundings of a mount point, replaced while it is mounted, and processes that stay in it
    (
        "type=cache,id=held,target=/p/q/c",
        "busybox mv /p/q /p/moved; mkdir -p {victim}; ln -s {victim} /p/q; echo x > /p/moved/c/x; rm -rf /p/moved",
        [],
    ),
    (
        "type=cache,id=held,target=/p2/c",
        "ls /p2/c; echo x > /p2/c/again; rmdir /p2/c; busybox mv /p2/c /p2/d; rm -rf /p2; ls /p2",
        ["c"],
    ),
    (
        f"type=cache,id=held,target=/p3/c --mount={TOKEN},target=/p3/token",
        "(cd /p3/c; exec busybox setsid sleep {nap} > /p3/c/out 2>&1 < /p3/token) & sleep 0.2; ls /p3/c",
        ["out"],
    ),
]  # fmt: skip
"""The flag of a RUN, its command, and what it prints."""


@contextmanager
def agent(ground: Ground) -> Iterator[Path]:
    """A socket that somebody listens on."""
    path = ground.place.outside / f"agent-{ground.place.count}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        path.chmod(0o666)
        yield path


MADE = {0, 16, len(STEPS) - 3}
"""The steps that make something of their own, by their numbers."""


@row("X68")
def test_what_is_not_refused_stays_in_the_step(ground: Ground) -> None:
    place, nap = ground.place, str(70_000 + os.getpid() % 20_000)
    values = {"up": UP, "victim": str(ground.victim), "nap": nap}
    lines = [
        f"RUN --mount={flag} ( {command} ) 2>/dev/null; true".format_map(values) for flag, command, _ in STEPS
    ]
    context = hostile_context(ground, CONFINED.format_map(values) + "\n".join(lines) + "\n")
    for name, text in (("attack", ATTACK), ("unmount", UNMOUNT)):
        (context / name).write_text(text)
    (place.outside / "token").write_text("token")
    flags = [f"--secret=id={name},src={place.outside}/token" for name in ("token", "../../x", "/etc/y")]
    with agent(ground) as listening, ground.unharmed():
        printed = place.printed(*flags, "--ssh", f"default={listening}", context)
        layers = place.layers(*flags, "--ssh", f"default={listening}", context)
    wanted = {line: lines_of_it for line, (_, _, lines_of_it) in zip(lines, STEPS, strict=True)}
    assert {line: printed[line] for line in lines} == wanted
    assert told([f"sleep\0{nap}".encode()]) == []
    made = dict(enumerate(layers[-len(STEPS) :]))
    assert {number for number, names in made.items() if names} == MADE
    assert {name for name in made[max(MADE)] if not name.startswith("tmp")} == {
        "p",
        "p/moved",
        "p/moved/c",
        "p/q",
    }
    assert {path.name for path in place.cache("held").iterdir()} == {"out"}


MAY_MOUNT = """\
FROM box
RUN --mount=type=cache,id=own,target=/c --mount=type=tmpfs,target=/c/t --mount=target=/m --mount=type=tmpfs,target=/t \
    busybox umount /c/t && busybox mount -o bind /etc /c/t && busybox mount -t tmpfs none /t && touch /t/x && \
    busybox mount -o move /t /m && busybox umount -l /c && touch /c/under && mkdir /c/t && \
    busybox mount -o bind / /c/t && ls /c/t/m && (busybox setsid sleep {nap} > /m/x 2>&1 &)
"""


@pytest.mark.parametrize("ground", WAYS[:2], indirect=True, ids=str)
def test_a_step_that_may_mount_leaves_nothing_mounted(ground: Ground) -> None:
    place, nap = ground.place, str(70_000 + os.getpid() % 20_000)
    context = place.context(MAY_MOUNT.format(nap=nap))
    flags = ["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"]
    with ground.unharmed():
        assert list(place.printed(*flags, context).values())[-1] == []
        assert place.layers(*flags, context)[-1] == ["c", "c/t", "c/under"]
    assert told([f"sleep\0{nap}".encode()]) == []
    assert [path.name for path in place.cache("own").iterdir()] == ["t"]


# A cache that another build has filled


POISON = """\
FROM box
RUN --mount=type=cache,id=poison,target=/c cd /c && \
    for name in link data lock cache.json 0 .. -rf; do ln -s {victim} $name; done; \
    ln -s {up}{victim} up; ln -s {victim}/file leaf; ln -s / top; ln -s /proc/sys kernel; ln -s loop loop; \
    busybox mkfifo fifo; busybox mknod null c 1 3; busybox mknod memory c 1 1; busybox mknod disk b 7 0; \
    busybox mknod whiteout c 0 0; touch .wh.link .wh..wh..opq; busybox truncate -s 1000000000000 sparse; \
    cp /bin/busybox busybox; busybox chown 0:0 busybox; chmod 6755 busybox; \
    mkdir closed; touch closed/file; chmod 0 closed; \
    touch "$(printf 'new\\nline')" "$(printf 'escape\\033[2J')" "$(printf 'no text \\377')" "{long}"; \
    for i in $(seq 20); do ln busybox linked$i; done; \
    p=d; for i in $(seq 99); do p=$p/d; done; for i in $(seq 20); do mkdir -p $p && cd $p; done; chmod 0 /c; true
"""

LATER = """\
FROM box AS evil
RUN mkdir -p /e && ln -s {victim} /e/link && ln -s /dev/null /e/sink && ln -s {up}{victim}/in /e/up
FROM box
RUN ln -s /c/link /into-cache
RUN --mount=type=cache,id=poison,target=/c ( cat /c/link/file /c/leaf /c/lock || echo nothing; ls /c/0/; \
    head -c 1 /c/memory || head -c 1 /c/disk || echo closed; /c/busybox id -u ) 2>/dev/null
RUN --mount=type=cache,id=poison,target=/c --mount=type=tmpfs,target=/c/link/x touch /c/link/x/made; ls {victim}/x
RUN --mount=type=cache,id=poison,target=/c --mount=target=/c/up/deep/x,source=Dockerfile wc -l < {victim}/deep/x
RUN --mount=type=cache,id=poison,target=/c --mount=type=cache,id=other,target=/c/data/in touch {victim}/in/made
RUN --mount=type=cache,id=poison,target=/c --mount=type=secret,id=token,target=/c/leaf cat {victim}/file; echo
RUN --mount=type=cache,id=poison,target=/c,sharing=locked --mount=type=tmpfs,target=/into-cache/y \
    touch {victim}/y/made; ls {victim}
RUN --mount=type=cache,id=poison,target=/c --mount=type=ssh,target=/c/0/agent stat -c %F {victim}/agent
RUN --mount=type=cache,id=poison,target=/c --mount=target=/c/new,from=evil,source=/e,rw \
    --mount=type=tmpfs,target=/c/new/up/z touch /c/new/up/z/made; \
    ls {victim} {victim}/in; cat /c/new/link/file 2>/dev/null || true
RUN --mount=type=cache,id=empty,target=/c busybox mkdir /c/a && ln -s {victim} /c/a/b
RUN --mount=type=cache,id=empty,target=/c --mount=type=cache,id=poison,target=/c/a/b/c ls {victim}; ls /c/a
RUN ls {victim} 2>/dev/null || echo gone
"""
PRINTED = [
    ["nothing", "closed", "0"],
    ["made"],
    ["LINES"],
    [],
    ["***"],
    ["y"],
    ["socket"],
    ["{victim}:", "in", "", "{victim}/in:", "z"],
    [],
    ["c", "b"],
    ["gone"],
]
POISONED = (
    "target=/c/top",
    "target=/c/top/proc/x",
    "target=/c/kernel/vm",
    "target=/c/loop",
    "target=/c/fifo/x",
)


def test_a_poisoned_cache_leads_nowhere(ground: Ground) -> None:
    """The next build uses it, its names are listed, and it can be removed, which is all a user of the host does."""
    place, victim = ground.place, str(ground.victim)
    values = {"up": UP, "victim": victim, "long": "x" * 255}
    poison, later = place.context(POISON.format_map(values)), place.context(LATER.format_map(values))
    targets = "FROM box AS t{0}\nRUN --mount=type=cache,id=poison,target=/c --mount=type=tmpfs,{1} true\n"
    refused = place.context("".join(targets.format(number, text) for number, text in enumerate(POISONED)))
    (place.outside / "token").write_text("token")
    with agent(ground) as listening, ground.unharmed():
        flags = [f"--secret=id=token,src={place.outside}/token", f"--ssh=default={listening}"]
        place.printed(poison)
        printed = place.printed(*flags, later)
        layers = place.layers(*flags, later)
        said = ground.attempts(refused, [f"t{number}" for number in range(len(POISONED))])
        found = json.loads(place.run("info", "--format", "json").stdout)["cache_mounts"]
        sizes = {item["id"]: item["size"] for item in found}
        assert (
            1 << 20 < sizes["poison"] < 1 << 26
        )  # the sparse file is not what it says, the links count once
        assert "\x1b" not in place.run("info").stdout
        removed = json.loads(place.run("prune", "-f", "--format", "json").stdout)
        assert {item["id"] for item in removed} >= {"poison", "other", "empty"}
        assert place.caches("poison") == []
        assert list((place.store / "caches").glob("*/*/")) == []
    lines = len((later / "Dockerfile").read_text().splitlines())
    wanted = [[line.format_map(values).replace("LINES", f"{lines}") for line in text] for text in PRINTED]
    assert [
        text for title, text in printed.items() if title.startswith("RUN --mount") or "gone" in title
    ] == wanted
    assert [names for names in layers[1:] if names] == [["into-cache"]]
    assert "built" not in said.values()
    assert ["leads to /" in said["t0"], "/proc" in said["t1"], "/proc/sys" in said["t2"]] == [True] * 3
    assert "Too many levels" in said["t3"] and "Not a directory" in said["t4"]


SWAP = """\
FROM box
RUN --mount=type=cache,id=swapped,target=/c ( mkdir -p /c/d; touch /c/ready; while [ ! -e /c/enough ]; do \
    busybox mv -T /c/d /c/e; ln -s {victim} /c/d; rm -rf /c/d; busybox mv -T /c/e /c/d; done ) 2>/dev/null
"""

BELOW = """\
FROM box AS links
RUN ln -s /c /z && mkdir /e && ln -s /c /e/link
FROM box AS direct
RUN --mount=type=cache,id=swapped,target=/c --mount=type=tmpfs,target=/c/d/x/y true
FROM links AS alias
RUN --mount=type=cache,id=swapped,target=/c --mount=type=tmpfs,target=/z/d/x/y true
FROM links AS other
RUN --mount=type=cache,id=swapped,target=/c --mount=target=/m,from=links,source=/e \
    --mount=type=tmpfs,target=/m/link/d/x/y true
FROM links AS beside
RUN --mount=type=cache,id=swapped,target=/c --mount=type=tmpfs,target=/cd/x/y touch /c/beside
"""


@pytest.mark.parametrize("ground", WAYS[:2], indirect=True, ids=str)
def test_nothing_is_mounted_in_a_cache_that_changes_meanwhile(ground: Ground) -> None:
    """A step swaps a directory of a shared cache for a link, over and over. An OCI runtime that makes the place of a
    mount below it may be led to the host at the right moment (CVE-2024-45310): so there is no such moment."""
    place = ground.place
    swap, below = place.context(SWAP.format(victim=ground.victim)), place.context(BELOW)
    with ground.unharmed():
        swapping = place.start(*place.building(swap))
        directory = place.wait_file(swapping, "swapped", "ready").parent
        waiting = place.start(*place.building("--target", "direct", below))
        said = ground.attempts(below, ["alias", "other", "beside"])
        time.sleep(0.3)
        assert (waiting.poll(), swapping.poll()) == (None, None)
        (directory / "enough").touch()
        assert (waiting.wait(60), swapping.wait(60)) == (0, 0)
    assert said["beside"] == "built"
    for name, path in (("alias", "/z/d/x/y"), ("other", "/m/link/d/x/y")):
        assert f"{path} is to be mounted in /c, a cache that other steps may change" in said[name]


@pytest.mark.parametrize("depth", [10, 70, 1500])
def test_a_tree_is_removed_however_deep_it_is(tmp_path: Path, depth: int) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        for name in ("a", "b"):
            os.mkdir(name, dir_fd=fd)
        os.symlink(tmp_path / "kept", "link", dir_fd=fd)
        inner = os.open("a", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    remove_tree(str(top))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept/file").exists()
    remove_tree(str(top))  # nothing there is nothing to do


def test_a_null_byte_in_a_path_leads_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with Root(str(tmp_path)) as root:
        assert root.stat("a\0b") is None
