"""Text of strangers in real builds: output without a line break, orders to the terminal, files that do not end."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from program import BUILDFRONT

LARGE = 80_000_000
MEMORY = 150 << 10
"""kB that a builder may take for it, imports and all; the output alone is more than a quarter of that."""
ORDERS = set("\x1b\x07\x08\x9b\u202e")
TITLE = "\x1b]0;title\x07\x1b[2J\x9b1A\u202e\x08"


MEASURE = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""
"""A small process in between: what a large one starts begins with its size."""


def measured(box, *args: object) -> tuple[int, int, bytes, float]:
    """Status, memory, bytes on standard error, and seconds of one call."""
    err = box.path / "err"
    began = time.monotonic()
    with open(err, "wb") as stream:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, BUILDFRONT, *map(str, args)],
            env={**os.environ, "BUILDFRONT_ROOT": str(box.store)},
            stdout=subprocess.PIPE,
            stderr=stream,
            check=True,
        )
    status, memory = map(int, done.stdout.split())
    return status, memory, err.read_bytes(), time.monotonic() - began


@pytest.mark.parametrize("mode", ["plain", "tty", "rawjson", "quiet"])
@pytest.mark.parametrize("secret", [False, True], ids=["", "with a secret"])
def test_a_long_line_costs_neither_time_nor_memory(box, mode: str, secret: bool) -> None:
    """It takes a second or two; joined and split again for each chunk it took minutes."""
    mount = "--mount=type=secret,id=s " if secret else ""
    context = box.context(f"FROM box\nRUN {mount}head -c {LARGE} /dev/zero | busybox tr '\\0' a; echo end\n")
    options = []
    if secret:
        (box.path / "s").write_bytes(b"correct horse\nbattery staple\n")
        options = ["--secret", f"id=s,src={box.path / 's'}"]
    status, memory, err, seconds = measured(box, "build", "--progress", mode, *options, context)
    assert status == 0, err[-2000:]
    assert seconds < 120
    assert memory < MEMORY
    if mode == "plain":
        lines = err.split(b"\n")
        assert sum(line.count(b"a") for line in lines) >= LARGE
        assert max(map(len, lines)) < 70_000
    if mode == "rawjson":
        texts = [event["text"] for event in map(json.loads, err.splitlines()) if event["event"] == "output"]
        assert sum(map(len, texts)) == LARGE + len("end\n")


def test_a_million_lines_are_shown(box) -> None:
    context = box.context("FROM box\nRUN seq 1000000\n")
    for mode in ("plain", "tty", "rawjson"):
        status, memory, err, seconds = measured(box, "build", "--no-cache", "--progress", mode, context)
        assert status == 0, err[-2000:]
        assert seconds < 120
        assert memory < MEMORY


@pytest.mark.parametrize("mode", ["plain", "tty"])
def test_what_is_shown_of_a_failure_gives_no_orders(box, mode: str) -> None:
    printf = r"printf '\033]0;x\007\033[2J\033[31mred\033[0m\b\n'"
    context = box.context(f"FROM box\nRUN {printf}; : {TITLE}; false\n# {TITLE}\n")
    done = box("build", "--progress", mode, context, check=False)
    assert done.returncode == 1
    _, _, told = done.stderr.partition("the step's last output:")
    assert told.startswith("\n  \\x1b]0;x\\x07\\x1b[2Jred\\x08\n")
    assert "\\x1b]0;title\\x07\\x1b[2J\\x9b1A\\u202e\\x08; false" in told
    assert not ORDERS & set(told)


@pytest.mark.parametrize(
    "dockerfile",
    [
        f"FROM {TITLE}\n",
        f"FROM box AS {TITLE}\n",
        f"FROM box\nCOPY '{TITLE}' /\n",
        f"FROM box\nCOPY --from={TITLE} a /\n",
        f"FROM box\nUSER {TITLE}\nRUN true\n",
        f"FROM box\n{TITLE} a\n",
        f"FROM box\nRUN --{TITLE} a\n",
        f"FROM box\nRUN --mount=type={TITLE} a\n",
        f"FROM box\nENV A=${{A:?{TITLE}}}\n",
        f"FROM box\nHEALTHCHECK --interval={TITLE} CMD a\n",
        f'FROM box\nRUN ["{json.dumps(TITLE)[1:-1]}"]\n',
    ],
)
def test_errors_give_no_orders(box, dockerfile: str) -> None:
    done = box.build(box.context(dockerfile), check=False)
    assert done.returncode != 0
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not ORDERS & set(done.stderr)


def test_tables_and_graphs_give_no_orders(box) -> None:
    context = box.context(
        f"FROM box\nRUN true '{TITLE}'\nRUN --mount=type=cache,target=/c,id='{TITLE}' true\n"
    )
    for form in ("table", "dot", "mermaid", "json"):
        shown = box("plan", "--format", form, context).stdout
        assert not ORDERS & set(shown)
    done = box.build(context)
    assert not ORDERS & set(done.stderr)
    assert not ORDERS & set(box("info").stdout)
    assert not ORDERS & set(box("prune", "-f").stdout)


def test_platforms_of_images_give_no_orders(box) -> None:
    index = json.loads((box.store / "index.json").read_text())
    blob = box.store / "blobs" / "sha256" / index["manifests"][0]["digest"][7:]
    config = box.store / "blobs" / "sha256" / json.loads(blob.read_bytes())["config"]["digest"][7:]
    data = json.loads(config.read_bytes())
    data["created"] = data["os"] = TITLE
    config.chmod(0o600)
    config.write_text(json.dumps(data))
    for args in (("images",), ("images", "-q"), ("inspect", "box"), ("images", "--format", "json")):
        done = box(*args, check=False)
        assert not ORDERS & set(done.stdout + done.stderr)


def test_a_dockerfile_that_does_not_end_is_refused(box) -> None:
    context = box.context("FROM box\n")
    os.mkfifo(box.path / "fifo")
    writer = subprocess.Popen(["sh", "-c", f"exec cat /dev/zero > {box.path / 'fifo'}"])
    (context / "sparse").touch()
    os.truncate(context / "sparse", 10 << 30)
    try:
        for name in ("/dev/zero", box.path / "fifo", context / "sparse"):
            done = box.build(context, "-f", name, check=False)
            assert f"error: {name} is larger than 4 MiB\n" in done.stderr
            done = box.build(context, "--ignorefile", name, check=False) if "fifo" not in str(name) else done
            assert f"error: {name} is larger than 4 MiB\n" in done.stderr
    finally:
        writer.kill()
        writer.wait()
    with open("/dev/zero", "rb") as zero:
        done = box.build(context, "-f", "-", check=False, stdin=zero)
    assert "error: the Dockerfile on standard input is larger than 4 MiB\n" in done.stderr
    done = box.build(context, "-f", "-", check=False, preexec_fn=lambda: os.close(0))
    assert "error: standard input is closed\nhint: name a file\n" in done.stderr


def test_a_context_that_does_not_end_is_refused(box) -> None:
    context = box.context("FROM box\n")
    os.truncate(context / "Dockerfile", 10 << 30)
    assert "Dockerfile is larger than 4 MiB\n" in box.build(context, check=False).stderr
    (context / "Dockerfile").write_text("FROM box\n")
    for name in (".dockerignore", ".containerignore", "Dockerfile.dockerignore"):
        Path(context / name).touch()
        os.truncate(context / name, 10 << 30)
        assert f"{name} is larger than 4 MiB\n" in box.build(context, check=False).stderr
        (context / name).unlink()


def test_an_ignore_file_and_wildcards_that_would_not_end(box) -> None:
    stars = "*a" * 100 + "b"
    context = box.context(f"FROM scratch\nCOPY {stars} ok* /\n", ok="x", **{"a" * 120: "x"})
    (context / ".dockerignore").write_text(f"{stars}\n**/{stars}\n" * 50)
    out = box.files(context)
    assert os.listdir(out) == ["ok"]


def test_thousands_of_steps_are_planned_soon(box) -> None:
    context = box.context("FROM box\n" + "RUN a\n" * 5000)
    began = time.monotonic()
    done = box("plan", context)
    assert time.monotonic() - began < 120
    assert len(done.stdout.splitlines()) == 5002


def test_the_memory_of_a_large_dockerfile(box) -> None:
    """Under a limit of the whole address space."""
    limit = 600 << 20
    context = box.context("FROM scratch\n" + "#\n" * (3 << 19))
    done = box(
        "plan",
        context,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        check=False,
    )
    assert done.returncode == 0, done.stderr
