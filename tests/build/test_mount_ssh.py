"""RUN --mount=type=ssh: OpenSSH's own programs in the step, keys that stay outside, and what is left of the socket."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import as_user
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mount_builds import CHROOT, WAYS, Place, Way, traces
from rows import row
from test_build_failures import processes, until

WITH_TOOLS = "--mount=type=bind,from=tools,target=/tools"
"""The image has no OpenSSH: this machine's is mounted."""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build context with ssh-add and ssh-keygen, and all that they are linked with."""
    top = tmp_path_factory.mktemp("tools")
    (top / "lib").mkdir()
    top.chmod(0o755)  # the user reads a copy of it, with its mode
    loader = ""
    for name in ("ssh-add", "ssh-keygen"):
        program = shutil.which(name)
        assert program, f"{name} is missing: make system"
        shutil.copy(program, top / "lib" / name)
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for path in re.findall(r"(/\S+) \(0x", linked):
            shutil.copy(path, top / "lib")
            loader = os.path.basename(path) if "/ld-" in path else loader
        script = f'#!/bin/sh\nexec /tools/lib/{loader} --library-path /tools/lib /tools/lib/{name} "$@"\n'
        (top / name).write_text(script)
        (top / name).chmod(0o755)
    return top


class Key:
    """A key pair in a file, which the place's user alone may read."""

    def __init__(self, place: Place, name: str) -> None:
        self.path = place.path.parent / name
        command = ["ssh-keygen", "-q", "-N", "", "-C", name, "-t", "ed25519", "-f", str(self.path)]
        subprocess.run(command, check=True, timeout=60)
        if place.way.user:
            os.chown(self.path, as_user.UID, as_user.UID)
        self.public = Path(f"{self.path}.pub").read_text().strip()
        lines = self.path.read_bytes().splitlines()
        private = serialization.load_ssh_private_key(self.path.read_bytes(), None)
        assert isinstance(private, Ed25519PrivateKey)
        raw = private.private_bytes_raw()
        self.private = (raw, base64.b64encode(raw)[:42], raw.hex().encode(), *lines[2:-1])
        """What no file may hold: the secret part in the usual forms."""


@contextmanager
def ssh_agent(place: Place, name: str, *keys: Key) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """OpenSSH's agent, the place's user's own, with keys in it."""
    directory = place.path.parent / f"{name}-agent"
    directory.mkdir()
    who = {"user": as_user.UID, "group": as_user.UID, "extra_groups": []} if place.way.user else {}
    if place.way.user:
        as_user.make_home(str(directory))
    path = directory / "socket"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL, **who)  # type: ignore[call-overload]
    try:
        until(path.exists, "the agent has no socket")
        for key in keys:
            command = ["ssh-add", "-q", str(key.path)]
            subprocess.run(
                command, env={**os.environ, "SSH_AUTH_SOCK": str(path)}, check=True, timeout=60, **who
            )
        yield path, agent
    finally:
        agent.kill()
        agent.wait()


STEPS = f"""\
FROM box
RUN {WITH_TOOLS} --mount=type=ssh echo $SSH_AUTH_SOCK; stat -c '%a %u:%g %F' $SSH_AUTH_SOCK; /tools/ssh-add -L
RUN {WITH_TOOLS} --mount=type=ssh,id=file,target=/deep/er/agent,mode=0660,uid=1000,gid=10 \\
    echo $SSH_AUTH_SOCK; stat -c '%a %u:%g %F' $SSH_AUTH_SOCK; /tools/ssh-add -L
RUN {WITH_TOOLS} --mount=type=ssh,id=other --mount=type=ssh,id=file --mount=type=ssh,target=/data/agent \\
    ls /run/buildkit; for each in $SSH_AUTH_SOCK /run/buildkit/ssh_agent.1 /data/agent; do \\
    SSH_AUTH_SOCK=$each /tools/ssh-add -L; done; cat /data/kept
RUN {WITH_TOOLS} --mount=type=ssh for each in -D '-d /tools/key.pub' -X; do /tools/ssh-add $each </dev/null; done; \\
    /tools/ssh-keygen -q -N '' -t ed25519 -f /mine && /tools/ssh-add /mine; rm /mine /mine.pub; \\
    /tools/ssh-add -L; rm $SSH_AUTH_SOCK; test -S $SSH_AUTH_SOCK && echo still there
RUN {WITH_TOOLS} --mount=type=ssh echo signed > /text && /tools/ssh-keygen -q -Y sign -n file -f /tools/key.pub /text
RUN {WITH_TOOLS} --mount=type=ssh,id=nobody ls /run/buildkit; echo "[$SSH_AUTH_SOCK]"
RUN ls /run /deep /data; echo "[$SSH_AUTH_SOCK]"
USER bob
RUN {WITH_TOOLS} --mount=type=ssh stat -c '%a %u:%g' $SSH_AUTH_SOCK; /tools/ssh-add -L
RUN {WITH_TOOLS} --mount=type=ssh,uid=0,gid=0,mode=0666 stat -c '%a %u:%g' $SSH_AUTH_SOCK; /tools/ssh-add -L
RUN {WITH_TOOLS} --mount=type=ssh,uid=0 /tools/ssh-add -L || id -u
"""


@row("X68")
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_step_uses_keys_that_it_never_has(place_of, tools, tmp_path, way) -> None:
    place = place_of(way)
    mine, other, file = (Key(place, name) for name in ("mine", "other", "file"))
    context = shutil.copytree(tools, place.outside / "tools")
    shutil.copy(f"{mine.path}.pub", context / "key.pub")
    with ssh_agent(place, "mine", mine) as (user, _), ssh_agent(place, "other", other) as (another, _):
        flags = ["--ssh", "default", "--ssh", f"other={another}", "--ssh", f"file={file.path}"]
        flags += ["--build-context", f"tools={context}", "-o", f"type=local,dest={place.path}/out"]
        built = place.context(STEPS)
        printed = place.printed(*flags, built, SSH_AUTH_SOCK=str(user))
        kept = {"SSH_AUTH_SOCK": str(user), "PATH": os.environ["PATH"]}
        shown = subprocess.run(
            ["ssh-add", "-L"], env=kept, capture_output=True, text=True, check=True, timeout=60
        )
        assert shown.stdout.splitlines() == [mine.public]
    steps = [lines for title, lines in printed.items() if title.startswith("RUN")]
    default = "/run/buildkit/ssh_agent.0"
    assert steps[0] == [default, "600 0:0 socket", mine.public]
    assert steps[1] == ["/deep/er/agent", "660 1000:10 socket", file.public]
    assert steps[2] == ["ssh_agent.0", "ssh_agent.1", other.public, file.public, mine.public, "kept"]
    refused = [line for line in steps[3] if line not in (mine.public, "still there")]
    assert {mine.public, "still there"} < set(steps[3]), steps[3]
    assert [line for line in refused if "removed" in line.lower() or "added" in line.lower()] == []
    assert len([line for line in refused if "agent refused operation" in line or "Failed" in line]) >= 3, (
        refused
    )
    assert steps[4] == []
    assert steps[5][-1] == "[]" and "ls: /run/buildkit: No such file or directory" in steps[5]
    assert "[]" in steps[6] and "ls: /deep: No such file or directory" in steps[6]
    assert "kept" in steps[6] and not {"buildkit", "agent"} & set(steps[6])
    assert steps[7] == ["600 1000:1000", mine.public]
    assert steps[8] == ["666 0:0", mine.public]
    assert steps[9][-1] == "1000" and "Permission denied" in steps[9][0]
    assert place.left() == []
    # The signature is good; that is all of the key that the image or the store has.
    out = place.path / "out"
    (tmp_path / "signers").write_text(f"me {mine.public}\n")
    verify = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "signers"), "-I", "me", "-n", "file"]
    subprocess.run([*verify, "-s", str(out / "text.sig")], input=b"signed\n", check=True, timeout=60)
    assert traces([*mine.private, *other.private, *file.private], place.path) == []
    assert not {"run", "deep", "tools"} & {name.name for name in out.iterdir()}
    # Whose keys they are is nothing that the cache would know of.
    again = place.build("--build-context", f"tools={context}", built)
    assert "DONE" not in again.stderr


WAITING = f"""\
FROM box
RUN {WITH_TOOLS} --mount=type=ssh --mount=type=ssh,id=file --mount=type=cache,id=sync,target=/sync \\
    (sleep NAP &); /tools/ssh-add -L; touch /sync/started; until [ -e /sync/go ]; do sleep 0.05; done; \\
    /tools/ssh-add -L || echo gone; SSH_AUTH_SOCK=/run/buildkit/ssh_agent.1 /tools/ssh-add -L
"""
RUNNING = [CHROOT, Way("oci", "runc"), Way("rootless", "runc", user=True)]


class Waiting:
    """A build whose step has two agents and waits."""

    def __init__(self, place: Place, tools: Path, mine: Key, file: Key, user: Path) -> None:
        self.nap = f"9{os.getpid()}{place.count}.{len(str(place.path))}"
        self.flags = [
            "--ssh",
            f"default={user}",
            "--ssh",
            f"file={file.path}",
            "--build-context",
            "tools=tools",
        ]
        shutil.copytree(tools, place.outside / "tools")
        context = place.context(WAITING.replace("NAP", self.nap))
        self.build = place.start(*place.building(*self.flags, context))
        place.wait_file(self.build, "sync", "started")
        self.sockets = [path for path in (place.store / "tmp").rglob("*") if path.is_socket()]
        assert len([path for path in self.sockets if "agent" in path.name]) == 2
        assert traces([*mine.private, *file.private], place.path, Path("/run"), Path("/dev/shm")) == []


@pytest.mark.parametrize("way", RUNNING, ids=str)
def test_an_agent_that_dies_is_an_error_for_the_step_alone(place_of, tools, way) -> None:
    place = place_of(way)
    mine, file = Key(place, "mine"), Key(place, "file")
    with ssh_agent(place, "mine", mine) as (user, agent):
        step = Waiting(place, tools, mine, file, user)
        agent.kill()
        agent.wait()
        (place.cache("sync") / "go").touch()
        _, err = step.build.communicate(timeout=100)
    assert step.build.returncode == 0, err
    assert "Traceback" not in err and len(re.findall(r"\d gone$", err, re.MULTILINE)) == 1
    assert err.count(mine.public) == 1 and err.count(file.public) == 1
    assert place.left() == []
    until(lambda: processes(step.nap) == [], "processes of the step are left")


@pytest.mark.parametrize("way", RUNNING, ids=str)
def test_a_builder_that_is_killed_leaves_no_socket_and_no_process(place_of, tools, way) -> None:
    place = place_of(way)
    mine, file = Key(place, "mine"), Key(place, "file")
    with ssh_agent(place, "mine", mine) as (user, _):
        step = Waiting(place, tools, mine, file, user)
        step.build.kill()
        step.build.communicate(timeout=100)
        until(lambda: processes(step.nap) == [], "processes of the step are left")
        for path in step.sockets:
            with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError):
                client.connect(str(path))
        assert str(place.path) not in Path("/proc/net/unix").read_text()
        assert str(place.path) not in Path("/proc/self/mountinfo").read_text()
    place.build(place.context("FROM box\nRUN true\n"))
    assert place.left() == []
    assert traces([*mine.private, *file.private], place.path) == []


def test_a_required_agent_is_missed_before_any_step_runs(place_of) -> None:
    place = place_of(CHROOT)
    context = place.context("FROM box\nRUN echo first\nRUN --mount=type=ssh,id=git,required true\n")
    done = place.build(context, check=False)
    assert done.returncode == 1 and "#2" not in done.stderr
    assert "the SSH agent 'git' is required by RUN --mount, and was not given" in done.stderr
    assert "--ssh git" in done.stderr and "Dockerfile:3\n" in done.stderr


BAD = [
    (["default"], "SSH_AUTH_SOCK is not set"),
    (["default=missing"], "'missing' can't be looked at: No such file or directory"),
    (["a=box.tar"], "'box.tar' is not a private key"),
    (["a=empty,box.tar"], "ssh key 'empty' is not a private key"),
    (["a,b=box.tar"], "the form is default"),
]


@pytest.mark.parametrize(("flags", "words"), BAD, ids=[row[0][0] for row in BAD])
def test_an_agent_that_cannot_be_had_is_told(place_of, flags, words) -> None:
    place = place_of(CHROOT)
    (place.outside / "empty").touch()
    given = [word for flag in flags for word in ("--ssh", flag)]
    done = place.build(*given, place.context("FROM box\nRUN true\n"), check=False)
    assert done.returncode == 2 and words in done.stderr
    assert "RUN" not in done.stderr


def test_an_id_of_an_agent_is_given_once(place_of) -> None:
    place = place_of(CHROOT)
    key = Key(place, "key")
    flags = ["--ssh", f"a={key.path}", "--ssh", f"a={key.path}"]
    done = place.build(*flags, place.context("FROM box\nRUN true\n"), check=False)
    assert done.returncode == 2 and "the id 'a' is given twice" in done.stderr
