"""Row S77: slirp4netns and pasta connect a step without powers over the machine; their end is told, and nothing of
the host's loopback is reached. The first part on this machine, the second on one of the test's own (see lab.py)."""

import os
import pathlib
import shutil
import signal
import socket
import tempfile
import threading
from dataclasses import replace

import pytest
from busybox_root import marker, processes, why_not_run
from lab import HOST4, NAME, lab
from lab_step import WEB, LabStep
from watching import until
from ways import made_up_host

from run_step import HostError, RunRequest, execute, plan

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


def test_S77_a_step_is_connected(step, network):
    text = step.text("cat /proc/net/dev /proc/net/route; ls /proc/self/fd", network=network)
    assert "tap0:" in text and "0202000A" in text  # the gateway 10.0.2.2
    assert [line for line in text.splitlines() if line.isdigit()] == ["0", "1", "2", "3"]


def test_S77_its_own_resolver_comes_first(step, network):
    words = step.text("cat /etc/resolv.conf", network=network).split()
    assert words[words.index("nameserver") + 1] == "10.0.2.3"


def test_S77_the_hosts_loopback_is_out_of_reach(step, network):
    with socket.socket(socket.AF_INET6) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", 0))
        server.listen()
        port = server.getsockname()[1]
        hosts = "10.0.2.2 127.0.0.1 ::1 fe80::2%tap0"
        probe = f"nc -w 1 $a {port} </dev/null >/dev/null 2>&1 && echo reached $a"
        line = f"for a in {hosts}; do {{ {probe}; }} & done; wait; echo end"
        assert step.text(line, network=network) == "end\n"


def test_S77_the_end_of_the_helper_ends_the_step(step, network):
    nap = marker()
    killer = threading.Thread(target=lambda: until(lambda: processes(nap)) and kill(helpers(step, network)))
    killer.start()
    with pytest.raises(HostError, match="the step's network ended before the step did"):
        step.run(f"sleep {nap}", network=network, timeout=30)
    killer.join()
    assert processes(nap) == []


def kill(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_S77_nothing_of_it_remains(step, network):
    assert step.run("exit 3", network=network).status == 3
    step.run("sleep 60", network=network, timeout=0.5)
    assert helpers(step, network) == []
    assert os.listdir(step.work_dir) == []


def test_S77_its_descriptors_are_its_own(step, network):
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


@pytest.mark.parametrize(
    ("script", "match"),
    [
        ("echo no tap here >&2; exit 1", "could not connect the step: no tap here"),
        ("exit 1", "could not connect the step: it said nothing"),
        ("kill -ABRT $$", "could not connect the step"),
    ],
)
def test_S77_a_helper_that_ends_early_is_quoted(rootfs, host, network, script, match, tmp_path, monkeypatch):
    path = tmp_path / "bin" / network
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    request = RunRequest(("/bin/true",), rootfs, isolation="chroot", network=network)
    with pytest.raises(HostError, match=f"{network} {match}"):
        execute(plan(request, host), rootfs)


def test_S77_a_helper_that_is_never_ready_is_given_up(rootfs, host, network, tmp_path, monkeypatch):
    """The end is asked for meanwhile."""
    nap = marker()
    path = tmp_path / "bin" / network
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\nexec sleep {nap}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    request = RunRequest(("/bin/true",), rootfs, isolation="chroot", network=network)
    assert execute(plan(request, host), rootfs, timeout=0.5).timed_out
    assert until(lambda: not processes(nap))


@pytest.mark.parametrize(("name", "package"), [("slirp4netns", "slirp4netns"), ("pasta", "passt")])
def test_S77_a_missing_helper_is_told(rootfs, host, monkeypatch, name, package):
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


def test_S77_a_server_is_reached_by_name(lab_step, network):
    assert lab_step.text("family=v4 fetch web a", network=network, add_hosts=WEB) == (
        f"peer=::ffff:{HOST4} path=/a host=web\n"
    )


def test_S77_pasta_has_IPv6(lab_step):
    text = lab_step.text("fetch web6 b; ip -6 route", network="pasta", add_hosts=WEB)
    assert text.startswith("peer=2001:db8:1::2 path=/b host=web6\n")


def test_S77_names_are_looked_up_through_its_resolver(lab_step, network):
    """10.0.2.3 leads to the machine's own name server."""
    text = lab_step.text(f"fetch {NAME}; nslookup {NAME} 10.0.2.3", network=network)
    assert f"host={NAME}" in text and "203.0.113.80" in text


def test_S51_given_servers_are_asked_in_its_place(lab_step, network):
    fields = {"dns": ("203.0.113.53",), "dns_search": ("corp.test",), "dns_options": ("timeout:2",)}
    text = lab_step.text("cat /etc/resolv.conf; family=v4 fetch web", network=network, **fields)
    assert text.startswith("search corp.test\nnameserver 203.0.113.53\noptions timeout:2\n")
    assert "host=web" in text


def test_S51_a_resolver_on_the_loopback_is_replaced(machine, tmp_path, network):
    """The machine asks one on its own loopback: the step asks the network's, and never the loopback's address."""
    machine.resolv.write_text("nameserver 127.0.0.53\nsearch corp.test\n")
    step = LabStep(machine, tmp_path, "chroot", user=True)
    try:
        assert step.text("cat /etc/resolv.conf", network=network) == "search corp.test\nnameserver 10.0.2.3\n"
    finally:
        step.close()
        machine.resolv.write_text("nameserver 203.0.113.53\n")


def test_S50_the_containers_own_name_is_its_address(lab_step, network):
    text = lab_step.text("cat /etc/hosts", network=network, hostname="mine", namespaces=({"name": "uts"},))
    if lab_step.isolation != "rootless":  # which has the host's name
        assert "10.0.2.100\tmine\n" in text


def test_S50_the_machine_is_reached_by_its_address(lab_step, network):
    """What listens for others there, that is; its loopback is not for them."""
    port = lab_step.lab.serve("::")
    text = lab_step.text(f"family=v4 fetch gw:{port}", network=network, add_hosts=("gw:host-gateway",))
    assert text.startswith(f"peer=::ffff:{HOST4} ")


def test_S77_a_private_network_of_a_user_is_in_user_space(machine, tmp_path):
    step = LabStep(machine, tmp_path, "chroot", user=True)
    try:
        plan = step.ask(step.request("true", network="private"), run=False)["plan"]
        assert plan["network"]["mode"] == "slirp4netns"
        for name in ("bridge", "front"):
            with pytest.raises(HostError, match="use --network slirp4netns, pasta, host or none"):
                step.run("true", network=name)
    finally:
        step.close()
