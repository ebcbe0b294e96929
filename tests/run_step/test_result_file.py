"""``--result FILE``: which files are replaced, which are written in place, and which are refused."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from run_step import RequestError
from run_step.result_file import ResultFile
from run_step.stdio.own_streams import Patience

pytestmark = pytest.mark.root
RUN = [sys.executable, "-m", "run_step", "run"]
SHELL_RUN = shlex.join(RUN)
FOREVER = Patience(lambda: False)


def request(rootfs: str, line: str = "true") -> str:
    return json.dumps({"args": ["/bin/sh", "-c", line], "rootfs": rootfs, "isolation": "chroot"})


def shell(line: str, text: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        timeout=100,
    )


# Descriptors


def test_the_result_follows_the_output_in_a_file(rootfs: str, tmp_path: Path) -> None:
    """The machine's /dev/stdout is a link, and stays one."""
    before = os.readlink("/dev/stdout")
    done = shell(f"{SHELL_RUN} --result /dev/stdout > out", request(rootfs, "echo said"), tmp_path)
    assert (done.returncode, done.stderr, os.readlink("/dev/stdout")) == (0, "", before)
    output, result = (tmp_path / "out").read_text().splitlines()
    assert (output, json.loads(result)["kind"]) == ("said", "success")


def test_a_descriptor_of_a_file_is_written_to(rootfs: str, tmp_path: Path) -> None:
    for path in ("/dev/fd/3", "/proc/self/fd/3"):
        done = shell(f"echo before > f; {SHELL_RUN} --result {path} 3>> f", request(rootfs), tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        before, result = (tmp_path / "f").read_text().splitlines()
        assert (before, json.loads(result)["kind"]) == ("before", "success")


def test_the_result_and_the_messages_may_have_one_file(rootfs: str, tmp_path: Path) -> None:
    """They have one position in it, too."""
    line = f"{SHELL_RUN} --result /dev/stderr 2> err"
    assert shell(line, request(rootfs, "echo said >&2; exit 3"), tmp_path).returncode == 3
    said, result, message = (tmp_path / "err").read_text().splitlines()
    assert (said, json.loads(result)["exit_status"], message) == ("said", 3, "run_step: exit status 3")


def test_a_descriptor_for_reading_is_one_of_a_file(rootfs: str, tmp_path: Path) -> None:
    done = shell(f"echo before > f; {SHELL_RUN} --result /dev/fd/3 3< f", request(rootfs), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "f").read_text().splitlines()[1])["kind"] == "success"


def test_a_descriptor_that_is_not_open_is_refused(rootfs: str, tmp_path: Path) -> None:
    done = shell(f"{SHELL_RUN} --result /dev/fd/77", request(rootfs, "echo x > /x"), tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "run_step: the result can't be written to /dev/fd/77: its descriptor is not open\n",
    )
    assert not os.path.exists(f"{rootfs}/x")


# Links, and files that are there already


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, is_there: bool) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    target, second, first = tmp_path / "there/target", tmp_path / "there/second", tmp_path / "here/first"
    second.symlink_to("target")
    first.symlink_to("../there/second")
    if is_there:
        target.write_text("old")
    file = ResultFile(str(first))
    assert not target.exists()
    file.write({"kind": "success"}, FOREVER)
    assert json.loads(target.read_text()) == {"kind": "success"}
    assert first.is_symlink() and second.is_symlink()
    assert sorted(os.listdir(tmp_path / "there")) == ["second", "target"]


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(RequestError, match="Too many levels of symbolic links"):
        ResultFile(str(tmp_path / "a"))


def test_the_mode_and_the_owner_of_a_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    path.chmod(0o604)
    os.chown(path, 4321, 1234)
    ResultFile(str(path)).write({"kind": "success"}, FOREVER)
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o604, 4321, 1234)
    assert json.loads(path.read_text()) == {"kind": "success"}


def test_a_mount_point_is_written_in_place(rootfs: str, tmp_path: Path) -> None:
    (tmp_path / "result").write_text("a result of an earlier run")
    (tmp_path / "outside").write_text("a longer text" * 100)
    line = f"mount --bind outside result && {SHELL_RUN} --result result"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", line],
        input=request(rootfs),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "outside").read_text())["kind"] == "success"


def test_a_file_in_a_closed_directory_is_written_in_place(open_path: Path) -> None:
    path = open_path / "result"
    path.write_text("old")
    path.chmod(0o666)
    os.seteuid(65534)
    try:
        file = ResultFile(str(path))
        assert path.read_text() == ""
        file.write({"kind": "success"}, FOREVER)
        with pytest.raises(RequestError, match="Permission denied"):
            ResultFile("/etc/passwd")
    finally:
        os.seteuid(0)
    assert json.loads(path.read_text()) == {"kind": "success"}


def test_a_long_name(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    ResultFile(str(path)).write({"kind": "success"}, FOREVER)
    assert json.loads(path.read_text()) == {"kind": "success"}


# Refused before anything runs


def test_a_place_that_can_not_be_is_refused_before_anything_runs(rootfs: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket"))
        for path, why in (
            ("", "the path is empty"),
            ("x" * 256, "File name too long"),
            ("socket", "it is a socket"),
        ):
            done = subprocess.run(
                [*RUN, "--result", path],
                input=request(rootfs, "echo x > /x"),
                capture_output=True,
                text=True,
                check=False,
                cwd=tmp_path,
            )
            said = f"run_step: the result can't be written to {path}: {why}\n"
            assert (done.returncode, done.stderr) == (2, said)
    assert not os.path.exists(f"{rootfs}/x")


@pytest.mark.parametrize("words", [["--request"], ["--rootfs", "/", "--plan"]])
def test_the_file_that_is_read_is_not_the_result(rootfs: str, tmp_path: Path, words: list[str]) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text(request(rootfs, "echo x > /x"))
    link.symlink_to("file")
    for other in (path, link):
        done = subprocess.run(
            [*RUN, *words, str(path), "--result", str(other)], capture_output=True, text=True, check=False
        )
        said = f"run_step: the result can't be written to {other}: it is the file {path}, which is read\n"
        assert (done.returncode, done.stderr) == (2, said)
    assert path.read_text() == request(rootfs, "echo x > /x")
    assert not os.path.exists(f"{rootfs}/x")


# A pipe without a reader


def waiting(path: Path, text: str) -> subprocess.Popen[bytes]:
    """The program, heeding SIGTERM and SIGINT whatever the tests were started by."""
    code = "import signal, sys; [signal.signal(n, signal.SIG_DFL) for n in (2, 15)]; "
    code += "from run_step.__main__ import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", "--result", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(text.encode())
    process.stdin.close()
    process.stdin = None
    return process


def test_a_named_pipe_waits_for_its_reader(rootfs: str, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    process = waiting(path, request(rootfs, "exit 3"))
    assert json.loads(path.read_text())["kind"] == "command-failed"
    assert process.communicate(timeout=60) == (b"", b"run_step: exit status 3\n")
    assert process.returncode == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_a_reader(rootfs: str, tmp_path: Path, number: int) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    process = waiting(path, request(rootfs, "echo ready"))
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"run_step: the result can't be written to {path}: it has no reader\n" in errors.decode()
    assert not os.path.exists(f"{rootfs}/proc")


def read_whole(fd: int) -> Any:
    with os.fdopen(fd) as stream:
        return json.load(stream)


def test_a_stopped_run_is_told_to_a_pipe(rootfs: str, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    process = waiting(path, request(rootfs, "echo ready; sleep 1000"))
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    result = read_whole(reader)
    assert (result["kind"], result["exit_status"], process.returncode) == ("cancelled", 143, 143)
