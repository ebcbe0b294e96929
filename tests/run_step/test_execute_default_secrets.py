"""Secrets that mounts.conf gives to every step (row S66, containers-mounts.conf(5)), under each isolation."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import as_user
import pytest
from busybox_root import listing, why_not_run
from rows import row
from ways import RemoteStep, Step, isolations

from run_step import HostError, IDMapping, LocalExecutor, look_up, plan
from run_step.host import PathFact
from run_step.host_copy import copy
from run_step.host_probe import _default_mounts
from run_step.pipeline.default_mounts import parse

pytestmark = pytest.mark.root

MAPS = {
    "uid_map": (IDMapping(0, 200_000, 65536),),
    "gid_map": (IDMapping(0, 300_000, 65536),),
    "network": "host",
}


@pytest.fixture
def tmp_path(open_path):
    return open_path


@pytest.fixture
def step(runtime_step):
    return runtime_step


@pytest.fixture
def entitlement(tmp_path):
    """What a distribution has for its subscribers: a directory, closed to others, with a link to another place."""
    top = tmp_path / "entitlement"
    (top / "deep").mkdir(parents=True)
    (top / "key.pem").write_text("key")
    (top / "key.pem").chmod(0o600)
    (top / "deep/cert.pem").write_text("cert")
    (tmp_path / "redhat.repo").write_text("repository")
    (top / "repo").symlink_to("../redhat.repo")
    (top / "nowhere").symlink_to("/none")
    top.chmod(0o700)
    return top


def with_defaults(step, *lines, owned=()):
    """The step on a host whose mounts.conf has these lines. ``owned`` is given to who builds."""
    if isinstance(step, Step):
        host = step.executor.host(runtimes=False)
        step.executor.close()
        step.executor = LocalExecutor(replace(host, default_mounts=lines), step.work_dir)
        return step
    step._host["default_mounts"] = list(lines)
    if step.isolation != "oci":
        for path in owned:
            as_user.give(path)
    return step


def warnings(step, **fields):
    if isinstance(step, Step):
        return list(step.plan("true", **fields).warnings)
    return step.ask(step.request("true", **fields), run=False)["warnings"]


@row("S66")
def test_a_directory_is_seen_and_private(step, entitlement, tmp_path):
    with_defaults(step, f"{entitlement}:/run/secrets", owned=[entitlement])
    before, mine = listing(step.rootfs), listing(tmp_path / "entitlement")
    line = "cd /run/secrets; cat key.pem deep/cert.pem repo; stat -c '%a %u %g' . key.pem deep; ls"
    seen = "keycertrepository700 0 0\n600 0 0\n755 0 0\ndeep\nkey.pem\nrepo\n"
    for _ in range(2):
        assert step.text(line + "; echo mine > key.pem; rm -r deep; echo new > new; chmod 777 .") == seen
        assert listing(step.rootfs) == before
    assert listing(tmp_path / "entitlement") == mine
    assert (tmp_path / "redhat.repo").read_text() == "repository"
    assert os.listdir(step.work_dir) == []


@row("S66")
def test_a_file_is_seen_and_private(step, entitlement, tmp_path):
    key = entitlement / "key.pem"
    with open(f"{step.rootfs}/root/there", "w", encoding="ascii") as stream:
        stream.write("of the image")
    lines = (f"{key}:/etc/pki/key.pem", f"{key}:/root/there", f"{tmp_path}/redhat.repo")
    with_defaults(step, *lines, owned=[entitlement])
    before = listing(step.rootfs)
    line = f"cd /etc/pki; cat key.pem /root/there {tmp_path}/redhat.repo; stat -c '%F %a %u' key.pem"
    for _ in range(2):
        assert step.text(line + "; echo mine > key.pem") == "keykeyrepositoryregular file 600 0\n"
        assert listing(step.rootfs) == before
    assert key.read_text() == "key"


@row("S66")
def test_others_than_the_steps_root_see_what_its_mode_lets_them(step, entitlement):
    entitlement.chmod(0o755)
    with_defaults(step, f"{entitlement}:/run/secrets", owned=[entitlement])
    line = "cat /run/secrets/deep/cert.pem; cat /run/secrets/key.pem 2>/dev/null || echo; echo closed"
    assert step.text(line, user="bob") == "cert\nclosed\n"


@row("S66")
def test_what_can_not_be_read_is_left_out_with_a_warning(step, tmp_path, entitlement):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop/again").symlink_to(tmp_path / "loop")
    lines = (
        f"{tmp_path}/none:/a",
        f"{tmp_path}/pipe:/b",
        f"{tmp_path}/loop:/c",
        f"{entitlement}:/d",
        "relative:/e",
        "/f:/",
    )
    with_defaults(step, *lines)
    by_root = isinstance(step, Step) or step.isolation == "oci"
    before = listing(step.rootfs)
    assert step.text("ls -d /a /b /c /d /e 2>/dev/null; true") == ("/d\n" if by_root else "")
    assert listing(step.rootfs) == before
    told = [text for text in warnings(step) if text.startswith("mounts.conf: ")]
    left = [str(tmp_path / name) for name in ("none", "pipe", "loop")] + (
        [] if by_root else [str(entitlement)]
    )
    assert told == [
        *(f"mounts.conf: {path} is left out; it does not exist here, or can't be read" for path in left),
        *(
            f"mounts.conf: the line {line!r} is left out; /HOST-PATH:/CONTAINER-PATH is wanted"
            for line in lines[4:]
        ),
    ]


@row("S66")
def test_nothing_is_left_of_a_step_that_fails(step, entitlement):
    with_defaults(step, f"{entitlement}:/run/secrets", f"{entitlement}/key.pem:/opt/key", owned=[entitlement])
    before = listing(step.rootfs)
    assert step.run("cp /run/secrets/key.pem /run/secrets/copy; exit 7").status == 7
    with pytest.raises(HostError):
        step.run("/none", "x")
    assert listing(step.rootfs) == before
    assert os.listdir(step.work_dir) == []


@row("S66")
def test_a_volume_counts_before_them(step, entitlement, tmp_path):
    with_defaults(
        step, f"{entitlement}:/run/secrets", f"{entitlement}/deep:/run/secrets/deeper", owned=[entitlement]
    )
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume").chmod(0o777)
    (tmp_path / "volume/file").touch()
    line = "ls /run/secrets /run/secrets/deeper"
    text = step.text(line, volumes=(f"{tmp_path}/volume:/run/secrets",))
    assert text == "/run/secrets:\ndeeper\nfile\n\n/run/secrets/deeper:\ncert.pem\n"


@row("S43")
@pytest.mark.parametrize("runtime_step", [*isolations(), "oci of crun"], indirect=True)
def test_with_id_maps_they_are_the_steps_roots(runtime_step, entitlement):
    step = with_defaults(runtime_step, f"{entitlement}:/run/secrets", f"{entitlement}/key.pem:/opt/key")
    before = listing(step.rootfs)
    line = "cat /run/secrets/key.pem /opt/key; stat -c '%a %u %g' /run/secrets /opt/key; echo x > /opt/key"
    assert step.text(line, **MAPS) == "keykey700 0 0\n600 0 0\n"
    assert listing(step.rootfs) == before
    assert (entitlement / "key.pem").read_text() == "key"


@row("S66")
@pytest.mark.parametrize("every_step", ["chroot in a container"], indirect=True)
def test_where_nothing_can_be_mounted_it_is_told(every_step, entitlement):
    step = with_defaults(every_step, f"{entitlement}:/run/secrets")
    assert step.text("ls /run/secrets 2>/dev/null || echo none") == "none\n"
    assert any("the secrets of mounts.conf are not there" in text for text in step.warnings)


# Where the lines come from


@row("S66")
@pytest.mark.parametrize("isolation", ["chroot", "oci"])
def test_the_machines_file_is_read(rootfs, tmp_path, host, entitlement, isolation):
    """In a mount namespace that has a mounts.conf; the machine is not changed."""
    reason = why_not_run() or ("" if Path("/etc/containers").is_dir() else "there is no /etc/containers")
    if reason:
        pytest.skip(reason)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/mounts.conf").write_text(
        f"# for subscribers\n\n {entitlement}:/run/secrets # all of it\n"
    )
    (tmp_path / "work").mkdir()
    line = f'mount --bind {tmp_path}/conf /etc/containers; exec "$@"'
    step = RemoteStep(
        rootfs, isolation, str(tmp_path / "work"), host, ["unshare", "-m", "sh", "-ec", line, "sh"]
    )
    step.runtime = "runc" if isolation == "oci" else ""
    try:
        assert step.text("cat /run/secrets/key.pem") == "key"
    finally:
        step.close()


@row("S66")
@pytest.mark.parametrize("confined_step", ["rootless", "chroot as a user"], indirect=True)
def test_a_users_own_file_is_read(confined_step, tmp_path, entitlement):
    as_user.give(entitlement)
    conf = tmp_path / "user/.config/containers"
    conf.mkdir(parents=True)
    (conf / "mounts.conf").write_text(f"{entitlement}:/run/secrets\n")
    assert confined_step.text("cat /run/secrets/key.pem") == "key"


@row("S66")
def test_the_first_file_that_is_there_counts(tmp_path):
    first, second = (tmp_path / name for name in ("first", "second"))
    second.write_text("/a:/b\n  # nothing\n\n/c # and this\n")
    files = (str(first), str(second))
    assert _default_mounts(files) == ("/a:/b", "/c")
    first.write_text("# none at all\n")
    assert _default_mounts(files) == ()


@row("S66")
@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("/a:/b", ("/a", "/b")),
        ("/a/", ("/a", "/a")),
        ("/a//b:/c/../d/", ("/a/b", "/d")),
        ("//a://b", ("/a", "/b")),
        ("a:/b", None),
        ("/a:b", None),
        ("/a:/", None),
        ("/", None),
        ("/a:/b/..", None),
        (":", None),
    ],
)
def test_a_line_of_mounts_conf_is_parsed(line, parsed):
    assert parse(line) == parsed


@row("S66")
def test_the_facts_say_what_can_be_copied(ask, host, entitlement):
    lines = (f"{entitlement}:/x", f"{entitlement}/key.pem", "/none:/y")
    facts = look_up(ask(), replace(host, default_mounts=lines))
    assert facts.paths == (PathFact(str(entitlement), True), PathFact(f"{entitlement}/key.pem", False))
    made = plan(ask(), facts)
    sources = {item["destination"]: item["source"] for item in made.spec["mounts"]}
    assert sources["/x"] == "@bundle@/secrets/0"
    assert sources[f"{entitlement}/key.pem"] == "@bundle@/secrets/files/1"


@row("S66")
def test_what_changed_since_is_told(tmp_path):
    (tmp_path / "source").mkdir()
    os.mkfifo(tmp_path / "source/pipe")
    with pytest.raises(HostError) as caught:
        copy(str(tmp_path / "source"), str(tmp_path / "target"), (0, 0))
    assert str(caught.value) == (
        f"{tmp_path}/source, which mounts.conf gives to every step, can't be copied: {tmp_path}/source/pipe: it is "
        "neither a file nor a directory"
    )
    with pytest.raises(HostError, match=r"can't be copied: \S+/gone: No such file or directory"):
        copy(str(tmp_path / "gone"), str(tmp_path / "other/target"), (0, 0))
    assert stat.S_IMODE(os.stat(tmp_path / "other").st_mode) == 0o700
