"""Why a command could not be executed: the same words under every isolation, and by value."""

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import row

from run_step import HostError
from run_step.programs import printed, said

pytestmark = pytest.mark.root


@pytest.fixture
def tmp_path(open_path):
    return open_path


def elf(machine, loader=b"", order="<"):
    """A program that nobody can run: a header, one row, and the name of its loader (elf(5))."""
    head = b"\x7fELF" + bytes([2, 1 if order == "<" else 2, 1, 0]) + bytes(8)
    head += struct.pack(order + "HHIQQQIHHHHHH", 2, machine, 1, 0x400078, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    kind, size = (3, len(loader) + 1) if loader else (1, 8)
    head += struct.pack(order + "IIQQQQQQ", kind, 4, 120, 0x400078, 0x400078, size, size, 1)
    return head + loader + bytes(64)


NATIVE = {"x86_64": 62, "aarch64": 183}.get(os.uname().machine, 62)
FOREIGN = 183 if NATIVE == 62 else 62

FILES = {
    "foreign": (
        elf(FOREIGN),
        0o755,
        "is a program for {theirs}, and this machine is {ours}: build for linux/{ours}",
    ),
    "foreign-big-endian": (elf(22, order=">"), 0o755, "is a program for s390x, and this machine is {ours}"),
    "foreign-unheard-of": (
        elf(4711),
        0o755,
        "is a program for the machine 4711 of ELF, and this machine is {ours}",
    ),
    "no-loader": (
        elf(NATIVE, b"/lib/none.so.2"),
        0o755,
        "needs the loader '/lib/none.so.2', which is not in the image",
    ),
    "cut-off": (elf(NATIVE)[:50], 0o755, "is an ELF file that is cut off"),
    "no-line": (b"echo hello\n", 0o755, "is a script that does not begin with #! and its interpreter"),
    "no-interpreter": (
        b"#!/usr/bin/none -u\n",
        0o755,
        "is a script for '/usr/bin/none', which is not in the image",
    ),
    "windows": (
        b"#!/bin/sh\r\necho\r\n",
        0o755,
        "ends with a carriage return, so its interpreter is '/bin/sh\\r'",
    ),
    "nobody": (b"#! \n", 0o755, "names no interpreter"),
    "of-a-foreign": (
        b"#!/x/foreign\n",
        0o755,
        "is a script for '/x/foreign': '/x/foreign' is a program for {theirs}",
    ),
    "of-a-plain": (b"#!/x/plain\n", 0o755, "is a script for '/x/plain', which is not executable"),
    "empty": (b"", 0o755, "is an empty file, not a program"),
    "garbage": (b"\0\1\2\3" * 9, 0o755, "is not a program that this machine can run (exec format error)"),
    "plain": (b"#!/bin/sh\n", 0o644, "is not executable: its mode is 0644; add the bit"),
    "directory": (None, 0o755, "is a directory, not a program"),
    "dangling": ("/nowhere", 0, "is a link to '/nowhere', which is not in the image"),
    "loop": ("loop", 0, "is a link that leads back to itself"),
    "missing": ("", 0, "is not in the image"),
}


def make(rootfs, name):
    content, mode, _ = FILES[name]
    path = f"{rootfs}/x/{name}"
    if content is None:
        os.mkdir(path)
    elif isinstance(content, bytes):
        with open(path, "wb") as stream:
            stream.write(content)
        os.chmod(path, mode)
    elif content:
        os.symlink(content, path)


def refusal(step, *args, **fields):
    with pytest.raises(HostError) as caught:
        result = step.run(*args, "argument", **fields)
        raise AssertionError((args, result, step.stdout, step.stderr))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@row("S14")
def test_what_can_not_be_executed_is_told_in_the_same_words(runtime_step):
    os.mkdir(f"{runtime_step.rootfs}/x")
    for name in FILES:
        make(runtime_step.rootfs, name)
    names = {62: "amd64", 183: "arm64"}
    words = {"theirs": names[FOREIGN], "ours": names[NATIVE]}
    for name, (_, _, wanted) in FILES.items():
        text = refusal(runtime_step, f"/x/{name}")
        assert f"'/x/{name}'" in text and wanted.format(**words) in text, name


@row("S14")
def test_an_image_without_a_shell_is_told(runtime_step):
    os.unlink(f"{runtime_step.rootfs}/bin/sh")
    with pytest.raises(HostError) as caught:
        runtime_step.run("echo hello")
    assert str(caught.value).startswith(
        "/bin/sh is not in the image, so it can't run a command line: use the exec form"
    )
    assert "base image" in str(caught.value)


@row("S14")
def test_a_name_that_is_nowhere_is_told(runtime_step):
    text = refusal(runtime_step, "no-such-program")
    assert text.startswith(
        "'no-such-program' is not in the image, in none of the directories of PATH (/usr/local/"
    )


@row("S14")
def test_a_user_that_may_not_execute_it_is_told(runtime_step):
    path = f"{runtime_step.rootfs}/bin/closed"
    with open(f"{runtime_step.rootfs}/bin/busybox", "rb") as source, open(path, "wb") as target:
        target.write(source.read())
    os.chmod(path, 0o700)
    text = refusal(runtime_step, "/bin/closed", user="1000")
    assert "'/bin/closed' may not be executed by the user 1000:" in text and "its mode is 0700" in text


SPOOF = "echo 'exec /bin/sh: {}'; exit 1"


@row("S14")
@pytest.mark.parametrize(
    "line",
    [
        "exec /x/foreign",
        "exec /bin/none",
        SPOOF.format("Exec format error"),
        SPOOF.format("permission denied"),
    ],
)
def test_what_the_command_itself_can_not_execute_is_its_own_failure(runtime_step, line):
    """Even when a command says what a runtime would: the shell can be executed, whatever it prints."""
    os.mkdir(f"{runtime_step.rootfs}/x")
    make(runtime_step.rootfs, "foreign")
    assert runtime_step.run(line).status in (1, 2, 126, 127)


@row("S71")
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("exec '/x/arm': Exec format error", 8),
        ("exec 'arm': not found on PATH", 2),
        (
            'runc create failed: unable to start: exec: "/x/arm": stat /x/arm: no such file or directory',
            2,
        ),
        ('runc create failed: unable to start container process: exec: "/x/arm": permission denied', 13),
        ("runc create failed: unable to start container process: exec /x/arm: permission denied", 13),
        ("crun create failed: executable file `arm` not found in $PATH: No such file or directory", 2),
        ("crun create failed: open executable: Too many levels of symbolic links", 40),
        ('runc create failed: unable to apply: exec: "newuidmap": executable file not found in $PATH', 0),
        ("runc create failed: error running hook #0: fork/exec /x/arm: permission denied", 0),
        ("runc create can't be run: Exec format error", 0),
        ("exec '/x/arm': a new kind of error", 0),
        ("", 0),
    ],
)
def test_what_an_isolation_says_of_a_command(text, number):
    assert said(text, "/x/arm") == number


@row("S71")
@pytest.mark.parametrize(
    ("status", "text", "number"),
    [
        (1, "exec /x/arm: exec format error", 8),
        (255, "exec /x/arm: no such file or directory", 2),
        (1, '{"msg":"exec container process `/x/arm`: Exec format error","level":"error"}', 8),
        (
            1,
            '{"msg":"exec container process (missing dynamic library?) `/x/arm`: No such file or directory"}',
            2,
        ),
        (1, '{"msg":7}', 0),
        (1, "{", 0),
        (1, '["msg"]', 0),
        (0, "exec /x/arm: exec format error", 0),
        (2, "exec /x/arm: exec format error", 0),
        (1, "sh: exec: /x/arm: exec format error", 0),
        (1, "exec /x/other: exec format error", 0),
    ],
)
def test_what_a_runtime_prints_in_the_commands_place(status, text, number):
    assert printed(status, text, "/x/arm") == number


@row("S71")
@given(st.text(), st.text(min_size=1))
def test_any_words_are_taken(text, name):
    assert said(text, name) >= 0 and printed(1, text, name) >= 0
