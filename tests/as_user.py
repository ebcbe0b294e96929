"""Runs a command as an ordinary user with ID ranges: python as_user.py [--no-ranges] HOME COMMAND…

In a mount namespace of its own, where /etc/passwd, /etc/subuid and the like know the user, and where the
interpreter and the project can be reached even if they lie in somebody's home directory. The machine is not changed.
"""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # of an interrupt on the way it dies, and says nothing

import os
import subprocess
import sys
import tempfile

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(PROJECT, "plugins"))

UID, RANGE = 4321, (700_000, 65_536)
NAME = "builder"


def _files(ranges):
    with open("/etc/passwd", encoding="utf-8") as passwd, open("/etc/group", encoding="utf-8") as group:
        texts = {
            "passwd": passwd.read() + f"{NAME}:x:{UID}:{UID}::/nonexistent:/bin/sh\n",
            "group": group.read() + f"{NAME}:x:{UID}:\n",
        }
    line = f"{NAME}:{RANGE[0]}:{RANGE[1]}\n" if ranges else ""
    return texts | {"subuid": line, "subgid": line}


def _closed(path):
    """The topmost directory above ``path`` that others can't pass through."""
    parts = os.path.abspath(path).split("/")
    for count in range(2, len(parts) + 1):
        here = "/".join(parts[:count])
        if os.path.isdir(here) and not os.stat(here).st_mode & 0o001:
            return here
    return None


def main(ranges, home, command):
    from run_step.linux import mount as m

    m.unshare(m.CLONE_NEWNS)
    m.mount("", "/", flags=m.MS_SLAVE | m.MS_REC)
    needed = {sys.base_prefix, sys.prefix, PROJECT, os.path.dirname(os.path.realpath(sys.executable))}
    needed = {path for path in needed if _closed(path)}
    needed = {path for path in needed if not any(path.startswith(other + "/") for other in needed)}
    held = {path: os.open(path, os.O_PATH) for path in needed}
    for place in {_closed(path) for path in needed}:
        m.mount("tmpfs", place, "tmpfs", 0, "mode=755")
    for path, fd in held.items():
        os.makedirs(path)
        m.mount(f"/proc/self/fd/{fd}", path, flags=m.MS_BIND | m.MS_REC)
        os.close(fd)
    if os.path.exists("/dev/net/tun"):  # open to all on most machines, and needed for networks in user space
        m.mount("tmpfs", "/dev/net", "tmpfs", 0, "mode=755")
        os.mknod("/dev/net/tun", 0o20666, os.makedev(10, 200))
        os.chmod("/dev/net/tun", 0o666)
    for name, text in _files(ranges).items():
        if not os.path.exists(f"/etc/{name}"):
            continue
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.chmod(stream.name, 0o644)
            m.mount(stream.name, f"/etc/{name}", flags=m.MS_BIND)
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
    os.environ |= {"HOME": home, "USER": NAME, "LOGNAME": NAME}
    for name in ("XDG_DATA_HOME", "XDG_RUNTIME_DIR", "BUILDFRONT_ROOT", "TMPDIR"):
        os.environ.pop(name, None)
    os.chdir(home)
    os.execvp(command[0], command)


def make_home(path):
    """A directory that belongs to the user, and can be reached."""
    os.makedirs(path, mode=0o755, exist_ok=True)
    os.chown(path, UID, UID)
    return path


def give(path):
    """Give a tree to the user as a rootless build would have it: root's is the user's, others' are of the ranges."""

    def mapped(number):
        return UID if number == 0 else RANGE[0] + number - 1

    for top, directories, files in os.walk(path):
        for name in [".", *directories, *files]:
            full = os.path.join(top, name)
            status = os.lstat(full)
            if name == "." or not os.path.isdir(full) or os.path.islink(full):
                os.chown(full, mapped(status.st_uid), mapped(status.st_gid), follow_symlinks=False)
                if not os.path.islink(full):
                    os.chmod(full, status.st_mode & 0o7777)


def words(home, *command, ranges=True):
    """The command line that runs ``command`` as the user."""
    flags = [] if ranges else ["--no-ranges"]
    return [sys.executable, os.path.abspath(__file__), *flags, str(home), *map(str, command)]


def run(home, *command, ranges=True, **more):
    """Run it and wait for it."""
    return subprocess.run(
        words(home, *command, ranges=ranges), capture_output=True, text=True, check=False, **more
    )


if __name__ == "__main__":
    arguments = sys.argv[1:]
    with_ranges = arguments[0] != "--no-ranges"
    arguments = arguments if with_ranges else arguments[1:]
    main(with_ranges, arguments[0], arguments[1:])
