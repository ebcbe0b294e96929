"""What a user calls an image, to the store's descriptor of it."""

from __future__ import annotations

from typing import Any

from .image import reference as references
from .store import Store


def find(store: Store, name: str) -> dict[str, Any] | None:
    """The descriptor for a name, a digest, or an image ID (at least its first 7 digits)."""
    bare = name.removeprefix("sha256:")
    if 7 <= len(bare) <= 64 and all(char in "0123456789abcdef" for char in bare):
        for item in store.index.read():
            if item["digest"].startswith(f"sha256:{bare}"):
                return item
            config = store.read_json(item["digest"]).get("config", {})
            if str(config.get("digest", "")).startswith(f"sha256:{bare}"):
                return item
        if name.startswith("sha256:"):
            return None
    reference = references.parse(name)
    if reference.digest:
        return next((item for item in store.index.read() if item["digest"] == reference.digest), None)
    return store.index.find(str(reference))
