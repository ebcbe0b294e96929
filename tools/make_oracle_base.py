"""Write the base image's root filesystem of the cases in testdata/oracle: a static busybox, its links, and two users.

Usage: make_oracle_base.py BUSYBOX OUT.tar
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile

MTIME = 1767225600
"""Late enough not to count as a time of a case."""
DIRECTORIES = ("etc", "root", "usr", "usr/bin", "home", "home/app", "bin")
PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
GROUP = b"root:x:0:\napp:x:1000:\nextra:x:2000:app\n"


def main(busybox: str, out: str) -> None:
    """Write the archive."""
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with open(busybox, "rb") as stream:
        program = stream.read()
    with tarfile.open(out, "w") as tar:
        _add(tar, "", tarfile.DIRTYPE, 0o755)
        for name in DIRECTORIES:
            _add(tar, name, tarfile.DIRTYPE, 0o755)
        _add(tar, "tmp", tarfile.DIRTYPE, 0o1777)
        _add(tar, "etc/passwd", tarfile.REGTYPE, 0o644, PASSWD)
        _add(tar, "etc/group", tarfile.REGTYPE, 0o644, GROUP)
        _add(tar, "bin/busybox", tarfile.REGTYPE, 0o755, program)
        for name in listed:
            if name != "busybox":
                _add(tar, f"bin/{name}", tarfile.SYMTYPE, 0o777)


def _add(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, content: bytes = b"") -> None:
    entry = tarfile.TarInfo(f"./{name}")
    entry.type, entry.mode, entry.mtime, entry.size = kind, mode, MTIME, len(content)
    entry.uname = entry.gname = "root"
    entry.linkname = "busybox" if kind == tarfile.SYMTYPE else ""
    tar.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main(*sys.argv[1:])
