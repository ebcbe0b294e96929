"""The calls prctl(2), capset(2), sethostname(2), keyctl(2), close_range(2).

Constants: linux/prctl.h, linux/capability.h.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

from ._libc import call, syscall

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
_KEYCTL_JOIN_SESSION_KEYRING = 1

CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
    " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT"
    " SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE"
    " AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ"
    " PERFMON BPF CHECKPOINT_RESTORE"
).split()
"""The names of capabilities without ``CAP_``, in the order of their numbers (linux/capability.h)."""


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def effective() -> tuple[str, ...]:
    """Return the names of this process's effective capabilities; none if /proc does not show them."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
            lines = stream.readlines()
    except OSError:
        return ()
    bits = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    return tuple(name for number, name in enumerate(CAPABILITIES) if bits >> number & 1)


def errno_in_child(action: Callable[[], None]) -> int:
    """Run ``action`` in a forked child, because its effect can't be undone; return 0 or the errno of its OSError.

    255 stands for any other exception. The caller must be single-threaded, or ``action`` must take no lock.
    """
    child = os.fork()
    if child == 0:
        status = 255
        try:
            action()
            status = 0
        except OSError as error:
            status = min(error.errno or 255, 255)
        finally:
            os._exit(status)
    return abs(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def prctl(option: int, arg2: int = 0, arg3: int = 0) -> int:
    """Change an attribute of the process; the unused arguments are zero.

    See prctl(2).
    """
    zero = ctypes.c_ulong(0)
    return call("prctl", option, ctypes.c_ulong(arg2), ctypes.c_ulong(arg3), zero, zero)


def capability_number(name: str) -> int:
    """Return the number of ``CAP_NAME`` or ``NAME``. Raises ValueError for a name that is not in linux/capability.h."""
    return CAPABILITIES.index(name.upper().removeprefix("CAP_"))


def drop_bounding(keep: set[int]) -> None:
    """Drop every capability that is not in ``keep`` from the bounding set."""
    for number in range(64):
        try:
            held = prctl(PR_CAPBSET_READ, number)
        except OSError:
            return  # past the kernel's last capability
        if held and number not in keep:
            prctl(PR_CAPBSET_DROP, number)


def capset(effective: set[int], permitted: set[int], inheritable: set[int]) -> None:
    """Set the capabilities of the calling thread.

    See capset(2).
    """
    header = _CapHeader(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    for word in range(2):
        for name, numbers in (
            ("effective", effective),
            ("permitted", permitted),
            ("inheritable", inheritable),
        ):
            bits = sum(1 << (n - 32 * word) for n in numbers if 32 * word <= n < 32 * (word + 1))
            setattr(data[word], name, bits)
    call("capset", ctypes.byref(header), ctypes.byref(data))


def raise_ambient(numbers: set[int]) -> None:
    """Make the ambient set exactly ``numbers``; each must be permitted and inheritable."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for number in sorted(numbers):
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def sethostname(name: str) -> None:
    """Set the host name.

    See sethostname(2).
    """
    raw = name.encode()
    call("sethostname", raw, ctypes.c_size_t(len(raw)))


def setdomainname(name: str) -> None:
    """Set the NIS domain name.

    See setdomainname(2).
    """
    raw = name.encode()
    call("setdomainname", raw, ctypes.c_size_t(len(raw)))


def join_session_keyring() -> None:
    """Join a new anonymous session keyring, so that the step sees none of the builder's keys (keyctl(2))."""
    number = _SYS_KEYCTL.get(os.uname().machine)
    if number is not None:
        syscall(number, "keyctl(JOIN_SESSION_KEYRING)", _KEYCTL_JOIN_SESSION_KEYRING, None)


def loopback_up() -> None:
    """Bring ``lo`` of the current network namespace up (netdevice(7), SIOCSIFFLAGS with IFF_UP)."""
    import fcntl
    import socket
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0x1 | 0x40)
        fcntl.ioctl(sock.fileno(), 0x8914, request)
