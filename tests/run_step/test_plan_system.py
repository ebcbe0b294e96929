"""What a plan says of the rest: resources, namespaces, files, mounts, and that it is plain data."""

import copy
import hashlib
import json
import os
from dataclasses import replace

import pytest
from busybox_root import HOST_HOSTS, HOST_RESOLV, listing
from rows import row

from run_step import HostError, IDMapping, NamespaceOption, RequestError, Resources, look_up
from run_step import plan as plan_by_facts
from run_step.host import PathFact, TextFile
from run_step.linux.device_numbers import DENY_ALL
from run_step.option_text import parse_size
from run_step.pipeline.files import HEADER, hosts_text, resolv_text
from run_step.pipeline.volumes import parse_mount, parse_volume


def plan(request, host, **more):
    """As an executor plans: what the request mentions of this host is looked up first."""
    return plan_by_facts(request, look_up(request, host), **more)


def mount_at(made, destination):
    (found,) = [item for item in made.spec["mounts"] if item["destination"] == destination]
    return found


def mounts(made):
    return {item["destination"]: item for item in made.spec["mounts"]}


def generated(made):
    return {item.name: item for item in made.files}


def kinds(made):
    return {item["type"]: item.get("path", "") for item in made.spec["linux"]["namespaces"]}


# Resources and paths


@row("S30")
def test_what_is_asked_for_is_in_the_spec(ask, host):
    wanted = Resources(100000, 50000, 512, "0-1", "0", 1 << 30, -1, "/builds")
    linux = plan(ask(resources=wanted), host).spec["linux"]
    assert linux["resources"] == {
        "cpu": {"period": 100000, "quota": 50000, "shares": 512, "cpus": "0-1", "mems": "0"},
        "memory": {"limit": 1 << 30, "swap": -1},
        "devices": [DENY_ALL],
    }
    assert linux["cgroupsPath"] == "/builds"


@row("S30")
def test_no_resources_asked_for_are_none_in_the_spec(ask, host):
    linux = plan(ask(), host).spec["linux"]
    assert linux["resources"] == {"devices": [DENY_ALL]}
    assert "cgroupsPath" not in linux


@row("S30")
def test_chroot_is_given_the_same(ask, host):
    wanted = Resources(memory=1 << 20, pids=9, cgroup_parent="/x")
    specs = [plan(ask(isolation=name, resources=wanted), host).spec["linux"] for name in ("chroot", "oci")]
    assert specs[0]["resources"] == {"memory": {"limit": 1 << 20}, "pids": {"limit": 9}}
    assert specs[0]["cgroupsPath"] == "/x"
    assert specs[1]["cgroupsPath"] == "/x"


@row("S30")
@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("5", 5),
        ("5b", 5),
        ("1k", 1024),
        ("1K", 1024),
        ("2m", 2 << 20),
        ("3G", 3 << 30),
        ("3gb", 3 << 30),
        ("1.5g", 3 << 29),
        ("1 k", 1024),
        ("1KiB", 1024),
        ("2t", 2 << 40),
        ("1p", 1 << 50),
        (".5k", 512),
        ("1.k", 1024),
        ("0.1", 0),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_a_size_is_parsed_to_bytes(text, size):
    assert parse_size(text) == size


@row("S30")
@pytest.mark.parametrize(
    "text", ["", "m", "-1", ".", "1.5.5g", "1x", "1  k", "0x10", "²k", "1kk", "1bb", "1ki", "1e3", "9" * 5000]
)
def test_a_malformed_size_is_quoted(ask, host, text):
    with pytest.raises(RequestError) as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@row("S32")
def test_masked_and_read_only_paths(ask, host):
    linux = plan(ask(network="none"), host).spec["linux"]
    assert set(linux["maskedPaths"]) == {
        *(
            f"/proc/{name}"
            for name in ("acpi", "kcore", "keys", "latency_stats", "timer_list", "timer_stats")
        ),
        *("/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/fs/selinux", "/sys/dev"),
        *("/proc/asound", "/proc/interrupts", "/sys/devices/virtual/powercap"),
    }
    assert set(linux["readonlyPaths"]) == {
        f"/proc/{name}" for name in ("asound", "bus", "fs", "irq", "sys", "sysrq-trigger")
    }


def masked(ask, host, *unmask, cpus=(0, 1, 64)):
    facts = replace(host, thermal_cpus=cpus)
    return {
        isolation: set(plan(ask(isolation=isolation, unmask=unmask), facts).spec["linux"]["maskedPaths"])
        for isolation in ("oci", "rootless", "chroot")
    }


@row("S32")
def test_the_throttling_of_each_cpu_is_masked(ask, host):
    for paths in masked(ask, host).values():
        assert {f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in (0, 1, 64)} <= paths
    for paths in masked(ask, host, cpus=()).values():
        assert not any("thermal" in path for path in paths)


@row("X37")
@pytest.mark.parametrize(
    ("unmask", "shown", "hidden"),
    [
        ("ALL", ["/proc/interrupts", "/sys/devices/virtual/powercap", "/proc/asound"], []),
        ("all", ["/sys/devices/system/cpu/cpu64/thermal_throttle"], []),
        ("/proc/interrupts", ["/proc/interrupts"], ["/proc/asound", "/proc/keys"]),
        ("/proc/interrupts/", ["/proc/interrupts"], ["/proc/asound"]),
        ("/proc/a*", ["/proc/asound", "/proc/acpi"], ["/proc/interrupts"]),
        (
            "/sys/devices/system/cpu/cpu*/thermal_throttle",
            [f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in (0, 1, 64)],
            ["/sys/devices/virtual/powercap"],
        ),
        (
            "/sys/devices/system/cpu/cpu?/thermal_throttle",
            ["/sys/devices/system/cpu/cpu0/thermal_throttle"],
            ["/sys/devices/system/cpu/cpu64/thermal_throttle"],
        ),
        ("/sys/*", ["/sys/firmware", "/sys/dev"], ["/sys/fs/selinux", "/sys/devices/virtual/powercap"]),
        ("/*/*", ["/proc/keys"], ["/sys/devices/virtual/powercap"]),
        ("*", [], ["/proc/keys", "/sys/firmware"]),
        ("/sys/devices", [], ["/sys/devices/virtual/powercap"]),
    ],
)
def test_unmask_shows_what_it_names(ask, host, unmask, shown, hidden):
    for paths in masked(ask, host, unmask).values():
        assert not paths & set(shown)
        assert set(hidden) <= paths


@row("X37")
def test_what_is_unmasked_can_be_written_again(ask, host):
    """/proc/asound is in both lists."""
    linux = plan(ask(unmask=("/proc/asound",)), host).spec["linux"]
    assert "/proc/asound" not in linux["maskedPaths"] + linux["readonlyPaths"]


# Namespaces


@row("S40")
def test_the_default_namespaces_are_these(ask, host):
    """The network is not private by default: S43 shares the builder's where there is no user namespace."""
    assert kinds(plan(ask(), host)) == {"pid": "", "ipc": "", "uts": "", "mount": ""}


@row("S40")
def test_the_request_is_merged_over_them_by_name(ask, host):
    asked = (NamespaceOption("ipc", host=True), NamespaceOption("cgroup"), NamespaceOption("ipc"))
    assert kinds(plan(ask(namespaces=asked), host)) == {
        "pid": "",
        "ipc": "",
        "uts": "",
        "mount": "",
        "cgroup": "",
    }


@row("S40")
def test_an_unknown_namespace_is_an_error(ask, host):
    with pytest.raises(RequestError, match=r"'net'.*network"):
        plan(ask(namespaces=(NamespaceOption("net"),)), host)


@row("S41")
def test_host_path_and_new(ask, host):
    asked = (
        NamespaceOption("pid", host=True),
        NamespaceOption("uts", path="/run/ns/uts"),
        NamespaceOption("network"),
    )
    made = plan(ask(namespaces=asked), host)
    assert kinds(made) == {"ipc": "", "mount": "", "uts": "/run/ns/uts", "network": ""}
    assert {"type": "network"} in made.spec["linux"]["namespaces"]


@row("S41")
@pytest.mark.parametrize(
    ("network", "inside", "mode"),
    [
        ("default", None, "host"),
        ("", None, "host"),
        ("host", None, "host"),
        ("none", "", "none"),
        ("ns:/run/netns/x", "/run/netns/x", "path"),
    ],
)
def test_each_word_for_a_network_has_its_mode(ask, host, network, inside, mode):
    made = plan(ask(network=network), host)
    assert kinds(made).get("network") == inside
    assert made.network.mode == mode


@row("S42")
@pytest.mark.parametrize("network", ["ns:", "ns:relative", "a,,b", "-x/", "container:x", " host"])
def test_a_malformed_network_is_quoted(ask, host, network):
    with pytest.raises(RequestError) as caught:
        plan(ask(network=network), host)
    assert repr(network) in str(caught.value)


@row("S42")
@pytest.mark.parametrize("network", ["bridge", "slirp4netns", "pasta"])
def test_a_private_network_says_what_connects_it(ask, host, network):
    made = plan(ask(network=network), replace(host, has_slirp4netns=True, has_pasta=True))
    assert kinds(made)["network"] == ""
    assert made.network.mode == network


FRONT = TextFile("/etc/cni/net.d/10-front.conflist", '{"name": "front", "plugins": [{"type": "bridge"}]}')
BACK = TextFile("/etc/cni/net.d/20-back.conf", '{"name": "back", "cniVersion": "1.0.0", "type": "macvlan"}')
USER = {"uid": 0, "uid_map": ((0, 1000, 1),)}


@row("S42")
@pytest.mark.parametrize(
    ("facts", "mode"),
    [
        ({}, "bridge"),
        ({"has_slirp4netns": True}, "bridge"),
        ({"cni": (FRONT, BACK)}, "cni"),
        ({"has_slirp4netns": True, "has_pasta": True, "cni": (FRONT,), **USER}, "slirp4netns"),
        ({"has_pasta": True, **USER}, "pasta"),
        ({"has_slirp4netns": True, "has_pasta": True, "address": "192.0.2.7", **USER}, "slirp4netns"),
        ({"has_slirp4netns": True, "has_pasta": True, "address": "2001:db8::7", **USER}, "pasta"),
        ({"has_slirp4netns": True, "address": "2001:db8::7", **USER}, "slirp4netns"),
        ({"has_pasta": True, "capabilities": ("SYS_ADMIN",)}, "pasta"),
    ],
)
def test_private_is_what_the_host_has(ask, host, facts, mode):
    made = plan_by_facts(ask(network="private"), replace(host, **facts))  # whatever is configured here
    assert made.network.mode == mode
    assert made.network.names == (("front",) if mode == "cni" else ())


@row("S42")
@pytest.mark.parametrize("network", ["private", "slirp4netns"])
def test_a_network_that_leads_nowhere_is_a_warning(ask, host, network):
    """slirp4netns has no IPv6."""
    facts = replace(host, has_slirp4netns=True, **USER)
    (warning,) = plan(ask(network=network), replace(facts, address="2001:db8::7")).warnings
    assert "only IPv6 leads out of this machine; use --network pasta" in warning
    assert not plan(ask(network=network), replace(facts, address="192.0.2.7")).warnings


@row("S42")
@pytest.mark.parametrize(
    ("network", "facts", "words"),
    [
        ("private", USER, "needs root of the machine, or slirp4netns or pasta"),
        ("bridge", USER, "'bridge' needs root of the machine"),
        ("front", {"cni": (FRONT,), **USER}, r"CNI networks \(front\) need root"),
        ("slirp4netns", {}, "slirp4netns was not found on PATH; install slirp4netns"),
        ("pasta", {}, "pasta was not found on PATH; install passt"),
        ("front,other", {"cni": (FRONT, BACK)}, "has the network 'other'; known are front, back"),
        ("other", {"cni": (TextFile("/x.conf", "{"),)}, "no network is configured; /x.conf: it is not JSON"),
        ("back", {"cni": (replace(BACK, text=BACK.text.replace("1.0.0", "9.0")),)}, "is of version 9.0"),
    ],
)
def test_a_network_that_this_host_can_not_have_is_told(ask, host, network, facts, words):
    with pytest.raises(HostError, match=words):
        plan(ask(network=network), replace(host, **facts))


@row("S42")
@pytest.mark.parametrize(
    "fields", [{"network": "front,back"}, {"namespaces": (NamespaceOption("network", path="front,back"),)}]
)
def test_names_clear_the_path_and_are_configured(ask, host, fields):
    made = plan(ask(**fields), replace(host, cni=(FRONT, BACK)))
    assert kinds(made)["network"] == ""
    assert (made.network.mode, made.network.names) == ("cni", ("front", "back"))


@row("S44")
@pytest.mark.parametrize(
    "fields",
    [
        {"network": "private"},
        {"namespaces": (NamespaceOption("user"),)},
        {"uid_map": (IDMapping(0, 1000, 1),)},
    ],
)
def test_the_sysctl_where_a_network_is_configured(ask, host, fields):
    assert plan(ask(**fields), host).spec["linux"]["sysctl"] == {"net.ipv4.ping_group_range": "0 0"}


@row("S44")
def test_a_kernel_without_it_is_a_warning(ask, host):
    made = plan(ask(network="private"), replace(host, has_ping_group_range=False))
    assert "sysctl" not in made.spec["linux"]
    assert "ping_group_range" in made.warnings[0]


@row("S44")
@pytest.mark.parametrize("network", ["default", "host", "none", "ns:/run/netns/x"])
def test_not_where_none_is_configured(ask, host, network):
    assert "sysctl" not in plan(ask(network=network), host).spec["linux"]


@row("S43")
def test_maps_add_a_user_namespace_and_a_private_network(ask, host):
    made = plan(ask(uid_map=(IDMapping(0, 1000, 1),), gid_map=(IDMapping(0, 2000, 1),)), host)
    assert {"user", "network"} <= set(kinds(made))
    assert made.spec["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert {(item.uid, item.gid) for item in made.files} == {(1000, 2000)}


@row("S43")
def test_a_private_user_namespace_without_maps_gets_the_hosts_one_to_one(ask, host):
    made = plan(
        ask(namespaces=(NamespaceOption("user"),)),
        replace(host, uid_map=((0, 100000, 65536),), has_pasta=True),
    )
    assert made.spec["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 0, "size": 65536}]


@row("S43")
def test_an_explicit_network_wins(ask, host):
    made = plan(ask(namespaces=(NamespaceOption("user"),), network="host"), host)
    assert "network" not in kinds(made)


@row("S43")
def test_without_maps_user_and_unspecified_network_are_the_hosts(ask, host):
    made = plan(ask(), host)
    assert not {"user", "network"} & set(kinds(made))


@row("S45")
@pytest.mark.parametrize(
    ("step", "image", "wanted"), [("box", "img", "box"), ("", "img", "img"), ("", "", "0123456789ab")]
)
def test_the_hostname_is_planned(ask, host, step, image, wanted):
    made = plan(ask(hostname=step, image_hostname=image, container_id="0123456789abcdef"), host)
    assert made.spec["hostname"] == wanted


@row("S45")
def test_no_hostname_with_the_hosts_uts_namespace(ask, host):
    made = plan(ask(hostname="box", namespaces=(NamespaceOption("uts", host=True),)), host)
    assert made.spec["hostname"] == ""
    assert not any(entry.startswith("HOSTNAME=") for entry in made.spec["process"]["env"])
    assert "hostname" not in generated(made)


# Files


@row("S50")
def test_the_hosts_file_is_planned(ask, host):
    made = plan(ask(hostname="box", add_hosts=("db:10.0.0.1", "six:::1", "gw:host-gateway")), host)
    item = generated(made)["hosts"]
    assert item.content == (
        HEADER
        + "::1\tlocalhost\n"
        + HOST_HOSTS
        + "10.0.0.1\tdb\n::1\tsix\n127.0.0.1\tgw\n127.0.0.1 box\n::1 box\n"
    )
    assert (item.mode, item.uid, item.gid) == (0o644, 0, 0)
    assert mounts(made)["/etc/hosts"]["source"] == "@bundle@/files/hosts"


@row("S50")
def test_mode_is_the_hosts(ask, host):
    assert generated(plan(ask(), replace(host, hosts_mode=0o600)))["hosts"].mode == 0o600


@row("S50")
def test_a_host_file_without_a_last_newline(ask):
    assert hosts_text("1.1.1.1 a", ("b:2.2.2.2",), "") == HEADER + LOCAL + "1.1.1.1 a\n2.2.2.2\tb\n"


LOCAL = "127.0.0.1\tlocalhost\n::1\tlocalhost\n"


@row("S50")
@pytest.mark.parametrize(
    ("text", "added"),
    [
        ("", LOCAL),
        ("# 127.0.0.1 localhost\n", LOCAL),
        ("127.0.0.1 localhost\n::1 localhost\n", ""),
        ("127.0.0.1\tbox localhost # mine\n0:0:0:0:0:0:0:1 ip6-localhost LocalHost\n", ""),
        ("127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\n", "::1\tlocalhost\n"),
        ("127.0.1.1 localhost\n10.0.0.1 localhost.example\nlocalhost\n", LOCAL),
        ("::1 localhost\n", "127.0.0.1\tlocalhost\n"),
        ("nonsense localhost\n\n\t\n", LOCAL),
    ],
)
def test_localhost_is_on_both_addresses_whatever_the_hosts_file_says(text, added):
    assert hosts_text(text, (), "") == HEADER + added + text
    assert hosts_text("", (), "x") == HEADER + LOCAL + "127.0.0.1 x\n::1 x\n"


@row("S50")
def test_three_distinct_errors():
    texts = []
    for entry in ("db", ":10.0.0.1", "db:"):
        with pytest.raises(RequestError) as caught:
            hosts_text("", (entry,), "")
        assert repr(entry) in str(caught.value)
        texts.append(str(caught.value).replace(repr(entry), ""))
    assert len(set(texts)) == 3


@row("S50")
@pytest.mark.parametrize(
    "entry", ["", ":", "a:b", "a:1.2.3", "a:1.2.3.4:80", "a:[::1", "a b", "a=b", "a:256.1.1.1"]
)
def test_malformed_entries_are_quoted(ask, host, entry):
    with pytest.raises(RequestError) as caught:
        plan(ask(add_hosts=(entry,)), host)
    assert repr(entry) in str(caught.value)


@row("S50")
@pytest.mark.parametrize("name", ["a b", "a\nb", "a\tb", "a#b", "a\n6.6.6.6 b"])
def test_a_name_that_would_be_several_is_refused(ask, host, name):
    with pytest.raises(RequestError):
        plan(ask(add_hosts=(f"{name}:10.0.0.1",)), host)


@row("S50")
@pytest.mark.parametrize("entry", ["six=::1", "six:::1", "six:[::1]", "six=[::1]"])
def test_an_equals_sign_separates_too(entry):
    assert hosts_text("", (entry,), "").endswith("::1\tsix\n")


@row("S50")
def test_no_hosts_file_where_none_is_wanted(ask, host):
    assert "/etc/hosts" not in mounts(plan(ask(no_hosts=True), host))


@row("S51")
def test_read_from_the_host(ask, host):
    text = generated(plan(ask(), host))["resolv.conf"].content
    assert text == "search corp.example lab.example\nnameserver 192.0.2.53\noptions ndots:2\n"


@row("S51")
def test_each_is_replaced_as_a_whole():
    search, server, options = ("search corp.example lab.example", "nameserver 192.0.2.53", "options ndots:2")

    def text(*lines):
        return "".join(f"{line}\n" for line in lines)

    given = ("1.1.1.1", "2606:4700::1111")
    servers = text(*(f"nameserver {item}" for item in given)).strip()
    assert resolv_text(HOST_RESOLV, given, (), ()) == text(search, servers, options)
    assert resolv_text(HOST_RESOLV, (), ("x.example",), ()) == text("search x.example", server, options)
    assert resolv_text(HOST_RESOLV, (), (), ("edns0",)) == text(search, server, "options edns0")
    assert resolv_text(HOST_RESOLV, (), (".",), ()) == text(server, options)


@row("S51")
def test_comments_and_half_lines_of_the_host():
    host = (
        "; nameserver 6.6.6.6\nnameserver\nnameserver 1.1.1.1 # x\ndomain d.example\nsearch s.example\nodd\n"
    )
    assert resolv_text(host, (), (), ()) == "search s.example\nnameserver 1.1.1.1\n"
    assert resolv_text("", (), (), ()) == ""


BAD_SERVERS = [
    "",
    "dns.example",
    "1.2.3",
    "1.2.3.4:53",
    "256.0.0.1",
    "1.1.1.1 ",
    "[::1]",
    "1.1.1.1\n",
    "1.1.1.1%x",
]


@row("S51")
@pytest.mark.parametrize("server", BAD_SERVERS)
def test_a_bad_address_is_an_error(ask, host, server):
    with pytest.raises(RequestError) as caught:
        plan(ask(dns=("9.9.9.9", server)), host)
    assert repr(server) in str(caught.value)


@row("S51")
@pytest.mark.parametrize("field", ["dns_search", "dns_options"])
@pytest.mark.parametrize("value", ["a\nnameserver 6.6.6.6", "a b", ""])
def test_search_and_options_are_single_words(ask, host, field, value):
    """A line break would write lines that nobody asked for."""
    with pytest.raises(RequestError) as caught:
        plan(ask(**{field: (value,)}), host)
    assert repr(value) in str(caught.value)


@row("S51")
@pytest.mark.parametrize("word", ["none", "NONE", "None"])
def test_none_leaves_the_images_file_alone(ask, host, word):
    made = plan(ask(dns=(word,)), host)
    assert "/etc/resolv.conf" not in mounts(made)
    assert "resolv.conf" not in generated(made)


@row("S51")
def test_none_among_others_is_a_bad_address(ask, host):
    with pytest.raises(RequestError, match="'none'"):
        plan(ask(dns=("none", "1.1.1.1")), host)


@row("S52")
@pytest.mark.parametrize("volume", ["/etc/hosts", "/etc/resolv.conf", "/etc/hosts/", "etc//resolv.conf"])
def test_not_bound_where_the_image_declares_a_volume(ask, host, volume):
    made = plan(ask(image_volumes=(volume,)), host)
    path = "/etc/" + os.path.basename(os.path.normpath(volume))
    assert mounts(made)[path]["source"].startswith("@bundle@/volumes/")
    assert os.path.basename(path) not in generated(made)


@row("S52")
def test_not_bound_without_a_network(ask, host):
    made = plan(ask(network="none"), host)
    assert not {"/etc/hosts", "/etc/resolv.conf", "/etc/hostname"} & set(mounts(made))
    assert "/run/.containerenv" in mounts(made)


@row("S52")
def test_without_a_network_localhost_is_there_and_nothing_is_mounted_in_etc(ask, host):
    """It is put in place for the time of the step, so that the step may rename the directory."""
    made = plan(ask(network="none", add_hosts=("db:10.0.0.1",)), host)
    name = made.spec["hostname"]
    assert generated(made)["hosts"].content == HEADER + LOCAL + f"127.0.0.1 {name}\n::1 {name}\n"
    assert [item for item in made.to_json()["actions"] if item["do"] == "PutFile"] == [
        {"do": "PutFile", "name": "hosts", "path": "/etc/hosts"}
    ]
    assert not any(path.startswith("/etc") for path in mounts(made))


@row("S52")
@pytest.mark.parametrize(
    "more",
    [{"no_hosts": True}, {"image_volumes": ("/etc/hosts",)}, {"mounts": ("type=tmpfs,dst=/etc/hosts",)}],
)
def test_without_a_network_what_is_not_wanted_is_not_put_in_place(ask, host, more):
    made = plan(ask(network="none", **more), host)
    assert "hosts" not in generated(made)
    assert not any(item["do"] == "PutFile" for item in made.to_json()["actions"])


@row("S52")
def test_without_a_network_a_mount_on_etc_gets_it_bound(ask, host):
    made = plan(ask(network="none", mounts=("type=tmpfs,dst=/etc",)), host)
    assert list(mounts(made)).index("/etc") < list(mounts(made)).index("/etc/hosts")


@row("S52")
def test_without_a_network_a_directory_at_its_place_is_left_alone(ask, host, rootfs):
    os.mkdir(f"{rootfs}/etc/hosts")
    assert "hosts" not in generated(plan(ask(network="none"), host))


@row("S53")
def test_containerenv_and_hostname(ask, host):
    made = plan(ask(hostname="box"), host)
    files = generated(made)
    assert files["containerenv"].content == ""
    assert files["hostname"].content == "box\n"
    assert mounts(made)["/run/.containerenv"]["source"] == "@bundle@/files/containerenv"
    assert "/etc/hostname" not in mounts(plan(ask(hostname="box", no_hostname=True), host))
    for request in (ask(), ask(image_hostname="box"), ask(hostname="")):
        assert plan(request, host).spec["hostname"] and "/etc/hostname" not in mounts(plan(request, host))


@row("S54")
def test_mount_points_are_planned_for_what_is_missing_alone(ask, host, rootfs):
    with open(rootfs + "/etc/hosts", "w", encoding="utf-8"):
        pass
    actions = {item["path"]: item for item in plan(ask(), host).to_json()["actions"]}
    assert "/etc/hosts" not in actions
    assert actions["/etc/resolv.conf"] == {"do": "MountPoint", "path": "/etc/resolv.conf", "directory": False}
    assert actions["/proc"]["directory"] is True
    assert "/dev/shm" not in actions  # lies in a mount of ours


# Mounts


@row("S60")
def test_the_order_of_the_mounts(ask, host, tmp_path):
    volume = tmp_path / "volume"
    volume.mkdir()
    made = plan(ask(volumes=(f"{volume}:/data",), image_volumes=("/srv",), network="none"), host)
    order = list(mounts(made))
    wanted = ["/data", "/srv", "/run/.containerenv", "/proc", "/dev", "/dev/pts", "/dev/shm"]
    assert order == [*wanted, "/dev/mqueue", "/sys", "/sys/fs/cgroup"]


@row("S60")
def test_the_first_to_claim_a_destination_keeps_it(ask, host, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "hosts").touch()
    volumes = (
        f"{tmp_path}/a:/srv/",
        f"{tmp_path}/b://srv",
        f"{tmp_path}/hosts:/etc/hosts",
        f"{tmp_path}/b:/dev/shm",
    )
    made = plan(ask(volumes=volumes, image_volumes=("/srv",)), host)
    have = mounts(made)
    assert len(have) == len(made.spec["mounts"])
    assert have["/srv"]["source"] == f"{tmp_path}/a"
    assert have["/etc/hosts"]["source"] == f"{tmp_path}/hosts"
    assert have["/dev/shm"]["source"] == f"{tmp_path}/b"
    assert not [item for item in made.to_json()["actions"] if item["do"] == "CopyVolume"]


@row("S60")
def test_nothing_is_hidden_by_a_later_mount_above_it(ask, host, tmp_path):
    volumes = (f"{tmp_path}:/dev/deep/er", f"{tmp_path}:/a/b", f"{tmp_path}:/a")
    order = list(mounts(plan(ask(volumes=volumes), host)))
    assert order.index("/dev") < order.index("/dev/deep/er")
    assert order.index("/a") < order.index("/a/b")


@row("S61")
def test_the_size_of_shared_memory_is_planned(ask, host):
    item = mounts(plan(ask(shm_size="64m"), host))["/dev/shm"]
    assert (item["type"], f"size={64 << 20}" in item["options"]) == ("tmpfs", True)
    assert "size=65536k" in mounts(plan(ask(), host))["/dev/shm"]["options"]
    with pytest.raises(RequestError, match="'big'"):
        plan(ask(shm_size="big"), host)


@row("S61")
@pytest.mark.parametrize("name", ["shm", "mqueue"])
def test_the_hosts_ipc_brings_the_hosts_own(ask, host, name):
    request = ask(namespaces=(NamespaceOption("ipc", host=True),))
    item = mounts(plan(request, host))[f"/dev/{name}"]
    assert (item["type"], item["source"]) == ("bind", f"/dev/{name}")
    missing = replace(host, **{f"has_dev_{name}": False})
    assert f"/dev/{name}" not in mounts(plan(request, missing))


@row("S62")
def test_sys_with_the_hosts_network(ask, host):
    have = mounts(plan(ask(), host))
    assert (have["/sys"]["type"], have["/sys"]["source"]) == ("bind", "/sys")
    assert {"rbind", "ro"} <= set(have["/sys"]["options"])
    assert "/sys/fs/cgroup" not in have
    assert "/sys" not in mounts(plan(ask(), replace(host, has_sys=False)))


@row("S62")
def test_the_cgroups_below_a_bound_sys_are_hidden_from_a_runtimes_step(ask, host):
    """A runtime makes the top of the bind read-only; the cgroups below would stay writable."""
    assert "/sys/fs/cgroup" in plan(ask(), host).spec["linux"]["maskedPaths"]
    assert "/sys/fs/cgroup" not in plan(ask(network="none"), host).spec["linux"]["maskedPaths"]


@row("S62")
def test_sys_with_a_network_of_its_own(ask, host):
    have = mounts(plan(ask(network="none"), host))
    assert have["/sys"]["type"] == "sysfs"
    assert have["/sys/fs/cgroup"]["type"] == "cgroup"
    assert "ro" in have["/sys"]["options"] and "ro" in have["/sys/fs/cgroup"]["options"]


@row("S62")
def test_chroot_has_no_cgroup_mount(ask, host):
    assert "/sys/fs/cgroup" not in mounts(plan(ask(network="none", isolation="chroot"), host))


@row("S63")
def test_a_private_copy_for_each_image_volume(ask, host):
    made = plan(ask(image_volumes=("/srv/", "relative")), host)
    copies = {item["path"]: item for item in made.to_json()["actions"] if item["do"] == "CopyVolume"}
    assert set(copies) == {"/srv", "/relative"}
    for path, item in copies.items():
        assert mounts(made)[path]["source"] == f"@bundle@/volumes/{item['name']}"
        assert item["name"] == hashlib.sha256(path.encode()).hexdigest()[:16]


@row("S63")
@pytest.mark.parametrize("volume", ["/", "", ".", "//", "/srv/.."])
def test_the_root_directory_is_no_volume(ask, host, volume):
    with pytest.raises(RequestError, match="root directory"):
        plan(ask(image_volumes=(volume,)), host)


@row("S63")
def test_a_file_is_no_volume(ask, host):
    with pytest.raises(RequestError, match=r"'/etc/passwd'.*not a directory"):
        plan(ask(image_volumes=("/etc/passwd",)), host)


@row("S64")
@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("/a:/b", ["rw", "private", "rbind"]),
        ("/a:/b:", ["rw", "private", "rbind"]),
        ("/a:/b:ro", ["ro", "private", "rbind"]),
        ("/a:/b:rw,rshared", ["rw", "rshared", "rbind"]),
        ("/a:/b:noexec,bind", ["noexec", "bind", "rw", "private"]),
    ],
)
def test_the_options_of_a_volume_are_parsed(text, options):
    made = {"destination": "/b", "type": "bind", "source": "/a", "options": options}
    assert parse_volume(text).mount() == made


BAD_VOLUMES = [
    "",
    ":",
    "/a",
    "/a:",
    ":/b",
    "a:/b",
    "./a:/b",
    "/a:b",
    "/a:/",
    "/a:/..",
    "/a:/b:ro:x",
    "/a:/b:ro,rw",
    "/a:/b:odd",
    "/a:/b:RO",
    "/a:/b:z,Z",
    "/a:/b:Z,O",
    "/a:/b:O,ro",
    "/a:/b:O,U",
    "/a:/b:O,rbind",
    "/a:/b:exec,noexec",
    "/a:/b:private,shared",
    "/a:/b:bind,rbind",
    "/a:/b:upperdir=/u,workdir=/w",
    "/a:/b:O,upperdir=/u",
    "/a:/b:O,upperdir=u,workdir=/w",
    "/a:/b:O,upperdir=,workdir=/w",
    "/etc:/b:Z",
    "/usr/:/b:U",
    "/:/b:z",
]


@row("S64")
@pytest.mark.parametrize("text", BAD_VOLUMES)
def test_a_malformed_volume_is_quoted(ask, host, text):
    with pytest.raises(RequestError) as caught:
        plan(ask(volumes=(text,)), host)
    assert repr(text) in str(caught.value)


BAD_MOUNTS = [
    "",
    "bind",
    "type=",
    "type=volume,target=/b",
    "type=bind",
    "type=bind,target=/b",
    "type=bind,source=/a",
    "type=bind,source=a,target=/b",
    "type=bind,source=/a,target=b",
    "type=bind,source=/a,target=/",
    "type=bind,source=/a,target=/b,target=/c",
    "type=bind,source=/a,src=/c,target=/b",
    "type=bind,source=/a,target=/b,ro=maybe",
    "type=bind,source=/a,target=/b,ro,rw",
    "type=bind,source=/a,target=/b,odd=1",
    "type=bind,source=/a,target=/b,bind-propagation=odd",
    "type=bind,source=/a,target=/b,relabel=odd",
    "type=tmpfs",
    "type=tmpfs,target=/b,source=/a",
    "type=tmpfs,target=/b,tmpfs-mode=9",
    "type=tmpfs,target=/b,tmpfs-mode=rwx",
]


@row("S64")
@pytest.mark.parametrize("text", BAD_MOUNTS)
def test_a_malformed_mount_is_quoted(ask, host, text):
    with pytest.raises(RequestError) as caught:
        plan(ask(mounts=(text,)), host)
    assert repr(text) in str(caught.value)


@row("S64")
def test_a_bad_size_of_a_tmpfs_is_quoted(ask, host):
    with pytest.raises(RequestError, match="tmpfs-size 'big'"):
        plan(ask(mounts=("type=tmpfs,target=/b,tmpfs-size=big",)), host)


@row("S64")
@pytest.mark.parametrize(
    ("text", "kind", "source", "options"),
    [
        ("type=bind,src=/a,dst=/b", "bind", "/a", ["rw", "private", "rbind"]),
        ("type=bind,source=/a,destination=/b,readonly", "bind", "/a", ["ro", "private", "rbind"]),
        ("type=bind,source=/a,target=/b,rw=false", "bind", "/a", ["ro", "private", "rbind"]),
        ("type=bind,source=/a,target=/b,bind-nonrecursive", "bind", "/a", ["bind", "rw", "private"]),
        ("type=bind,source=/a,target=/b,bind-propagation=rslave", "bind", "/a", ["rslave", "rw", "rbind"]),
        ("type=tmpfs,target=/b", "tmpfs", "tmpfs", ["nosuid", "nodev", "private"]),
        (
            "type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=1700,ro",
            "tmpfs",
            "tmpfs",
            ["nosuid", "nodev", "size=1048576", "mode=1700", "ro", "private"],
        ),
    ],
)
def test_the_keys_of_a_mount_are_parsed(text, kind, source, options):
    made = {"destination": "/b", "type": kind, "source": source, "options": options}
    assert parse_mount(text).mount() == made


SELINUX = "system_u:object_r:container_file_t:s0:c1,c2"


@row("S64")
@pytest.mark.parametrize(
    ("option", "label"), [("z", "system_u:object_r:container_file_t:s0"), ("Z", SELINUX)]
)
def test_relabelling_is_an_action_where_there_are_labels(ask, host, tmp_path, option, label):
    request = ask(volumes=(f"{tmp_path}:/v:{option}",), labels=("level:s0:c1,c2",))
    made = plan(request, replace(host, selinux=True))
    assert {"do": "Relabel", "source": str(tmp_path), "label": label} in made.to_json()["actions"]
    assert option not in mount_at(made, "/v")["options"]
    made = plan(request, host)
    assert "Relabel" not in [item["do"] for item in made.to_json()["actions"]]


@row("S64")
def test_the_owner_of_a_volume_is_the_user_on_the_host(ask, host, tmp_path):
    maps = (IDMapping(0, 100000, 65536),)
    request = ask("x", volumes=(f"{tmp_path}:/v:U",), user="7:8", uid_map=maps, gid_map=maps)
    made = plan(request, host).to_json()["actions"]
    assert {"do": "ChangeOwner", "source": str(tmp_path), "uid": 100007, "gid": 100008} in made


@row("S64")
def test_an_overlay_volume_collects_in_the_bundle(ask, host, tmp_path):
    made = plan(ask(volumes=(f"{tmp_path}:/v:O",)), host)
    (action,) = [item for item in made.to_json()["actions"] if item["do"] == "MakeScratch"]
    scratch = f"@bundle@/overlay/{action['name']}"
    assert action["source"] == str(tmp_path)
    assert mount_at(made, "/v") == {
        "destination": "/v",
        "type": "overlay",
        "source": "overlay",
        "options": [
            f"lowerdir={tmp_path}",
            f"upperdir={scratch}/upper",
            f"workdir={scratch}/work",
            "private",
        ],
    }
    user = plan(ask(volumes=(f"{tmp_path}:/v:O",)), replace(host, uid=1000))
    assert "userxattr" in mount_at(user, "/v")["options"]


@row("S64")
def test_an_overlay_may_keep_what_it_collects(ask, host, tmp_path):
    for name in ("a,b", "u", "w"):
        (tmp_path / name).mkdir()
    made = plan(ask(volumes=(f"{tmp_path}/a,b:/v:O,upperdir={tmp_path}/u,workdir={tmp_path}/w",)), host)
    assert "MakeScratch" not in [item["do"] for item in made.to_json()["actions"]]
    options = [rf"lowerdir={tmp_path}/a\,b", f"upperdir={tmp_path}/u", f"workdir={tmp_path}/w", "private"]
    assert mount_at(made, "/v")["options"] == options


@row("S64")
def test_an_overlay_needs_a_directory(ask, host, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="not a directory"):
        plan(ask(volumes=(f"{tmp_path}/file:/v:O",)), host)


@row("S64")
def test_the_first_of_two_volumes_wins_and_the_other_changes_nothing(ask, host, tmp_path):
    made = plan(ask(volumes=(f"{tmp_path}:/v", f"{tmp_path}:/v:U")), host)
    assert "ChangeOwner" not in [item["do"] for item in made.to_json()["actions"]]


@row("S64")
def test_a_missing_source_is_told(ask, host, tmp_path):
    with pytest.raises(RequestError, match="does not exist"):
        plan(ask(volumes=(f"{tmp_path}/no:/b",)), host)


@row("S64")
@pytest.mark.parametrize("middle", ["/", "//", "/./"])
def test_a_file_gets_a_file_to_be_mounted_on(ask, host, tmp_path, middle):
    (tmp_path / "file").touch()
    made = plan(ask(volumes=(f"{tmp_path}{middle}file:/new",)), host)
    assert {"do": "MountPoint", "path": "/new", "directory": False} in made.to_json()["actions"]


# The plan as data


@row("X83")
def test_planning_twice_gives_equal_plans_and_touches_nothing(ask, host, rootfs, tmp_path):
    request = ask(
        "sh", "-c", "id", user="bob", cwd="/new", image_volumes=("/srv",), volumes=(f"{tmp_path}:/v",),
        add_hosts=("a:1.1.1.1",), ulimits=("nofile=5",), cap_add=("all",), image_env=("A=1",),
    )  # fmt: skip
    before = (copy.deepcopy(request), copy.deepcopy(host), listing(rootfs))
    first, second = plan(request, host), plan(request, host)
    assert first == second
    first.spec["process"]["args"].append("changed")  # plans share nothing
    assert plan(request, host) == second
    assert (request, host, listing(rootfs)) == before


@row("X83")
def test_a_plan_is_json_and_names_no_place_of_this_machine(ask, host, rootfs):
    made = plan(ask("sh", user="bob", cwd="/new", container_id="c" * 64), host)
    text = json.dumps(made.to_json())
    assert rootfs not in text
    assert json.loads(text) == made.to_json()


@row("X83")
def test_the_stages_may_be_replaced(ask, host):
    from run_step.pipeline import STAGES

    seen = []
    made = plan(ask(), host, stages=(*STAGES, lambda draft, request, facts: seen.append((request, facts))))
    assert len(seen) == 1
    assert made == plan(ask(), host)


@row("X83")
def test_a_stage_may_be_inserted_replaced_and_dropped(ask, host):
    from run_step.pipeline import STAGES, hooks, labels, mounts

    def read_only_root(draft, request, facts):
        assert bool(draft.spec["mounts"]) is after_mounts
        draft.spec["root"]["readonly"] = True

    request = ask(labels=("type:spc_t",))
    labelled = replace(host, selinux=True)
    at = STAGES.index(mounts.apply)
    after_mounts = False
    inserted = plan(request, labelled, stages=(*STAGES[:at], read_only_root, *STAGES[at:]))
    after_mounts = True
    replaced = plan(
        request, labelled, stages=tuple(read_only_root if stage is hooks.apply else stage for stage in STAGES)
    )
    dropped = plan(request, labelled, stages=tuple(stage for stage in STAGES if stage is not labels.apply))
    assert inserted.spec["root"]["readonly"] and replaced.spec["root"]["readonly"]
    assert not dropped.spec["root"]["readonly"]
    assert "selinuxLabel" in inserted.spec["process"]
    assert "selinuxLabel" not in dropped.spec["process"]


@row("S64")
@pytest.mark.parametrize("isolation", ["oci", "rootless", "chroot"])
def test_read_only_all_the_way_down_where_the_runtime_knows_the_word(ask, host, tmp_path, isolation):
    facts = replace(host, paths=(PathFact(str(tmp_path), True),), has_rro=True)
    request = ask(
        isolation=isolation, volumes=(f"{tmp_path}:/ro:ro", f"{tmp_path}:/rw", f"{tmp_path}:/one:ro,bind")
    )
    options = {item["destination"]: item["options"] for item in plan_by_facts(request, facts).spec["mounts"]}
    assert ("rro" in options["/ro"]) is (isolation != "chroot")
    assert "rro" not in options["/rw"] and "rro" not in options["/one"]
    without = plan_by_facts(request, replace(facts, has_rro=False)).spec["mounts"]
    assert not any("rro" in item["options"] for item in without)
