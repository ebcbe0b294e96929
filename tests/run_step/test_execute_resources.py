"""Limits and measures of real steps, their control groups seen from outside, and what is left of those."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from busybox_root import make_rootfs, marker, processes
from rows import row
from watching import clear, group_file, groups, until

from run_step import HostError, NamespaceOption, Resources, recover
from run_step.isolation import cgroup
from run_step.isolation.cgroup import (
    UNIFIED,
    CgroupError,
    Group,
    layout_of,
    parse_layout,
    settings,
    shares_to_weight,
)

MEMORY = Resources(memory=64 << 20)


def container_id():
    """One that no other step has; the group of its step is found by it."""
    return os.urandom(6).hex()


class Held:
    """A step in a thread of its own: it has begun, and ends when it is let go.

    ``pid`` is the host's number of its command.
    """

    def __init__(self, step, rootfs="", line="echo ready; read x", **fields):
        nap = marker()
        reader, self.writer = os.pipe()
        request = step.request("/bin/sh", "-c", line, nap, **fields)
        plan = step.plan("/bin/sh", "-c", line, nap, **fields)
        began, self.cancel = threading.Event(), threading.Event()
        self.result = self.error = None

        def run():
            try:
                self.result = step.executor.execute(
                    plan,
                    rootfs or request.rootfs,
                    output=lambda *_: began.set(),
                    stdin=reader,
                    cancel=self.cancel,
                    timeout=60,
                )
            except BaseException as error:  # noqa: BLE001 - looked at by the test's own thread
                self.error = error
            finally:
                os.close(reader)
                began.set()

        self.thread = threading.Thread(target=run)
        self.thread.start()
        assert began.wait(30), "the step did not begin"
        if self.error is not None:
            self.let_go()
        (self.pid,) = processes(nap)

    def let_go(self):
        """Have it end, and wait for that; its result."""
        os.close(self.writer)
        return self._end()

    def stop(self):
        """Cancel it, and wait for its end."""
        self.cancel.set()
        os.close(self.writer)
        return self._end()

    def _end(self):
        self.thread.join(30)
        assert not self.thread.is_alive(), "the step does not end"
        if self.error is not None:
            raise self.error
        return self.result


# What is measured


@row("X38")
@pytest.mark.root
def test_processor_time_that_nobody_waited_for_counts(step):
    """A process in the background notes down what it has used, and is killed by the end of the step."""
    work = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; read -r line < /proc/self/stat"
    work += "; set -- $line; echo $((${14}+${15})) > /new; mv /new /ticks; exec sleep 1000"
    line = f"sh -c '{work}' & while [ ! -e /ticks ]; do sleep 0.05; done"
    result = step.run(line)
    assert (result.status, result.measured) == (0, "cgroup")
    with open(step.rootfs + "/ticks", encoding="ascii") as stream:
        used = int(stream.read()) * 1_000_000 // os.sysconf("SC_CLK_TCK")
    assert used > 0
    assert result.user_us + result.system_us >= used // 2  # both are sampled


@row("X38")
@pytest.mark.root
def test_the_peak_of_memory_is_that_of_all_processes(step):
    """Two processes hold 40 MB each at the same time; tail keeps what has no line end."""
    hold = "{ head -c 40000000 /dev/zero; touch /full.$n; while [ ! -e /go ]; do sleep 0.05; done; } | tail"
    line = f"for n in 1 2; do {hold} >/dev/null & done"
    line += "; while [ ! -e /full.1 ] || [ ! -e /full.2 ]; do sleep 0.05; done; touch /go; wait"
    result = step.run(line)
    assert (result.status, result.measured) == (0, "cgroup")
    assert 78_000_000 < result.peak_memory < 200_000_000
    assert 38_000_000 < result.max_rss < 78_000_000


@row("X38")
@pytest.mark.root
def test_bytes_that_reach_the_disk_are_known_or_left_out(step):
    """There are kernels that count no block I/O of version 1: to claim that there was none would be wrong."""
    size = 8 << 20
    line = f"dd if=/dev/zero of=/big bs=1048576 count={size >> 20} conv=fsync 2>/dev/null"
    result = step.run(line)
    assert (result.status, result.measured) == (0, "cgroup")
    known = result.usage()
    assert known.get("write_bytes", size) >= size
    assert ("write_bytes" in known) == ("read_bytes" in known)


@row("X38")
def test_block_io_of_version_1_is_added_up(tmp_path):
    text = "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 8192\n8:0 Async 4096\n8:0 Discard 0\n8:0 Total 12288\n"
    text += "254:16 Read 100\n254:16 Write 1\n254:16 Total 101\nTotal 12389\n"
    (tmp_path / "blkio.throttle.io_service_bytes_recursive").write_text(text)
    (tmp_path / "blkio.throttle.io_service_bytes").write_text("8:0 Read 7\n8:0 Write 7\nTotal 14\n")
    assert Group({"blkio": str(tmp_path)}).usage() == {"read_bytes": 4196, "write_bytes": 8193}


@row("X38")
def test_what_version_2_tells(tmp_path):
    files = {
        "cgroup.controllers": "cpu io memory\n",
        "cpu.stat": "usage_usec 300\nuser_usec 200\nsystem_usec 100\nnr_periods 0\n",
        "memory.peak": "1048576\n",
        "memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n",
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n254:0 rbytes=1 wbytes=2 rios=1 wios=1\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    group = Group(dict.fromkeys((UNIFIED, "cpu", "memory", "io"), str(tmp_path)))
    assert group.usage() == {
        "user_us": 200, "system_us": 100, "peak_memory": 1048576, "oom_kills": 1, "read_bytes": 11, "write_bytes": 22,
    }  # fmt: skip


@row("X38")
def test_an_empty_group_tells_nothing(tmp_path):
    names = ("cpu", "cpuacct", "memory", "io", "blkio", UNIFIED)
    assert Group(dict.fromkeys(names, str(tmp_path / "gone"))).usage() == {}


@row("X38")
@pytest.mark.root
def test_each_step_is_measured_for_itself(step):
    big = step.run("head -c 40000000 /dev/zero | tail > /dev/null")
    small = step.run("true")
    assert small.peak_memory < 30_000_000 < big.peak_memory


# Memory


@row("S30")
@pytest.mark.root
def test_a_command_that_runs_out_of_memory_says_so(step):
    result = step.run("tail", "/dev/zero", resources=Resources(memory=24 << 20))
    assert (result.status, result.oom_kills) == (-signal.SIGKILL, 1)
    text = "killed by SIGKILL: the step ran into its memory limit of 24MiB, and the kernel killed a process of it"
    assert result.describe() == text


@row("S30")
@pytest.mark.root
def test_several_are_counted(step):
    line = "tail /dev/zero; tail /dev/zero; exit 3"
    result = step.run(line, resources=Resources(memory=24 << 20))
    assert (result.status, result.oom_kills) == (3, 2)
    assert result.describe().startswith("exit status 3: the step ran into its memory limit of 24MiB")
    assert "2 processes" in result.describe()


@row("S30")
@pytest.mark.root
def test_a_success_says_nothing_of_it(step):
    result = step.run("tail /dev/zero; true", resources=Resources(memory=24 << 20))
    assert (result.status, result.oom_kills, result.describe()) == (0, 1, "exit status 0")


@row("S30")
@pytest.mark.root
def test_a_failure_of_another_kind_says_nothing_of_it(step):
    result = step.run("exit 4", resources=Resources(memory=24 << 20))
    assert result.describe() == "exit status 4"


# What the kernel was told


LIMITS = [
    (Resources(cpu_quota=50_000), "cpu", "cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"),
    (Resources(cpu_quota=-1, cpu_period=50_000), "cpu", "cpu.cfs_quota_us", "-1", "cpu.max", "max 50000"),
    (
        Resources(cpu_quota=20_000, cpu_period=200_000),
        "cpu", "cpu.cfs_period_us", "200000", "cpu.max", "20000 200000",
    ),
    (Resources(cpu_shares=512), "cpu", "cpu.shares", "512", "cpu.weight", "20"),
    (Resources(cpuset_cpus="0"), "cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"),
    (Resources(cpuset_mems="0"), "cpuset", "cpuset.mems", "0", "cpuset.mems", "0"),
    (MEMORY, "memory", "memory.limit_in_bytes", str(64 << 20), "memory.max", str(64 << 20)),
    (
        Resources(memory=64 << 20, memory_swap=96 << 20),
        "memory", "memory.memsw.limit_in_bytes", str(96 << 20), "memory.swap.max", str(32 << 20),
    ),
    (Resources(pids=33), "pids", "pids.max", "33", "pids.max", "33"),
]  # fmt: skip


@row("S30")
@pytest.mark.root
@pytest.mark.parametrize(
    ("resources", "controller", "v1", "value1", "v2", "value2"),
    LIMITS,
    ids=["quota", "no-quota", "period", "shares", "cpus", "mems", "memory", "swap", "pids"],
)
def test_the_group_has_the_limit(step, resources, controller, v1, value1, v2, value2):
    held = Held(step, resources=resources)
    try:
        wanted = value1 if controller in layout_of() else value2
        assert group_file(held.pid, controller, v1, v2) == wanted
    finally:
        assert held.let_go().status == 1  # its input is at its end


@row("S30")
@pytest.mark.root
def test_all_limits_at_once(step):
    resources = Resources(
        cpu_period=100_000,
        cpu_quota=150_000,
        cpu_shares=300,
        cpuset_cpus="0",
        cpuset_mems="0",
        memory=64 << 20,
        memory_swap=64 << 20,
        pids=40,
    )
    text = step.text("grep Cpus_allowed_list /proc/self/status", resources=resources)
    assert text.split() == ["Cpus_allowed_list:", "0"]


@row("S30")
@pytest.mark.root
def test_a_quota_is_enforced(step):
    held = Held(
        step, line="echo ready; while :; do :; done", resources=Resources(cpu_quota=5000, cpu_period=100_000)
    )

    def throttled():
        lines = group_file(held.pid, "cpu", "cpu.stat", "cpu.stat").splitlines()
        return int(dict(line.split() for line in lines)["nr_throttled"]) > 0

    try:
        assert until(throttled)
    finally:
        assert held.stop().cancelled


@row("S30")
@pytest.mark.root
@pytest.mark.parametrize(
    ("resources", "words"),
    [(Resources(cpuset_cpus="4000"), "cpuset"), (Resources(cpuset_mems="60"), "cpuset")],
)
def test_a_limit_that_this_machine_cannot_set_is_told(step, resources, words):
    name = container_id()
    with pytest.raises(HostError, match=words):
        step.run("true", resources=resources, container_id=name)
    assert groups(f"buildfront-{name}") == []
    assert os.listdir(step.work_dir) == []


# Processes


@row("S30")
@pytest.mark.root
def test_processes_are_limited(step):
    nap = marker()
    line = f"i=0; while [ $i -lt 60 ]; do sleep {nap} & i=$((i+1)); done"
    result = step.run(line, resources=Resources(pids=25))
    assert result.status != 0
    assert b"fork" in step.stderr
    assert processes(nap) == []


@row("S30")
@pytest.mark.root
@pytest.mark.parametrize("host_pids", [False, True])
def test_a_fork_bomb_is_harmless(step, host_pids):
    """It goes on until the step ends: what is forked while the others are killed must go as well."""
    nap, name = marker(), container_id()
    line = "bomb() { bomb | bomb & }; bomb 2>&1; while :; do read -t 1 x; done"
    namespaces = (NamespaceOption("pid", host=True),) if host_pids else ()
    result = step.run(
        "/bin/sh", "-c", line, nap,
        resources=Resources(pids=20), namespaces=namespaces, container_id=name, timeout=2,
    )  # fmt: skip
    assert result.timed_out or result.status != 0
    assert processes(nap) == []
    assert groups(f"buildfront-{name}") == []
    assert step.text("echo fine") == "fine\n"


# Parents


@pytest.fixture
def parent():
    """The name of a group that somebody has made in every hierarchy, for steps to go below."""
    name = f"/tests-{container_id()}"
    points = {point for point, _ in layout_of().values()}
    for point in points:
        os.mkdir(point + name)
    yield name
    for point in points:
        os.rmdir(point + name)


def below(pid, name):
    """The group that ``pid`` is in for memory, which must lie directly below ``name``."""
    layout = layout_of(pid)
    point, path = layout.get("memory") or layout[UNIFIED]
    assert os.path.dirname(path) == point + name, path
    return os.path.basename(path)


@row("S30")
@pytest.mark.root
def test_two_steps_at_once_below_one_parent(step, parent, tmp_path):
    """Each has a group of its own there, with its own limits; the parent stays, and is empty afterwards."""
    other = make_rootfs(str(tmp_path / "other"))
    one = Held(step, resources=Resources(memory=64 << 20, cgroup_parent=parent))
    two = Held(step, rootfs=other, resources=Resources(memory=48 << 20, cgroup_parent=parent))
    try:
        names = below(one.pid, parent), below(two.pid, parent)
        limits = [
            group_file(held.pid, "memory", "memory.limit_in_bytes", "memory.max") for held in (one, two)
        ]
    finally:
        ends = one.let_go(), two.let_go()
    assert names[0] != names[1] and all(name.startswith("buildfront-") for name in names)
    assert limits == [str(64 << 20), str(48 << 20)]
    assert [end.measured for end in ends] == ["cgroup", "cgroup"]
    for point in {point for point, _ in layout_of().values()}:
        assert [entry.name for entry in os.scandir(point + parent) if entry.is_dir()] == []


@row("S30")
@pytest.mark.root
def test_a_parent_that_was_made_for_two_steps_is_gone_with_the_last(step, tmp_path):
    """The first to end neither waits for the other nor takes the group away from under it."""
    name = f"tests-{container_id()}"
    other = make_rootfs(str(tmp_path / "other"))
    one = Held(step, resources=Resources(memory=64 << 20, cgroup_parent="/" + name))
    two = Held(
        step,
        rootfs=other,
        line="echo ready; read x; sleep 0.01; exit 5",
        resources=Resources(memory=48 << 20, cgroup_parent="/" + name),
    )
    try:
        below(two.pid, "/" + name)
        os.close(one.writer)
        one.thread.join(30)
        waited = one.thread.is_alive()
        below(two.pid, "/" + name)
    finally:
        end = two.let_go()
        one.thread.join(60)
    left = groups(name)
    clear(left)
    assert not waited, "the first step waited for the second"
    assert (end.status, end.measured) == (5, "cgroup")
    assert left == []


@row("S30")
@pytest.mark.root
@pytest.mark.parametrize("deep", ["{0}", "/{0}/inner/most"])
def test_a_parent_that_was_not_there_is_gone_afterwards(step, deep):
    name = f"tests-{container_id()}"
    result = step.run("exit 3", resources=Resources(memory=64 << 20, cgroup_parent=deep.format(name)))
    left = groups(name)
    clear(left)
    assert (result.status, result.measured) == (3, "cgroup")
    assert left == []


# What is left


def ends(step, name):
    """One way after the other for a step to end; each leaves a process in the background."""
    nap = marker()
    common = {"container_id": name, "resources": MEMORY}
    cancel = threading.Event()

    def fail(stream, data):
        raise ZeroDivisionError

    yield "success", lambda: step.run(f"sleep {nap} & true", **common)
    yield "failure", lambda: step.run(f"sleep {nap} & exit 3", **common)
    yield "no memory", lambda: step.run(f"sleep {nap} & tail /dev/zero", **common)
    yield "killed", lambda: step.run(f"sleep {nap} & kill -9 -1", **common)
    yield "time limit", lambda: step.run(f"sleep {nap} & sleep {nap}", timeout=0.5, **common)
    yield (
        "cancelled",
        lambda: step.run(
            f"sleep {nap} & echo; sleep {nap}", cancel=cancel, output=lambda *_: cancel.set(), **common
        ),
    )
    yield "not begun", lambda: step.run("/no/such", "x", **common)
    yield "receiver", lambda: step.run(f"sleep {nap} & echo; sleep {nap}", output=fail, **common)


@row("S30")
@pytest.mark.root
@pytest.mark.parametrize(
    "how", ["success", "failure", "no memory", "killed", "time limit", "cancelled", "not begun", "receiver"]
)
def test_no_group_remains(step, how):
    name = container_id()
    try:
        dict(ends(step, name))[how]()
    except (HostError, ZeroDivisionError):
        assert how in ("not begun", "receiver")
    step.executor.close()
    assert groups(f"buildfront-{name}") == []


BUILDER = """
import sys
from run_step import HostFacts, LocalExecutor, NamespaceOption, Resources, RunRequest
isolation, runtime, rootfs, work, name, host, line = sys.argv[1:]
executor = LocalExecutor(HostFacts(), work)
executor.supervisor.start()
print(executor.supervisor._process.pid, flush=True)
request = RunRequest(
    ("/bin/sh", "-c", line), rootfs, isolation=isolation, runtime=runtime, container_id=name,
    resources=Resources(memory=64 << 20), namespaces=(NamespaceOption("pid", host=host == "host"),),
)
executor.execute(executor.plan(request), rootfs)
"""


def builder(step, name, line, host_pids=False):
    """A builder of its own whose step has printed a line, and its supervisor's process ID."""
    command = [sys.executable, "-c", BUILDER, step.isolation, step.runtime, step.rootfs, step.work_dir, name]
    process = subprocess.Popen([*command, "host" if host_pids else "", line], stdout=subprocess.PIPE)
    supervisor = int(process.stdout.readline())
    assert process.stdout.readline() == b"started\n"
    return process, supervisor


@row("S30", "X82")
@pytest.mark.root
def test_a_killed_builder_leaves_no_group(step):
    name, nap = container_id(), marker()
    process, _ = builder(step, name, f"setsid sleep {nap} & echo started; sleep {nap}; true")
    assert groups(f"buildfront-{name}")
    process.kill()
    process.wait()
    process.stdout.close()
    assert until(lambda: not processes(nap))
    assert until(lambda: not groups(f"buildfront-{name}"))
    recover(step.work_dir)


@row("S30", "X82")
@pytest.mark.root
@pytest.mark.parametrize("host_pids", [False, True])
def test_what_nobody_removed_is_removed_by_the_next_build(step, host_pids):
    """Builder and supervisor are killed at once, as by a machine that runs out of memory."""
    name, nap = container_id(), marker()
    line = f"(setsid sleep {nap} &); echo started; sleep {nap}; true"
    process, supervisor = builder(step, name, line, host_pids)
    os.killpg(supervisor, signal.SIGSTOP)  # so that none of them sees another one's end
    process.kill()
    process.wait()
    process.stdout.close()
    os.killpg(supervisor, signal.SIGKILL)
    assert groups(f"buildfront-{name}")
    recover(step.work_dir)
    gone = until(lambda: not processes(nap))
    left = groups(f"buildfront-{name}")
    clear(left)
    assert gone and left == []


# Machines without


WITHOUT = """
import sys
from run_step import HostError, HostFacts, LocalExecutor, Resources, RunRequest
rootfs, work, memory = sys.argv[1:]
request = RunRequest(("/bin/true",), rootfs, isolation="chroot", resources=Resources(memory=int(memory)))
with LocalExecutor(HostFacts(), work).supervisor:
    executor = LocalExecutor(HostFacts(), work)
    try:
        result = executor.execute(executor.plan(request), rootfs)
        print(result.status, result.measured, *result.usage())
    except HostError as error:
        print(error)
    executor.close()
"""
GONE = "umount -R /sys/fs/cgroup"
READ_ONLY = "for point in /sys/fs/cgroup /sys/fs/cgroup/*/; do mount -o remount,bind,ro $point || true; done"


@row("S30", "X38")
@pytest.mark.root
@pytest.mark.parametrize(("prepare", "why"), [(GONE, ""), (READ_ONLY, "Read-only file system")])
def test_a_machine_where_no_group_can_be_made(rootfs, tmp_path, prepare, why):
    (tmp_path / "work").mkdir()

    def run(memory):
        command = [sys.executable, "-c", WITHOUT, rootfs, str(tmp_path / "work"), str(memory)]
        line = f'{prepare}; exec "$@"'
        return subprocess.run(
            ["unshare", "-m", "sh", "-ec", line, "sh", *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    done = run(0)
    assert done.stdout.split() == "0 rusage measured wall_us user_us system_us max_rss".split(), done.stderr
    done = run(64 << 20)
    assert "a memory limit was asked for, and no cgroup can be made for it" in done.stdout, done.stderr
    assert why in done.stdout and "leave the limit out" in done.stdout
    assert os.listdir(tmp_path / "work") == []


@row("S30")
def test_without_a_cgroup_filesystem_a_limit_is_an_error(monkeypatch):
    monkeypatch.setattr(cgroup, "layout_of", lambda pid="self": {})
    group = Group.create("step", {})
    assert (group.directories, group.made, group.usage()) == ({}, [], {})
    for resources, words in (
        ({"memory": {"limit": 1 << 20}}, "a memory limit"),
        ({"cpu": {"quota": 5000}}, "a cpu limit"),
        ({"cpu": {"cpus": "0"}}, "a cpuset limit"),
        ({"pids": {"limit": 5}}, "a pids limit"),
    ):
        with pytest.raises(CgroupError, match=f"{words} was asked for, and no cgroup can be made for it; "):
            Group.create("step", resources)
    # To have no limit is not to have asked for one.
    unlimited = {"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}}
    assert Group.create("step", unlimited).directories == {}


@row("S30")
def test_a_process_that_has_ended_has_no_group_to_read():
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert Group.of(ended.pid).directories == {}


@row("S30")
def test_the_group_that_is_ours_too_is_not_the_steps():
    assert Group.of(os.getpid()).directories == {}


# A tree of version 2


FILES = ("memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "cpuset.cpus", "cpuset.mems", "pids.max")


@pytest.fixture
def unified(tmp_path, monkeypatch):
    """A stand-in for a machine with version 2 alone, with the group ``step`` as the kernel would fill it."""
    top = tmp_path / "cgroup"
    (top / "step").mkdir(parents=True)
    (top / "cgroup.subtree_control").write_text("")
    (top / "step" / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    for name in (*FILES, "cgroup.procs"):
        (top / "step" / name).write_text("")
    monkeypatch.setattr(cgroup, "layout_of", lambda pid="self": {UNIFIED: (str(top), str(top))})
    return top


@row("S30")
def test_version_2_is_told_its_limits(unified):
    resources = {
        "cpu": {"quota": 50_000, "period": 200_000, "shares": 1024, "cpus": "0-1", "mems": "0"},
        "memory": {"limit": 64 << 20, "swap": 96 << 20},
        "pids": {"limit": 7},
    }
    group = Group.create("step", resources)
    assert {name: (unified / "step" / name).read_text() for name in FILES} == {
        "memory.max": str(64 << 20),
        "memory.swap.max": str(32 << 20),
        "cpu.max": "50000 200000",
        "cpu.weight": "39",
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "pids.max": "7",
    }
    step = str(unified / "step")
    assert group.directories == dict.fromkeys((UNIFIED, "cpu", "cpuset", "io", "memory", "pids"), step)
    assert (unified / "cgroup.subtree_control").read_text().startswith("+")
    group.add(77)
    assert (unified / "step" / "cgroup.procs").read_text() == "77"


@row("S30")
def test_version_2_without_limits_is_measured(unified):
    group = Group.create("step", {})
    assert group.directories == dict.fromkeys((UNIFIED, "cpu", "io", "memory"), str(unified / "step"))
    assert not any((unified / "step" / name).read_text() for name in FILES)


@row("S30")
def test_a_controller_that_version_2_does_not_hand_on_is_told(unified):
    (unified / "step" / "cgroup.controllers").write_text("cpu pids\n")
    with pytest.raises(CgroupError, match="a memory limit was asked for"):
        Group.create("step", {"memory": {"limit": 64 << 20}})
    assert Group.create("step", {"pids": {"limit": 7}}).directories["pids"] == str(unified / "step")


@row("S30")
def test_a_file_that_the_kernel_lacks_is_told(unified):
    (unified / "step" / "memory.swap.max").unlink()
    resources = {"memory": {"limit": 64 << 20, "swap": 96 << 20}}
    with pytest.raises(
        CgroupError, match=r"the memory limit memory\.swap\.max=33554432 can't be set: No such file"
    ):
        Group.create("step", resources)
    resources["memory"]["swap"] = -1
    Group.create("step", resources)


# The tables


@row("S30")
def test_what_is_written_for_version_1():
    resources = {
        "cpu": {"quota": 50_000, "period": 100_000, "shares": 2, "cpus": "0", "mems": "0"},
        "memory": {"limit": 64 << 20, "swap": 96 << 20},
        "pids": {"limit": 7},
    }
    rows = settings(resources, 1)
    assert sorted(row[:3] for row in rows) == [
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.shares", "2"),
        ("cpuset", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0"),
        ("memory", "memory.limit_in_bytes", str(64 << 20)),
        ("memory", "memory.memsw.limit_in_bytes", str(96 << 20)),
        ("pids", "pids.max", "7"),
    ]
    assert not any(row[3] for row in rows)
    names = [row[1] for row in rows]
    # The kernel refuses a limit of both that is below the one of memory, and a quota above its period's maximum.
    assert names.index("memory.limit_in_bytes") < names.index("memory.memsw.limit_in_bytes")
    assert names.index("cpu.cfs_period_us") < names.index("cpu.cfs_quota_us")


@row("S30")
@pytest.mark.parametrize(
    ("resources", "version", "rows"),
    [
        ({}, 1, []),
        ({}, 2, []),
        ({"cpu": {"quota": 5000}}, 2, [("cpu", "cpu.max", "5000 100000", False)]),
        ({"cpu": {"period": 5000}}, 2, [("cpu", "cpu.max", "max 5000", False)]),
        ({"cpu": {"quota": -1}}, 2, [("cpu", "cpu.max", "max 100000", False)]),
        ({"cpu": {"quota": -1}}, 1, [("cpu", "cpu.cfs_quota_us", "-1", False)]),
        (
            {"memory": {"limit": 1 << 20, "swap": 1 << 20}},
            2,
            [("memory", "memory.max", "1048576", False), ("memory", "memory.swap.max", "0", False)],
        ),
        (
            {"memory": {"limit": 1 << 20, "swap": -1}},
            2,
            [("memory", "memory.max", "1048576", False), ("memory", "memory.swap.max", "max", True)],
        ),
        (
            {"memory": {"limit": 1 << 20, "swap": -1}},
            1,
            [
                ("memory", "memory.limit_in_bytes", "1048576", False),
                ("memory", "memory.memsw.limit_in_bytes", "-1", True),
            ],
        ),
        ({"memory": {"limit": -1}}, 1, [("memory", "memory.limit_in_bytes", "-1", True)]),
        ({"memory": {"limit": -1}}, 2, [("memory", "memory.max", "max", True)]),
        ({"pids": {"limit": -1}}, 1, [("pids", "pids.max", "max", True)]),
    ],
)
def test_what_is_written_for(resources, version, rows):
    assert settings(resources, version) == rows


@row("S30")
@pytest.mark.parametrize(
    ("shares", "weight"),
    [(0, 1), (1, 1), (2, 1), (28, 1), (29, 2), (1024, 39), (262143, 9999), (262144, 10000), (1 << 40, 10000)],
)
def test_shares_and_weight(shares, weight):
    assert shares_to_weight(shares) == weight


# Where groups are


V1_INFO = """\
22 28 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
30 22 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,size=4096k,nr_inodes=1024,mode=755
31 30 0:27 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:10 - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct
35 30 0:31 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:16 - cgroup cgroup rw,memory
36 30 0:32 / /sys/fs/cgroup/pids rw,nosuid,nodev,noexec,relatime shared:17 - cgroup cgroup rw,pids
"""
V1_OWN = """\
6:pids:/user.slice/user-1000.slice/session-2.scope
5:memory:/user.slice
3:cpu,cpuacct:/
2:hugetlb:/
1:name=systemd:/user.slice/user-1000.slice/session-2.scope
"""
V2_INFO = """\
23 29 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
31 23 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""
HYBRID_INFO = V1_INFO + (
    "40 30 0:38 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:11 - cgroup2 cgroup2 rw\n"
)
DOCKER_V1_INFO = """\
1100 1090 0:80 / / rw,relatime master:400 - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/u,workdir=/w
1110 1105 0:85 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755
1111 1110 0:30 /docker/f00d /sys/fs/cgroup/cpu,cpuacct ro,nosuid,relatime master:15 - cgroup cgroup rw,cpu,cpuacct
1112 1110 0:31 /docker/f00d /sys/fs/cgroup/memory ro,nosuid,relatime master:16 - cgroup cgroup rw,memory
1113 1110 0:32 /docker/f00 /sys/fs/cgroup/pids ro,nosuid,relatime master:17 - cgroup cgroup rw,pids
"""


@row("S30")
def test_layout_of_version_1():
    base = "/sys/fs/cgroup"
    session = "/user.slice/user-1000.slice/session-2.scope"
    assert parse_layout(V1_INFO, V1_OWN) == {
        "name=systemd": (f"{base}/systemd", f"{base}/systemd{session}"),
        "cpu": (f"{base}/cpu,cpuacct", f"{base}/cpu,cpuacct"),
        "cpuacct": (f"{base}/cpu,cpuacct", f"{base}/cpu,cpuacct"),
        "memory": (f"{base}/memory", f"{base}/memory/user.slice"),
        "pids": (f"{base}/pids", f"{base}/pids{session}"),
    }  # hugetlb is mounted nowhere


@row("S30")
def test_layout_of_version_2():
    own = "0::/user.slice/user-1000.slice/session-2.scope\n"
    top = "/sys/fs/cgroup"
    assert parse_layout(V2_INFO, own) == {UNIFIED: (top, top + "/user.slice/user-1000.slice/session-2.scope")}
    assert parse_layout(V2_INFO, "0::/\n") == {UNIFIED: (top, top)}


@row("S30")
def test_layout_of_both():
    layout = parse_layout(HYBRID_INFO, V1_OWN + "0::/user.slice/x\n")
    assert layout[UNIFIED] == ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/user.slice/x")
    assert layout["memory"] == ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/user.slice")


@row("S30")
def test_layout_in_a_container_of_version_1():
    """Its part of each hierarchy is mounted, and the paths of its processes are the host's."""
    own = "4:pids:/docker/f00d\n3:memory:/docker/f00d/inner/most\n2:cpu,cpuacct:/docker/f00d\n"
    base = "/sys/fs/cgroup"
    assert parse_layout(DOCKER_V1_INFO, own) == {
        "cpu": (f"{base}/cpu,cpuacct", f"{base}/cpu,cpuacct"),
        "cpuacct": (f"{base}/cpu,cpuacct", f"{base}/cpu,cpuacct"),
        "memory": (f"{base}/memory", f"{base}/memory/inner/most"),
    }  # of pids another container's part is mounted, whose name this one's begins with


@row("S30")
def test_layout_in_a_cgroup_namespace():
    """Paths and roots are told from the namespace's root on; what lies above it begins with two dots."""
    inside = V2_INFO.replace("0:27 / /sys", "0:27 / /sys")
    assert parse_layout(inside, "0::/\n") == {UNIFIED: ("/sys/fs/cgroup", "/sys/fs/cgroup")}
    assert parse_layout(inside, "0::/../other\n") == {}
    assert parse_layout(inside, "0::/..\n") == {}
    # A mount from before the namespace: its root lies above ours.
    outside = V2_INFO.replace("0:27 / /sys", "0:27 /../.. /sys")
    assert parse_layout(outside, "0::/\n") == {}


@row("S30")
def test_layout_of_names_that_need_escaping():
    info = "31 23 0:27 /a\\040b /mnt/with\\040space\\134and\\011tab rw - cgroup2 cgroup2 rw\n"
    point = "/mnt/with space\\and\ttab"
    assert parse_layout(info, "0::/a b/c d:e\n") == {UNIFIED: (point, point + "/c d:e")}


@row("S30")
def test_layout_takes_the_first_of_two_mounts():
    info = V2_INFO + "90 23 0:27 / /mnt/again rw,relatime - cgroup2 cgroup2 rw\n"
    assert parse_layout(info, "0::/x\n") == {UNIFIED: ("/sys/fs/cgroup", "/sys/fs/cgroup/x")}


@row("S30")
@pytest.mark.parametrize(
    ("info", "own"),
    [
        ("", ""),
        ("\n", "0::/\n"),
        (V2_INFO, ""),
        ("31 23 0:27 / /x rw - cgroup2\n", "0::/\n"),
        ("garbage - cgroup2 a b\n", "0::/\n"),
    ],
)
def test_layout_of_nothing(info, own):
    assert parse_layout(info, own) == {}
