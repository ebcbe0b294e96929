"""Golden step keys: a real build records every key with its parts, and they stay byte for byte.

A key that changes makes every cached step of every user run again. ``make golden`` rewrites the file; a changed key is
explained in the commit, and ``VERSION`` of the key is raised where old results must not be used.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import tarfile
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent.parent.parent / "testdata" / "keys" / "build.json"

_TRUE = {
    "x86_64": ("linux/amd64", 62, "b83c00000031ff0f05"),  # mov eax, 60; xor edi, edi; syscall
    "aarch64": ("linux/arm64", 183, "a80b8052000080d2010000d4"),  # mov w8, 93; mov x0, 0; svc 0
}
"""For each machine: its platform, its number in ELF headers, and a program that ends with status 0."""

_DOCKERFILE = """\
ARG GREETING=hello
FROM scratch AS shell
COPY --chmod=755 true /bin/sh
WORKDIR /made/here

FROM shell AS tools
ENV TOOL=1 PATH=/bin
RUN build the tools

FROM shell
ARG GREETING
ARG UNUSED=1
ENV A=1 B="two words"
LABEL a=b
COPY a.txt tree /copied/
COPY --chown=1000:1000 --chmod=0640 a.txt /owned
COPY --from=tools /bin/sh /bin/tool
COPY --from=more /extra /extra
ADD archive.tar /unpacked/
USER 1000:1000
WORKDIR /home/user
RUN one $GREETING
USER 0
RUN ["/bin/sh", "two"]
VOLUME /data
SHELL ["/bin/sh", "-e", "-c"]
RUN --network=none three
RUN --mount=type=bind,source=tree,target=/src four
RUN --mount=type=bind,from=tools,source=/bin,target=/tools,rw --mount=type=tmpfs,target=/scratch,size=1m five
RUN --mount=type=cache,target=/cache,id=c,sharing=locked,mode=0700,uid=5 --mount=type=secret,id=s,target=/s six
CMD ["x"]
"""

_OPTIONS = {
    "default": [],
    "options": [
        *(
            "--ulimit",
            "nofile=64",
            "--add-host",
            "a:1.2.3.4",
            "--cap-add",
            "SYS_ADMIN",
            "--cap-drop",
            "CHOWN",
        ),
        *("--shm-size", "1m", "--build-arg", "GREETING=bye", "--security-opt", "no-new-privileges"),
        *("--mount", "type=tmpfs,target=/t", "--dns", "1.1.1.1", "--group-add", "7", "--compat-volumes"),
    ],
}


def _context(path: Path, program: bytes) -> None:
    """Write the build context, equal on every machine of one architecture."""
    for name, data, mode in (
        ("a.txt", b"a\n", 0o644),
        ("tree/b.txt", b"b\n", 0o600),
        ("tree/deep/c", b"", 0o755),
        ("true", program, 0o644),
        ("more/extra/d", b"d\n", 0o644),
        ("Dockerfile", _DOCKERFILE.encode(), 0o644),
    ):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(mode)
    (path / "tree" / "link").symlink_to("b.txt")
    for directory in (path, *(item for item in path.rglob("*") if item.is_dir())):
        directory.chmod(0o755)
    with tarfile.open(path / "archive.tar", "w") as tar:
        member = tarfile.TarInfo("in-archive")
        member.mtime = 1_700_000_000
        tar.addfile(member)


def _program(machine: int, code: bytes) -> bytes:
    """Return an ELF executable of one segment that runs ``code``."""
    base = 0x400000
    size = 64 + 56 + len(code)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += b"".join(
        value.to_bytes(width, "little")
        for value, width in (
            *((2, 2), (machine, 2), (1, 4), (base + 120, 8), (64, 8), (0, 8), (0, 4)),
            *((64, 2), (56, 2), (1, 2), (0, 2), (0, 2), (0, 2)),
        )
    )
    segment = b"".join(
        value.to_bytes(width, "little")
        for value, width in ((1, 4), (5, 4), (0, 8), (base, 8), (base, 8), (size, 8), (size, 8), (0x1000, 8))
    )
    return header + segment + code


def _keys(store: Path) -> dict[str, dict[str, object]]:
    with sqlite3.connect(store / "catalogue.sqlite") as database:
        rows = database.execute("SELECT slot, key, components FROM steps ORDER BY slot, key").fetchall()
    return {f"{slot} {key}": json.loads(parts) for slot, key, parts in rows}


@pytest.mark.skipif(platform.machine() not in _TRUE, reason="no program for this machine")
def test_keys_are_those_of_the_golden_file(box, tmp_path) -> None:
    name, machine, code = _TRUE[platform.machine()]
    context = tmp_path / "context"
    _context(context, _program(machine, bytes.fromhex(code)))
    (tmp_path / "secret").write_text("s")
    made = {}
    for number, (case, options) in enumerate(_OPTIONS.items()):
        store = tmp_path / f"store-{number}"
        args = ("--build-context", f"more={context / 'more'}", "--secret", f"id=s,src={tmp_path / 'secret'}")
        box("--root", store, "build", "--platform", name, "--isolation", "chroot", *args, *options, context)
        made[case] = _keys(store)
        assert len(made[case]) >= 16
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("BUILDFRONT_GOLDEN_KEYS") == "write":
        golden[platform.machine()] = made
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    assert platform.machine() in golden, "write it with BUILDFRONT_GOLDEN_KEYS=write"
    assert made == golden[platform.machine()]
