"""The store: blobs (a valid OCI image layout), snapshots, the catalogue, locks. It knows no image's meaning."""

from __future__ import annotations

from .store import Session, Store

__all__ = ["Session", "Store"]
