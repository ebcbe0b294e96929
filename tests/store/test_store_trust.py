"""A store is used only where nobody else can write: real directories of real users."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile

import as_user
import pytest

from buildfront.errors import BuildError
from buildfront.image.layout_index import NamedEntry
from buildfront.store.image_store import Store
from buildfront.store.location import untrusted

sys.path.append(os.path.join(as_user.PROJECT, "tests", "build"))
from program import BUILDFRONT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives directories away")
EVE = 4322
LAYOUT = ["blobs", "catalogue.sqlite", "index.json", "index.lock", "oci-layout", "snapshots", "tmp"]
MORE = ["catalogue.sqlite-wal", "catalogue.sqlite-shm", "caches", "memo", "blobs/sha256"]


@pytest.fixture
def place():
    """A directory that everybody can reach; pytest's own are closed."""
    path = tempfile.mkdtemp(prefix="trust-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


def refused(root, *words):
    with pytest.raises(BuildError) as caught:
        Store(root)
    assert "can't be trusted" in caught.value.what and "--root" in caught.value.hint
    for word in words:
        assert word in caught.value.what, caught.value.what


def directory(path, mode=0o755, uid=0, gid=0):
    os.makedirs(path, exist_ok=True)
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    return path


@pytest.mark.parametrize("below", ["", "store", "deep/er/store"])
@pytest.mark.parametrize(
    ("mode", "uid", "gid", "word"),
    [
        (0o777, 0, 0, "by everybody"),
        (0o703, 0, 0, "by everybody"),
        (0o775, 0, EVE, f"by the group {EVE}"),
        (0o755, EVE, EVE, f"belongs to the user {EVE}"),
        (0o1777, EVE, EVE, f"belongs to the user {EVE}"),
    ],
)
def test_a_place_that_others_could_change_is_refused(place, below, mode, uid, gid, word):
    above = directory(f"{place}/above", mode, uid, gid)
    refused(os.path.join(above, below) if below else above, word, repr(above))
    assert os.listdir(above) == [], "nothing was made there"


def test_a_store_in_a_sticky_directory_is_the_users_own(place):
    shared = directory(f"{place}/shared", 0o1777)
    Store(f"{shared}/store").close()
    assert untrusted(f"{shared}/store") is None
    directory(f"{shared}/planted", 0o755, EVE)
    refused(f"{shared}/planted", f"belongs to the user {EVE}")
    refused(f"{shared}/planted/store", f"belongs to the user {EVE}")
    refused(shared, "by everybody")  # sticky, and the store itself


def test_links_on_the_way_are_looked_at_one_by_one(place):
    Store(directory(f"{place}/real", 0o700)).close()
    os.symlink("real", f"{place}/good")
    Store(f"{place}/good").close()
    os.symlink(f"{place}/good/../good", f"{place}/far")
    Store(f"{place}/far").close()
    open_to_all = directory(f"{place}/open", 0o777)
    os.symlink(f"{place}/real", f"{open_to_all}/link")
    refused(f"{open_to_all}/link", "by everybody")
    sticky = directory(f"{place}/sticky", 0o1777)
    os.symlink(f"{place}/real", f"{sticky}/link")
    os.lchown(f"{sticky}/link", EVE, EVE)
    refused(f"{sticky}/link", f"belongs to the user {EVE}")
    os.symlink(f"{open_to_all}/store", f"{place}/into")
    refused(f"{place}/into", "by everybody", open_to_all)
    os.symlink("round", f"{place}/round")
    with pytest.raises(BuildError, match="can't be reached: Too many levels"):
        Store(f"{place}/round/store")


def test_an_access_control_list_is_no_private_group(place):
    above = directory(f"{place}/above", 0o775)
    Store(f"{above}/store").close()  # root's own group, with nobody else in it
    nobody = 0xFFFFFFFF
    entries = [(0x01, 7, nobody), (0x02, 7, EVE), (0x04, 5, nobody), (0x10, 7, nobody), (0x20, 5, nobody)]
    value = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + who.to_bytes(4, "little")
        for tag, bits, who in entries
    )
    os.setxattr(above, "system.posix_acl_access", value)
    refused(f"{above}/store", "access control list")


@pytest.mark.parametrize("mode", [0o711, 0o755, 0o750, 0o775])
def test_an_older_store_is_closed_when_it_is_opened(place, mode):
    Store(f"{place}/store").close()
    os.chmod(f"{place}/store", mode)
    Store(f"{place}/store").close()
    assert stat.S_IMODE(os.stat(f"{place}/store").st_mode) == 0o700


@pytest.mark.parametrize("umask", [0, 0o002, 0o022, 0o077])
def test_whatever_the_umask(place, umask):
    old = os.umask(umask)
    try:
        Store(f"{place}/new/deep/store").close()
    finally:
        os.umask(old)
    Store(f"{place}/new/deep/store").close()
    assert not os.stat(f"{place}/new").st_mode & 0o022
    assert stat.S_IMODE(os.stat(f"{place}/new/deep/store").st_mode) == 0o700


@pytest.mark.parametrize("name", [*LAYOUT, *MORE])
@pytest.mark.parametrize("kind", ["link", "fifo", "other", "eve"])
def test_what_was_planted_before_the_directory_was_closed(place, name, kind):
    """As after following the advice to take the right to write away."""
    root = f"{place}/store"
    Store(root).close()
    path = os.path.join(root, name)
    is_directory = name in ("blobs", "blobs/sha256", "snapshots", "tmp", "caches", "memo")
    if os.path.lexists(path):
        shutil.rmtree(path) if is_directory else os.unlink(path)
    target = f"{place}/target"
    with open(target, "w", encoding="utf-8") as stream:
        stream.write("kept")
    if kind == "link":
        os.symlink(target, path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif (kind == "other") == is_directory:
        open(path, "w", encoding="utf-8").close()
    else:
        os.mkdir(path)
    if kind == "eve":
        os.chown(path, EVE, EVE)
    with pytest.raises(BuildError) as caught:
        Store(root)
    assert name in caught.value.what and "move it away" in caught.value.hint
    with open(target, encoding="utf-8") as stream:
        assert stream.read() == "kept"


def test_no_link_is_followed_by_what_writes(place):
    """Planted while the program runs, which nobody can do: still nothing is written there."""
    target = f"{place}/target"
    with open(target, "w", encoding="utf-8") as stream:
        stream.write("kept")
    with Store(f"{place}/store") as store:
        entry = NamedEntry.parse({"digest": "sha256:" + "a" * 64, "size": 1, "mediaType": "m"}, "it")
        os.symlink(target, f"{store.root}/index.json.new")
        store.index.set("n", entry)
        assert not os.path.islink(f"{store.root}/index.json")
        os.unlink(f"{store.root}/index.lock")
        os.symlink(target, f"{store.root}/index.lock")
        with pytest.raises(BuildError, match=r"index\.lock"):
            store.index.set("m", entry)
    with open(target, encoding="utf-8") as stream:
        assert stream.read() == "kept"


def test_sessions_that_are_not_ours_are_left_alone(place):
    with Store(f"{place}/store") as store:
        outside = directory(f"{place}/outside/run-1/bundle-1")
        directory(f"{store.tmp}/s-eve", 0o755, EVE)
        directory(f"{store.tmp}/lost+found", 0o700)
        os.symlink(f"{place}/outside", f"{store.tmp}/s-link")
        os.symlink(f"{place}/outside", f"{store.tmp}/new-link")
        open(f"{store.tmp}/s-file", "w", encoding="utf-8").close()
        mine = directory(f"{store.tmp}/s-mine", 0o700)
        os.symlink("/dev/zero", f"{mine}/lock")
        assert store.stale_sessions() == [mine]
        store.remove_stale(mine)
        assert os.path.isdir(outside)


def test_notes_for_recovery_that_somebody_else_left_are_not_read(place):
    """A note names the runtime that is executed."""
    from buildfront.engine.recovery import recover_sessions

    program = f"{place}/program"
    with open(program, "w", encoding="utf-8") as stream:
        stream.write(f"#!/bin/sh\ntouch {place}/executed\n")
    os.chmod(program, 0o755)
    with Store(f"{place}/store") as store:
        for number, (owner, mode) in enumerate(((EVE, 0o755), (0, 0o777))):
            bundle = f"{store.tmp}/s-{number}/run-1/bundle-1"
            os.makedirs(f"{bundle}/runtime/buildfront-x")
            with open(f"{bundle}/runtime.path", "w", encoding="utf-8") as stream:
                stream.write(program)
            os.chown(bundle, owner, owner)
            os.chmod(bundle, mode)
        recover_sessions(store)
        assert os.listdir(store.tmp) == []
    assert not os.path.exists(f"{place}/executed")


# as an ordinary user


OPEN = "import sys; from buildfront.store.image_store import Store; Store(sys.argv[1]).close()"
ENTER = (
    "from buildfront import enter_user_namespace; import sys; enter_user_namespace(sys.argv[1]);"
    "from buildfront.store.image_store import Store; Store(sys.argv[1]).close()"
)


def as_builder(home, code, root, ranges=True, umask=0o022):
    shell = f'umask {umask:o}; exec "$@"'
    return as_user.run(
        home, "sh", "-c", shell, "sh", sys.executable, "-c", code, root,
        ranges=ranges, cwd="/",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("code", [OPEN, ENTER], ids=["outside", "root-of-a-namespace"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_users_stores(place, code, ranges):
    home = as_user.make_home(f"{place}/home")
    shared = directory(f"{place}/shared", 0o1777)
    mounted = directory("/dev/shm/" + os.path.basename(place), 0o755, as_user.UID, as_user.UID)
    try:
        for root in (
            f"{home}/new/store",
            f"{shared}/store",
            f"{mounted}/store",
            f"/tmp/{os.path.basename(place)}-own",
        ):
            for _ in range(2):
                done = as_builder(home, code, root, ranges)
                assert done.returncode == 0, done.stderr
            status = os.stat(root)
            assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, as_user.UID)
        directory(f"{place}/eve", 0o755, EVE)
        directory(f"{place}/eve/builder", 0o755, as_user.UID)
        directory(f"{place}/open", 0o777)
        directory(f"{shared}/planted", 0o755, EVE)
        for root in (f"{place}/eve/builder/store", f"{place}/open/store", f"{shared}/planted/store"):
            done = as_builder(home, code, root, ranges)
            assert "can't be trusted" in done.stderr and done.returncode, done.stderr
    finally:
        shutil.rmtree(mounted)
        shutil.rmtree(f"/tmp/{os.path.basename(place)}-own", ignore_errors=True)


@pytest.mark.parametrize("code", [OPEN, ENTER], ids=["outside", "root-of-a-namespace"])
def test_a_user_with_a_group_of_its_own_and_its_umask(place, code):
    home = as_user.make_home(f"{place}/home")
    project = directory(f"{home}/project", 0o2775, as_user.UID, as_user.UID)
    done = as_builder(home, code, f"{project}/store", umask=0o002)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(os.stat(f"{project}/store").st_mode) == 0o700
    other = directory(f"{home}/other", 0o775, as_user.UID, EVE)
    done = as_builder(home, code, f"{other}/store")
    assert "may be written to by the group" in done.stderr


def test_root_of_the_machine_does_not_trust_a_users_store(place):
    home = as_user.make_home(f"{place}/home")
    assert as_builder(home, OPEN, f"{home}/store").returncode == 0
    refused(f"{home}/store", f"belongs to the user {as_user.UID}")
    os.chown(home, 0, 0)
    refused(f"{home}/store", f"belongs to the user {as_user.UID}")


COMMANDS = (
    *(
        "images",
        "info",
        "prune -f",
        "inspect x",
        "tag x y",
        "load -i x",
        "import x -t x",
        "pull 127.0.0.1:1/x",
    ),
    *("push x", "build CONTEXT", "plan CONTEXT", "spec CONTEXT"),
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("way", ["option", "variable"])
def test_every_command_looks_first(place, command, way):
    planted = directory(f"{place}/planted", 0o777)
    for name in ("blobs/sha256", "snapshots", "tmp", "memo"):
        os.makedirs(f"{planted}/{name}")
    with open(f"{planted}/index.json", "w", encoding="utf-8") as stream:
        stream.write("planted")
    directory(f"{place}/context")
    with open(f"{place}/context/Dockerfile", "w", encoding="utf-8") as stream:
        stream.write("FROM scratch\nENV A=1\n")
    words = command.replace("CONTEXT", f"{place}/context").split()
    root = ["--root", planted] if way == "option" else []
    env = {**os.environ, "BUILDFRONT_ROOT": planted if way == "variable" else f"{place}/other"}
    done = subprocess.run([BUILDFRONT, *root, *words], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1 and "can't be trusted" in done.stderr and "hint:" in done.stderr, done.stderr
    assert sorted(os.listdir(planted)) == ["blobs", "index.json", "memo", "snapshots", "tmp"]
