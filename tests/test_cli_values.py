"""Malformed values on the command line (cli.md): each is quoted, the form is said, and nothing is touched."""

from __future__ import annotations

import pytest

from buildfront.cli import run

VALUES = {
    "--ulimit": [
        "nofile", "nofile=", "nofile=x", "nofile=-2", "nofile=1:", "nofile=1:2:3", "nofile=2:1", "odd=1",
        "=1",
    ],
    "--add-host": ["a", ":1.1.1.1", "a:", "a:1.1.1", "a:x", "a b:1.1.1.1", "#:1.1.1.1"],
    "--dns": ["x", "1.1.1", "::g", "1.1.1.1 2.2.2.2", ""],
    "--dns-search": ["a b", "", "#x"],
    "--dns-option": ["a b", ""],
    "--volume": [
        "/a", "a:/b", "/a:b", "/a:/", "/a:/b:odd", "/a:/b:ro,rw", "/a:/b:z,Z", "/a:/b:O,ro", "/a:/b:O,upperdir=/u",
        "/a:/b:x:y", "/etc:/b:Z", "/a:/b\udce9", "/a:/proc", "/a:/proc/x", "/a:/sys", "/a:/dev", "/a:/dev/null",
    ],
    "--mount": [
        "x", "type=odd,target=/a", "type=bind,target=/a", "type=bind,source=/a", "type=tmpfs,target=a",
        "type=tmpfs,target=/a,odd=1", "type=bind,source=/a,target=/b,ro=x", "type=tmpfs,target=/a,tmpfs-mode=9",
        "type=tmpfs,target=/proc/sys",
    ],
    "--memory": ["x", "-5", "1x", "1.5.5g", "1 g x"],
    "--memory-swap": ["x", "-2", "g", "4096"],
    "--shm-size": ["x", "-1", "64q"],
    "--cpu-shares": ["x", "-1", "1.5", "1"],
    "--cpu-period": ["x", "-1", "999"],
    "--cpu-quota": ["x", "10"],
    "--cpuset-cpus": ["x", "0-", "3-1", "-", "0,,1"],
    "--cpuset-mems": ["x", "1-0"],
    "--cap-add": ["CAP_ODD", "net admin", ""],
    "--cap-drop": ["odd"],
    "--device": ["", "/dev/null:x", "/dev/null:/b:z", "dev/null", "vendor.com/gpu="],
    "--security-opt": ["odd=1", "seccomp=", "mask=x", "unmask=x", "label=odd:1", "no-new-privileges=maybe", "mask=ALL"],
    "--network": ["ns:x", "a b", "a,,b", "ns:"],
    "--userns": ["odd", "ns:x"],
    "--ipc": ["odd"],
    "--pid": ["odd", "ns:relative"],
    "--uts": ["odd"],
    "--cgroupns": ["odd"],
    "--userns-uid-map": ["0:1", "a:b:c", "0:1:0", "-1:0:1"],
    "--userns-gid-map": ["0", "0:1:x"],
    "--group-add": ["a b", ""],
    "--isolation": ["vm", "OCI"],
    "--hostname": ["a b", "x" * 65, "a\nb"],
    "--timeout": ["x", "-1", "0"],
}  # fmt: skip
COMMANDS = ("build", "plan", "spec")
CASES = [(option, value) for option, values in VALUES.items() for value in values]


HINTS = (
    "form",
    "known",
    "wanted",
    "must",
    "missing",
    " not ",
    " no ",
    "exclude",
    "neither",
    "together",
    "range",
    " above ",
    "can't",
    " is ",
)


def test_there_are_many() -> None:
    assert len(CASES) >= 80


@pytest.fixture
def store(tmp_path, monkeypatch):
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text("FROM scratch\nRUN true\n")
    monkeypatch.setenv("BUILDFRONT_ROOT", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        (command, *case)
        for case in CASES
        for command in COMMANDS
        if command == "build" or case[0] != "--timeout"
    ],
)
def test_a_malformed_value_is_refused_at_the_edge(store, capsys, command, option, value) -> None:
    status = run([command, f"{option}={value}", str(store.parent / "context")])
    out, words = capsys.readouterr()
    assert (status, out) == (2, ""), words
    assert repr(value) in words or repr(value.partition("=")[2]) in words or f" {value}" in words, words
    assert any(hint in words for hint in HINTS), words
    assert not store.exists()
