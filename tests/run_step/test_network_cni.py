"""Rows S42, S76, S78: CNI networks by the real plugins, on a machine of the test's own (see lab.py), and by plugins
that write down how they are called, fail, hang, or talk nonsense."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import as_user
import pytest
from busybox_root import marker, processes, why_not_run
from lab import HOST4, HOST6, NAME, WEB4, lab
from lab_step import WAYS, WEB, LabStep
from rows import row
from watching import until

from run_step import HostError, NamespaceOption
from run_step.network import cni
from run_step.network.model import NetworkError
from run_step.network_terms import CNI_PLUGIN_DIRS

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_not_run()), reason=why_not_run())]

DEEP = "[" * 400 + "]" * 400

PLUGIN = """\
#!/bin/sh
# Writes down how it is called, and answers what the file beside it says.
printf '%s|%s|%s|%s|%s|%s\\n' "$CNI_COMMAND" "${0##*/}" "$CNI_IFNAME" "$CNI_CONTAINERID" "$CNI_NETNS" "$(cat)" \
>> "${0%/*}/calls"
[ -e "$0.$CNI_COMMAND" ] && . "$0.$CNI_COMMAND"
true
"""


class Place:
    """Configurations and plugins of one test."""

    def __init__(self, path):
        self.configs = path / "net.d"
        self.plugins = path / "plugins"
        self.data = path / "data"
        self.configs.mkdir()
        self.plugins.mkdir()
        self.fields = {
            "cni_config_dirs": (str(self.configs),),
            "cni_plugin_dirs": (str(self.plugins), *CNI_PLUGIN_DIRS),
        }

    def network(self, name, *plugins, file="", **more):
        """A network as a list of plugins; returns its name."""
        value = {"cniVersion": "0.4.0", "name": name, "plugins": list(plugins), **more}
        (self.configs / (file or f"{name}.conflist")).write_text(json.dumps(value))
        return name

    def plugin(self, name, *, add="", delete="", result=None):
        """A plugin that runs shell lines for ADD and for DEL; its configuration."""
        path = self.plugins / name
        path.write_text(PLUGIN)
        path.chmod(0o755)
        answer = {"cniVersion": "0.4.0", **(result or {})}
        (self.plugins / f"{name}.ADD").write_text(add or f"cat <<'END'\n{json.dumps(answer)}\nEND\n")
        (self.plugins / f"{name}.DEL").write_text(delete)
        return {"type": name}

    def calls(self):
        """Command, plugin, interface, container, namespace and input of each call."""
        path = self.plugins / "calls"
        rows = path.read_text().splitlines() if path.exists() else []
        return [(*row.split("|", 5)[:5], json.loads(row.split("|", 5)[5])) for row in rows]

    def order(self):
        return [" ".join(call[:3]) for call in self.calls()]

    def bridge(self, device, subnet, subnet6):
        """The configuration of the real plugin."""
        ranges = [[{"subnet": subnet}], [{"subnet": subnet6}]]
        routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
        ipam = {"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": str(self.data)}
        return {"type": "bridge", "bridge": device, "isGateway": True, "ipMasq": True, "ipam": ipam}

    def addresses(self):
        """What host-local has given and not taken back."""
        found = [name for _, _, names in os.walk(self.data) for name in names]
        return sorted(name for name in found if re.match(r"[0-9a-f]+[.:]", name))


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    with lab(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module", params=WAYS)
def step(request, machine, tmp_path_factory):
    made = LabStep(machine, tmp_path_factory.mktemp("step"), request.param)
    made.run("true")  # the machine's facts are read once, before a test changes them
    yield made
    made.close()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@row("S78")
def test_a_server_is_reached_by_name_over_the_real_plugins(step, place):
    tuning = {"type": "tuning", "sysctl": {"net.ipv4.conf.all.log_martians": "1"}}
    name = place.network("front", place.bridge("cnia", "10.91.0.0/24", "fd91::/64"), tuning)
    line = "fetch web a; fetch web6 b; ip -o addr; cat /proc/sys/net/ipv4/conf/all/log_martians /etc/hosts"
    text = step.text(line, network=name, add_hosts=(*WEB, "gw:host-gateway"), **place.fields)
    assert text.startswith(f"peer=::ffff:{HOST4} path=/a host=web\npeer={HOST6} path=/b host=web6\n")
    assert "if0    inet 10.91.0." in text and "if0    inet6 fd91::" in text and "\n1\n" in text
    assert "inet 127.0.0.1/8" in text
    assert "10.91.0.1\tgw\n" in text and "fd91::1\tgw\n" in text
    assert place.addresses() == []
    assert not [line for line in step.lab.run("ip", "-o", "link").splitlines() if ": veth" in line]


@row("S42")
def test_networks_by_name_in_their_order(step, place):
    one = place.network("one", place.bridge("cnia", "10.91.0.0/24", "fd91::/64"))
    # The other's routes would be the first's again, so it has none.
    ipam = {"type": "host-local", "subnet": "10.92.0.0/24", "dataDir": str(place.data)}
    (place.configs / "50-two.conf").write_text(
        json.dumps({"cniVersion": "0.3.1", "name": "two", "type": "ptp", "ipam": ipam})
    )
    text = step.text(
        f"ip -o -4 addr; fetch {WEB4}; grep -w $(hostname) /etc/hosts",
        network=f"{one},two",
        hostname="mine",
        namespaces=(NamespaceOption("uts"),),
        **place.fields,
    )
    assert (
        "if0    inet 10.91.0." in text and "if1    inet 10.92.0." in text and f"peer=::ffff:{HOST4}" in text
    )
    assert re.search(r"10\.91\.0\.\d+\tmine\nfd91::\S+\tmine\n10\.92\.0\.\d+\tmine\n", text)
    assert place.addresses() == []


@row("S78")
def test_a_private_network_is_the_first_that_is_configured(step, place):
    """In /etc/cni/net.d, which the lab has of its own; what is no network there is passed over."""
    files = {
        "10-broken.conflist": "{",
        "20-nameless.conf": '{"type": "bridge"}',
        "30-used.conflist": json.dumps(
            {
                "name": "used",
                "cniVersion": "0.4.0",
                "plugins": [place.bridge("cnia", "10.91.0.0/24", "fd91::/64")],
            }
        ),
        "40-late.conf": '{"name": "late", "type": "missing"}',
        "05-readme.txt": "no configuration",
    }
    for name, text in files.items():
        (step.lab.cni / name).write_text(text)
    try:
        assert "inet 10.91.0." in step.text(f"ip -o addr; fetch {WEB4}", network="private")
    finally:
        for name in files:
            (step.lab.cni / name).unlink()


@row("S78")
def test_the_servers_of_the_result_are_used(step, place):
    dns = {"nameservers": ["203.0.113.53"], "search": ["corp.test"], "options": ["timeout:3"]}
    bridge = place.bridge("cnia", "10.91.0.0/24", "fd91::/64") | {"dns": dns}
    name = place.network("front", bridge)
    step.lab.resolv.write_text("nameserver 203.0.113.99\nsearch host.test\noptions ndots:3\n")
    try:
        text = step.text("cat /etc/resolv.conf; fetch web", network=name, **place.fields)
        wanted = "search corp.test\nnameserver 203.0.113.53\noptions timeout:3\n"
        assert text.startswith(wanted) and "host=web" in text
        asked = step.text("cat /etc/resolv.conf", network=name, dns=("192.0.2.9",), **place.fields)
        assert "nameserver 192.0.2.9\n" in asked and "203.0.113.53" not in asked
    finally:
        step.lab.resolv.write_text("nameserver 203.0.113.53\n")


RESULT = {
    "interfaces": [{"name": "if0", "sandbox": "/x"}],
    "ips": [{"version": "4", "address": "10.9.0.5/24", "gateway": "10.9.0.1"}],
}


@row("S78")
def test_the_previous_result_is_passed_on_and_the_last_kept_for_DEL(step, place):
    first = place.plugin("first", result=RESULT)
    last = place.plugin("last", result=RESULT | {"dns": {"domain": "last.test"}})
    names = [place.network("a", first, last), place.network("b", first)]
    text = step.text("cat /etc/resolv.conf", network=",".join(names), **place.fields)
    assert text.startswith("search last.test\n")
    order = [
        "ADD first if0",
        "ADD last if0",
        "ADD first if1",
        "DEL first if1",
        "DEL last if0",
        "DEL first if0",
    ]
    assert place.order() == order
    calls = place.calls()
    assert "prevResult" not in calls[0][5]
    assert calls[1][5]["prevResult"]["ips"] == RESULT["ips"]
    assert all(call[5]["prevResult"]["dns"] == {"domain": "last.test"} for call in calls[4:])
    assert {call[5]["name"] for call in calls} == {"a", "b"}
    assert {call[5]["cniVersion"] for call in calls} == {"0.4.0"}
    assert len({call[3] for call in calls}) == 1 and all(call[3] and call[4] for call in calls)


@row("S78")
def test_capabilities_choose_what_a_plugin_is_told(step, place):
    plain = place.plugin("plain")
    able = place.plugin("able") | {"capabilities": {"dns": True, "aliases": True, "portMappings": True}}
    half = place.plugin("half") | {"capabilities": {"dns": False, "aliases": True}}
    name = place.network("front", plain, able, half)
    fields = {
        "dns": ("192.0.2.7",),
        "dns_search": ("x.test",),
        "dns_options": ("ndots:2",),
        "hostname": "mine",
    }
    step.text("true", network=name, **fields, **place.fields)
    told = {call[1]: call[5] for call in place.calls()}
    dns = {"servers": ["192.0.2.7"], "searches": ["x.test"], "options": ["ndots:2"]}
    assert told["able"]["runtimeConfig"] == {"dns": dns, "aliases": {"front": ["mine"]}}
    assert told["half"]["runtimeConfig"] == {"aliases": {"front": ["mine"]}}
    assert "runtimeConfig" not in told["plain"]
    assert not any("capabilities" in value for value in told.values())


@row("S78", "S76")
@pytest.mark.parametrize(
    ("line", "fields", "status"),
    [
        ("exit 3", {}, 3),
        ("sleep 60", {"timeout": 1}, -signal.SIGKILL),
        ("sh -c 'kill -9 $$'; exit $?", {}, 137),
    ],
)
def test_DEL_follows_every_outcome(step, place, line, fields, status):
    name = place.network("front", place.bridge("cnia", "10.91.0.0/24", "fd91::/64"), place.plugin("last"))
    (place.plugins / "last.ADD").write_text("echo '{}'")
    result = step.run(line, network=name, **fields, **place.fields)
    assert result.status == status
    assert place.order() == ["ADD last if0", "DEL last if0"] and place.addresses() == []


def refused(step, place, name, match, **fields):
    with pytest.raises(HostError, match=match) as caught:
        step.run("echo ran", network=name, **fields, **place.fields)
    assert step.stdout == b""
    return str(caught.value)


@row("S78")
def test_a_plugin_that_fails_is_quoted_and_all_are_deleted(step, place):
    error = '{"cniVersion": "0.4.0", "code": 11, "msg": "try again", "details": "no room"}'
    bad = place.plugin("bad", add=f"echo '{error}'; exit 1\n")
    name = place.network(
        "front", place.bridge("cnia", "10.91.0.0/24", "fd91::/64"), bad, place.plugin("never")
    )
    refused(step, place, name, "the CNI plugin bad of network 'front' failed for ADD: try again: no room")
    assert place.order() == ["ADD bad if0", "DEL never if0", "DEL bad if0"] and place.addresses() == []


@row("S78")
@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ("echo nonsense", r"did not answer ADD with a JSON object: 'nonsense\\n'"),
        ("echo '[1]'", r"did not answer ADD with a JSON object"),
        ("true", r"did not answer ADD with a JSON object: ''"),
        ("echo out of luck >&2; exit 7", "failed for ADD: out of luck"),
        ("exit 7", "failed for ADD: exit status 7"),
        ("kill -SEGV $$", "failed for ADD: killed by SIGSEGV"),
        (
            'echo \'{"ips": "all", "dns": 5}\'',
            r"answered ADD with an invalid result \(ips is not a list\): \{",
        ),
        ('echo \'{"ips": ["all"]}\'', "ips has an item that is not an object"),
        ('echo \'{"ips": [{"address": ["10.9.0.5/24"]}]}\'', "address is not a string"),
        ('echo \'{"ip4": "10.9.0.5/24"}\'', "ip4 is not an object"),
        ('echo \'{"dns": {"nameservers": "192.0.2.1"}}\'', "nameservers is not a list"),
        (f"echo '{DEEP}'", r"did not answer ADD with a JSON object: '\[\[\["),
        (f"echo '{{\"x\": {DEEP}}}'", 'did not answer ADD with a JSON object: \'."x": '),
        (f"echo '{DEEP}'; exit 1", "failed for ADD: "),
        ("head -c 100000 /dev/zero | tr '\\0' '['", "did not answer ADD with a JSON object: "),
    ],
)
def test_what_a_plugin_says_in_its_own_way(step, place, lines, match):
    name = place.network("front", place.plugin("odd", add=lines + "\n"))
    assert "the CNI plugin odd of network 'front'" in refused(step, place, name, match)
    assert place.order() == ["ADD odd if0", "DEL odd if0"]


@row("S78")
def test_a_malformed_configuration_is_told_with_its_file(step, place):
    name = place.network("front", place.plugin("able") | {"capabilities": ["dns"]})
    text = refused(step, place, name, "the capabilities of the plugin able are not a JSON object")
    assert f"{place.configs}/front.conflist: " in text and place.calls() == []


@row("S78")
def test_none_is_no_server_that_a_plugin_is_told(step, place):
    able = place.plugin("able") | {"capabilities": {"dns": True}}
    line = "test -e /etc/resolv.conf || echo none"
    assert step.text(line, network=place.network("front", able), dns=("none",), **place.fields) == "none\n"
    assert [call[5].get("runtimeConfig") for call in place.calls()] == [None, None]


@row("S51")
def test_a_network_and_a_machine_without_a_name_server_are_a_warning(machine, place, tmp_path):
    silent = place.network("silent", place.plugin("mute"))
    spoken = place.network("spoken", place.plugin("able", result={"dns": {"nameservers": ["203.0.113.53"]}}))
    machine.resolv.write_text("nameserver fe80::1%eth0\n")
    step = LabStep(machine, tmp_path, "chroot")
    try:
        warning = "neither the host nor a network names a name server; give one with --dns"
        assert step.warned("true", network=silent, **place.fields) == [warning]
        assert step.warned("true", network=spoken, **place.fields) == []
        assert step.warned("true", network=silent, dns=("192.0.2.1",), **place.fields) == []
    finally:
        step.close()
        machine.resolv.write_text("nameserver 203.0.113.53\n")


@row("S78")
def test_a_plugin_that_is_missing_is_told_with_its_package(step, place):
    name = place.network("front", place.plugin("first"), {"type": "no-such-plugin"})
    text = refused(step, place, name, "no-such-plugin of network 'front' was not found in")
    assert "install containernetworking-plugins" in text and "--cni-plugin-path" in text
    assert place.order() == ["ADD first if0", "DEL first if0"]


@row("S78")
def test_a_failing_DEL_is_a_warning_and_the_rest_is_deleted(step, place):
    bad = place.plugin("bad", delete="echo stuck >&2; exit 1\n")
    name = place.network("front", place.plugin("first"), bad)
    warnings = step.warned("true", network=name, **place.fields)
    assert "the CNI plugin bad of network 'front' failed for DEL: stuck" in warnings
    assert place.order()[-2:] == ["DEL bad if0", "DEL first if0"]


@row("S78")
def test_the_end_is_asked_for_while_a_plugin_hangs(step, place):
    nap = marker()
    name = place.network("front", place.plugin("first"), place.plugin("slow", add=f"sleep {nap}\n"))
    result = step.run("true", network=name, timeout=3, **place.fields)
    assert result.timed_out
    assert place.order() == ["ADD first if0", "ADD slow if0", "DEL slow if0", "DEL first if0"]
    assert until(lambda: not processes(nap))


@row("S78")
def test_a_plugin_that_hangs_is_killed_and_told(place, monkeypatch):
    monkeypatch.setattr(cni, "SECONDS", 0.2)
    nap = marker()
    place.plugin("slow", add=f"exec sleep {nap}\n")
    calls = cni.Calls("name", [str(place.plugins)], None, "/proc/self/ns/net")
    given = {"name": "front", "cniVersion": "0.4.0"}
    with pytest.raises(
        NetworkError, match=r"slow of network 'front' did not end within 0.2 s for ADD, and was killed"
    ):
        calls.run("ADD", {"type": "slow"}, given, "if0")
    assert until(lambda: not processes(nap))


@row("S78")
def test_what_a_killed_builder_added_is_deleted_at_the_next_start(machine, place, tmp_path):
    name = place.network(
        "front",
        place.bridge("cnia", "10.91.0.0/24", "fd91::/64"),
        place.plugin("last", add="echo '{\"a\": 1}'"),
    )
    step = LabStep(machine, tmp_path, "chroot")
    nap = marker()

    def lost():
        with suppress(ValueError, OSError):
            step.run(f"sleep {nap}", network=name, **place.fields)

    thread = threading.Thread(target=lost)
    thread.start()
    assert until(lambda: processes(nap))
    tree = [step.process.pid]
    for pid in tree:
        os.kill(pid, signal.SIGSTOP)
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as stream:
            tree += map(int, stream.read().split())
    for pid in tree:
        os.kill(pid, signal.SIGKILL)
    thread.join()
    step.process.wait()
    assert len(place.addresses()) == 2 and place.order() == ["ADD last if0"]
    code = (
        "import sys; from run_step import recover; print(recover(sys.argv[1], cni_plugin_dirs=sys.argv[2:]))"
    )
    path = f"PYTHONPATH={os.path.join(as_user.PROJECT, 'plugins')}"
    machine.run("env", path, sys.executable, "-c", code, step.work_dir)
    assert len(place.addresses()) == 2  # nobody but the builder's own options names that directory
    machine.run("env", path, sys.executable, "-c", code, step.work_dir, str(place.plugins))
    assert place.addresses() == [] and place.order() == ["ADD last if0", "DEL last if0"]
    (_, _, _, added, _, _), (_, _, _, deleted, namespace, given) = place.calls()
    assert added == deleted and namespace == "" and given["prevResult"] == {"a": 1}


@row("S78")
def test_twenty_steps_at_once_have_twenty_addresses(machine, place, tmp_path):
    name = place.network("front", place.bridge("cnib", "10.93.0.0/24", "fd93::/64"))
    code = (
        "import sys, json, threading\n"
        "from dataclasses import replace\n"
        "from run_step import LocalExecutor, RunRequest\n"
        "e = LocalExecutor(work_dir=sys.argv[1])\n"
        "request = RunRequest.from_json(json.loads(sys.argv[2]))\n"
        "lock = threading.Lock()\n"
        "def keep(name, data):\n"
        "    with lock: sys.stdout.buffer.write(data)\n"
        "def one(number):\n"
        "    own = replace(request, rootfs=f'{request.rootfs}-{number}')\n"
        "    e.execute(e.plan(own), own.rootfs, output=keep)\n"
        "all = [threading.Thread(target=one, args=(number,)) for number in range(20)]\n"
        "[t.start() for t in all]; [t.join() for t in all]; e.close()\n"
    )
    step = LabStep(machine, tmp_path, "chroot")
    line = "ip -o -4 addr show dev if0 | sed 's/.*inet //;s,/.*,,'"
    request = step.request("/bin/sh", "-c", line, network=name, **place.fields)
    path = f"PYTHONPATH={os.path.join(as_user.PROJECT, 'plugins')}"
    words = ["env", path, sys.executable, "-c", code, step.work_dir, json.dumps(request.to_json())]
    for number in range(20):
        shutil.copytree(request.rootfs, f"{request.rootfs}-{number}", symlinks=True)
    done = subprocess.run([*machine.prefix, *words], capture_output=True, text=True, check=False)
    step.close()
    assert len(set(done.stdout.split())) == len(done.stdout.split()) == 20, done.stderr
    assert place.addresses() == []


@row("S51")
def test_a_name_by_the_hosts_servers(step, place):
    name = place.network("front", place.bridge("cnia", "10.91.0.0/24", "fd91::/64"))
    assert f"host={NAME}" in step.text(f"fetch {NAME}", network=name, **place.fields)
