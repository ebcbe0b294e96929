"""Layers: round trips, whiteouts, and tars that want to get out."""

import io
import os
import socket
import stat
import tarfile
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildfront.errors import BuildError
from buildfront.image import archive_apply
from buildfront.image.diff import Comparison, xattrs
from buildfront.image.layer import Applier, write_tar
from run_step import Root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root")


def pack(path):
    out = io.BytesIO()
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        write_tar(Comparison(complete=True).walk(fd, None), fd, out)
    finally:
        os.close(fd)
    return out.getvalue()


def unpack_archive(data, path, directory):
    with Root(str(path)) as root:
        root.make_dirs(directory)
        archive_apply.unpack(io.BytesIO(data), root, directory, None, lambda: None)


def unpack(data, path, **options):
    with Root(str(path)) as root:
        Applier(root, **options).apply(io.BytesIO(data))


def state(top, times=True):
    """All that a layer is to keep, by path; hard links by the first name of their file."""
    top = os.fsencode(top)
    found, first = {}, {}
    for directory, names, files in os.walk(top):
        names.sort()
        for name in sorted(names + files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            kind = status.st_mode
            shown = os.path.relpath(path, top)
            value = [kind, status.st_uid, status.st_gid, xattrs(os.fsdecode(path))]
            if times:
                value.append(int(status.st_mtime))
            if stat.S_ISREG(kind):
                with open(path, "rb") as stream:
                    value.append(stream.read())
                value.append((status.st_nlink, first.setdefault(status.st_ino, shown)))
            elif stat.S_ISLNK(kind):
                value.append(os.readlink(path))
            elif stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
                value.append(status.st_rdev)
            found[shown] = value
    return found


names = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(name) & {0, ord("/")} and name not in (b".", b"..") and not name.startswith(b".wh.")
) | st.just(b"n" * 120)
owners = st.sampled_from([0, 1, 1000, 65534, 2**31])
attributes = st.dictionaries(st.sampled_from(["user.a", "user.b.c"]), st.binary(max_size=20), max_size=2)
modes = st.integers(0, 0o7777)
leaves = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=1500), attributes),
    st.tuples(st.just("link"), st.binary(min_size=1, max_size=150).filter(lambda text: 0 not in text)),
    st.tuples(st.just("fifo")),
    st.tuples(st.just("device"), st.integers(1, 200)),
    st.tuples(st.just("hard"), st.integers(0, 5)),
)
trees = st.recursive(
    st.dictionaries(names, st.tuples(modes, owners, owners, leaves), max_size=3),
    lambda inner: st.dictionaries(
        names,
        st.tuples(modes, owners, owners, st.one_of(leaves, st.tuples(st.just("dir"), inner))),
        max_size=4,
    ),
    max_leaves=10,
)


def grow(top, tree, files):
    for name, (mode, uid, gid, what) in tree.items():
        path = os.path.join(top, name)
        kind = what[0]
        if kind == "hard":
            if files:
                os.link(files[what[1] % len(files)], path)
            continue
        if kind == "file":
            with open(path, "xb") as stream:
                stream.write(what[1])
            files.append(path)
        elif kind == "link":
            os.symlink(what[1], path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "device":
            os.mknod(path, stat.S_IFCHR, os.makedev(250, what[1]))
        else:
            os.mkdir(path)
            grow(path, what[1], files)
        os.chown(path, uid, gid, follow_symlinks=False)
        if kind != "link":
            os.chmod(path, mode)
        for key, value in what[2].items() if kind == "file" else ():
            os.setxattr(path, key, value)
        os.utime(path, (mode * 1000, mode * 1000), follow_symlinks=False)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(trees)
def test_round_trip(tmp_path_factory, tree):
    top = tmp_path_factory.mktemp("tree")
    source, target = top / "source", top / "target"
    source.mkdir()
    target.mkdir()
    grow(os.fsencode(source), tree, [])
    data = pack(source)
    assert pack(source) == data
    unpack(data, target)
    assert state(target) == state(source)
    assert pack(target) == data
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        assert len(tar.getnames()) == len(state(source))


def test_a_socket_is_passed_over(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(tmp_path / "in" / "s"))
        unpack(pack(tmp_path / "in"), tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def tar(*entries):
    """(name, type, what): what is content, link target or device."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, *rest in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
            content = None
            if kind == tarfile.REGTYPE:
                content = rest[0]
                info.size = len(content)
            elif kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = rest[0]
            elif kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
                info.devmajor, info.devminor = rest[0]
            archive.addfile(info, io.BytesIO(content) if content is not None else None)
    return out.getvalue()


REG, DIR, SYM, LNK, CHR, FIFO = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.FIFOTYPE,
)


# whiteouts


@pytest.fixture
def root(tmp_path):
    top = tmp_path / "root"
    for name in ("d/sub/deep", "e"):
        (top / name).mkdir(parents=True)
    for name in ("d/one", "d/sub/two", "d/sub/deep/three", "e/f"):
        (top / name).write_text(name)
    return top


def test_whiteouts(root):
    unpack(
        tar(("d/.wh.one", REG, b""), ("e/.wh.none", REG, b""), (".wh.gone", REG, b""), ("x/.wh.y", REG, b"")),
        root,
    )
    assert set(state(root)) == {
        b"d",
        b"d/sub",
        b"d/sub/two",
        b"d/sub/deep",
        b"d/sub/deep/three",
        b"e",
        b"e/f",
    }
    unpack(tar((".wh.d", REG, b"")), root)
    assert set(state(root)) == {b"e", b"e/f"}


@pytest.mark.parametrize("last", [False, True])
def test_opaque_directories(root, last):
    marker = [("d/.wh..wh..opq", REG, b"")]
    rest = [("d/sub", DIR), ("d/sub/new", REG, b"n")]
    unpack(tar(("d", DIR), *(rest + marker if last else marker + rest)), root)
    assert set(state(root)) == {b"d", b"d/sub", b"d/sub/new", b"e", b"e/f"}


@pytest.mark.parametrize("last", [False, True])
def test_a_whiteout_is_about_the_layers_below(root, last):
    entries = [("d/.wh.one", REG, b""), ("d/one", REG, b"new")]
    unpack(tar(*(reversed(entries) if last else entries)), root)
    assert (root / "d/one").read_text() == "new"


def test_whiteout_names_mean_nothing_in_an_archive(root):
    unpack(tar(("d/.wh.one", REG, b"w")), root, whiteouts=False)
    assert (root / "d/one").exists() and (root / "d/.wh.one").read_text() == "w"


@pytest.mark.parametrize("name", [".wh..", ".wh...", ".wh.", "d/.wh..."])
def test_impossible_whiteouts(root, name):
    before = state(root)
    with pytest.raises(BuildError, match="impossible whiteout"):
        unpack(tar((name, REG, b"")), root)
    assert state(root) == before


def test_kinds_replace_each_other(root):
    unpack(tar(("d", REG, b"file"), ("e/f", DIR), ("e/f/in", REG, b"i")), root)
    assert (root / "d").read_text() == "file" and (root / "e/f/in").read_text() == "i"


def test_a_directory_keeps_what_is_in_it(root):
    unpack(tar(("d", DIR), ("d/new", REG, b"")), root)
    assert (root / "d/one").exists() and (root / "d/new").exists()


def test_a_directory_that_is_replaced_later_in_the_same_tar(root):
    unpack(tar(("a", DIR), ("a/b", DIR), ("a/b/c", REG, b""), ("a", REG, b"x")), root)
    assert (root / "a").read_text() == "x"


# hostile tars


@pytest.fixture
def jail(tmp_path):
    """A root filesystem beside files that must not change."""
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "outside" / "dir").mkdir(parents=True)
    (tmp_path / "outside" / "file").write_text("untouched")
    (tmp_path / "root" / "abs").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "rel").symlink_to("../outside")
    return tmp_path


def hostile(jail):
    out = str(jail / "outside")
    return {
        "parent": [("../outside/new", REG, b"x")],
        "many parents": [("../" * 30 + out.lstrip("/") + "/new", REG, b"x")],
        "parent inside": [("etc/../../outside/file", REG, b"x")],
        "absolute": [(out + "/file", REG, b"x")],
        "through an absolute link that is there": [("abs/file", REG, b"x"), ("abs/new", REG, b"x")],
        "through a relative link that is there": [("rel/file", REG, b"x"), ("rel/dir", DIR)],
        "through an absolute link of its own": [("l", SYM, out), ("l/file", REG, b"x"), ("l/new", DIR)],
        "through a relative link of its own": [("etc/l", SYM, "../../outside"), ("etc/l/file", REG, b"x")],
        "two links": [("a", SYM, ".."), ("b", SYM, "a/outside"), ("b/file", REG, b"x")],
        "over a link": [("l", SYM, out + "/file"), ("l", REG, b"x")],
        "directory over a link": [("l", SYM, out), ("l", DIR), ("l/file", REG, b"x")],
        "hard link to the outside": [("h", LNK, out + "/file"), ("h", REG, b"x")],
        "hard link upwards": [("h", LNK, "../outside/file")],
        "hard link through a link": [("l", SYM, out), ("h", LNK, "l/file")],
        "hard link to a link": [("l", SYM, out + "/file"), ("h", LNK, "l"), ("h", REG, b"x")],
        "whiteout through a link": [("abs/.wh.file", REG, b"")],
        "opaque through a link": [("rel/.wh..wh..opq", REG, b"")],
        "attributes of a link": [("abs", DIR), ("rel", SYM, "../outside")],
        "device": [("dev", CHR, (1, 3)), ("dev", REG, b"x")],
        "fifo": [("p", FIFO), ("p", REG, b"x")],
        "file as a directory": [("f", REG, b""), ("f/x", REG, b"")],
        "loop": [("l", SYM, "l"), ("l/x", REG, b"")],
        "to /proc": [("l", SYM, "/proc/self/cwd"), ("l/x", REG, b"")],
        "empty name": [("", REG, b"x"), (".", REG, b"x"), ("/", REG, b"x")],
        "root": [("./", DIR), ("..", DIR)],
    }


@pytest.mark.parametrize("case", hostile(__import__("pathlib").Path("/x")))
@pytest.mark.parametrize("whiteouts", [True, False])
def test_nothing_outside_changes(jail, case, whiteouts):
    before = state(jail / "outside"), os.stat(jail / "outside"), set(os.listdir(jail))
    try:
        unpack(tar(*hostile(jail)[case]), jail / "root", whiteouts=whiteouts)
    except BuildError:
        pass
    after = state(jail / "outside"), os.stat(jail / "outside"), set(os.listdir(jail))
    assert after[0] == before[0] and after[2] == before[2]
    keys = ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_ino")
    assert [getattr(after[1], key) for key in keys] == [getattr(before[1], key) for key in keys]


@pytest.mark.parametrize("case", hostile(__import__("pathlib").Path("/x")))
def test_below_a_base_directory(jail, case):
    before = state(jail / "outside")
    try:
        unpack_archive(tar(*hostile(jail)[case]), jail / "root", "/abs")
    except BuildError:
        pass
    assert state(jail / "outside") == before


def test_what_fails_is_named(jail):
    with pytest.raises(BuildError, match="'f/x' can't be unpacked: Not a directory"):
        unpack(tar(("f", REG, b""), ("f/x", REG, b"")), jail / "root")
    with pytest.raises(BuildError, match="hard link 'h' to 'none'"):
        unpack(tar(("h", LNK, "none")), jail / "root")


def test_devices_are_made(jail):
    unpack(tar(("null", CHR, (1, 3))), jail / "root")
    assert os.stat(jail / "root/null").st_rdev == os.makedev(1, 3)


SMALL = tar(
    ("d", DIR), ("d/a", REG, b"a" * 600), ("d/" + "l" * 150, REG, b"long"), ("h", LNK, "d/a"), ("s", SYM, "d")
)


def test_every_cut(tmp_path):
    """A tar that ends at a header's border is whole (its end is optional); anywhere else it is an error."""
    with tarfile.open(fileobj=io.BytesIO(SMALL)) as archive:
        members = archive.getmembers()
        borders = {member.offset for member in members[1:]} | {archive.offset}
    end = max(borders)
    assert len(members) == 5
    for cut in [*range(0, end + 1, 8), *borders, *(border + 1 for border in borders)]:
        target = tmp_path / str(cut)
        if target.exists():
            continue
        target.mkdir()
        whole = cut in borders or cut > end
        try:
            unpack(SMALL[:cut], target)
            assert cut >= end or cut in borders, cut
        except BuildError:
            assert not whole or cut > end, cut
    assert set(os.listdir(tmp_path)) == {item for item in os.listdir(tmp_path) if item.isdigit()}


def test_a_damaged_header_in_the_middle(tmp_path):
    broken = bytearray(SMALL)
    broken[512 + 100] ^= 1
    with pytest.raises(BuildError, match="damaged or cut off"):
        unpack(bytes(broken), tmp_path)


@given(st.binary(max_size=2000))
@settings(deadline=None)
def test_noise_is_an_error_and_no_crash(tmp_path_factory, data):
    with pytest.raises(BuildError):
        unpack(data.strip(b"\0") or b"x", tmp_path_factory.mktemp("noise"))


def test_one_owner_for_all(tmp_path):
    unpack(tar(("a/b", REG, b"")), tmp_path, owner=(5, 6))
    for name in ("a", "a/b"):
        status = os.stat(tmp_path / name)
        assert (status.st_uid, status.st_gid) == (5, 6)
