"""Row X82: a build that is ended at fifty random moments leaves nothing, and the next one succeeds."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import as_user
import pytest
from program import BUILDFRONT
from rows import row
from test_build_failures import processes, until

SKINS = ("oci", "chroot", "rootless", "chroot as a user", "chroot in a container")
ENDS = ("INT", "TERM", "KILL", "timeout")
CASES = [(SKINS[number % 5], ENDS[number % 4], number) for number in range(50)]
"""Five times four has no common factor: each way to end meets each way to run, two or three times."""

UNTOLD = re.compile(f'File "{re.escape(as_user.PROJECT)}/buildfront/[^"]*", line [0-9]+, in (?!<module>)')
"""A traceback through a function of ours. One of Python's own start, or of what enters the container, is not."""

DOCKERFILE = """\
FROM box AS one
RUN (setsid sleep NAP &) ; sleep 0.15; echo one > /one
COPY file /file
RUN sleep NAP & sleep 0.15; echo two > /two
FROM box AS two
RUN sleep 0.2; mkdir /made
FROM one
COPY --from=two /made /made
RUN cat /one /two /file; sleep 0.1
"""


class Place:
    """A store, a context and a way to run the program, for one isolation."""

    def __init__(self, path: str, skin: str, tar: Path, nap: str) -> None:
        self.path = path
        self.isolation = skin.split(maxsplit=1)[0]
        self.store = f"{path}/store"
        self.context = Path(path) / "context"
        self.context.mkdir()
        (self.context / "Dockerfile").write_text(DOCKERFILE.replace("NAP", nap))
        (self.context / "file").write_text("three\n")
        self.temporary = f"{path}/tmp"
        os.mkdir(self.temporary)
        self.parent = f"/buildfront-test-{os.path.basename(path)}"
        self.prefix: list[str] = []
        if "container" in skin:
            self.prefix = [sys.executable, os.path.join(as_user.PROJECT, "tests", "as_container.py")]
        elif skin != "oci" and skin != "chroot":
            as_user.make_home(path)
            as_user.make_home(self.temporary)
            self.prefix = as_user.words(path)
        self.limits = skin in ("oci", "chroot")
        shutil.copy(tar, f"{path}/box.tar")
        os.chmod(f"{path}/box.tar", 0o644)
        self.run("import", f"{path}/box.tar", "-t", "box")

    def words(self, *args: str) -> list[str]:
        return [*self.prefix, "env", f"TMPDIR={self.temporary}", BUILDFRONT, "--root", self.store, *args]

    def run(self, *args: str) -> None:
        done = subprocess.run(self.words(*args), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def build(self, *more: str) -> list[str]:
        parent = ["--cgroup-parent", self.parent] if self.limits else []
        return [
            "build",
            "--progress",
            "plain",
            "--isolation",
            self.isolation,
            *parent,
            *more,
            str(self.context),
        ]

    def groups(self) -> list[str]:
        name = self.parent.strip("/")
        return [top for top, names, _ in os.walk("/sys/fs/cgroup") if os.path.basename(top) == name]

    def left(self) -> list[str]:
        return [*os.listdir(f"{self.store}/tmp"), *os.listdir(self.temporary)]


@pytest.fixture
def place_for(busybox_tar):
    made = []

    def make(skin: str, nap: str) -> Place:
        path = tempfile.mkdtemp(prefix="cancel-")
        os.chmod(path, 0o755)
        made.append(path)
        return Place(path, skin, busybox_tar, nap)

    yield make
    for path in made:
        shutil.rmtree(path)


@row("X82")
@pytest.mark.slow
@pytest.mark.parametrize(("skin", "end", "number"), CASES)
def test_an_end_at_a_random_moment_leaves_nothing(place_for, skin, end, number) -> None:
    chance = random.Random(number)
    nap = f"{700_000 + number}.{os.getpid()}"
    place = place_for(skin, nap)
    moment = chance.uniform(0.0, 1.2)
    if end == "timeout":
        command = place.words(*place.build("--timeout", f"{chance.uniform(0.001, 0.25):.3f}"))
    else:
        command = place.words(*place.build())
    builder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if end != "timeout":
        try:
            builder.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            builder.send_signal(getattr(signal, f"SIG{end}"))
    _, err = builder.communicate(timeout=60)
    assert not UNTOLD.search(err), err
    until(lambda: processes(nap) == [], "processes of a step are left")
    if end != "KILL":
        # Of a signal itself it dies only while Python starts, before anything of ours is there. Python shows a
        # traceback of its own then, and lets the signal kill it.
        began = (0, 130, 143, 124, 137, 1)
        starting = builder.returncode < 0 and (not err or err.endswith("KeyboardInterrupt\n"))
        assert builder.returncode in began or starting, (builder.returncode, err)
        assert place.left() == []
        until(lambda: place.groups() == [], "a control group is left")
    place.run(*place.build())
    assert place.left() == []
    until(lambda: place.groups() == [], "a control group is left")
    assert processes(nap) == []
    assert [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if place.path in line
    ] == []
