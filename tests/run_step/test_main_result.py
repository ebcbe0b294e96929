"""``python -m run_step run``: a result in every outcome, and a plan in the place of a request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from run_step import RunPlan
from run_step.__main__ import main

pytestmark = pytest.mark.root
RUN = [sys.executable, "-m", "run_step", "run"]
KINDS = {
    "success",
    "command-failed",
    "timed-out",
    "cancelled",
    "request-error",
    "host-error",
    "internal-error",
}


def request(rootfs: str, line: str = "true", **fields: Any) -> str:
    return json.dumps({"args": ["/bin/sh", "-c", line], "rootfs": rootfs, "isolation": "chroot", **fields})


def run(path: Path, text: str, *words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """What became of a run, and the result that it left."""
    path.write_text("of the run before")
    command = [*RUN, "--result", str(path), *words]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    result = json.loads(path.read_text())
    assert result["kind"] in KINDS
    assert result["exit_status"] == done.returncode
    assert result["message"] in done.stderr
    assert [item.name for item in path.parent.iterdir() if ".new" in item.name] == []
    return done, result


def test_success(rootfs: str, tmp_path: Path) -> None:
    done, result = run(tmp_path / "result", request(rootfs))
    assert (done.returncode, result["kind"], result["message"]) == (0, "success", "")
    assert (result["status"], result["timed_out"], result["cancelled"]) == (0, False, False)
    assert result["wall_us"] > 0


def test_the_command_failed(rootfs: str, tmp_path: Path) -> None:
    done, result = run(tmp_path / "result", request(rootfs, "exit 2"))
    assert (done.returncode, result["kind"], result["message"]) == (2, "command-failed", "exit status 2")
    pid = [{"name": "pid", "host": True}]
    done, result = run(tmp_path / "result", request(rootfs, "kill -9 $$", namespaces=pid))
    assert (done.returncode, result["kind"], result["status"]) == (137, "command-failed", -9)


def test_the_request_is_wrong(rootfs: str, tmp_path: Path) -> None:
    """The same exit status as a command's own, and another kind."""
    done, result = run(tmp_path / "result", request(rootfs, ulimits=["nofile"]))
    assert (done.returncode, result["kind"]) == (2, "request-error")
    assert "ulimit 'nofile'" in result["message"] and "status" not in result
    for text in ("", "{}", request("/no/such/rootfs")):
        assert run(tmp_path / "result", text)[1]["kind"] == "request-error"
    missing = run(tmp_path / "result", "", "--request", "/no/such/file")[1]
    assert missing["message"] == "/no/such/file can't be read: No such file or directory"


def test_the_command_line_is_wrong(tmp_path: Path) -> None:
    done, result = run(tmp_path / "result", "", "--out", "x")
    assert (done.returncode, result["kind"]) == (2, "request-error")
    assert result["message"] == "run has no option --out"


def test_the_host_can_not(rootfs: str, tmp_path: Path) -> None:
    done, result = run(tmp_path / "result", json.dumps({**json.loads(request(rootfs)), "args": ["nosuch"]}))
    assert (done.returncode, result["kind"]) == (1, "host-error")
    assert "nosuch" in result["message"]


def test_it_took_too_long(rootfs: str, tmp_path: Path) -> None:
    done, result = run(tmp_path / "result", request(rootfs, "sleep 1000"), "--timeout", "0.5")
    assert (done.returncode, result["kind"], result["timed_out"]) == (137, "timed-out", True)
    assert "time limit" in result["message"]


def heeding(number: int, more: str = "") -> list[str]:
    """The program with a signal that it does not ignore, whatever the tests were started by."""
    code = f"import signal, sys; signal.signal({number:d}, signal.SIG_DFL); import run_step.__main__ as program\n"
    return [sys.executable, "-c", f"{code}{more}\nsys.exit(program.main(sys.argv[1:]))"]


READING = """
read = program._read
def tell_and_read(path):
    print("reading", flush=True)
    return read(path)
program._read = tell_and_read
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_while_the_step_runs(rootfs: str, tmp_path: Path, number: int, status: int) -> None:
    path = tmp_path / "result"
    process = subprocess.Popen(
        [*heeding(number), "run", "--result", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(request(rootfs, "echo ready; sleep 1000").encode())
    process.stdin.close()
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.wait(60) == status
    process.stdout.close()
    result = json.loads(path.read_text())
    assert (result["kind"], result["cancelled"], result["exit_status"]) == ("cancelled", True, status)
    assert result["message"] == f"stopped by {signal.Signals(number).name}"
    assert not os.path.exists(f"{rootfs}/proc"), "a mount point that was made for the step stayed"


def test_a_signal_before_the_step_runs(tmp_path: Path) -> None:
    """It waits for a request that does not come."""
    path = tmp_path / "result"
    process = subprocess.Popen(
        [*heeding(signal.SIGTERM, READING), "run", "--result", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline() == b"reading\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (143, b"run_step: stopped by SIGTERM\n")
    assert json.loads(path.read_text()) == {
        "kind": "cancelled",
        "exit_status": 143,
        "message": "stopped by SIGTERM",
    }


def test_a_fault_of_ours(rootfs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("a fault")

    path, source = tmp_path / "result", tmp_path / "request"
    source.write_text(request(rootfs))
    monkeypatch.setattr("run_step.executor.execute", fail)
    assert main(["run", "--request", str(source), "--result", str(path)]) == 1
    result = json.loads(path.read_text())
    assert result == {"kind": "internal-error", "exit_status": 1, "message": "KeyError: 'a fault'"}
    assert "Traceback" in capsys.readouterr().err


def test_a_run_that_was_killed_leaves_no_result(rootfs: str, tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text('{"kind": "success"}')
    process = subprocess.Popen([*RUN, "--result", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(request(rootfs, "echo ready; sleep 1000").encode())
    process.stdin.close()
    assert process.stdout.readline() == b"ready\n"
    assert not path.exists()
    process.kill()
    process.wait(60)
    process.stdout.close()
    assert not path.exists()


def test_a_plan_has_a_result_too(rootfs: str, tmp_path: Path) -> None:
    path = tmp_path / "result"
    command = [sys.executable, "-m", "run_step", "plan", "--result", str(path)]
    subprocess.run(command, input=request(rootfs), text=True, check=True, capture_output=True)
    assert json.loads(path.read_text()) == {"kind": "success", "exit_status": 0, "message": ""}


def test_where_no_result_can_be_written_nothing_is_run(rootfs: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place, why in (
        ("none/result", "No such file or directory"),
        ("file/result", "Not a directory"),
        ("", "it is a directory"),
    ):
        path = os.path.join(tmp_path, place)
        done = subprocess.run(
            [*RUN, "--result", path],
            input=request(rootfs, "echo x > /x"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (
            2,
            f"run_step: the result can't be written to {path}: {why}\n",
        )
    assert not os.path.exists(f"{rootfs}/x")


def test_the_result_goes_into_a_pipe(rootfs: str) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as stream:
        subprocess.run(
            [*RUN, "--result", f"/dev/fd/{writer}"],
            input=request(rootfs),
            text=True,
            check=True,
            pass_fds=[writer],
        )
        os.close(writer)
        assert json.load(stream)["kind"] == "success"


def test_the_result_appears_at_once(rootfs: str, tmp_path: Path) -> None:
    """Whoever waits for the file never reads a part of it."""
    path = tmp_path / "result"
    seen: list[str] = []

    def watch() -> None:
        deadline = time.monotonic() + 60
        while not seen and time.monotonic() < deadline:
            try:
                seen.append(path.read_text())
            except FileNotFoundError:
                continue

    thread = threading.Thread(target=watch)
    thread.start()
    subprocess.run([*RUN, "--result", str(path)], input=request(rootfs), text=True, check=True)
    thread.join()
    assert json.loads(seen[0])["kind"] == "success"


# A plan in the place of a request


def plan_of(rootfs: str, line: str, **fields: Any) -> str:
    command = [sys.executable, "-m", "run_step", "plan"]
    done = subprocess.run(
        command, input=request(rootfs, line, **fields), capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_plan_is_run(rootfs: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(plan_of(rootfs, "id -u; cat; echo x > /tmp/made", user="bob"))
    assert rootfs not in path.read_text()
    os.rename(rootfs, f"{rootfs}-elsewhere")
    words = ["--plan", str(path), "--rootfs", f"{rootfs}-elsewhere"]
    done, result = run(tmp_path / "result", "the step's own input", *words)
    assert (done.stdout, result["kind"]) == ("1000\nthe step's own input", "success")
    assert os.stat(f"{rootfs}-elsewhere/tmp/made").st_uid == 1000


def test_a_plan_comes_on_stdin(rootfs: str, tmp_path: Path) -> None:
    done, _ = run(tmp_path / "result", plan_of(rootfs, "cat; echo done"), "--plan", "-", "--rootfs", rootfs)
    assert done.stdout == "done\n"


def test_a_plan_with_mounts_gets_what_they_stand_for(rootfs: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("word\n")
    plan = plan_of(rootfs, "cat /run/secrets/token", run_mounts=[{"kind": "secret", "id": "token"}])
    words = ["--plan", "-", "--rootfs", rootfs, "--secret", f"id=token,src={tmp_path}/token"]
    assert run(tmp_path / "result", plan, *words)[0].stdout == "word\n"


def test_a_malformed_plan_is_a_wrong_request(rootfs: str, tmp_path: Path) -> None:
    data = json.loads(plan_of(rootfs, "true"))
    data["spec"]["process"]["args"] = "true"
    done, result = run(tmp_path / "result", json.dumps(data), "--plan", "-", "--rootfs", rootfs)
    assert (done.returncode, result["kind"]) == (2, "request-error")
    assert result["message"] == "plan.spec.process.args: a list is wanted, not 'true'"
    assert done.stderr.count("\n") == 1
    for place in ("/no/such/rootfs", "/etc/passwd", "here"):
        done, result = run(tmp_path / "result", plan_of(rootfs, "true"), "--plan", "-", "--rootfs", place)
        assert (done.returncode, result["kind"]) == (2, "request-error")


def test_a_request_in_the_place_of_a_plan_is_told(rootfs: str, tmp_path: Path) -> None:
    _, result = run(tmp_path / "result", request(rootfs), "--plan", "-", "--rootfs", rootfs)
    assert result["kind"] == "request-error" and result["message"].startswith("plan: unknown field 'args'")


def test_a_plan_says_what_it_said(rootfs: str) -> None:
    text = plan_of(rootfs, "true", user="bob")
    assert json.dumps(RunPlan.from_json(json.loads(text)).to_json(), indent=2) + "\n" == text
