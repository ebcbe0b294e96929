"""COPY, ADD and WORKDIR, as docker does them."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile

import pytest
import zstandard

from buildfront.engine.ops.copier import Copier
from buildfront.engine.ops.owners import find_owner
from buildfront.engine.ops.workdir import make_directory
from buildfront.engine.selection import select, wanted
from buildfront.errors import BuildError
from buildfront.graph import CopyOp, Origin, WorkdirOp
from run_step import Root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")


@pytest.fixture
def place(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "dir/sub").mkdir(parents=True)
    (source / "a").write_text("a")
    (source / "b").write_text("b")
    (source / "dir/one").write_text("one")
    (source / "dir/sub/two").write_text("two")
    (source / "dir/link").symlink_to("one")
    (source / "a").chmod(0o640)
    os.utime(source / "a", ns=(10**18 + 7, 10**18 + 9))
    os.utime(source / "dir/sub", (10**9, 10**9))
    for name in ("etc", "real", "there"):
        (target / name).mkdir(parents=True)
    (target / "file").write_text("old")
    (target / "to-real").symlink_to("real")
    (target / "etc/passwd").write_text("root:x:0:0::/:\nuser:x:1234:1235::/:/bin/sh\n")
    (target / "etc/group").write_text("root:x:0:\nstaff:x:50:\nuser:x:1235:\n")
    os.chown(source / "b", 77, 78)
    return tmp_path


def copy(place, sources, dest, *, keep_owner=False, whole=False, **fields):
    sources = (sources,) if isinstance(sources, str) else tuple(sources)
    op = CopyOp(sources, dest, Origin("context"), **fields)
    with Root(str(place / "source")) as source, Root(str(place / "target")) as target:
        copier = Copier(op, target, owner=find_owner(target, op.chown)[0])
        copier.copy(
            source, select(source, wanted(op, sources)), keep=keep_owner, unpacks=op.unpack, whole=whole
        )
        copier.finish()


def tree(top):
    return sorted(str(item.relative_to(top)) for item in top.rglob("*"))


def owners(path):
    status = os.lstat(path)
    return status.st_uid, status.st_gid


# where it goes


@pytest.mark.parametrize(
    ("source", "dest", "path"),
    [
        ("a", "/new/", "new/a"),
        ("a", "/new", "new"),
        ("a", "/x/y/new", "x/y/new"),
        ("a", "/there", "there/a"),
        ("a", "/there/", "there/a"),
        ("a", "/", "a"),
        ("a", "/file", "file"),
        ("a", "/to-real", "real/a"),
        ("a", "/to-real/", "real/a"),
        ("a", "/to-real/new", "real/new"),
        ("a", "/to-real/deep/", "real/deep/a"),
        ("dir/link", "/new", "new"),
    ],
)
def test_a_file(place, source, dest, path):
    copy(place, source, dest)
    assert (place / "target" / path).read_text() == (place / "source" / source).read_text()
    assert not (place / "target" / path).is_symlink()


@pytest.mark.parametrize(
    ("dest", "base"), [("/new", "new"), ("/new/", "new"), ("/there", "there"), ("/to-real", "real")]
)
def test_a_directorys_content(place, dest, base):
    copy(place, "dir", dest)
    assert tree(place / "target" / base) == ["link", "one", "sub", "sub/two"]
    assert os.readlink(place / "target" / base / "link") == "one"


def test_several_sources(place):
    copy(place, ["a", "b", "dir"], "/new/")
    assert tree(place / "target/new") == ["a", "b", "link", "one", "sub", "sub/two"]


def test_directories_are_merged(place):
    (place / "target/there/sub").mkdir()
    (place / "target/there/sub/mine").write_text("mine")
    (place / "target/there/one").write_text("old")
    copy(place, "dir", "/there")
    assert tree(place / "target/there") == ["link", "one", "sub", "sub/mine", "sub/two"]
    assert (place / "target/there/one").read_text() == "one"


def test_a_link_in_the_way_of_a_file_is_replaced(place):
    (place / "target/there/a").symlink_to("/file")
    copy(place, "a", "/there/")
    assert not (place / "target/there/a").is_symlink()
    assert (place / "target/file").read_text() == "old"


@pytest.mark.parametrize(
    ("source", "dest", "message"),
    [
        ("a", "/file/", "is a file in the image"),
        ("dir", "/file", "is a file in the image"),
        ("a", "/file/x", "leads through a file"),
        ("dir", "/file/x", "leads through a file"),
    ],
)
def test_a_file_in_the_way(place, source, dest, message):
    with pytest.raises(BuildError, match=message):
        copy(place, source, dest)
    assert (place / "target/file").read_text() == "old"


def test_kinds_that_do_not_fit(place):
    (place / "target/there/one").mkdir()
    with pytest.raises(BuildError, match="is a directory in the image, and the source has a file"):
        copy(place, "dir", "/there")
    (place / "target/real/sub").write_text("")
    with pytest.raises(BuildError, match="is a file in the image, and the source has a directory"):
        copy(place, "dir", "/real")


# what it is like


def test_modes_times_and_owners(place):
    copy(place, ["a", "b", "dir"], "/x/y/")
    top = place / "target/x/y"
    status = os.stat(top / "a")
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, 10**18 + 9)
    assert os.stat(top / "sub").st_mtime == 10**9
    assert owners(top / "b") == owners(top / "link") == owners(place / "target/x") == (0, 0)
    assert stat.S_IMODE(os.stat(place / "target/x").st_mode) == 0o755


def test_owners_of_a_stage_are_kept(place):
    copy(place, "b", "/x/", keep_owner=True)
    assert owners(place / "target/x/b") == (77, 78)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5:6", (5, 6)),
        ("5", (5, 5)),
        ("user", (1234, 1235)),
        ("user:staff", (1234, 50)),
        ("user:9", (1234, 9)),
        ("7:staff", (7, 50)),
    ],
)
def test_chown(place, text, expected):
    copy(place, ["a", "dir"], "/x/y/", chown=text, keep_owner=True)
    top = place / "target/x"
    for name in (".", "y", "y/a", "y/sub", "y/sub/two", "y/link"):
        assert owners(top / name) == expected
    assert owners(place / "target/there") == (0, 0)


def test_chmod(place):
    copy(place, ["a", "dir"], "/x/", chmod="4701")
    for name in ("a", "sub", "sub/two"):
        assert stat.S_IMODE(os.stat(place / "target/x" / name).st_mode) == 0o4701


def test_hard_links_and_fifos(place):
    os.link(place / "source/dir/one", place / "source/dir/sub/again")
    os.mkfifo(place / "source/dir/fifo", 0o600)
    copy(place, "dir", "/x")
    top = place / "target/x"
    assert os.stat(top / "one").st_ino == os.stat(top / "sub/again").st_ino
    assert stat.S_ISFIFO(os.lstat(top / "fifo").st_mode)


# links that want to get out


@pytest.fixture
def jail(place):
    outside = place / "outside"
    outside.mkdir()
    (outside / "a").write_text("untouched")
    (outside / "dir").mkdir()
    os.chown(outside, 31, 32)
    outside.chmod(0o711)
    target = place / "target"
    (target / "abs").symlink_to(outside)
    (target / "rel").symlink_to("../outside")
    (target / "up").symlink_to("../../../../../../../.." + str(outside))
    (target / "f").symlink_to(outside / "a")
    (target / "there/sub").symlink_to(outside)
    (target / "loop").symlink_to("loop")
    (target / "new").symlink_to(outside / "new")
    return place


@pytest.mark.parametrize("source", ["a", "dir"])
@pytest.mark.parametrize(
    "dest",
    [
        "/abs",
        "/abs/",
        "/abs/x/",
        "/rel",
        "/rel/dir/",
        "/up/",
        "/f",
        "/f/",
        "/there/",
        "/there/sub/",
        "/loop/",
        "/loop",
        "/new",
        "/new/",
        "/new/deep/x",
        "/../outside/",
        "/rel/../../outside/",
    ],
)
def test_destinations_stay_inside(jail, source, dest):
    before = os.stat(jail / "outside")
    try:
        copy(jail, source, dest)
    except BuildError:
        pass
    assert tree(jail / "outside") == ["a", "dir"]
    assert (jail / "outside/a").read_text() == "untouched"
    after = os.stat(jail / "outside")
    assert (after.st_mtime_ns, after.st_mode, after.st_uid) == (
        before.st_mtime_ns,
        before.st_mode,
        before.st_uid,
    )
    assert sorted(os.listdir(jail)) == ["outside", "source", "target"]


def test_a_loop_in_the_destination_is_told(jail):
    with pytest.raises(BuildError, match="symbolic links"):
        copy(jail, "a", "/loop/x/")


# ADD


def archive(kind="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=kind) as tar:
        for name, content in (("in/x", b"x" * 3000), (".wh.y", b"")):
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.mode, info.mtime = len(content), 9, 0o600, 10**9
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


PACKERS = {
    "plain": bytes,
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
    "bz2": bz2.compress,
}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("dest", ["/x", "/x/", "/there", "/to-real"])
def test_add_unpacks(place, kind, dest):
    (place / "source/archive").write_bytes(PACKERS[kind](archive()))
    copy(place, "archive", dest, unpack=True)
    top = place / "target" / {"/to-real": "real"}.get(dest, dest.strip("/"))
    assert tree(top) == [".wh.y", "in", "in/x"]
    status = os.stat(top / "in/x")
    assert (status.st_uid, stat.S_IMODE(status.st_mode), status.st_mtime) == (9, 0o600, 10**9)


def test_copy_does_not_unpack(place):
    (place / "source/archive").write_bytes(archive())
    copy(place, "archive", "/x")
    assert (place / "target/x").read_bytes() == archive()


def test_add_with_chown(place):
    (place / "source/archive").write_bytes(archive())
    copy(place, "archive", "/x", unpack=True, chown="5:6")
    assert owners(place / "target/x") == owners(place / "target/x/in/x") == (5, 6)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        gzip.compress(b"text", mtime=0),
        gzip.compress(b"text" * 1000, mtime=0),
        zstandard.compress(b"text" * 1000),
        gzip.compress(b"text", mtime=0)[:-9],
        b"\x1f\x8bno",
        b"BZh is no archive",
        b"\x28\xb5\x2f\xfdno",
        b"\xfd7zXZ\x00no",
        b"\0" * 2048,
        archive()[:100],
    ],
)
def test_add_copies_what_is_no_archive(place, data):
    (place / "source/file.gz").write_bytes(data)
    copy(place, "file.gz", "/x/", unpack=True)
    assert (place / "target/x/file.gz").read_bytes() == data


@pytest.mark.parametrize("kind", PACKERS)
def test_add_of_a_cut_off_archive(place, kind):
    data = PACKERS[kind](archive() if kind == "plain" else noisy())
    (place / "source/archive").write_bytes(data[: 2000 if kind == "plain" else len(data) * 2 // 3])
    with pytest.raises(BuildError, match=r"damaged|cut off|can't be unpacked"):
        copy(place, "archive", "/x", unpack=True)


def noisy():
    """An archive that does not shrink, so that a part of it can be unpacked."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("one", "two"):
            info = tarfile.TarInfo(name)
            info.size = 1 << 20
            tar.addfile(info, io.BytesIO(os.urandom(info.size)))
    return out.getvalue()


def test_add_into_a_file(place):
    (place / "source/archive").write_bytes(archive())
    with pytest.raises(BuildError, match="leads through a file of the image"):
        copy(place, "archive", "/file", unpack=True)


def test_add_of_a_fifo_does_not_hang(place):
    os.mkfifo(place / "source/fifo")
    copy(place, "fifo", "/x", unpack=True)
    assert stat.S_ISFIFO(os.lstat(place / "target/x").st_mode)


def test_add_of_a_directory_with_archives(place):
    (place / "source/dir/archive").write_bytes(archive())
    copy(place, "dir", "/x", unpack=True)
    assert (place / "target/x/archive").read_bytes() == archive()


# WORKDIR


def test_workdir(place):
    with Root(str(place / "target")) as root:
        assert make_directory(WorkdirOp("/x/y"), root) is True
        assert make_directory(WorkdirOp("/x/y"), root) is False
        assert make_directory(WorkdirOp("/to-real/z"), root) is True
        with pytest.raises(BuildError, match="a file of the image is in the way"):
            make_directory(WorkdirOp("/file/x"), root)
    assert (place / "target/real/z").is_dir()
    assert stat.S_IMODE(os.stat(place / "target/x/y").st_mode) == 0o755


def test_workdir_stays_inside(jail):
    with Root(str(jail / "target")) as root:
        for path in ("/abs/w", "/rel/w", "/up/w", "/new/w"):
            make_directory(WorkdirOp(path), root)
        with pytest.raises(BuildError):
            make_directory(WorkdirOp("/loop/w"), root)
    assert tree(jail / "outside") == ["a", "dir"]
