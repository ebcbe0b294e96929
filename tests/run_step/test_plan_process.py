"""What a plan says of the process: environment, directory, command, user, capabilities, limits."""

import os

import pytest
from rows import row

from run_step import HostError, RequestError, plan, resolve_group, resolve_user
from run_step.host import Rlimit
from run_step.linux.process import CAPABILITIES
from run_step.pipeline.capabilities import DEFAULT
from run_step.pipeline.command import FALLBACK_PATH
from run_step.pipeline.environment import DEFAULT_PATH
from run_step.pipeline.rlimits import UNLIMITED, parse
from run_step.rootfs import Root


def env_of(made):
    return made.spec["process"]["env"]


def put(rootfs, path, text="", mode=0o755):
    full = rootfs + path
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.chmod(full, mode)


# Isolation


@row("S01")
def test_the_request_chooses_and_oci_is_the_last_resort(ask, host):
    assert plan(ask(isolation="chroot"), host).isolation == "chroot"
    assert plan(ask(isolation=""), host).isolation == "oci"


@row("S01")
def test_an_unknown_isolation_is_told_the_known_ones(ask, host):
    with pytest.raises(RequestError, match=r"'vm'.*oci, chroot, rootless"):
        plan(ask(isolation="vm"), host)


@row("S03")
def test_private_users_with_the_hosts_processes_are_refused(ask, host):
    from run_step import NamespaceOption

    asked = (NamespaceOption("user"), NamespaceOption("pid", host=True))
    with pytest.raises(RequestError, match="PID namespace"):
        plan(ask(namespaces=asked), host)


@row("S71")
def test_the_working_runtime_is_taken_unless_one_is_asked_for(ask, host):
    assert plan(ask(), host).runtime == "runc"
    assert plan(ask(runtime="/opt/crun"), host).runtime == "/opt/crun"


@row("X04")
def test_no_working_runtime_is_an_error_that_says_why_and_what_helps(ask, host):
    from dataclasses import replace

    from run_step.host import RuntimeFact

    broken = replace(host, runtimes=(RuntimeFact("crun", "/bin/crun", False, "no cgroups"),))
    with pytest.raises(HostError, match=r"crun: no cgroups.*--isolation chroot"):
        plan(ask(), broken)


@row("X04")
def test_auto_takes_chroot_where_no_runtime_works(host):
    from dataclasses import replace

    from run_step import choose_isolation

    assert choose_isolation("auto", host)[0] == "oci"
    assert choose_isolation("auto", replace(host, runtimes=()))[0] == "chroot"
    assert choose_isolation("auto", replace(host, uid=1000))[0] == "chroot"
    assert choose_isolation("oci", replace(host, runtimes=()))[0] == "oci"


def test_an_empty_command_is_refused(ask, host):
    from dataclasses import replace

    with pytest.raises(RequestError, match="no command"):
        plan(replace(ask(), args=()), host)


@pytest.mark.parametrize("field", ["args", "env", "cwd", "hostname", "user"])
def test_a_null_byte_is_refused_before_anything_runs(ask, host, field):
    """The kernel would take the text up to the null byte and do something else than was asked."""
    from dataclasses import replace

    value = ("/bin/echo", "a=b\0c") if field in ("args", "env") else "/a\0b"
    with pytest.raises(RequestError, match="null"):
        plan(replace(ask(), **{field: value}), host)


def test_a_relative_rootfs_is_refused(ask, host):
    from dataclasses import replace

    with pytest.raises(RequestError, match="absolute"):
        plan(replace(ask(), rootfs="."), host)


# Environment


@row("S10")
def test_starts_with_the_default_path_alone(ask, host):
    assert env_of(plan(ask(no_hostname=True), host))[0] == f"PATH={DEFAULT_PATH}"
    assert {entry.split("=")[0] for entry in env_of(plan(ask(), host))} == {"PATH", "HOSTNAME", "HOME"}


@row("S10")
def test_later_assignment_replaces_in_place(ask, host):
    made = plan(ask(image_env=("A=1", "B=2", "A=3"), env=("B=4", "C=5", "PATH=/bin")), host)
    assert env_of(made)[:4] == ["PATH=/bin", "A=3", "B=4", "C=5"]


@row("S10")
def test_an_entry_with_no_equals_sign_is_dropped(ask, host):
    made = plan(ask(image_env=("LOOSE", "=x", "E="), env=("V=a=b",)), host)
    assert env_of(made)[1:3] == ["E=", "V=a=b"]
    assert not any(entry.startswith(("LOOSE", "=")) for entry in env_of(made))


@row("S11")
def test_proxies_come_first_and_the_image_overrides_them(ask, host):
    made = plan(ask(http_proxy=True, image_env=("http_proxy=other",)), host)
    assert env_of(made)[:3] == ["http_proxy=other", "NO_PROXY=localhost", f"PATH={DEFAULT_PATH}"]
    assert not any("proxy" in entry.lower() for entry in env_of(plan(ask(), host)))


@row("S11")
def test_only_set_and_not_empty_proxies_are_facts(monkeypatch):
    from run_step import probe
    from run_step.host_probe import PROXY_VARIABLES

    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://p:1")
    monkeypatch.setenv("ftp_proxy", "")
    assert probe(runtimes=False).proxy == ("https_proxy=http://p:1",)


@row("S12")
def test_hostname_is_added_unless_something_set_it(ask, host):
    assert "HOSTNAME=box" in env_of(plan(ask(hostname="box"), host))
    made = plan(ask(hostname="box", env=("HOSTNAME=mine",)), host)
    assert [entry for entry in env_of(made) if entry.startswith("HOSTNAME=")] == ["HOSTNAME=mine"]


# Working directory


@row("S13")
@pytest.mark.parametrize(
    ("step", "image", "wanted"),
    [
        ("", "", "/"),
        ("", "/srv", "/srv"),
        ("/a", "/srv", "/a"),
        ("a/b", "", "/a/b"),
        ("/a/../../b/./c//", "", "/b/c"),
        ("//x", "", "/x"),
        ("..", "", "/"),
    ],
)
def test_cwd_is_absolute_and_clean(ask, host, step, image, wanted):
    assert plan(ask(cwd=step, image_working_dir=image), host).spec["process"]["cwd"] == wanted


@row("S13")
def test_a_missing_cwd_is_planned_for_the_user(ask, host):
    made = [
        x for x in plan(ask(cwd="/new/dir", user="bob"), host).to_json()["actions"] if x["path"] == "/new/dir"
    ]
    assert made == [{"do": "MakeDirectory", "path": "/new/dir", "mode": 0o755, "uid": 1000, "gid": 1000}]


@row("S13")
def test_a_cwd_that_is_there_is_left_alone(ask, host):
    actions = plan(ask(cwd="/tmp", user="bob"), host).to_json()["actions"]
    assert not [item for item in actions if item["do"] == "MakeDirectory"]


@row("S13")
def test_a_link_is_followed_inside_the_root(ask, host, rootfs):
    os.symlink("/tmp", rootfs + "/place")
    actions = plan(ask(cwd="/place"), host).to_json()["actions"]
    assert not [item for item in actions if item["do"] == "MakeDirectory"]


# Command


@row("S14")
@pytest.mark.parametrize(
    ("path", "command", "wanted"),
    [
        ("/bin", "/no/such", "/no/such"),
        ("/bin", "sh", "/bin/sh"),  # a link counts
        ("/bin", "busybox", "/bin/busybox"),
        ("/nothing:/bin", "sh", "/bin/sh"),
        ("/bin", "nosuch", "nosuch"),
        ("/opt", "plain", "plain"),  # not executable
        ("/opt", "folder", "folder"),
        ("/opt", "dangling", "/opt/dangling"),
        ("/absolute", "tool", "/absolute/tool"),  # inside the root, though the host has no /opt/tool
        ("/outside", "tool", "/outside/tool"),
        (":/bin", "here", "/srv/here"),  # an empty element is the cwd
        ("/bin::", "here", "/srv/here"),
        ("/loop:/bin", "sh", "/bin/sh"),
        ("/bin", "x" * 300, "x" * 300),
    ],
)
def test_a_command_is_looked_up_on_the_path(ask, host, rootfs, path, command, wanted):
    put(rootfs, "/opt/plain", mode=0o644)
    put(rootfs, "/opt/tool")
    put(rootfs, "/srv/here")
    os.mkdir(rootfs + "/opt/folder")
    os.symlink("/nowhere", rootfs + "/opt/dangling")
    os.symlink("/opt", rootfs + "/absolute")
    os.symlink("../../../../opt", rootfs + "/outside")
    os.symlink("/loop", rootfs + "/loop")
    made = plan(ask(command, "arg", cwd="/srv", env=(f"PATH={path}",)), host)
    assert made.spec["process"]["args"] == [wanted, "arg"]


@row("S14")
def test_an_empty_path_is_replaced_by_a_default_one(ask, host):
    made = plan(ask("sh", env=("PATH=",)), host)
    assert made.spec["process"]["args"] == ["/bin/sh"]
    assert env_of(made)[0] == f"PATH={FALLBACK_PATH}"


# User


@row("S15")
@pytest.mark.parametrize(
    ("text", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, (), "/root"),
        ("root", 0, 0, (), "/root"),
        ("bob", 1000, 1000, (29, 50), "/home/bob"),
        ("1000", 1000, 1000, (29, 50), "/home/bob"),
        ("bob:staff", 1000, 50, (), "/home/bob"),
        ("bob:7", 1000, 7, (), "/home/bob"),
        ("bob:", 1000, 1000, (29, 50), "/home/bob"),
        ("4242:", 4242, 0, (), "/"),
        (":", 0, 0, (), "/root"),
        ("1000:7", 1000, 7, (), "/home/bob"),
        ("4242", 4242, 0, (), "/"),
        ("4242:staff", 4242, 50, (), "/"),
        ("nohome", 1001, 1001, (), "/"),
        (":staff", 0, 50, (), "/root"),
        ("4294967294", 4294967294, 0, (), "/"),
    ],
)
def test_each_form_of_a_user_is_resolved(rootfs, text, uid, gid, groups, home):
    with Root(rootfs) as root:
        who = resolve_user(root, text)
    assert (who.uid, who.gid, who.groups, who.home) == (uid, gid, groups, home)


@row("S15")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alice", r"'alice' is not in the image's /etc/passwd"),
        ("bob:wheel", r"'wheel' is not in the image's /etc/group"),
        ("alice:staff", r"/etc/passwd"),
        ("-1", r"'-1' is not in"),
        ("4294967295", r"largest ID"),
        ("0:4294967295", r"largest ID"),
        ("9" * 5000, r"largest ID"),
        ("0:" + "9" * 5000, r"largest ID"),
        ("²", r"'²' is not in"),
        ("0x10", r"not in the image"),
        ("bob:staff:x", r"'staff:x'"),
        (" ", r"not in the image"),
    ],
)
def test_malformed_or_unknown_users(rootfs, text, message):
    with Root(rootfs) as root, pytest.raises(RequestError, match=message):
        resolve_user(root, text)


@row("S15")
@pytest.mark.parametrize(
    "row",
    [
        "eve:x:²:²::/:/bin/sh",
        "eve:x:4294967296:0::/:/bin/sh",
        f"eve:x:{'9' * 5000}:0::/:/bin/sh",
        "eve:x:-1:-1::/:/bin/sh",
        "eve:x::::/:/bin/sh",
        "eve:x",
        "eve",
        "",
    ],
)
def test_rows_that_make_no_sense_are_passed_over(rootfs, row):
    """The image's files are written by strangers; a bad row must not stop the others."""
    put(rootfs, "/etc/passwd", f"{row}\nbob:x:1000:1000::/home/bob:/bin/sh\n")
    put(rootfs, "/etc/group", f"{row}\nstaff:x:50:bob\n")
    with Root(rootfs) as root:
        assert resolve_user(root, "bob").groups == (50,)
        assert resolve_group(root, "staff") == 50
        with pytest.raises(RequestError, match=r"'eve' is not in"):
            resolve_user(root, "eve")
        with pytest.raises(RequestError, match=r"'eve' is not in"):
            resolve_group(root, "eve")


def make_fifo(path):
    os.mkfifo(path)


def make_loop(path):
    os.symlink(path.rsplit("/", 1)[1], path)


def make_outside(path):
    os.symlink("../../../../../../../etc/passwd", path)


@row("S15")
@pytest.mark.parametrize("make", [make_fifo, os.mkdir, make_loop, make_outside])
def test_passwd_may_be_anything_but_a_file(rootfs, make):
    """A FIFO would block for ever, a link must not lead to the builder's own file."""
    os.unlink(rootfs + "/etc/passwd")
    make(rootfs + "/etc/passwd")
    with Root(rootfs) as root:
        assert resolve_user(root, "12:13").uid == 12
        with pytest.raises(RequestError, match="/etc/passwd"):
            resolve_user(root, "daemon")


@row("S15")
def test_numbers_need_no_files_at_all(rootfs):
    os.unlink(rootfs + "/etc/passwd")
    os.unlink(rootfs + "/etc/group")
    with Root(rootfs) as root:
        assert resolve_user(root, "5:6") == resolve_user(root, "5:6")
        assert resolve_user(root, "5:6").gid == 6


@row("S15")
def test_the_steps_user_wins_and_home_is_set_once(ask, host):
    made = plan(ask(user="bob", image_user="nohome"), host)
    assert made.spec["process"]["user"] == {"uid": 1000, "gid": 1000, "additionalGids": [29, 50]}
    assert "HOME=/home/bob" in env_of(made)
    assert plan(ask(image_user="nohome"), host).spec["process"]["user"]["uid"] == 1001
    kept = plan(ask(user="bob", env=("HOME=/x",)), host)
    assert [item for item in env_of(kept) if item.startswith("HOME=")] == ["HOME=/x"]


# Capabilities


def sets(made):
    return {kind: set(names) for kind, names in made.spec["process"]["capabilities"].items()}


def cap(names):
    return {f"CAP_{name}" for name in names}


@row("S16")
def test_the_default_set(ask, host):
    have = sets(plan(ask(), host))
    assert have["bounding"] == have["effective"] == have["permitted"] == cap(DEFAULT)
    assert have["ambient"] == have["inheritable"] == set()


@row("S16")
@pytest.mark.parametrize("text", ["SYS_PTRACE", "CAP_SYS_PTRACE", "cap_sys_ptrace", "Sys_Ptrace"])
def test_names_in_any_form(ask, host, text):
    assert sets(plan(ask(cap_add=(text,)), host))["bounding"] == cap([*DEFAULT, "SYS_PTRACE"])
    assert sets(plan(ask(cap_add=("all",), cap_drop=(text,)), host))["bounding"] == cap(
        set(CAPABILITIES) - {"SYS_PTRACE"}
    )


@row("S16")
@pytest.mark.parametrize("word", ["all", "ALL", "All"])
def test_all_stands_for_every_capability(ask, host, word):
    assert sets(plan(ask(cap_add=(word,)), host))["effective"] == cap(CAPABILITIES)
    assert not any(sets(plan(ask(cap_drop=(word,)), host)).values())
    assert not any(sets(plan(ask(cap_add=("SYS_ADMIN",), cap_drop=(word,)), host)).values())


@row("S16")
def test_drops_come_after_additions(ask, host):
    have = sets(plan(ask(cap_add=("SYS_ADMIN", "SYS_TIME"), cap_drop=("SYS_ADMIN", "chown")), host))
    assert have["effective"] == cap({*DEFAULT, "SYS_TIME"} - {"CHOWN"})


@row("S16")
@pytest.mark.parametrize("text", ["CHWON", "", "CAP_", "CAP_CAP_CHOWN", "chown ", "38", "CHOWN,KILL", "ÄLL"])
@pytest.mark.parametrize("field", ["cap_add", "cap_drop"])
def test_an_unknown_capability_is_an_error(ask, host, field, text):
    with pytest.raises(RequestError, match="unknown capability") as caught:
        plan(ask(**{field: (text,)}), host)
    assert repr(text) in str(caught.value)


@row("S16")
def test_the_nearest_name_is_offered(ask, host):
    with pytest.raises(RequestError, match="did you mean SYS_ADMIN"):
        plan(ask(cap_add=("SYS_ADMN",)), host)


@row("S17")
def test_a_user_keeps_the_bounding_set_alone(ask, host):
    have = sets(plan(ask(user="bob", cap_add=("SYS_PTRACE",)), host))
    assert have.pop("bounding") == cap([*DEFAULT, "SYS_PTRACE"])
    assert not any(have.values())


# Limits


@row("S19")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("nofile=1024:2048", ("nofile", 1024, 2048)),
        ("nofile=5", ("nofile", 5, 5)),
        ("NOFILE=5", ("nofile", 5, 5)),
        ("core=0:unlimited", ("core", 0, UNLIMITED)),
        ("core=-1", ("core", UNLIMITED, UNLIMITED)),
        (f"core={UNLIMITED}", ("core", UNLIMITED, UNLIMITED)),
    ],
)
def test_each_form_of_a_limit_is_parsed(text, wanted):
    assert parse(text) == wanted


BAD_LIMITS = [
    "",
    "nofile",
    "=5",
    "nofile=",
    "nofile=:",
    "nofile=5:",
    "nofile=:5",
    "nofile=a",
    "nofile=1:b",
    "nofile=1:2:3",
    "nofile=-2",
    "nofile=+1",
    "nofile=1_000",
    "nofile=1.5",
    "nofile= 1",
    "nofile=²",
    "nofile=٣",
    "nofile=2:1",
    "nofile=-1:5",
    "nosuch=1",
    "nofile=0x10",
    "nofile=18446744073709551616",
    "nofile=" + "9" * 5000,
]


@row("S19")
@pytest.mark.parametrize("text", BAD_LIMITS)
def test_a_malformed_one_is_quoted(ask, host, text):
    with pytest.raises(RequestError) as caught:
        plan(ask(ulimits=(text,)), host)
    assert repr(text) in str(caught.value)


@row("S19")
def test_the_form_wanted_is_told():
    with pytest.raises(RequestError, match=r"NAME=SOFT\[:HARD\]"):
        parse("nofile")


@row("S19")
def test_a_later_one_of_a_name_replaces(ask, host):
    made = plan(ask(ulimits=("nofile=1:2", "core=0", "NOFILE=3:4")), host)
    assert made.spec["process"]["rlimits"] == [
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NOFILE", "soft": 3, "hard": 4},
    ]


@row("S19")
def test_no_limit_asked_for_is_none_in_the_spec(ask, host):
    assert "rlimits" not in plan(ask(), host).spec["process"]


@row("X20")
def test_a_limit_above_the_builders_own_is_told_before_anything_runs(ask, host):
    from dataclasses import replace

    caps = tuple(name for name in CAPABILITIES if name != "SYS_RESOURCE")
    tight = replace(host, rlimits=(Rlimit("RLIMIT_NOFILE", 100, 200),))
    weak = replace(tight, capabilities=caps)
    with pytest.raises(HostError, match=r"nofile=300.*200.*CAP_SYS_RESOURCE"):
        plan(ask(ulimits=("nofile=300",)), weak)
    assert plan(ask(ulimits=("nofile=200",)), weak)
    assert plan(ask(ulimits=("nofile=300",)), tight)
    assert plan(ask(ulimits=("core=300",)), weak)


@row("S18")
def test_a_terminal_is_had_by_default_with_or_without(ask, host):
    assert plan(ask(terminal="without"), host).spec["process"]["terminal"] is False
    with pytest.raises(RequestError, match=r"'maybe'.*default, with, without"):
        plan(ask(terminal="maybe"), host)
