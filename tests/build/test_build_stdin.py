"""``buildfront build --stdin``: what comes in by standard input reaches the RUN steps, one after the other."""

from __future__ import annotations

import os
import stat
import subprocess

import program
import pytest
from rows import row

GOT = "FROM box\nRUN cat > /got\n"


@row("S74")
def test_a_step_reads_our_input(box, isolation, tmp_path) -> None:
    out = tmp_path / "out"
    text = "first\nlast, without a newline"
    box.build(
        box.context(GOT), "--stdin", "--isolation", isolation, "-o", f"type=local,dest={out}", input=text
    )
    assert (out / "got").read_text() == text


@row("S74")
def test_without_the_option_the_input_is_empty(box, tmp_path) -> None:
    out = tmp_path / "out"
    box.build(box.context(GOT), "-o", f"type=local,dest={out}", input="unwanted")
    assert (out / "got").read_text() == ""


@row("S74")
def test_what_was_read_is_never_answered_from_the_cache(box, tmp_path) -> None:
    context = box.context("FROM box\nRUN cat > /got\nRUN cp /got /copy\n")
    for number, text in enumerate(("one", "two", "two")):
        out = tmp_path / f"out-{number}"
        done = box.build(context, "--stdin", "-o", f"type=local,dest={out}", input=text)
        assert done.stderr.count("CACHED") == 1, "the base alone"
        assert (out / "got").read_text() == (out / "copy").read_text() == text


@row("S74")
def test_neither_does_it_answer_a_build_without_the_option(box, tmp_path) -> None:
    context = box.context(GOT)
    box.build(context, "--stdin", input="piped")
    plain = tmp_path / "plain"
    box.build(context, "-o", f"type=local,dest={plain}", input="")
    assert (plain / "got").read_text() == ""
    again = tmp_path / "again"
    box.build(context, "--stdin", "-o", f"type=local,dest={again}", input="piped")
    assert (again / "got").read_text() == "piped"


@row("S74")
def test_steps_that_read_nothing_and_one_that_fails(box) -> None:
    """More input than a pipe holds, and nobody who wants it."""
    big = "x" * (4 << 20)
    box.build(box.context("FROM box\nRUN true\nRUN head -c 1 > /one\n"), "--stdin", input=big)
    done = box.build(box.context("FROM box\nRUN exit 3\n"), "--stdin", input=big, check=False)
    assert done.returncode == 3


@row("S74")
def test_a_closed_input_is_an_empty_one(box, isolation, tmp_path) -> None:
    """Whatever gets the number of the descriptor then, no step may see it."""
    out = tmp_path / "out"
    command = [program.BUILDFRONT, "--root", str(box.store), "build", "--stdin", "--isolation", isolation]
    command += ["-o", f"type=local,dest={out}", str(box.context(GOT))]
    line = 'exec "$@" <&-'
    done = subprocess.run(
        ["sh", "-c", line, "sh", *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (out / "got").read_text() == ""


@row("S74")
@pytest.mark.parametrize("args", [["-"], ["-f", "-", "."], ["--file=-", "."]])
def test_an_input_that_is_read_already_is_refused(box, args) -> None:
    context = box.context(GOT)
    before = box.snapshot()
    done = box("build", "--stdin", *args, input="FROM box\n", cwd=context, check=False)
    assert done.returncode == 2
    assert "--stdin" in done.stderr and "standard input" in done.stderr
    assert "Traceback" not in done.stderr
    assert box.snapshot() == before


@row("S74")
def test_two_steps_never_read_at_once(box, isolation, tmp_path) -> None:
    """Two stages that don't need each other: one step reads all there is, and only then the other begins."""
    meet = tmp_path / "meet"
    meet.mkdir()
    out = tmp_path / "out"
    run = "RUN echo start >> /meet/log; cat > /got; sleep 0.3; echo end >> /meet/log"
    context = box.context(
        f"FROM box AS a\n{run} # a\nFROM box AS b\n{run} # b\n"
        "FROM scratch\nCOPY --from=a /got /a\nCOPY --from=b /got /b\n"
    )
    args = ["--stdin", "--jobs", "4", "--isolation", isolation, "-v", f"{meet}:/meet"]
    box.build(context, *args, "-o", f"type=local,dest={out}", input="all of it")
    assert (meet / "log").read_text().split() == ["start", "end"] * 2
    assert sorted([(out / "a").read_text(), (out / "b").read_text()]) == ["", "all of it"]


@row("S74")
def test_a_build_ends_though_its_input_does_not(box, isolation) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"a line\n")
        context = box.context('FROM box\nRUN read -r line && test "$line" = "a line"\n')
        box.build(context, "--stdin", "--isolation", isolation, stdin=reader, timeout=60)
    finally:
        os.close(reader)
        os.close(writer)


@row("S74")
def test_the_empty_input_is_not_the_machines_device(box, isolation, tmp_path) -> None:
    """A step that changes the mode and the owner of its input changes no /dev/null but its own. The build has another
    one than the machine, which nothing happens to if that is not so."""
    node = tmp_path / "null"
    os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    node.chmod(0o666)
    context = box.context(
        "FROM box\nRUN chmod 640 /dev/stdin && busybox chown 5:6 /dev/stdin; stat -Lc '%a %u:%g %t:%T' /dev/stdin\n"
        "USER bob\nRUN cat /dev/stdin; echo x > /dev/stdin; busybox readlink /proc/self/fd/0\n"
    )
    command = [program.BUILDFRONT, "--root", str(box.store), "build", "--isolation", isolation, str(context)]
    line = f'mount --bind {node} /dev/null; exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", line, "sh", *command], capture_output=True, text=True, check=True
    )
    assert " 640 5:6 1:3\n" in done.stderr and " /dev/null\n" in done.stderr
    status = node.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o666, 0, 0)
