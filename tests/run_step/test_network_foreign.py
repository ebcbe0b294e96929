"""Row X79: firewalls of other programs on a machine of the tests' own (see lab.py), and what is said of them."""

import subprocess
import sys

import as_user
import pytest
from busybox_root import why_not_run
from lab import WEB4, WEB6, lab
from lab_step import WEB, LabStep
from rows import row

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_not_run()), reason=why_not_run())]

TRY = f"nc -w 1 {WEB4} 80 </dev/null || echo dropped; nc -w 1 {WEB6} 80 </dev/null || echo dropped"
ALONE = "steps may reach only this machine over IPv{}: {}"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """One for all whose rules can be taken away again."""
    with lab(tmp_path_factory.mktemp("lab"), dns=False) as made:
        yield made


@pytest.fixture
def firewall(machine):
    """Takes lines of nft and of iptables."""

    def make(*lines):
        for line in lines:
            machine.run(*(line.split() if line.startswith("ip") else ["nft", line]))

    yield make
    machine.run("nft", "flush", "ruleset")
    for program, names in (("iptables-legacy", "ip_tables_names"), ("ip6tables-legacy", "ip6_tables_names")):
        known = machine.run("cat", f"/proc/net/{names}").split()
        for table in known:
            machine.run(program, "-t", table, "-F")
            machine.run(program, "-t", table, "-P", "FORWARD", "ACCEPT")
            machine.run(program, "-t", table, "-X")


@row("X79")
def test_iptables_policy_is_passed_by_two_rules_that_go_with_the_bridge(tmp_path):
    """What docker, ufw and others leave on a machine: iptables drops what nobody has a rule for."""
    with lab(tmp_path / "lab", dns=False) as machine:
        for program in ("iptables", "ip6tables"):
            machine.run(program, "-P", "FORWARD", "DROP")
            machine.run(program, "-N", "DOCKER-USER")
            machine.run(program, "-A", "FORWARD", "-j", "DOCKER-USER")
        step = LabStep(machine, tmp_path, "chroot")
        result = step.run("fetch web; fetch web6", network="bridge", add_hosts=WEB)
        assert (step.stdout.count(b"peer="), list(result.warnings)) == (2, [])
        for program in ("iptables", "ip6tables"):
            # It can still read its own table, and knows our rules.
            ours = "-A FORWARD {} buildfront0 -m comment --comment buildfront -j ACCEPT"
            assert machine.run(program, "-S", "FORWARD").splitlines() == [
                "-P FORWARD DROP",
                "-A FORWARD -j DOCKER-USER",
                ours.format("-i"),
                ours.format("-o"),
            ]
        step.close()
        for program in ("iptables", "ip6tables"):
            left = machine.run(program, "-S", "FORWARD").splitlines()
            assert left == ["-P FORWARD DROP", "-A FORWARD -j DOCKER-USER"]


@row("X79")
def test_what_a_rule_of_somebody_else_drops_is_dropped(tmp_path):
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run("iptables", "-P", "FORWARD", "DROP")
        machine.run("iptables", "-A", "FORWARD", "-d", WEB4, "-j", "REJECT")
        step = LabStep(machine, tmp_path, "chroot")
        line = f"nc -w 1 {WEB4} 80 </dev/null || echo dropped; fetch web6"
        result = step.run(line, network="bridge", add_hosts=WEB)
        assert b"dropped" in step.stdout and b"peer=" in step.stdout
        assert list(result.warnings) == []
        step.close()


FOREIGN = {
    "a table of the machine's own": (
        "add table inet mine; add chain inet mine out { type filter hook forward priority 0; policy drop; }",
        "inet mine out drops what it has no rule for: nft insert rule inet mine out iifname buildfront0 accept;"
        " nft insert rule inet mine out oifname buildfront0 accept",
    ),
    "firewalld": (
        "add table inet firewalld;"
        " add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy accept; };"
        " add rule inet firewalld filter_FORWARD ct state { established, related } accept;"
        " add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited",
        "inet firewalld filter_FORWARD drops it by a rule:"
        " firewall-cmd --zone=trusted --add-interface=buildfront0",
    ),
}


@row("X79")
def test_a_rule_that_is_not_understood_is_no_matter(tmp_path):
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run(
            "nft", "add table ip t; add chain ip t c { type filter hook forward priority 0; policy accept; }"
        )
        machine.run("nft", "add rule ip t c tcp dport 8081 synproxy mss 1460 wscale 7")
        machine.run("nft", "add rule ip t c limit rate over 1000000/second drop")
        step = LabStep(machine, tmp_path, "chroot")
        result = step.run("fetch web", network="bridge", add_hosts=WEB)
        assert (step.stdout[:5], list(result.warnings)) == (b"peer=", [])
        step.close()


@row("X79")
@pytest.mark.parametrize("name", FOREIGN)
def test_other_chains_that_drop_are_told_of_and_never_changed(tmp_path, name):
    rules, said = FOREIGN[name]
    with lab(tmp_path / "lab", dns=False) as machine:
        machine.run("nft", rules)
        before = machine.run("nft", "-s", "list", "ruleset")
        step = LabStep(machine, tmp_path, "chroot")
        result = step.run(TRY, network="bridge")
        assert step.stdout.count(b"dropped") == 2
        assert list(result.warnings) == [ALONE.format(version, said) for version in (4, 6)]
        step.close()
        assert machine.run("nft", "-s", "list", "ruleset") == before


@row("X79")
def test_the_remedy_that_is_told_helps(tmp_path):
    with lab(tmp_path / "lab", dns=False) as machine:
        rules, said = FOREIGN["a table of the machine's own"]
        machine.run("nft", rules)
        machine.run("sh", "-ec", said.partition(": ")[2])
        step = LabStep(machine, tmp_path, "chroot")
        result = step.run("fetch web; fetch web6", network="bridge", add_hosts=WEB)
        assert (step.stdout.count(b"peer="), list(result.warnings)) == (2, [])
        step.close()


@row("X79")
def test_the_older_iptables_is_told_of_and_what_is_told_helps(tmp_path):
    with lab(tmp_path / "lab", dns=False) as machine:
        for program in ("iptables-legacy", "ip6tables-legacy"):
            machine.run(program, "-P", "FORWARD", "DROP")
            machine.run(program, "-A", "FORWARD", "-i", "other0", "-j", "ACCEPT")
        step = LabStep(machine, tmp_path, "chroot")
        result = step.run(TRY, network="bridge")
        assert step.stdout.count(b"dropped") == 2
        remedies = []
        for version, program, warning in zip(
            (4, 6), ("iptables-legacy", "ip6tables-legacy"), result.warnings, strict=True
        ):
            remedy = "; ".join(f"{program} -I FORWARD {flag} buildfront0 -j ACCEPT" for flag in ("-i", "-o"))
            assert warning == ALONE.format(
                version, f"FORWARD of {program} drops what it has no rule for: {remedy}"
            )
            remedies.append(remedy)
        step.close()
        machine.run("sh", "-ec", "; ".join(remedies))
        step = LabStep(machine, tmp_path / "again", "chroot")
        result = step.run("fetch web; fetch web6", network="bridge", add_hosts=WEB)
        assert (step.stdout.count(b"peer="), list(result.warnings)) == (2, [])
        step.close()


MINE = "add table inet mine; add chain inet mine out {{ type filter hook forward priority 0; policy {}; }}; "
DROPS, ACCEPTS = MINE.format("drop"), MINE.format("accept")
ANSWERED = "add rule inet mine out ct state established,related accept; "
OUT, BACK = "iifname buildfront0 accept", "oifname buildfront0 accept"

LET_THROUGH = {
    "a table that is dormant": [DROPS, "add table inet mine { flags dormant; }"],
    "all but what comes from outside": [DROPS + ANSWERED + 'add rule inet mine out iifname != "eth0" accept'],
    "what leaves": [DROPS + ANSWERED + "add rule inet mine out ct state new oifname eth0 accept"],
    "a set": [
        DROPS + 'add rule inet mine out iifname { "buildfront0", "docker0" } accept;'
        ' add rule inet mine out oifname { "buildfront0", "docker0" } accept'
    ],
    "a set of a name": [
        DROPS + "add set inet mine known { type ifname; elements = { buildfront0, docker0 }; };"
        " add rule inet mine out iifname @known accept; add rule inet mine out oifname @known accept"
    ],
    "a set of pairs": [
        DROPS
        + 'add rule inet mine out iifname . oifname { "buildfront0" . "eth0", "eth0" . "buildfront0" } accept'
    ],
    "beginnings of names": [
        DROPS + 'add rule inet mine out iifname "build*" accept;'
        ' add rule inet mine out oifname { "build*", "docker*" } accept'
    ],
    "verdicts of a map": [
        DROPS + 'add rule inet mine out iifname vmap { "buildfront0" : accept };'
        " add rule inet mine out ct state vmap { invalid : drop, established : accept }"
    ],
    "a chain that is called": [
        DROPS + f"add chain inet mine z; add rule inet mine z {OUT}; add rule inet mine z {BACK};"
        " add rule inet mine out jump z"
    ],
    "addresses": [
        DROPS + ANSWERED + "add rule inet mine out ip saddr 10.0.0.0/8 accept;"
        " add rule inet mine out ip6 saddr fc00::/7 accept"
    ],
    "addresses in sets": [
        DROPS + ANSWERED + "add rule inet mine out ip saddr { 10.0.0.0/8, 172.16.0.0/12 } accept;"
        " add rule inet mine out ip6 saddr { fc00::/7, fe80::/10 } accept"
    ],
    "a device and addresses": [
        DROPS + ANSWERED + 'add rule inet mine out iifname . ip saddr { "buildfront0" . 10.0.0.0/8 } accept;'
        " add rule inet mine out meta nfproto ipv6 accept"
    ],
    "too much of it is dropped": [ACCEPTS + "add rule inet mine out limit rate over 100000/second drop"],
    "a port": [DROPS + ANSWERED + "add rule inet mine out tcp dport 80 accept"],
    "what firewalld makes of its remedy": [
        "add table inet firewalld;"
        " add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy accept; };"
        " add chain inet firewalld filter_FORWARD_ZONES; add chain inet firewalld filter_FWD_trusted;"
        " add rule inet firewalld filter_FWD_trusted accept;"
        " add rule inet firewalld filter_FORWARD_ZONES iifname buildfront0 goto filter_FWD_trusted;"
        " add rule inet firewalld filter_FORWARD ct state { established, related } accept;"
        " add rule inet firewalld filter_FORWARD ct status dnat accept;"
        " add rule inet firewalld filter_FORWARD jump filter_FORWARD_ZONES;"
        " add rule inet firewalld filter_FORWARD ct state invalid drop;"
        " add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited"
    ],
    "iptables, a rule before the last": [
        f"{program} -A FORWARD {rule}"
        for program in ("iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy")
        for rule in (
            "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-i buildfront+ -m comment --comment steps -j ACCEPT",
            "-j REJECT",
        )
    ],
    "iptables-legacy, chains that are called": [
        f"{program} {rule}"
        for program in ("iptables-legacy", "ip6tables-legacy")
        for rule in (
            "-P FORWARD DROP",
            "-N other",
            "-N one",
            "-A one",
            "-A one ! -o eth0 -j RETURN",
            "-A one ! -i eth0 -p tcp -g other",
            "-A other -p udp -j DROP",
            "-A other -j ACCEPT",
            "-A FORWARD -j one",
            "-A FORWARD -i eth0 -m state --state ESTABLISHED -j ACCEPT",
        )
    ],
}


@row("X79")
@pytest.mark.parametrize("name", LET_THROUGH)
def test_nothing_is_said_where_somebody_lets_steps_through(tmp_path, machine, firewall, name):
    firewall(*LET_THROUGH[name])
    step = LabStep(machine, tmp_path, "chroot")
    result = step.run("fetch web; fetch web6", network="bridge", add_hosts=WEB)
    step.close()
    assert (step.stdout.count(b"peer="), list(result.warnings)) == (2, [])


POLICY, RULE = "drops what it has no rule for", "drops it by a rule"

DROPPED = {
    "a rule about it that decides nothing": (
        [DROPS + "add rule inet mine out iifname buildfront0 counter"],
        POLICY,
    ),
    "one direction alone": ([DROPS + f"add rule inet mine out {OUT}"], POLICY),
    "a rule about it": ([DROPS + "add rule inet mine out iifname buildfront0 drop"], RULE),
    "all but another device": ([ACCEPTS + 'add rule inet mine out iifname != "docker0" drop'], RULE),
    "a chain that is called": (
        [ACCEPTS + "add chain inet mine z; add rule inet mine z drop; add rule inet mine out jump z"],
        RULE,
    ),
    "a log before": ([ACCEPTS + 'add rule inet mine out log prefix "x" counter drop'], RULE),
    "a rule that may accept nothing": (
        [DROPS + "add rule inet mine out ip saddr 10.0.0.0/8 ip saddr 11.0.0.0/8 accept"],
        POLICY,
    ),
    "iptables, the last rule": (["iptables -A FORWARD -j REJECT", "ip6tables -A FORWARD -j REJECT"], RULE),
    "iptables, another table": (
        ["iptables -t mangle -A FORWARD -j DROP", "ip6tables -t mangle -A FORWARD -j DROP"],
        RULE,
    ),
    "iptables-legacy, the last rule": (
        [
            f"{program} -A FORWARD {rule}"
            for program in ("iptables-legacy", "ip6tables-legacy")
            for rule in ("-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", "-j REJECT")
        ],
        RULE,
    ),
    "iptables-legacy, another table": (
        ["iptables-legacy -t mangle -P FORWARD DROP", "ip6tables-legacy -t mangle -P FORWARD DROP"],
        POLICY,
    ),
}


@row("X79")
@pytest.mark.parametrize("name", DROPPED)
def test_what_is_certainly_dropped_is_told_and_the_remedy_helps(tmp_path, machine, firewall, name):
    lines, how = DROPPED[name]
    firewall(*lines)
    before = machine.run("nft", "-s", "list", "ruleset")
    step = LabStep(machine, tmp_path / "before", "chroot")
    result = step.run(TRY, network="bridge")
    step.close()
    assert step.stdout.count(b"dropped") == 2
    assert [f" {how}: " in said for said in result.warnings] == [True, True]
    assert machine.run("nft", "-s", "list", "ruleset") == before
    for remedy in {said.partition(f" {how}: ")[2] for said in result.warnings}:
        machine.run("sh", "-ec", remedy)
    step = LabStep(machine, tmp_path / "after", "chroot")
    result = step.run("fetch web; fetch web6", network="bridge", add_hosts=WEB)
    step.close()
    assert (step.stdout.count(b"peer="), list(result.warnings)) == (2, [])


@row("X79")
def test_what_ufw_and_kubernetes_have_before_iptables_policy_is_passed(tmp_path, machine, firewall):
    """Conditions that may be true of some packets are no reason to leave the rest to the policy."""
    rules = (
        "-P FORWARD DROP",
        "-N before",
        "-A before -p icmp --icmp-type echo-request -j ACCEPT",
        "-A before -m mark --mark 0x4000/0x4000 -j ACCEPT",
        "-A before -m conntrack --ctstate INVALID -j DROP",
        "-A before -m addrtype --dst-type LOCAL -j ACCEPT",
        "-A before -p tcp --dport 22 -j DROP",
        "-A FORWARD -j before",
        "-A FORWARD -m limit --limit 3/min -j LOG",
    )
    firewall(*(f"iptables {rule}" for rule in rules))
    step = LabStep(machine, tmp_path, "chroot")
    result = step.run("fetch web", network="bridge", add_hosts=WEB)
    assert (step.stdout[:5], list(result.warnings)) == (b"peer=", [])
    assert machine.run("iptables", "-S", "FORWARD").count("buildfront0") == 2
    step.close()
    assert "buildfront0" not in machine.run("iptables", "-S", "FORWARD")


@row("X79")
def test_a_rule_of_the_same_comment_that_is_not_ours_stays(tmp_path, machine, firewall):
    firewall("iptables -P FORWARD DROP")
    firewall('add rule ip filter FORWARD iifname "eth0" counter drop comment "buildfront"')
    before = machine.run("nft", "-s", "list", "ruleset")
    step = LabStep(machine, tmp_path, "chroot")
    result = step.run("true", network="bridge")
    step.close()
    said = "ip filter FORWARD drops it by a rule: iptables -I FORWARD -i buildfront0 -j ACCEPT;"
    assert [ALONE.format(4, said) in text for text in result.warnings] == [True]
    assert machine.run("nft", "-s", "list", "ruleset") == before


ODD = """\
ip saddr @s drop
ip saddr 1.2.3.4 add @d { ip saddr timeout 5s }
tcp flags syn tcp option maxseg size set rt mtu
ct mark set 5
queue num 3-5 bypass
log group 5 prefix "xx"
numgen inc mod 3 vmap { 0 : accept, 1 : drop }
fib daddr type local drop
quota over 5 mbytes drop
limit rate 5/second burst 3 packets accept
meta time > "2030-01-01" drop
exthdr frag exists drop
ct count over 5 drop
socket transparent 1 accept
osf name "Linux" drop
rt classid 5 accept
ip dscp set cs1
ipsec in reqid 5 accept
meta skuid 5 accept
ip saddr 1.2.3.4 counter accept comment "\u0105\u00fcn\u00efcode"
reject with tcp reset
vlan id 5 drop
synproxy mss 1460 wscale 7
dup to 1.2.3.4 device "lo"
tcp dport 5 @th,0,16 5 drop
ip saddr . ip daddr { 1.2.3.4 . 1.2.3.5 } drop
ip saddr 1.2.3.4 meta mark set ip saddr
ct mark & 0xf == 5 accept
meta mark 0-5 accept
meta hour "10:00"-"20:00" drop
tcp option timestamp exists accept
fib saddr . iif oif missing drop
ct original saddr 1.2.3.4 accept
udp dport 53 ip daddr set 1.2.3.4
ip saddr @s counter jump { accept; }
meta mark vmap @nothing
"""


@row("X79")
def test_no_rule_of_whatever_kind_fails_a_step(tmp_path, machine, firewall):
    """All of them, one after the other, and many."""
    firewall(
        "add table ip t; add chain ip t c { type filter hook forward priority 0; policy accept; }",
        "add set ip t s { type ipv4_addr; }; add map ip t nothing { type mark : verdict; }",
        "add set ip t d { type ipv4_addr; flags dynamic,timeout; timeout 1m; }",
    )
    known = [line for line in ODD.splitlines() if not missing(machine, line)]
    assert len(known) > 20
    script = "import sys; from run_step.network import foreign, tables\n"
    script += "chain, = [chain for chain in tables.chains() if chain.table == 't']\n"
    script += "print(len([list(rule) for rule in tables.rules(chain.family, 't', 'c')]))\n"
    assert int(machine.run(*PYTHON, script)) == len(known)
    machine.run("nft", "flush chain ip t c; add rule ip t c tcp dport 8081 synproxy mss 1460 wscale 7")
    step = LabStep(machine, tmp_path, "chroot")
    result = step.run("fetch web", network="bridge", add_hosts=WEB)
    step.close()
    assert (step.stdout[:5], list(result.warnings)) == (b"peer=", [])


PYTHON = ["env", f"PYTHONPATH={as_user.PROJECT}/plugins", sys.executable, "-c"]


def missing(machine, rule):
    """Whether this kernel or this nft does not know it."""
    done = subprocess.run([*machine.prefix, "nft", "add", "rule", "ip", "t", "c", rule], check=False)
    return done.returncode != 0


MEASURE = """
import time
from run_step.network import foreign
begin = time.process_time()
said = foreign.let_through("buildfront", "buildfront0")
print(said, time.process_time() - begin)
"""


@row("X79")
def test_thousands_of_rules_take_no_time(tmp_path, machine, firewall):
    number = 3000
    lines = ["add table ip kube"]
    for one in range(number):
        lines.append(f"add chain ip kube c{one}")
        lines.append(f"add rule ip kube c{one} ip daddr 10.1.{one % 250}.{one // 250} counter accept")
    subprocess.run([*machine.prefix, "nft", "-f", "-"], input="\n".join(lines), text=True, check=True)
    lines = ["*filter", ":FORWARD DROP"]
    for one in range(number):
        lines.append(f"-A FORWARD -s 10.2.{one % 250}.{one // 250} -m comment --comment {one} -j ACCEPT")
    lines = "\n".join([*lines, "COMMIT", ""])
    for program in ("iptables-restore", "iptables-legacy-restore"):
        subprocess.run([*machine.prefix, program], input=lines, text=True, check=True)
    machine.run("ip", "link", "add", "buildfront0", "type", "bridge")
    machine.run("ip", "addr", "add", "10.213.0.1/16", "dev", "buildfront0")
    try:
        said, _, seconds = machine.run(*PYTHON, MEASURE).rpartition(" ")
    finally:
        machine.run("ip", "link", "del", "buildfront0")
    assert "{4: 'FORWARD of iptables-legacy drops what it has no rule for: " in said
    assert float(seconds) < 1.5
