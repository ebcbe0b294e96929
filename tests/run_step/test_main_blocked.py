"""``python -m run_step run`` whose readers don't read, or are gone: it ends all the same, and leaves its result."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from run_step.__main__ import main

pytestmark = pytest.mark.root
ENDLESS = "while :; do echo 0123456789012345678901234567890123456789; done"
HEEDING = "import signal, sys; [signal.signal(n, signal.SIG_DFL) for n in (1, 2, 15)]; "
HEEDING += "from run_step.__main__ import main; sys.exit(main(sys.argv[1:]))"
"""The program that heeds the signals, whatever the tests were started by."""


def request(rootfs: str, line: str, **fields: Any) -> bytes:
    value = {"args": ["/bin/sh", "-c", line], "rootfs": rootfs, "isolation": "chroot", **fields}
    return json.dumps(value).encode()


@contextmanager
def running(text: bytes, *words: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", HEEDING, "run", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, **streams) as process:
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        process.stdin = None
        try:
            yield process
        finally:
            process.kill()


def pipe(stack: ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    return reader, writer


def terminal(stack: ExitStack) -> tuple[int, int]:
    reader, writer = pty.openpty()
    stack.callback(os.close, reader)
    return reader, writer


def sockets(stack: ExitStack) -> tuple[int, int]:
    reader, writer = socket.socketpair()
    return stack.enter_context(reader).fileno(), writer.detach()


def wait_until_it_is_full(rootfs: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the step prints; a moment later all buffers on its way are full."""
    deadline = time.monotonic() + 60
    while not os.path.exists(f"{rootfs}/began"):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    assert process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("kind", [pipe, terminal, sockets])
def test_a_signal_ends_a_run_whose_output_is_not_read(
    rootfs: str, tmp_path: Path, kind: Callable[[ExitStack], tuple[int, int]], number: int
) -> None:
    path = tmp_path / "result"
    with ExitStack() as stack:
        _, writer = kind(stack)
        text = request(rootfs, f"echo > /began; {ENDLESS}")
        with running(text, "--result", str(path), stdout=writer) as process:
            os.close(writer)
            wait_until_it_is_full(rootfs, process)
            began = time.monotonic()
            process.send_signal(number)
            assert process.wait(60) == 128 + number
            assert time.monotonic() - began < 15
    result = json.loads(path.read_text())
    assert (result["kind"], result["message"]) == ("cancelled", f"stopped by {signal.Signals(number).name}")
    assert not os.path.exists(f"{rootfs}/proc"), "a mount point that was made for the step stayed"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_time_limit_ends_a_run_whose_output_is_not_read(rootfs: str, tmp_path: Path, stream: str) -> None:
    path = tmp_path / "result"
    line = ENDLESS if stream == "stdout" else f"exec >&2; {ENDLESS}"
    with ExitStack() as stack:
        _, writer = pipe(stack)
        words = ("--result", str(path), "--timeout", "1")
        with running(request(rootfs, line), *words, **{stream: writer}) as process:
            os.close(writer)
            assert process.wait(60) == 137
    assert json.loads(path.read_text())["kind"] == "timed-out"
    assert not os.path.exists(f"{rootfs}/proc")


def test_a_step_that_has_ended_while_its_output_was_not_read(rootfs: str, tmp_path: Path) -> None:
    """Its output is not complete, so it is not a success."""
    path = tmp_path / "result"
    with ExitStack() as stack:
        _, writer = pipe(stack)
        line = "head -c 100000 /dev/zero; echo > /began"
        with running(request(rootfs, line), "--result", str(path), stdout=writer) as process:
            os.close(writer)
            wait_until_it_is_full(rootfs, process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 143
    assert json.loads(path.read_text())["kind"] == "cancelled"


def test_a_slow_reader_gets_everything(rootfs: str) -> None:
    with running(request(rootfs, "head -c 3000000 /dev/zero"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        count = 0
        while data := os.read(process.stdout.fileno(), 100_000):
            count += len(data)
            time.sleep(0.01)
        assert (process.wait(60), count) == (0, 3_000_000)


def test_the_flags_of_our_output_stay(rootfs: str) -> None:
    """Other processes have the same open file."""
    with ExitStack() as stack:
        reader, writer = pipe(stack)
        stack.callback(os.close, writer)
        with running(request(rootfs, "echo said; sleep 1000"), stdout=writer) as process:
            assert os.read(reader, 5) == b"said\n"
            assert os.get_blocking(writer)
            process.terminate()
            process.wait(60)


def test_the_result_is_written_where_nothing_can_be_printed(rootfs: str, tmp_path: Path) -> None:
    """The status is the step's, too."""
    path = tmp_path / "result"
    line = '"$@" 2>&-; echo $?; "$@" 2>/dev/full; echo $?'
    command = ["sh", "-c", line, "sh", sys.executable, "-m", "run_step", "run", "--result", str(path)]
    (tmp_path / "request").write_bytes(request(rootfs, "exit 3"))
    done = subprocess.run(
        [*command, "--request", str(tmp_path / "request")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "3\n3\n"
    assert json.loads(path.read_text())["kind"] == "command-failed"


@pytest.mark.parametrize(
    ("line", "fields", "kind", "status"),
    [
        ("exit 3", {}, "command-failed", 3),
        ("exit 3", {"ulimits": ["nofile"]}, "request-error", 2),
        ("exit 3", {"args": ["nosuch"]}, "host-error", 1),
    ],
)
def test_the_result_is_written_where_no_one_reads_the_messages(
    rootfs: str, tmp_path: Path, line: str, fields: dict[str, Any], kind: str, status: int
) -> None:
    path = tmp_path / "result"
    reader, writer = os.pipe()
    os.close(reader)
    with running(request(rootfs, line, **fields), "--result", str(path), stderr=writer) as process:
        os.close(writer)
        assert process.wait(60) == status
    assert json.loads(path.read_text())["kind"] == kind


def test_a_message_that_is_not_read_holds_up_no_result(rootfs: str, tmp_path: Path) -> None:
    path = tmp_path / "result"
    with ExitStack() as stack:
        _, writer = pipe(stack)
        os.set_blocking(writer, False)
        try:
            while os.write(writer, b"x" * 4096):
                pass
        except BlockingIOError:
            os.set_blocking(writer, True)
        with running(request(rootfs, "exit 3"), "--result", str(path), stderr=writer) as process:
            os.close(writer)
            deadline = time.monotonic() + 60
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert json.loads(path.read_text())["kind"] == "command-failed"
            process.terminate()
            assert process.wait(60) == 3


def test_ctrl_c_of_a_pipeline_is_not_a_broken_pipe(rootfs: str, tmp_path: Path) -> None:
    """The reader is gone by the same Ctrl-C, before the step could be killed."""
    path = tmp_path / "result"
    reader, writer = os.pipe()
    text = request(rootfs, f"echo > /began; {ENDLESS}")
    with running(text, "--result", str(path), stdout=writer) as process:
        os.close(writer)
        wait_until_it_is_full(rootfs, process)
        process.send_signal(signal.SIGINT)
        os.close(reader)
        assert process.wait(60) == 130
    result = json.loads(path.read_text())
    assert (result["kind"], result["message"]) == ("cancelled", "stopped by SIGINT")


def test_a_broken_pipe_without_a_signal_is_told(rootfs: str, tmp_path: Path) -> None:
    path = tmp_path / "result"
    reader, writer = os.pipe()
    os.close(reader)
    with running(request(rootfs, "echo said"), "--result", str(path), stdout=writer) as process:
        os.close(writer)
        assert process.wait(60) == 1
    assert json.loads(path.read_text())["kind"] == "host-error"


def test_a_plan_that_can_not_be_printed_is_told(rootfs: str, tmp_path: Path) -> None:
    (tmp_path / "request").write_bytes(request(rootfs, "true"))
    line = '"$@" > /dev/full; echo $?'
    done = subprocess.run(
        [
            "sh",
            "-c",
            line,
            "sh",
            sys.executable,
            "-m",
            "run_step",
            "plan",
            "--request",
            str(tmp_path / "request"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr.count("\n")) == ("1\n", 1)
    assert "No space left on device" in done.stderr


def test_the_output_goes_where_a_program_has_put_it(
    rootfs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "request").write_bytes(request(rootfs, "echo out; echo err >&2"))
    assert main(["run", "--request", str(tmp_path / "request")]) == 0
    assert capsys.readouterr() == ("out\n", "err\n")
