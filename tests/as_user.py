"""Runs a command as an ordinary user with ID ranges: python as_user.py [FLAG…] HOME COMMAND…

--no-ranges is a user without them, --no-tun one who may not open /dev/net/tun, --masked-proc a machine with parts of
/proc hidden, as in containers, so that no other /proc can be mounted, --no-userns one that allows no user namespace.

In a mount namespace of its own, where /etc/passwd, /etc/subuid and the like know the user, and where the
interpreter and the project can be reached even if they lie in somebody's home directory. The machine is not changed.
"""

import signal

if __name__ == "__main__":
    # Of an interrupt on the way it dies, and says nothing. words() has them wait until Python, whose own handler would
    # show a traceback, is that far.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

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


def main(flags, home, command):
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
        os.chmod("/dev/net/tun", 0o600 if "--no-tun" in flags else 0o666)
    if "--masked-proc" in flags:
        m.mount("/dev/null", "/proc/timer_list", flags=m.MS_BIND)
    for name, text in _files("--no-ranges" not in flags).items():
        if not os.path.exists(f"/etc/{name}"):
            continue
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.chmod(stream.name, 0o644)
            m.mount(stream.name, f"/etc/{name}", flags=m.MS_BIND)
    if "--no-userns" in flags:
        from run_step.linux.seccomp_filter import compile_filter
        from run_step.linux.seccomp_install import install

        rule = {"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
        install(compile_filter({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
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


FLAGS = ("--no-ranges", "--no-tun", "--masked-proc", "--no-userns")


def words(home, *command, ranges=True, tun=True, masked_proc=False, userns=True):
    """The command line that runs ``command`` as the user."""
    given = (not ranges, not tun, masked_proc, not userns)
    flags = [flag for flag, wanted in zip(FLAGS, given, strict=True) if wanted]
    python = ["env", "--block-signal=INT", sys.executable]
    return [*python, os.path.abspath(__file__), *flags, str(home), *map(str, command)]


def run(home, *command, ranges=True, **more):
    """Run it and wait for it."""
    return subprocess.run(
        words(home, *command, ranges=ranges), capture_output=True, text=True, check=False, **more
    )


if __name__ == "__main__":
    arguments = sys.argv[1:]
    given = set()
    while arguments[0] in FLAGS:
        given.add(arguments.pop(0))
    main(given, arguments[0], arguments[1:])
