"""Whole builds and their networks: many at once, killed at any moment, forbidden, by an ordinary user, the Debian
mirror. All but the mirror on a machine of the test's own (see lab.py)."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import as_user
import pytest
from lab import HOST4, HOST6, NAME, PRISTINE, WEB4, WEB6, Lab, lab, make_fetching_rootfs
from program import BUILDFRONT
from rows import row

HOSTS = ["--add-host", f"web:{WEB4}", "--add-host", f"web6:{WEB6}"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base image with the script ``fetch``."""
    path = Path(tempfile.mkdtemp(prefix="image-"))
    path.chmod(0o755)
    make_fetching_rootfs(str(path / "root"))
    with tarfile.open(path / "net.tar", "w") as tar:
        tar.add(path / "root", ".")
    shutil.rmtree(path / "root")
    return path / "net.tar"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody can reach; pytest's own are closed."""
    path = Path(tempfile.mkdtemp(prefix="network-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


class Builder:
    """Builds on the machine of a lab, with a store for itself."""

    def __init__(self, machine: Lab | None, place: Path, image: Path, *, user: bool = False) -> None:
        self.place = place
        self.count = 0
        self.prefix = list(machine.prefix) if machine is not None else []
        self.store = place / "store"
        if user:
            self.prefix += as_user.words(as_user.make_home(str(place / "home")))
            self.store = place / "home" / "store"
        self("import", image, "-t", "net")

    def command(self, *args: object) -> list[str]:
        return [*self.prefix, BUILDFRONT, "--root", str(self.store), *map(str, args)]

    def __call__(
        self, *args: object, check: bool = True, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **(env or {})}
        environment.pop("BUILDFRONT_ISOLATION", None)
        done = subprocess.run(
            self.command(*args), capture_output=True, text=True, check=False, env=environment, cwd="/"
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def context(self, *lines: str) -> Path:
        self.count += 1
        path = self.place / f"context-{self.count}"
        path.mkdir()
        (path / "Dockerfile").write_text("\n".join(["FROM net", *lines, ""]))
        return path

    def said(self, *lines: str, args: tuple[str, ...] = (), **more: dict[str, str]) -> str:
        """The progress of a build of these lines."""
        words = ("build", "--progress", "plain", "--no-cache", *args)
        return self(*words, self.context(*lines), **more).stderr  # type: ignore[arg-type]

    def refused(self, *lines: str, args: tuple[str, ...] = ()) -> str:
        done = self("build", "--progress", "plain", *args, self.context(*lines), check=False)
        assert done.returncode != 0, done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture
def builder(machine: Lab, place: Path, image: Path) -> Builder:
    return Builder(machine, place, image)


def test_every_line_has_its_network(builder: Builder, machine: Lab) -> None:
    """RUN --network says less than the build, and the build the rest."""
    lines = (
        "RUN fetch web first; fetch web6 first",
        "RUN --network=none fetch web second; ip route; echo nothing",
        "RUN --network=default ip -o -4 addr; fetch web third",
        "RUN --network=host ip -o -4 addr; fetch web fourth",
    )
    said = builder.said(*lines, args=("--network", "private", "--allow", "network.host", *HOSTS))
    assert f"peer=::ffff:{HOST4} path=/first" in said and f"peer={HOST6} path=/first" in said
    assert "path=/second" not in said and "nothing" in said
    assert "inet 10.213." in said and "path=/third" in said and "path=/fourth" in said
    assert f"inet {HOST4}/24" in said  # of the line with the host's network
    assert machine.left() == PRISTINE


@pytest.mark.parametrize("network", ["none", "private", "bridge", "pasta"])
def test_the_hosts_network_has_to_be_allowed(builder: Builder, network: str) -> None:
    said = builder.refused("RUN true", "RUN --network=host echo out", args=("--network", network))
    assert "RUN --network=host is not allowed" in said
    assert "--allow network.host" in said and "Dockerfile:3" in said and "#1" not in said


def test_the_hosts_network_has_to_be_allowed_whatever_the_default_is(builder: Builder) -> None:
    lines = ("RUN true", "RUN --network=host echo out")
    maps = ("--userns-uid-map", "0:100000:65536", "--userns-gid-map", "0:100000:65536")
    for args in (("--isolation", "rootless"), maps, ("--isolation", "chroot")):
        said = builder.refused(*lines, args=args)
        assert "--allow network.host" in said and "Dockerfile:3" in said and "#1" not in said
        builder.said(*lines, args=(*args, "--allow", "network.host"))
    assert "out" in builder.said(*lines, args=("--network", "host"))


def test_an_unknown_entitlement_is_told(builder: Builder) -> None:
    said = builder.refused("RUN true", args=("--allow", "network.hots"))
    assert "--allow network.hots: unknown entitlement" in said and "network.host" in said


def test_nothing_of_the_network_is_reached_with_none(builder: Builder) -> None:
    said = builder.said("RUN fetch web; cat /proc/net/route; ip addr", args=("--network", "none", *HOSTS))
    assert "peer=" not in said and "eth0" not in said and "127.0.0.1/8" in said


@row("X79")
def test_twenty_builds_at_once_have_twenty_addresses(builder: Builder, machine: Lab, place: Path) -> None:
    """Each waits for the others in its step, so that all have their address at the same time."""
    meeting = place / "meeting"
    meeting.mkdir()
    wait = "until [ $(ls /meeting | wc -l) -ge 20 ]; do sleep 0.1; done"
    show = "ip -o addr show dev eth0 | sed 's/.*inet6* //;s,/.*,,' | grep -v ^fe80"
    line = f"RUN {show} > /meeting/$N; {wait}; fetch web $N"
    context = builder.context("ARG N", line)
    running = []
    for number in range(20):
        words = builder.command(
            *(
                "build",
                "--progress",
                "plain",
                "--no-cache",
                "--network",
                "bridge",
                "--build-arg",
                f"N={number}",
            ),
            *("--isolation", "chroot" if number % 2 else "oci", "-v", f"{meeting}:/meeting", *HOSTS, context),
        )
        running.append(
            subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/")
        )
    for number, process in enumerate(running):
        said = process.communicate(timeout=180)[1]
        assert process.returncode == 0, said
        assert f"peer=::ffff:{HOST4} path=/{number} " in said
    addresses = [word for path in meeting.iterdir() for word in path.read_text().split()]
    assert len(addresses) == len(set(addresses)) == 40
    assert machine.left() == PRISTINE
    assert machine.run("ip", "netns") == ""


@row("X79")
def test_a_build_that_is_killed_at_any_moment_leaves_nothing_at_the_next_start(
    builder: Builder, machine: Lab
) -> None:
    """All processes of the build are killed, each time at another moment from when the first step's network begins."""
    dice = random.Random(7)
    context = builder.context("RUN true", "RUN true")
    words = ("build", "--progress", "plain", "--no-cache", "--network", "bridge")
    state = machine.state
    begun = left = 0
    for number in range(20):
        isolation = "chroot" if number % 2 else "oci"
        process = subprocess.Popen(
            builder.command(*words, "--isolation", isolation, context),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        known = names(state)
        while process.poll() is None and not names(state) - known:
            time.sleep(0.005)
        time.sleep(0.25 * dice.random())  # the moment
        tree = [process.pid]
        for pid in tree:
            tree += stopped(pid)
        begun += process.poll() is None
        for pid in tree:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        left += any(name.startswith("lease-") for name in names(state))
    assert begun and left
    builder(*words[:-1], "host", context)  # which needs no bridge
    assert machine.left() == PRISTINE
    done = builder(*words, "--isolation", "chroot", *HOSTS, builder.context("RUN fetch web again"))
    assert f"peer=::ffff:{HOST4} path=/again" in done.stderr
    assert machine.left() == PRISTINE


def names(directory: Path) -> set[str]:
    return set(os.listdir(directory)) if directory.is_dir() else set()


def stopped(pid: int) -> list[int]:
    """Stop a process; its children."""
    try:
        os.kill(pid, signal.SIGSTOP)
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as stream:
            return [int(word) for word in stream.read().split()]
    except OSError:
        return []


def test_a_name_is_looked_up_by_dns(builder: Builder) -> None:
    args = (
        "--network",
        "bridge",
        "--dns",
        "203.0.113.53",
        "--dns-search",
        "corp.test",
        "--dns-option",
        "timeout:3",
    )
    said = builder.said(f"RUN cat /etc/resolv.conf; fetch web; fetch {NAME}", args=args)
    assert "search corp.test" in said and "options timeout:3" in said
    assert "host=web" in said and f"host={NAME}" in said


def test_dns_none_keeps_the_images_file(builder: Builder, machine: Lab) -> None:
    lines = ("COPY Dockerfile /etc/resolv.conf", "RUN cat /etc/resolv.conf")
    said = builder.said(*lines, args=("--network", "bridge", "--dns", "none"))
    assert "COPY Dockerfile" in said.partition("cat /etc/resolv.conf")[2]


def test_networks_of_CNI_by_name(builder: Builder, place: Path) -> None:
    """--cni-config-dir and --cni-plugin-path; a plugin's error is the build's."""
    config = place / "net.d"
    config.mkdir()
    ipam = {"type": "host-local", "subnet": "10.94.0.0/24", "dataDir": str(place / "data")}
    ipam["routes"] = [{"dst": "0.0.0.0/0"}]  # type: ignore[assignment]
    bridge = {"type": "bridge", "bridge": "cnic", "isGateway": True, "ipMasq": True, "ipam": ipam}
    (config / "front.conflist").write_text(
        json.dumps({"cniVersion": "1.0.0", "name": "front", "plugins": [bridge]})
    )
    args = ("--cni-config-dir", str(config), *HOSTS)
    for isolation in ("chroot", "oci"):
        said = builder.said(
            "RUN ip -o -4 addr; family=v4 fetch web",
            args=("--network", "front", "--isolation", isolation, *args),
        )
        assert "inet 10.94.0." in said and f"peer=::ffff:{HOST4} " in said
    said = builder.refused("RUN true", args=("--network", "back", *args))
    assert "has the network 'back'; known are front" in said
    said = builder.refused("RUN true", args=("--network", "front", "--cni-plugin-path", str(place), *args))
    assert "the CNI plugin bridge of network 'front' was not found" in said


@pytest.mark.parametrize("isolation", ["rootless", "chroot"])
@pytest.mark.parametrize("network", ["slirp4netns", "pasta", "private"])
def test_a_user_builds_with_a_network(
    machine: Lab, place: Path, image: Path, isolation: str, network: str
) -> None:
    user = Builder(machine, place, image, user=True)
    line = f"RUN cat /proc/net/dev; family=v4 fetch web; family=v4 fetch {NAME}"
    said = user.said(line, args=("--isolation", isolation, "--network", network, *HOSTS))
    assert "tap0:" in said and said.count(f"peer=::ffff:{HOST4} ") == 2
    said = user.refused("RUN true", args=("--isolation", "chroot", "--network", "bridge"))
    assert "network 'bridge' needs root of the machine (CAP_NET_ADMIN)" in said


PROXIES = {"http_proxy": "http://proxy.test:3128", "NO_PROXY": "localhost", "ftp_proxy": ""}


@row("S11")
def test_proxies_of_the_machine_are_in_a_steps_environment_alone(builder: Builder) -> None:
    lines = ("ENV http_proxy=http://image.test", "RUN env | sort")
    said = builder.said("RUN env", args=("--network", "none"), env=PROXIES)
    assert (
        "http_proxy=http://proxy.test:3128" in said
        and "NO_PROXY=localhost" in said
        and "ftp_proxy" not in said
    )
    said = builder.said(*lines, args=("--network", "none", "-t", "app"), env=PROXIES)
    assert "http_proxy=http://image.test" in said
    assert "proxy.test" not in json.dumps(json.loads(builder("inspect", "app").stdout))
    said = builder.said("RUN env", args=("--network", "none", "--no-http-proxy"), env=PROXIES)
    assert "proxy.test" not in said and "NO_PROXY" not in said


def _mirror() -> tuple[str, str]:
    """Host and path of the first mirror in this machine's apt sources."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for line in listed:
        site, _, release = line.partition(" ")
        if site.startswith("http://"):
            host, _, path = site.removeprefix("http://").partition("/")
            return host, f"{path}/dists/{release}/Release"
    pytest.skip("no mirror by http in the sources of apt")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "isolation", "user"),
    [
        ("bridge", "chroot", False),
        ("bridge", "oci", False),
        ("host", "chroot", False),
        ("slirp4netns", "rootless", True),
        ("pasta", "rootless", True),
    ],
)
def test_the_mirror_is_reached(place: Path, image: Path, network: str, isolation: str, user: bool) -> None:
    """On this machine itself, one at a time: by its name server and its way out."""
    host, path = _mirror()
    with open(Path(tempfile.gettempdir()) / "buildfront-network.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        builder = Builder(None, place, image, user=user)
        line = f"RUN family=v4 fetch {host} {path} | head -20"
        said = builder.said(line, args=("--isolation", isolation, "--network", network))
    assert "Origin: Debian" in said and "Codename:" in said
