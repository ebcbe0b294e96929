"""``python -m run_step``: the plugin for frontends in other languages."""

import json
import os
import subprocess
import sys

import pytest
from busybox_root import why_not_run

needs_root = pytest.mark.skipif(bool(why_not_run()), reason=why_not_run() or "-")


def call(*args, text="", **extra):
    return subprocess.run(
        [sys.executable, "-m", "run_step", *args],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        **extra,
    )


def request(rootfs, *args, **fields):
    return json.dumps({"args": args or ("/bin/true",), "rootfs": rootfs, "isolation": "chroot", **fields})


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ((), "the first argument is plan or run"),
        (("bild",), "the first argument is plan or run"),
        (("run", "--request"), "--request has no value"),
        (("run", "--out", "x"), "run has no option --out"),
        (("plan", "a", "b", "c"), "c has no value"),
        (("plan", "--plan", "x"), "plan has no option --plan"),
        (("plan", "--timeout", "5"), "plan has no option --timeout"),
        (("run", "--request", ""), "--request has an empty value"),
        (("run", "--plan", "", "--rootfs", "/"), "--plan has an empty value"),
        (("run", "--plan", "-", "--rootfs", ""), "--rootfs has an empty value"),
        (("run", "--plan", "x"), "--plan and --rootfs go together"),
        (("run", "--rootfs", "/x"), "--plan and --rootfs go together"),
        (
            ("run", "--plan", "x", "--rootfs", "/x", "--request", "y"),
            "a plan or a request is wanted, not both",
        ),
        (("run", "--request", "x", "--request", "y"), "--request is given twice"),
        (("run", "--timeout", "soon"), "--timeout 'soon': a number of seconds above 0 is wanted"),
        (("run", "--timeout", "0"), "--timeout '0'"),
        (("run", "--timeout", "nan"), "--timeout 'nan'"),
        (("run", "--timeout", "inf"), "--timeout 'inf'"),
    ],
)
def test_usage(args, why):
    done = call(*args)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
    assert done.stderr.splitlines()[-1].startswith(f"run_step: {why}")


@needs_root
def test_plan_prints_json(rootfs):
    done = call("plan", text=request(rootfs, "sh", "-c", "id", user="bob"))
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["spec"]["process"]["args"] == ["/bin/sh", "-c", "id"]
    assert made["isolation"] == "chroot"
    assert rootfs not in done.stdout


@needs_root
def test_plan_checks_the_inputs_of_a_run_too(rootfs, tmp_path):
    (tmp_path / "token").write_text("word")
    words = ["--source", f"files={tmp_path}", "--secret", f"id=token,src={tmp_path}/token"]
    done = call("plan", *words, text=request(rootfs))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == call("plan", text=request(rootfs)).stdout
    for words, said in (
        (["--source", "files"], "NAME=PATH"),
        (["--secret", "id=x,src=/none"], "can't be read"),
    ):
        done = call("plan", *words, text=request(rootfs))
        assert done.returncode == 2 and said in done.stderr


@needs_root
def test_run_passes_status_and_streams_through(rootfs):
    done = call("run", text=request(rootfs, "sh", "-c", "echo out; echo err >&2; exit 7"))
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr == "err\nrun_step: exit status 7\n"
    assert call("run", text=request(rootfs)).returncode == 0


@needs_root
def test_the_result_is_written_as_json(rootfs, tmp_path):
    path = tmp_path / "result.json"
    assert call("run", "--result", str(path), text=request(rootfs, "sh", "-c", "exit 3")).returncode == 3
    result = json.loads(path.read_text())
    assert (result["status"], result["timed_out"]) == (3, False)


@needs_root
def test_a_command_that_is_not_there(rootfs):
    done = call("run", text=request(rootfs, "nosuch"))
    assert done.returncode == 1
    assert "nosuch" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("action", ["plan", "run"])
@pytest.mark.parametrize("text", ["", "{", "nonsense", '{"args": }', "[" * 100000])
def test_malformed_json_exits_2(action, text):
    done = call(action, text=text)
    assert done.returncode == 2
    assert done.stderr.startswith("run_step: stdin is not JSON")
    assert done.stderr.count("\n") == 1


def test_bytes_that_are_no_text_exit_2():
    command = [sys.executable, "-m", "run_step", "plan"]
    done = subprocess.run(
        command,
        input=b'{"args": ["\xff"]}',
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"enviroment": []}, "unknown field 'enviroment'"),
        ({"volume": []}, "did you mean 'volumes'?"),
        ({"ulimit": []}, "did you mean 'ulimits'?"),
        ({"http_proxy": "yes"}, "request.http_proxy: bool is wanted, not 'yes'"),
        ({"isolation": "vm"}, "unknown isolation 'vm'"),
        ({"ulimits": ["nofile"]}, "ulimit 'nofile'"),
        ({"cap_add": ["SYS_ADMN"]}, "did you mean SYS_ADMIN?"),
    ],
)
@needs_root
def test_a_wrong_request_exits_2_in_one_line(rootfs, fields, message):
    done = call("plan", text=request(rootfs, **fields))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("action", ["plan", "run"])
@pytest.mark.parametrize(
    ("rootfs", "why"),
    [
        ("/no/such/rootfs", "it does not exist"),
        ("/etc/passwd", "it is not a directory"),
        ("/etc/passwd/below", "it is not a directory"),
    ],
)
def test_a_missing_rootfs_is_a_wrong_request_in_one_line(action, rootfs, why):
    done = call(action, text=request(rootfs))
    assert (done.returncode, done.stderr) == (2, f"run_step: rootfs {rootfs}: {why}\n")


def test_a_null_byte_in_a_path_exits_2(rootfs):
    done = call("plan", text=request("/a\0b"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_the_package_keeps_its_promises():
    """The names of the contract are what they say, whichever module was imported first."""
    code = "import run_step.executor, run_step.pipeline, run_step as r; "
    code += "print([n for n in r.__all__ if not hasattr(r, n)], callable(r.plan), callable(r.execute))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True True\n"


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import run_step

    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        _ = run_step.nosuch


@needs_root
def test_what_mounts_stand_for_is_handed_over(rootfs, tmp_path):
    (tmp_path / "token").write_text("a token\n")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("a file\n")
    mounts = [
        {"kind": "bind", "target": "/src", "source": "files", "read_only": True},
        {"kind": "secret", "id": "token"},
        {"kind": "secret", "id": "word", "env": "WORD"},
    ]
    text = request(rootfs, "sh", "-c", 'cat /src/file /run/secrets/token; echo "$WORD"', run_mounts=mounts)
    words = ["--source", f"files={tmp_path}/source", "--secret", f"id=token,src={tmp_path}/token"]
    done = call(
        "run", *words, "--secret", "id=word,env=WORD", text=text, env={**os.environ, "WORD": "a word"}
    )
    assert (done.returncode, done.stdout) == (0, "a file\na token\na word\n"), done.stderr
    missing = call("run", *words, text=text)
    assert (missing.returncode, missing.stderr) == (1, "run_step: the secret 'word' was not handed over\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--source", "files"), "the form is NAME=PATH"),
        (("--source", "files=/not/there"), "of something that exists"),
        (("--secret", "id=x,src=/not/there"), "can't be read"),
        (("--ssh", "x=/not/there"), "can't be looked at"),
    ],
)
def test_what_can_not_be_handed_over_is_told(rootfs, words, said):
    done = call("run", *words, text=request(rootfs))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
