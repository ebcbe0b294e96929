"""Row X79: the built-in bridge, on a machine of the test's own (see lab.py): real traffic, and nothing remains."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import as_user
import pytest
from busybox_root import marker, processes, why_not_run
from lab import HOST4, HOST6, NAME, PRISTINE, ROUTER4, WEB4, WEB6, lab
from lab_step import WAYS, WEB, LabStep
from rows import row
from watching import until

from run_step import HostError, NamespaceOption
from run_step.network.bridge import _MARK as MARK

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_not_run()), reason=why_not_run())]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    with lab(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module", params=WAYS)
def step(request, machine, tmp_path_factory):
    """Steps of one builder; when it has ended nothing remains."""
    made = LabStep(machine, tmp_path_factory.mktemp("step"), request.param)
    yield made
    made.close()
    assert machine.left() == PRISTINE


@row("X79")
def test_a_server_is_reached_by_name_over_both_families(step):
    text = step.text("fetch web a; fetch web6 b", network="bridge", add_hosts=WEB)
    assert text == f"peer=::ffff:{HOST4} path=/a host=web\npeer={HOST6} path=/b host=web6\n"


@row("X79")
def test_a_private_network_is_the_bridge_where_no_CNI_is_configured(step):
    plan = step.ask(step.request("true", network="private"), run=False)["plan"]
    assert plan["network"]["mode"] == "bridge"
    assert step.text(f"fetch {WEB4}", network="private").startswith(f"peer=::ffff:{HOST4} ")


@row("X79")
def test_the_step_has_an_address_of_each_family_and_a_way_out(step):
    text = step.text("ip -o addr; ip route; ip -6 route; cat /proc/net/dev", network="bridge")
    assert "inet 10.213." in text and "inet6 fd62:7569:6c64::" in text
    assert "default via 10.213.0.1 dev eth0" in text and "default via fd62:7569:6c64::1 dev eth0" in text
    assert "inet 127.0.0.1/8" in text
    names = {line.partition(":")[0].strip() for line in text.splitlines() if ":" in line}
    assert {"lo", "eth0"} <= names


@row("X79")
def test_the_machine_forwards_meanwhile(step):
    step.run("true", network="bridge")
    left = step.lab.left()
    assert left["forward"] == ("1", "1")
    assert sorted(left["tables"]) == ["table ip buildfront", "table ip6 buildfront"]
    assert "buildfront0" in left["links"]
    assert [name for name in left["leases"] if name.startswith("lease-")] == []


@row("S50")
def test_the_machine_is_reached_by_host_gateway(step):
    port = step.lab.serve("::")
    added = ("gw:host-gateway", "host.containers.internal:host-gateway")
    line = f"family=v4 fetch gw:{port}; family=v6 fetch host.containers.internal:{port}; cat /etc/hosts"
    text = step.text(line, network="bridge", add_hosts=added)
    assert text.count("peer=") == 2 and f"host=gw:{port}" in text
    assert "10.213.0.1\tgw\n" in text and "fd62:7569:6c64::1\tgw\n" in text


@row("S50")
def test_the_containers_own_name_is_its_address(step):
    text = step.text(
        "cat /etc/hosts; ip -o addr show dev eth0",
        network="bridge",
        hostname="mine",
        namespaces=(NamespaceOption("uts"),),
    )
    own = [line.split()[0] for line in text.splitlines() if line.endswith("\tmine")]
    assert len(own) == 2
    for address in own:
        assert f" {address}/" in text


@row("S51")
def test_a_real_server_answers_with_search_and_options(step):
    line = "cat /etc/resolv.conf; fetch web"
    fields = {"dns": ("203.0.113.53",), "dns_search": ("corp.test",), "dns_options": ("timeout:2", "ndots:1")}
    text = step.text(line, network="bridge", **fields)
    head = "search corp.test\nnameserver 203.0.113.53\noptions timeout:2 ndots:1\n"
    assert text.startswith(head) and "host=web" in text
    assert "host=" + NAME in step.text(f"fetch {NAME}", network="bridge", dns=("2001:db8:80::53",))


@row("S51")
def test_the_hosts_own_servers_without_options(step):
    assert "host=" + NAME in step.text(f"fetch {NAME}", network="bridge")


@row("S44")
def test_root_may_ping(step):
    ping = f"ping -c 1 -W 5 {WEB4} >/dev/null && ping6 -c 1 -W 5 {WEB6} >/dev/null && echo answered"
    assert step.text(ping, network="bridge") == "answered\n"
    assert step.text("cat /proc/sys/net/ipv4/ping_group_range", network="bridge").split() == ["0", "0"]


@row("X79")
def test_steps_do_not_reach_each_other(step, tmp_path):
    """One listens, and says so by answering the machine; another's connection does not come through."""
    other = LabStep(step.lab, tmp_path, step.isolation)
    nap = marker()
    line = f"ip -o -4 addr show dev eth0; nc -l -p 7777 -e echo hello & sleep {nap}"
    out = []
    thread = threading.Thread(target=lambda: out.append(other.run(line, network="bridge", timeout=30)))
    thread.start()
    try:
        assert until(lambda: processes(nap))
        leases = [name for name in os.listdir(step.lab.state) if name.startswith("lease-")]
        (number,) = (int(name.removeprefix("lease-")) for name in leases)
        address = f"10.213.{number >> 8}.{number & 255}"
        line = f"nc -w 1 {address} 7777 </dev/null || echo unreachable"
        around = f"ip route add {address} via 10.213.0.1 && {line}"
        text = step.text(f"{line}; {around}", network="bridge", cap_add=("NET_ADMIN",))
        assert text == "unreachable\nunreachable\n"
        heard = f"import socket; print(socket.create_connection(({address!r}, 7777), 10).recv(9))"
        assert "hello" in step.lab.run(sys.executable, "-c", heard)
    finally:
        for pid in processes(nap):
            os.kill(pid, signal.SIGKILL)
        thread.join()
        other.close()


@row("X79")
@pytest.mark.parametrize("network", ["none", "host"])
def test_none_and_host_need_no_bridge(step, network):
    line = f"cat /proc/net/dev; ip route; fetch {WEB4}"
    text = step.text(line, network=network)
    if network == "host":
        assert f"peer=::ffff:{HOST4} " in text and "eth0" in text
    else:
        assert "peer=" not in text and "eth0" not in text and "lo:" in text and "default" not in text


@row("X79")
def test_none_has_its_loopback_up(step):
    line = "nc -l -p 7000 -e echo hi & until nc 127.0.0.1 7000 </dev/null; do :; done; ip route; ip -6 route"
    text = step.text(line, network="none")
    assert text.startswith("hi\n") and "default" not in text and "eth0" not in text


@row("X79")
def test_a_namespace_by_its_path(step):
    """It is used as it is: somebody else's, and not torn down."""
    path = f"/proc/{step.lab.outside_pid}/ns/net"
    text = step.text(f"fetch {WEB4}", network=f"ns:{path}")
    assert text.startswith("peer=::ffff:203.0.113.80 ")
    assert "up0" in step.text("cat /proc/net/dev", network=f"ns:{path}")


@row("X79")
def test_a_path_that_is_no_namespace_is_told(step):
    with pytest.raises(HostError, match=r"/etc/passwd|namespace"):
        step.run("true", network="ns:/etc/passwd")


@row("X79", "S76")
def test_a_command_that_fails_or_is_killed_gives_its_address_back(step):
    assert step.run("exit 3", network="bridge").status == 3
    assert step.run("sleep 60", network="bridge", timeout=0.5).timed_out
    assert not [name for name in os.listdir(step.lab.state) if name.startswith("lease-")]
    assert not [name for name in step.lab.left()["links"] if name.startswith("bf")]


@row("X79")
def test_the_settings_come_back_and_what_others_changed_stays(tmp_path):
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_ra")
        step = LabStep(machine, tmp_path, "chroot")
        step.run("true", network="bridge")
        assert machine.setting("ipv6/conf/eth0/accept_ra") == "2"  # forwards and still listens to routers
        step.close()
        assert machine.setting("ipv6/conf/eth0/accept_ra") == "1" and machine.left() == PRISTINE
        machine.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        step = LabStep(machine, tmp_path, "chroot")
        step.run("true", network="bridge")
        step.close()
        assert machine.left() == PRISTINE | {"forward": ("1", "0")}


@row("X79")
def test_a_machine_that_somebody_else_forwards_by_meanwhile_goes_on(tmp_path):
    """As docker, which starts while a build runs: it finds the setting as it wants it, and changes nothing."""
    with lab(tmp_path / "lab", dns=False) as machine:
        step = LabStep(machine, tmp_path, "chroot")
        step.run("true", network="bridge")
        machine.run("ip", "link", "add", "theirs0", "type", "bridge")
        step.close()
        links = ["eth0", "lo", "theirs0"]
        assert machine.left() == PRISTINE | {"forward": ("1", "1"), "links": links}


@row("X79")
def test_a_machine_without_IPv6_gives_IPv4(tmp_path):
    with lab(tmp_path / "lab", ipv6=False, dns=False) as machine:
        machine.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
        step = LabStep(machine, tmp_path, "chroot")
        text = step.text("cat /etc/hosts; fetch web", network="bridge", add_hosts=WEB)
        assert f"peer=::ffff:{HOST4} " in text
        step.close()
        assert machine.left() == PRISTINE


@row("X79")
def test_a_network_in_use_is_passed_over(tmp_path):
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run("ip", "link", "add", "taken", "type", "bridge")
        machine.run("ip", "addr", "add", "10.213.7.1/24", "dev", "taken")
        machine.run("ip", "link", "set", "taken", "up")
        machine.run("ip", "route", "add", "blackhole", "10.214.0.0/15")
        step = LabStep(machine, tmp_path, "chroot")
        text = step.text(f"ip -o -4 addr; fetch {WEB4}", network="bridge")
        step.close()
        assert "inet 10.216." in text and f"peer=::ffff:{HOST4} " in text


@row("X79")
def test_where_nothing_can_be_translated_that_is_said_and_the_machine_is_reached(tmp_path):
    """Tables of the names that we want belong to somebody else (nft(8), "flags owner"), so ours can't be made."""
    with lab(tmp_path / "lab", dns=False) as machine:
        nft = subprocess.Popen(
            [*machine.prefix, "nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for family in ("ip", "ip6"):
            nft.stdin.write(f"add table {family} buildfront {{ flags owner; }}\n")
        nft.stdin.write("list tables\n")
        nft.stdin.flush()
        assert any("ip6 buildfront" in line for line in nft.stdout)
        step = LabStep(machine, tmp_path, "chroot")
        port = machine.serve("::")
        fields = {"network": "bridge", "add_hosts": ("gw:host-gateway", *WEB)}
        for _ in range(2):  # the second step finds the bridge of the first
            result = step.run(
                f"family=v4 fetch gw:{port}; family=v6 fetch gw:{port}; nc -w 1 {WEB4} 80", **fields
            )
            assert step.stdout.count(b"peer=") == 2
            said = "steps reach only this machine over IPv{}: it can't forward for them"
            said += " (nf_tables: the table buildfront is not buildfront's)"
            assert list(result.warnings) == [said.format(4), said.format(6)]
        step.close()
        nft.communicate()
        assert machine.left() == PRISTINE


@row("X79")
def test_nobody_who_routes_by_this_machine_reaches_a_step(tmp_path):
    """Its port listens, and the machine itself comes through to it; the router behind it does not."""
    with lab(tmp_path / "lab", dns=False) as machine:
        step = LabStep(machine, tmp_path, "chroot")
        nap = marker()
        line = f"while :; do nc -l -p 7777 -e echo hello; done & sleep {nap}"
        thread = threading.Thread(target=lambda: step.run(line, network="bridge", timeout=30))
        thread.start()
        try:
            assert until(lambda: processes(nap))
            route = ["ip", "route", "add", "10.213.0.0/16", "via", HOST4]
            subprocess.run([*machine.outside, *route], check=True)
            heard = "import socket; print(socket.create_connection(('10.213.0.2', 7777), 2).recv(9))"
            assert until(lambda: "hello" in machine.run(sys.executable, "-c", heard, check=False))
            words = [*machine.outside, sys.executable, "-c", heard]
            tried = subprocess.run(words, capture_output=True, text=True, check=False)
            assert "timed out" in tried.stderr
        finally:
            for pid in processes(nap):
                os.kill(pid, signal.SIGKILL)
            thread.join()
            step.close()


BROAD = {
    "a VPN for all": ["0.0.0.0/1", "128.0.0.0/1"],
    "a company's network": ["10.0.0.0/8"],
}


@row("X79")
@pytest.mark.parametrize("name", BROAD)
def test_a_way_for_half_of_all_addresses_takes_no_pool(tmp_path, name):
    with lab(tmp_path / "lab", dns=False) as machine:
        for route in BROAD[name]:
            machine.run("ip", "route", "add", route, "via", ROUTER4)
        step = LabStep(machine, tmp_path, "chroot")
        assert step.text("fetch web", network="bridge", add_hosts=WEB).startswith("peer=")
        step.close()


@row("X79")
def test_the_second_pool_of_IPv6_where_the_first_is_in_use(tmp_path):
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run("ip", "-6", "addr", "add", "fd62:7569:6c64::5/64", "dev", "eth0", "nodad")
        step = LabStep(machine, tmp_path, "chroot")
        text = step.text("ip -o -6 addr; fetch web6", network="bridge", add_hosts=WEB)
        assert "fd62:7569:6c64:1::" in text and "peer=" in text
        step.close()


OTHERS = {
    "a tunnel": ["tuntap", "add", "buildfront0", "mode", "tun"],
    "a bridge": ["link", "add", "buildfront0", "type", "bridge"],
}


@row("X79")
@pytest.mark.parametrize("name", OTHERS)
def test_a_device_of_that_name_that_is_somebody_else_s_is_left(tmp_path, name):
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run("ip", *OTHERS[name])
        machine.run("ip", "addr", "add", "10.9.9.1/24", "dev", "buildfront0")
        before = machine.left()
        step = LabStep(machine, tmp_path, "chroot")
        with pytest.raises(HostError, match="device buildfront0 that is not buildfront's; rename it, or use"):
            step.run("true", network="bridge")
        step.close()
        assert machine.left() == before
        assert "10.9.9.1/24" in machine.run("ip", "addr", "show", "buildfront0")


@row("X79")
def test_a_port_s_name_that_is_taken_is_passed_over(tmp_path):
    with lab(tmp_path / "lab", dns=False) as machine:
        for number in (2, 3):
            machine.run("ip", "link", "add", f"bf{number}", "type", "bridge")
        before = machine.left()
        step = LabStep(machine, tmp_path, "chroot")
        assert "10.213.0.4/16" in step.text("ip -o addr", network="bridge")
        step.close()
        assert machine.left() == before


@row("X79")
def test_a_bridge_that_a_killed_builder_left_half_made_is_made_anew(tmp_path):
    """It has an address, and neither translation nor forwarding: its alias would say that it is complete."""
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run("ip", "link", "add", "buildfront0", "address", MARK, "type", "bridge")
        machine.run("ip", "addr", "add", "10.213.0.1/16", "dev", "buildfront0")
        step = LabStep(machine, tmp_path, "chroot")
        result = step.run("fetch web; fetch web6", network="bridge", add_hosts=WEB)
        assert (step.stdout.count(b"peer="), list(result.warnings)) == (2, [])
        step.close()
        assert machine.left() == PRISTINE


@row("X79")
def test_two_builders_that_do_not_see_each_other_s_leases(tmp_path):
    """As in two containers with the machine's network: each has a /run of its own."""
    with lab(tmp_path / "lab", dns=False) as machine:
        one, other = (LabStep(machine, tmp_path / name, "chroot") for name in ("one", "other"))
        nap = marker()
        out = []
        line = f"sleep {nap}; fetch web"
        thread = threading.Thread(target=lambda: out.append(one.run(line, network="bridge", add_hosts=WEB)))
        thread.start()
        assert until(lambda: processes(nap))
        state = machine.state
        aside = state.with_name(f"{state.name}-aside")
        state.rename(aside)
        assert other.text("fetch web", network="bridge", add_hosts=WEB).startswith("peer=")
        other.close()
        shutil.rmtree(state)
        aside.rename(state)
        for pid in processes(nap):
            os.kill(pid, signal.SIGTERM)
        thread.join()
        assert one.stdout.startswith(b"peer="), one.stderr
        one.close()
        assert machine.left() == PRISTINE


@row("X79")
def test_the_machine_does_not_listen_to_a_step_that_says_it_is_a_router(tmp_path):
    """CVE-2020-10749: router advertisements of whoever has CAP_NET_RAW. What devices begin with is as before, though
    the machine goes on forwarding for somebody else."""
    with lab(tmp_path / "lab", dns=False) as machine:
        step = LabStep(machine, tmp_path, "chroot")
        step.run("true", network="bridge")
        assert machine.setting("ipv6/conf/default/accept_ra") == "2"
        assert machine.setting("ipv6/conf/buildfront0/accept_ra") == "0"
        machine.run("ip", "link", "add", "theirs0", "type", "bridge")
        step.close()
        assert machine.setting("ipv6/conf/default/accept_ra") == "1"
        machine.run("sh", "-c", "echo 2 > /proc/sys/net/ipv6/conf/default/accept_ra")
        step = LabStep(machine, tmp_path / "again", "chroot")
        step.run("true", network="bridge")
        assert machine.setting("ipv6/conf/buildfront0/accept_ra") == "0"
        step.close()


ARP = r"""
import socket, struct, sys
mine, claimed, asked = (socket.inet_aton(word) for word in sys.argv[1:])
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0x0806))
hardware = link.getsockname()[4]
body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, hardware, claimed, bytes(6), asked)
for _ in range(3):
    link.send(b"\xff" * 6 + hardware + struct.pack("!H", 0x0806) + body)
"""


@row("X79")
def test_a_step_that_says_it_is_another_one_gets_nothing_of_it(tmp_path):
    """Frames as CAP_NET_RAW, which steps have by default, can make them."""
    with lab(tmp_path / "lab", dns=False) as machine:
        steps = [LabStep(machine, tmp_path / name, "chroot") for name in ("one", "other")]
        naps = [marker(), f"{marker()}1"]
        threads = []
        for step, nap in zip(steps, naps, strict=True):
            line = f"sleep {nap}; fetch web"
            run = functools.partial(step.run, line, network="bridge", add_hosts=WEB)
            threads.append(threading.Thread(target=run))
            threads[-1].start()
            assert until(lambda nap=nap: processes(nap))
        liar = ["nsenter", f"--net=/proc/{processes(naps[0])[0]}/ns/net", sys.executable, "-c", ARP]
        subprocess.run([*liar, "10.213.0.2", "10.213.0.3", "10.213.0.1"], check=True)
        neighbours = machine.run("ip", "neigh", "show", "10.213.0.3", "dev", "buildfront0")
        assert "02:62:66:00:00:03 PERMANENT" in neighbours
        for nap, thread in reversed(list(zip(naps, threads, strict=True))):
            for pid in processes(nap):
                os.kill(pid, signal.SIGTERM)
            thread.join()
        assert [step.stdout[:5] for step in steps] == [b"peer="] * 2
        for step in steps:
            step.close()
        assert machine.left() == PRISTINE


LISTEN = r"""
import socket, struct, sys
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
link.bind(("eth0", 3))
# SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC
link.setsockopt(263, 1, struct.pack("iHH8s", socket.if_nametoindex("eth0"), 1, 0, b""))
print("ready", flush=True)
while True:
    frame = link.recv(65535)
    for word in (b"/private", b"/public"):
        if word in frame:
            print(word.decode(), flush=True)
"""


@row("X79")
def test_a_step_that_listens_to_all_frames_hears_its_own_alone(tmp_path):
    """As CAP_NET_RAW, which steps have by default, lets it."""
    with lab(tmp_path / "lab", dns=False) as machine:
        one, other = (LabStep(machine, tmp_path / name, "chroot") for name in ("one", "other"))
        nap = marker()
        line = f"sleep {nap}; fetch web public"
        run = functools.partial(one.run, line, network="bridge", add_hosts=WEB)
        thread = threading.Thread(target=run)
        thread.start()
        assert until(lambda: processes(nap))
        words = ["nsenter", f"--net=/proc/{processes(nap)[0]}/ns/net", sys.executable, "-c", LISTEN]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as hears:
            assert hears.stdout.readline() == "ready\n"
            assert "/private" in other.text("fetch web private", network="bridge", add_hosts=WEB)
            for pid in processes(nap):
                os.kill(pid, signal.SIGTERM)
            assert hears.stdout.readline() == "/public\n"  # and nothing before it
            hears.kill()
        thread.join()
        one.close()
        other.close()


@row("X79")
def test_what_the_machine_knows_of_a_step_goes_with_it(tmp_path):
    """The bridge stays, with no entry of the step; its port listened to no router."""
    with lab(tmp_path / "lab", dns=False) as machine:
        step = LabStep(machine, tmp_path, "chroot")
        nap = marker()
        thread = threading.Thread(target=lambda: step.run(f"sleep {nap}", network="bridge"))
        thread.start()
        assert until(lambda: processes(nap))
        known = machine.run("ip", "neigh", "show", "dev", "buildfront0", "nud", "permanent")
        assert known.count("02:62:66:00:00:02") == 2
        entries = machine.run("bridge", "fdb", "show", "dev", "bf2")
        assert "02:62:66:00:00:02 master buildfront0 static" in entries
        for name in ("accept_ra", "accept_redirects", "autoconf"):
            assert machine.setting(f"ipv6/conf/bf2/{name}") == "0"
        for pid in processes(nap):
            os.kill(pid, signal.SIGKILL)
        thread.join()
        assert machine.run("ip", "neigh", "show", "dev", "buildfront0", "nud", "permanent") == ""
        step.close()


@row("X79")
def test_the_bridge_lasts_whichever_step_was_the_first_with_one(tmp_path):
    with lab(tmp_path / "lab", dns=False) as machine:
        step = LabStep(machine, tmp_path, "chroot")
        step.run("true", network="none")
        assert machine.left() == PRISTINE
        step.run("true", network="bridge")
        first = machine.run("cat", "/proc/net/dev_snmp6/buildfront0").splitlines()[0]
        step.run("true", network="none")
        step.run("true", network="bridge")
        assert machine.run("cat", "/proc/net/dev_snmp6/buildfront0").splitlines()[0] == first  # its ifIndex
        step.close()
        assert machine.left() == PRISTINE


@row("X79")
def test_a_machine_that_did_not_forward_does_so_for_steps_alone(tmp_path):
    """Else whoever is on one of its networks would reach the others while a build runs."""
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run("ip", "link", "add", "behind0", "type", "bridge")
        machine.run("ip", "addr", "add", "192.0.2.1/24", "dev", "behind0")
        machine.run("ip", "link", "set", "behind0", "up")
        machine.run("ip", "neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:02", "dev", "behind0")
        route = ["ip", "route", "add", "192.0.2.0/24", "via", HOST4]
        subprocess.run([*machine.outside, *route], check=True)
        step = LabStep(machine, tmp_path, "chroot")

        tried = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        tried += "for _ in range(50): s.sendto(b'x', ('192.0.2.2', 9))"
        step.run("true", network="bridge")
        assert machine.setting("ipv4/ip_forward") == "1"
        before = counted(machine)
        subprocess.run([*machine.outside, sys.executable, "-c", tried], check=True)
        assert counted(machine) < before + 50
        assert step.text("fetch web", network="bridge", add_hosts=WEB).startswith("peer=")
        step.close()


def counted(machine):
    """Packets that have left by behind0."""
    shown = json.loads(machine.run("ip", "-j", "-s", "link", "show", "behind0"))
    return shown[0]["stats64"]["tx"]["packets"]


HEAR = """
import select, socket, time
heard = {}
for address in ("127.0.0.1", "10.213.0.1"):
    heard[socket.socket(socket.AF_INET, socket.SOCK_DGRAM)] = address
for one, address in heard.items():
    one.bind((address, 7777))
print("ready", flush=True)
while True:
    for one in select.select(list(heard), [], [])[0]:
        print(heard[one], one.recv(100).decode(), flush=True)
"""

SEND = r"""
import socket, struct
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0x0800))
bridge, own = bytes.fromhex("026266640000"), link.getsockname()[4]
def send(target):
    data = struct.pack("!HHHH", 7777, 7777, 12, 0) + b"word"
    ends = socket.inet_aton("10.213.0.2") + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH8s", 69, 0, 32, 0, 0, 64, 17, 0, ends)
    total = sum(struct.unpack("!10H", head))
    total = ~((total >> 16) + (total & 0xFFFF)) & 0xFFFF
    link.send(bridge + own + struct.pack("!H", 0x0800) + head[:10] + struct.pack("!H", total) + head[12:] + data)
send("127.0.0.1")
send("10.213.0.1")
"""


@row("X79")
def test_loopback_addresses_that_the_machine_routes_are_not_reached(tmp_path):
    """CVE-2020-8558: route_localnet is what kube-proxy sets, and steps may make frames of their own."""
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet")
        step = LabStep(machine, tmp_path, "chroot")
        nap = marker()
        thread = threading.Thread(target=lambda: step.run(f"sleep {nap}", network="bridge"))
        thread.start()
        assert until(lambda: processes(nap))
        hears = subprocess.Popen(
            [*machine.prefix, sys.executable, "-c", HEAR], stdout=subprocess.PIPE, text=True
        )
        try:
            assert hears.stdout.readline() == "ready\n"
            space = f"--net=/proc/{processes(nap)[0]}/ns/net"
            subprocess.run(["nsenter", space, sys.executable, "-c", SEND], check=True)
            assert hears.stdout.readline() == "10.213.0.1 word\n"  # and nothing before it
        finally:
            hears.kill()
            hears.communicate()
            for pid in processes(nap):
                os.kill(pid, signal.SIGKILL)
            thread.join()
            step.close()


TABLES = {
    "a chain of another name": "add chain ip buildfront theirs",
    "a chain of our name": "add chain ip buildfront forward { type filter hook forward priority 0; };"
    " add rule ip buildfront forward iifname buildfront0 accept",
    "a chain of our name elsewhere": "add chain ip buildfront forward { type filter hook input priority 0; }",
    "a set": "add set ip buildfront theirs { type ipv4_addr; }",
}


@row("X79")
@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_that_name_that_is_somebody_else_s_is_left(tmp_path, name):
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run("nft", f"add table ip buildfront; {TABLES[name]}")
        before = machine.run("nft", "list", "ruleset")
        step = LabStep(machine, tmp_path, "chroot")
        result = step.run("true", network="bridge")
        assert "IPv4" in result.warnings[0] and "table buildfront is not buildfront's" in result.warnings[0]
        step.close()
        assert machine.run("nft", "list", "ruleset") == before


@row("X79")
def test_an_empty_table_that_a_killed_builder_left_is_replaced(tmp_path):
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run("nft", "add table ip buildfront")
        step = LabStep(machine, tmp_path, "chroot")
        assert list(step.run("true", network="bridge").warnings) == []
        step.close()
        assert machine.left() == PRISTINE


@row("X79")
def test_a_killed_step_s_port_and_lease_are_removed_by_the_next(tmp_path):
    """SIGKILL to all of the builder at once, the supervisor and the process that serves the step included."""
    with lab(tmp_path / "lab", dns=False) as machine:
        step = LabStep(machine, tmp_path, "chroot")
        nap = marker()
        thread = threading.Thread(target=lost, args=(step, nap))
        thread.start()
        assert until(lambda: processes(nap))
        kill_tree(step.process.pid)
        thread.join()
        step.process.wait()
        assert until(lambda: not processes(nap))
        left = machine.left()
        assert [name for name in left["leases"] if name.startswith("lease-")] and left["forward"] == (
            "1",
            "1",
        )
        other = LabStep(machine, tmp_path, "chroot")
        assert other.text(f"fetch {WEB4}", network="bridge").startswith("peer=")
        other.close()
        assert machine.left() == PRISTINE


@row("X79")
def test_recover_takes_away_what_a_killed_builder_left(tmp_path):
    """In iptables' chain as well, which is not ours to remove with all that is in it."""
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run("iptables", "-P", "FORWARD", "DROP")
        before = machine.left()
        step = LabStep(machine, tmp_path, "oci")
        nap = marker()
        thread = threading.Thread(target=lost, args=(step, nap))
        thread.start()
        assert until(lambda: processes(nap))
        assert machine.run("iptables", "-S", "FORWARD").count("buildfront0") == 2
        kill_tree(step.process.pid)
        thread.join()
        step.process.wait()
        assert machine.left() != before
        code = "import sys; from run_step import recover; recover(sys.argv[1])"
        path = f"PYTHONPATH={os.path.join(as_user.PROJECT, 'plugins')}"
        machine.run("env", path, sys.executable, "-c", code, step.work_dir)
        assert machine.left() == before
        assert machine.run("iptables", "-S", "FORWARD") == "-P FORWARD DROP\n"
        assert until(lambda: not processes(nap))


RECOVER = "from run_step.network import bridge; bridge.recover()"


@row("X79")
def test_recover_finds_a_bridge_that_no_notes_tell_of(tmp_path):
    """Of a builder in a container, whose /run went with it; half a note that one left is nothing to recover."""
    with lab(tmp_path / "lab", dns=False) as machine:
        path = f"PYTHONPATH={os.path.join(as_user.PROJECT, 'plugins')}"
        step = LabStep(machine, tmp_path, "chroot")
        step.run("true", network="bridge")
        kill_tree(step.process.pid)
        step.process.wait()
        state = machine.state
        shutil.rmtree(state)
        machine.run("env", path, sys.executable, "-c", RECOVER)
        left = machine.left()
        assert (left["links"], left["tables"], left["leases"]) == (["eth0", "lo"], [], [])
        (state / "settings.json.new").write_text("{")
        used = f"from run_step.network.leases import Pool; print(Pool({str(state)!r}).is_used())"
        assert machine.run("env", path, sys.executable, "-c", used) == "False\n"


@row("X79")
def test_a_bridge_that_somebody_takes_away_meanwhile_is_made_anew(tmp_path):
    """Its alias says so, and is looked at by whoever has connected a port."""
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run("ip", "link", "add", "buildfront0", "address", MARK, "type", "bridge")
        machine.run("ip", "link", "set", "buildfront0", "alias", "buildfront: being removed")
        step = LabStep(machine, tmp_path, "chroot")
        taken = subprocess.Popen([*machine.prefix, "sh", "-c", "sleep 0.3; ip link del buildfront0"])
        assert step.text("fetch web", network="bridge", add_hosts=WEB).startswith("peer=")
        taken.wait()
        step.close()
        assert machine.left() == PRISTINE


def lost(step, nap):
    """Runs a step of a builder that is killed meanwhile."""
    with suppress(ValueError, OSError):
        step.run(f"sleep {nap}", network="bridge")


def kill_tree(pid):
    """Stop and kill a process and all below it, so that none of them cleans up after another."""
    found = [pid]
    for one in found:
        os.kill(one, signal.SIGSTOP)
        found += children(one)
    for one in found:
        os.kill(one, signal.SIGKILL)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as stream:
        return [int(word) for word in stream.read().split()]
