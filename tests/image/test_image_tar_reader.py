"""The tar reader against GNU tar and Python's tarfile, against damage of every kind, and within its limits."""

import io
import os
import subprocess
import tarfile

import hostile_archives as hostile
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from buildfront.errors import BuildError
from buildfront.image.layer_apply import Applier
from buildfront.image.tar_header import MAX_PIECES, is_header, number
from buildfront.image.tar_reader import (
    EXTENDED_LIMIT,
    FILE,
    Cancellable,
    Member,
    TarReader,
)
from run_step import Root, remove_tree


class Dribble(io.RawIOBase):
    """A stream that gives a few bytes at a time, as pipes do."""

    def __init__(self, data, step):
        self.data, self.step, self.at = data, step, 0

    def read(self, size=-1):
        out = self.data[self.at : self.at + min(size, self.step)]
        self.at += len(out)
        return out


def content(reader, member):
    out = bytearray(member.size)
    for offset, data in reader.pieces():
        out[offset : offset + len(data)] = data
    return bytes(out)


def read(stream, **options):
    """All members, each with its content."""
    reader = TarReader(stream, **options)
    return [(member, content(reader, member) if member.kind is FILE else b"") for member in reader]


def by_tarfile(data):
    kinds = {"0": FILE, "5": "directory", "2": "symbolic link", "1": "hard link", "6": "FIFO"}
    out = []
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        for info in archive:
            kind = FILE if info.isreg() else kinds[info.type.decode()]
            xattrs = {
                key.removeprefix("SCHILY.xattr."): value.encode("utf-8", "surrogateescape")
                for key, value in info.pax_headers.items()
                if key.startswith("SCHILY.xattr.")
            }
            size = info.size if info.isreg() else 0
            link = info.linkname if info.issym() or info.islnk() else ""
            stream = archive.extractfile(info) if info.isreg() else None
            common = (info.name, kind, info.mode, info.uid, info.gid, size, int(info.mtime), link, xattrs)
            out.append((common, stream.read() if stream else b""))
    return out


def common(found):
    """What both tell."""
    return [
        ((m.name, m.kind, m.mode, m.uid, m.gid, m.size, m.mtime, m.link, dict(m.xattrs)), data)
        for m, data in found
    ]


# what others write


names = st.binary(min_size=1, max_size=30).map(
    lambda raw: raw.replace(b"\0", b"0").replace(b"/", b"|").decode("utf-8", "surrogateescape")
)
paths = st.lists(names, min_size=1, max_size=9).map("/".join).filter(lambda path: path.strip("/. \n"))
infos = st.tuples(
    paths,
    st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]),
    st.integers(0, 0o7777),
    st.integers(0, 1 << 33),
    st.integers(0, 1 << 40) | st.integers(-(1 << 33), 0),
    paths,
    st.binary(max_size=1500),
    st.dictionaries(st.sampled_from(["user.a", "security.b"]), st.binary(max_size=20), max_size=2),
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(infos, max_size=6),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.sampled_from([1, 7, 512, 513, 1 << 20]),
)
def test_what_tarfile_writes_is_read_as_tarfile_reads_it(entries, form, step) -> None:
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=form, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for path, kind, mode, owner, mtime, link, data, attributes in entries:
            info = tarfile.TarInfo(path)
            info.type, info.mode, info.uid, info.gid, info.mtime = kind, mode, owner, owner, mtime
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = link
            if form == tarfile.PAX_FORMAT:
                info.pax_headers = {
                    "SCHILY.xattr." + key: value.decode("utf-8", "surrogateescape")
                    for key, value in attributes.items()
                    if value
                }
            info.size = len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(data))
    data = out.getvalue()
    assert common(read(Dribble(data, step))) == by_tarfile(data)


def grown(top):
    """A tree with all that tar knows, names of every length and of any bytes."""
    raw = os.fsencode(top)
    for name in (
        b"a",
        b"\xff\xfe",
        b"with\nbreak",
        "ü".encode(),
        b"n" * 99,
        b"n" * 100,
        b"n" * 101,
        b"n" * 200,
    ):
        with open(raw + b"/" + name, "wb") as stream:
            stream.write(name * 7)
    deep = raw
    for depth in range(12):
        deep += b"/directory-%02d" % depth
        os.mkdir(deep)
    with open(deep + b"/file", "wb") as stream:
        stream.write(b"x" * 100_000)
    with open(raw + b"/sparse", "wb") as stream:
        for at in range(0, 6 << 20, 1 << 17):
            stream.seek(at)
            stream.write(b"data at %d" % at)
        stream.truncate(10 << 20)
    open(raw + b"/empty", "wb").close()
    os.symlink(b"t" * 150, raw + b"/long-link")
    os.symlink(b"a", raw + b"/link")
    os.link(raw + b"/a", raw + b"/hard")
    os.mkfifo(raw + b"/fifo")
    os.setxattr(raw + b"/a", "user.key", b"value\0\xff")
    os.chmod(raw + b"/a", 0o4755)
    os.chown(raw + b"/a", 1000, 65534)
    for directory, inner, files in os.walk(raw, topdown=False):
        for name in inner + files:  # parts of a second are not kept
            os.utime(directory + b"/" + name, (1, 1_234_567_890), follow_symlinks=False)
    os.utime(raw, (1, 1_234_567_890))
    return top


FORMS = [
    ("v7",),
    ("oldgnu",),
    ("gnu",),
    ("ustar",),
    ("posix",),
    ("posix", "--xattrs", "--xattrs-include=*"),
    ("gnu", "--sparse"),
    ("oldgnu", "--sparse"),
    ("posix", "--sparse"),
    ("posix", "--sparse", "--sparse-version=0.0"),
    ("posix", "--sparse", "--sparse-version=0.1"),
    ("gnu", "--label=volume"),
    ("posix", "--label=volume"),
]


@pytest.mark.root
@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_what_GNU_tar_writes_is_read(tmp_path, form) -> None:
    source, target = grown(tmp_path / "in"), tmp_path / "out"
    target.mkdir()
    data = tar_of(source, form)
    with Root(str(target)) as root:
        Applier(root).apply(io.BytesIO(data))
    label = "--label=volume" in form
    if not label:
        assert common(read(io.BytesIO(data))) == by_tarfile(data)
    told = subprocess.run(
        ["tar", "-t", "--quoting-style=escape"], input=data, capture_output=True, check=True
    ).stdout.splitlines()
    assert len(read(io.BytesIO(data))) == len(told) - label
    with_sparse = "--sparse" in form
    assert not with_sparse or os.stat(target / "sparse").st_blocks * 512 < 4 << 20
    unpacked = subprocess.run(
        ["tar", "-d", "-C", target, "-f", "-"], input=data, capture_output=True, check=False, text=False
    )
    assert unpacked.stdout == b"" and unpacked.returncode == 0, unpacked


def tar_of(source, form):
    command = ["tar", "-c", f"--format={form[0]}", *form[1:], "--sort=name", "-C", source, "."]
    done = subprocess.run(command, capture_output=True, check=False)
    # v7 and ustar have no room for the longest names, which are left out then.
    assert done.returncode == 0 or form[0] in ("v7", "ustar"), done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def _tidy(tmp_path):
    (tmp_path / "in").mkdir()
    yield
    remove_tree(str(tmp_path / "in"))


@pytest.mark.root
def test_busybox_tar_is_read(tmp_path) -> None:
    grown(tmp_path / "in")
    data = subprocess.run(
        ["busybox", "tar", "-c", "-C", tmp_path / "in", "."], capture_output=True, check=True
    ).stdout
    assert common(read(io.BytesIO(data))) == by_tarfile(data)


def test_the_prefix_counts_where_the_format_has_one() -> None:
    def name(**fields):
        return read(io.BytesIO(hostile.member(b"file", **fields) + hostile.END))[0][0].name

    assert name(prefix=b"some/where") == "some/where/file"
    assert name(prefix=b"some/where", magic=b"ustar  \0") == "file"
    star = b"some/where".ljust(131, b"\0") + b"00000000000 00000000000 " + bytes(8) + b"tar\0"
    assert name(whole=star) == "some/where/file"


def test_a_directory_in_the_old_way() -> None:
    data = hostile.header(b"d/", flag=b"\0", magic=bytes(8)) + hostile.END
    assert read(io.BytesIO(data))[0][0] == Member("d", "directory", 0o644, 0, 0, 0, 0, flag=b"\0")


def test_signed_checksums() -> None:
    raw = bytearray(hostile.header(b"\xff\xfe" * 20))
    assert is_header(bytes(raw))
    signed = sum(byte - 256 if byte > 127 else byte for byte in raw[:148] + b" " * 8 + raw[156:])
    raw[148:156] = b"%06o\0 " % signed
    assert is_header(bytes(raw))
    raw[148:156] = b"%06o\0 " % (signed + 1)
    assert not is_header(bytes(raw))


@given(st.integers(-(1 << 62), 1 << 62))
def test_numbers_in_base_256(value) -> None:
    assert number(hostile.base256(value, 12)) == value


@given(st.integers(0, 8**11 - 1), st.sampled_from([b"%011o\0", b"%11o ", b" %10o\0", b"%o"]))
def test_numbers_in_octal(value, form) -> None:
    assert value >= 8**10 or number((form % value)[:12].ljust(12, b"\0")) == value


# limits


def fails(data, words, **options):
    with pytest.raises(BuildError, match=words):
        list(TarReader(io.BytesIO(data), **options))


def test_each_limit_is_told() -> None:
    h = hostile
    fails(b"", "not a tar archive: it is empty")
    fails(b"text" * 1000, "not a tar archive: it does not begin with a tar header")
    fails(h.FILE + b"text" * 1000, "damaged or cut off: there is no header after 'f'")
    fails(h.header(b"f", size=h.base256(1 << 60, 12)), "damaged or cut off: it ends in 'f'")
    fails(h.header(b"f", size=h.base256(1 << 63, 12)), "'f' has a size of 9223372036854775808 bytes")
    fails(h.header(b"f", size=h.base256(-1, 12)), "'f' has a size of -1 bytes")
    fails(h.header(b"x", flag=b"x", size=EXTENDED_LIMIT + 1), "an extended header of 1048577 bytes")
    fails(h.pax(h.record(b"path", b"x")) * 17 + h.FILE, "more than 16 extended headers for one entry")
    fails(h.FILE * 3, "more than 2 entries", limit=2)
    fails(h.new_sparse(b"%d\n" % (MAX_PIECES + 1), 9), "more than 131072 pieces")
    fails(h.new_sparse(b"1\n0\n4\n", 1 << 41, b"data"), "at most 1099511627776 are read")
    fails(h.with_pax(b"mtime", b"nan"), "'nan' is not a time")
    assert len(read(io.BytesIO(h.FILE * 2), limit=2)) == 2
    assert read(io.BytesIO(h.pax(h.record(b"path", b"x")) * 16 + h.FILE))[0][0].name == "x"


def test_an_error_does_not_quote_a_whole_megabyte() -> None:
    with pytest.raises(BuildError) as caught:
        list(TarReader(io.BytesIO(hostile.long_name(b"n" * 1_000_000) + hostile.header(b"f", size=9))))
    assert len(caught.value.what) < 500


def test_skipping_by_seeking_finds_the_end_too(tmp_path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(hostile.member(b"a", b"x" * 5_000_000) + hostile.FILE + hostile.END)
    with open(path, "rb") as stream:
        reader = TarReader(stream, seekable=True, chunk=4096)
        places = {member.name: reader.offset for member in reader}
    assert places == {"a": 512, "f": 512 + 5_000_192 + 512}
    path.write_bytes(hostile.header(b"a", size=hostile.base256(1 << 60, 12)) + bytes(5000))
    with open(path, "rb") as stream, pytest.raises(BuildError, match="it ends in 'a'"):
        list(TarReader(stream, seekable=True, chunk=4096))


def test_reading_ends_when_nobody_wants_it() -> None:
    class Endless:
        def read(self, size):
            return bytes(size)

    class Stop(Exception):
        pass

    asked = []

    def check():
        asked.append(1)
        if len(asked) > 100:
            raise Stop

    head = io.BytesIO(hostile.header(b"f", size=hostile.base256(1 << 60, 12)))

    class Both:
        def read(self, size):
            return head.read(size) or Endless().read(size)

    with pytest.raises(Stop):
        list(TarReader(Cancellable(Both(), check)))


# noise

SEEDS = [make("/nowhere")[:6000] for name, make in hostile.CASES.items() if not name[0].isdigit()]


@st.composite
def mutated(draw):
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.sampled_from(["flip", "cut", "splice", "repeat", "header"]))
        if what == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del data[at : at + draw(st.integers(0, 1500))]
        elif what == "splice":
            other = draw(st.sampled_from(SEEDS))
            data[at:at] = other[: draw(st.integers(0, 2048))]
        elif what == "repeat":
            data[at:at] = data[at : at + 512]
        elif len(data) >= 512:  # a change that a right checksum makes believable
            block = at // 512 * 512
            head = bytearray(data[block : block + 512].ljust(512, b"\0"))
            place = draw(st.sampled_from([0, 100, 108, 116, 124, 136, 156, 157, 257, 345, 386, 483]))
            new = draw(st.binary(min_size=1, max_size=12))
            head[place : place + len(new)] = new
            head[148:156] = b" " * 8
            head[148:156] = b"%06o\0 " % sum(head[:512])
            data[block : block + 512] = head[:512]
    return bytes(data)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(), st.sampled_from([1 << 20, 700]))
@example(hostile.pax(b"0 path=x\n") + hostile.FILE, 700)
@example(hostile.pax(b"10 path=x\nno length") + hostile.FILE, 700)
@example(hostile.pax(b"10 path=x\n0 x=y\n") + hostile.FILE, 700)
@example(hostile.old_sparse([(0, 4)], 9, b"data", more=True), 700)
@example(hostile.header(b"f", flag=b"3", device=b"\xff" * 16) + hostile.END, 700)
def test_noise_is_read_or_an_error(data, step) -> None:
    reader = TarReader(Dribble(data, step))
    try:
        for _ in reader:
            for _ in reader.pieces():
                pass
        reader.drain()
    except BuildError as error:
        assert error.what


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(), st.booleans())
@example(hostile.with_pax(b"SCHILY.xattr.user.\xff", b"\0"), True)
@example(hostile.header(b"d", flag=b"5", mtime=hostile.base256(1 << 90, 12)) + hostile.END, True)
@example(hostile.FILE + hostile.member(b".wh..wh..opq/") + hostile.END, True)
def test_noise_is_unpacked_or_an_error(tmp_path_factory, data, whiteouts) -> None:
    top = tmp_path_factory.mktemp("noise")
    (top / "root" / "etc").mkdir(parents=True)
    (top / "beside").write_text("untouched")
    try:
        with Root(str(top / "root")) as root:
            Applier(root, whiteouts=whiteouts).apply(io.BytesIO(data))
    except BuildError as error:
        assert error.what
    assert sorted(os.listdir(top)) == ["beside", "root"] and (top / "beside").read_text() == "untouched"
    remove_tree(str(top))
