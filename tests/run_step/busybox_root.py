"""Makes a small root filesystem, and looks at what a step left behind."""

import os
import shutil
import threading

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
bob:x:1000:1000:Bob:/home/bob:/bin/sh
nohome:x:1001:1001:::/bin/sh
"""
GROUP = """\
root:x:0:
bob:x:1000:
staff:x:50:bob,other
audio:x:29:other,bob
nohome:x:1001:
"""
HOST_HOSTS = "127.0.0.1\tlocalhost\n192.0.2.1\tregistry.example\n"
HOST_RESOLV = "# made by hand\nsearch corp.example lab.example\nnameserver 192.0.2.53\noptions ndots:2\n"


def busybox():
    """The path of a static busybox, or None."""
    path = shutil.which("busybox")
    if path is None:
        return None
    with open(path, "rb") as stream:
        return None if b"/lib64/ld-linux" in stream.read(4096) else path


APPLETS = """
    [ [[ ascii awk base64 bc bzip2 cat chmod chown chroot clear cp cut date dd df echo env expand false find grep
    groups gzip head hostname id insmod ip kill last less link ln ls md5sum mkdir mkfifo mknod more mount mv nc nproc
    nsenter nslookup passwd paste patch ping ping6 pivot_root printf pwd readlink reboot reset rm rmdir route sed seq
    setsid sh sleep sort stat stty swapoff swapon sysctl tail tar tee test time timeout top touch tr true tty umount
    unshare uptime usleep vi w wc which who whoami xargs yes
""".split()
"""What the tests run. All that a busybox has would be three times as many links to make for each test."""


def why_not_run():
    """What keeps this machine from running a step; empty when nothing does."""
    if os.geteuid() != 0:
        return "needs root"
    return "" if busybox() else "needs a static busybox"


def make_rootfs(path):
    """A root filesystem of busybox and a few files in ``path``."""
    os.makedirs(os.path.join(path, "bin"))
    for name in ("etc", "home", "tmp", "usr/bin", "root"):
        os.makedirs(os.path.join(path, name))
    os.makedirs(os.path.join(path, "home/bob"))
    os.chmod(os.path.join(path, "tmp"), 0o1777)
    source, target = busybox(), os.path.join(path, "bin/busybox")
    if source:
        shutil.copy(source, target)
    else:  # enough for a plan
        open(target, "wb").close()
    os.chmod(target, 0o755)
    for name in APPLETS:
        os.symlink("busybox", os.path.join(path, "bin", name))
    for name, text in (("passwd", PASSWD), ("group", GROUP)):
        with open(os.path.join(path, "etc", name), "w", encoding="utf-8") as stream:
            stream.write(text)
    if os.geteuid() == 0:
        os.chown(os.path.join(path, "home/bob"), 1000, 1000)
    return path


def listing(path):
    """Everything below ``path``, with type, mode, owner, size, time and content of links."""
    out = {}
    for top, directories, files in os.walk(path):
        for name in [*directories, *files, "."]:
            full = os.path.join(top, name)
            status = os.lstat(full)
            link = os.readlink(full) if os.path.islink(full) else ""
            size = 0 if os.path.isdir(full) else status.st_size
            row = (status.st_mode, status.st_uid, status.st_gid, size, status.st_mtime_ns, link)
            out[os.path.relpath(full, path)] = row
    return out


def host_mounts(top):
    """The mounts that this process sees below ``top`` or of something there, and those in the system's own directories.

    Others may come and go by the work of other tests and programs at the same time.
    """
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        lines = stream.readlines()
    system = ("/proc", "/sys", "/dev", "/etc", "/run/.containerenv", "/run/secrets")
    points = ((line.split()[4], f"{top}/" in line or f"{top} " in line) for line in lines)
    return sorted(
        point for point, ours in points if ours or point in ("/", "/tmp", "/run") or point.startswith(system)
    )


def marker():
    """A time to sleep for that no other process has as an argument."""
    return f"9{os.getpid()}{threading.get_native_id()}.{len(os.urandom(1))}{int.from_bytes(os.urandom(4), 'big')}"


def processes(marker):
    """IDs of the processes, ours aside, whose command line has ``marker`` as one of its arguments."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as stream:
                if marker.encode() in stream.read().split(b"\0"):
                    found.append(int(name))
        except OSError:
            pass
    return found
