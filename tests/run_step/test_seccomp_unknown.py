"""Row S34: what a profile does not know answers ENOSYS, what it forbids EPERM, under every isolation and with every
libseccomp."""

import json
import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import row
from run_seccomp import verdict
from test_seccomp import ENOSYS, EPERM, FORBIDDEN, PROBE

from run_step.linux import seccomp_filter
from run_step.linux.bpf import unknown_calls
from run_step.linux.syscalls import EVERYWHERE, number
from run_step.pipeline.seccomp import resolve
from run_step.pipeline.seccomp_profile import FAMILIES, FAMILIES_BELOW, default_profile

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x00000000
X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7

NOBODYS = {"read past the table": 999, "far past it": 5000, "the largest": 0x3FFFFFFF, "none": -1}
NEW = ("cachestat", "fchmodat2", "map_shadow_stack", "futex_wake", "futex_wait", "futex_requeue")
"""Allowed, and known to every libseccomp that has the runtimes of today."""
NEWER = ("statmount", "listmount", "mseal", "setxattrat", "getxattrat", "listxattrat", "removexattrat")
"""Allowed, and known to libseccomp since 2.6."""


@pytest.fixture
def tmp_path(open_path):
    return open_path


@pytest.fixture
def ask_kernel(runtime_step, tmp_path):
    """The errno of each call in a step; ``outside`` is without a filter, for calls that can do no harm."""
    source, program = tmp_path / "probe.c", str(tmp_path / "probe")
    source.write_text(PROBE)
    subprocess.run(["cc", "-static", "-o", program, str(source)], check=True)
    shutil.copy(program, f"{runtime_step.rootfs}/bin/probe")
    os.chmod(f"{runtime_step.rootfs}/bin/probe", 0o755)

    def run(calls, outside=False, **more):
        line = "; ".join(" ".join(["$P", *map(str, call)]) for call in calls)
        if outside:
            done = subprocess.run(
                ["sh", "-c", line], env={"P": program}, capture_output=True, text=True, check=True
            )
            return [int(word) for word in done.stdout.split()]
        return [int(word) for word in runtime_step.text(f"P=/bin/probe; {line}", **more).split()]

    return run


def names_own_filter(step):
    """Whether the runtime makes its filter by itself, with the libseccomp that it has."""
    return step.runtime == "runc"


@row("S34")
def test_unknown_calls_answer_ENOSYS_and_forbidden_ones_EPERM(runtime_step, ask_kernel):
    unknown = ask_kernel([(value, -1, 0, 0) for value in NOBODYS.values()])
    assert dict(zip(NOBODYS, unknown, strict=True)) == dict.fromkeys(NOBODYS, ENOSYS)
    forbidden = ask_kernel(FORBIDDEN.values())
    assert dict(zip(FORBIDDEN, forbidden, strict=True)) == dict.fromkeys(FORBIDDEN, EPERM)


@row("S34")
def test_new_calls_reach_the_kernel(runtime_step, ask_kernel):
    """With arguments that are wrong: the kernel's own answer comes back. runc can do no better than its libseccomp,
    and says that there is no such call, on which C libraries fall back."""
    calls = [(EVERYWHERE[name], -1, 0, 0, 0, 0) for name in (*NEW, *NEWER)]
    for name, inside, outside in zip(
        (*NEW, *NEWER), ask_kernel(calls), ask_kernel(calls, outside=True), strict=True
    ):
        too_new = name in NEWER and names_own_filter(runtime_step)
        assert inside == outside or (too_new and inside == ENOSYS), name


@row("S34")
@pytest.mark.parametrize("family", [11, 12, 16, 17, 19, 20, 23, 34, 37, 38, 40, 44, 46, 99])
def test_families_of_sockets_as_docker_has_them(family):
    filter_ = seccomp_filter.compile_filter(resolve(default_profile(), set(), "x86_64", "6.1"))
    allowed = family < FAMILIES_BELOW or family in FAMILIES
    assert verdict(filter_, X86_64, 41, (family, 1, 0)) == (ALLOW if allowed else ERRNO | EPERM)
    assert (family in (12, 19, 20, 23, 34, 37, 38, 40, 46, 99)) != allowed


@row("S34")
def test_a_profile_of_the_users_own_too(runtime_step, ask_kernel):
    profile = default_profile()
    profile["syscalls"].append({"names": ["swapon"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95})
    found = ask_kernel([(999, 0), (167, 0, 0), (168, 0)], seccomp=json.dumps(profile))
    assert found == [ENOSYS, 95, EPERM]


@row("S34")
def test_no_new_privileges_changes_nothing(runtime_step, ask_kernel):
    found = ask_kernel([(999, 0), (165, 0, 0, 0, 0, 0)], no_new_privileges=True)
    assert found == [ENOSYS, EPERM]


class OldLibrary:
    """libseccomp as it was before it knew some names."""

    def __init__(self, real, lacks):
        self._real, self._lacks = real, lacks

    def __getattr__(self, name):
        return getattr(self._real, name)

    def seccomp_syscall_resolve_name(self, name):
        return -1 if name.decode() in self._lacks else self._real.seccomp_syscall_resolve_name(name)

    def seccomp_syscall_resolve_name_arch(self, token, name):
        known = name.decode() not in self._lacks
        return self._real.seccomp_syscall_resolve_name_arch(token, name) if known else -1


def compiled(monkeypatch, lacks, profile=None):
    with monkeypatch.context() as patch:
        real = seccomp_filter._library()
        patch.setattr(seccomp_filter, "_library", lambda: OldLibrary(real, lacks))
        seccomp_filter._compile.cache_clear()
        try:
            return seccomp_filter.compile_filter(
                profile or resolve(default_profile(), set(), "x86_64", "6.1")
            )
        finally:
            seccomp_filter._compile.cache_clear()


@row("S34")
@pytest.mark.parametrize("token", [X86_64, I386])
@pytest.mark.parametrize("since", ["pidfd_send_signal", "openat2", "futex_waitv", "cachestat", "statmount"])
def test_an_old_libseccomp_gives_the_same_filter(monkeypatch, token, since):
    """One that knows none of the calls since then: what is allowed and what is forbidden stays so."""
    first = EVERYWHERE[since]
    lacks = {name for name, value in EVERYWHERE.items() if value >= first}
    profile = resolve(default_profile(), set(), "x86_64", "6.1")
    allowed = {
        name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]
    }
    old = compiled(monkeypatch, lacks)
    last = max(EVERYWHERE[name] for name in allowed & EVERYWHERE.keys())
    for name, value in EVERYWHERE.items():
        wanted = ALLOW if name in allowed else ERRNO | (ENOSYS if value > last or name == "clone3" else EPERM)
        assert verdict(old, token, value) == wanted, name


@row("S34")
def test_what_an_old_libseccomp_can_not_compare_is_not_there(monkeypatch):
    """A rule with arguments, of a call whose number alone is known."""
    rule = {
        "names": ["mseal"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
    }
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}, rule],
    }
    assert verdict(compiled(monkeypatch, {"mseal"}, profile), X86_64, EVERYWHERE["mseal"]) == ERRNO | ENOSYS


@row("S34")
def test_a_profile_that_forbids_a_few_calls_forbids_them_by_number_too(monkeypatch):
    """And lets all others through, new ones as well."""
    rule = {"names": ["mseal", "swapon"], "action": "SCMP_ACT_ERRNO"}
    filter_ = compiled(monkeypatch, {"mseal"}, {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    assert verdict(filter_, X86_64, EVERYWHERE["mseal"]) == ERRNO | EPERM
    assert verdict(filter_, X86_64, 167) == ERRNO | EPERM
    assert verdict(filter_, X86_64, 5000) == verdict(filter_, X86_64, 39) == ALLOW


@row("S34")
def test_programs_of_x32_are_left_to_the_filter():
    filter_ = seccomp_filter.compile_filter(resolve(default_profile(), set(), "x86_64", "6.1"))
    assert verdict(filter_, X86_64, 0x40000000 | 39) == ALLOW
    assert verdict(filter_, X86_64, 0x40000000 | 520) == ALLOW  # its execve
    assert verdict(filter_, X86_64, 0x40000000 | 165) == ERRNO | EPERM
    assert verdict(filter_, X86_64, 0x40000000 | 5000) == ERRNO | ENOSYS


@row("S34")
def test_an_architecture_that_is_not_listed_is_killed():
    filter_ = seccomp_filter.compile_filter(resolve(default_profile(), set(), "x86_64", "6.1"))
    assert verdict(filter_, AARCH64, 63) == verdict(filter_, AARCH64, 5000) == KILL


@row("S34")
@given(
    st.integers(0, 600),
    st.dictionaries(st.integers(0, 600), st.sampled_from([ALLOW, ERRNO | 1, ERRNO | 38]), max_size=40),
    st.sampled_from([X86_64, I386]),
    st.integers(0, 0xFFFFFFFF) | st.integers(0, 700),
)
def test_instructions_in_front(last, own, token, asked):
    program = unknown_calls(X86_64, last, ERRNO | ENOSYS, own) + seccomp_return(KILL)
    wanted = own.get(asked, ERRNO | ENOSYS if asked > last else KILL)
    if token != X86_64 or asked >= 0x40000000:
        wanted = KILL
    assert verdict(program, token, asked) == wanted


def seccomp_return(action):
    return (0x06).to_bytes(2, "little") + b"\0\0" + action.to_bytes(4, "little")


@row("S34")
def test_numbers_are_those_of_the_kernel():
    """As this machine's own libseccomp has them, where it knows the call."""
    library = seccomp_filter._library()
    known = {name: library.seccomp_syscall_resolve_name(name.encode()) for name in EVERYWHERE}
    assert {name: value for name, value in known.items() if value >= 0}.items() <= EVERYWHERE.items()
    assert known["cachestat"] == number("cachestat", "x86_64") == 451
    assert (number("uretprobe", "x86_64"), number("uretprobe", "x86")) == (335, None)
    assert (number("mseal", "aarch64"), number("removexattrat", "x86"), number("read", "x86")) == (
        462,
        466,
        None,
    )
