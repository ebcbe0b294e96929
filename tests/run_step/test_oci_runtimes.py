"""OCI runtimes that fail in every way a program can fail, and the search for one that works (rows S71, S72).

The runtimes are shell scripts. Where one does not misbehave, it does what a real runtime does.
"""

import os
import shlex
import signal
import threading

import pytest
from busybox_root import host_mounts, listing, marker, processes, why_not_run
from rows import row
from watching import clear, groups, parent_of, until
from ways import Step, isolations

from run_step import HostError, NamespaceOption, Resources
from run_step.helper_programs import find_runtime
from run_step.host_probe import probe_runtimes
from run_step.isolation.runtime_errors import plain
from run_step.isolation.runtimes import RUNTIMES, try_runtime

NAME = "fake-runtime"
REAL = next(
    (find_runtime(one[4:]) for one in isolations() if isinstance(one, str) and one.startswith("oci-")), None
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(REAL is None, reason="no OCI runtime works here")]

HEAD = f"""\
#!/bin/sh
before=
for word; do
    [ "$before" = --log ] && log=$word
    case $word in create|start|delete) call=$word; break ;; esac
    before=$word
done
real() {{ {shlex.quote(REAL or "false")} "$@"; }}
case $call in
"""


def script(path, calls):
    """A runtime that runs the shell's lines in ``calls`` for the call that they are named by."""
    cases = "".join(f"{call})\n{lines}\n;;\n" for call, lines in calls.items())
    with open(path, "w", encoding="ascii") as stream:
        stream.write(f'{HEAD}{cases}*) real "$@" ;;\nesac\n')
    os.chmod(path, 0o755)
    return path


class Fake:
    """Steps of a runtime that is a script, and a look at what they leave.

    ``nap`` is in the command line of the step, ``hang`` in that of what the script starts.
    """

    def __init__(self, step, directory):
        self.step = step
        self.directory = directory
        self.path = str(directory / NAME)
        self.nap, self.hang = marker(), marker()
        self.name = os.urandom(6).hex()
        self.before = listing(step.rootfs)
        self.mounted = host_mounts(os.path.dirname(step.rootfs))

    def write(self, **calls):
        script(self.path, {call: lines.replace("HANG", self.hang) for call, lines in calls.items()})

    def run(self, *args, **fields):
        args = [arg.replace("NAP", self.nap) for arg in args] or [f"sleep {self.nap}"]
        fields.setdefault("runtime_timeout", 60)
        self.step.runtime = self.path
        return self.step.run(*args, container_id=self.name, **fields)

    def failure(self, *args, **fields):
        """What is told of a step that could not be run; nothing of it may be left."""
        with pytest.raises(HostError) as caught:
            self.run(*args, **fields)
        self.leaves_nothing()
        return str(caught.value)

    def leaves_nothing(self):
        command, runtime = processes(self.nap), processes(self.hang) + processes(self.path)
        left = groups(f"buildfront-{self.name}")
        for pid in (*command, *runtime):
            os.kill(pid, signal.SIGKILL)  # a failure here must not become another test's
        clear(left)
        assert command == [], "the command still runs"
        assert runtime == [], "the runtime still runs"
        assert left == []
        assert os.listdir(self.step.work_dir) == []
        assert listing(self.step.rootfs) == self.before
        assert host_mounts(os.path.dirname(self.step.rootfs)) == self.mounted


@pytest.fixture
def fake(rootfs, tmp_path, host):
    reason = why_not_run()
    if reason:
        pytest.skip(reason)
    work = tmp_path / "work"
    work.mkdir()
    step = Step(rootfs, "oci", str(work), host)
    yield Fake(step, tmp_path)
    step.executor.close()


@row("S71")
def test_a_runtime_that_behaves(fake):
    """The script alone changes nothing: what the others see comes from what they add."""
    fake.write()
    result = fake.run("echo out; exit 3")
    assert (result.status, fake.step.stdout) == (3, b"out\n")
    fake.leaves_nothing()


# Runtimes that hang

LIMIT = 2
"""Seconds for a call that hangs. Those that do not have to end in it, on a machine with other work too."""

HANGS = {
    "itself": "exec sleep HANG",
    "with a child": "sleep HANG; exit 1",
    "deaf": "trap '' TERM INT HUP; while :; do sleep HANG; done",
    "away": "setsid setsid sleep HANG; exec sleep HANG",
}


@row("S71")
@pytest.mark.parametrize("how", HANGS)
@pytest.mark.parametrize("call", ["create", "start"])
def test_a_call_that_hangs_is_told(fake, call, how):
    fake.write(**{call: HANGS[how]})
    assert f"{NAME} {call} did not end within {LIMIT} s" in fake.failure(runtime_timeout=LIMIT)


@row("S71")
@pytest.mark.parametrize("call", ["create", "start"])
def test_a_call_that_hangs_when_it_has_done_its_work(fake, call):
    """The container is there then, after start even the command runs."""
    fake.write(**{call: 'real "$@"\nexec sleep HANG'})
    assert f"{NAME} {call} did not end within {LIMIT} s" in fake.failure(
        "echo; sleep NAP", runtime_timeout=LIMIT
    )


@row("S71")
@pytest.mark.parametrize("how", HANGS)
def test_a_delete_that_hangs_does_not_change_the_result(fake, how):
    fake.write(delete=HANGS[how])
    result = fake.run("echo out; exit 3", runtime_timeout=LIMIT)
    assert (result.status, fake.step.stdout) == (3, b"out\n")
    fake.leaves_nothing()


@row("S72")
def test_a_delete_that_hangs_leaves_no_process_of_the_host_behind(fake):
    fake.write(delete="exec sleep HANG")
    namespaces = (NamespaceOption("pid", host=True),)
    result = fake.run(
        "(setsid sleep NAP &); sleep NAP & exit 4", namespaces=namespaces, runtime_timeout=LIMIT
    )
    assert result.status == 4
    fake.leaves_nothing()


@row("S71")
@pytest.mark.parametrize("first", ["exec sleep HANG", 'real "$@"; exec sleep HANG'])
def test_a_runtime_that_hangs_in_everything(fake, first):
    fake.write(create=first, start="exec sleep HANG", delete="exec sleep HANG")
    assert f"{NAME} create did not end within {LIMIT} s" in fake.failure(runtime_timeout=LIMIT)


@row("X82")
@pytest.mark.parametrize("before", ["", 'real "$@"; '])
def test_cancelling_while_create_hangs(fake, before):
    cancel = threading.Event()
    fake.write(create=f"{before}echo begun; exec sleep HANG")
    result = fake.run(cancel=cancel, output=lambda *_: cancel.set())
    assert result.cancelled and not result.timed_out
    fake.leaves_nothing()


@row("X82")
def test_cancelling_while_start_hangs(fake):
    cancel, begun = threading.Event(), fake.directory / "begun"
    fake.write(start=f"echo > {begun}; exec sleep HANG")

    def when_begun():
        until(begun.exists)
        cancel.set()

    thread = threading.Thread(target=when_begun)
    thread.start()
    result = fake.run(cancel=cancel)
    thread.join()
    assert begun.exists() and result.cancelled
    fake.leaves_nothing()


@row("X82")
def test_the_time_limit_of_a_step_counts_while_create_hangs(fake):
    fake.write(create="exec sleep HANG")
    assert fake.run(timeout=0.5).timed_out
    fake.leaves_nothing()


@row("X82")
def test_a_receiver_that_fails_while_create_hangs(fake):
    fake.write(create="echo begun; exec sleep HANG")

    def fail(stream, data):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fake.run(output=fail)
    fake.leaves_nothing()


@row("X82")
@pytest.mark.parametrize("before", ["", 'real "$@"; '])
def test_a_killed_supervised_child_while_create_hangs(fake, before):
    """Nobody has been told of the container then."""
    fake.write(create=f"{before}echo begun; exec sleep HANG")

    def kill(stream, data):
        assert until(lambda: processes(fake.hang))
        (pid,) = processes(fake.hang)
        os.kill(parent_of(pid), signal.SIGKILL)

    assert "supervisor" in fake.failure(output=kill)


# Runtimes that fail


@row("S71")
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("call", ["create", "start"])
def test_a_call_that_dies_is_told(fake, call, number):
    fake.write(**{call: f"kill -{int(number)} $$"})
    assert f"{NAME} {call} failed (killed by {signal.Signals(int(number)).name})" in fake.failure()


@row("S71")
@pytest.mark.parametrize("call", ["create", "start"])
def test_a_call_that_dies_when_it_has_done_its_work(fake, call):
    fake.write(**{call: 'real "$@"; kill -SEGV $$'})
    assert f"{NAME} {call} failed (killed by SIGSEGV)" in fake.failure()


@row("S71")
@pytest.mark.parametrize("lines", ["kill -SEGV $$", "exit 1", "real $*; exit 1", "real $*; kill -SEGV $$"])
def test_a_delete_that_fails_does_not_change_the_result(fake, lines):
    fake.write(delete=lines)
    assert fake.run("exit 3").status == 3
    fake.leaves_nothing()


LOGS = {
    "json": """'{"level":"error","msg":"no more \\"room\\"","time":"now"}'""",
    "words": "'no more \"room\"'",
    "a logger's text": """'time="now" level=error msg="no more \\"room\\""'""",
    "json of another kind": """'["no more \\"room\\""]' 'null' '7' 'no more "room"'""",
}


@row("S71")
@pytest.mark.parametrize("kind", LOGS)
@pytest.mark.parametrize("call", ["create", "start"])
def test_the_words_of_the_log_are_told(fake, call, kind):
    fake.write(**{call: f"""printf '%s\\n' {LOGS[kind]} >> "$log"; exit 7"""})
    text = fake.failure()
    assert text.startswith(f"{NAME} {call} failed: ")
    assert 'no more "room"' in text.replace("\\", "")


@row("S71")
@pytest.mark.parametrize("call", ["create", "start"])
def test_a_log_that_is_no_text_is_told(fake, call):
    fake.write(**{call: r"""printf '\377\000\n{"msg":"said \303\244"}\n' >> "$log"; exit 7"""})
    assert "said ä" in fake.failure()


@row("S71")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_create_prints_is_output(fake, stream):
    """Its streams become the command's, so what it prints can't be kept from the output."""
    fake.write(create=f"echo no more room >&{1 if stream == 'stdout' else 2}; exit 7")
    text = fake.failure()
    assert text.startswith(f"{NAME} create failed: ")
    assert "output" in text or "no more room" in text
    assert getattr(fake.step, stream) == b"no more room\n"


@row("S71")
@pytest.mark.parametrize("number", [1, 2])
def test_what_start_prints_is_told(fake, number):
    fake.write(start=f"echo no more room >&{number}; exit 7")
    assert fake.failure() == f"{NAME} start failed: no more room"
    assert fake.step.stdout == fake.step.stderr == b""


@row("S71")
def test_what_create_logged_is_not_what_start_failed_of(fake):
    logged = """echo '{"level":"warning","msg":"a mere warning"}' >> "$log"; real "$@" """
    fake.write(create=logged, start="echo no more room >&2; exit 7")
    assert fake.failure() == f"{NAME} start failed: no more room"


@row("S71")
@pytest.mark.parametrize("call", ["create", "start"])
def test_a_call_that_fails_without_a_word(fake, call):
    fake.write(**{call: "exit 7"})
    assert fake.failure().startswith(f"{NAME} {call} failed: ")


@row("S71")
def test_the_real_runtimes_own_words(fake):
    """Of a command that can't be executed they are understood, and told as under every isolation."""
    fake.write()
    assert fake.failure("/no/such/command", "x") == "'/no/such/command' is not in the image"


# Programs that are none


def not_there(path):
    pass


def a_directory(path):
    os.mkdir(path)


def not_executable(path):
    script(path, {})
    os.chmod(path, 0o644)


def no_program(path):
    with open(path, "w", encoding="ascii") as stream:
        stream.write("echo hello\n")
    os.chmod(path, 0o755)


def no_interpreter(path):
    with open(path, "w", encoding="ascii") as stream:
        stream.write("#!/no/such/interpreter\n")
    os.chmod(path, 0o755)


def a_link_to_itself(path):
    os.symlink(NAME, path)


@row("S71")
@pytest.mark.parametrize(
    "make", [not_there, a_directory, not_executable, no_program, no_interpreter, a_link_to_itself]
)
def test_a_path_that_is_no_program_is_told(fake, make):
    make(fake.path)
    text = fake.failure()
    assert NAME in text
    assert "can't be run" in text or "not found" in text


@row("S71")
@pytest.mark.parametrize("lines", ['real "$@"; rm "$0"', 'real "$@"; chmod 0 "$0"', 'real "$@"; echo > "$0"'])
def test_a_runtime_that_vanishes_between_create_and_start(fake, lines):
    fake.write(create=lines)
    assert f"{NAME} start can't be run: " in fake.failure()


@row("S71")
def test_a_runtime_that_vanishes_before_delete(fake):
    fake.write(start='real "$@"; rm "$0"')
    result = fake.run("echo out; exit 3")
    assert (result.status, fake.step.stdout) == (3, b"out\n")
    fake.leaves_nothing()


@row("S71")
@pytest.mark.parametrize(
    "lines",
    [
        'real "$@"; rm "$0"; exit 1',
        'real "$@"; rm "$0"; kill -SEGV $$',
        'real "$@"; rm "$0" pid',
        'real "$@"; rm "$0"; exec sleep HANG',
    ],
)
def test_a_runtime_that_fails_and_vanishes(fake, lines):
    """What it made is removed without it, though it never said what that is."""
    fake.write(create=lines)
    assert f"{NAME} create " in fake.failure(runtime_timeout=LIMIT)


@row("S30", "S71")
@pytest.mark.parametrize("parent", ["tests-{0}", "/tests-{0}/inner"])
def test_the_parent_is_removed_without_the_runtime(fake, parent):
    fake.write(create='real "$@"; rm "$0"; exit 1')
    parent = parent.format(fake.name)
    text = fake.failure(resources=Resources(memory=64 << 20, cgroup_parent=parent))
    assert text.startswith(f"{NAME} create failed")
    left = groups(f"tests-{fake.name}")
    clear(left)
    assert left == []


# Process IDs

PID_FILES = {
    "garbage": "echo garbage",
    "no text": r"printf '\377\376\000'",
    "empty": ":",
    "zero": "echo 0",
    "negative": 'echo "-$(cat pid)"',
    "huge": "echo 99999999999999999999999999999",
    "init": "echo 1",
    "the test": f"echo {os.getpid()}",
    "itself": "echo $$",
    "its parent": "echo $PPID",
}


@row("S72")
@pytest.mark.parametrize("what", PID_FILES)
def test_a_wrong_process_id_is_told_and_harms_nobody(fake, what):
    fake.write(create=f'real "$@" || exit; {PID_FILES[what]} > pid.new; mv pid.new pid')
    text = fake.failure()
    assert text.startswith((f"{NAME} create wrote", f"{fake.path} create wrote")), text


@row("S72")
def test_no_process_id_is_told(fake):
    fake.write(create='real "$@"; rm pid')
    text = fake.failure()
    assert "create wrote no usable pid file" in text and NAME in text


@row("S72")
def test_a_runtime_that_made_nothing_is_told(fake):
    fake.write(create="exit 0")
    assert "create wrote no usable pid file" in fake.failure()


@row("S72")
def test_a_container_that_has_ended_before_the_start_is_told(fake):
    fake.write(create='real "$@"; kill -9 "$(cat pid)"')
    text = fake.failure()
    assert NAME in text and ("start" in text or "create" in text)


# Runtimes that talk


@row("S74")
def test_what_a_runtime_prints_a_lot_of_does_not_stop_it(fake):
    size = 3 << 20
    much = f"head -c {size} /dev/zero; head -c {size} /dev/zero >&2"
    calls = ("create", "start", "delete")
    fake.write(**{call: f'{much}; real "$@" || exit; {much}' for call in calls})
    result = fake.run("echo out; exit 3")
    assert result.status == 3
    assert fake.step.stdout.lstrip(b"\0") == b"out\n"
    assert len(fake.step.stdout) == 2 * size + 4
    assert fake.step.stderr == bytes(2 * size)
    fake.leaves_nothing()


@row("S71")
@pytest.mark.parametrize("call", ["create", "start"])
def test_what_is_told_of_a_long_log_is_short(fake, call):
    """An error is for a person to read: its end, where the reason stands, is enough."""
    lines = f"""head -c {3 << 20} /dev/zero | tr '\\0' x >> "$log"; printf '\\nno more room\\n' >> "$log"; exit 7"""
    fake.write(**{call: lines})
    text = fake.failure()
    assert text.startswith(f"{NAME} {call} failed: ") and "no more room" in text
    assert len(text) < 1 << 16


@row("S72")
@pytest.mark.parametrize("call", ["create", "start", "delete"])
def test_what_a_runtime_leaves_running_ends_with_the_step(fake, call):
    """It holds the output open, and is the child of nobody that knows of it."""
    fake.write(**{call: '(setsid sleep HANG &); sleep HANG & real "$@"'})
    result = fake.run("echo out; exit 3", runtime_timeout=10)
    assert (result.status, fake.step.stdout) == (3, b"out\n")
    fake.leaves_nothing()


@row("S71")
def test_a_runtime_is_called_by_the_flags_of_the_request(fake):
    fake.write(create='echo "$@"; exit 7')
    fake.failure(runtime_flags=("--debug", "--rootless=false"))
    words = fake.step.stdout.decode().split()
    assert words.index("--rootless=false") == words.index("--debug") + 1 < words.index("create")


# The search for one


@row("S71")
def test_the_search_tells_of_every_runtime():
    found = probe_runtimes(every=True)
    assert [fact.name for fact in found] == [name for name in RUNTIMES if find_runtime(name)]
    for fact in found:
        assert fact.path == find_runtime(fact.name)
        assert fact.why == try_runtime(fact.path)
        assert fact.works == (not fact.why)


@row("S71")
def test_the_search_ends_at_the_first_that_works():
    every, found = probe_runtimes(every=True), probe_runtimes()
    assert found == every[: len(found)]
    assert [fact.works for fact in found] == [False] * (len(found) - 1) + [True]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A directory that is looked into first, and what makes a runtime in it."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")

    def make(name, lines):
        (place / name).write_text(lines)
        (place / name).chmod(0o755)
        return str(place / name)

    return make


@row("S71")
def test_a_runtime_on_the_path_is_taken_first(places):
    made = places("runc", f'#!/bin/sh\nexec {REAL} "$@"\n')
    assert find_runtime("runc") == made
    assert try_runtime(made) == ""


@row("S71")
def test_what_comes_after_the_first_that_works_is_not_run(places, tmp_path):
    crun = places("crun", "#!/bin/sh\necho 'no luck' >&2; exit 1\n")
    runc = places("runc", f'#!/bin/sh\nexec {REAL} "$@"\n')
    places("youki", f"#!/bin/sh\necho > {tmp_path}/run; exit 1\n")
    found = probe_runtimes()
    assert [(fact.path, fact.works, fact.why) for fact in found] == [
        (crun, False, "no luck"),
        (runc, True, ""),
    ]
    assert not (tmp_path / "run").exists()
    assert [fact.name for fact in probe_runtimes(every=True)] == list(RUNTIMES)
    assert (tmp_path / "run").exists()


@row("S71")
@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("echo 'no cgroups here' >&2; exit 1", "no cgroups here"),
        ("echo 'no cgroups here'; exit 1", "no cgroups here"),
        ("echo 'a warning' >&2; echo 'no cgroups here' >&2; exit 1", "no cgroups here"),
        ("""echo 'time="now" level=error msg="no cgroups here"' >&2; exit 1""", "no cgroups here"),
        (r"""echo 'time="now" level=error msg="no \"cgroups\" here"' >&2; exit 1""", 'no "cgroups" here'),
        (r"printf 'no cgroups \377 here\n' >&2; exit 1", "no cgroups \N{REPLACEMENT CHARACTER} here"),
        ("exit 3", "ended with status 3"),
        ("exit 0", "ended with status 0"),
        ("head -c 3000000 /dev/zero | tr '\\0' '\\n' >&2; echo no cgroups here >&2; exit 1", "no cgroups here"),
    ],
)  # fmt: skip
def test_why_one_does_not_work_is_told_in_its_own_words(places, tmp_path, lines, why):
    (tmp_path / "work").mkdir()
    path = places("crun", f"#!/bin/sh\n{lines}\n")
    fact = probe_runtimes(work_dir=str(tmp_path / "work"))[0]
    assert (fact.name, fact.path, fact.works, fact.why) == ("crun", path, False, why)
    assert os.listdir(tmp_path / "work") == []


@row("S71")
def test_one_that_dies_does_not_work(places):
    places("crun", "#!/bin/sh\nkill -SEGV $$\n")
    fact = probe_runtimes()[0]
    assert not fact.works and fact.why


@row("S71")
@pytest.mark.parametrize("text", ["echo hello\n", "#!/no/such/interpreter\n", "\x7fELF"])
def test_one_that_is_no_program_does_not_end_the_search(places, tmp_path, text):
    (tmp_path / "work").mkdir()
    path = places("crun", text)
    found = probe_runtimes(work_dir=str(tmp_path / "work"))
    assert (found[0].path, found[0].works) == (path, False)
    assert found[0].why
    assert found[-1].works
    assert os.listdir(tmp_path / "work") == []


@row("S71")
def test_what_is_not_executable_is_not_found(places, tmp_path):
    os.chmod(places("crun", "#!/bin/sh\n"), 0o644)
    (tmp_path / "bin" / "youki").mkdir()
    assert not {find_runtime("crun"), find_runtime("youki")} & {
        str(tmp_path / "bin" / name) for name in RUNTIMES
    }


@row("S71")
@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([("error", "runc create failed: no room")], "no room"),
        ([("error", "runc create failed: runc create failed: no room")], "no room"),
        ([("warning", "unable to get oom kill count: no such file"), ("error", "no room")], "no room"),
        ([("", "unable to get oom kill count: no such file"), ("", "no room")], "no room"),
        ([("error", "no room"), ("", "no room")], "no room"),
        ([("warning", "old"), ("info", "new")], "old; new"),
        ([("error", "one"), ("error", "two")], "one; two"),
        ([("warning", "unable to get oom kill count: x")], ""),
        ([], ""),
    ],
)
def test_the_words_are_told_once_and_without_noise(lines, words):
    assert plain(lines) == words


@row("S71")
def test_the_name_of_the_call_stands_there_once(fake):
    fake.write(
        create=f"""echo '{{"level":"error","msg":"{NAME} create failed: no room"}}' >> "$log"; exit 7"""
    )
    assert fake.failure() == f"{NAME} create failed: no room"
