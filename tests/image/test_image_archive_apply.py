"""Archives that ADD unpacks: which files count as one, and where their entries go."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from buildfront.errors import BuildError
from buildfront.image.archive_apply import is_archive, unpack
from run_step import Root

SKIPPED = struct.pack("<II", 0x184D2A50, 5) + b"hello"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "several gz": lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]),
    "xz": lzma.compress,
    "zst": zstandard.compress,
    "zst after a frame to skip": lambda data: SKIPPED + zstandard.compress(data),
    "zst after two": lambda data: SKIPPED + SKIPPED + zstandard.compress(data),
    "bz2": bz2.compress,
}


def tar(*entries: tuple[str, object], **common: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, what in entries:
            info = tarfile.TarInfo(name)
            info.mtime, info.mode = 10**9, 0o644
            for key, value in common.items():
                setattr(info, key, value)
            data = b""
            if isinstance(what, bytes):
                data = what
            elif what == "dir":
                info.type, info.mode = tarfile.DIRTYPE, 0o700
            else:
                kind, info.linkname = what  # type: ignore[misc]
                info.type = tarfile.SYMTYPE if kind == "link" else tarfile.LNKTYPE
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def apply(place: Path, data: bytes, path: str = "/", owner: tuple[int, int] | None = None) -> None:
    with Root(str(place)) as root:
        unpack(io.BytesIO(data), root, path, owner, lambda: None)


# which


@pytest.mark.parametrize("kind", PACKERS)
def test_a_tar_is_an_archive_however_it_is_compressed(kind: str) -> None:
    assert is_archive(io.BytesIO(PACKERS[kind](tar(("a", b"x" * 3000)))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"\0" * 2048,
        b"BZh no",
        b"\x1f\x8bno",
        b"\x28\xb5\x2f\xfdno",
        SKIPPED,
        gzip.compress(b"text" * 1000, mtime=0),
    ],
)
def test_other_files_are_none(data: bytes) -> None:
    assert not is_archive(io.BytesIO(data))


@pytest.mark.parametrize("kind", PACKERS)
def test_a_cut_off_archive_is_one_from_its_first_header_on(tmp_path: Path, kind: str) -> None:
    """What is cut off before it is a file like others, all else is refused: nothing is taken for whole."""
    whole = PACKERS[kind](tar(("a", b"x" * 3000)))
    found = [is_archive(io.BytesIO(whole[:size])) for size in range(len(whole) + 1)]
    first = found.index(True)
    assert all(found[first:]) and not any(found[:first])
    refused = 0
    for size in range(first, len(whole), max(1, len(whole) // 100)):
        try:
            apply(tmp_path, whole[:size])
        except BuildError:
            refused += 1
        else:  # only what follows the content of the last file may be missing
            assert kind == "plain" and size >= 512 + 3072
    assert refused or first == len(whole)


@pytest.mark.parametrize("kind", ["gz", "zst", "bz2", "xz"])
def test_a_large_archive_that_is_cut_off_is_refused(tmp_path: Path, kind: str) -> None:
    whole = PACKERS[kind](tar(("a", os.urandom(3 << 20))))
    for part in (10, 50, 99):
        data = whole[: len(whole) * part // 100]
        assert is_archive(io.BytesIO(data)) or kind == "bz2"
        with pytest.raises(BuildError, match=r"damaged|cut off|too early"):
            apply(tmp_path, data)


# where

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")


@root_only
def test_links_of_an_archive_stay_in_the_destination(tmp_path: Path) -> None:
    (tmp_path / "d/etc").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    data = tar(
        ("abs", ("link", "/etc")),
        ("abs/x", b"1"),
        ("up", ("link", "../../../etc")),
        ("up/y", b"2"),
        ("../z", b"3"),
    )
    apply(tmp_path, data, "/d")
    assert sorted(os.listdir(tmp_path / "d/etc")) == ["x", "y"] and os.listdir(tmp_path / "etc") == []
    assert (tmp_path / "d/z").read_bytes() == b"3" and sorted(os.listdir(tmp_path)) == ["d", "etc"]


@root_only
def test_a_hard_link_is_to_a_file_of_the_destination(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(BuildError, match="hard link"):
        apply(tmp_path, tar(("a", ("hard", "../secret"))), "/d")
    apply(tmp_path, tar(("a", b"1"), ("sub/b", ("hard", "/a"))), "/d")
    assert (tmp_path / "d/sub/b").samefile(tmp_path / "d/a")


@root_only
@pytest.mark.parametrize("name", ["l/x", "l/m/x"])
def test_an_entry_behind_a_link_to_nothing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildError, match="leads through a link to nothing: '/l'"):
        apply(tmp_path, tar(("l", ("link", "/nowhere")), (name, b"1")))
    assert os.listdir(tmp_path) == ["l"]


@root_only
def test_the_destination_keeps_its_own_mode_and_owner(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o751)
    apply(tmp_path, tar(("./", "dir"), ("./a", b""), uid=5, gid=6), "/d")
    status = (tmp_path / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o751, 0)
    assert (tmp_path / "d/a").stat().st_uid == 5


@root_only
def test_directories_without_an_entry_are_root_s(tmp_path: Path) -> None:
    apply(tmp_path, tar(("no/parents/here", b"x"), uid=5, gid=6), owner=(7, 8))
    for name, owner in (("no", (0, 0)), ("no/parents", (0, 0)), ("no/parents/here", (7, 8))):
        status = (tmp_path / name).stat()
        assert (status.st_uid, status.st_gid) == owner
    assert stat.S_IMODE((tmp_path / "no").stat().st_mode) == 0o755


@root_only
def test_of_attributes_file_capabilities_are_kept(tmp_path: Path) -> None:
    value = "\x01\0\0\x02\0\x04" + "\0" * 14
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"SCHILY.xattr.user.note": "hello", "SCHILY.xattr.security.capability": value}
        archive.addfile(info)
    apply(tmp_path, out.getvalue())
    assert os.listxattr(tmp_path / "a") == ["security.capability"]
