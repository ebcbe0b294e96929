"""A build with no options, as everybody and everywhere: it works, or one sentence says what is missing. And doctor says
before what it will take."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import as_user
import pytest
from program import BUILDFRONT
from rows import row

from run_step.pipeline.capabilities import DEFAULT

CONTAINER = [sys.executable, os.path.join(as_user.PROJECT, "tests", "as_container.py")]


def only(*capabilities: str) -> list[str]:
    """Root that has these capabilities, and can't get others."""
    kept = "".join(f",+{name.lower()}" for name in capabilities)
    return ["setpriv", f"--bounding-set=-all{kept}", "--inh-caps=-all"]


class Machine:
    """One of those who build, with a store of its own that is made by importing the base image ``box``."""

    def __init__(self, path: Path, prefix: list[str], tar: Path) -> None:
        self.path = path
        self.prefix = prefix
        self.context = path / "context"
        self.context.mkdir()
        shutil.copy(tar, path / "box.tar")
        (path / "box.tar").chmod(0o644)
        self.run("import", path / "box.tar", "-t", "box")

    def run(self, *args: Any, check: bool = True) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("BUILDFRONT_")}
        root = [] if "as_user" in str(self.prefix) else ["--root", str(self.path / "store")]
        command = [*self.prefix, "env", "-C", str(self.context), BUILDFRONT, *root, *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert "Traceback" not in done.stderr, done.stderr
        assert "[Errno" not in done.stderr, done.stderr
        assert not check or done.returncode == 0, done.stderr
        return done

    def build(self, dockerfile: str, *args: str, check: bool = True) -> str:
        """What ``buildfront build .`` says."""
        (self.context / "Dockerfile").write_text(dockerfile)
        return self.run("build", "--progress", "plain", *args, ".", check=check).stderr

    def doctor(self) -> dict[str, str]:
        rows = json.loads(self.run("doctor", "--format", "json").stdout)
        return {row["what"]: row["detail"] for row in rows}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody can reach; pytest's own are closed."""
    path = Path(tempfile.mkdtemp(prefix="defaults-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def prefix_of(who: str, place: Path) -> list[str]:
    if who == "root":
        return []
    if who == "root in a container that allows nothing":
        return CONTAINER
    if who.startswith("root with"):
        return only(*{"docker's": DEFAULT, "SETFCAP": ("SETFCAP",), "none": ()}[who.rsplit(maxsplit=1)[-1]])
    home = as_user.make_home(str(place / "home"))
    return as_user.words(
        home,
        ranges="without ranges" not in who,
        tun="without tun" not in who,
        masked_proc="masked" in who,
        userns="without namespaces" not in who,
    )


WHO = {
    "root": ("none", "oci", "host"),
    "user": ("own", "rootless", "slirp4netns"),
    "user without tun": ("own", "rootless", "host"),
    "user without ranges": ("own", "chroot", "host"),
    "user without ranges, without tun": ("own", "chroot", "host"),
    "user with a masked /proc, without tun": ("own", "chroot", "host"),
    "root with docker's": ("own", "rootless", "slirp4netns"),
    "root with SETFCAP": ("own", "chroot", "host"),
    "root in a container that allows nothing": ("none", "chroot", "host"),
}


@row("X04")
@pytest.mark.parametrize("who", WHO)
def test_a_build_with_no_options_works(place, busybox_tar, who) -> None:
    namespace, isolation, network = WHO[who]
    machine = Machine(place, prefix_of(who, place), busybox_tar)
    err = machine.build("FROM box\nRUN id -u; echo hi > /made; echo lost > /dev/null; ls -A /dev/null\n")
    assert " 0\n" in err and "/dev/null" in err
    again = machine.build("FROM box\nRUN id -u; echo hi > /made; echo lost > /dev/null; ls -A /dev/null\n")
    assert "DONE" not in again  # all of it is cached
    told = machine.doctor()
    assert told["user namespace auto"].startswith(f"{namespace}: ")
    assert told["isolation auto"].startswith(f"{isolation}: ")
    assert told["network auto"].startswith(f"{network}: ")
    words = f"would use user namespace {namespace}, isolation {isolation}, network {network}, "
    assert told["a build with no options"].startswith(words)


@row("X04")
def test_what_is_not_the_best_is_said_once(place, busybox_tar) -> None:
    machine = Machine(place, prefix_of("user without tun", place), busybox_tar)
    err = machine.build("FROM box\nRUN true\nRUN echo two\n")
    assert err.count("warning: ") == 1
    assert (
        "warning: steps share the host's network: /dev/net/tun can't be opened: Permission denied; load"
        in err
    )


@row("X04")
def test_root_is_told_that_it_builds_in_a_user_namespace(place, busybox_tar) -> None:
    machine = Machine(place, only(*DEFAULT), busybox_tar)
    err = machine.build("FROM box\nUSER bob\nRUN id -u; cat /proc/self/uid_map\nRUN true\n")
    assert err.count("warning: root has no CAP_SYS_ADMIN here, so the build is done as root of a user") == 1
    assert " 1000\n" in err and " 4294967294\n" in err


@row("S77")
@pytest.mark.parametrize("network", ["private", "slirp4netns", "pasta"])
def test_a_network_that_was_asked_for_is_an_error_without_tun(place, busybox_tar, network) -> None:
    machine = Machine(place, prefix_of("user without tun", place), busybox_tar)
    err = machine.build("FROM box\nRUN touch /made\n", "--network", network, check=False)
    assert "needs a tap device, but /dev/net/tun can't be opened: Permission denied" in err
    assert "use --network host or none" in err


@row("X04")
def test_root_without_any_capability_is_told_in_one_sentence(place, busybox_tar) -> None:
    machine = Machine(place, only(), busybox_tar)
    err = machine.build("FROM box\nRUN true\n", check=False)
    line = err.strip().splitlines()[-1]
    assert line.startswith("error: root has no capabilities for a RUN step here: mounts need CAP_SYS_ADMIN")
    assert line.endswith("or build as an ordinary user")
    told = machine.doctor()
    assert told["a build with no options"].startswith("can't run a step: root has no capabilities")
    assert "a user namespace with root in it needs CAP_SETFCAP" in told["user namespace auto"]


@row("X04")
def test_a_user_who_may_have_no_user_namespace_is_told(place, busybox_tar) -> None:
    """As in a container whose filter forbids them."""
    machine = Machine(place, prefix_of("user", place), busybox_tar)
    machine.prefix = prefix_of("user without namespaces", place)
    err = machine.build("FROM box\nRUN true\n", check=False)
    assert err.startswith(
        "error: this user can't enter a user namespace: Operation not permitted; run as root"
    )
    assert "kernel.apparmor_restrict_unprivileged_userns" in err
    told = machine.doctor()["a build with no options"]
    assert told.startswith(
        "can't run a step: an ordinary user needs a user namespace, and no user namespace can be"
    )


@row("X04")
@pytest.mark.slow
@pytest.mark.parametrize("who", [*WHO])
def test_packages_are_installed_with_no_options(place, debian_tar, who) -> None:
    machine = Machine(place, prefix_of(who, place), debian_tar)
    err = machine.build(
        "FROM box\nRUN apt-get update && apt-get install -y --no-install-recommends hello && hello\n",
        check="without ranges" not in who and "SETFCAP" not in who,
    )
    if "Hello, world!" not in err:
        assert "only one user ID is mapped" in err  # apt gives its downloads to another user
