"""What is decided where nobody said anything: by value, and that plans and decisions are the same."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import row

from run_step import HostError, HostFacts, RequestError, RunRequest, decide, option_checks, plan
from run_step.host import RuntimeFact
from run_step.linux.process import CAPABILITIES

ALL = tuple(CAPABILITIES)
DOCKER = tuple(
    "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD"
    " AUDIT_WRITE SETFCAP".split()
)
RUNC = (RuntimeFact("runc", "/usr/sbin/runc", True),)
BROKEN = (RuntimeFact("crun", "/usr/bin/crun", False, "no cgroups here"),)
TUN = "/dev/net/tun can't be opened"

ROOT = HostFacts(capabilities=ALL, runtimes=RUNC, has_slirp4netns=True, has_pasta=True)
INSIDE = replace(ROOT, uid_map=((0, 1000, 1), (1, 100000, 65536)), gid_map=((0, 1000, 1), (1, 100000, 65536)))
OUTSIDE = replace(
    ROOT, uid=1000, gid=1000, capabilities=(), subuids=((100000, 65536),), subgids=((100000, 65536),)
)
ONE_ID = replace(INSIDE, uid_map=((0, 1000, 1),), gid_map=((0, 1000, 1),))
CONTAINER = replace(ROOT, capabilities=DOCKER, runtimes=(), has_mounts=False, no_userns="they are forbidden")
POWERLESS = replace(CONTAINER, capabilities=())

TABLE = {
    "root": (ROOT, "none oci host profile own cgroups"),
    "root without runtimes": (replace(ROOT, runtimes=()), "none chroot host profile own cgroups"),
    "root with a broken runtime": (replace(ROOT, runtimes=BROKEN), "none chroot host profile own cgroups"),
    "root without libseccomp": (
        replace(ROOT, runtimes=(), has_libseccomp=False),
        "none chroot host none own cgroups",
    ),
    "root without cgroups": (
        replace(ROOT, runtimes=(), no_cgroups="read-only"),
        "none chroot host profile own ulimits",
    ),
    "a user before": (OUTSIDE, "own rootless slirp4netns profile bound ulimits"),
    "a user": (INSIDE, "none rootless slirp4netns profile bound ulimits"),
    "a user with pasta": (
        replace(INSIDE, has_slirp4netns=False),
        "none rootless pasta profile bound ulimits",
    ),
    "a user of IPv6": (replace(INSIDE, address="2001:db8::7"), "none rootless pasta profile bound ulimits"),
    "a user without tun": (replace(INSIDE, no_tun=TUN), "none rootless host profile bound ulimits"),
    "a user without helpers": (
        replace(INSIDE, has_slirp4netns=False, has_pasta=False),
        "none rootless host profile bound ulimits",
    ),
    "a user without runtimes": (replace(INSIDE, runtimes=()), "none chroot host profile bound cgroups"),
    "a user with one ID": (ONE_ID, "none chroot host profile bound cgroups"),
    "a user that may not": (
        replace(OUTSIDE, no_userns="forbidden"),
        "- rootless slirp4netns profile bound ulimits",
    ),
    "root of docker, namespaces allowed": (
        replace(CONTAINER, no_userns=""),
        "own chroot host none made cgroups",
    ),
    "a container that allows nothing": (CONTAINER, "none chroot host none made cgroups"),
    "the same without MKNOD": (
        replace(CONTAINER, capabilities=("SYS_CHROOT",)),
        "none chroot host none image cgroups",
    ),
    "root of a namespace in it": (
        replace(CONTAINER, uid_map=((0, 7, 1),)),
        "none chroot host none image cgroups",
    ),
    "root without any": (POWERLESS, "none - host none image cgroups"),
}

SHORT = {
    "the default profile": "profile",
    "nodes of the step's own": "own",
    "the host's nodes, bound": "bound",
    "nodes made for the time of the step": "made",
    "what the image has": "image",
    "only ulimits": "ulimits",
    "": "-",
}


@row("X04")
@pytest.mark.parametrize("name", TABLE)
def test_the_whole_automatic_choice(name):
    facts, wanted = TABLE[name]
    assert " ".join(SHORT.get(choice.taken, choice.taken) for choice in decide(facts)) == wanted


@row("X04")
def test_each_alternative_says_why_it_was_not_taken():
    chosen = decide(replace(INSIDE, no_tun=TUN, has_pasta=False))
    assert chosen.isolation.others == (("oci", "it needs root of the machine"),)
    assert chosen.network.others == (("slirp4netns", TUN), ("pasta", "not found (install passt)"))
    assert decide(replace(ROOT, runtimes=BROKEN)).isolation.others == (
        ("oci", "crun: no cgroups here"),
        ("rootless", "crun: no cgroups here"),
    )
    assert decide(CONTAINER).user_namespace.others == (("own", "they are forbidden"),)


@row("X04")
def test_what_is_lost_is_noted_and_nothing_else():
    assert decide(ROOT).notes == decide(INSIDE).notes == decide(ONE_ID).notes == ()
    assert decide(replace(INSIDE, no_tun=TUN)).notes == (f"steps share the host's network: {TUN}",)
    (note,) = decide(replace(INSIDE, has_slirp4netns=False, has_pasta=False)).notes
    assert "install slirp4netns" in note and "install passt" in note
    (note,) = decide(replace(ROOT, runtimes=())).notes
    assert note.endswith("because no OCI runtime was found (install runc or crun)")
    (note,) = decide(replace(ROOT, runtimes=BROKEN)).notes
    assert note.endswith("no OCI runtime works here: crun: no cgroups here")
    assert any("no CAP_SYS_ADMIN" in note for note in decide(replace(CONTAINER, no_userns="")).notes)


@row("X04")
def test_root_without_any_capability_is_told_what_would_help(ask):
    with pytest.raises(HostError) as caught:
        plan(ask(isolation="chroot"), POWERLESS)
    for word in ("CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SETFCAP", "as an ordinary user"):
        assert word in str(caught.value)


@row("S77")
@pytest.mark.parametrize("network", ["private", "slirp4netns", "pasta"])
@pytest.mark.parametrize("isolation", ["rootless", "chroot"])
def test_what_was_asked_for_stays_an_error(ask, network, isolation):
    with pytest.raises(HostError) as caught:
        plan(ask(isolation=isolation, network=network), replace(INSIDE, no_tun=TUN))
    assert f"needs a tap device, but {TUN}" in str(caught.value)
    assert "use --network host or none" in str(caught.value)


FACTS = st.builds(
    HostFacts,
    capabilities=st.sampled_from([ALL, DOCKER, ("SYS_CHROOT",), ()]),
    runtimes=st.sampled_from([(), RUNC, BROKEN, (*BROKEN, *RUNC)]),
    uid_map=st.sampled_from([HostFacts().uid_map, INSIDE.uid_map, ONE_ID.uid_map]),
    gid_map=st.sampled_from([HostFacts().gid_map, INSIDE.gid_map, ONE_ID.gid_map]),
    has_slirp4netns=st.booleans(),
    has_pasta=st.booleans(),
    has_mounts=st.booleans(),
    has_libseccomp=st.booleans(),
    address=st.sampled_from(["", "192.0.2.1", "2001:db8::1"]),
    no_tun=st.sampled_from(["", TUN]),
    no_userns=st.sampled_from(["", "forbidden"]),
    no_cgroups=st.sampled_from(["", "read-only"]),
)


@row("X04")
@given(facts=FACTS)
@settings(deadline=None)
def test_the_plan_is_what_was_decided(golden_rootfs, facts):
    """And a plan can always be made, unless the decision says that there is none."""
    chosen = decide(facts)
    request = RunRequest(("/bin/true",), golden_rootfs, isolation=chosen.isolation.taken or "chroot")
    if not chosen.isolation.taken:
        with pytest.raises(HostError) as caught:
            plan(request, facts)
        assert str(caught.value) == chosen.isolation.why
        return
    made = plan(request, facts)
    assert made.network.mode == chosen.network.taken
    assert ("seccomp" in made.spec["linux"]) == (chosen.seccomp.taken != "none")
    assert chosen.network.note == "" or chosen.network.note in made.warnings


@pytest.fixture(scope="module")
def golden_rootfs():
    import golden_cases

    return str(golden_cases.ROOTFS)


@row("S51")
@pytest.mark.parametrize("dns", [("none", "1.1.1.1"), ("1.1.1.1", "NONE"), ("none", "1.1.1.1", "none")])
@pytest.mark.parametrize("network", ["host", "none", "bridge"])
def test_none_beside_a_server_is_told(ask, host, dns, network):
    for attempt in (lambda request: plan(request, host), option_checks.options):
        with pytest.raises(RequestError) as caught:
            attempt(ask(dns=dns, network=network))
        assert "keeps the image's own /etc/resolv.conf, so it can't stand beside 1.1.1.1" in str(caught.value)


@row("S51")
def test_none_may_be_said_twice(ask, host):
    made = plan(ask(dns=("none", "None")), host)
    assert "resolv.conf" not in {item.name for item in made.files}
