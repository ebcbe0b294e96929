"""Row S80: each field of the OCI runtime specification is honoured by chroot isolation, or refused by its name."""

import dataclasses
import json
import pathlib
import re

import pytest
from busybox_root import listing
from rows import row

from run_step import HostError, NamespaceOption, execute, look_up, plan
from run_step.chroot_fields import BIND_OPTIONS, HONOURED, refused
from run_step.pipeline import STAGES

REFUSED = {
    "process.commandLine": "cmd",
    "process.scheduler": {"policy": "SCHED_BATCH", "nice": 5},
    "process.ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
    "process.execCPUAffinity": {"initial": "0", "final": "0"},
    "process.user.username": "bob",
    "hooks": {"prestart": [{"path": "/bin/true"}]},
    "hooks.createRuntime": [{"path": "/bin/true"}],
    "hooks.createContainer": [{"path": "/bin/true"}],
    "hooks.startContainer": [{"path": "/bin/true"}],
    "hooks.poststart": [{"path": "/bin/true"}],
    "hooks.poststop": [{"path": "/bin/true"}],
    "linux.timeOffsets": {"monotonic": {"secs": 100}},
    "linux.netDevices": {"eth0": {}},
    "linux.intelRdt": {"closID": "x"},
    "linux.memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"},
    "linux.personality": {"domain": "LINUX32"},
    "linux.rootfsPropagation": "shared",
    "linux.resources.blockIO": {"weight": 10},
    "linux.resources.hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
    "linux.resources.network": {"classID": 1},
    "linux.resources.rdma": {"mlx5_1": {"hcaHandles": 3}},
    "linux.resources.unified": {"memory.high": "1000000"},
    "linux.resources.cpu.burst": 1000,
    "linux.resources.cpu.realtimeRuntime": 950000,
    "linux.resources.cpu.realtimePeriod": 1000000,
    "linux.resources.cpu.idle": 1,
    "linux.resources.memory.reservation": 1 << 20,
    "linux.resources.memory.kernel": 1 << 20,
    "linux.resources.memory.kernelTCP": 1 << 20,
    "linux.resources.memory.swappiness": 10,
    "linux.resources.memory.disableOOMKiller": True,
    "linux.resources.memory.useHierarchy": True,
    "linux.resources.memory.checkBeforeUpdate": True,
    "linux.seccomp.listenerPath": "/run/listener",
    "linux.seccomp.listenerMetadata": "text",
    "linux.seccomp.flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
    "linux.sysctl": {"kernel.shm_rmid_forced": "1"},
    "vm": {"kernel": {"path": "/boot/vmlinuz"}},
    "zos": {"namespaces": [{"type": "mount"}]},
    "solaris": {"limitpriv": "default"},
    "windows": {"layerFolders": ["C:"]},
    "somethingNew": True,
    "linux.somethingNew": [1],
}
"""Every field of the specification 1.2 that is not honoured, with a value that would change something."""

HONOURED_BY = {
    "ociVersion": "it says what the others mean",
    "annotations": "for whoever reads the spec",
    "hostname": "test_the_hostname_is_set_in_its_own_namespace",
    "domainname": "test_the_name_of_the_domain",
    "root.path": "every test",
    "root.readonly": "test_a_root_that_is_read_only",
    "process.terminal": "test_without_input_it_is_at_its_end",
    "process.consoleSize": "test_execute_terminal.py",
    "process.cwd": "test_cwd_is_made_and_owned",
    "process.env": "test_the_environment_is_exactly_the_plans",
    "process.args": "every test",
    "process.user.uid": "test_user_and_groups",
    "process.user.gid": "test_user_and_groups",
    "process.user.umask": "test_a_probe_sees_the_same",
    "process.user.additionalGids": "test_user_and_groups",
    **dict.fromkeys(
        (
            f"process.capabilities.{name}"
            for name in ("bounding effective inheritable permitted ambient".split())
        ),
        "test_privileges_are_what_the_plan_says",
    ),
    **dict.fromkeys((f"process.rlimits.{name}" for name in ("type", "soft", "hard")), "test_limits_hold"),
    "process.noNewPrivileges": "test_no_new_privileges",
    "process.apparmorProfile": "refused by a kernel that has none",
    "process.selinuxLabel": "refused by a kernel that has none",
    "process.oomScoreAdj": "test_a_probe_sees_the_same",
    **dict.fromkeys(
        (f"mounts.{name}" for name in ("destination", "type", "source", "options")),
        "test_volumes_are_bound_as_their_options_say",
    ),
    "linux.namespaces.type": "test_no_process_of_the_host_is_in_sight",
    "linux.namespaces.path": "test_an_existing_network_is_joined",
    **dict.fromkeys(
        (
            f"linux.{kind}Mappings.{name}"
            for kind in ("uid", "gid")
            for name in ("containerID", "hostID", "size")
        ),
        "test_an_identity_of_its_own",
    ),
    **dict.fromkeys(
        (f"linux.devices.{name}" for name in "path type major minor fileMode uid gid".split()),
        "test_execute_devices.py",
    ),
    "linux.cgroupsPath": "test_the_step_is_below_its_parent",
    "linux.resources.devices": "no node can be opened but those of the plan: test_execute_devices.py",
    **dict.fromkeys(
        (f"linux.resources.cpu.{name}" for name in "shares quota period cpus mems".split()),
        "test_execute_resources.py",
    ),
    "linux.resources.memory.limit": "test_execute_resources.py",
    "linux.resources.memory.swap": "test_execute_resources.py",
    "linux.resources.pids.limit": "test_execute_resources.py",
    "linux.sysctl": "test_root_may_ping",
    **dict.fromkeys(
        (f"linux.seccomp.{name}" for name in "defaultAction defaultErrnoRet architectures".split()),
        "test_seccomp.py",
    ),
    "linux.seccomp.flags": "test_flags_of_a_filter",
    **dict.fromkeys(
        (f"linux.seccomp.syscalls.{name}" for name in "names action errnoRet args".split()), "test_seccomp.py"
    ),
    "linux.rootfsPropagation": "test_nothing_that_a_step_mounts_gets_out",
    "linux.maskedPaths": "test_masked_paths_are_empty",
    "linux.readonlyPaths": "test_the_kernels_switches_cannot_be_written",
    "linux.mountLabel": "refused by a kernel that has none",
}
"""Every other field of it for Linux, with what shows that it is."""


@pytest.fixture
def tmp_path(open_path):
    return open_path


def leaves(tree, place=""):
    if isinstance(tree, dict):
        for name, item in tree.items():
            yield from leaves(item, f"{place}.{name}" if place else name)
    else:
        yield place


@row("S80")
def test_the_list_is_complete():
    """What is honoured is shown somewhere, and is not in the list of what is refused."""
    assert set(leaves(HONOURED)) == set(HONOURED_BY)
    partly = {"linux.seccomp.flags", "linux.sysctl", "linux.rootfsPropagation"}
    assert set(HONOURED_BY) & set(REFUSED) == partly


@row("S80")
def test_what_shows_it_is_there():
    here = pathlib.Path(__file__).parent
    text = "".join(path.read_text() for path in here.glob("test_*.py"))
    names = {word for reason in HONOURED_BY.values() for word in re.findall(r"test_\w+(?:\.py)?", reason)}
    assert {name for name in names if name.endswith(".py") and not (here / name).exists()} == set()
    assert {name for name in names if not name.endswith(".py") and f"def {name}(" not in text} == set()


def setting(place, value):
    """A stage of the user's own, at the end, that writes a field."""

    def stage(draft, request, host):
        at = draft.spec
        *above, last = place.split(".")
        for name in above:
            at = at.setdefault(name, {})
        if isinstance(at.get(last), list):
            at[last] = [*at[last], *value]
        else:
            at[last] = value

    return (*STAGES, stage)


@row("S80")
@pytest.mark.parametrize("place", REFUSED)
def test_a_field_that_is_not_honoured_is_refused(ask, host, place):
    stages = setting(place, REFUSED[place])
    with pytest.raises(HostError, match="chroot isolation can't honour") as told:
        plan(ask(isolation="chroot"), host, stages=stages)
    name = place if "somethingNew" not in place else "somethingNew"
    assert name in str(told.value) and "--isolation oci" in str(told.value)
    assert plan(ask(isolation="oci"), host, stages=stages)  # the runtime says what it thinks of it


@row("S80")
@pytest.mark.parametrize("place", ["process.scheduler", "linux.timeOffsets", "hooks"])
def test_an_empty_field_asks_for_nothing(ask, host, place):
    assert plan(ask(isolation="chroot"), host, stages=setting(place, {}))


@row("S80")
@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("linux.namespaces", [{"type": "time"}], "linux.namespaces.type=time"),
        ("process.rlimits", [{"type": "RLIMIT_NEW", "soft": 1, "hard": 1}], "RLIMIT_NEW"),
        (
            "mounts",
            [{"destination": "/x", "type": "bind", "source": "/tmp", "options": ["bind", "idmap"]}],
            "option 'idmap' of the mount on /x",
        ),
        (
            "mounts",
            [
                {
                    "destination": "/x",
                    "type": "bind",
                    "source": "/tmp",
                    "options": ["bind"],
                    "uidMappings": [{"size": 1}],
                }
            ],
            "mounts.uidMappings",
        ),
        ("process.user", {"uid": 0, "gid": 0, "username": "x"}, "process.user.username"),
        ("linux.sysctl", {"net.ipv4.ip_forward": "1"}, "linux.sysctl"),
    ],
)
def test_values_that_are_not_honoured(ask, host, place, value, told):
    with pytest.raises(HostError, match="can't honour") as error:
        plan(ask(isolation="chroot"), host, stages=setting(place, value))
    assert told in str(error.value)


@row("S80")
def test_a_plan_that_was_changed_is_refused_before_anything_happens(rootfs, ask, host, tmp_path):
    made = plan(ask(isolation="chroot"), host)
    spec = json.loads(json.dumps(made.spec))
    spec["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE"}
    before = listing(rootfs)
    with pytest.raises(HostError, match=r"process\.ioPriority"):
        execute(dataclasses.replace(made, spec=spec), rootfs, work_dir=str(tmp_path))
    assert listing(rootfs) == before


@row("S80", "X81")
@pytest.mark.parametrize("place", ["root.readonly", "linux.maskedPaths", "linux.readonlyPaths"])
def test_without_mounts_what_needs_them_is_refused(ask, host, place):
    bare = dataclasses.replace(host, has_mounts=False)
    value = True if place == "root.readonly" else ["/etc"]
    with pytest.raises(HostError, match=f"{place} without a mount namespace"):
        plan(ask(isolation="chroot"), bare, stages=setting(place, value))


@row("S80")
def test_nothing_of_the_pipeline_is_refused(ask, host):
    """Of its own; golden cases have many more."""
    made = plan(ask(isolation="chroot", hostname="box", ulimits=("core=0",), network="none"), host)
    assert refused(made.spec, connected=False) == []
    assert {"ro", "nosuid", "rbind"} <= BIND_OPTIONS


# Honoured


def execute_with(step, line, *stages, **fields):
    """Run a line under chroot with stages of the user's own behind the others."""
    request = step.request("/bin/sh", "-c", line, **fields)
    made = plan(request, look_up(request, step.executor.host(runtimes=False)), stages=(*STAGES, *stages))
    seen = []
    result = step.executor.execute(made, step.rootfs, output=lambda _, data: seen.append(data), timeout=60)
    return result.status, b"".join(seen).decode()


def read_only(draft, request, host):
    draft.spec["root"]["readonly"] = True


MAPS = {"namespaces": (NamespaceOption("user"),)}


@row("S80")
@pytest.mark.root
@pytest.mark.parametrize("maps", [{}, MAPS], ids=["", "a user namespace"])
def test_a_root_that_is_read_only(step, maps):
    """Nothing in the image can be written; what is mounted in it can, as under the OCI runtimes."""
    before = listing(step.rootfs)
    line = (
        "for place in / /etc /tmp /usr/bin; do touch $place/x 2>&1 | grep -c 'Read-only'; done;"
        " rm /etc/passwd 2>&1 | grep -c Read-only; mount -o remount,rw / 2>/dev/null || echo stays;"
        " echo x > /dev/shm/x && cat /dev/shm/x; echo y > /mnt/y && cat /mnt/y; echo z > /dev/null && echo null"
    )
    status, text = execute_with(step, line, read_only, mounts=("type=tmpfs,dst=/mnt",), **maps)
    assert (status, text.split()) == (0, [*"11111", "stays", "x", "y", "null"])
    assert listing(step.rootfs) == before


@row("S80")
@pytest.mark.root
def test_a_writable_root_is_writable(step):
    assert execute_with(step, "touch /x && rm /x && echo yes") == (0, "yes\n")


def name_domain(draft, request, host):
    draft.spec["domainname"] = "example.net"
    draft.spec["ociVersion"] = "1.1.0"


@row("S80")
@pytest.mark.root
def test_the_name_of_the_domain(step):
    if step.runtime == "runc":
        return  # version 1.1 passes the field over
    assert execute_with(step, "cat /proc/sys/kernel/domainname", name_domain) == (0, "example.net\n")


@row("S80")
@pytest.mark.root
@pytest.mark.parametrize("maps", [{}, MAPS], ids=["", "a user namespace"])
def test_bind_options_all_the_way_down(step, tmp_path, maps):
    """rro and its like, of a mount that a stage of the user's own made."""
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)

    def mount(draft, request, host):
        options = ["rbind", "rro", "rnosuid", "rnoexec"]
        draft.spec["mounts"].append(
            {"destination": "/mnt", "type": "bind", "source": str(source), "options": options}
        )

    if step.isolation != "chroot":
        return  # runtimes know them or not: HostFacts.has_rro
    status, text = execute_with(step, "mkdir -p /mnt; grep ' /mnt ' /proc/self/mountinfo", mount, **maps)
    assert status == 0 and {"ro", "nosuid", "noexec"} <= set(text.split()[5].split(","))


@row("S80")
@pytest.mark.root
@pytest.mark.parametrize("flag", ["LOG", "SPEC_ALLOW", "TSYNC"])
def test_flags_of_a_filter(step, flag):
    def set_flag(draft, request, host):
        draft.linux["seccomp"]["flags"] = [f"SECCOMP_FILTER_FLAG_{flag}"]

    if step.isolation != "chroot":
        return
    assert execute_with(step, "grep Seccomp: /proc/self/status | tr -d '\\t'", set_flag) == (0, "Seccomp:2\n")
