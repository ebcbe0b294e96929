"""FROM: which snapshot stands for an image's layers."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from buildfront.engine.unpack import unpack
from buildfront.errors import BuildError
from buildfront.image.base_image import BaseImage
from buildfront.image.descriptor import Layer, chain_id
from buildfront.image.digest import Digest
from buildfront.image.media_types import LAYER
from buildfront.store.image_store import Session, Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="snapshots need root")


def layer(session: Session, name: str, diff_id: str = "") -> Layer:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    data = out.getvalue()
    return Layer(session.put(data, LAYER), diff_id or Digest.of(data))


def image(*layers: Layer) -> BaseImage:
    return BaseImage("x", "", "", {}, layers)


def test_a_diff_id_that_is_the_chain_id_of_another_image_gives_nothing_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("BUILDFRONT_SNAPSHOTS", "copy")
    with Store(str(tmp_path / "store")) as store, store.session() as session:
        other = layer(session, "one"), layer(session, "two")
        known = unpack(image(*other), session)
        assert unpack(image(*other), session) == known, "unpacked once"
        lie = layer(session, "mine", chain_id([item.diff_id for item in other]))
        with pytest.raises(BuildError, match="does not hold what its image says"):
            unpack(image(lie), session)
        assert unpack(image(*other), session) == known
