"""The OCI spec that buildah generates for the same Dockerfile and flags, compared with ours field by field.

A wrapper given to buildah as its runtime saves config.json and runs nothing. What differs on purpose is in
REASONS; ``make oracle`` prints each difference with its reason.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
RUN = "FROM localhost/box\nRUN true\n"

CASES: dict[str, tuple[str, list[str]]] = {
    "plain": (RUN, []),
    "exec-form": ('FROM localhost/box\nRUN ["echo", "x"]\n', []),
    "not-found": ('FROM localhost/box\nRUN ["no-such-program"]\n', []),
    "shell": ('FROM localhost/box\nSHELL ["/bin/sh", "-ec"]\nRUN true\n', []),
    "env": ("FROM localhost/box\nENV A=1 B=two\nENV A=3\nRUN true\n", []),
    "arg": ("FROM localhost/box\nARG V=1\nRUN true\n", ["--build-arg", "V=2"]),
    "workdir": ("FROM localhost/box\nWORKDIR /srv/x\nRUN true\n", []),
    "user-name": ("FROM localhost/box\nUSER bob\nRUN true\n", []),
    "user-number": ("FROM localhost/box\nUSER 4321\nRUN true\n", []),
    "user-group": ("FROM localhost/box\nUSER bob:wheel\nRUN true\n", []),
    "user-numbers": ("FROM localhost/box\nUSER 5:6\nRUN true\n", []),
    "cap-add": (RUN, ["--cap-add", "SYS_PTRACE"]),
    "cap-add-two": (RUN, ["--cap-add", "CAP_NET_ADMIN", "--cap-add", "SYS_TIME"]),
    "cap-drop": (RUN, ["--cap-drop", "CHOWN"]),
    "cap-drop-user": ("FROM localhost/box\nUSER bob\nRUN true\n", ["--cap-drop", "KILL"]),
    "cap-both": (RUN, ["--cap-add", "SYS_ADMIN", "--cap-drop", "SETPCAP"]),
    "ulimit": (RUN, ["--ulimit", "nofile=100:200"]),
    "ulimit-two": (RUN, ["--ulimit", "nofile=100", "--ulimit", "core=0:0"]),
    "ulimit-twice": (RUN, ["--ulimit", "nproc=100", "--ulimit", "nproc=50:60"]),
    "memory": (RUN, ["--memory", "100m"]),
    "memory-swap": (RUN, ["--memory", "100m", "--memory-swap", "200m"]),
    "memory-unlimited-swap": (RUN, ["--memory", "1g", "--memory-swap", "-1"]),
    "cpu-shares": (RUN, ["--cpu-shares", "512"]),
    "cpu-quota": (RUN, ["--cpu-period", "100000", "--cpu-quota", "50000"]),
    "cpuset": (RUN, ["--cpuset-cpus", "0-1", "--cpuset-mems", "0"]),
    "cgroup-parent": (RUN, ["--cgroup-parent", "/builds"]),
    "shm-size": (RUN, ["--shm-size", "32m"]),
    "volume": (RUN, ["-v", "/usr:/mnt"]),
    "volume-ro": (RUN, ["-v", "/usr:/mnt:ro"]),
    "volume-flags": (RUN, ["-v", "/usr:/mnt:ro,nosuid,nodev"]),
    "volume-two": (RUN, ["-v", "/usr:/a", "-v", "/etc:/b:ro"]),
    "dns": (RUN, ["--dns", "192.0.2.1"]),
    "dns-all": (RUN, ["--dns", "192.0.2.1", "--dns-search", "example.org", "--dns-option", "ndots:2"]),
    "add-host": (RUN, ["--add-host", "db:192.0.2.7"]),
    "add-host-two": (RUN, ["--add-host", "db:192.0.2.7", "--add-host", "v6:2001:db8::1"]),
    "network-none": (RUN, ["--network", "none"]),
    "network-host": (RUN, ["--network", "host"]),
    "ipc-host": (RUN, ["--ipc", "host"]),
    "pid-host": (RUN, ["--pid", "host"]),
    "uts-host": (RUN, ["--uts", "host"]),
    "cgroupns-private": (RUN, ["--cgroupns", "private"]),
    "seccomp-unconfined": (RUN, ["--security-opt", "seccomp=unconfined"]),
    "device": (RUN, ["--device", "/dev/fuse"]),
    "device-elsewhere": (RUN, ["--device", "/dev/null:/dev/other:r"]),
}
MORE_CAPABILITIES = {"CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW"}
REASONS = {
    "capabilities": "buildah takes its default set from containers.conf; ours is docker's, with three more",
    "rlimits": "buildah adds the default limits of containers.conf; ours has those that were asked for",
    "network": "buildah gives a private network by default; ours shares the builder's (row S43), and with it /sys",
    "masked": "ours hides /sys/fs/cgroup where a runtime would leave it writable, and what newer builders hide: "
    "/proc/asound, /proc/interrupts, powercap, thermal_throttle",
    "args": "buildah drops SHELL in OCI images, so RUN does not see it either; ours keeps it, as BuildKit does",
    "env": "HOME, which buildah leaves to the runtime, and HOSTNAME (row S12) are said in ours",
}


NEWER = ("/sys/fs/cgroup", "/proc/asound", "/proc/interrupts", "/sys/devices/virtual/powercap")

MOUNT_REASONS = {
    "/sys": "buildah mounts a sysfs where the machine lets it, else the host's; ours is the host's (row S62)",
    "/sys/fs/cgroup": "ours is read-only (row S62), and with the host's network /sys is the host's and brings its own",
    "/dev/shm": "with the host's IPC namespace it is the host's (row S61); buildah asks for the user namespace too",
    "/dev/mqueue": "as /dev/shm",
    "/etc/hostname": "ours is bound with --hostname alone, so that what a RUN writes there is kept (row S53)",
}


def explained(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, tuple[Any, Any, str]]:
    """Take the differences with a reason out of both; what was taken out, by field."""
    out: dict[str, tuple[Any, Any, str]] = {}

    def take(field: str, mine: Any, other: Any) -> None:
        if mine != other:
            out[field] = (mine, other, REASONS[field])

    for kind, names in ours["capabilities"].items():
        extra = (set(names) - set(theirs["capabilities"][kind])) & MORE_CAPABILITIES
        take("capabilities", sorted(extra), [])
        ours["capabilities"][kind] = sorted(set(names) - extra)
    for limit in ("RLIMIT_NOFILE", "RLIMIT_NPROC"):
        asked = limit.removeprefix("RLIMIT_").lower() in " ".join(CASES[name][1])
        if not asked:  # ours are the builder's own (row X22)
            take("rlimits", ours["rlimits"].pop(limit, None), theirs["rlimits"].pop(limit, None))
    if ours["network"] != theirs["network"] and (ours["network"], theirs["network"]) == (None, ""):
        take("network", ours.pop("network"), theirs.pop("network"))
        for spec in (ours, theirs):
            spec["mounts"].pop("/sys", None)
            spec["mounts"].pop("/sys/fs/cgroup", None)
    for path in [item for item in ours["masked"] if item not in theirs["masked"]]:
        if path in NEWER or path.endswith("/thermal_throttle"):
            ours["masked"].remove(path)
            take("masked", path, None)
    if name == "shell":
        take("args", ours.pop("args"), theirs.pop("args"))
    return out


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path):
    """Gives the config.json of the first RUN that buildah would execute."""
    path = tmp_path_factory.mktemp("oracle")
    wrapper, saved = path / "runtime", path / "config.json"
    script = f'while [ $# -gt 0 ]; do [ "$1" = --bundle ] && cp "$2/config.json" {saved}; shift; done'
    wrapper.write_text(f"#!/bin/sh\n{script}\nexit 1\n")
    wrapper.chmod(0o755)
    options = ["--root", str(path / "b"), "--runroot", str(path / "r"), "--storage-driver", "vfs"]

    def run(*words: object, check: bool = True) -> str:
        done = subprocess.run(
            ["buildah", *options, *map(str, words)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip() if check else done.stderr

    name = run("from", "scratch")
    run("add", name, busybox_tar, "/")
    run("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", name)
    run("commit", "-q", name, "localhost/box")

    def spec(context: Path, flags: list[str]) -> dict[str, Any]:
        saved.unlink(missing_ok=True)
        words = (
            "build",
            "--isolation",
            "oci",
            "--runtime",
            wrapper,
            "--pull-never",
            "--no-cache",
            *flags,
            context,
        )
        said = run(*words, check=False)
        assert saved.exists(), said
        value: dict[str, Any] = json.loads(saved.read_text())
        return value

    return spec


def normalised(spec: dict[str, Any]) -> dict[str, Any]:
    """The fields that a step can notice, without temporary paths, IDs and orders that mean nothing."""
    process, linux = spec["process"], spec["linux"]
    env = dict(item.split("=", 1) for item in process["env"])
    kinds = {item["type"]: item.get("path", "") for item in linux["namespaces"]}
    flags = ("ro", "nosuid", "nodev")
    mounts = {
        item["destination"]: (item["type"], *(flag for flag in flags if flag in item["options"]))
        for item in spec["mounts"]
    }
    user = process["user"]
    capabilities = process.get("capabilities", {})
    return {
        "args": process["args"],
        "cwd": process["cwd"],
        "user": (user["uid"], user["gid"], sorted(set(user.get("additionalGids", [])) - {user["gid"]})),
        "env": {key: value for key, value in env.items() if key not in ("HOME", "HOSTNAME")},
        "capabilities": {
            kind: sorted(capabilities.get(kind) or []) for kind in ("bounding", "effective", "permitted")
        },
        "rlimits": {item["type"]: (item["soft"], item["hard"]) for item in process.get("rlimits", [])},
        "namespaces": {key: value for key, value in kinds.items() if key != "network"},
        "network": kinds.get("network"),
        "hostname": bool(spec.get("hostname")),
        "cpu": linux.get("resources", {}).get("cpu") or {},
        "memory": linux.get("resources", {}).get("memory") or {},
        "devices": sorted((d["path"], d["type"], d["major"], d["minor"]) for d in linux.get("devices") or []),
        "cgroup": linux.get("cgroupsPath", ""),
        "masked": sorted(linux.get("maskedPaths") or []),
        "readonly": sorted(linux.get("readonlyPaths") or []),
        "seccomp": "seccomp" in linux,
        "mounts": mounts,
        "terminal": process.get("terminal", False),
    }


@pytest.mark.parametrize("name", CASES)
def test_oracle(box, buildah, name: str) -> None:
    text, flags = CASES[name]
    context = box.context(text)
    box("tag", "box", "localhost/box")
    found = json.loads(box("spec", "--isolation", "oci", *flags, context).stdout)
    ours, theirs = normalised(found[0]["spec"]), normalised(buildah(context, flags))
    reasons = explained(name, ours, theirs)
    if os.environ.get("ORACLE_TABLE"):
        for field, (mine, other, why) in reasons.items():
            print(f"{name:22} {field:13} ours {mine!r}, theirs {other!r}: {why}")
    assert {
        key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key] and key != "mounts"
    } == {}
    both = ours["mounts"].keys() | theirs["mounts"].keys()
    differing = {key: (ours["mounts"].get(key), theirs["mounts"].get(key)) for key in both}
    unequal = {key: pair for key, pair in differing.items() if pair[0] != pair[1]}
    if os.environ.get("ORACLE_TABLE"):
        for path, (mine, other) in unequal.items():
            print(f"{name:22} {path:13} ours {mine!r}, theirs {other!r}: {MOUNT_REASONS.get(path)}")
    wanted = {
        "network-none": {"/sys/fs/cgroup"},
        "network-host": {"/sys", "/sys/fs/cgroup"},
    }
    wanted["ipc-host"] = {"/dev/shm", "/dev/mqueue"}
    assert unequal.keys() <= wanted.get(name, set()) | {"/etc/hostname"}
