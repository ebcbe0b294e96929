"""Steps and images that mean harm, under each isolation of this machine."""

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace

import pytest
from busybox_root import host_mounts, listing, marker, processes, why_not_run
from rows import row
from ways import Step, isolations

from run_step import HostError, NamespaceOption, RequestError, Resources

pytestmark = pytest.mark.root


@pytest.fixture
def tmp_path(open_path):
    return open_path


@pytest.fixture
def step(confined_step):
    return confined_step


@row("S32")
@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/swappiness",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
    ],
)
def test_the_kernels_switches_cannot_be_written(step, path):
    for network in ("host", "none"):
        assert step.text(f"echo 1 > {path} || echo refused", network=network) == "refused\n"


@row("S32")
def test_masked_paths_are_empty(step):
    assert step.text("head -c 1 /proc/kcore | wc -c; cat /proc/keys /proc/timer_list") == "0\n"
    assert step.text("ls -A /sys/firmware; ls -A /sys/dev; ls -A /sys/fs/selinux 2>/dev/null; true") == ""


@row("S32")
def test_what_tells_of_others_load_is_masked(step):
    """Files and directories, at whatever depth; one that this machine lacks is nothing to hide."""
    others = "/sys/devices/virtual/powercap /proc/asound /sys/devices/system/cpu/cpu*/thermal_throttle"
    line = f"cat /proc/interrupts; for p in {others}; do [ ! -e $p ] || ls -A $p; done; echo end"
    for network in ("host", "none"):
        assert step.text(line, network=network) == "end\n"
    deep = "/sys/devices/system/cpu/cpu0"  # as deep as what not every machine has
    assert step.text(f"ls -A {deep}; echo end", mask=(deep, "/sys/not/there", "/proc/not-there")) == "end\n"
    assert step.text("cat /proc/interrupts", unmask=("/proc/inter*",)) != ""


@row("S16")
@pytest.mark.parametrize(
    "command",
    [
        "mount -t tmpfs tmpfs /tmp",
        "mount -o bind /etc /tmp",
        "mount -o remount,rw /sys",
        "mount -o remount,rw,bind /proc/sys",
        "umount /proc/sys",
        "umount -l /proc",
        "pivot_root / /tmp",
        "hostname evil",
        "swapoff -a",
        "insmod /bin/busybox",
        "chroot /proc/1/root/../../.. true && false",
    ],
)
def test_privileged_calls_are_refused(step, command):
    before = host_mounts(os.path.dirname(step.rootfs))
    assert step.run(command).status != 0
    assert host_mounts(os.path.dirname(step.rootfs)) == before


def disks():
    return [name for name in os.listdir("/dev") if stat.S_ISBLK(os.stat(f"/dev/{name}").st_mode)]


@row("S31")
@pytest.mark.parametrize("place", ["/tmp/disk", "/dev/disk", "/dev/shm/disk", "/v/disk", "/home/disk"])
@pytest.mark.parametrize("device", ["b 7 0", "c 1 1", "disk"])
def test_a_node_of_a_device_of_the_host_is_of_no_use(step, tmp_path, place, device):
    """A step may make nodes, as Dockerfiles do. What it must not do is read the host's disks and memory."""
    if device == "disk":
        names = [name for name in disks() if name.startswith(("vd", "sd", "nvme", "xvd"))]
        if not names:
            pytest.skip("this machine has no disk to try")
        number = os.stat(f"/dev/{names[0]}").st_rdev
        device = f"b {os.major(number)} {os.minor(number)}"
    (tmp_path / "v").mkdir()
    line = f"mknod {place} {device} || true; head -c 1 {place} && echo; echo end"
    assert step.text(line, volumes=(f"{tmp_path}/v:/v",)) == "end\n"


@row("S31")
def test_a_node_that_the_image_brings_is_of_no_use(step):
    os.mknod(step.rootfs + "/memory", stat.S_IFCHR | 0o666, os.makedev(1, 1))
    assert step.text("head -c 1 /memory || echo refused") == "refused\n"


@row("S31")
def test_the_usual_devices_still_work(step):
    line = "head -c 2 /dev/urandom | wc -c; echo x > /dev/null; (mknod /tmp/node c 1 3 && [ -e /tmp/node ]) || id -u"
    assert step.text(line) == ("2\n" if isinstance(step, Step) else "2\n0\n")  # no nodes in a user namespace


@row("S40")
def test_killing_everything_harms_nobody_outside(step):
    bystander = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    step.run("kill -9 -1; kill -9 1; true")
    assert bystander.poll() is None
    bystander.stdin.close()
    assert bystander.wait() == 0
    assert step.text("echo still here") == "still here\n"


@row("S40")
def test_no_process_of_the_host_is_in_sight(step):
    text = step.text("for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done")
    assert "python" not in text


def test_the_way_up_ends_at_the_root(step):
    assert sorted(step.text("ls", "-a", "/../../..").split()) == sorted(step.text("ls", "-a", "/").split())
    assert step.text("ls", "-d", "/proc/1/root/bin", "/proc/1/cwd/.") != ""
    outside = os.path.dirname(step.rootfs)
    assert step.run("ls", "-d", f"/proc/1/root{outside}").status != 0


@row("S54")
@pytest.mark.parametrize("name", ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/run/.containerenv"])
@pytest.mark.parametrize("there", [True, False])
def test_a_file_that_is_a_link_to_a_place_of_the_host(step, tmp_path, name, there):
    """The link is the image's, so it is resolved inside the image; the host's file is none of its business."""
    target = tmp_path / "target"
    if there:
        target.write_text("the host's own\n")
    os.makedirs(os.path.dirname(step.rootfs + name), exist_ok=True)
    os.symlink(str(target), step.rootfs + name)
    before = listing(step.rootfs)
    text = step.text(f"cat {name}; echo changed > {name}; true", hostname="box")
    assert "the host's own" not in text
    assert target.exists() is there
    assert not there or target.read_text() == "the host's own\n"
    assert listing(step.rootfs) == before


@row("S54")
@pytest.mark.parametrize("name", ["/proc", "/dev", "/sys", "/run", "/etc"])
@pytest.mark.parametrize("target", ["/", "/tmp", "../../../../../../tmp", "loop"])
def test_a_mount_point_that_is_a_link(step, tmp_path, name, target):
    """Whatever the outcome, nothing is mounted, made or changed outside of the root filesystem."""
    mounted = host_mounts(os.path.dirname(step.rootfs))
    aside = tmp_path / "aside"
    aside.mkdir()
    outside = {path: row for path, row in listing(str(aside)).items()}
    tmp_before = os.stat("/tmp").st_ino
    if os.path.isdir(step.rootfs + name):
        os.rename(step.rootfs + name, step.rootfs + "/moved")
    os.symlink(name.strip("/") if target == "loop" else target, step.rootfs + name)
    before = listing(step.rootfs)
    try:
        step.run("true")
    except (HostError, OSError) as error:
        assert str(error)
    assert host_mounts(os.path.dirname(step.rootfs)) == mounted
    assert listing(str(aside)) == outside
    assert os.stat("/tmp").st_ino == tmp_before
    assert listing(step.rootfs) == before


@row("S54")
def test_a_volume_on_a_link_stays_inside(step, tmp_path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume").chmod(0o777)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim").chmod(0o777)
    os.symlink(str(tmp_path / "victim"), step.rootfs + "/link")
    step.text("touch /link/sub/file", volumes=(f"{tmp_path}/volume:/link/sub",))
    assert os.listdir(tmp_path / "volume") == ["file"]
    assert os.listdir(tmp_path / "victim") == []


@row("S15")
def test_the_hosts_users_are_not_asked(step, tmp_path):
    (tmp_path / "passwd").write_text("evil:x:0:0::/:/bin/sh\n")
    os.unlink(step.rootfs + "/etc/passwd")
    os.symlink(str(tmp_path / "passwd"), step.rootfs + "/etc/passwd")
    with pytest.raises(RequestError, match="'evil'"):
        step.run("true", user="evil")


def test_output_that_is_no_text_is_passed_on(step):
    step.run("printf '\\377\\000\\033[2J'")
    assert step.stdout == b"\xff\x00\x1b[2J"


def test_a_step_that_removes_its_own_root_is_survived(step):
    step.run("rm -rf / 2>/dev/null; true")
    assert os.path.isdir(step.rootfs)
    assert os.listdir(step.work_dir) == []


def test_a_step_that_swaps_a_directory_for_a_link_is_survived(step, tmp_path):
    """What is undone afterwards must not be undone through the step's link."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / ".containerenv").touch()
    step.run(f"mv /run /elsewhere; ln -s {victim} /run; true")
    assert (victim / ".containerenv").exists()


PTRACE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
int main(int argc, char **argv) {
    int pid = atoi(argv[1]);
    char byte;
    struct iovec mine = {&byte, 1}, theirs = {(void *)0x400000, 1};
    errno = 0;
    if (ptrace(PTRACE_ATTACH, pid, 0, 0) == 0) puts("attached");
    if (process_vm_readv(pid, &mine, 1, &theirs, 1, 0) == 1) puts("read");
    puts("end");
    return 0;
}
"""


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    """A static program that tries to trace a process and to read its memory."""
    place = tmp_path_factory.mktemp("tracer")
    (place / "tracer.c").write_text(PTRACE)
    subprocess.run(["gcc", "-static", "-o", place / "tracer", place / "tracer.c"], check=True)
    return place / "tracer"


def install(step, program, name):
    shutil.copy(program, f"{step.rootfs}/bin/{name}")
    os.chmod(f"{step.rootfs}/bin/{name}", 0o755)


@row("S16")
def test_the_builder_cannot_be_traced(step, tracer):
    """Not even by a step that shares the host's processes, where an isolation gives it that."""
    install(step, tracer, "tracer")
    builder = os.getpid() if isinstance(step, Step) else step.process.pid
    proc = f"/proc/{builder}"
    line = f"tracer {builder}; cat {proc}/environ {proc}/mem; ls {proc}/root/ {proc}/cwd/; true"
    assert step.text(line) == "end\n"
    if step.isolation != "rootless":
        assert step.text(line, namespaces=(NamespaceOption("pid", host=True),)) == "end\n"


BOMB = "b() { b | b & b; }; b 2>/dev/null; echo over"


@row("S19")
def test_a_fork_bomb_ends_at_its_limit(step):
    """What is left of it dies with the step."""
    nap = marker()
    line = f"sleep {nap} & " * 30 + "echo bombed; exit 3"
    result = step.run(line, user="bob", ulimits=("nproc=12",))
    assert result.status != 0
    step.run(BOMB, user="bob", ulimits=("nproc=12",), timeout=5)
    assert processes(nap) == []


@row("S30")
def test_a_fork_bomb_ends_at_its_cgroups_limit(step):
    if not isinstance(step, Step):
        assert step.isolation in (
            "rootless",
            "chroot",
        )  # an ordinary user has no cgroups: nproc is the limit then
        return
    nap = marker()
    step.run(f"sleep {nap} & " * 30 + BOMB, resources=Resources(pids=16), timeout=5)
    assert processes(nap) == []


@row("S61")
def test_filling_shared_memory_ends_at_its_size(step):
    before = os.statvfs("/dev/shm").f_bfree if os.path.isdir("/dev/shm") else 0
    line = "head -c 200000000 /dev/zero > /dev/shm/x 2>/dev/null || echo full; stat -c %s /dev/shm/x"
    full, size = step.text(line).split()
    assert (full, int(size)) == ("full", 64 << 20)
    full, size = step.text(line, shm_size="1m").split()
    assert (full, int(size)) == ("full", 1 << 20)
    assert (
        not before or os.statvfs("/dev/shm").f_bfree >= before - (16 << 20) // os.statvfs("/dev/shm").f_frsize
    )


@row("X82")
def test_daemons_do_not_outlive_the_step(step):
    nap = marker()
    line = f"(setsid sleep {nap} &) ; (trap '' TERM HUP INT; setsid setsid sleep {nap} >/dev/null 2>&1 &) ; "
    result = step.run(line + "echo started; exit 5")
    assert (result.status, step.stdout) == (5, b"started\n")
    assert processes(nap) == []


# What holds with chroot alone, too


@row("X82")
def test_daemons_do_not_outlive_a_step_in_a_container(every_step):
    nap = marker()
    line = f"(setsid sleep {nap} >/dev/null 2>&1 &) ; (setsid setsid yes >/dev/null &) ; echo started"
    assert every_step.text(line) == "started\n"
    assert processes(nap) == []


@row("S54")
@pytest.mark.parametrize("name", ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/run/.containerenv"])
def test_a_step_that_leaves_a_link_to_the_host_for_the_next(every_step, tmp_path, name):
    """The first step has none of the files bound, so that it can put links in their places."""
    target = tmp_path / "target"
    target.write_text("the host's own\n")
    target.chmod(0o666)
    link = f"mkdir -p /etc /run; rm -f {name}; ln -s {target} {name}"
    fields = {"dns": ("none",), "no_hosts": True, "no_hostname": True}
    every_step.run(f"{link}; true", **fields)
    if name == "/run/.containerenv":
        os.makedirs(every_step.rootfs + "/run", exist_ok=True)
        if not os.path.lexists(every_step.rootfs + name):
            os.symlink(str(target), every_step.rootfs + name)
    assert os.path.islink(every_step.rootfs + name)
    before = listing(every_step.rootfs)
    text = every_step.text(f"cat {name}; echo changed > {name}; true")
    assert "the host's own" not in text
    assert target.read_text() == "the host's own\n"
    assert listing(every_step.rootfs) == before


@row("S15")
@pytest.mark.parametrize("name", ["passwd", "group"])
def test_a_step_that_links_passwd_to_the_hosts_for_the_next(every_step, tmp_path, name):
    (tmp_path / name).write_text("evil:x:0:0:evil:/:/bin/sh\n")
    (tmp_path / name).chmod(0o644)
    every_step.text(f"ln -sf {tmp_path}/{name} /etc/{name}")
    with pytest.raises(RequestError, match="'evil'"):
        every_step.run("true", user="evil" if name == "passwd" else "0:evil")
    assert (tmp_path / name).read_text().startswith("evil")


@row("S13")
def test_a_step_that_links_the_next_ones_directory_to_the_host(every_step, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    victim.chmod(0o777)
    every_step.text(f"ln -s {victim} /work; ln -s ../../../../../..{victim} /up")
    assert every_step.text("pwd; touch made", cwd="/work/deep") == f"{victim}/deep\n"
    every_step.text("touch made", cwd="/up/deep")
    assert list(victim.iterdir()) == []
    assert os.path.exists(f"{every_step.rootfs}{victim}/deep/made")


@row("S64")
def test_a_step_that_links_the_next_ones_volume_to_the_host(step, tmp_path):
    for name in ("victim", "other", "volume"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    step.text(f"ln -s {tmp_path}/victim /data; ln -s ../../../../../..{tmp_path}/other /up")
    volumes = tuple(f"{tmp_path}/volume:{path}" for path in ("/data", "/up/in"))
    step.text("touch /data/one /up/in/two", volumes=volumes)
    assert sorted(os.listdir(tmp_path / "volume")) == ["one", "two"]
    assert list((tmp_path / "victim").iterdir()) == []


def test_only_the_standard_streams_are_open(every_step):
    line = "for n in 3 4 5 6 7 8 9; do ((: <&$n) || (: >&$n)) 2>/dev/null && echo $n; done; echo end"
    assert every_step.text(line) == "end\n"


@row("S10")
def test_nothing_of_the_builders_environment_is_in_the_step(every_step):
    names = sorted(line.split("=")[0] for line in every_step.text("/bin/env", "-u", "X").splitlines())
    assert set(names) <= {"HOME", "HOSTNAME", "PATH"}
    assert "PYTHONPATH" not in names


@row("S16")
def test_privileges_are_what_the_plan_says(every_step):
    """Also where the kernel's own file can't be read: a group's permission, another user's file."""
    assert every_step.run("chown 7:7 /etc/group", cap_drop=("CHOWN",)).status != 0
    assert (
        every_step.text("id -u; touch /etc/no 2>/dev/null || echo refused", user="bob") == "1000\nrefused\n"
    )


def test_the_way_up_ends_at_the_root_without_mounts_too(every_step):
    top = every_step.text("ls", "-a", "/").split()
    assert sorted(every_step.text("ls", "-a", "/../../..").split()) == sorted(top)


@row("S67")
def test_the_hosts_own_devices_stay_as_they_are(rootfs, tmp_path, host):
    """Rootless steps of the machine's root have its IDs, and runtimes bind its device nodes."""
    if why_not_run() or "oci-runc" not in isolations():
        pytest.skip(why_not_run() or "runc does not work here")
    before = os.stat("/dev/full")
    steps = [
        Step(rootfs, "rootless", str(tmp_path), replace(host, has_slirp4netns=False)),
        Step(rootfs, "oci-runc", str(tmp_path), host),
    ]
    line = "touch -t 200001010000 /dev/full; chmod 600 /dev/full; chown 1:1 /dev/full; echo x > /dev/null && echo used"
    for step, fields in zip(
        steps, ({}, {"namespaces": (NamespaceOption("user"),), "network": "host"}), strict=True
    ):
        assert step.run(line, **fields).status == 0, step.stderr
        assert step.stdout == b"used\n"
        step.executor.close()
        now = os.stat("/dev/full")
        assert (now.st_mode, now.st_uid, now.st_gid, now.st_mtime_ns) == (
            before.st_mode,
            before.st_uid,
            before.st_gid,
            before.st_mtime_ns,
        )
