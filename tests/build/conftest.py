"""Real builds by the console script: base images made here, a store for each test, a registry on loopback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fork_server import ForkServer
from mount_builds import Place, Way
from program import BUILDFRONT, locked

APPLETS = (
    "sh cat id ls echo sleep env touch"
    " mkdir rm ln chmod grep stat test true false head sed hostname kill pwd cp wc date rmdir seq"
)


@pytest.fixture(scope="session", autouse=True)
def _needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 1_700_000_000
    return member


@pytest.fixture(scope="session")
def busybox_tar() -> Path:
    """A root filesystem with busybox, users and a directory that is not empty."""
    with locked("busybox.tar") as path:
        if not path.exists():
            root = path.with_suffix(".tree")
            shutil.rmtree(root, ignore_errors=True)
            for name in ("bin", "etc", "tmp", "usr/bin", "data", "home/bob"):
                (root / name).mkdir(parents=True)
            shutil.copy(shutil.which("busybox") or "", root / "bin" / "busybox")
            for name in APPLETS.split():
                (root / "bin" / name).symlink_to("busybox")
            (root / "etc/passwd").write_text(
                "root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
            )
            (root / "etc/group").write_text("root:x:0:\nbob:x:1000:\nwheel:x:10:bob\n")
            (root / "data" / "kept").write_text("kept\n")
            (root / "tmp").chmod(0o1777)
            with tarfile.open(path.with_suffix(".new"), "w") as tar:
                tar.add(root, ".", filter=_plain)
            os.rename(path.with_suffix(".new"), path)
    return path


@pytest.fixture(scope="session")
def debian_tar() -> Path:
    """A Debian root filesystem with apt, from this machine's own mirror."""
    with locked("debian.tar") as path:
        if not path.exists():
            new = path.with_suffix(".new.tar")
            command = ["mmdebstrap", "--variant=apt", "--mode=root", "bookworm", str(new)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            os.rename(new, path)
    return path


@pytest.fixture(scope="session", autouse=True)
def program() -> Iterator[ForkServer]:
    """The console script, for :class:`Builds` too."""
    Builds.program = ForkServer()
    yield Builds.program
    Builds.program.close()


class Builds:
    """One store and one place for contexts.

    Calls of the console script are forks of one process (see fork_server), unless ``subprocess`` has to do more than to
    give it an environment, a directory and input.
    """

    program: ForkServer

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "store"
        self.count = 0

    def __call__(self, *args: Any, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "BUILDFRONT_ROOT": str(self.store), **more.pop("env", {})}
        env.pop("BUILDFRONT_ISOLATION", None)
        if set(more) <= {"cwd", "input"}:
            given = more.pop("input", "").encode()
            raw = Builds.program.run([*map(str, args)], env=env, input=given, **more)
            done = subprocess.CompletedProcess(
                raw.args, raw.returncode, raw.stdout.decode(), raw.stderr.decode()
            )
        else:
            command = [BUILDFRONT, *map(str, args)]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, **more)
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def context(self, dockerfile: str, **files: str) -> Path:
        """A directory with a Dockerfile and files; ``__`` in a name is a slash, a trailing ``_txt`` a suffix."""
        self.count += 1
        path = self.path / f"context-{self.count}"
        path.mkdir()
        (path / "Dockerfile").write_text(dockerfile)
        for name, text in files.items():
            file = path / name.replace("__", "/").replace("_txt", ".txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return path

    def build(self, context: Path, *args: Any, **more: Any) -> subprocess.CompletedProcess[str]:
        """A build with plain progress."""
        return self("build", "--progress", "plain", *args, context, **more)

    def events(self, context: Path, *args: Any) -> list[dict[str, Any]]:
        """The events of a build."""
        done = self("build", "--progress", "rawjson", *args, context)
        return [json.loads(line) for line in done.stderr.splitlines()]

    def ran(self, context: Path, *args: Any) -> list[str]:
        """The titles of the steps that were not cached, in the order of the Dockerfile."""
        started = [e for e in self.events(context, *args) if e["event"] == "start"]
        return [e["title"] for e in sorted(started, key=lambda e: e["step"])]

    def files(self, context: Path, *args: Any) -> Path:
        """The root filesystem of a build."""
        self.count += 1
        out = self.path / f"out-{self.count}"
        self.build(context, "-o", f"type=local,dest={out}", *args)
        return out

    def config(self, name: str) -> dict[str, Any]:
        """An image's config object."""
        value: dict[str, Any] = json.loads(self("inspect", name).stdout)[0]["config"]
        return value

    def snapshot(self) -> dict[str, Any]:
        """What the store has that matters: names, blobs, snapshots; no session may be left."""
        index = json.loads((self.store / "index.json").read_text())["manifests"]
        assert list((self.store / "tmp").iterdir()) == []
        blobs = sorted(path.name for path in (self.store / "blobs" / "sha256").iterdir())
        return {"index": index, "blobs": blobs, "snapshots": sorted(os.listdir(self.store / "snapshots"))}


@pytest.fixture
def bf(tmp_path: Path) -> Builds:
    return Builds(tmp_path)


@pytest.fixture(scope="session")
def box_store(tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Path:
    """A store with the image ``box``, of which a test takes a copy: to import it each time takes much longer."""
    first = Builds(tmp_path_factory.mktemp("box"))
    first("import", busybox_tar, "-t", "box")
    return first.store


@pytest.fixture
def box(bf: Builds, box_store: Path) -> Builds:
    """A store with the image ``box``."""
    shutil.copytree(box_store, bf.store)
    return bf


@pytest.fixture(params=["chroot", "oci"])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """HOST:PORT of a real registry server on loopback."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    assert program, "docker-registry is missing: make system"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    server = subprocess.Popen(
        [program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(1200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def place_of(busybox_tar: Path, box_store: Path) -> Iterator[Callable[..., Place]]:
    """Makes places for builds in some way (see mount_builds), which everybody can reach; pytest's own are closed."""
    made: list[Place] = []

    def make(way: Way, snapshots: str = "") -> Place:
        path = Path(tempfile.mkdtemp(prefix="mounts-"))
        path.chmod(0o755)
        try:
            made.append(Place(path, way, busybox_tar, snapshots, box_store))
        except BaseException:
            shutil.rmtree(path)
            raise
        return made[-1]

    yield make
    for place in made:
        place.close()
