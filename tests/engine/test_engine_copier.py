"""COPY, ADD and WORKDIR, as docker does them."""

import bz2
import gzip
import io
import lzma
import os
import socket
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
from buildfront.graph.step_graph import Inline
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


def test_hard_links_are_kept_within_one_source(place):
    os.link(place / "source/a", place / "source/dir/again")
    copy(place, ["a", "dir"], "/x/")
    top = place / "target/x"
    assert os.stat(top / "a").st_ino != os.stat(top / "again").st_ino


def test_an_empty_file_stands_for_a_socket(place):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(place / "source/dir/s"))
    (place / "source/dir/s").chmod(0o751)
    copy(place, "dir", "/x")
    status = os.lstat(place / "target/x/s")
    assert stat.S_ISREG(status.st_mode) and (stat.S_IMODE(status.st_mode), status.st_size) == (0o751, 0)


# several sources and existing files


def test_of_several_files_to_one_name_the_last_stays(place):
    copy(place, ["a", "b"], "/new")
    assert (place / "target/new").read_text() == "b"
    copy(place, ["dir", "a"], "/both")  # the first has made it a directory
    assert tree(place / "target/both") == ["a", "link", "one", "sub", "sub/two"]


def test_a_link_as_the_destination_is_followed(place):
    target = place / "target"
    (target / "l").symlink_to("file")
    (target / "dangling").symlink_to("/real/none")
    copy(place, "a", "/l")
    copy(place, "b", "/dangling")
    assert (target / "l").is_symlink() and (target / "file").read_text() == "a"
    assert (target / "real/none").read_text() == "b"


def test_a_link_of_the_source_replaces_a_file_or_a_link(place):
    (place / "target/there/link").write_text("old")
    (place / "target/real/link").symlink_to("/nowhere")
    for dest in ("/there", "/real"):
        copy(place, "dir", dest)
        assert os.readlink(place / "target" / dest[1:] / "link") == "one"


def test_a_directory_where_the_image_has_a_link_is_an_error(place):
    (place / "target/there/sub").symlink_to("/real")
    with pytest.raises(BuildError, match="'/there/sub' is a link in the image") as caught:
        copy(place, "dir", "/there")
    assert "as the destination" in caught.value.hint
    assert os.listdir(place / "target/real") == []


def test_existing_directories_below_the_destination_get_the_modes_and_owners_of_the_source(place):
    target = place / "target"
    (target / "there/sub").mkdir(mode=0o700)
    for name in ("there", "there/sub"):
        os.chown(target / name, 5, 6)
        (target / name).chmod(0o700)
    (place / "source/dir/sub").chmod(0o751)
    copy(place, "dir", "/there")
    assert (owners(target / "there"), stat.S_IMODE(os.stat(target / "there").st_mode)) == ((5, 6), 0o700)
    assert (owners(target / "there/sub"), stat.S_IMODE(os.stat(target / "there/sub").st_mode)) == (
        (0, 0),
        0o751,
    )


def test_what_a_source_copies_may_be_the_destination_of_the_next(place):
    copy(place, ["dir", "a"], "/x")
    copy(place, ["a", "dir/link"], "/x/link")
    assert (place / "target/x/one").read_text() == "one"
    assert not (place / "target/x/a").is_symlink() and (place / "target/x/a").read_text() == "a"


# modes


def mode(path):
    return oct(stat.S_IMODE(os.lstat(path).st_mode))


def test_symbolic_modes(place):
    (place / "source/dir/one").chmod(0o700)
    (place / "source/dir/sub").chmod(0o700)
    (place / "source/dir/sub/two").chmod(0o600)
    copy(place, "dir", "/x/y", chmod="u=rwX,go=rX")
    top = place / "target/x/y"
    assert [mode(top / name) for name in ("", "one", "sub", "sub/two")] == [
        "0o755",
        "0o755",
        "0o755",
        "0o644",
    ]
    assert mode(top / "link") == "0o777"


def test_directories_of_the_destination_get_an_octal_mode_without_special_bits(place):
    copy(place, "dir", "/x/y", chmod="4750")
    top = place / "target/x"
    assert [mode(top / name) for name in ("", "y", "y/one", "y/sub")] == [
        "0o750",
        "0o750",
        "0o4750",
        "0o4750",
    ]
    copy(place, "a", "/z/a", chmod="g=")
    assert [mode(place / "target/z"), mode(place / "target/z/a")] == ["0o755", "0o600"]


def test_a_bad_mode_is_told(place):
    with pytest.raises(BuildError, match="--chmod=8: an octal mode"):
        copy(place, "a", "/x", chmod="8")


# --exclude and --parents


def test_files_that_are_left_out(place):
    copy(place, "dir", "/x", excludes=("**/two", "link"))
    assert tree(place / "target/x") == ["one", "sub"]
    copy(place, "dir", "/y", excludes=("*", "!sub/two"))
    assert tree(place / "target/y") == ["sub", "sub/two"]


def test_a_file_that_is_named_is_never_left_out(place):
    copy(place, ["a", "dir/on*"], "/x/", excludes=("**",))
    assert tree(place / "target/x") == ["a", "one"]


def test_parents(place):
    os.chown(place / "source/dir", 77, 78)
    (place / "source/dir").chmod(0o751)
    copy(place, ["dir/sub/two", "a"], "/x", parents=True, keep_owner=True)
    top = place / "target/x"
    assert tree(top) == ["a", "dir", "dir/sub", "dir/sub/two"]
    assert (owners(top / "dir"), mode(top / "dir"), owners(top)) == ((77, 78), "0o751", (0, 0))
    assert os.stat(top / "dir/sub").st_mtime == 10**9


def test_existing_parents_get_the_mode_but_not_the_owner_of_the_source(place):
    (place / "target/x/dir").mkdir(parents=True)
    os.chown(place / "target/x/dir", 5, 6)
    (place / "source/dir").chmod(0o751)
    copy(place, "dir/one", "/x", parents=True, chmod="600", chown="7:8")
    top = place / "target/x"
    assert (owners(top / "dir"), mode(top / "dir")) == ((5, 6), "0o751")
    assert (owners(top / "dir/one"), mode(top / "dir/one")) == ((7, 8), "0o600")


# here-documents, git trees


def write(place, dest, name="EOF", content="text\n", **fields):
    op = CopyOp((), dest, Origin("context"), **fields)
    with Root(str(place / "target")) as target:
        copier = Copier(op, target, owner=find_owner(target, op.chown)[0])
        copier.write(Inline(name, content))


@pytest.mark.parametrize(
    ("dest", "path"),
    [
        ("/new", "new"),
        ("/new/", "new/EOF"),
        ("/there", "there/EOF"),
        ("/x/y", "x/y"),
        ("/to-real", "real/EOF"),
        ("/file", "file"),
    ],
)
def test_a_here_document_goes_where_a_file_does(place, dest, path):
    write(place, dest)
    made = place / "target" / path
    assert (made.read_text(), mode(made), owners(made)) == ("text\n", "0o644", (0, 0))


def test_a_here_document_with_flags(place):
    write(place, "/x/y", content="\udcff", chmod="u+x", chown="user:staff")
    made = place / "target/x/y"
    assert (made.read_bytes(), mode(made), owners(made)) == (b"\xff", "0o744", (1234, 50))
    assert owners(made.parent) == (1234, 50)


@pytest.mark.parametrize("name", ["a/b", "..", ".", ""])
def test_a_here_document_whose_name_is_none_of_a_file(place, name):
    with pytest.raises(BuildError, match="can't be a file of that name"):
        write(place, "/x/", name=name)


def test_a_here_document_where_a_directory_is(place):
    (place / "target/there/EOF").mkdir()
    with pytest.raises(BuildError, match="is a directory in the image"):
        write(place, "/there/")


def test_a_whole_directory_is_copied_itself_where_the_destination_is_missing(place):
    (place / "source/dir").chmod(0o711)
    os.utime(place / "source/dir", (10**9, 10**9))
    copy(place, "dir", "/x/new", whole=True)
    assert (mode(place / "target/x/new"), os.stat(place / "target/x/new").st_mtime) == ("0o711", 10**9)
    assert mode(place / "target/x") == "0o755"
    copy(place, "dir", "/there", whole=True)
    assert mode(place / "target/there") == "0o755" and (place / "target/there/one").exists()
    copy(place, "dir", "/z", whole=True, chmod="700")
    assert mode(place / "target/z") == "0o700"


# attributes


@pytest.mark.parametrize("chown", ["", "5:6"])
def test_attributes_and_capabilities_of_a_stage_are_kept(place, chown):
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(place / "source/dir/one", "security.capability", capability)
    os.setxattr(place / "source/dir/one", "user.note", b"1")
    os.setxattr(place / "source/dir/sub", "user.note", b"2")
    copy(place, "dir", "/x", keep_owner=True, chown=chown, chmod="755")
    made = place / "target/x/one"
    assert os.getxattr(made, "security.capability") == capability and os.getxattr(made, "user.note") == b"1"
    assert os.getxattr(place / "target/x/sub", "user.note") == b"2"
    copy(place, "dir", "/y")
    assert os.listxattr(place / "target/y/one") == []


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
