"""Steps and images that mean harm, under each isolation of this machine."""

import os
import stat
import subprocess
import sys

import pytest
from busybox_root import host_mounts, listing

from run_step import HostError

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/swappiness",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
    ],
)
def test_S32_the_kernels_switches_cannot_be_written(step, path):
    for network in ("host", "none"):
        assert step.text(f"echo 1 > {path} || echo refused", network=network) == "refused\n"


def test_S32_masked_paths_are_empty(step):
    assert step.text("head -c 1 /proc/kcore | wc -c; cat /proc/keys /proc/timer_list") == "0\n"
    assert step.text("ls -A /sys/firmware; ls -A /sys/dev; ls -A /sys/fs/selinux 2>/dev/null; true") == ""


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
def test_S16_privileged_calls_are_refused(step, command):
    before = host_mounts(os.path.dirname(step.rootfs))
    assert step.run(command).status != 0
    assert host_mounts(os.path.dirname(step.rootfs)) == before


def disks():
    return [name for name in os.listdir("/dev") if stat.S_ISBLK(os.stat(f"/dev/{name}").st_mode)]


@pytest.mark.parametrize("place", ["/tmp/disk", "/dev/disk", "/dev/shm/disk", "/v/disk", "/home/disk"])
@pytest.mark.parametrize("device", ["b 7 0", "c 1 1", "disk"])
def test_S31_a_node_of_a_device_of_the_host_is_of_no_use(step, tmp_path, place, device):
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


def test_S31_a_node_that_the_image_brings_is_of_no_use(step):
    os.mknod(step.rootfs + "/memory", stat.S_IFCHR | 0o666, os.makedev(1, 1))
    assert step.text("head -c 1 /memory || echo refused") == "refused\n"


def test_S31_the_usual_devices_still_work(step):
    assert step.text("head -c 2 /dev/urandom | wc -c; mknod /tmp/null c 1 3; ls /tmp") == "2\nnull\n"


def test_S40_killing_everything_harms_nobody_outside(step):
    bystander = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    step.run("kill -9 -1; kill -9 1; true")
    assert bystander.poll() is None
    bystander.stdin.close()
    assert bystander.wait() == 0
    assert step.text("echo still here") == "still here\n"


def test_S40_no_process_of_the_host_is_in_sight(step):
    text = step.text("for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done")
    assert "python" not in text


def test_the_way_up_ends_at_the_root(step):
    assert sorted(step.text("ls", "-a", "/../../..").split()) == sorted(step.text("ls", "-a", "/").split())
    assert step.text("ls", "-d", "/proc/1/root/bin", "/proc/1/cwd/.") != ""
    outside = os.path.dirname(step.rootfs)
    assert step.run("ls", "-d", f"/proc/1/root{outside}").status != 0


@pytest.mark.parametrize("name", ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/run/.containerenv"])
@pytest.mark.parametrize("there", [True, False])
def test_S54_a_file_that_is_a_link_to_a_place_of_the_host(step, tmp_path, name, there):
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


@pytest.mark.parametrize("name", ["/proc", "/dev", "/sys", "/run", "/etc"])
@pytest.mark.parametrize("target", ["/", "/tmp", "../../../../../../tmp", "loop"])
def test_S54_a_mount_point_that_is_a_link(step, tmp_path, name, target):
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


def test_S54_a_volume_on_a_link_stays_inside(step, tmp_path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "victim").mkdir()
    os.symlink(str(tmp_path / "victim"), step.rootfs + "/link")
    step.text("touch /link/sub/file", volumes=(f"{tmp_path}/volume:/link/sub",))
    assert os.listdir(tmp_path / "volume") == ["file"]
    assert os.listdir(tmp_path / "victim") == []


def test_S15_the_hosts_users_are_not_asked(step, tmp_path):
    (tmp_path / "passwd").write_text("evil:x:0:0::/:/bin/sh\n")
    os.unlink(step.rootfs + "/etc/passwd")
    os.symlink(str(tmp_path / "passwd"), step.rootfs + "/etc/passwd")
    from run_step import RequestError

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
