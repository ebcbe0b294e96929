"""Mounts of a RUN instruction in a plan (row X68): places, options, owners, order; and what is behind them."""

import os
import stat

import pytest
from rows import row
from test_plan_system import mount_at, plan

from run_step import HostError, IDMapping, Inputs, RequestError, RunMount, Secret, parse_secret
from run_step.inputs import LARGEST
from run_step.planning import ForwardAgent, MountPoint, PutSecret, SetSecret, TakeSource


def actions(made, kind):
    return [item for item in made.actions if isinstance(item, kind)]


def targets(made):
    return [item["destination"] for item in made.spec["mounts"]]


def ours(made):
    return [item["destination"] for item in made.spec["mounts"] if item["destination"].startswith("/m")]


@row("X68")
def test_a_bind_shows_what_is_handed_over(ask, host):
    made = plan(ask(run_mounts=(RunMount("bind", "/m/a", source="one", read_only=True),)), host)
    assert mount_at(made, "/m/a") == {
        "destination": "/m/a",
        "type": "bind",
        "source": "@bundle@/sources/one",
        "options": ["bind", "ro", "nodev", "private"],
    }
    assert actions(made, TakeSource) == [TakeSource("one", "/m/a")]


@row("X68")
def test_a_cache_can_be_written_to(ask, host):
    made = plan(ask(run_mounts=(RunMount("cache", "/m", source="c"),)), host)
    assert mount_at(made, "/m")["options"] == ["bind", "rw", "nodev", "private"]


@row("X68")
@pytest.mark.parametrize(("target", "mode"), [("/missing", "1777"), ("/etc", "755")])
def test_a_tmpfs_has_the_mode_of_what_it_covers(ask, host, rootfs, target, mode):
    os.chmod(os.path.join(rootfs, "etc"), 0o755)
    made = plan(ask(run_mounts=(RunMount("tmpfs", target, size=4096, read_only=True),)), host)
    item = mount_at(made, target)
    assert (item["type"], item["source"]) == ("tmpfs", "tmpfs")
    assert item["options"] == ["nosuid", "nodev", f"mode={mode}", "size=4096", "ro", "private"]


@row("X68")
def test_a_secret_is_a_file_of_its_own_owner(ask, host):
    mounts = (RunMount("secret", id="a/token"), RunMount("secret", "/m", id="b", mode=0o440, uid=5, gid=6))
    made = plan(ask(run_mounts=mounts), host)
    assert mount_at(made, "/run/secrets/token")["options"] == "bind ro nosuid nodev noexec private".split()
    found = {item.id: (item.mode, item.uid, item.gid) for item in actions(made, PutSecret)}
    assert found == {"a/token": (0o400, 0, 0), "b": (0o440, 5, 6)}
    assert MountPoint("/run/secrets/token", False) in made.actions


@row("X68")
def test_a_secret_that_is_a_variable_is_no_mount_and_no_text(ask, host):
    made = plan(ask(run_mounts=(RunMount("secret", id="a", env="TOKEN"),)), host)
    assert actions(made, SetSecret) == [SetSecret("a", "TOKEN")]
    assert not actions(made, PutSecret)
    assert not [entry for entry in made.spec["process"]["env"] if entry.startswith("TOKEN")]


@row("X68")
def test_owners_are_the_step_s_and_numbers_the_host_s(ask, host):
    maps = {"uid_map": (IDMapping(0, 100000, 65536),), "gid_map": (IDMapping(0, 200000, 65536),)}
    mounts = (RunMount("secret", id="a", uid=7), RunMount("ssh", id="b"))
    made = plan(ask(run_mounts=mounts, user="1000:1001", **maps), host)
    (secret,) = actions(made, PutSecret)
    (agent,) = actions(made, ForwardAgent)
    assert (secret.uid, secret.gid) == (100007, 200000)
    assert (agent.uid, agent.gid, agent.mode) == (101000, 201001, 0o600)


@row("X68")
def test_an_owner_that_no_namespace_has_is_told(ask, host):
    maps = {"uid_map": (IDMapping(0, 100000, 10),), "gid_map": (IDMapping(0, 100000, 10),)}
    with pytest.raises(HostError, match="uid=99 of a secret mount does not exist"):
        plan(ask(run_mounts=(RunMount("secret", id="a", uid=99),), **maps), host)


@row("X68")
def test_the_first_agent_is_the_one_that_ssh_finds(ask, host):
    made = plan(ask(run_mounts=(RunMount("ssh", id="a"), RunMount("ssh", id="b", target="/m/b"))), host)
    assert "SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0" in made.spec["process"]["env"]
    assert {item.id for item in actions(made, ForwardAgent)} == {"a", "b"}


@row("X68")
def test_a_socket_that_the_step_has_chosen_stays(ask, host):
    made = plan(ask(run_mounts=(RunMount("ssh", id="a"),), env=("SSH_AUTH_SOCK=/mine",)), host)
    assert "SSH_AUTH_SOCK=/mine" in made.spec["process"]["env"]


@row("X68")
def test_order_is_by_target_and_secrets_come_last(ask, host):
    mounts = (
        RunMount("secret", "/m/b/secret", id="s"),
        RunMount("tmpfs", "/m/b"),
        RunMount("cache", "/m/b/c", source="c"),
        RunMount("bind", "/m/a", source="a"),
    )
    made = plan(ask(run_mounts=mounts), host)
    assert ours(made) == ["/m/a", "/m/b", "/m/b/c", "/m/b/secret"]
    assert actions(made, TakeSource) == [TakeSource("a", "/m/a"), TakeSource("c", "")]


@row("X68")
def test_of_two_at_one_place_the_later_counts_and_a_secret_over_all(ask, host):
    mounts = (
        RunMount("bind", "/m/x", source="first"),
        RunMount("bind", "/m/x", source="second"),
        RunMount("secret", "/m/y", id="s"),
        RunMount("bind", "/m/y", source="third"),
    )
    made = plan(ask(run_mounts=mounts), host)
    assert mount_at(made, "/m/x")["source"] == "@bundle@/sources/second"
    assert mount_at(made, "/m/y")["source"].startswith("@bundle@/private/")
    assert [item.name for item in actions(made, TakeSource)] == ["second"]


@row("X68")
def test_they_come_before_volumes_and_bound_files(ask, host):
    mounts = (RunMount("bind", "/etc/hosts", source="h"), RunMount("tmpfs", "/v"))
    made = plan(ask(run_mounts=mounts, volumes=("/:/v",)), host)
    assert mount_at(made, "/etc/hosts")["source"] == "@bundle@/sources/h"
    assert mount_at(made, "/v")["type"] == "tmpfs"
    assert len(targets(made)) == len(set(targets(made)))


@row("X68")
def test_rootless_keeps_one_below_dev(ask, host):
    made = plan(ask(run_mounts=(RunMount("tmpfs", "/dev/shm", size=4096),), isolation="rootless"), host)
    assert "size=4096" in mount_at(made, "/dev/shm")["options"]
    assert targets(made).index("/dev") < targets(made).index("/dev/shm")


@row("X68")
@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (RunMount("volume", "/m"), "unknown kind of mount 'volume'"),
        (RunMount("bind", source="a"), "a bind mount needs a target"),
        (RunMount("bind", "/", source="a"), "the root directory"),
        (RunMount("tmpfs", "/proc/x"), "nothing can be mounted there"),
        (RunMount("bind", "/m", source="../a"), "not a name of letters"),
        (RunMount("cache", "/m"), "not a name of letters"),
        (RunMount("secret", "/m"), "a secret mount needs an id"),
        (RunMount("ssh", "/m"), "an? ssh mount needs an id"),
        (RunMount("secret", id="a", env="A=B"), "not the name of a variable"),
        (RunMount("tmpfs", "/m", size=-1), "out of range"),
        (RunMount("secret", id="a", mode=0o10000), "out of range"),
        (RunMount("tmpfs", "/etc/passwd"), "a directory is needed"),
    ],
)
def test_what_can_not_be_mounted_is_told(ask, host, mount, words):
    with pytest.raises(RequestError, match=words):
        plan(ask(run_mounts=(mount,)), host)


@row("X68")
def test_what_was_not_handed_over_is_told_before_anything_is_done(ask, host):
    mounts = (RunMount("bind", "/m", source="a"), RunMount("secret", id="s"), RunMount("ssh", id="k"))
    made = plan(ask(run_mounts=mounts), host)
    with pytest.raises(HostError, match="the source 'a' of a mount was not handed over"):
        Inputs().check(made)
    with pytest.raises(HostError, match="the secret 's' was not handed over"):
        Inputs(sources={"a": "/"}, agents={"k": None}).check(made)
    with pytest.raises(HostError, match="the SSH agent 'k' was not handed over"):
        Inputs(sources={"a": "/"}, secrets={"s": Secret(b"x")}).check(made)


@row("X68")
@pytest.mark.parametrize("data", [b"a\0b", b"\xff"])
def test_a_variable_has_to_be_a_text(ask, host, data):
    made = plan(ask(run_mounts=(RunMount("secret", id="s", env="S"),)), host)
    with pytest.raises(HostError, match="not text") as caught:
        Inputs(secrets={"s": Secret(data)}).check(made)
    assert "\\x" not in str(caught.value)


def test_a_secret_has_no_text():
    secret = Secret(b"hunter2")
    assert "hunter2" not in repr(secret) + str(secret) + repr(Inputs(secrets={"a": secret}))


# --secret


def test_a_secret_is_read_from_a_file_or_a_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"from the file\n")
    (tmp_path / "both").write_bytes(b"file")
    monkeypatch.chdir(tmp_path)
    environ = {"VAR": "from the variable", "both": "variable"}
    (tmp_path / "with,comma").write_text("comma")
    table = {
        "id=a,src=file": b"from the file\n",
        f"id=a,source={tmp_path}/file": b"from the file\n",
        "type=file,id=a,src=file": b"from the file\n",
        "id=a,env=VAR": b"from the variable",
        "id=a,type=env,src=VAR": b"from the variable",
        "id=VAR": b"from the variable",
        "id=VAR,type=env": b"from the variable",
        "id=file": b"from the file\n",
        "id=both": b"variable",
        "id=both,type=file": b"file",
        '"id=a","src=with,comma"': b"comma",
    }
    for text, data in table.items():
        assert parse_secret(text, environ)[1].data == data, text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the form is id=ID"),
        ("a", "the form is id=ID"),
        ("id=", "the form is id=ID"),
        ("src=file", "id=ID is missing"),
        ("id=a,colour=red", "the form is id=ID"),
        ("id=a,id=b", "id is given twice"),
        ("id=a,type=vault", "known are file, env"),
        ("id=a,src=file,env=VAR", "not from both"),
        ("id=a,type=file,env=VAR", "not from both"),
        ("id=a,src=missing", "the file missing can't be read: No such file"),
        ("id=a,src=.", "can't be read: Is a directory"),
        ("id=missing", "the file missing can't be read"),
        ("id=a,env=MISSING", "no variable MISSING"),
        ("id=a,src=large", "more than 512000"),
    ],
)
def test_a_secret_that_is_none_is_told(tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("hunter2")
    (tmp_path / "large").write_bytes(b"x" * (LARGEST + 1))
    with pytest.raises(RequestError, match=words) as caught:
        parse_secret(text, {"VAR": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert repr(text)[1:-1] in str(caught.value)


def test_nothing_of_a_mount_is_made_in_planning(ask, host, rootfs):
    before = sorted(os.listdir(rootfs))
    plan(ask(run_mounts=(RunMount("tmpfs", "/not/there"), RunMount("secret", id="s"))), host)
    assert sorted(os.listdir(rootfs)) == before
    assert stat.S_ISDIR(os.stat(rootfs).st_mode)


def test_a_secret_that_is_too_long_for_a_variable_is_told_before_the_step(ask, host):
    secret = RunMount("secret", id="s", env="TOKEN")
    made = plan(ask(run_mounts=(secret,)), host)
    Inputs(secrets={"s": Secret(b"x" * ((128 << 10) - len("TOKEN=") - 1))}).check(made)
    with pytest.raises(HostError, match=r"too long for the variable TOKEN \(128 KiB\); take it as a file"):
        Inputs(secrets={"s": Secret(b"x" * ((128 << 10) - len("TOKEN=")))}).check(made)
