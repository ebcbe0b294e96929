"""Push an image to a registry."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import BuildError
from ..image.blob_protocol import BlobSource
from ..image.descriptor import Descriptor
from ..image.manifest import Manifest
from ..image.reference import Reference
from ..image.together import each

Report = Callable[[str], None]
"""Is told in one line what is being transferred."""


def push(
    source: BlobSource,
    name: str,
    digest: str,
    reference: Reference,
    *,
    report: Report | None = None,
    mend: str = "",
) -> None:
    """Send the image with the manifest ``digest`` to a repository, under the tag of ``reference`` or by its digest.

    ``name`` is the image's name in errors, ``mend`` their hint for a blob that is missing or damaged. Raise BuildError;
    such a blob is found before anything is sent.
    """
    from .client import Repository  # loads httpcore

    say = report or (lambda _: None)
    data = source.read_blob(digest)
    manifest = Manifest.parse(data, f"the manifest of {name}")
    for item in manifest.blobs:
        if not source.is_whole(item.digest, item.size):
            raise BuildError(
                f"{name} can't be pushed: the blob {item.digest} is missing or damaged", hint=mend
            )
    with Repository(reference, push=True) as repository:

        def send(item: Descriptor) -> None:
            if repository.has_blob(item.digest):
                say(f"{item.digest.short} is there already")
                return
            say(f"pushing {item.digest.short} ({item.size} bytes)")
            repository.upload(item.digest, item.size, lambda: source.open_blob(item.digest))

        each(manifest.blobs, send, repository.abort)
        repository.put_manifest(reference.tag or digest, data, manifest.media_type)
