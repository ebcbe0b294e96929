"""Bad input and bad ends: a clear message, the right status, and nothing changed or left behind."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def processes(marker: str) -> list[int]:
    """The processes with a word on their command line."""
    out = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if marker.encode() in words:
                out.append(int(name))
    return out


def until(condition, what: str) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(what)


def images_of(snapshot):
    """Names and blobs. A base that was unpacked for a step stays unpacked: that is no change of any image."""
    return {key: value for key, value in snapshot.items() if key != "snapshots"}


def images(box):
    return images_of(box.snapshot())


def test_a_failed_run_shows_the_place_the_output_and_the_status(box, isolation) -> None:
    context = box.context("FROM box\nENV A=1\nRUN echo before; \\\n  echo wrong >&2; \\\n  exit 3\nCMD x\n")
    before = box.snapshot()
    done = box.build(context, "--isolation", isolation, check=False)
    assert done.returncode == 3
    assert "wrong" in done.stderr.split("the step's last output:")[1]
    assert "Dockerfile:3\n" in done.stderr
    assert (
        "  3 | >>> RUN echo before; \\\n  4 | >>>   echo wrong >&2; \\\n  5 | >>>   exit 3\n" in done.stderr
    )
    assert "error: the command failed: exit status 3" in done.stderr
    assert images(box) == images_of(before)


def test_a_death_by_signal_is_told_by_name(box, isolation) -> None:
    # The shell is the namespace's first process, which the kernel shields from its own signals: a child dies.
    context = box.context("FROM box\nRUN sh -c 'kill -9 $$'; exit $?\n")
    done = box.build(context, "--isolation", isolation, check=False)
    assert done.returncode == 137
    assert "exit status 137" in done.stderr or "SIGKILL" in done.stderr


def test_a_step_that_takes_too_long(box, isolation) -> None:
    context = box.context("FROM box\nRUN sleep 1000\n")
    done = box.build(context, "--isolation", isolation, "--timeout", "0.5", check=False)
    assert done.returncode != 0
    assert "took longer than its time limit" in done.stderr


BAD = [
    ("", [], 1, "the Dockerfile is empty"),
    ("# only a comment\n", [], 1, "the Dockerfile is empty"),
    ("FROM box\nRUNN x\n", [], 1, "unknown instruction RUNN", "did you mean RUN?"),
    ("FROM box\nCOPY --chwon=1 a b\n", [], 1, "unknown flag --chwon for COPY", "did you mean --chown?"),
    ("FROM box\nCOPY --chown a b\n", [], 1, "the flag needs a value"),
    ("FROM box\nRUN --mount=type=cach,target=/x true\n", [], 1, "unknown type 'cach'", "did you mean cache?"),
    ("FROM box\nCOPY missing /\n", [], 1, "'missing' is not in the build context", "Dockerfile:2"),
    ("FROM box\nCOPY ../outside /\n", [], 1, "'outside' is not in the build context"),
    ("FROM box\nCOPY --from=nobody /x /\n", ["--pull=never"], 1, "nobody:latest is not in the store"),
    ("FROM 127.0.0.1:1/none\n", [], 1, "127.0.0.1:1/none:latest is not in the store", "can't be reached"),
    ("FROM nothing\n", ["--pull=never"], 1, "nothing:latest is not in the store", "Dockerfile:1"),
    ("FROM Box\n", [], 1, "invalid image reference 'Box'"),
    ("FROM box\nUSER nobody-here\nRUN true\n", [], 1, "'nobody-here' is not in the image's /etc/passwd"),
    ("FROM box\nRUN true\n", ["--ulimit", "nofile=x"], 2, "ulimit 'nofile=x'", "nofile=1024:2048"),
    ("FROM box\nRUN true\n", ["--network", "ns:x"], 2, "network 'ns:x'"),
    ("FROM box\nRUN true\n", ["-o", "type=ocii,dest=x"], 1, "unknown type 'ocii'", "known are oci"),
    ("FROM box\nRUN true\n", ["-o", "type=oci"], 1, "dest is missing"),
    ("FROM box\nRUN true\n", ["--progress", "fancy"], 2, "unknown progress 'fancy'", "rawjson"),
    ("FROM box\nRUN true\n", ["--isolatoin", "oci"], 2, "--isolatoin", "--isolation"),
    ("FROM box\nRUN true\n", ["--isolation", "vm"], 2, "unknown isolation 'vm'", "chroot"),
    ("FROM box\nRUN true\n", ["--target", "x"], 1, "no stage is called 'x'"),
    ("FROM box\nRUN true\n", ["-f", "nowhere"], 1, "the Dockerfile nowhere does not exist"),
    ("FROM box\nRUN true\n", ["--push"], 2, "pushing needs a name"),
    ("FROM box\nRUN true\n", ["--run-step", "remote"], 1, "no RUN executor is called 'remote'", "known are"),
    ("FROM box\nRUN true\n", ["-t", "Bad Name"], 1, "invalid image reference"),
]


@pytest.mark.parametrize(("text", "args", "status", "words"), [(t, a, s, w) for t, a, s, *w in BAD])
def test_bad_input_is_told_and_nothing_changes(box, text, args, status, words) -> None:
    context = box.context(text)
    before = box.snapshot()
    done = box.build(context, *args, check=False)
    assert done.returncode == status, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert images(box) == images_of(before)


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore"])
def test_a_link_out_of_the_context_is_not_read(box, name, tmp_path) -> None:
    (tmp_path / "secret").write_text("TOP-SECRET\n")
    context = box.context("FROM scratch\nCOPY . /\n")
    (context / name).unlink(missing_ok=True)
    (context / name).symlink_to(tmp_path / "secret")
    done = box.build(context, check=False)
    assert "TOP-SECRET" not in done.stderr
    assert done.returncode == 1 and "leads to nothing in the context" in done.stderr


def test_a_missing_dockerfile_and_a_missing_context(box, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    assert "there is no Dockerfile" in box.build(tmp_path / "empty", check=False).stderr
    assert "does not exist" in box.build(tmp_path / "nowhere", check=False).stderr


def test_archives_that_are_cut_off_or_tampered_with(box, tmp_path) -> None:
    context = box.context("FROM box\nRUN echo 1 > /x\n")
    archive, layout = tmp_path / "a.tar", tmp_path / "layout"
    box.build(
        context, "-t", "app", "-o", f"type=oci,dest={archive}", "-o", f"type=oci,dest={layout},tar=false"
    )
    box.store = tmp_path / "second"
    box("images")
    before = box.snapshot()
    whole = archive.read_bytes()
    for size in (0, 100, 700, len(whole) // 2, len(whole) - 8192):
        archive.write_bytes(whole[:size])
        done = box("load", "-i", archive, check=False)
        assert done.returncode == 1 and "error:" in done.stderr and "Traceback" not in done.stderr
        assert box.snapshot() == before
    largest = max((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    done = box("load", "-i", layout, check=False)
    assert f"sha256:{largest.name} is damaged" in done.stderr
    assert box.snapshot() == before
    assert hashlib.sha256(data).hexdigest() in done.stderr


def test_an_import_that_is_cut_off(box, busybox_tar, tmp_path) -> None:
    before = box.snapshot()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(busybox_tar.read_bytes()[:200_000])
    done = box("import", cut, "-t", "cut", check=False)
    assert done.returncode == 1 and "cut off" in done.stderr
    assert box.snapshot() == before


def start(box, context: Path, isolation: str) -> subprocess.Popen[str]:
    import program

    command = [program.BUILDFRONT, "--root", str(box.store), "build", "--isolation", isolation, str(context)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def mounts_of(path: Path) -> list[str]:
    """The mounts of this process that have to do with ``path``; others come and go."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(path) in line]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_end_in_the_middle_leaves_nothing(box, isolation, how) -> None:
    nap = str(100_000 + os.getpid() * 10 + int(how))
    context = box.context(f"FROM box\nRUN echo 1\nRUN echo made > /made; (sleep {nap} &) ; sleep {nap}\n")
    builder = start(box, context, isolation)
    until(lambda: len(processes(nap)) >= 2, "the step did not start")
    assert mounts_of(box.path) == [], "a build's mounts are its own"
    builder.send_signal(how)
    _, err = builder.communicate(timeout=60)
    until(lambda: processes(nap) == [], "processes of the step are left")
    if how != signal.SIGKILL:
        assert builder.returncode == 130
        assert "Traceback" not in err
        assert list((box.store / "tmp").iterdir()) == []
    assert box.ran(box.context("FROM box\nRUN echo 1\nRUN echo after\n")) == ["RUN echo after"]
    assert list((box.store / "tmp").iterdir()) == []
    assert mounts_of(box.path) == []


def test_who_ignores_interrupts_at_the_start_ignores_them_to_the_end(box) -> None:
    """As a background job of a script has it: Ctrl-C in the terminal is not meant for it. SIGTERM is."""
    nap = f"{110_000 + os.getpid()}.5"
    none_ignored = '["grep", "SigIgn:.*0000$", "/proc/self/status"]'
    context = box.context(f"FROM box\nRUN {none_ignored}\nRUN sleep {nap}\n")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        builder = start(box, context, "chroot")
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: processes(nap), "the step did not start")
    builder.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        builder.wait(0.5)
    builder.send_signal(signal.SIGTERM)
    _, err = builder.communicate(timeout=60)
    assert builder.returncode == 130 and "Traceback" not in err
    until(lambda: processes(nap) == [], "processes of the step are left")


def test_the_terminal_shows_live_lines_and_a_pipe_plain_ones(box) -> None:
    import pty

    import program

    context = box.context("FROM box\nRUN echo out of the step; sleep 0.5\n")
    command = [program.BUILDFRONT, "--root", str(box.store), "build", "-t", "app", str(context)]
    controller, terminal = pty.openpty()
    child = subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, env={**os.environ, "TERM": "xterm"}
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            chunk = os.read(controller, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    assert child.wait() == 0
    os.close(controller)
    assert b"DONE" in shown and b"RUN echo out of the step" in shown and b"\x1b[" in shown
    plain = box("build", "--no-cache", context).stderr
    assert "out of the step" in plain and "\x1b" not in plain


def test_rawjson_is_json_line_by_line(box) -> None:
    events = box.events(box.context("FROM box\nRUN echo hello; echo bad >&2\n"))
    kinds = [event["event"] for event in events]
    assert kinds[0] == "graph" and {"start", "output", "done"} <= set(kinds)
    streams = {event["stream"]: event["text"] for event in events if event["event"] == "output"}
    assert streams == {"stdout": "hello\n", "stderr": "bad\n"}


def test_plan_and_spec_run_nothing(box) -> None:
    context = box.context("FROM box AS a\nRUN adduser new\nUSER bob\nRUN id\nFROM a\nRUN env\n")
    table = box("plan", context).stdout
    assert "to do" in table and "unknown" in table and "cached" in table
    graph = json.loads(box("plan", "--format", "json", context).stdout)
    assert [step["op"]["kind"] for step in graph["steps"]] == ["source", "run", "run", "run"]
    assert box("plan", "--format", "dot", context).stdout.startswith("digraph")
    assert box("plan", "--format", "mermaid", context).stdout.startswith("flowchart")
    specs = json.loads(box("spec", context).stdout)
    assert [spec["step"] for spec in specs] == [1, 2, 3]
    assert specs[1]["spec"]["process"]["user"]["uid"] == 1000
    assert [spec["rootfs_from"] for spec in specs] == [
        "parent",
        "nearest known ancestor",
        "nearest known ancestor",
    ]
    assert [spec["step"] for spec in json.loads(box("spec", "--step", "a", context).stdout)] == [1, 2]
    assert box("spec", "--step", "9", context, check=False).returncode == 2


def test_a_bundle_is_run_by_runc_with_the_same_result(box, tmp_path) -> None:
    context = box.context("FROM box\nUSER bob\nWORKDIR /srv/x\nRUN pwd; id -u; hostname; echo $HOME\n")
    bundle = tmp_path / "bundle"
    box("spec", "--isolation", "oci", "--step", "2", "--bundle", bundle, context)
    command = ["runc", "--root", str(tmp_path / "state"), "run", "--bundle", str(bundle), "bundle-test"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    built = [e for e in box.events(context, "--isolation", "oci") if e["event"] == "output"]
    ours = "".join(event["text"] for event in built).splitlines()
    assert shown.splitlines()[:2] == ours[:2] == ["/srv/x", "1000"]
    assert shown.splitlines()[3] == ours[3] == "/home/bob"


def test_doctor_says_what_there_is(box) -> None:
    rows = {row["what"]: row for row in json.loads(box("doctor", "--format", "json").stdout)}
    assert rows["user"]["ok"] and rows["overlay"]["ok"]
    assert "isolation auto" in rows
    assert rows["network bridge"]["ok"] and rows["network CNI"]["ok"], (
        rows["network bridge"],
        rows["network CNI"],
    )
    assert rows["slirp4netns"]["ok"] and rows["pasta"]["ok"]


def test_the_version_and_the_help_need_no_store() -> None:
    import program

    env = {**os.environ, "BUILDFRONT_ROOT": "/proc/nowhere"}
    for words in (["--version"], ["--help"], ["build", "--help"]):
        done = subprocess.run(
            [program.BUILDFRONT, *words], env=env, capture_output=True, text=True, check=True
        )
        assert "buildfront" in done.stdout
    headings = [
        line.rstrip(":")
        for line in done.stdout.splitlines()
        if line.endswith(":") and not line.startswith(" ")
    ]
    assert headings[-6:] == ["Image", "Cache", "Output", "Run", "RUN step", "Other"]
    assert sys.version_info >= (3, 11)


GONE = {
    "-v /gone:/g": "volume source '/gone' does not exist on this host",
    "--mount type=bind,source=/gone,target=/g": "volume source '/gone' does not exist on this host",
    "--device /dev/nothing": "this host has no device /dev/nothing",
    "--device vendor.test/class=one": "'vendor.test/class=one' is not known to CDI",
    "--hooks-dir /gone": "the hooks directory /gone can't be read: No such file or directory",
}


@pytest.mark.parametrize("options", GONE)
def test_what_no_step_can_have_is_told_before_the_first(box, options) -> None:
    context = box.context("FROM box\nCOPY Dockerfile /\nRUN echo first\nRUN echo second\n")
    done = box.build(context, *options.split(), "--progress", "plain", check=False)
    assert done.returncode == 1
    assert GONE[options] in done.stderr and "COPY Dockerfile" not in done.stderr, done.stderr
    assert os.listdir(box.store / "tmp") == []
