"""Compressed streams: written, told apart, read, and damaged."""

import bz2
import gzip
import io
import lzma

import pytest
import zstandard

from buildfront.errors import BuildError
from buildfront.image import compression

DATA = b"".join(b"line %d\n" % number for number in range(20_000))


def packed(name, level=None):
    out = io.BytesIO()
    stream = compression.writer(out, name, level)
    stream.write(DATA[:1000])
    stream.write(DATA[1000:])
    stream.close()
    return out.getvalue()


@pytest.mark.parametrize("name", ["gzip", "zstd", "uncompressed"])
@pytest.mark.parametrize("level", [None, 1, 9])
def test_round_trip(name, level):
    data = packed(name, level)
    assert compression.kind(data) == {"uncompressed": "plain"}.get(name, name)
    assert compression.reader(io.BytesIO(data)).read() == DATA
    assert packed(name, level) == data
    assert name == "uncompressed" or len(data) < len(DATA) / 2


def test_others_can_read_it():
    assert gzip.decompress(packed("gzip")) == DATA
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed("zstd")) == DATA


ALL = {
    "gzip": gzip.compress(DATA),
    "zstd": zstandard.compress(DATA),
    "xz": lzma.compress(DATA),
    "bzip2": bz2.compress(DATA),
    "plain": DATA,
}


@pytest.mark.parametrize("name", ALL)
def test_detection(name):
    assert compression.kind(ALL[name]) == name
    assert compression.reader(io.BytesIO(ALL[name])).read() == DATA


@pytest.mark.parametrize("name", [name for name in ALL if name != "plain"])
def test_two_streams_one_after_the_other(name):
    assert compression.reader(io.BytesIO(ALL[name] * 2)).read() == DATA * 2


@pytest.mark.parametrize("name", [name for name in ALL if name != "plain"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.999])
def test_a_stream_that_is_cut_off(name, part):
    cut = ALL[name][: int(len(ALL[name]) * part)]
    stream = compression.reader(io.BytesIO(cut))
    with pytest.raises((*compression.unreadable(), ValueError)):
        while stream.read(1000):
            pass


@pytest.mark.parametrize("name", [name for name in ALL if name != "plain"])
def test_a_damaged_stream(name):
    data = ALL[name]
    broken = data[:20] + bytes(byte ^ 0x55 for byte in data[20:200]) + data[200:]
    with pytest.raises(Exception) as caught:
        compression.reader(io.BytesIO(broken)).read()
    assert isinstance(caught.value, compression.unreadable())


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f"])
def test_short_streams_are_plain(data):
    assert compression.reader(io.BytesIO(data)).read() == data


def test_unknown_compression():
    with pytest.raises(BuildError, match="unknown compression 'lzo'"):
        compression.writer(io.BytesIO(), "lzo")
