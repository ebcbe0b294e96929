"""The standard streams of real steps: much of them, input from everywhere, and ends that come early or never."""

import os
import pty
import termios
import threading
import tty

import pytest
from busybox_root import marker, processes
from rows import row
from watching import fed

from run_step import HostError, NamespaceOption

pytestmark = pytest.mark.root


def sizes(into):
    """A receiver that only counts."""

    def count(stream, data):
        into[stream] = into.get(stream, 0) + len(data)

    return count


def open_now():
    """The descriptors of this process, and what they are of."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except OSError:
            pass  # the listing's own
    return sorted(found)


# Much


@row("S74")
@pytest.mark.slow
def test_much_goes_out_while_much_goes_in(step):
    out, count = {"stdout": 0}, []

    def receive(stream, data):
        if stream == "stdout":
            out[stream] += len(data)
        else:
            count.append(data)

    line = "exec 3<&0; wc -c <&3 >&2 & head -c 209715200 /dev/zero; wait"
    with fed(size=50 << 20) as stdin:
        assert step.run(line, stdin=stdin, output=receive).status == 0
    assert out["stdout"] == 200 << 20
    assert int(b"".join(count)) == 50 << 20


@row("S74")
def test_input_comes_back_byte_for_byte(step):
    data = bytes(range(256)) * 16 + os.urandom(3 << 20) + b"\0\xff\r\n\x04"
    with fed(data) as stdin:
        assert step.run("tee /dev/stderr", stdin=stdin).status == 0
    assert step.stdout == data
    assert step.stderr == data


@row("S74")
def test_output_that_has_no_last_newline(step):
    step.run("printf 'a\\nlast'; printf 'b\\nwords' >&2")
    assert (step.stdout, step.stderr) == (b"a\nlast", b"b\nwords")


@row("S74")
def test_single_bytes_are_complete(step):
    """Each write is one byte, and each stream has its own."""
    step.run("i=0; while [ $i -lt 500 ]; do printf o; printf e >&2; i=$((i+1)); done")
    assert (step.stdout, step.stderr) == (b"o" * 500, b"e" * 500)


@row("S74")
def test_much_on_stderr_alone(step):
    total = {}
    assert step.run("head -c 31457281 /dev/zero >&2; exit 5", output=sizes(total)).status == 5
    assert total == {"stderr": 31457281}


@row("S74")
def test_streams_that_the_step_closes(step):
    assert step.run("echo out; exec >&- 2>&-; exit 4").status == 4
    assert (step.stdout, step.stderr) == (b"out\n", b"")


@row("S74")
def test_the_order_of_two_streams_is_kept_where_the_step_waits(step):
    seen = []
    reader, writer = os.pipe()

    def receive(stream, data):
        seen.append((stream, data))
        os.write(writer, b"go on\n")

    try:
        line = "echo 1; read x; echo 2 >&2; read x; echo 3; read x; echo 4 >&2; read x; echo 5"
        assert step.run(line, stdin=reader, output=receive).status == 0
    finally:
        os.close(reader)
        os.close(writer)
    names = ["stdout", "stderr"] * 3
    assert seen == [(name, b"%d\n" % number) for number, name in zip(range(1, 6), names, strict=False)]


# Where input comes from


@row("S74")
def test_input_from_a_file_begins_where_the_descriptor_stands(step, tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b"skipped" + b"kept\n" * 100_000)
    with open(path, "rb") as stream:
        os.lseek(stream.fileno(), 7, os.SEEK_SET)
        assert step.text("cat", "-", stdin=stream.fileno()) == "kept\n" * 100_000
        assert not stream.closed and os.fstat(stream.fileno())


@row("S74")
@pytest.mark.parametrize(
    ("path", "line", "wanted"),
    [
        ("/dev/null", "wc -c", "0\n"),
        ("/dev/zero", "head -c 100000 | wc -c", "100000\n"),
        ("/", "wc -c", "0\n"),  # a directory can be opened and not read
    ],
)
def test_input_from_a_device_or_a_directory(step, path, line, wanted):
    fd = os.open(path, os.O_RDONLY)
    try:
        assert step.text(line, stdin=fd) == wanted
    finally:
        os.close(fd)


@row("S74")
def test_a_file_that_nobody_reads(step, tmp_path):
    path = tmp_path / "input"
    path.write_bytes(bytes(10 << 20))
    with open(path, "rb") as stream:
        assert step.text("echo done", stdin=stream.fileno()) == "done\n"


@row("S74")
def test_input_from_a_pipe_is_passed_on_up_to_its_end(step):
    with fed(b"one\ntwo") as stdin:
        assert step.text("cat; echo .", stdin=stdin) == "one\ntwo.\n"
    with fed() as stdin:
        assert step.text("cat; echo .", stdin=stdin) == ".\n"


@row("S74")
def test_input_from_a_terminal_for_a_step_without_one(step):
    controller, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    try:
        os.write(controller, b"typed\n\x04")
        line = "[ -t 0 ] && echo terminal; cat; echo end"
        assert step.text(line, stdin=terminal, terminal="without") == "typed\nend\n"
        assert termios.tcgetattr(terminal) == before
    finally:
        os.close(controller)
        os.close(terminal)


@row("S74")
def test_input_from_a_terminal_that_is_hung_up(step):
    controller, terminal = pty.openpty()
    tty.setraw(terminal)
    os.write(controller, b"last words")
    try:
        seen = []

        def receive(stream, data):
            seen.append(data)
            if controller not in closed and b"words" in b"".join(seen):
                os.close(controller)
                closed.append(controller)

        closed = []
        assert step.run("cat; echo end", stdin=terminal, output=receive).status == 0
        assert b"".join(seen) == b"last wordsend\n"
    finally:
        os.close(terminal)


@row("S74")
@pytest.mark.parametrize("kind", ["none", "closed"])
def test_a_missing_input_is_an_empty_one(step, kind):
    number = None
    if kind == "closed":
        number = os.open("/", os.O_RDONLY)
        os.close(number)
    assert step.text("cat; echo .", stdin=number) == ".\n"


@row("S74")
def test_what_cannot_be_read_is_an_empty_input(step):
    reader, writer = os.pipe()
    try:
        assert step.run("cat; echo .", stdin=writer, timeout=10).status == 0
        assert step.stdout == b".\n"
    finally:
        os.close(reader)
        os.close(writer)


@row("S74")
def test_the_callers_descriptor_stays_as_it_was(step):
    with fed(b"x", ends=False) as stdin:
        assert step.text("head -c 1", stdin=stdin) == "x"
        assert os.get_blocking(stdin)


# Ends


@row("S74")
def test_a_step_that_never_reads_is_not_hung(step):
    with fed(size=50 << 20) as stdin:
        assert step.text("echo done", stdin=stdin) == "done\n"


@row("S74")
def test_a_step_that_closes_its_input_early_goes_on(step):
    with fed(b"first line\n", size=50 << 20) as stdin:
        line = "head -c 6; exec <&-; head -c 3000000 /dev/zero | wc -c; exit 6"
        assert step.run(line, stdin=stdin).status == 6
    assert step.stdout == b"first 3000000\n"


@row("S74")
def test_a_step_ends_before_its_input_does(step):
    with fed(b"a line\n", ends=False) as stdin:
        assert step.text("read x; echo got $x", stdin=stdin) == "got a line\n"
    with fed(ends=False) as stdin:
        assert step.run("exit 9", stdin=stdin).status == 9


@row("S74")
def test_a_background_process_that_holds_all_streams(step):
    nap = marker()
    with fed(size=1 << 20) as stdin:
        line = f"exec 3<&0; sleep {nap} <&3 & (while :; do echo more; done) & echo started >&2"
        assert step.run(line, stdin=stdin).status == 0
    assert step.stderr == b"started\n"
    assert processes(nap) == []


@row("S74")
def test_neither_does_one_of_the_hosts_processes(step):
    nap = marker()
    pid = (NamespaceOption("pid", host=True),)
    with fed(ends=False) as stdin:
        line = f"exec 3<&0; (setsid sleep {nap} <&3 &); echo started"
        assert step.run(line, stdin=stdin, namespaces=pid).status == 0
    assert step.stdout == b"started\n"
    assert processes(nap) == []


@row("S74", "X82")
def test_cancelling_while_input_waits(step):
    nap, cancel = marker(), threading.Event()
    with fed(size=50 << 20) as stdin:
        result = step.run(f"echo; sleep {nap}", stdin=stdin, cancel=cancel, output=lambda *_: cancel.set())
    assert result.cancelled
    assert processes(nap) == []


@row("S74")
def test_a_receiver_that_fails_while_input_waits(step):
    def fail(stream, data):
        raise ZeroDivisionError

    before = open_now()
    with fed(size=50 << 20) as stdin, pytest.raises(ZeroDivisionError):
        step.run("echo; sleep 1000", stdin=stdin, output=fail)
    step.executor.close()
    assert open_now() == before
    assert os.listdir(step.work_dir) == []


@row("S74")
def test_nothing_stays_open(step):
    step.run("true")
    before = open_now()
    for line, fields in (
        ("cat", {}),
        ("exit 3", {"quiet": True}),
        ("exec <&-; cat /dev/zero | head -c 100000", {}),
        ("cat", {"terminal": "with", "timeout": 20}),
    ):
        with fed(b"x\n") as stdin:
            step.run(line, stdin=stdin, **fields)
    with fed(b"x\n") as stdin, pytest.raises(HostError):
        step.run("/no/such", "x", stdin=stdin)
    assert open_now() == before


# quiet, and who owns the streams


@row("S74")
def test_quiet_drops_stdout_alone(step):
    result = step.run("echo out; head -c 3000000 /dev/zero; echo err >&2; exit 3", quiet=True)
    assert (result.status, step.stdout, step.stderr) == (3, b"", b"err\n")


@row("S74")
def test_quiet_with_a_terminal_shows_nothing(step):
    """There both streams are one."""
    assert step.run("echo out; echo err >&2", quiet=True, terminal="with").status == 0
    assert (step.stdout, step.stderr) == (b"", b"")


@row("S74")
@pytest.mark.parametrize("user", ["root", "bob", "1234:5678"])
def test_the_streams_can_be_opened_by_name(step, user):
    line = "cat /dev/stdin; echo out > /dev/stdout; echo err > /dev/stderr; echo fd > /proc/self/fd/2"
    with fed(b"in\n") as stdin:
        assert step.run(line, stdin=stdin, user=user).status == 0
    assert (step.stdout, step.stderr) == (b"in\nout\n", b"err\nfd\n")


@row("S74")
def test_a_quiet_step_can_open_them_too(step):
    line = "cat /dev/stdin; echo out > /dev/stdout && echo err > /dev/stderr"
    assert step.run(line, user="bob", quiet=True).status == 0
    assert (step.stdout, step.stderr) == (b"", b"err\n")


@row("S74")
def test_a_user_does_not_become_owner_of_the_hosts_null_device(step):
    before = os.stat("/dev/null")
    step.run("cat", user="bob", quiet=True)
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


# Threads


@row("S74")
def test_a_thread_that_is_not_the_main_one(step):
    found = []

    def run():
        with fed(b"in\n", size=1 << 20) as stdin:
            result = step.run("read x; echo $x; wc -c >&2", stdin=stdin)
        found.append((result.status, step.stdout, step.stderr.strip()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(0, b"in\n", b"1048576")]
