"""Networks without a network: which is chosen, what the files of a step say (rows S50, S51), the numbers of a pool."""

import ipaddress
import json
import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import row
from ways import made_up_host

from run_step import HostError, ImageDefaults, RequestError, RunMount, RunRequest, look_up, plan
from run_step.host import PathFact, TextFile
from run_step.network.connect import hosts, resolv
from run_step.network.leases import Pool
from run_step.network_terms import ADDRESS, GATEWAY
from run_step.pipeline.files import HEADER, hosts_text, reachable, resolv_text
from run_step.pipeline.networks import configurations

V4 = st.ip_addresses(v=4).map(str)
V6 = st.ip_addresses(v=6).map(str)
ANY = V4 | V6
WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=1, max_size=12)
LINE = st.one_of(
    WORD.map(lambda word: f"192.0.2.1\t{word}\n"),
    WORD.map(lambda word: f"# {ADDRESS} {word}\n"),
    st.just("\n"),
)


# The step's files, completed when the network is there.


@row("S50")
@given(
    st.lists(LINE | WORD.map(lambda w: f"{ADDRESS}\t{w}\n") | WORD.map(lambda w: f"{GATEWAY}\t{w}\n")),
    st.lists(ANY, max_size=3),
    st.lists(ANY, max_size=3),
)
def test_every_line_that_begins_with_a_token_is_there_once_for_each_address(lines, addresses, gateways):
    done = hosts("".join(lines), tuple(addresses), tuple(gateways)).splitlines(keepends=True)
    wanted = []
    for line in lines:
        if line.startswith(ADDRESS):
            wanted += [address + line[len(ADDRESS) :] for address in addresses]
        elif line.startswith(GATEWAY):
            wanted += [address + line[len(GATEWAY) :] for address in gateways]
        else:
            wanted.append(line)
    assert done == wanted
    assert not any(line.startswith((ADDRESS, GATEWAY)) for line in done)


@row("S78")
@given(
    st.lists(ANY, max_size=3),
    st.lists(WORD, max_size=3),
    st.lists(WORD, max_size=3),
    st.lists(ANY, max_size=2),
    st.lists(WORD, max_size=2),
    WORD | st.just(""),
)
def test_what_a_network_says_of_names_replaces_and_the_rest_stays(
    servers, search, options, own, mine, domain
):
    text = resolv_text("", tuple(servers), tuple(search), tuple(options))
    done = resolv(text, {"nameservers": own, "search": mine, "domain": domain, "options": []})
    assert words(done, "nameserver") == (own or servers)
    kept = [word for word in search if word != "."]
    assert words(done, "search") == (mine or ([domain] if domain else kept))
    assert words(done, "options") == options


def words(text, name):
    return [word for line in text.splitlines() if line.split()[:1] == [name] for word in line.split()[1:]]


@row("S78")
def test_a_network_that_says_nothing_leaves_the_file():
    text = "search a.test\nnameserver 192.0.2.1\noptions ndots:2\n"
    assert resolv(text, {}) == text
    assert resolv(text, {"nameservers": None, "search": None}) == text


# A resolver on the host's loopback, seen from another network namespace.


@row("S51")
@pytest.mark.parametrize(
    ("text", "upstream", "wanted"),
    [
        ("nameserver 192.0.2.1\n", "nameserver 9.9.9.9\n", "nameserver 192.0.2.1\n"),
        (
            "nameserver 127.0.0.53\noptions edns0\nsearch a\n",
            "nameserver 9.9.9.9\nsearch b\n",
            "nameserver 9.9.9.9\nsearch b\n",
        ),
        ("nameserver 127.0.0.53\nnameserver 192.0.2.1\n", "nameserver 9.9.9.9\n", "nameserver 192.0.2.1\n"),
        ("nameserver ::1\n", "nameserver 127.0.0.1\nnameserver 2001:db8::1\n", "nameserver 2001:db8::1\n"),
        ("nameserver 127.0.0.1\nsearch a\n", "", "search a\n"),
        (
            "nameserver\n#nameserver 127.0.0.1\nnameserver x\n",
            "",
            "nameserver\n#nameserver 127.0.0.1\nnameserver x\n",
        ),
        ("nameserver x\n", "nameserver 9.9.9.9\n", "nameserver 9.9.9.9\n"),
        ("", "nameserver 9.9.9.9\n", "nameserver 9.9.9.9\n"),
        ("nameserver 127.0.0.53#stub\n", "nameserver 9.9.9.9\n", "nameserver 9.9.9.9\n"),
        ("nameserver fe80::1%eth0\nnameserver 9.9.9.9\n", "nameserver 9.9.9.8\n", "nameserver 9.9.9.9\n"),
        ("nameserver 169.254.169.254\n", "", "nameserver 169.254.169.254\n"),
        ("nameserver ::ffff:192.0.2.1\n", "", "nameserver ::ffff:192.0.2.1\n"),
    ],
)
def test_a_resolver_on_the_loopback_is_replaced_by_what_it_asks(text, upstream, wanted):
    assert reachable(text, upstream) == wanted


OWN = ["fe80::1%eth0", "fe80::1", "2001:db8::1%2", "0.0.0.0", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"]
"""Name servers that the host alone reaches, and no other namespace."""


@row("S51")
@pytest.mark.parametrize("server", [*OWN, "127.0.0.1", "127.8.8.8", "::1"])
def test_what_the_host_alone_reaches_is_no_server_of_another_namespace(rootfs, server):
    asked = f"nameserver {server}\nsearch a.test\n"
    assert reachable(asked, "") == "search a.test\n"
    assert reachable(asked, f"nameserver {server}\nnameserver 192.0.2.1\n") == "nameserver 192.0.2.1\n"
    made = planned(rootfs, "bridge", resolv_conf=asked)
    assert made.warnings == (
        f"the step's network does not reach the host's name servers ({server}); give one with --dns",
    )
    assert not planned(rootfs, "host", resolv_conf=asked).warnings


@row("S51")
@given(st.lists(ANY, max_size=4), st.lists(ANY, max_size=4))
def test_no_resolver_of_a_private_network_is_on_a_loopback(servers, upstream):
    text, above = ("".join(f"nameserver {item}\n" for item in items) for items in (servers, upstream))
    found = words(reachable(text, above), "nameserver")
    assert found == ([item for item in servers if leads(item)] or [item for item in upstream if leads(item)])


def leads(server):
    address = ipaddress.ip_address(server)
    address = getattr(address, "ipv4_mapped", None) or address
    on_link = address.version == 6 and address.is_link_local
    return not (address.is_loopback or address.is_unspecified or on_link)


STUB = "nameserver 127.0.0.53\nsearch lab.test\n"


@row("S51")
@pytest.mark.parametrize(
    ("network", "wanted"),
    [
        ("host", ["127.0.0.53"]),
        ("bridge", ["192.0.2.77"]),
        ("slirp4netns", ["10.0.2.3", "192.0.2.77"]),
        ("pasta", ["10.0.2.3", "192.0.2.77"]),
        ("ns:/run/some", ["192.0.2.77"]),
    ],
)
def test_the_upstream_file_counts_where_the_namespace_is_private(rootfs, network, wanted):
    made = planned(rootfs, network, resolv_conf=STUB, resolv_conf_upstream="nameserver 192.0.2.77\n")
    assert words(file(made, "resolv.conf"), "nameserver") == wanted


@row("S51")
def test_nothing_reachable_is_a_warning(rootfs):
    made = planned(rootfs, "bridge", resolv_conf=STUB)
    assert any("give one with --dns" in text for text in made.warnings)
    assert not words(file(made, "resolv.conf"), "nameserver")
    assert not planned(rootfs, "host", resolv_conf=STUB).warnings
    assert not planned(rootfs, "bridge", resolv_conf=STUB, asked={"dns": ("192.0.2.3",)}).warnings


@row("S51")
@pytest.mark.parametrize(
    "text", ["", "search a.test\n", "nameserver\n", "nameserver x\n", "# nameserver 192.0.2.1\n"]
)
@pytest.mark.parametrize("network", ["bridge", "slirp4netns", "pasta", "ns:/run/some"])
def test_a_host_without_a_name_server_is_a_warning(rootfs, network, text):
    (warning,) = planned(rootfs, network, resolv_conf=text).warnings
    assert warning.endswith("; give one with --dns")
    if "nameserver x" not in text:
        assert warning.startswith("the host's /etc/resolv.conf has no name server for the step")
    for silent in (
        {"dns": ("192.0.2.3",)},
        {"dns": ("none",)},
        {"image": ImageDefaults(volumes=("/etc/resolv.conf",))},
    ):
        assert not planned(rootfs, network, silent, resolv_conf=text).warnings
    assert not planned(rootfs, "none", resolv_conf=text).warnings


SIX = "nameserver 2001:db8::53\n"


@row("S51")
def test_servers_of_IPv6_alone_are_out_of_reach_of_slirp4netns(rootfs):
    made = planned(rootfs, "slirp4netns", resolv_conf=SIX)
    assert made.warnings == (
        "slirp4netns has only IPv4 and does not reach the host's name servers (2001:db8::53); give one with --dns, or "
        "use --network pasta",
    )
    assert words(file(made, "resolv.conf"), "nameserver") == ["2001:db8::53"]
    both = planned(rootfs, "slirp4netns", resolv_conf=SIX, resolv_conf_upstream="nameserver 192.0.2.77\n")
    assert words(file(both, "resolv.conf"), "nameserver") == ["2001:db8::53"] and both.warnings


@row("S51")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (SIX, ["2001:db8::53"]),
        (SIX + "nameserver 192.0.2.1\n", ["10.0.2.3", "2001:db8::53", "192.0.2.1"]),
        ("nameserver 127.0.0.1\n" + SIX, ["10.0.2.3", "2001:db8::53"]),
        ("nameserver ::1\n" + SIX, ["2001:db8::53"]),
        ("nameserver ::ffff:192.0.2.1\n", ["::ffff:192.0.2.1"]),
    ],
)
def test_the_networks_resolver_is_asked_where_the_host_has_one_of_IPv4(rootfs, text, wanted):
    """It leads to that, and whoever asks it without one waits in vain."""
    made = planned(rootfs, "pasta", resolv_conf=text)
    assert words(file(made, "resolv.conf"), "nameserver") == wanted
    assert not made.warnings


@row("S51")
@pytest.mark.parametrize("network", ["host", "bridge", "slirp4netns", "ns:/run/some"])
def test_none_leaves_the_images_own(rootfs, network):
    made = planned(rootfs, network, asked={"dns": ("none",)})
    assert file(made, "resolv.conf") is None


def planned(rootfs, network, asked=None, **facts):
    facts = {"has_slirp4netns": True, "has_pasta": True, "address": "192.0.2.200", **facts}
    request = RunRequest(("/bin/true",), rootfs, isolation="chroot", network=network, **(asked or {}))
    return plan(request, replace(made_up_host(), **facts))


def file(made, name):
    return next((item.content for item in made.files if item.name == name), None)


@row("S50")
@pytest.mark.parametrize(
    ("network", "gateway"),
    [
        ("host", "127.0.0.1"),
        ("bridge", GATEWAY),
        ("slirp4netns", "192.0.2.200"),
        ("pasta", "192.0.2.200"),
    ],
)
def test_the_host_by_its_address_in_each_network(rootfs, network, gateway):
    asked = {"add_hosts": ("gw:host-gateway", "host.containers.internal=host-gateway")}
    text = file(planned(rootfs, network, asked), "hosts")
    assert f"{gateway}\tgw\n{gateway}\thost.containers.internal\n" in text


@row("S50")
def test_a_host_that_nobody_knows_is_an_error(rootfs):
    with pytest.raises(RequestError, match="host-gateway is not known for this network"):
        planned(rootfs, "ns:/run/some", {"add_hosts": ("gw:host-gateway",)})
    with pytest.raises(RequestError, match="host-gateway is not known for this network"):
        planned(rootfs, "pasta", {"add_hosts": ("gw:host-gateway",)}, address="")


@row("S50")
@pytest.mark.parametrize(
    ("network", "asked"),
    [
        ("none", {}),
        ("ns:/run/some", {"no_hosts": True}),
        ("ns:/run/some", {"image": ImageDefaults(volumes=("/etc/hosts/",))}),
        ("ns:/run/some", {"volumes": ("/tmp:/etc/hosts",)}),
        ("ns:/run/some", {"mounts": ("type=bind,source=/tmp,target=/etc/hosts",)}),
        ("ns:/run/some", {"run_mounts": (RunMount("cache", "etc/hosts", source="x"),)}),
    ],
)
def test_what_nobody_knows_matters_where_the_file_is_made_alone(rootfs, network, asked):
    paths = (PathFact("/tmp", directory=True),)
    made = planned(rootfs, network, {"add_hosts": ("gw:host-gateway",), **asked}, paths=paths)
    text = file(made, "hosts")
    assert text is None if network != "none" else "gw" not in str(text)
    with pytest.raises(RequestError, match="'gw'"):
        planned(rootfs, network, {"add_hosts": ("gw",), **asked})


@row("S50")
@given(st.lists(st.tuples(WORD.filter(lambda w: ":" not in w), ANY), max_size=4), WORD | st.just(""), V4)
def test_the_file_is_read_back_as_it_was_meant(entries, hostname, own):
    text = hosts_text("", tuple(f"{name}:{address}" for name, address in entries), hostname, own=own)
    assert text.startswith(HEADER)
    rows = [tuple(line.split()) for line in text.splitlines() if line and not line.startswith("#")]
    last = [(own, hostname), ("127.0.0.1", hostname), ("::1", hostname)] if hostname else []
    first = [("127.0.0.1", "localhost"), ("::1", "localhost")]
    assert rows == first + [(address, name) for name, address in entries] + last


# Configurations of networks.


def conf(name, text):
    return TextFile(f"/etc/cni/net.d/{name}", text if isinstance(text, str) else json.dumps(text))


@row("S78")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.conf", "{"),
        ("a.conf", "[]"),
        ("a.conf", {"name": "x"}),
        ("a.conf", {"type": "bridge"}),
        ("a.conf", {"name": "x", "type": "../../bin/sh"}),
        ("a.conf", {"name": "x", "type": ".."}),
        ("a.conf", {"name": "x", "type": 5}),
        ("a.conflist", {"name": "x", "plugins": []}),
        ("a.conflist", {"name": "x", "plugins": "bridge"}),
        ("a.conflist", {"name": "x", "plugins": [{"type": "a"}, {"type": "b/c"}]}),
        ("a.conflist", {"name": "x", "type": "bridge"}),
        ("a.conf", "[" * 100_000),
        ("a.conf", {"name": "x", "type": "a\0b"}),
        ("a.conf", {"name": "x", "type": "\ud800"}),
        ("a.conf", {"name": "x", "type": ""}),
        ("a.conf", {"name": ["x"], "type": "a"}),
        ("a.conf", {"name": "x", "type": "a", "capabilities": ["dns"]}),
        ("a.conflist", {"name": "x", "plugins": [{"type": "a"}, {"type": "b", "capabilities": "dns"}]}),
        ("a.conf", '{"name": "x", "type": "a", "ipam": %s}' % ("[" * 300 + "]" * 300)),
    ],
)
def test_what_is_no_network_is_passed_over(name, text):
    good = conf("b.conf", {"name": "x", "type": "ptp"})
    assert configurations((conf(name, text), good))["x"]["plugins"] == [{"name": "x", "type": "ptp"}]


@row("S78")
@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            '{"name": "x", "type": "a", "capabilities": ["dns"]}',
            "the capabilities of the plugin a are not a JSON object",
        ),
        ('{"type": "a"}', "it has no name"),
        ("[" * 100_000, r"it is not JSON \(it is nested deeper than 100 levels\)"),
        ('{"name": "x", "type": "a", "ipam": %s}' % ("[" * 300 + "]" * 300), "nested deeper than 100 levels"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_name(rootfs, text, what):
    with pytest.raises(HostError, match=f"has the network 'x'; .*; /etc/cni/net.d/a.conf: .*{what}"):
        planned(rootfs, "x", cni=(conf("a.conf", text),))


@row("S78")
@pytest.mark.parametrize("word", ["none", "NONE"])
def test_none_is_no_server_that_plugins_are_told(rootfs, word):
    files = (conf("a.conf", {"name": "x", "type": "a", "capabilities": {"dns": True}}),)
    (config,) = planned(rootfs, "x", {"dns": (word,)}, cni=files).network.configs
    assert "runtimeConfig" not in config
    (config,) = planned(rootfs, "x", {"dns": (word,), "dns_search": ("s",)}, cni=files).network.configs
    assert config["runtimeConfig"] == {"dns": {"servers": [], "searches": ["s"], "options": []}}


@row("S78")
def test_the_first_of_a_name_counts_and_one_plugin_is_a_list():
    files = (
        conf("a.conflist", {"name": "x", "cniVersion": "1.0.0", "plugins": [{"type": "a"}, {"type": "b"}]}),
        conf("b.conf", {"name": "x", "type": "c"}),
        conf("c.json", {"name": "y", "type": "d"}),
        TextFile("/etc/cni/net.d/d.conf", "", "it can't be read: Permission denied"),
    )
    found = configurations(files)
    assert list(found) == ["x", "y"]
    assert [plugin["type"] for plugin in found["x"]["plugins"]] == ["a", "b"]
    assert found["x"]["cniVersion"] == "1.0.0" and found["y"]["cniVersion"] == "0.1.0"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "type", "plugins", "x"]), inner)
    ),
    max_leaves=8,
)


@row("S78")
@given(st.lists(st.tuples(st.sampled_from(["a.conf", "a.conflist", "a.json"]), JSON), max_size=4))
def test_no_file_is_too_odd(files):
    for name, value in configurations(tuple(conf(file, json.dumps(value)) for file, value in files)).items():
        assert name and value["plugins"]
        assert all("/" not in plugin["type"] for plugin in value["plugins"])


@row("S78")
def test_a_directory_that_does_not_exist_is_told_where_it_was_asked_for(rootfs, tmp_path):
    request = RunRequest(
        ("x",), rootfs, isolation="chroot", network="a", cni_config_dirs=(str(tmp_path / "no"),)
    )
    with pytest.raises(HostError, match=r"the CNI configuration directory .*/no does not exist"):
        look_up(request, made_up_host())


# The numbers of a pool.


def test_a_number_is_given_again_last(tmp_path):
    pool = Pool(str(tmp_path / "pool"))
    taken = []
    for _ in range(7):
        with pool.locked():
            number, fd = pool.take(2, 4)
            pool.drop(number)
            os.close(fd)
        taken.append(number)
    assert taken == [2, 3, 4, 2, 3, 4, 2]


def test_a_full_pool_says_so_and_a_held_number_is_known(tmp_path):
    pool = Pool(str(tmp_path / "pool"))
    with pool.locked():
        held = [pool.take(2, 4) for _ in range(3)]
        assert pool.take(2, 4) is None
        assert pool.numbers() == {2: True, 3: True, 4: True}
        os.close(held[1][1])
        assert pool.numbers() == {2: True, 3: False, 4: True}
        assert pool.take(2, 4) is None  # what it stood for has to go first
        pool.drop(3)
        assert pool.take(2, 4)[0] == 3
    assert os.stat(pool.directory).st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", ["", "x", "-5", "99999", "3.5", "٣"])
def test_a_broken_note_of_the_last_number_does_no_harm(tmp_path, text):
    pool = Pool(str(tmp_path))
    (tmp_path / "last").write_text(text)
    (tmp_path / "lease-x").touch()
    with pool.locked():
        assert pool.take(2, 4)[0] in (2, 3, 4)


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.integers(0, 9), max_size=40))
def test_no_number_is_given_twice(tmp_path_factory, steps):
    """Take while even, else give one back."""
    pool = Pool(str(tmp_path_factory.mktemp("pool")))
    held = {}
    for step in steps:
        with pool.locked():
            if step % 2 and held:
                number = sorted(held)[step % len(held)]
                pool.drop(number)
                os.close(held.pop(number))
            elif found := pool.take(10, 15):
                assert found[0] not in held and 10 <= found[0] <= 15
                held[found[0]] = found[1]
            else:
                assert len(held) == 6
            assert pool.numbers() == dict.fromkeys(held, True)
    for fd in held.values():
        os.close(fd)


def _user_of(directory, queue, go, count):
    pool = Pool(directory)
    for _ in range(count):
        with pool.locked():
            number, fd = pool.take(2, 60)
        queue.put(("has", number))
        with pool.locked():
            queue.put(("gives", number))
            pool.drop(number)
            os.close(fd)
    with pool.locked():
        queue.put(("keeps", pool.take(2, 60)[0]))
    go.wait()


def test_processes_at_once_get_different_numbers_and_the_killed_lose_theirs(tmp_path):
    fork = multiprocessing.get_context("fork")
    queue, go = fork.Queue(), fork.Event()
    directory = str(tmp_path / "pool")
    all_of_them = [fork.Process(target=_user_of, args=(directory, queue, go, 20)) for _ in range(8)]
    for process in all_of_them:
        process.start()
    kept = []
    while len(kept) < 8:
        what, number = queue.get(timeout=60)
        if what == "keeps":
            kept.append(number)
    assert len(set(kept)) == 8
    pool = Pool(directory)
    with pool.locked():
        assert pool.numbers() == dict.fromkeys(kept, True)
    for process in all_of_them:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with pool.locked():
        assert pool.numbers() == dict.fromkeys(kept, False)


def test_a_holder_that_ended_is_forgotten(tmp_path):
    pool = Pool(str(tmp_path))
    with pool.locked():
        fd = pool.hold()
        assert pool.is_held()
        os.close(fd)
        assert not pool.is_held()
    assert [name for name in os.listdir(tmp_path) if name.startswith("holder-")] == []
