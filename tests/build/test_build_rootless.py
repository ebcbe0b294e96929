"""An ordinary user builds: the image is the one that root builds, files, modes and owners compared."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import as_user
import pytest
from program import BUILDFRONT
from rows import row
from web_servers import Page, make_repository, site

VOLATILE = re.compile(r"var/log/|var/cache/(ldconfig|apt|debconf)/|var/lib/(apt|dpkg)/|etc/ld\.so\.cache")
"""What a package manager writes with times and inode numbers in it: there, names, modes and owners are compared."""


class User:
    """A store in the home of an ordinary user, or of root in the same place, and a way to run the program as it."""

    def __init__(self, home: Path, *, root: bool = False, ranges: bool = True, snapshots: str = "") -> None:
        self.home = home
        self.snapshots = snapshots
        if root:
            home.mkdir(exist_ok=True)  # root trusts no store in a directory of somebody else
        else:
            as_user.make_home(str(home))
        self.prefix = [] if root else as_user.words(home, ranges=ranges)
        self.root = ["--root", str(home / "store")] if root else []

    def __call__(self, *args: Any, check: bool = True) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "BUILDFRONT_SNAPSHOTS": self.snapshots}
        env.pop("BUILDFRONT_ROOT", None)
        command = [*self.prefix, BUILDFRONT, *self.root, *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd="/")
        if check:
            assert done.returncode == 0, done.stderr
        return done


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody can reach; pytest's own are closed."""
    path = Path(tempfile.mkdtemp(prefix="rootless-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def context(place: Path, dockerfile: str, **files: str) -> Path:
    path = place / "context"
    path.mkdir()
    (path / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def layers(archive: Path) -> list[list[tuple[Any, ...]]]:
    """What each layer of an OCI archive holds, times apart."""
    with tarfile.open(archive) as outer:
        blobs = {item.name: item for item in outer.getmembers()}

        def read(digest: str) -> Any:
            return outer.extractfile(blobs["blobs/" + digest.replace(":", "/")])

        index = json.load(outer.extractfile("index.json"))  # type: ignore[arg-type]
        manifest = json.load(read(index["manifests"][0]["digest"]))
        out = []
        for layer in manifest["layers"]:
            rows = []
            with tarfile.open(fileobj=read(layer["digest"]), mode="r:*") as tar:
                for item in tar:
                    stable = item.isreg() and not VOLATILE.match(item.name)
                    content = tar.extractfile(item).read() if stable else b""  # type: ignore[union-attr]
                    xattrs = sorted(
                        (k, v) for k, v in item.pax_headers.items() if k.startswith("SCHILY.xattr")
                    )
                    rows.append((
                        *(item.name, item.type, oct(item.mode), item.uid, item.gid, item.linkname),
                        *(hashlib.sha256(content).hexdigest(), xattrs),
                    ))  # fmt: skip
            out.append(rows)
    return out


def compare(
    place: Path, base: Path, built: Path, isolations: tuple[str, ...], snapshots: str = ""
) -> list[list[tuple[Any, ...]]]:
    """Build as root, and under each isolation as a user; all images have the same layers."""
    found = {}
    for name in ("root", *isolations):
        who = User(place / name, root=name == "root", snapshots=snapshots)
        who("import", base, "-t", "base")
        archive = who.home / "image.tar"
        isolation = ["--isolation", "chroot" if name == "root" else name]
        who("build", *isolation, "-t", "app", "-o", f"type=oci,dest={archive}", built)
        again = who("build", "--progress", "plain", *isolation, "-t", "app", built)
        assert "DONE" not in again.stderr  # all of it is cached
        found[name] = layers(archive)
        if name != "root":
            assert (who.home / ".local/share/buildfront").stat().st_uid == as_user.UID
    for name in isolations:
        for number, (mine, theirs) in enumerate(zip(found[name], found["root"], strict=True)):
            assert mine == theirs, f"layer {number} under {name} is not root's"
    return found["root"]


DOCKERFILE = """\
FROM base
USER bob
RUN id -u && mkdir /tmp/bobs && echo x > /tmp/bobs/file && chmod 4750 /tmp/bobs/file
USER root
RUN rm -rf /data && mkdir /data && echo new > /data/new && chown -R 10:1000 /data && ln /data/new /data/hard
COPY --chown=bob:wheel file /copied
COPY --chown=65534:65534 --chmod=2755 . /all/
WORKDIR /srv/deep
RUN rm /etc/group && ln -s nowhere link && mkfifo fifo && touch -d @1 old
RUN mv /srv/deep /srv/moved
FROM base
COPY --from=0 / /first
"""


@row("S67")
@pytest.mark.parametrize("snapshots", ["overlay", "copy"])
def test_a_users_image_is_roots(place, busybox_tar, snapshots) -> None:
    built = context(place, DOCKERFILE, file="text\n")
    rows = compare(place, busybox_tar, built, ("rootless", "chroot"), snapshots)
    assert len(rows) == 2
    owners = {row[3:5] for row in rows[1]}
    assert {(0, 0), (1000, 1000), (10, 1000), (1000, 10), (65534, 65534)} <= owners


@row("S67")
@pytest.mark.slow
def test_a_real_debian_dockerfile_is_built_by_a_user(place, debian_tar) -> None:
    """The first issue's: packages from the mirror in one stage, a program of them in the next."""
    built = context(
        place,
        "FROM base AS build\n"
        "RUN apt-get update && apt-get install -y --no-install-recommends gcc make libc6-dev\n"
        "COPY hello.c Makefile /src/\nWORKDIR /src\nRUN make hello\n"
        'FROM build\nCOPY --from=build /src/hello /hello\nCMD ["/hello"]\n',
        **{
            "Makefile": "hello: hello.c\n\tgcc -static -o hello hello.c\n",
            "hello.c": '#include <stdio.h>\nint main(void) { puts("made by a user"); return 0; }\n',
        },
    )
    rows = compare(place, debian_tar, built, ("rootless", "chroot"))
    assert {row[0] for layer in rows for row in layer} >= {"usr/bin/gcc-12", "hello", "usr/bin/make"}


@row("S02")
def test_the_command_line_of_a_user_needs_no_option(place, busybox_tar) -> None:
    """auto takes rootless; spec shows the plan of the namespace that the build enters."""
    user = User(place / "user")
    user("import", busybox_tar, "-t", "base")
    built = context(place, "FROM base\nRUN cat /proc/self/uid_map\n")
    shown = user("build", "--progress", "plain", built).stderr
    assert re.search(r"0 +0 +1\n#2 [\d.]+ +1 +1 +65536\n", shown), shown
    spec = json.loads(user("spec", built).stdout)[0]
    maps = [
        (item["containerID"], item["hostID"], item["size"]) for item in spec["spec"]["linux"]["uidMappings"]
    ]
    assert maps == [(0, 0, 1), (1, 1, 65536)]


def test_a_local_output_belongs_to_the_user(place, busybox_tar) -> None:
    user = User(place / "user")
    user("import", busybox_tar, "-t", "base")
    built = context(place, "FROM base\nRUN chown bob /data\n")
    user("build", "-o", f"type=local,dest={user.home}/out", built)
    assert {os.lstat(top).st_uid for top, _, _ in os.walk(user.home / "out")} == {as_user.UID}


def test_without_ranges_there_is_one_id_and_a_warning(place, busybox_tar) -> None:
    user = User(place / "user", ranges=False)
    user("import", busybox_tar, "-t", "base")
    built = context(place, "FROM base\nRUN cat /proc/self/uid_map; touch /made\n")
    done = user("build", "--progress", "plain", built)
    assert "warning: only one user ID is mapped: the user has no ranges in /etc/subuid" in done.stderr
    assert re.search(rf"0 +{as_user.UID} +1\n", done.stderr)
    (place / "context/Dockerfile").write_text("FROM base\nUSER bob\nRUN id\n")
    done = user("build", built, check=False)
    assert done.returncode == 1
    assert "the step's uid 1000 does not exist in its user namespace" in done.stderr
    (place / "context/Dockerfile").write_text("FROM base\nCOPY --chown=7:8 Dockerfile /\n")
    done = user("build", built, check=False)
    assert "belongs to 7:8, and this user namespace has no such ID" in done.stderr
    assert "--add-subuids" in done.stderr


def test_an_image_with_owners_beyond_the_ranges_is_told(place) -> None:
    user = User(place / "user")
    archive = place / "far.tar"
    with tarfile.open(archive, "w") as tar:
        item = tarfile.TarInfo("far")
        item.uid = 2_000_000
        tar.addfile(item)
    user("import", archive, "-t", "far")
    done = user("build", context(place, "FROM far\nCOPY Dockerfile /\n"), check=False)
    assert "the tar entry 'far' belongs to 2000000:0" in done.stderr


@pytest.mark.parametrize("isolation", ["rootless", "chroot"])
def test_limits_of_memory_are_said_to_do_nothing(place, busybox_tar, isolation) -> None:
    """Without a cgroup: a warning where the row clears them (S67), an error where they were asked of chroot (S80)."""
    user = User(place / "user")
    user("import", busybox_tar, "-t", "base")
    built = context(place, "FROM base\nRUN true\n")
    done = user(
        "build", "--progress", "plain", "--isolation", isolation, "--memory", "64m", built, check=False
    )
    if isolation == "rootless":
        assert done.returncode == 0
        assert "limits of CPU, memory and processes do nothing here" in done.stderr
    else:
        assert done.returncode == 1
        assert "a memory limit was asked for, and no cgroup can be made for it" in done.stderr


def test_a_program_that_has_not_entered_is_told(place, busybox_tar) -> None:
    code = (
        "from buildfront import BuildOptions, build, BuildError\n"
        "try: build(BuildOptions(context=%r))\n"
        "except BuildError as error: print(error.what, '|', error.hint)\n"
    )
    user = User(place / "user")
    user("import", busybox_tar, "-t", "base")
    built = context(place, "FROM base\nRUN true\n")
    words = as_user.words(user.home, sys.executable, "-c", code % str(built))
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd="/")
    assert "an ordinary user builds as root of a user namespace" in done.stdout
    assert "enter_user_namespace()" in done.stdout


def test_doctor_of_a_user(place) -> None:
    rows = {row["what"]: row for row in json.loads(User(place / "user")("doctor", "--format", "json").stdout)}
    assert rows["user"]["ok"] and rows["subuid"]["ok"] and rows["newuidmap"]["ok"]
    assert rows["isolation rootless"]["ok"] and not rows["isolation oci"]["ok"]
    assert rows["isolation auto"]["detail"].startswith("rootless")
    assert rows["overlay"]["ok"]
    assert (
        not rows["network bridge"]["ok"]
        and "only for root of the machine" in rows["network bridge"]["detail"]
    )
    rows = {
        row["what"]: row
        for row in json.loads(User(place / "other", ranges=False)("doctor", "--format", "json").stdout)
    }
    assert not rows["subuid"]["ok"] and "usermod --add-subuids" in rows["subuid"]["detail"]
    assert rows["isolation auto"]["detail"].startswith("chroot")


def test_a_context_that_cannot_be_read_is_told(place, busybox_tar) -> None:
    """A file, a directory, a whole named context; what the ignore file leaves out is not looked at."""
    user = User(place / "user")
    built = context(place, "FROM scratch\nCOPY . /\n", file="text\n")
    (built / "closed").mkdir(mode=0o700)
    done = user("build", built, check=False)
    assert "'closed' in the build context can't be read: Permission denied" in done.stderr
    (built / ".dockerignore").write_text("closed\n")
    user("build", built)
    (built / "file").chmod(0o600)
    done = user("build", built, check=False)
    assert done.returncode == 1 and "Dockerfile:2\n" in done.stderr
    assert "'file' in the build context can't be read: Permission denied" in done.stderr
    (built / "Dockerfile").write_text("FROM scratch\nRUN --mount=from=more,target=/more true\n")
    done = user("build", "--build-context", f"more={built}/closed", built, check=False)
    assert f"{built}/closed/.dockerignore can't be read: Permission denied" in done.stderr


def test_files_from_the_network(place: Path, busybox_tar: Path) -> None:
    (place / "git").mkdir()
    make_repository(place / "git")
    with site(place / "git") as web:
        web.pages["/f"] = Page(b"text", {"ETag": '"1"'})
        text = f"FROM base\nADD {web.url}/f /f\nADD --chown=bob {web.url}/git/repo.git#v2 /r\n"
        found = compare(place, busybox_tar, context(place, text), ("chroot",))
    assert {row[0] for row in found[-1]} >= {"r/README", "r/sub/run.sh"}
