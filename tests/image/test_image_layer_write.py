"""Headers of layers: byte for byte what Python's tarfile writes, so that no digest has changed; and what it can't."""

import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.errors import BuildError
from buildfront.image.layer_write import header

texts = st.binary(max_size=160).map(lambda raw: raw.replace(b"\0", b"0").decode("utf-8", "surrogateescape"))
texts |= st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=130)
numbers = st.integers(0, 1 << 40) | st.sampled_from([8**7 - 1, 8**7, 8**11 - 1, 8**11])


@given(
    path=texts,
    link=texts,
    mode=st.integers(0, 0o777777),
    uid=numbers,
    gid=numbers,
    size=numbers,
    mtime=numbers | st.integers(-(1 << 40), 0),
    flag=st.sampled_from([b"0", b"1", b"2", b"6"]),
    attributes=st.dictionaries(st.text("abü.", min_size=1, max_size=9), st.binary(max_size=30), max_size=3),
)
def test_headers_are_those_of_tarfile(path, link, mode, uid, gid, size, mtime, flag, attributes) -> None:
    info = tarfile.TarInfo(path)
    info.mode, info.uid, info.gid, info.size, info.mtime = mode, uid, gid, size, mtime
    info.type, info.linkname = flag, link
    info.pax_headers = {
        "SCHILY.xattr." + key: value.decode("utf-8", "surrogateescape") for key, value in attributes.items()
    }
    wanted = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    made = header(
        path, flag, mode=mode, uid=uid, gid=gid, size=size, mtime=mtime, link=link, attributes=attributes
    )
    assert made == wanted


@given(st.sampled_from([b"3", b"4"]), st.integers(0, 4095), st.integers(0, (1 << 20) - 1))
def test_devices_too(flag, major, minor) -> None:
    info = tarfile.TarInfo("node")
    info.mode, info.type, info.devmajor, info.devminor = 0o600, flag, major, minor
    wanted = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    assert header("node", flag, mode=0o600, device=os.makedev(major, minor)) == wanted


def test_an_attribute_whose_name_is_no_text() -> None:
    assert b"30 SCHILY.xattr.user.\xff=\xfe\n" not in header("f", b"0")
    assert b" SCHILY.xattr.user.\xff=\xfe\n" in header("f", b"0", attributes={"user.\udcff": b"\xfe"})


def test_attributes_that_no_reader_would_take() -> None:
    with pytest.raises(BuildError, match=r"'f' has extended attributes of \d+ bytes, too many for a layer"):
        header("f", b"0", attributes={f"user.{n}": b"x" * 60_000 for n in range(20)})
