"""While root builds, another user of the machine finds nothing of it that can be opened, searched or executed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from mount_builds import CGROUP_2, Place, Way

EVE = 4322

WALK = """
import json, os, stat, sys
os.setgroups([])
os.setresgid({eve}, {eve}, {eve})
os.setresuid({eve}, {eve}, {eve})
found, looked = [], 0

def look(path):
    global looked
    looked += 1
    try:
        status = os.lstat(path)
    except OSError:
        return
    if stat.S_ISDIR(status.st_mode):
        for bit, what in ((os.R_OK, "listed"), (os.X_OK, "searched"), (os.W_OK, "written")):
            if os.access(path, bit):
                found.append([path, what])
        try:
            names = os.listdir(path)
        except OSError:
            return
        for name in names:
            look(os.path.join(path, name))
    elif not stat.S_ISLNK(status.st_mode):
        for bit in (os.R_OK, os.W_OK, os.X_OK):
            if os.access(path, bit):
                found.append([path, "opened"])

for path in sys.stdin.read().split("\\0"):
    look(path)
try:
    os.execv(sys.argv[1], [sys.argv[1], "id", "-u"]) if sys.argv[1] != "-" else None
except OSError as error:
    print(json.dumps([found, looked, error.strerror]))
else:
    print(json.dumps([found, looked, ""]))
""".replace("{eve}", str(EVE))
"""Reads paths, looks at each and at all below it, then executes what it is given, as another user."""

STEP = """\
FROM box
COPY secret /secret
RUN chmod 600 /secret
RUN --mount=type=cache,target=/cache --mount=type=bind,from=box,target=/bound \
    cp /bin/busybox /rootshell && cp /bin/busybox /cache/rootshell && chmod 4755 /rootshell /cache/rootshell \
    && cat /proc/self/mountinfo > /cache/mountinfo && echo > /cache/ready \
    && while [ ! -e /cache/go ]; do sleep 0.05; done && rm /cache/ready /cache/go
"""

MAPS = "--userns-uid-map 0:100000:65536 --userns-gid-map 0:100000:65536".split()


def all_below(*tops: Path) -> list[str]:
    """Every path, as root sees it: a directory that can't be listed may still be passed through."""
    out = []
    for top in tops:
        out.append(str(top))
        for here, directories, files in os.walk(top):
            out += [os.path.join(here, name) for name in (*directories, *files)]
    return out


def as_eve(paths: list[str], program: str = "-") -> tuple[list[list[str]], int, str]:
    done = subprocess.run(
        [sys.executable, "-c", WALK, program],
        input="\0".join(paths),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.startswith("["), done.stdout + done.stderr
    found, looked, why = json.loads(done.stdout)
    return found, looked, why


@pytest.mark.parametrize("snapshots", ["overlay", "copy"])
@pytest.mark.parametrize("way", [Way("chroot"), Way("oci", "runc"), Way("rootless", "runc")], ids=str)
@pytest.mark.parametrize("source", ["directory", "archive"])
def test_nothing_is_reached_in_the_middle_of_a_build(place_of, way: Way, snapshots: str, source: str) -> None:
    place: Place = place_of(way, snapshots)
    before = set(os.listdir("/tmp")) | {"place"}
    if source == "archive":
        packed = place.outside / "context.tar"
        with tarfile.open(packed, "w") as tar:
            for name, text in (("Dockerfile", STEP), ("secret", "TOP SECRET\n")):
                (place.outside / name).write_text(text)
                tar.add(place.outside / name, name)
        packed.chmod(0o600)
        given = str(packed)
    else:
        context = place.outside / "context"
        context.mkdir()
        (context / "Dockerfile").write_text(STEP)
        (context / "secret").write_text("TOP SECRET\n")
        given = str(context)
    os.chmod(place.path, 0o755)
    os.chmod(place.temporary, 0o755)
    build = place.start("build", *way.flags, "-t", "app", "-o", f"type=oci,dest={place.path}/app.tar", given)
    ready = place.wait_file(build, "/cache", "ready")
    told = (ready.parent / "mountinfo").read_text()
    new = [
        Path("/tmp") / name
        for name in set(os.listdir("/tmp")) - before
        if (Path("/tmp") / name).stat().st_uid == 0
    ]
    new = [path for path in new if path.name.startswith("buildfront")]
    paths = all_below(place.store, place.temporary, *new)
    assert any(path.endswith("/rootshell") for path in paths) and any("/run-" in path for path in paths)
    found, looked, _ = as_eve([path for path in paths if path != str(place.temporary)])
    assert looked >= len(paths) - 1
    assert found == []
    # Where the step's own words say that its files are, and everywhere else that root finds them.
    upper = [
        word.partition("=")[2] for word in told.replace(" ", ",").split(",") if word.startswith("upperdir=/")
    ]
    shells = [os.path.join(path, "rootshell") for path in upper] + [
        path for path in paths if path.endswith("/rootshell")
    ]
    for shell in shells:
        assert as_eve([], shell)[2] in ("Permission denied", "No such file or directory"), shell
    (ready.parent / "go").touch()
    _, errors = build.communicate(timeout=120)
    assert build.returncode == 0, errors
    found, _, _ = as_eve(all_below(place.store))
    assert found == []


@pytest.mark.parametrize("runtime", ["runc", "crun"])
@pytest.mark.parametrize("isolation", ["oci", "chroot", "rootless"])
@pytest.mark.parametrize("above", ["open", "closed"])
def test_a_user_namespace_of_the_steps_own_in_a_closed_store(
    place_of, runtime: str, isolation: str, above: str
) -> None:
    """Its root is another user of the machine, who has to pass to its root filesystem and to what is bound there."""
    if isolation == "chroot" and runtime == "crun":
        runtime = ""
    place: Place = place_of(Way("chroot"))
    top = place.path / "closed"
    top.mkdir(mode=0o700 if above == "closed" else 0o755)
    store = top / "store"
    (place.outside / "Dockerfile").write_text(
        "FROM box\nRUN --mount=type=cache,target=/c --mount=type=bind,from=box,target=/b cat /proc/self/uid_map"
        " && ls /c /b/bin/sh && id -u\n"
    )
    program = place.words("x")[:-3]
    flags = ["--isolation", isolation, *(["--runtime", runtime] if runtime and isolation != "chroot" else [])]
    prefix = CGROUP_2 if runtime == "crun" else []
    for more in (["import", str(place.outside / "box.tar"), "-t", "box"],
                 ["build", "--progress", "plain", *flags, *MAPS, str(place.outside)]):  # fmt: skip
        done = subprocess.run(
            [*prefix, *program, "--root", str(store), *more], capture_output=True, text=True, check=False
        )
        if "CAP_SYS_RESOURCE" in done.stderr:
            return  # crun can't keep root's steps from devices on such a machine: tests/run_step/crun_alone.py
        assert done.returncode == 0, done.stderr
    assert "100000" in done.stderr
    assert as_eve(all_below(store))[0] == []


def test_an_ordinary_users_store_is_closed_as_well(place_of) -> None:
    place: Place = place_of(Way("chroot", user=True))
    (place.outside / "Dockerfile").write_text("FROM box\nRUN cp /bin/busybox /shell && chmod 4755 /shell\n")
    place.run("build", "--isolation", "chroot", "-t", "app", place.outside)
    assert as_eve(all_below(place.store))[0] == []


def test_what_an_archive_on_standard_input_becomes(place_of) -> None:
    """It is kept in the session until it has been read, and nobody else reads it meanwhile."""
    place: Place = place_of(Way("chroot"))
    load = subprocess.Popen(
        place.words("load"),
        env=place.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert load.stdin is not None
    load.stdin.write(b"x" * (3 << 20))
    load.stdin.flush()
    found: list[Path] = []

    def spooled() -> bool:
        found[:] = [path for path in place.store.glob("tmp/*/load-*") if path.stat().st_size > 1 << 20]
        return bool(found)

    for _ in range(1200):
        if spooled():
            break
        try:
            load.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    assert found and found[0].stat().st_mode & 0o777 == 0o600
    assert as_eve(all_below(place.store))[0] == []
    load.communicate()
    assert list(place.store.glob("tmp/*")) == []
    shutil.rmtree(place.store)
