"""Volumes in real builds: VOLUME as other builders have it, the options -v and --mount, and what becomes of overlays
and mounts when a build is ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import as_user
import pytest
from mount_builds import Place, Way
from mount_cases import changed, make_base
from rows import row
from test_build_failures import processes, until
from volume_cases import NAMES, REASONS, Case

WAYS = (Way("chroot"), Way("oci", "runc"), Way("rootless", "runc", user=True), Way("chroot", user=True))


# VOLUME


@pytest.fixture(scope="module")
def places() -> Iterator[Callable[[Way], Place]]:
    """A store for each way, which has the base image of the cases."""
    made: dict[Way, Place] = {}
    with tempfile.TemporaryDirectory(prefix="volumes-") as top:
        os.chmod(top, 0o755)
        make_base(Path(top, "box.tar"))

        def place(way: Way) -> Place:
            if way not in made:
                path = Path(top, str(way))
                path.mkdir()
                made[way] = Place(path, way, Path(top, "box.tar"))
            return made[way]

        yield place
        for each in made.values():
            each.close()


ROTATED = [(name, flag) for name in NAMES for flag in ("", "--compat-volumes")]
EVERYWHERE = ("owners-modes",)
VOLUMES = [(name, flag, WAYS[number % 4]) for number, (name, flag) in enumerate(ROTATED)]
VOLUMES += [
    (name, flag, way)
    for name in EVERYWHERE
    for flag in ("", "--compat-volumes")
    for way in WAYS
    if (name, flag, way) not in VOLUMES
]


@row("S63")
@pytest.mark.parametrize(("name", "flag", "way"), VOLUMES, ids=lambda value: str(value) or "default")
def test_as_the_records_say(places, name: str, flag: str, way: Way) -> None:
    """By default as BuildKit; with --compat-volumes as docker's old builder and as buildah 1.28."""
    place, case = places(way), Case(name)
    out = place.path / "out.tar"
    words = [*([flag] if flag else []), "--network", "none", "-o", f"type=tar,dest={out}"]
    work = place.outside / f"{name}{flag}"
    *base, (_, context) = case.contexts(work)
    for tag, other in base:
        place.build("--network", "none", "-t", tag, other)
    done = place.build(*words, context, check=False)
    for peer in ("docker", "buildah") if flag else ("buildkit",):
        expected = case.expected(peer)
        assert ("ok" if done.returncode == 0 else "failed") == expected["status"], done.stderr
        if expected["status"] == "failed":
            assert case.settings["says"] in done.stderr
        else:
            found = changed(out, place.outside / "box.tar")
            assert {item["path"]: item for item in found} == expected["files"]
    assert place.left() == []


def test_every_difference_of_volumes_is_documented() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "differences.md").read_text()
    used = {item["why"] for name in NAMES for item in Case(name).settings.get("differences", ())}
    assert used == REASONS.keys()
    assert [name for name in REASONS if f"`volumes: {name}`" not in text] == []


@row("S63")
def test_the_flag_is_part_of_what_a_step_is_known_by(box) -> None:
    """Of those steps that a volume is declared for; the others are taken from the cache."""
    context = box.context(
        "FROM box\nRUN echo 1 > /one\nVOLUME /data\nRUN echo new > /data/new; ls /data > /seen\n"
    )
    steps = ["RUN echo 1 > /one", "RUN echo new > /data/new; ls /data > /seen"]
    assert box.ran(context) == steps
    assert box.ran(context, "--compat-volumes") == steps[1:]
    assert box.ran(context, "--compat-volumes") == box.ran(context) == []
    out = box.files(context, "--compat-volumes")
    assert sorted(os.listdir(out / "data")) == ["kept"]
    assert (out / "seen").read_text() == "kept\nnew\n"


# -v and --mount


@pytest.fixture
def made(busybox_tar: Path, box_store: Path) -> Iterator[Callable[[Way], Place]]:
    """A new place for builds, with a directory ``host`` that may be given to steps."""
    places: list[Place] = []

    def make(way: Way) -> Place:
        path = Path(tempfile.mkdtemp(prefix="volumes-"))
        path.chmod(0o755)
        places.append(Place(path, way, busybox_tar, base=box_store))
        (places[-1].path / "host").mkdir()
        return places[-1]

    yield make
    for place in places:
        place.close()


def lay(place: Place, **files: str) -> Path:
    """Files in the directory of the host, of whoever builds."""
    host = place.path / "host"
    for name, text in files.items():
        path = host / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if place.way.user:
        as_user.give(str(host))
    return host


@row("S64")
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_options_of_a_build(made, way: Way) -> None:
    """Every RUN gets them and no layer has anything of them."""
    place = made(way)
    host = lay(place, v__file="of the host\n", thrown__file="of the host\n", one="one\n")
    context = place.context(
        "FROM box\n"
        "RUN cat /v/file /thrown/file /one; touch /v/x 2>/dev/null || echo refused; echo step > /thrown/file; "
        "head -c 2000000 /dev/zero 2>/dev/null > /tmpfs/x || wc -c < /tmpfs/x\n"
        "RUN cat /thrown/file; ls /tmpfs; stat -c %a /tmpfs\n"
    )
    words = [
        "-v",
        f"{host}/v:/v:ro",
        "--volume",
        f"{host}/thrown:/thrown:O",
        "--volume",
        f"{host}/one:/deep/../one",
    ]
    words += ["--mount", "type=tmpfs,target=/tmpfs,tmpfs-size=1m,tmpfs-mode=1751"]
    first, second = list(place.printed("--no-cache", *words, context).values())[-2:]
    assert first == ["of the host", "of the host", "one", "refused", "1048576"]
    assert second == ["of the host", "1751"]
    assert place.layers(*words, context)[1:] == [[], []]
    assert (
        sorted(os.listdir(host / "thrown")) == ["file"]
        and (host / "thrown/file").read_text() == "of the host\n"
    )


@row("S64")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-v", "./here:/b"], "volume './here:/b': the host path './here' must be absolute"),
        (["-v", "/no/such:/b"], "volume source '/no/such' does not exist on this host"),
        (
            ["--mount", "type=bind,src=/no/such,dst=/b"],
            "volume source '/no/such' does not exist on this host",
        ),
        (["-v", "/etc/passwd:/b:O"], "/etc/passwd is not a directory; an overlay needs one"),
        (["-v", "/usr:/b:U"], "/usr of the host must not be given another owner"),
        (["-v", "/a:/b:ro,odd"], "volume '/a:/b:ro,odd': unknown option 'odd'"),
        (["--mount", "type=tmpfs,dst=/b,tmpfs-size=big"], "tmpfs-size 'big': a number"),
    ],
)
def test_what_cannot_be_is_told_before_the_step(box, words: list[str], said: str) -> None:
    context = box.context("FROM box\nRUN echo ran\n")
    done = box.build(context, *words, check=False)
    assert done.returncode != 0
    assert said in done.stderr
    assert "echo ran\n" not in done.stdout and "Traceback" not in done.stderr
    if (box.store / "tmp").exists():
        assert os.listdir(box.store / "tmp") == []


@contextmanager
def tree() -> Iterator[Path]:
    """A directory of the host that is a shared mount, as most of a host's are, with another one in it, ``sub``."""
    top = Path(tempfile.mkdtemp(prefix="volumes-"))
    with mounted(top):
        (top / "sub").mkdir()
        with mounted(top / "sub"):
            yield top
    top.rmdir()


@contextmanager
def mounted(path: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", path], check=True)
    subprocess.run(["mount", "--make-shared", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


WAIT = "touch /ready/now; i=0; while [ ! -e /ready/go ] && [ $i -lt 300 ]; do sleep 0.05; i=$((i+1)); done"


@row("S64")
@pytest.mark.parametrize("modes", ["private", "rslave shared"])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_the_host_mounts_while_a_build_runs(made, way: Way, modes: str) -> None:
    """It is seen where a volume asks for it. What the build mounts is never seen outside."""
    place = made(way)
    names = ["plain", *modes.split()] if modes == "private" else modes.split()
    shown = "; ".join(f"ls /{name}/late /{name}/sub/late" for name in names)
    context = place.context(f"FROM box\nRUN {WAIT}; {shown}; true\n")
    ready = lay(place) / "ready"
    ready.mkdir()
    as_user.give(str(ready)) if way.user else None
    with tree() as top:
        late = [top / "late", top / "sub/late"]
        for path in late:
            path.mkdir()
        words = [
            f"--volume={ready}:/ready",
            *(f"--volume={top}:/{name}" + f":{name}" * (name != "plain") for name in names),
        ]
        before = mount_points(top, place.path)
        build = place.start(*place.building(*words, context))
        place.wait(build, (ready / "now").exists, "the step does not begin")
        assert mount_points(top, place.path) == before
        for path in late:
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
            (path / f"{path.parent.name}-file").touch()
        try:
            (ready / "go").touch()
            _, err = build.communicate(timeout=60)
        finally:
            for path in late:
                subprocess.run(["umount", path], check=True)
        assert build.returncode == 0, err
        assert err.count("-file\n") == (0 if modes == "private" else 4), err
        assert mount_points(top, place.path) == before


def mount_points(*tops: Path) -> list[str]:
    """Where the host has something mounted at or below these."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(point for point in points if point.startswith(tuple(map(str, tops))))


# However a build ends

LINE = "for d in /thrown /kept /image /deep/er; do echo step > $d/file; done; touch /deep/er/started"


def ready_to_end(place: Place, nap: str) -> tuple[Path, list[str], Path]:
    host = lay(place, source__own="of the host\n", upper__kept="before\n", work__x="", plain__x="")
    os.unlink(host / "work/x")
    context = place.context(f"FROM box\nVOLUME /image\nRUN {LINE}; sleep {nap} & sleep {nap}\nRUN true\n")
    words = [
        f"--volume={host}/source:/thrown:O",
        f"--volume={host}/plain:/deep/er",
        "--mount=type=tmpfs,dst=/tmpfs",
    ]
    words += [f"--volume={host}/source:/kept:O,upperdir={host}/upper,workdir={host}/work", "--compat-volumes"]
    return host, words, context


def check(place: Place, host: Path, nap: str) -> None:
    """Nothing of the step runs or is mounted; the source is as it was, and what was to be kept is."""
    until(lambda: processes(nap) == [], "processes of the step are left")
    until(lambda: str(place.path) not in Path("/proc/self/mountinfo").read_text(), "something is mounted")
    assert os.listdir(host / "source") == ["own"] and (host / "source/own").read_text() == "of the host\n"
    assert {path.name: path.read_text() for path in (host / "upper").iterdir()} == {
        "kept": "before\n",
        "file": "step\n",
    }
    assert (host / "plain/file").read_text() == "step\n"


ENDS = ("KILL", "INT", "TERM", "timeout", "supervisor")
CASES = [(WAYS[number % 4], ENDS[number % 5]) for number in range(20) if number % 5 < 2 or number < 10]
"""Each way meets a killed and an interrupted build; the other ends meet two ways each."""


@row("S65", "X82")
@pytest.mark.parametrize(("way", "end"), CASES, ids=str)
def test_nothing_of_a_volume_remains(made, way: Way, end: str) -> None:
    """Not on disk, after the next start where the builder was killed, and nowhere mounted."""
    place = made(way)
    nap = f"{600_000 + CASES.index((way, end))}.{os.getpid()}"
    host, words, context = ready_to_end(place, nap)
    limit = ["--timeout", "1"] if end == "timeout" else []
    build = place.start(*place.building(*words, *limit, context))
    place.wait(build, (host / "plain/started").exists, "the step does not begin")
    if end == "supervisor":
        for pid in supervisors(build.pid):
            os.kill(pid, signal.SIGKILL)
        until(lambda: supervisors(build.pid) == [], "the supervisor is not gone")
        build.send_signal(signal.SIGINT)
    elif end != "timeout":
        build.send_signal(getattr(signal, f"SIG{end}"))
    _, err = build.communicate(timeout=60)
    assert build.returncode != 0 and "Traceback" not in err, err
    check(place, host, nap)
    if end == "KILL":
        assert place.left() != []
        (context / "Dockerfile").write_text("FROM box\nRUN true\n")
        place.build(context)
    assert place.left() == []


def supervisors(builder: int) -> list[int]:
    """The processes of a builder that its steps hang on."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            if parent == builder and b"run_step.supervisor" in Path(f"/proc/{name}/cmdline").read_bytes():
                found.append(int(name))
        except OSError:
            pass  # it has ended
    return found
