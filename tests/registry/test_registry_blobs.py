"""Pulling and pushing by the blob protocol: a plain directory of blobs is as good as a store."""

from __future__ import annotations

from pathlib import Path

import pytest
from blob_directory import BlobDirectory
from faulty_documents import IMAGE, manifest
from strangers import Reply, digest, serving

from buildfront.errors import BuildError
from buildfront.image import reference as references
from buildfront.registry.pull import pull
from buildfront.registry.push import push


def test_an_image_is_pulled_into_a_directory_and_pushed_from_it(serve, tmp_path: Path) -> None:
    registry = serve(serving(IMAGE.answers()))
    blobs = BlobDirectory(tmp_path / "blobs")
    lines: list[str] = []
    reference = references.parse(f"{registry.name}/app")
    descriptor = pull(blobs, reference, "latest", "linux/amd64", lines.append)
    assert descriptor.digest == digest(manifest())
    assert blobs.names() == sorted(
        text.removeprefix("sha256:") for text in map(digest, (manifest(), IMAGE.config, *IMAGE.layers))
    )
    assert len(lines) == 1 + len(IMAGE.layers)
    again: list[str] = []
    assert pull(blobs, reference, "latest", "linux/amd64", again.append) == descriptor
    assert again == [], "what is whole is not fetched again"
    push(blobs, "app", descriptor.digest, reference, report=again.append)
    assert len(again) == 1 + len(IMAGE.layers)


def test_a_pull_that_fails_leaves_nothing(serve, tmp_path: Path) -> None:
    answers = IMAGE.answers()
    answers["blobs/" + digest(IMAGE.layers[0])] = Reply(body=b"other")
    registry = serve(serving(answers))
    blobs = BlobDirectory(tmp_path / "blobs")
    with pytest.raises(BuildError):
        pull(blobs, references.parse(f"{registry.name}/app"), "latest", "linux/amd64")
    assert [name for name in blobs.names() if not name.startswith("new-")] == []


def test_a_push_tells_of_a_damaged_blob_before_it_sends_anything(serve, tmp_path: Path) -> None:
    registry = serve(serving(IMAGE.answers()))
    blobs = BlobDirectory(tmp_path / "blobs")
    reference = references.parse(f"{registry.name}/app")
    descriptor = pull(blobs, reference, "latest", "linux/amd64")
    asked = len(registry.asked)
    (blobs.directory / digest(IMAGE.layers[0]).removeprefix("sha256:")).write_bytes(b"other")
    with pytest.raises(BuildError, match=r"app can't be pushed: the blob .* is missing or damaged") as caught:
        push(blobs, "app", descriptor.digest, reference, mend="do it again")
    assert caught.value.hint == "do it again" and len(registry.asked) == asked
