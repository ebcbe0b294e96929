"""RUN --mount=type=cache: what outlives a step, who sees it at the same time, and that nothing else depends on it."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from mount_builds import AS_ROOT, AS_USER, CHROOT, WAYS, Place, Way
from test_build_failures import processes, until

LIFE = """\
FROM box AS seed
RUN mkdir -p /seed/deep && echo seeded > /seed/deep/file && ln -s deep/file /seed/link && chmod 750 /seed
RUN chown 1000:10 /seed/deep/file
FROM box
ARG AGAIN
RUN --mount=type=cache,target=/c echo $AGAIN >> /c/one; cat /c/one
RUN --mount=type=cache,target=/c cat /c/one; stat -c '%a %u:%g' /c
RUN --mount=type=cache,id=/c,target=/deep/other --mount=type=cache,target=/c cat /deep/other/one; ls /c
RUN --mount=type=cache,id=another,target=/c ls -A /c; echo $AGAIN > /c/two
RUN --mount=type=cache,id=own,target=/c,uid=1000,gid=10,mode=0750 stat -c '%a %u:%g' /c
RUN --mount=type=cache,target=/c,readonly (! echo x > /c/x; ! rm /c/one; ls /c) 2>&1
RUN --mount=type=cache,target=/data,ro=false ls -A /data; echo $AGAIN > /data/new
RUN --mount=type=cache,id=seeded,target=/c,from=seed,source=/seed \\
    stat -c '%a %u:%g' /c /c/deep/file; cat /c/link; echo $AGAIN >> /c/deep/file
RUN --mount=type=cache,id=seeded,target=/c ls -A /c
RUN --mount=type=cache,id=context,target=/c,from=more cat /c/given; echo $AGAIN >> /c/given
RUN ls -A /c /deep /data 2>&1; true
USER bob
RUN --mount=type=cache,id=own,target=/c,uid=1000,gid=10,mode=0750 echo $AGAIN >> /c/bobs; cat /c/bobs
RUN --mount=type=cache,target=/c ! echo x > /c/x
"""
COPYING = [(CHROOT, "copy"), (AS_USER[-1], "copy")]


@pytest.mark.parametrize(
    ("way", "snapshots"),
    [*((way, "overlay") for way in WAYS), *COPYING],
    ids=str,
)
def test_a_cache_lives_longer_than_its_builds(place_of, way, snapshots) -> None:
    place = place_of(way, snapshots)
    context = place.context(LIFE)
    more = place.context("", given="of the context\n")

    def build(*args: str) -> list[list[str]]:
        printed = place.printed(*args, "--build-context", f"more={more}", context)
        return [lines for title, lines in printed.items() if title.startswith("RUN --mount")]

    first = build("--build-arg", "AGAIN=a")
    assert first == [
        ["a"],
        ["a", "755 0:0"],
        ["a", "one"],
        [],
        ["750 1000:10"],
        [
            "/bin/sh: can't create /c/x: Read-only file system",
            "rm: can't remove '/c/one': Read-only file system",
            "one",
        ],
        [],
        ["750 0:0", "644 1000:10", "seeded"],
        [],  # without what it starts with it is another cache
        ["of the context"],
        ["a"],
        ["/bin/sh: can't create /c/x: Permission denied"],
    ]
    assert [path.joinpath("one").read_text() for path in place.caches("/c")] == ["a\n"]
    again = build("--no-cache", "--build-arg", "AGAIN=b")
    assert [again[number] for number in (0, 1, 2, 3, 6, 7, 9, 10)] == [
        *(["a", "b"], ["a", "b", "755 0:0"], ["a", "b", "one"], ["two"], ["new"]),
        *(["750 0:0", "644 1000:10", "seeded", "a"], ["of the context", "a"], ["a", "b"]),
    ]
    failing = place.context("FROM box\nRUN --mount=type=cache,target=/c echo failed >> /c/one; exit 1\n")
    place.build(failing, check=False)
    assert (place.cache("/c") / "one").read_text() == "a\nb\nfailed\n"
    # Nothing of it is in the image, and what it has now is no reason to run anything again.
    (place.cache("/c") / "more").write_text("changed\n")
    assert build("--build-arg", "AGAIN=b") == []
    names = [name for layer in place.layers("--build-context", f"more={more}", "--build-arg", "AGAIN=b", context)[1:]
             for name in layer]  # fmt: skip
    assert names == []
    assert place.left() == []
    assert {Path(path).name for path in place.caches("own")[0].glob("*")} == {"bobs"}


def test_all_isolations_of_a_store_share_its_caches(place_of) -> None:
    place = place_of(CHROOT)
    for number, way in enumerate(AS_ROOT):
        place.way = way
        context = place.context(
            f"FROM box\nRUN --mount=type=cache,target=/c ls /c; echo > /c/{number}; stat -c %u:%g /c/*\n"
        )
        ((lines),) = [lines for title, lines in place.printed(context).items() if "cache" in title]
        assert lines == [*map(str, range(number)), *["0:0"] * (number + 1)]


@pytest.mark.parametrize("way", AS_USER, ids=str)
def test_an_owner_that_an_ordinary_user_has_not_is_told(place_of, way) -> None:
    place = place_of(way)
    context = place.context("FROM box\nRUN --mount=type=cache,target=/c,uid=900000 true\n")
    done = place.build(context, check=False)
    assert done.returncode == 1 and "has no such ID" in done.stderr and "Dockerfile:2\n" in done.stderr
    assert place.left() == [] and place.caches("/c") == []


BAD = [
    (
        "id=a,target=/c,from=box,source=/data/kept",
        "the source /data/kept of a cache mount is not a directory",
    ),
    ("id=a,target=/c,from=box,source=/missing", "/missing can't be mounted: No such file or directory"),
    ("id=a,target=/c,sharing=lock", "unknown sharing 'lock'", "did you mean locked?"),
    ("id=a", "target=PATH is missing"),
    ("target=/c,mode=rwx", "mode=rwx: an octal mode is wanted"),
    ("target=/bin/busybox", "is a file in the image"),
]


@pytest.mark.parametrize(
    ("text", "words"), [(text, words) for text, *words in BAD], ids=[row[0] for row in BAD]
)
def test_a_cache_that_cannot_be_is_told(place_of, text, words) -> None:
    place = place_of(CHROOT)
    done = place.build(place.context(f"FROM box\nRUN --mount=type=cache,{text} true\n"), check=False)
    assert done.returncode == 1 and "Dockerfile:2\n" in done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert place.left() == []


TOGETHER = [CHROOT, Way("oci", "runc"), Way("chroot", user=True)]


@pytest.mark.parametrize("way", TOGETHER, ids=str)
def test_builds_at_once_share_a_cache_or_have_one_each(place_of, way) -> None:
    """Each build waits for the other's file in the shared cache, and neither finds it in the private one."""
    place = place_of(way)
    context = place.context(
        "FROM box\nARG ME OTHER\n"
        "RUN --mount=type=cache,id=shared,target=/shared --mount=type=cache,id=own,target=/own,sharing=private \\\n"
        "    touch /shared/$ME /own/$ME; until [ -e /shared/$OTHER ]; do sleep 0.05; done; ls /own\n"
    )
    names = ("one", "two")
    builds = [
        place.start(*place.building("--build-arg", f"ME={me}", "--build-arg", f"OTHER={other}", context))
        for me, other in (names, names[::-1])
    ]
    for build, name in zip(builds, names, strict=True):
        _, err = build.communicate(timeout=100)
        assert build.returncode == 0, err
        assert re.findall(r"#2 [\d.]+ (.*)", err) == [name], err
    assert sorted(path.name for path in place.cache("shared").iterdir()) == ["one", "two"]
    assert sorted([path.name for path in one.iterdir()] for one in place.caches("own")) == [["one"], ["two"]]
    # Whoever comes later and alone takes one of those that are there.
    alone = place.context(
        "FROM box\nRUN --mount=type=cache,id=own,target=/own,sharing=private touch /own/three\n"
    )
    place.build(alone)
    assert len(place.caches("own")) == 2


@pytest.mark.parametrize("way", TOGETHER, ids=str)
def test_builds_at_once_never_overlap_in_a_locked_cache(place_of, way) -> None:
    place = place_of(way)
    context = place.context(
        "FROM box\nARG ME\n"
        "RUN --mount=type=cache,id=log,target=/log,sharing=locked \\\n"
        "    mkdir /log/mutex && echo begin $ME >> /log/lines && sleep 0.05 && \\\n"
        "    echo end $ME >> /log/lines && rmdir /log/mutex\n"
    )
    builds = [place.start(*place.building("--build-arg", f"ME={number}", context)) for number in range(6)]
    for build in builds:
        _, err = build.communicate(timeout=100)
        assert build.returncode == 0, err
    lines = [line.split() for line in (place.cache("log") / "lines").read_text().splitlines()]
    assert [word for word, _ in lines] == ["begin", "end"] * 6
    assert [name for _, name in lines[::2]] == [name for _, name in lines[1::2]]
    assert sorted(name for _, name in lines[::2]) == list("012345")
    assert place.left() == []


def test_locked_caches_in_any_order_do_not_block_each_other(place_of) -> None:
    """Two builds at once, each with three stages at once that take the same caches in other orders."""
    place = place_of(CHROOT)
    mounts = {name: f"--mount=type=cache,id={name},target=/{name},sharing=locked" for name in "xyz"}
    orders = ("xyz", "zyx", "yxz")
    stages = [
        f"FROM box AS {order}\n"
        + f"RUN {' '.join(mounts[name] for name in order)} echo {order} >> /x/log\n" * 2
        for order in orders
    ]
    last = "FROM box\n" + "".join(f"COPY --from={order} /etc/passwd /{order}\n" for order in orders)
    context = place.context("".join(stages) + last)
    builds = [place.start(*place.building("--no-cache", "--jobs", "3", context)) for _ in range(2)]
    for build in builds:
        _, err = build.communicate(timeout=100)
        assert build.returncode == 0, err
    assert sorted((place.cache("x") / "log").read_text().split()) == sorted(orders * 4)


def test_one_cache_at_two_places_of_one_step(place_of) -> None:
    """A locked one does not wait for itself; the stricter of two kinds of sharing counts."""
    place = place_of(CHROOT)
    context = place.context(
        "FROM box\nARG N\n"
        "RUN --mount=type=cache,id=twice,target=/a,sharing=locked \\\n"
        "    --mount=type=cache,id=twice,target=/b,sharing=locked,ro \\\n"
        "    echo here > /a/file && cat /b/file && ! echo > /b/file\n"
        "RUN --mount=type=cache,id=twice,target=/a --mount=type=cache,id=twice,target=/b,sharing=locked \\\n"
        "    mkdir /b/mutex && ls /a && rmdir /a/mutex\n"
    )
    builds = [place.start(*place.building("--no-cache", context)) for _ in range(3)]
    for build in builds:
        _, err = build.communicate(timeout=100)
        assert build.returncode == 0, err
        assert re.findall(r"#\d [\d.]+ ([a-z]+)$", err, re.MULTILINE) == ["here", "file", "mutex"]


def waiting(lock: Path) -> int:
    """How many wait for a lock, as the kernel tells (proc(5), /proc/locks)."""
    lines = Path("/proc/locks").read_text().splitlines()
    return len(
        [line for line in lines if "-> FLOCK" in line and line.split()[-3].endswith(f":{lock.stat().st_ino}")]
    )


class Held:
    """A build whose step holds the locked cache ``held``, and others that wait for it."""

    def __init__(self, place: Place, nap: str) -> None:
        self.place = place
        dockerfile = (
            "FROM box\nRUN --mount=type=cache,id=held,target=/c,sharing=locked \\\n"
            f"    --mount=type=cache,id=sync,target=/sync (sleep {nap} &); touch /sync/started; \\\n"
            "    until [ -e /sync/go ]; do sleep 0.05; done; echo held >> /c/log\n"
        )
        self.holder = place.start(*place.building(place.context(dockerfile)))
        place.wait_file(self.holder, "sync", "started")
        self.lock = place.cache("held").parent / "lock"
        self.waiter = place.context(
            "FROM box\nRUN --mount=type=cache,id=held,target=/c,sharing=locked echo waited >> /c/log\n"
        )

    def wait(self, *args: str) -> subprocess.Popen[str]:
        """One more that waits."""
        before = waiting(self.lock)
        build = self.place.start(*self.place.building(*args, self.waiter))
        self.place.wait(build, lambda: waiting(self.lock) > before, "it does not wait")
        return build


@pytest.mark.parametrize("way", [CHROOT, Way("chroot", user=True)], ids=str)
def test_a_wait_for_a_locked_cache_can_be_ended(place_of, way, request) -> None:
    """By an interrupt of who waits; and by the end of who holds it, however late that is: a step's time limit counts
    the step alone."""
    place = place_of(way)
    held = Held(place, f"7{abs(hash(request.node.name)) % 10**8}")
    limit = 2.0
    began = time.monotonic()
    patient = held.wait("--timeout", str(limit))
    for number in (signal.SIGINT, signal.SIGTERM):
        build = held.wait()
        build.send_signal(number)
        _, err = build.communicate(timeout=100)
        assert build.returncode == 130 and "Traceback" not in err, err
    until(lambda: time.monotonic() > began + limit + 0.2, "time stands still")
    assert held.holder.poll() is None and patient.poll() is None
    (place.cache("sync") / "go").touch()
    for build in (held.holder, patient):
        _, err = build.communicate(timeout=100)
        assert build.returncode == 0, err
    assert (place.cache("held") / "log").read_text() == "held\nwaited\n"
    assert place.left() == []


@pytest.mark.parametrize("way", [CHROOT, Way("oci", "runc"), Way("rootless", "runc", user=True)], ids=str)
def test_who_is_killed_gives_its_locked_cache_back(place_of, way, request) -> None:
    place = place_of(way)
    nap = f"8{abs(hash(request.node.name)) % 10**8}"
    held = Held(place, nap)
    heirs = [held.wait(), held.wait("--no-cache")]
    held.holder.kill()
    for build in heirs:
        _, err = build.communicate(timeout=100)
        assert build.returncode == 0, err
    until(lambda: processes(nap) == [], "processes of the step are left")
    assert (place.cache("held") / "log").read_text() == "waited\n" * 2
    assert [row.name for row in place.cache("held").parent.parent.iterdir() if row.is_dir()] == ["0"]


PART = """\
FROM box
RUN --mount=type=cache,id=parts,target=/c mkdir -p /c/in/it && echo kept > /c/in/it/file && ln -s /etc /c/out
RUN --mount=type=cache,id=parts,source=in/it,target=/part cat /part/file; echo more >> /part/file
RUN --mount=type=cache,id=parts,target=/c --mount=type=cache,id=parts,source=/in,target=/part cat /part/it/file
"""


@pytest.mark.parametrize("way", [CHROOT, AS_USER[-1]], ids=str)
def test_a_source_without_from_is_a_directory_in_the_cache(place_of, way) -> None:
    place = place_of(way, "overlay")
    printed = [
        lines for title, lines in place.printed(place.context(PART)).items() if title.startswith("RUN")
    ]
    assert printed[1:] == [["kept"], ["kept", "more"]]


@pytest.mark.parametrize("part", ["none", "out", "in/it/file/x"])
def test_a_part_that_the_cache_does_not_have_is_an_error(place_of, part: str) -> None:
    place = place_of(CHROOT, "overlay")
    text = PART + f"RUN --mount=type=cache,id=parts,source={part},target=/part cat /part/passwd\n"
    done = place.build(place.context(text), check=False)
    assert done.returncode == 1
    assert "in the cache" in done.stderr and ":5" in done.stderr
