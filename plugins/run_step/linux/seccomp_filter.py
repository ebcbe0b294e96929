"""Compile a seccomp filter from its OCI form to BPF, with libseccomp.

The builder compiles it once; each step installs it (:mod:`run_step.linux.seccomp_install`). Constants: seccomp.h of
libseccomp, linux/seccomp.h, linux/filter.h.

Calls newer than all that a filter names answer ENOSYS, as in runc: C libraries fall back only on that, and a
profile that does not know a call has not decided about it. A call that the filter names and libseccomp does not know
is let through, or refused, by its number.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
from functools import lru_cache
from typing import Any

from .bpf import unknown_calls
from .syscalls import number as known_number

_SCMP_FLTATR_CTL_NNP = 3
_SCMP_FLTATR_CTL_OPTIMIZE = 8
_UNKNOWN = -1  # __NR_SCMP_ERROR
_PLAIN_ACTIONS = {
    "ALLOW": 0x7FFF0000,
    "KILL": 0x00000000,
    "KILL_THREAD": 0x00000000,
    "KILL_PROCESS": 0x80000000,
    "TRAP": 0x00030000,
    "LOG": 0x7FFC0000,
}
_VALUED_ACTIONS = {"ERRNO": 0x00050000, "TRACE": 0x7FF00000}
_OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
_EPERM, _ENOSYS = 1, 38
_DECIDED_BY_OTHERS = ("ALLOW", "LOG", "TRACE", "NOTIFY")
"""Default actions that allow an unknown call, or leave the decision to another process."""

_X86_64_TOKEN, _X32_TOKEN, _X32 = 0xC000003E, 0x4000003E, 0x40000000
_NO_LAST = 0x3FFFFFFF


class _Compare(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


@lru_cache(maxsize=1)
def _library() -> Any:
    for name in ("libseccomp.so.2", ctypes.util.find_library("seccomp") or ""):
        try:
            library = ctypes.CDLL(name) if name else None
        except OSError:
            continue
        if library is not None:
            library.seccomp_init.restype = ctypes.c_void_p
            library.seccomp_init.argtypes = (ctypes.c_uint32,)
            library.seccomp_arch_native.restype = ctypes.c_uint32
            library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
            for call in (
                "seccomp_release",
                "seccomp_rule_add_array",
                "seccomp_export_bpf",
                "seccomp_attr_set",
            ):
                getattr(library, call).restype = ctypes.c_int
            return library
    return None


def available() -> bool:
    """Whether libseccomp can be loaded."""
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return _library() is not None
    return True


def _action(name: str, value: int | None) -> int:
    bare = name.removeprefix("SCMP_ACT_")
    if bare in _PLAIN_ACTIONS:
        return _PLAIN_ACTIONS[bare]
    if bare in _VALUED_ACTIONS:
        return _VALUED_ACTIONS[bare] | ((_EPERM if value is None else value) & 0xFFFF)
    raise OSError(22, f"seccomp action {name} can't be used without an OCI runtime")


def compile_filter(seccomp: dict[str, Any]) -> bytes:
    """Return BPF for an OCI ``linux.seccomp`` object. Raises OSError."""
    return _compile(json.dumps(seccomp, sort_keys=True))


@lru_cache(maxsize=8)
def _compile(text: str) -> bytes:
    seccomp = json.loads(text)
    library = _library()
    if library is None:
        raise OSError(2, "libseccomp is not installed")
    default = _action(seccomp["defaultAction"], seccomp.get("defaultErrnoRet"))
    context = ctypes.c_void_p(library.seccomp_init(default))
    if not context:
        raise OSError(22, f"seccomp_init({seccomp['defaultAction']}) failed")
    try:
        library.seccomp_attr_set(context, _SCMP_FLTATR_CTL_NNP, ctypes.c_uint32(0))
        library.seccomp_attr_set(context, _SCMP_FLTATR_CTL_OPTIMIZE, ctypes.c_uint32(2))
        native = library.seccomp_arch_native()
        tokens = {native: os.uname().machine}
        for name in seccomp.get("architectures", ()):
            short = name.removeprefix("SCMP_ARCH_").lower()
            token = library.seccomp_arch_resolve_name(short.encode())
            if token:
                library.seccomp_arch_add(context, ctypes.c_uint32(token))
                tokens[token] = short
        for rule in seccomp.get("syscalls", ()):
            _add(library, context, rule, default)
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            done = library.seccomp_export_bpf(context, fd)
            if done < 0:
                raise OSError(-done, "seccomp_export_bpf")
            size = os.lseek(fd, 0, os.SEEK_END)
            return _front(library, seccomp, tokens) + os.pread(fd, size, 0)
        finally:
            os.close(fd)
    finally:
        library.seccomp_release(context)


def _front(library: Any, seccomp: dict[str, Any], tokens: dict[int, str]) -> bytes:
    """Return the instructions before libseccomp's filter; see the docstring of the module."""
    default = seccomp["defaultAction"].removeprefix("SCMP_ACT_")
    decided = default not in _DECIDED_BY_OTHERS
    found = {token: _numbers(library, seccomp, token, name) for token, name in tokens.items()}
    out = b""
    for token, (own, last) in found.items():
        if token == _X32_TOKEN or last < 0 or not (own or decided):
            continue
        last_x32 = None
        if token == _X86_64_TOKEN and _X32_TOKEN in found and decided:
            last_x32 = found[_X32_TOKEN][1] & ~_X32
        out += unknown_calls(token, last if decided else _NO_LAST, _action("ERRNO", _ENOSYS), own, last_x32)
    return out


def _numbers(
    library: Any, seccomp: dict[str, Any], token: int, architecture: str
) -> tuple[dict[int, int], int]:
    """Return the actions of named calls that libseccomp does not know, and the largest number of all named calls."""
    own: dict[int, int] = {}
    last = -1
    for rule in seccomp.get("syscalls", ()):
        action = _action(rule["action"], rule.get("errnoRet"))
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(token), name.encode())
            if number == _UNKNOWN:
                found = known_number(name, architecture)
                if found is None:
                    continue
                number = found
                if not rule.get("args"):
                    own[number] = action
                else:  # its comparisons are ignored: the call answers as on a kernel that lacks it
                    own.setdefault(number, _action("ERRNO", _ENOSYS))
            last = max(last, number)  # negative numbers mean that this architecture lacks the call
    return own, last


def _add(library: Any, context: ctypes.c_void_p, rule: dict[str, Any], default: int) -> None:
    action = _action(rule["action"], rule.get("errnoRet"))
    if action == default:
        return  # libseccomp refuses rules that repeat the default
    arguments = rule.get("args", ())
    array = (_Compare * max(1, len(arguments)))()
    for slot, item in zip(array, arguments, strict=False):
        operator = _OPERATORS.get(item["op"].removeprefix("SCMP_CMP_"))
        if operator is None:
            raise OSError(22, f"seccomp operator {item['op']} is unknown")
        slot.arg, slot.op = item["index"], operator
        slot.a, slot.b = item["value"], item.get("valueTwo", 0)
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN:
            continue  # newer than this library: see _front()
        done = library.seccomp_rule_add_array(
            context, ctypes.c_uint32(action), ctypes.c_int(number), ctypes.c_uint(len(arguments)), array
        )
        if done < 0:
            raise OSError(-done, f"seccomp rule for {name}: {os.strerror(-done)}")
