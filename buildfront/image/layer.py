"""Layers as tar: entries written out, tars applied to a root filesystem (OCI image spec, layer.md)."""

from __future__ import annotations

from .layer_apply import OPAQUE_MARKER, WHITEOUT, Applier
from .layer_write import write_tar
from .trees import remove

__all__ = ["OPAQUE_MARKER", "WHITEOUT", "Applier", "remove", "write_tar"]
