"""Steps with a terminal: what it is like inside, and what becomes of the terminal that we sit at.

For the latter a driver, a program of its own, sits at a pseudoterminal that the test holds the other side of.
"""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from dataclasses import replace

import pytest
from busybox_root import marker, processes
from rows import row
from watching import fed, until

from run_step import HostError, NamespaceOption
from run_step.linux.pty import set_size
from run_step.request import ConsoleSize

pytestmark = pytest.mark.root

DRIVER = """
import fcntl, json, os, sys, termios, threading
from run_step import HostError, HostFacts, LocalExecutor, RunRequest
from run_step.host_probe import probe
asked = json.loads(sys.argv[1])
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
request = RunRequest.from_json(asked["request"])
executor = LocalExecutor(probe(runtimes=False) if asked["probe"] else HostFacts(), asked["work"])
said = []

def run():
    try:
        stdin, timeout = asked["stdin"], asked["timeout"]
        plan = executor.plan(request)
        said.append(executor.execute(plan, request.rootfs, stdin=stdin, timeout=timeout).describe())
    except HostError as error:
        said.append(f"HostError: {error}")
    except KeyboardInterrupt:
        said.append("KeyboardInterrupt")

if asked["thread"]:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
else:
    run()
executor.close()
with open(asked["report"], "w") as stream:
    json.dump(said, stream)
"""
SECONDS = 30
"""After this long, what should have come is given up."""


class Seat:
    """A terminal with a driver at it, and what the driver's step shows there."""

    def __init__(
        self,
        step,
        *args,
        size=(80, 24),
        thread=False,
        stdin=0,
        probe=False,
        timeout=None,
        modes=None,
        **fields,
    ):
        self.rootfs = step.rootfs
        self.controller, self.terminal = pty.openpty()
        set_size(self.controller, *size)
        if modes is not None:
            termios.tcsetattr(self.terminal, termios.TCSANOW, modes(termios.tcgetattr(self.terminal)))
        self.before = termios.tcgetattr(self.terminal)
        self.shown = b""
        reader, writer = os.pipe()
        self.report = os.fdopen(reader)
        command = args if len(args) > 1 else ("/bin/sh", "-c", *args)
        fields.setdefault("terminal", "with")
        asked = {
            "request": step.request(*command, **fields).to_json(),
            "work": step.work_dir,
            "report": writer,
            "thread": thread,
            "stdin": stdin,
            "probe": probe,
            "timeout": timeout,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps(asked)],
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            pass_fds=(writer,),
            start_new_session=True,
        )
        os.close(writer)

    def see(self, pattern):
        """Wait until the pattern stands on the screen, and take all up to it off."""
        deadline = time.monotonic() + SECONDS
        while True:
            found = re.search(pattern, self.shown)
            if found:
                self.shown = self.shown[found.end() :]
                return
            if not select.select([self.controller], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{pattern!r} is not in {self.shown!r}")
            self.shown += os.read(self.controller, 65536)

    def type(self, text):
        os.write(self.controller, text)

    def resize(self, columns, rows):
        set_size(self.controller, columns, rows)

    @property
    def is_raw(self):
        return not termios.tcgetattr(self.terminal)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    @property
    def is_restored(self):
        return termios.tcgetattr(self.terminal) == self.before

    def end(self):
        """Wait for the driver's end; how its step ended."""
        deadline = time.monotonic() + SECONDS
        while True:
            left = max(0, deadline - time.monotonic())
            ready = select.select([self.report, self.controller], [], [], left)[0]
            assert ready, f"no end; shown was {self.shown!r}"
            if self.controller in ready:
                self.shown += os.read(self.controller, 65536)
            if self.report in ready:
                text = self.report.read()
                assert self.process.wait(SECONDS) == 0, self.shown
                while select.select([self.controller], [], [], 0)[0]:
                    self.shown += os.read(self.controller, 65536)
                (said,) = json.loads(text)
                return said

    def close(self):
        self.process.kill()
        self.process.wait()
        self.report.close()
        os.close(self.controller)
        os.close(self.terminal)


@pytest.fixture
def seat(step):
    made = []

    def sit(*args, **options):
        made.append(Seat(step, *args, **options))
        return made[-1]

    yield sit
    for one in made:
        one.close()


# Its size


@row("S18")
def test_the_size_is_that_of_our_terminal(seat):
    at = seat("stty size", size=(101, 31))
    assert at.end() == "exit status 0"
    assert at.shown == b"31 101\r\n"


@row("S18")
def test_a_terminal_without_a_size_gives_the_usual_one(seat):
    at = seat("stty size", size=(0, 0))
    assert at.end() == "exit status 0"
    assert at.shown == b"24 80\r\n"


@row("S18")
def test_a_size_that_is_asked_for_wins_and_stays(seat):
    at = seat("stty size; read x; stty size", console_size=ConsoleSize(111, 22))
    at.see(rb"22 111\r\n")
    at.resize(50, 15)
    at.type(b"\r")
    assert at.end() == "exit status 0"
    assert at.shown == b"\r\n22 111\r\n"


@row("S75")
@pytest.mark.parametrize("thread", [False, True])
def test_a_change_of_size_reaches_the_command(seat, thread):
    line = 'trap "echo winch; stty size" WINCH; echo ready; while ! read -t 1 x; do :; done; echo last $x'
    at = seat(line, thread=thread)
    at.see(rb"ready\r\n")
    for columns, rows in ((90, 20), (132, 43)):
        at.resize(columns, rows)
        at.see(b"winch\r\n%d %d\r\n" % (rows, columns))
    at.type(b"word\r")
    at.see(rb"last word\r\n")
    assert at.end() == "exit status 0"
    assert at.is_restored


# Our own terminal


@row("S75")
def test_our_terminal_is_raw_meanwhile_and_then_as_it_was(seat):
    at = seat("echo ready; read x; exit 3")
    at.see(rb"ready")
    assert at.is_raw
    at.type(b"\r")
    assert at.end() == "exit status 3"
    assert at.is_restored


def unusual(modes):
    """No echo, an interrupt character of the user's own, and no carriage return before a new line."""
    modes[3] &= ~termios.ECHO
    modes[1] &= ~termios.ONLCR
    modes[6][termios.VINTR] = b"\x07"
    return modes


@row("S75")
@pytest.mark.parametrize("thread", [False, True])
def test_settings_of_the_users_own_come_back(seat, thread):
    at = seat("echo ready; read x", thread=thread, modes=unusual)
    at.see(rb"ready")
    assert at.is_raw
    at.type(b"\r")
    assert at.end() == "exit status 0"
    assert at.is_restored


@row("S75")
def test_after_the_command_was_killed_from_outside(seat):
    nap = marker()
    at = seat("/bin/sh", "-c", "echo ready; read x", nap)
    at.see(rb"ready")
    assert at.is_raw
    (init,) = processes(nap)
    os.kill(init, signal.SIGKILL)
    assert at.end() == "killed by SIGKILL"
    assert at.is_restored


@row("S75")
def test_after_the_command_killed_itself(seat):
    at = seat("echo ready; read x; kill -9 $$", namespaces=(NamespaceOption("pid", host=True),))
    at.see(rb"ready")
    at.type(b"\r")
    assert at.end() == "killed by SIGKILL"
    assert at.is_restored


@row("S75")
def test_after_an_interrupt_from_outside(step, seat):
    nap = marker()
    at = seat(f"echo ready; sleep {nap}")
    at.see(rb"ready")
    assert at.is_raw
    os.kill(at.process.pid, signal.SIGINT)
    assert at.end() == "KeyboardInterrupt"
    assert at.is_restored
    assert processes(nap) == []
    assert os.listdir(step.work_dir) == []


@row("S75")
def test_after_a_timeout(seat):
    at = seat("echo ready; while :; do sleep 1; done", timeout=1)
    at.see(rb"ready")
    assert "time limit" in at.end()
    assert at.is_restored


@row("S75")
@pytest.mark.parametrize("command", ["/no/such/command", "nosuch", "/etc/passwd"])
def test_after_a_command_that_does_not_exist(seat, command):
    at = seat(command, "argument")
    said = at.end()
    assert said.startswith("HostError: ") and command in said
    assert at.is_restored


@row("S75")
def test_our_terminal_is_left_alone_where_the_step_may_not_read_it(seat):
    at = seat("echo ready; while :; do sleep 0.05; [ -e /go ] && exit 4; done", stdin=None)
    at.see(rb"ready")
    assert at.is_restored
    at.type(b"not for the step\n")
    at.see(rb"not for the step\r\n")
    with open(at.rootfs + "/go", "w", encoding="ascii"):
        pass
    assert at.end() == "exit status 4"
    assert at.shown == b""


@row("S75")
def test_and_where_the_step_has_none(seat):
    at = seat("echo ready; read x; echo got $x; tty", terminal="without")
    at.see(rb"ready")
    assert at.is_restored
    at.type(b"typed\n")
    assert at.end() == "exit status 1"
    assert b"got typed\r\n" in at.shown and b"not a tty" in at.shown


# Typing


@row("S75")
def test_ctrl_c_is_for_the_command(seat):
    at = seat("trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done")
    at.see(rb"ready")
    at.type(b"\x03")
    assert at.end() == "exit status 7"
    assert b"caught\r\n" in at.shown
    assert at.is_restored


@row("S75")
def test_the_quit_character_is_too(seat):
    at = seat("trap 'echo quit; exit 8' QUIT; echo ready; while :; do sleep 0.05; done")
    at.see(rb"ready")
    at.type(b"\x1c")
    assert at.end() == "exit status 8"
    assert b"quit\r\n" in at.shown


@row("S75")
def test_what_is_typed_is_echoed_once_by_the_steps_terminal(seat):
    at = seat("echo ready; cat; echo end")
    at.see(rb"ready\r\n")
    at.type(b"abc\r")
    at.see(rb"^abc\r\nabc\r\n")
    at.type(b"xy\x7fz\r")
    at.see(rb"^xy\x08 \x08z\r\nxz\r\n")
    at.type(b"\x04")
    assert at.end() == "exit status 0"
    assert at.shown == b"end\r\n"


@row("S75")
def test_an_interactive_shell(seat):
    """Jobs are interrupted, stopped and killed, and the shell goes on."""
    nap = marker()
    at = seat("/bin/sh", "-i", env=("PS1=> ", "HOME=/"), cwd="/")
    at.see(rb"> ")
    at.type(b"echo $((6*7))\r")
    at.see(rb"\n42\r\n")
    for key in (b"\x03", b"\x1a"):
        at.see(rb"> ")
        at.type(b"sleep %s\r" % nap.encode())
        assert until(lambda: processes(nap))
        at.type(key)
    at.see(rb"Stopped")
    at.type(b"kill -9 %1\r")
    assert until(lambda: not processes(nap))
    at.type(b"\r")
    at.see(rb"Killed")
    at.type(b"exit 9\r")
    assert at.end() == "exit status 9"
    assert at.is_restored


@row("S75")
def test_a_full_screen_editor(step, seat):
    with open(step.rootfs + "/file", "w", encoding="ascii") as stream:
        stream.write("first\nsecond\n")
    at = seat("vi", "/file", env=("TERM=vt100",), cwd="/", size=(60, 12))
    at.see(rb"first")
    at.see(rb"\x1b\[12;1H")  # the last line of a screen of this size
    at.type(b"A and more")
    at.see(rb"and more")
    at.type(b"\x1b")
    at.see(rb"- /file")
    at.type(b"jdd")
    at.type(b":wq\r")
    assert at.end() == "exit status 0"
    assert open(step.rootfs + "/file", encoding="ascii").read() == "first and more\n"
    assert at.is_restored


@row("S75")
def test_a_paste_that_is_larger_than_a_terminal_holds(seat):
    at = seat("stty -echo; echo ready; wc -l")
    at.see(rb"ready\r\n")
    lines = b"".join(b"line %d of a long paste\r" % number for number in range(4000))
    thread = threading.Thread(target=write_all, args=(at.controller, lines + b"\x04"), daemon=True)
    thread.start()
    at.see(rb"4000\r\n")
    thread.join(SECONDS)
    assert at.end() == "exit status 0"


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:1024]) :]


# What it is inside


@row("S75")
def test_it_is_a_terminal_with_a_name(step):
    lines = "tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all; [ -c $(tty) ] && echo there"
    name, *rest = step.text(lines, terminal="with", timeout=20).split("\r\n")
    assert re.fullmatch(r"/dev/pts/\d+", name)
    assert rest == ["all", "there", ""]


@row("S75")
def test_the_console_and_the_controlling_terminal_are_the_same(step):
    line = "[ -c /dev/console ] && echo x > /dev/console; echo y > /dev/tty; echo z > $(tty)"
    line += "; stty size < /dev/console"
    size = ConsoleSize(70, 17)
    assert step.text(line, terminal="with", console_size=size, timeout=20) == "x\r\ny\r\nz\r\n17 70\r\n"


@row("S75")
def test_a_user_owns_it(step):
    line = "stat -c %u $(tty); echo x > $(tty); echo y > /dev/stdout; echo z > /dev/stderr"
    assert step.text(line, terminal="with", user="bob", timeout=20) == "1000\r\nx\r\ny\r\nz\r\n"


@row("S75")
def test_nothing_of_a_terminal_remains(step):
    before = sorted(os.listdir(step.rootfs)), sorted(os.listdir(step.rootfs + "/etc"))
    assert step.run("tty", terminal="with").status == 0
    assert (sorted(os.listdir(step.rootfs)), sorted(os.listdir(step.rootfs + "/etc"))) == before
    assert os.listdir(step.work_dir) == []


@row("S18")
@pytest.mark.parametrize("on", [False, True])
def test_by_default_there_is_one_where_we_have_one(step, host, on):
    step.executor = type(step.executor)(replace(host, stdio_is_terminal=on), step.work_dir)
    assert step.text("[ -t 1 ] && echo yes || echo no", timeout=20).strip() == ("yes" if on else "no")
    assert step.text("[ -t 1 ] && echo yes || echo no", timeout=20, terminal="without") == "no\n"


@row("S18")
def test_the_default_knows_that_we_sit_at_a_terminal(seat):
    at = seat("tty", terminal="default", probe=True)
    assert at.end() == "exit status 0"
    assert at.shown.startswith(b"/dev/pts/")


# Input that is no terminal


@row("S75")
def test_without_input_it_is_at_its_end(step):
    result = step.run("stty -echo; cat; echo end", terminal="with", timeout=15)
    assert (result.status, step.stdout[-5:]) == (0, b"end\r\n")


@row("S75")
@pytest.mark.parametrize("data", [b"", b"line\n", b"line\nno newline", b"x"])
def test_the_end_of_a_pipe_is_the_end_of_the_file(step, data):
    with fed(data) as stdin:
        result = step.run("cat > /got; echo end", terminal="with", stdin=stdin, timeout=15)
    assert (result.status, step.stdout[-5:]) == (0, b"end\r\n")
    with open(step.rootfs + "/got", "rb") as stream:
        assert stream.read() == data


@row("S75")
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_much_input_arrives_complete(step, tmp_path, kind):
    """More than any of the buffers on the way holds."""
    path = tmp_path / "input"
    path.write_bytes(b"".join(b"line number %d\n" % number for number in range(40_000)))
    line = "stty -echo; md5sum > /sum"
    if kind == "pipe":
        with fed(path.read_bytes()) as stdin:
            result = step.run(line, terminal="with", stdin=stdin, timeout=30)
    else:
        with open(path, "rb") as stream:
            result = step.run(line, terminal="with", stdin=stream.fileno(), timeout=30)
    assert result.status == 0
    wanted = subprocess.run(["md5sum"], input=path.read_bytes(), capture_output=True, check=True).stdout
    with open(step.rootfs + "/sum", "rb") as stream:
        assert stream.read() == wanted


@row("S75")
def test_a_step_with_a_terminal_is_not_hung_by_its_input(step):
    with fed(b"line\n" * 1000, size=2 << 20) as stdin:
        assert step.run("echo done", terminal="with", stdin=stdin, timeout=30).status == 0
    assert b"done\r\n" in step.stdout
    with fed(ends=False) as stdin:
        assert step.run("echo done", terminal="with", stdin=stdin, timeout=30).status == 0


# Output


@row("S75")
def test_much_output_is_complete_up_to_its_end(step):
    assert step.text("seq 60000", terminal="with").split("\r\n") == [*map(str, range(1, 60001)), ""]


@row("S75")
def test_the_last_words_are_never_lost(step):
    for number in range(10):
        assert step.text(f"printf 'last {number}'", terminal="with") == f"last {number}"


@row("S75")
def test_both_streams_are_stdout(step):
    assert step.run("echo out; echo err >&2", terminal="with").status == 0
    assert (step.stdout, step.stderr) == (b"out\r\nerr\r\n", b"")


@row("S75")
def test_a_background_process_that_holds_it(step):
    nap = marker()
    with fed(ends=False) as stdin:
        line = f"trap '' HUP; sleep {nap} & echo started"
        assert step.run(line, terminal="with", stdin=stdin, timeout=30).status == 0
    assert b"started\r\n" in step.stdout
    assert processes(nap) == []


@row("S75")
def test_a_step_may_let_go_of_its_terminal_for_a_while(step):
    """With nobody at it a terminal seems to have ended; then more comes than it can hold."""
    line = "exec <&- >&- 2>&-; sleep 0.3; exec > /dev/tty; seq 20000; echo end"
    with fed(ends=False) as stdin:
        assert step.run(line, terminal="with", stdin=stdin, timeout=15).status == 0
    assert step.stdout.endswith(b"20000\r\nend\r\n")


@row("S75")
def test_a_step_that_never_began_has_no_output(step):
    with fed(b"input\n") as stdin, pytest.raises(HostError):
        step.run("/no/such", "x", terminal="with", stdin=stdin, timeout=30)
    assert os.listdir(step.work_dir) == []
