"""Pull an image from a registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..image.blob_protocol import BlobSink
from ..image.descriptor import Descriptor
from ..image.manifest import find_manifest
from ..image.reference import Reference
from ..image.staging import Staging
from .answers import sensible

Report = Callable[[str], None]
"""Is told in one line what is being transferred."""


def pull(
    sink: BlobSink, reference: Reference, target: str, platform: str, report: Report | None = None
) -> Descriptor:
    """Fetch an image of a repository by a tag or digest, and return the descriptor of its manifest.

    Blobs that the sink has, and that are whole, are not fetched. Raise BuildError if it fails; the sink is then as it
    was.
    """
    from .client import Repository  # loads httpcore

    say = report or (lambda _: None)
    what = f"the manifest of {reference.familiar}"
    with sensible(reference.domain), Repository(reference) as repository:
        staging = Staging(sink)

        def fetch(item: Descriptor) -> Iterator[bytes]:
            say(f"pulling {item.digest.short} ({item.size} bytes)")
            yield from repository.blob(item.digest, item.size)

        data, media_type = repository.manifest(target)
        data, manifest = find_manifest(
            data, media_type, platform, what, lambda item: repository.manifest(item.digest)[0]
        )
        staging.image(manifest, what, fetch, repository.abort)
        descriptor = staging.add([data], manifest.media_type)
        staging.commit()
    return descriptor
