"""Real steps under each isolation of this machine: what they see, and what is told of them."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from busybox_root import HOST_HOSTS, host_mounts, listing, make_rootfs, marker, processes
from rows import row
from watching import until
from ways import isolations

from run_step import (
    HostError,
    IDMapping,
    ImageDefaults,
    NamespaceOption,
    Resources,
    RunRequest,
    execute,
    look_up,
    plan,
    run,
)
from run_step.linux.process import CAPABILITIES
from run_step.pipeline.capabilities import DEFAULT

pytestmark = pytest.mark.root


def status_of(step, **fields):
    text = step.text("cat", "/proc/self/status", **fields)
    return {line.split(":")[0]: line.split(":", 1)[1].split() for line in text.splitlines()}


def mask(names):
    return sum(1 << CAPABILITIES.index(name) for name in names)


# Outcome


@row("S73")
@pytest.mark.parametrize("status", [0, 1, 2, 126, 127, 255])
def test_the_exit_status_is_passed_through(step, status):
    result = step.run(f"exit {status}")
    assert result.status == result.exit_status == status
    assert result.describe() == f"exit status {status}"
    assert not (result.cancelled or result.timed_out)


@row("S73")
def test_a_death_by_signal_is_told_by_name(step):
    """With the host's PID namespace the command is no init, which a signal of its own could not kill."""
    result = step.run("kill -TERM $$", namespaces=(NamespaceOption("pid", host=True),))
    assert (result.status, result.exit_status) == (-signal.SIGTERM, 143)
    assert result.describe() == "killed by SIGTERM"


@row("S73")
@pytest.mark.slow
def test_a_death_of_the_init_by_a_signal_is_told(step):
    result = step.run("while :; do :; done", ulimits=("cpu=1",))
    assert result.describe() == "killed by SIGKILL"
    assert result.exit_status == 137


@row("X38")
def test_resource_use_is_told(step):
    result = step.run("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    assert result.wall_us > 0 and result.max_rss > 0
    assert result.user_us + result.system_us > 0


@row("S71")
@pytest.mark.parametrize("command", ["nosuch-command", "/no/such/command", "./nosuch", "/etc/passwd", "/etc"])
def test_a_command_that_cannot_be_run_is_told(step, command):
    with pytest.raises(HostError) as caught:
        step.run(command, "argument")
    assert command.rsplit("/", 1)[-1] in str(caught.value)


@row("S14")
def test_a_plain_name_is_not_looked_for_in_the_working_directory(step):
    with open(step.rootfs + "/tool", "w", encoding="ascii") as stream:
        stream.write("#!/bin/sh\n")
    os.chmod(step.rootfs + "/tool", 0o755)
    with pytest.raises(HostError, match="tool"):
        step.run("tool", "x", cwd="/")
    assert step.run("./tool", "x", cwd="/").status == 0


def test_an_unknown_runtime_is_told(rootfs, host):
    made = replace(plan(RunRequest(("/bin/true",), rootfs), host), runtime="no-such-runtime")
    with pytest.raises(HostError, match="'no-such-runtime' was not found"):
        execute(made, rootfs)


def test_run_plans_and_executes(step):
    seen = []
    request = step.request("/bin/echo", "hello")
    assert run(request, output=lambda *item: seen.append(item)).status == 0
    assert seen == [("stdout", b"hello\n")]


# Streams


@row("S74")
def test_both_streams_are_complete(step):
    step.run("printf out; printf err >&2; printf ' more'; printf ' more' >&2")
    assert (step.stdout, step.stderr) == (b"out more", b"err more")


@row("S74")
def test_stdin_is_at_its_end(step):
    assert step.text("cat; echo done") == "done\n"


@row("S74")
@pytest.mark.slow
def test_much_output_is_complete(step):
    size = 50 << 20
    total = {"stdout": 0, "stderr": 0}

    def count(stream, data):
        total[stream] += len(data)

    line = f"head -c {size} /dev/zero; head -c {size} /dev/zero >&2"
    assert step.run(line, output=count).status == 0
    assert total == {"stdout": size, "stderr": size}


@row("S74")
def test_a_background_process_cannot_hang_the_build(step):
    nap = marker()
    result = step.run(f"sleep {nap} & echo started")
    assert (result.status, step.stdout) == (0, b"started\n")
    assert processes(nap) == []


@row("S74")
def test_neither_with_the_hosts_processes(step):
    nap = marker()
    step.run(
        f"(setsid sleep {nap} &) ; setsid yes >/dev/null & echo",
        namespaces=(NamespaceOption("pid", host=True),),
    )
    assert processes(nap) == []


@row("S74")
def test_a_receiver_that_fails_ends_the_step_first(step):
    """When the error arrives, nothing of the step runs any more."""
    nap = marker()

    def fail(stream, data):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        step.run(f"echo; sleep {nap}", output=fail)
    assert processes(nap) == []
    assert os.listdir(step.work_dir) == []


# Identity


@row("S15")
def test_user_and_groups(step):
    assert step.text("id", "-u", user="bob") == "1000\n"
    seen = status_of(step, user="bob")
    assert seen["Uid"] == seen["Gid"] == ["1000"] * 4
    assert seen["Groups"] == ["29", "50", "1000"]
    assert step.text("echo $HOME", user="bob") == "/home/bob\n"
    other = status_of(step, user="bob:7")
    assert other["Gid"] == ["7"] * 4 and other["Groups"] == ["7"]
    assert status_of(step)["Groups"] == ["0"]


@row("S16")
def test_capabilities_of_root(step):
    seen = status_of(step)
    have = {name: int(seen[name][0], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")}
    assert have == {
        "CapEff": mask(DEFAULT), "CapPrm": mask(DEFAULT), "CapBnd": mask(DEFAULT), "CapInh": 0, "CapAmb": 0,
    }  # fmt: skip


@row("S16")
def test_added_and_dropped(step):
    seen = status_of(step, cap_add=("sys_ptrace",), cap_drop=("CHOWN",))
    assert int(seen["CapEff"][0], 16) == mask({*DEFAULT, "SYS_PTRACE"} - {"CHOWN"})
    assert int(status_of(step, cap_drop=("all",))["CapBnd"][0], 16) == 0


@row("S17")
def test_a_user_has_the_bounding_set_alone(step):
    seen = status_of(step, user="bob")
    assert int(seen["CapBnd"][0], 16) == mask(DEFAULT)
    assert not any(int(seen[name][0], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"))


@row("X21")
def test_no_new_privileges(step):
    assert status_of(step)["NoNewPrivs"] == ["0"]
    assert status_of(step, no_new_privileges=True)["NoNewPrivs"] == ["1"]


def test_signals_are_as_a_new_process_has_them(step):
    """The builder's interpreter ignores SIGPIPE, and a shell would pass that on to all that it starts."""
    seen = status_of(step)
    # Signals 32 and 33 are the C library's own: nobody can set them back whose parent ignored them.
    theirs = 0b11 << 31
    assert int(seen["SigIgn"][0], 16) & ~theirs == int(seen["SigBlk"][0], 16) & ~theirs == 0


def test_umask_is_not_the_builders(step):
    old = os.umask(0o077)
    try:
        assert step.text("umask") == "0022\n"
    finally:
        os.umask(old)


@row("S19")
@pytest.mark.parametrize(("text", "flag", "wanted"), [("nofile=77:88", "n", "77"), ("core=0", "c", "0")])
def test_limits_hold(step, text, flag, wanted):
    assert step.text(f"ulimit -{flag}", ulimits=(text,)) == f"{wanted}\n"


@row("S19")
def test_a_limit_that_the_interpreter_does_not_know(step):
    text = step.text("cat", "/proc/self/limits", ulimits=("locks=5:6",))
    assert [line.split()[3:5] for line in text.splitlines() if line.startswith("Max file locks")] == [
        ["5", "6"]
    ]


# Surroundings


@row("S10")
def test_the_environment_is_exactly_the_plans(step, monkeypatch):
    monkeypatch.setenv("BUILDER_SECRET", "leaked")
    fields = {"env": ("A=1", "B=x=y", "EMPTY="), "hostname": "box"}
    want = plan(step.request("/bin/env", **fields), step.executor.host(runtimes=False)).spec["process"]["env"]
    assert sorted(step.text("/bin/env", "-u", "NOT_SET", **fields).splitlines()) == sorted(want)
    assert "HOSTNAME=box" in want


@row("S10")
def test_a_token_of_the_plan_in_a_command_is_text(step):
    assert step.text("/bin/echo", "@rootfs@/x", "@bundle@") == "@rootfs@/x @bundle@\n"
    assert step.text("echo $A", env=("A=@bundle@",)) == "@bundle@\n"


@row("S13")
def test_cwd_is_made_and_owned(step):
    assert (
        step.text("pwd; stat -c '%u %g %a' .; touch mine", cwd="/new/deep", user="bob")
        == "/new/deep\n1000 1000 755\n"
    )
    status = os.stat(step.rootfs + "/new/deep")
    assert (status.st_uid, status.st_mode & 0o777) == (1000, 0o755)
    assert os.stat(step.rootfs + "/new/deep/mine").st_uid == 1000


@row("S13")
def test_cwd_never_escapes(step, tmp_path):
    os.symlink(str(tmp_path), step.rootfs + "/absolute")
    os.symlink("../../../../..", step.rootfs + "/relative")
    step.text("pwd", cwd="/absolute/made")
    step.text("pwd", cwd="/relative/tmp/made")
    assert not (tmp_path / "made").exists()
    assert os.path.isdir(f"{step.rootfs}{tmp_path}/made")
    assert os.path.isdir(step.rootfs + "/tmp/made")


@row("S13")
def test_a_file_in_the_way_is_told(step):
    for path in ("/etc/passwd", "/etc/passwd/x"):
        with pytest.raises((HostError, OSError), match="passwd"):
            step.run("true", cwd=path)


@row("S45")
def test_the_hostname_is_set_in_its_own_namespace(step):
    ours = os.uname().nodename
    assert step.text("hostname; cat /etc/hostname; echo $HOSTNAME", hostname="box") == "box\n" * 3
    assert os.uname().nodename == ours
    assert step.text("hostname", namespaces=(NamespaceOption("uts", host=True),)) == f"{ours}\n"


@row("S50")
def test_the_hosts_file_of_a_step(step):
    text = step.text("cat", "/etc/hosts", hostname="box", add_hosts=("db:10.1.2.3",))
    assert HOST_HOSTS in text
    assert text.endswith("10.1.2.3\tdb\n127.0.0.1 box\n::1 box\n")
    assert step.text("stat", "-c", "%u %g %a", "/etc/hosts") == "0 0 644\n"


@row("S51")
def test_the_resolv_conf_of_a_step(step):
    text = step.text(
        "cat", "/etc/resolv.conf", dns=("1.1.1.1",), dns_search=("s.example",), dns_options=("rotate",)
    )
    assert text == "search s.example\nnameserver 1.1.1.1\noptions rotate\n"


@row("S51")
def test_none_shows_the_images_file(step):
    with open(step.rootfs + "/etc/resolv.conf", "w", encoding="ascii") as stream:
        stream.write("nameserver 7.7.7.7\n")
    assert step.text("cat", "/etc/resolv.conf", dns=("none",)) == "nameserver 7.7.7.7\n"
    assert "7.7.7.7" not in step.text("cat", "/etc/resolv.conf", dns=("1.1.1.1",))


@row("S53")
def test_containerenv_is_an_empty_file(step):
    assert step.text("stat", "-c", "%s %F", "/run/.containerenv") == "0 regular empty file\n"


@row("S30", "X38")
def test_a_memory_limit_holds(step):
    """busybox's tail keeps what has no line end in memory."""
    result = step.run("tail /dev/zero; echo after; exit 3", resources=Resources(memory=32 << 20))
    assert (result.status, step.stdout, result.oom_kills) == (3, b"after\n", 1)
    assert "memory limit of 32MiB" in result.describe()
    assert 30 << 20 < result.peak_memory <= 32 << 20


@row("S31")
def test_the_default_devices_are_there(step):
    names = step.text("ls /dev").split()
    assert {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "fd",
        "stdin",
        "stdout",
        "stderr",
        "ptmx",
        "pts",
        "shm",
    } <= set(names)
    assert not [name for name in names if name.startswith(("sd", "vd", "nvme", "loop", "mem", "kmsg"))]
    assert step.text("echo x > /dev/null; head -c 3 /dev/zero | wc -c; echo y > /dev/stdout").split() == [
        "3",
        "y",
    ]
    assert step.text("echo x > /dev/full || echo full 2>/dev/null", user="bob") == "full\n"


@row("S40")
def test_processes_are_its_own(step):
    assert step.text("echo $$") == "1\n"
    assert step.text("ls", "-d", "/proc/1", f"/proc/{'self'}") == "/proc/1\n/proc/self\n"
    inside = step.text("ls /proc | grep -c '^[0-9]'")
    assert int(inside) < 6


@row("S41")
def test_the_network_none_has_the_loopback_alone(step):
    text = step.text("cat /proc/net/dev; ping -c 1 -w 2 127.0.0.1 >/dev/null && echo up", network="none")
    assert [line.split(":")[0].strip() for line in text.splitlines() if ":" in line] == ["lo"]
    assert "up" in text


@row("S41")
def test_the_hosts_network_is_the_builders(step):
    with open("/proc/net/dev", encoding="ascii") as stream:
        ours = [line.split(":")[0] for line in stream if ":" in line]
    text = step.text("cat", "/proc/net/dev", network="host")
    assert [line.split(":")[0] for line in text.splitlines() if ":" in line] == ours


@pytest.fixture
def netns():
    """A network namespace of its own, held by a process; its path and its inode."""
    code = "import ctypes,sys\nctypes.CDLL(None).unshare(0x40000000)\nprint(flush=True)\nsys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    path = f"/proc/{process.pid}/ns/net"
    yield path, os.readlink(path)
    process.stdin.close()
    process.wait()
    process.stdout.close()


@row("S41")
def test_an_existing_network_is_joined(step, netns):
    path, inode = netns
    assert step.text("readlink", "/proc/self/ns/net", network=f"ns:{path}") == f"{inode}\n"


@row("S61")
def test_shm_has_the_size_asked_for(step):
    assert "size=1024k" in step.text("grep /dev/shm /proc/mounts", shm_size="1m")


@row("S62")
@pytest.mark.parametrize("network", ["host", "none"])
def test_sys_cannot_be_written(step, network):
    """Neither the top nor the cgroups below it: a step that leaves its cgroup is rid of its limits."""
    line = "(find /sys -maxdepth 3 -type f; find /sys/fs/cgroup -maxdepth 3 -name cgroup.procs)"
    line += " | while read -r file; do (: >> $file) 2>/dev/null && echo $file; done; true"
    assert step.text(line, network=network) == ""
    assert step.text("ls", "/sys/class/net", network=network).split()


@row("S63")
def test_an_image_volume_is_a_copy(step):
    os.makedirs(step.rootfs + "/srv/sub")
    os.chown(step.rootfs + "/srv", 1000, 50)
    os.chmod(step.rootfs + "/srv", 0o1770)
    with open(step.rootfs + "/srv/sub/file", "w", encoding="ascii") as stream:
        stream.write("kept")
    os.chmod(step.rootfs + "/srv/sub/file", 0o4711)
    os.symlink("sub/file", step.rootfs + "/srv/link")
    os.mkfifo(step.rootfs + "/srv/fifo")
    before = listing(step.rootfs)
    line = "stat -c '%u %g %a' /srv /srv/sub/file; cat /srv/link; [ -p /srv/fifo ] && echo"
    line += "; touch /srv/new; rm /srv/link"
    request = replace(step.request("/bin/sh", "-c", line), image=ImageDefaults(volumes=("/srv", "/made")))
    old = os.umask(0o077)
    out = []
    try:
        made = step.executor.plan(request)
        result = step.executor.execute(made, step.rootfs, output=lambda _, data: out.append(data))
    finally:
        os.umask(old)
    assert (result.status, b"".join(out)) == (0, b"1000 50 1770\n0 0 4711\nkept\n")
    assert listing(step.rootfs) == before


@row("S63")
def test_a_missing_image_volume_is_made_for_all(step):
    request = replace(step.request("/bin/stat", "-c", "%a", "/made"), image=ImageDefaults(volumes=("/made",)))
    old, out = os.umask(0o077), []
    try:
        step.executor.execute(
            step.executor.plan(request), step.rootfs, output=lambda _, data: out.append(data)
        )
    finally:
        os.umask(old)
    assert out == [b"755\n"]
    assert not os.path.exists(step.rootfs + "/made")


@row("S64")
def test_volumes_are_bound_as_their_options_say(step, tmp_path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "file").write_text("host")
    volumes = (f"{tmp_path}/volume:/rw", f"{tmp_path}/volume:/deep/ro:ro", f"{tmp_path}/volume/file:/one:ro")
    line = "cat /deep/ro/file /one; echo step > /rw/new; touch /deep/ro/x || echo refused"
    line += "; echo x > /one || echo refused"
    assert step.text(line, volumes=volumes) == "hosthostrefused\nrefused\n"
    assert (tmp_path / "volume" / "new").read_text() == "step\n"
    assert not {"rw", "deep", "one"} & set(os.listdir(step.rootfs))


@row("S64", "S65")
def test_an_overlay_volume_is_thrown_away(step, tmp_path):
    volume = tmp_path / "with:colon, comma"
    volume.mkdir()
    (volume / "file").write_text("host\n")
    plain = tmp_path / "plain"
    plain.symlink_to(volume.name)  # a volume can't be spelt with a colon; what it leads to may have one
    line = "cat /v/file; echo step > /v/file; rm -f /v/none; mkdir /v/new; cat /v/file; exit 3"
    for _ in range(2):
        result = step.run(line, volumes=(f"{plain}:/v:O",))
        assert (result.status, step.stdout) == (3, b"host\nstep\n")
    assert os.listdir(volume) == ["file"]
    assert (volume / "file").read_text() == "host\n"
    assert os.listdir(step.work_dir) == []
    assert "v" not in os.listdir(step.rootfs)


@row("S64")
def test_an_overlay_keeps_what_it_collects_where_asked(step, tmp_path):
    for name in ("low,er", "upper", "scratch"):
        (tmp_path / name).mkdir()
    volume = f"{tmp_path}/low,er:/v:O,upperdir={tmp_path}/upper,workdir={tmp_path}/scratch"
    step.text("echo kept > /v/file", volumes=(volume,))
    assert step.text("cat /v/file", volumes=(volume,)) == "kept\n"
    assert os.listdir(tmp_path / "upper") == ["file"]
    assert os.listdir(tmp_path / "low,er") == []


@row("S64")
def test_a_volume_is_given_to_the_user(step, tmp_path):
    outside = tmp_path / "outside"
    outside.touch()
    volume = tmp_path / "volume"
    (volume / "deep").mkdir(parents=True)
    (volume / "deep" / "file").touch()
    (volume / "link").symlink_to(outside)
    line = "stat -c '%u:%g' /v /v/deep /v/deep/file /v/link; echo mine > /v/deep/file"
    assert step.text(line, volumes=(f"{volume}:/v:U",), user="7:8") == "7:8\n" * 4
    assert outside.stat().st_uid == 0


@row("S64")
def test_a_volume_is_relabelled(step, tmp_path, host):
    """The kernel keeps a label that nobody enforces as well, so that it can be read back anywhere."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file").touch()
    (volume / "link").symlink_to("/etc/passwd")
    request = step.request("/bin/true", volumes=(f"{volume}:/v:Z",), labels=("level:s0:c3,c4",))
    made = plan(request, look_up(request, replace(host, selinux=True)))
    for key in ("selinuxLabel", "mountLabel"):
        made.spec["process"].pop(key, None)
        made.spec["linux"].pop(key, None)
    assert step.executor.execute(made, step.rootfs).status == 0
    for path in (volume, volume / "file", volume / "link"):
        label = os.getxattr(path, "security.selinux", follow_symlinks=False)
        assert label == b"system_u:object_r:container_file_t:s0:c3,c4\0"


@row("S64")
def test_a_tmpfs_volume(step):
    mount = "type=tmpfs,target=/fast,tmpfs-size=1m,tmpfs-mode=1700"
    line = "stat -c %a /fast; head -c 2000000 /dev/zero > /fast/x || echo full; mount | grep ' /fast '"
    seen = step.text(line, mounts=(mount,)).splitlines()
    assert seen[:2] == ["1700", "full"]
    assert "nosuid" in seen[2] and "nodev" in seen[2]
    assert "fast" not in os.listdir(step.rootfs)


@row("S64")
def test_a_read_only_volume_is_so_all_the_way_down(step, tmp_path):
    """A bind of a tree with another mount in it: remounting the top alone would leave that writable."""
    inner = tmp_path / "volume" / "inner"
    inner.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(inner)], check=True)
    try:
        line = "touch /v/x || echo refused; touch /v/inner/x || echo refused"
        text = step.text(line, volumes=(f"{tmp_path}/volume:/v:ro",))
        assert text == "refused\nrefused\n"
    finally:
        subprocess.run(["umount", str(inner)], check=True)


def test_only_three_descriptors_are_open(step):
    extra = [os.open("/", os.O_RDONLY) for _ in range(5)]
    for fd in extra:
        os.set_inheritable(fd, True)
    try:
        seen = step.text("ls", "-l", "/proc/self/fd").splitlines()
    finally:
        for fd in extra:
            os.close(fd)
    names = [int(line.split(" -> ")[0].split()[-1]) for line in seen if not line.startswith("total")]
    assert sorted(names) == [0, 1, 2, 3], seen  # 3 is the listing's own


# What remains


@row("S54")
def test_nothing_of_a_step_remains(step):
    mounted = host_mounts(os.path.dirname(step.rootfs))
    before = listing(step.rootfs)
    assert step.run("true").status == 0
    assert listing(step.rootfs) == before
    assert host_mounts(os.path.dirname(step.rootfs)) == mounted
    assert os.listdir(step.work_dir) == []


@row("S54")
@pytest.mark.parametrize("line", ["exit 3", "kill -9 -1", "nosuch"])
def test_nor_of_one_that_fails(step, line):
    before = listing(step.rootfs)
    step.run(line)
    assert listing(step.rootfs) == before
    assert os.listdir(step.work_dir) == []


@row("S54")
def test_nor_of_one_that_never_began(step):
    before, mounted = listing(step.rootfs), host_mounts(os.path.dirname(step.rootfs))
    with pytest.raises(HostError):
        step.run("/no/such", "x")
    assert listing(step.rootfs) == before
    assert host_mounts(os.path.dirname(step.rootfs)) == mounted
    assert os.listdir(step.work_dir) == []


@row("S54")
def test_what_the_step_wrote_stays(step):
    step.text("echo mine > /tmp/file; mkdir -p /run/lock; echo x > /run/lock/y")
    assert open(step.rootfs + "/tmp/file", encoding="ascii").read() == "mine\n"
    assert sorted(os.listdir(step.rootfs + "/run")) == ["lock"]


@row("S70")
def test_nothing_is_left_in_the_temporary_directory(step, tmp_path, monkeypatch):
    import tempfile

    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    assert run(step.request("/bin/true"), output=lambda *_: None).status == 0
    assert os.listdir(place) == []


# Stopping


@row("X82")
def test_a_timeout_kills(step):
    nap = marker()
    result = step.run(f"sleep {nap} & sleep {nap}", timeout=0.5)
    assert result.timed_out
    assert "time limit" in result.describe()
    assert processes(nap) == []


@row("X82")
def test_cancelling_kills(step):
    nap, cancel = marker(), threading.Event()

    def when_started(stream, data):
        cancel.set()

    result = step.run(f"sleep {nap} & echo started; sleep {nap}", cancel=cancel, output=when_started)
    assert result.cancelled and not result.timed_out
    assert processes(nap) == []
    assert os.listdir(step.work_dir) == []


@row("X82")
def test_cancelling_before_the_start(step):
    cancel = threading.Event()
    cancel.set()
    nap = marker()
    assert step.run(f"sleep {nap}", cancel=cancel).cancelled
    assert processes(nap) == []


@row("X82")
def test_cancelling_what_has_ended_changes_nothing(step):
    cancel = threading.Event()
    result = step.run("exit 4", cancel=cancel)
    cancel.set()
    assert (result.status, result.cancelled) == (4, False)


def test_several_steps_at_once(step, tmp_path):
    """One supervisor serves all of them."""
    results = {}

    def one(number):
        rootfs = make_rootfs(str(tmp_path / f"rootfs-{number}"))
        request = replace(step.request("/bin/sh", "-c", f"echo {number}; exit {number}"), rootfs=rootfs)
        out = []
        result = step.executor.execute(
            step.executor.plan(request), rootfs, output=lambda _, data: out.append(data)
        )
        results[number] = (result.status, b"".join(out))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: (number, b"%d\n" % number) for number in range(6)}


@row("S72")
def test_the_caller_has_no_foreign_children(step):
    before = children()
    step.run("true; sleep 0.01 &")
    assert children() - before == {step.executor.supervisor._process.pid}
    step.executor.close()
    assert children() <= before


def children():
    """The processes that this one would have to wait for."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as stream:
                if int(stream.read().rpartition(b")")[2].split()[1]) == os.getpid():
                    found.add(int(name))
        except OSError:
            pass  # it has just ended
    return found


BUILDER = """
import sys
from run_step import RunRequest, LocalExecutor, HostFacts
from run_step.host import RuntimeFact
isolation, runtime, rootfs, work, nap = sys.argv[1:]
executor = LocalExecutor(HostFacts(), work)
line = f"sleep {nap} & echo started; sleep {nap}; true"
request = RunRequest(("/bin/sh", "-c", line), rootfs, isolation=isolation, runtime=runtime)
executor.execute(executor.plan(request), rootfs)
"""


@row("X82")
def test_a_killed_builder_leaves_nothing(step):
    nap, mounted = marker(), host_mounts(os.path.dirname(step.rootfs))
    command = [sys.executable, "-c", BUILDER, step.isolation, step.runtime, step.rootfs, step.work_dir, nap]
    builder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert builder.stdout.readline() == b"started\n"
    assert processes(nap)
    builder.kill()
    builder.wait()
    builder.stdout.close()
    assert until(lambda: not processes(nap)), "the step outlived its builder"
    assert host_mounts(os.path.dirname(step.rootfs)) == mounted
    from run_step import recover

    recover(step.work_dir)
    assert not [
        name for _, names, _ in os.walk(step.work_dir) for name in names if name.startswith("buildfront-")
    ]


@row("X82")
def test_a_killed_supervisor_is_told_and_leaves_nothing(step):
    nap, killed = marker(), []

    def kill(stream, data):
        if not killed:
            killed.append(step.executor.supervisor._process.pid)
            os.kill(killed[0], signal.SIGKILL)

    result = step.run(f"echo started; sleep {nap}", output=kill, timeout=2)
    assert result.timed_out  # its own child goes on to serve the step
    assert processes(nap) == []


@row("S33")
@pytest.mark.parametrize(
    ("field", "value"), [("apparmorProfile", "no-such-profile"), ("selinuxLabel", "a:b:c:d")]
)
def test_a_label_that_the_kernel_refuses_is_told(step, field, value):
    """No step runs without the label that was asked for."""
    made = step.plan("/bin/echo", "ran")
    made.spec["process"][field] = value
    out = []
    with pytest.raises(HostError) as caught:
        step.executor.execute(made, step.rootfs, output=lambda _, data: out.append(data))
    assert "ran" not in b"".join(out).decode()
    if step.isolation == "chroot":
        assert value in str(caught.value)


# User namespaces


@pytest.fixture
def open_step(request, open_path, host):
    """A step whose root filesystem can be reached by IDs that are not root's."""
    from ways import Step

    work = open_path / "work"
    work.mkdir()
    os.chmod(work, 0o711)
    made = Step(make_rootfs(str(open_path / "rootfs")), request.param, str(work), host)
    yield made
    made.executor.close()


MAPS = {"uid_map": (IDMapping(0, 200_000, 65_536),), "gid_map": (IDMapping(0, 300_000, 65_536),)}


@row("S43", "S80")
@pytest.mark.parametrize("open_step", isolations(), indirect=True)
def test_an_identity_of_its_own(open_step):
    """Root of the step is nobody on the host; what it makes belongs to it, and so do its namespaces."""
    step = open_step
    line = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; touch /tmp/made; ls -ln /dev | grep -c ' 65534 '"
    text = step.text(line + "; hostname; stat -c '%u:%g' /dev /dev/shm /dev/pts", hostname="box", **MAPS)
    rows = [line.split() for line in text.splitlines()]
    assert rows[:4] == [["0"], ["0"], ["0", "200000", "65536"], ["0", "300000", "65536"]]
    assert rows[5] == ["box"]
    assert rows[6:] == [["0:0"]] * 3
    status = os.stat(step.rootfs + "/tmp/made")
    assert (status.st_uid, status.st_gid) == (200_000, 300_000)
    assert step.text("echo x > /dev/stdout; id -u", user="bob", network="none", **MAPS) == "x\n1000\n"
    assert step.text("cat /etc/hostname", hostname="box", network="private", **MAPS) == "box\n"


@row("S43")
@pytest.mark.parametrize("open_step", isolations(), indirect=True)
@pytest.mark.parametrize("network", ["host", "none"])
def test_the_hosts_files_are_out_of_reach(open_step, tmp_path, network):
    step = open_step
    secret = step.rootfs + "/secret"
    with open(secret, "w", encoding="ascii") as stream:
        stream.write("the host root's own\n")
    os.chmod(secret, 0o600)
    line = "cat /secret; rm -f /etc/passwd; echo x >> /etc/passwd; chown 0 /secret; mount -t tmpfs x /tmp; echo end"
    assert step.text(line, network=network, cap_add=("all",), seccomp="unconfined", **MAPS).endswith("end\n")
    assert step.stdout == b"end\n"
    assert os.path.exists(step.rootfs + "/etc/passwd")


@row("S43")
@pytest.mark.parametrize("open_step", isolations(), indirect=True)
def test_a_user_that_is_not_mapped_is_told(open_step):
    small = {"uid_map": (IDMapping(0, 200_000, 10),), "gid_map": (IDMapping(0, 300_000, 10),)}
    with pytest.raises(HostError, match="uid 1000 does not exist in its user namespace"):
        open_step.run("id", user="bob", **small)
