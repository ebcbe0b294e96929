"""What differed between isolations once, with its value, in every way to run a step that has namespaces of its own."""

import os
import resource
from dataclasses import replace

import pytest
from agent import read_only_root
from busybox_root import listing
from rows import row

from run_step import HostError, NamespaceOption, RunMount, look_up, plan
from run_step.host import Rlimit
from run_step.pipeline import STAGES

pytestmark = pytest.mark.root


@pytest.fixture
def tmp_path(open_path):
    return open_path


def remote(step):
    return hasattr(step, "ask")


# X22: limits of open files


@row("X22")
def test_without_a_limit_asked_for_the_builders_own_hold(runtime_step):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not remote(runtime_step):
        facts = runtime_step.executor.host(runtimes=False)
        runtime_step.executor._host = replace(facts, rlimits=(Rlimit("RLIMIT_NOFILE", soft, hard),))
    assert runtime_step.text("ulimit -Sn; ulimit -Hn").split() == [str(soft), str(hard)]


@row("X22")
@pytest.mark.parametrize("isolation", ["oci", "chroot", "rootless"])
def test_the_spec_states_them(ask, host, isolation):
    host = replace(host, rlimits=(Rlimit("RLIMIT_CORE", 0, -1), Rlimit("RLIMIT_NOFILE", 1024, 15000)))

    def limits(**more):
        found = plan(ask(isolation=isolation, **more), host).spec["process"]["rlimits"]
        return {item["type"]: (item["soft"], item["hard"]) for item in found}

    assert limits() == {"RLIMIT_NOFILE": (1024, 15000)}
    assert limits(ulimits=("nofile=10:20",)) == {"RLIMIT_NOFILE": (10, 20)}
    assert limits(default_ulimits=("nofile=30",)) == {"RLIMIT_NOFILE": (30, 30)}
    assert limits(ulimits=("core=1",)) == {"RLIMIT_CORE": (1, 1), "RLIMIT_NOFILE": (1024, 15000)}


# S13: the working directory


@row("S13")
@pytest.mark.parametrize("user", ["1000", "bob:staff"])
def test_a_directory_that_the_user_can_not_enter(runtime_step, user):
    """Root's own, as after WORKDIR /root and USER: the step is in it, and can do nothing there."""
    if not remote(runtime_step):
        os.chmod(f"{runtime_step.rootfs}/root", 0o700)
    else:
        assert runtime_step.run("chmod 700 /root").status == 0
    assert runtime_step.text(
        "pwd; id -u; ls . 2>/dev/null || echo closed", user=user, cwd="/root"
    ).split() == [
        "/root",
        "1000",
        "closed",
    ]


@row("S13")
def test_a_directory_for_the_user_alone(runtime_step):
    assert runtime_step.run("chmod 700 /home/bob").status == 0
    assert runtime_step.text("pwd; touch x; ls", user="bob", cwd="/home/bob").split() == ["/home/bob", "x"]


@row("S13")
def test_a_file_where_the_working_directory_should_be_is_told(runtime_step):
    with pytest.raises(HostError, match="/etc/passwd"):
        runtime_step.run("true", cwd="/etc/passwd/below")


@row("S13")
@pytest.mark.parametrize("cwd", ["/proc/1/root", "/proc/self/root", "/proc/1/cwd"])
def test_another_process_does_not_lead_out(step, cwd):
    """Entered with the builder's powers: the root of a process outside is refused, the step's own is no way out."""
    with open(f"{step.rootfs}/marker", "w", encoding="ascii"):
        pass
    for namespaces in ((), (NamespaceOption("pid", host=True),)):
        try:
            result = step.run("[ -e marker ] && echo own || echo outside", cwd=cwd, namespaces=namespaces)
        except HostError as error:
            assert cwd in str(error) or "working directory" in str(error) or "cwd" in str(error)
        else:
            assert result.status == 0 and step.stdout == b"own\n"


# S50, S52, S53: files


@row("S50")
@pytest.mark.parametrize("network", ["host", "none"])
def test_localhost_is_in_the_hosts_file(runtime_step, network):
    text = runtime_step.text("cat /etc/hosts", network=network)
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    for address in ("127.0.0.1", "::1"):
        assert [address, "localhost"] in rows
    assert ["192.0.2.1", "registry.example"] in rows or network == "none"


@row("S52")
def test_etc_can_be_renamed_without_a_network(runtime_step):
    before = runtime_step.run("true")
    assert before.status == 0
    found = listing(runtime_step.rootfs)
    line = "mv /etc /etc2 && mv /etc2 /etc && cat /etc/passwd | head -n 1 && grep -c localhost /etc/hosts"
    assert runtime_step.text(line, network="none").split() == ["root:x:0:0:root:/root:/bin/sh", "2"]
    after = listing(runtime_step.rootfs)
    assert after.keys() == found.keys() and "etc/hosts" not in after
    assert after["etc"] == found["etc"]


@row("S52")
def test_the_images_own_hosts_file_comes_back(runtime_step):
    assert runtime_step.run("true").status == 0
    line = "echo 10.9.9.9 mine > /etc/hosts; grep -c mine /etc/hosts"
    path = f"{runtime_step.rootfs}/etc/hosts"
    with open(path, "w", encoding="ascii") as stream:
        stream.write("10.1.1.1 images\n")
    before = os.stat(path)
    assert runtime_step.text("cat /etc/hosts", network="none").find("images") == -1
    assert runtime_step.text(line, network="none") == "1\n"
    with open(path, encoding="ascii") as stream:
        assert stream.read() == "10.1.1.1 images\n"
    assert (os.stat(path).st_mode, os.stat(path).st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@row("S53")
def test_what_is_written_to_etc_hostname_is_kept(runtime_step):
    assert runtime_step.text("echo mine > /etc/hostname && cat /etc/hostname") == "mine\n"
    with open(f"{runtime_step.rootfs}/etc/hostname", encoding="ascii") as stream:
        assert stream.read() == "mine\n"


# X69: secrets that can be executed

TOOL = "#!/bin/sh\necho I ran as $(id -u)\n"


@row("X69")
@pytest.mark.parametrize(
    ("mode", "uid", "ran"), [(0o755, 0, True), (0o100, 0, True), (0o555, 1000, True), (0o644, 0, False)]
)
def test_a_secret_is_executed_by_its_mode(ask, host, mode, uid, ran):
    made = plan(ask(run_mounts=(RunMount("secret", target="/run/tool", id="x", mode=mode, uid=uid),)), host)
    (mount,) = (item for item in made.spec["mounts"] if item["destination"] == "/run/tool")
    assert ("noexec" not in mount["options"]) == ran
    assert {"ro", "nosuid", "nodev"} <= set(mount["options"])


@row("X69")
@pytest.mark.parametrize("mode", [0o755, 0o500])
def test_a_secret_with_an_execute_bit_runs(runtime_step, mode):
    if not remote(runtime_step):
        from run_step import Inputs, LocalExecutor, Secret, look_up

        request = runtime_step.request(
            "/bin/sh",
            "-c",
            "/run/tool",
            run_mounts=(RunMount("secret", target="/run/tool", id="tool", mode=mode),),
        )
        executor: LocalExecutor = runtime_step.executor
        seen = []
        result = executor.execute(
            plan(request, look_up(request, executor.host(runtimes=False))),
            runtime_step.rootfs,
            output=lambda _, data: seen.append(data),
            inputs=Inputs({}, {"tool": Secret(TOOL.encode())}, {}),
        )
        assert (result.status, b"".join(seen)) == (0, b"I ran as 0\n")
        return
    mounts = (RunMount("secret", target="/run/tool", id=TOOL, mode=mode),)
    assert runtime_step.text("/run/tool", run_mounts=mounts) == "I ran as 0\n"


# S80: the read-only root filesystem of the plugin guide


def run_read_only(step, line, **fields):
    """Run a line with the guide's stage behind the others; its status and what it printed."""
    request = step.request("/bin/sh", "-c", line, **fields)
    if remote(step):
        status = step.ask(request, read_only=True)["result"]["status"]
        return status, step.stdout.decode()
    made = plan(
        request, look_up(request, step.executor.host(runtimes=False)), stages=(*STAGES, read_only_root)
    )
    seen = {"stdout": [], "stderr": []}
    result = step.executor.execute(
        made, step.rootfs, output=lambda name, data: seen[name].append(data), timeout=60
    )
    return result.status, b"".join(seen["stdout"]).decode()


WRITES = (
    "for place in / /etc /tmp /home/bob; do touch $place/x 2>&1 | grep -c 'Read-only file system'; done;"
    " rm /etc/passwd 2>&1 | grep -c 'Read-only file system';"
    " chmod 777 /etc 2>&1 | grep -c 'Read-only file system';"
    " echo x > /etc/passwd 2>/dev/null && echo written;"
    " mount -o remount,rw / 2>/dev/null && touch /x 2>/dev/null && echo written;"
    " echo shm > /dev/shm/x && cat /dev/shm/x; echo mnt > /mnt/y && cat /mnt/y; echo z > /dev/null && echo null"
)


@pytest.mark.parametrize("fields", [{}, {"cap_add": ("SYS_ADMIN",)}], ids=["", "able to mount"])
def test_the_guides_stage_keeps_the_step_from_writing(runtime_step, fields):
    """EROFS in every isolation; what is mounted in the step stays writable, and the image as it was. Who may mount may
    mount it writable again: that is the privilege that was asked for."""
    assert runtime_step.run("true").status == 0  # what runtimes leave behind is there then
    before = listing(runtime_step.rootfs)
    more = {"mounts": ("type=tmpfs,dst=/mnt",), **fields}
    status, text = run_read_only(runtime_step, WRITES, **more)
    if fields:
        assert text.split()[:6] == [*"111111"]
        return
    assert (status, text.split()) == (0, [*"111111", "shm", "mnt", "null"])
    assert listing(runtime_step.rootfs) == before


# S67: supplementary groups


@row("S67")
def test_groups_of_the_image_and_those_asked_for(runtime_step):
    line = "id -G; grep ^Groups /proc/self/status"
    text = runtime_step.text(line, user="bob", group_add=("77", "nohome"))
    assert set(text.split()) == {"1000", "29", "50", "77", "1001", "Groups:"}


@row("S67")
def test_a_socket_of_a_group(runtime_step, tmp_path):
    """mode=0660,gid=…: its group opens it, and nobody else."""
    mounts = (RunMount("ssh", target="/run/agent", id="default", mode=0o660, uid=0, gid=77),)
    if not remote(runtime_step):
        made = runtime_step.plan("/bin/true", run_mounts=mounts, user="bob", group_add=("77",))
        assert 77 in made.spec["process"]["user"]["additionalGids"]
        return
    line = "[ -w /run/agent ] && echo open || echo closed"
    assert runtime_step.text(line, user="bob", group_add=("77",), run_mounts=mounts) == "open\n"
    assert runtime_step.text(line, user="bob", run_mounts=mounts) == "closed\n"


def user_host(host, **more):
    return replace(host, uid=1000, gid=1000, subuids=((100000, 65536),), subgids=((100000, 65536),), **more)


@row("S67")
@pytest.mark.parametrize("isolation", ["rootless", "chroot"])
def test_a_group_that_the_namespace_lacks(ask, host, isolation):
    facts = user_host(host)
    with pytest.raises(HostError, match=r"group 70000 does not exist in the step's user namespace.*subgid"):
        plan(ask(isolation=isolation, network="host", group_add=("70000",)), facts)


NO_RANGES = {"subuids": (), "subgids": ()}
ONE_ID = ((0, 1000, 1),)
INSIDE = {"uid": 0, "gid": 0, "uid_map": ONE_ID, "gid_map": ONE_ID, "has_setgroups": False}


@row("S67")
@pytest.mark.parametrize("isolation", ["rootless", "chroot"])
@pytest.mark.parametrize("denied", [NO_RANGES, INSIDE])
def test_groups_that_cannot_be_set_without_setgroups(ask, host, rootfs, isolation, denied):
    """What was asked for is an error; the image's own groups of its root are left out, with one warning."""
    facts = replace(user_host(host), **denied)
    with open(f"{rootfs}/etc/group", "a", encoding="ascii") as stream:
        stream.write("disk:x:6:root\n")
    with pytest.raises(HostError, match=r"group 77 can't be set: .*setgroups.*--group-add"):
        plan(ask(isolation=isolation, network="host", group_add=("77",)), facts)
    made = plan(ask(isolation=isolation, network="host"), facts)
    assert "additionalGids" not in made.spec["process"]["user"]
    assert [text for text in made.warnings if "without the group 6" in text]


@row("S67")
def test_the_builders_own_groups_as_the_namespace_has_them(ask, host):
    facts = user_host(host, groups=(100005, 1000, 27))
    made = plan(ask(isolation="rootless", network="host", group_add=("keep-groups",)), facts)
    assert made.spec["process"]["user"]["additionalGids"] == [0, 6, 27]


@row("S67")
def test_steps_of_root_with_a_user_namespace_keep_theirs(ask, host):
    from run_step import IDMapping

    maps = {"uid_map": (IDMapping(0, 100000, 1000),), "gid_map": (IDMapping(0, 100000, 1000),)}
    made = plan(ask(user="0", group_add=("50",), **maps), host)
    assert made.spec["process"]["user"]["additionalGids"] == [0, 50]
    with pytest.raises(HostError, match="group 5000 does not exist"):
        plan(ask(user="0", group_add=("5000",), **maps), host)
