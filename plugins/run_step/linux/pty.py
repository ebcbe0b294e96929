"""Pseudoterminals (pty(7), ioctl_tty(2)). Constants: asm-generic/ioctls.h."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

_TIOCGPTN = 0x80045430
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441


def unlock(controller: int) -> tuple[str, int]:
    """Unlock the terminal of an open /dev/ptmx; return its path below /dev/pts and a descriptor of it.

    Raises OSError.
    """
    fcntl.ioctl(controller, _TIOCSPTLCK, struct.pack("i", 0))
    number = struct.unpack("I", fcntl.ioctl(controller, _TIOCGPTN, b"\0" * 4))[0]
    return f"/dev/pts/{number}", peer(controller)


def peer(controller: int) -> int:
    """Return a descriptor of the terminal's other side. Raises OSError.

    It is opened by the controller and not by its name, which may belong to another devpts than ours (Linux
    4.13).
    """
    return fcntl.ioctl(controller, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def make_controlling(peer: int) -> None:
    """Make ``peer`` the controlling terminal of the calling process, which must lead a session without one."""
    fcntl.ioctl(peer, termios.TIOCSCTTY, 0)


def size(fd: int) -> tuple[int, int]:
    """Return the columns and rows of a terminal. Raises OSError if ``fd`` is not a terminal."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    return columns, rows


def set_size(fd: int, columns: int, rows: int) -> None:
    """Set the size of a terminal; if it changed, the kernel sends SIGWINCH to the foreground process group."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
