"""Manifests and indexes of any shape: a pull succeeds or ends with a BuildError that can be read."""

from __future__ import annotations

import os
import time

import pytest
from faulty_documents import AMD64, DEEP, HERE, IMAGE, JSON, fit, index, manifest, with_config, with_layer
from strangers import INDEX, MANIFEST, Reply, digest, dumps, serving

from buildfront.errors import BuildError
from buildfront.image_transfer import pull

BAD = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "string": b'"x"',
    "number": b"1e999",
    "no object": b"{}",
    "cut": b'{"config":',
    "not UTF-8": b'{"mediaType":"\xff"}',
    "UTF-16": '{"mediaType":"x"}'.encode("utf-16"),
    "NaN": b'{"config": NaN, "layers": NaN}',
    "deep": DEEP,
    "deep list": b"[" * 100_000 + b"]" * 100_000,
    "deep layers": b'{"mediaType":"'
    + MANIFEST.encode()
    + b'","layers":'
    + b"[" * 100_000
    + b"]" * 100_000
    + b"}",
    "huge number": b'{"config":' + b"9" * 100_000 + b"}",
    "layers null": manifest(layers=None),
    "layers an object": manifest(layers={}),
    "layers a string": manifest(layers="x"),
    "layer null": manifest(layers=[None]),
    "layer a list": manifest(layers=[[]]),
    "config null": manifest(config=None),
    "config a list": manifest(config=[]),
    "config a string": manifest(config="x"),
    "media type null": manifest(mediaType=None, config=None),
    "media type a list": manifest(mediaType=["x"]),
    "media type an object": manifest(mediaType={"a": 1}),
    "media type a number": manifest(mediaType=7),
    "media type with escapes": manifest(mediaType="\x1b[31mred\u202e\n"),
    "media type huge": manifest(mediaType="x" * 100_000),
    "index empty": index(),
    "index of nulls": index(None, 1, "x", [], True),
    "index null": dumps({"manifests": None}),
    "index a number": dumps({"manifests": 5}),
    "index a string": dumps({"manifests": "abc"}),
    "index an object": dumps({"manifests": {"a": 1}}),
    "platform null, two": index({**HERE, "platform": None}, {**HERE, "platform": None}),
    "platform a string": index({**HERE, "platform": "linux/amd64"}),
    "platform a list": index({**HERE, "platform": []}),
    "platform a number": index({**HERE, "platform": 3}),
    "platform of odd types": index({**HERE, "platform": {"os": 1, "architecture": [], "variant": {}}}),
    "platform with escapes": index({**HERE, "platform": {"os": "\x1b[31m", "architecture": "\u202e\n"}}),
    "platform empty": index({**HERE, "platform": {}}),
    "platforms, many": index(
        *({**HERE, "platform": {"os": f"o{n}", "architecture": "a"}} for n in range(9000))
    ),
    "digest missing": index({"platform": AMD64}),
    "digest null": index({"digest": None, "platform": AMD64}),
    "digest a list": index({"digest": [], "platform": AMD64}),
    "digest a path": index({**HERE, "digest": "sha256:../../../etc/passwd", "platform": AMD64}),
    "digest sha512": index({**HERE, "digest": "sha512:" + "0" * 128, "platform": AMD64}),
    "digest upper case": index({**HERE, "digest": HERE["digest"].upper(), "platform": AMD64}),
    "digest with a line break": index({**HERE, "digest": HERE["digest"] + "\n", "platform": AMD64}),
    "digest with escapes": index({**HERE, "digest": "\x1b[2J", "platform": AMD64}),
    "digest huge": index({**HERE, "digest": "x" * 100_000, "platform": AMD64}),
    "index and image": manifest(manifests=[]),
    "blob digest null": with_layer(digest=None),
    "blob digest a path": with_layer(digest="../x"),
    "blob digest a query": with_layer(digest="sha256:" + "0" * 60 + "?a=b"),
    "config digest short": with_config(digest="sha256:00"),
    "size missing": manifest(config={"digest": digest(IMAGE.config)}),
    "size null": with_layer(size=None),
    "size true": with_layer(size=True),
    "size negative": with_layer(size=-5),
    "size a float": with_layer(size=1.5),
    "size a string": with_layer(size="600"),
    "size 2**70": with_layer(size=2**70),
    "size 2**63": with_config(size=2**63),
    "size 10**4000": with_config(size=10**4000),
    "size too small": with_layer(size=3),
    "size too large": with_layer(size=10_000),
    "size zero": with_config(size=0),
    "blob missing": with_layer(digest="sha256:" + "0" * 64),
}


@pytest.mark.parametrize("case", list(BAD))
def test_manifests_that_are_none(serve, store, case) -> None:
    registry = serve(serving({**IMAGE.answers(), "manifests/latest": Reply(headers=JSON, body=BAD[case])}))
    began = time.monotonic()
    with pytest.raises(BuildError) as error:
        pull(store, f"{registry.name}/app", platform="linux/amd64")
    fit(error.value)
    assert time.monotonic() - began < 20
    assert os.listdir(store.blobs) == os.listdir(store.tmp) == [] and store.index.read() == []


GOOD = {
    "as it is": (MANIFEST, manifest()),
    "without a media type": ("application/json", manifest(mediaType=MANIFEST, annotations={"a": "b"})),
    "type in the header": (MANIFEST + "; charset=utf-8", dumps({**IMAGE.manifest, "mediaType": ""})),
    "index of one": (INDEX, index(HERE)),
    "index by its form": ("", dumps({"manifests": [HERE]})),
    "index of two": (
        INDEX,
        index({**HERE, "platform": {**AMD64, "architecture": "arm64"}}, {**HERE, "platform": AMD64}),
    ),
}


@pytest.mark.parametrize("case", list(GOOD))
def test_manifests_that_are_good(serve, store, case) -> None:
    media_type, body = GOOD[case]
    registry = serve(
        serving(
            {**IMAGE.answers(), "manifests/latest": Reply(headers={"Content-Type": media_type}, body=body)}
        )
    )
    pull(store, f"{registry.name}/app", platform="linux/amd64")
    assert len(store.index.read()) == 1


def test_an_index_in_an_index_in_an_index(serve, store) -> None:
    """1 500 of them, each naming the next."""
    answers, body = IMAGE.answers(), manifest()
    for _ in range(1500):
        answers[f"manifests/{digest(body)}"] = Reply(headers={"Content-Type": INDEX}, body=body)
        body = index({"digest": digest(body), "size": len(body), "mediaType": INDEX, "platform": AMD64})
    answers["manifests/latest"] = Reply(headers={"Content-Type": INDEX}, body=body)
    registry = serve(serving(answers))
    try:
        pull(store, f"{registry.name}/app", platform="linux/amd64")
    except BuildError as error:
        fit(error)
    assert len(registry.asked) < 20
