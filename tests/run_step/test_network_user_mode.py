"""Row S77: slirp4netns and pasta connect a step without powers over the machine; their end is told, and nothing of
the host's loopback is reached. The first part on this machine, the second on one of the test's own (see lab.py)."""

import os
import pathlib
import shutil
import signal
import socket
import sys
import tempfile
import threading
from dataclasses import replace

import as_user
import pytest
from busybox_root import marker, processes, why_not_run
from lab import DNS6, HOST4, HOST6, NAME, lab
from lab_step import WEB, LabStep
from rows import row
from watching import until
from ways import made_up_host

from run_step import HostError, NamespaceOption, RunRequest, execute, plan

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_not_run()), reason=why_not_run())]


@pytest.fixture
def tmp_path(open_path):
    return open_path


@pytest.fixture
def host():
    return replace(made_up_host(), has_slirp4netns=True, has_pasta=True)


@pytest.fixture
def step(confined_step):
    if hasattr(confined_step, "_host"):
        confined_step._host |= {"has_slirp4netns": True, "has_pasta": True}
    return confined_step


@pytest.fixture(params=["slirp4netns", "pasta"])
def network(request):
    return request.param


def helpers(step, network):
    """The processes of the network of the work directory of ``step``."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/comm", encoding="utf-8") as comm:
                if comm.read().strip().partition(".")[0].replace("passt", "pasta") != network:
                    continue
            with open(f"/proc/{name}/cmdline", encoding="utf-8", errors="replace") as words:
                if step.work_dir in words.read() + os.readlink(f"/proc/{name}/fd/1"):
                    found.append(int(name))
        except OSError:
            pass  # no process, or one that has just ended
    return found


@row("S77", "S02")
def test_a_step_is_connected(step, network):
    text = step.text("cat /proc/net/dev /proc/net/route; ls /proc/self/fd", network=network)
    assert "tap0:" in text and "0202000A" in text  # the gateway 10.0.2.2
    assert [line for line in text.splitlines() if line.isdigit()] == ["0", "1", "2", "3"]


@row("S77")
def test_its_own_resolver_comes_first(step, network):
    words = step.text("cat /etc/resolv.conf", network=network).split()
    assert words[words.index("nameserver") + 1] == "10.0.2.3"


@row("S77")
def test_the_hosts_loopback_is_out_of_reach(step, network):
    with socket.socket(socket.AF_INET6) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", 0))
        server.listen()
        port = server.getsockname()[1]
        hosts = "10.0.2.2 127.0.0.1 ::1 fe80::2%tap0"
        probe = f"nc -w 1 $a {port} </dev/null >/dev/null 2>&1 && echo reached $a"
        line = f"for a in {hosts}; do {{ {probe}; }} & done; wait; echo end"
        assert step.text(line, network=network) == "end\n"


@row("S77")
def test_the_end_of_the_helper_ends_the_step(step, network):
    nap = marker()
    killer = threading.Thread(target=lambda: until(lambda: processes(nap)) and kill(helpers(step, network)))
    killer.start()
    words = f"the step's network ended before the step did: {network} was killed by SIGKILL$"
    with pytest.raises(HostError, match=words):
        step.run(f"sleep {nap}", network=network, timeout=30)
    killer.join()
    assert processes(nap) == []


def kill(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@row("S77", "S76")
def test_nothing_of_a_helper_for_networks_remains(step, network):
    assert step.run("exit 3", network=network).status == 3
    step.run("sleep 60", network=network, timeout=0.5)
    assert helpers(step, network) == []
    assert os.listdir(step.work_dir) == []


@row("S77")
def test_its_descriptors_are_its_own(step, network):
    """It holds its log, its tap device, the namespace and sockets, and nothing of the builder's."""
    nap = marker()
    seen = []

    def look():
        until(lambda: processes(nap))
        for pid in helpers(step, network):
            fds = os.listdir(f"/proc/{pid}/fd")
            seen.extend(os.readlink(f"/proc/{pid}/fd/{fd}") for fd in fds)
        kill([pid for pid in processes(nap)])

    looker = threading.Thread(target=look)
    looker.start()
    step.run(f"sh -c 'exec sleep {nap}'; true", network=network, timeout=30)
    looker.join()
    assert seen
    own = (
        "/dev/null",
        "/dev/net/tun",
        "net:[",
        "socket:[",
        "anon_inode:",
        f"{step.work_dir}/",
        "/dev/zero",
        "pipe:[",
    )
    own = (*own, "/memfd:", "user:[")
    assert [name for name in seen if not name.startswith(own)] == []
    assert [name for name in seen if "lease" in name or "secret" in name] == []


@row("S77")
@pytest.mark.parametrize(
    ("script", "match"),
    [
        ("echo no tap here >&2; exit 1", "it ended with exit status 1: no tap here$"),
        ("seq 7; echo Failed to send 9 bytes to syslog; exit 2", "it ended with exit status 2: 6; 7$"),
        ("exit 1", "it ended with exit status 1$"),
        ("kill -ABRT $$", "it was killed by SIGABRT$"),
        ("exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exit 4", "it ended with exit status 4$"),
    ],
)
def test_a_helper_that_ends_early_is_quoted(rootfs, host, network, script, match, tmp_path, monkeypatch):
    replace_helper(tmp_path, network, script, monkeypatch)
    request = RunRequest(("/bin/true",), rootfs, isolation="chroot", network=network)
    with pytest.raises(HostError, match=f"{network} could not connect the step: {match}"):
        execute(plan(request, host), rootfs)


def replace_helper(tmp_path, network, script, monkeypatch):
    path = tmp_path / "bin" / network
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")


READY = """\
echo of the start
while [ $# -gt 0 ]; do
  case $1 in
    -r) echo 1 >/proc/self/fd/$2 ;;
    -P) echo 1 >$2 ;;
  esac
  shift
done
"""


@row("S77")
@pytest.mark.parametrize(
    ("script", "match"),
    [
        ("exit 3", "ended with exit status 3$"),
        ("echo sent tapfd=6; kill -TERM $$", "was killed by SIGTERM$"),
        ("seq 9 >&2; echo received tapfd=6; exit 0", "ended with exit status 0: 8; 9$"),
    ],
)
def test_a_helper_that_ends_later_is_quoted(rootfs, host, network, script, match, tmp_path, monkeypatch):
    """Without what it said of its start."""
    nap = marker()
    go = tmp_path / "go"
    os.mkfifo(go)
    replace_helper(tmp_path, network, f"{READY}\n: <{go}\n{script}", monkeypatch)
    request = RunRequest(("/bin/sh", "-c", f"sleep {nap}"), rootfs, isolation="chroot", network=network)
    opener = threading.Thread(target=lambda: until(lambda: processes(nap)) and go.write_text(""), daemon=True)
    opener.start()
    with pytest.raises(HostError, match=f"the step's network ended before the step did: {network} {match}"):
        execute(plan(request, host), rootfs)
    opener.join()
    assert processes(nap) == []


@row("S77")
def test_a_helper_that_is_never_ready_is_given_up(rootfs, host, network, tmp_path, monkeypatch):
    """The end is asked for meanwhile."""
    nap = marker()
    replace_helper(tmp_path, network, f"exec sleep {nap}", monkeypatch)
    request = RunRequest(("/bin/true",), rootfs, isolation="chroot", network=network)
    assert execute(plan(request, host), rootfs, timeout=0.5).timed_out
    assert until(lambda: not processes(nap))


@row("S77")
@pytest.mark.parametrize(("name", "package"), [("slirp4netns", "slirp4netns"), ("pasta", "passt")])
def test_a_missing_helper_is_told(rootfs, host, monkeypatch, name, package):
    request = RunRequest(("/bin/true",), rootfs, isolation="chroot", network=name)
    with pytest.raises(
        HostError, match=f"{name} was not found on PATH; install {package}, or use --network host"
    ):
        plan(request, made_up_host())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        HostError, match=f"{name} was not found on PATH; install (it|{package}), or use --network"
    ):
        execute(plan(request, host), rootfs)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    with lab(tmp_path_factory.mktemp("lab")) as made:
        made.resolv.chmod(0o644)
        yield made


@pytest.fixture(scope="module", params=["chroot as root", "chroot as a user", "rootless as a user"])
def lab_step(request, machine):
    """A step on the machine of a lab, whose resolver is the lab's."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="step-"))  # which a user can reach; pytest's own are closed
    path.chmod(0o755)
    made = LabStep(machine, path, request.param.split()[0], user="user" in request.param)
    yield made
    made.close()
    shutil.rmtree(path)


@row("S77")
def test_a_server_is_reached_by_name(lab_step, network):
    assert lab_step.text("family=v4 fetch web a", network=network, add_hosts=WEB) == (
        f"peer=::ffff:{HOST4} path=/a host=web\n"
    )


@row("S77")
def test_pasta_has_IPv6(lab_step):
    text = lab_step.text("fetch web6 b; ip -6 route", network="pasta", add_hosts=WEB)
    assert text.startswith("peer=2001:db8:1::2 path=/b host=web6\n")


@row("S77")
def test_names_are_looked_up_through_its_resolver(lab_step, network):
    """10.0.2.3 leads to the machine's own name server."""
    text = lab_step.text(f"fetch {NAME}; nslookup {NAME} 10.0.2.3", network=network)
    assert f"host={NAME}" in text and "203.0.113.80" in text


@row("S51")
def test_given_servers_are_asked_in_its_place(lab_step, network):
    fields = {"dns": ("203.0.113.53",), "dns_search": ("corp.test",), "dns_options": ("timeout:2",)}
    text = lab_step.text("cat /etc/resolv.conf; family=v4 fetch web", network=network, **fields)
    assert text.startswith("search corp.test\nnameserver 203.0.113.53\noptions timeout:2\n")
    assert "host=web" in text


@row("S51")
def test_a_resolver_on_the_loopback_is_replaced(machine, tmp_path, network):
    """The machine asks one on its own loopback: the step asks the network's, and never the loopback's address."""
    machine.resolv.write_text("nameserver 127.0.0.53\nsearch corp.test\n")
    step = LabStep(machine, tmp_path, "chroot", user=True)
    try:
        assert step.text("cat /etc/resolv.conf", network=network) == "search corp.test\nnameserver 10.0.2.3\n"
    finally:
        step.close()
        machine.resolv.write_text("nameserver 203.0.113.53\n")


@row("S51")
@pytest.mark.parametrize("text", ["", "nameserver fe80::1%eth0\n"])
def test_a_machine_without_a_name_server_for_the_step_is_a_warning(machine, tmp_path, network, text):
    machine.resolv.write_text(text)
    step = LabStep(machine, tmp_path, "chroot", user=True)
    try:
        (warning,) = step.warned("cat /etc/resolv.conf", network=network)
        assert warning.endswith("; give one with --dns") and step.stdout == b""
    finally:
        step.close()
        machine.resolv.write_text("nameserver 203.0.113.53\n")


@row("S77")
def test_a_machine_without_tap_devices_is_told(machine, tmp_path):
    """In the mount namespace of the lab."""
    code = "from run_step import examine; print([i.detail for i in examine() if i.what in ('slirp4netns', 'pasta')])"
    python = ["env", f"PYTHONPATH={os.path.join(as_user.PROJECT, 'plugins')}", sys.executable, "-c"]
    assert machine.run(*python, code) == "['found', 'found']\n"
    machine.run("mount", "-t", "tmpfs", "none", "/dev/net")
    step = LabStep(machine, tmp_path, "chroot")
    try:
        for network in ("slirp4netns", "pasta"):
            why = "/dev/net/tun can't be opened: No such file or directory; load the kernel module tun"
            with pytest.raises(
                HostError, match=f"{network} needs a tap device, but {why}.*; or use --network host"
            ):
                step.run("true", network=network)
        assert machine.run(*python, code).count(why) == 2
    finally:
        step.close()
        machine.run("umount", "/dev/net")


@pytest.fixture(scope="module")
def six_machine(tmp_path_factory):
    """One that IPv6 alone leads out of, with name servers of IPv6."""
    with lab(tmp_path_factory.mktemp("six")) as made:
        made.run("ip", "addr", "del", f"{HOST4}/24", "dev", "eth0")
        made.resolv.write_text(f"nameserver {DNS6}\n")
        made.resolv.chmod(0o644)
        yield made


@row("S42")
@pytest.mark.parametrize(("isolation", "network"), [("rootless", "default"), ("chroot", "private")])
def test_a_machine_of_IPv6_alone_has_pasta(six_machine, tmp_path, isolation, network):
    """Names are found at once: nobody is asked who does not answer."""
    step = LabStep(six_machine, tmp_path, isolation, user=True)
    try:
        line = f"cat /etc/resolv.conf; cut -d. -f1 /proc/uptime; family=v6 fetch {NAME} a; cut -d. -f1 /proc/uptime"
        server, before, got, after = step.text(line, network=network).splitlines()
        assert server == f"nameserver {DNS6}"
        assert got == f"peer={HOST6} path=/a host={NAME}"
        assert int(after) - int(before) < 4  # a resolver waits for 5 s
    finally:
        step.close()


@row("S51")
def test_servers_of_IPv6_are_out_of_reach_of_slirp4netns(six_machine, tmp_path):
    step = LabStep(six_machine, tmp_path, "chroot", user=True)
    try:
        warnings = step.warned("true", network="slirp4netns")
        assert any("only IPv6 leads out of this machine; use --network pasta" in text for text in warnings)
        assert any(f"does not reach the host's name servers ({DNS6})" in text for text in warnings)
    finally:
        step.close()


@row("S50")
def test_the_containers_own_name_is_its_address(lab_step, network):
    text = lab_step.text(
        "cat /etc/hosts", network=network, hostname="mine", namespaces=(NamespaceOption("uts"),)
    )
    if lab_step.isolation != "rootless":  # which has the host's name
        assert "10.0.2.100\tmine\n" in text


@row("S50")
def test_the_machine_is_reached_by_its_address(lab_step, network):
    """What listens for others there, that is; its loopback is not for them."""
    port = lab_step.lab.serve("::")
    text = lab_step.text(f"family=v4 fetch gw:{port}", network=network, add_hosts=("gw:host-gateway",))
    assert text.startswith(f"peer=::ffff:{HOST4} ")


@row("S77")
def test_a_private_network_of_a_user_is_in_user_space(machine, tmp_path):
    step = LabStep(machine, tmp_path, "chroot", user=True)
    try:
        plan = step.ask(step.request("true", network="private"), run=False)["plan"]
        assert plan["network"]["mode"] == "slirp4netns"
        for name in ("bridge", "front"):
            with pytest.raises(HostError, match="use --network slirp4netns, pasta, host or none"):
                step.run("true", network=name)
    finally:
        step.close()
