"""Interprets seccomp filters: what one says of a call, on any architecture (seccomp(2), linux/filter.h)."""

import struct


def verdict(program, architecture, number, arguments=()):
    """The value that the filter returns."""
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *words)
    accumulator = 0
    at = 0
    for _ in range(1 << 13):
        code, yes, no, k = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code == 0x06:
            return k
        elif code == 0x05:
            at += k
        elif code in (0x15, 0x25, 0x35, 0x45):
            holds = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: accumulator & k,
            }
            at += yes if holds[code] else no
        elif code == 0x54:
            accumulator &= k
        else:
            raise AssertionError(f"instruction {code:#x}")
    raise AssertionError("no end")
