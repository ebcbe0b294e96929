"""Images into a store and out of it: archives and layouts loaded, registries pulled from and pushed to.

The work is done by :mod:`.image` and :mod:`.registry`, which know blobs by a protocol; here they are given the store.
Everything that comes in is checked before anything of it is kept: a failure leaves the store as it was.
"""

from __future__ import annotations

import os

from .errors import BuildError
from .image import platform as platforms
from .image import reference as references
from .image.descriptor import Descriptor
from .image.docker_archive import is_docker_archive, load_docker_archive
from .image.layout_files import LayoutFiles
from .image.layout_index import NamedEntry
from .image.oci_layout import is_layout, load_layout
from .image.reference import Reference
from .image.staging import Staging
from .registry import pull as registry_pull
from .registry import push as registry_push
from .registry.pull import Report
from .store.image_store import Store
from .store.lookup import known
from .store.verified import MEND


def load(store: Store, path: str, *, names: tuple[str, ...] = (), platform: str = "") -> list[str]:
    """Load an OCI or docker archive, or a layout directory, and return the names (or digests) that its images have.

    ``names`` replace the archive's own. Raise BuildError if it fails; the store is then as it was.
    """
    platform = platform or platforms.host()
    full = [str(references.parse(name)) for name in names]
    with store.session() as session:
        files = LayoutFiles(path, session.path)
        staging = Staging(session)
        if is_layout(files):
            found = load_layout(files, staging, platform)
        elif is_docker_archive(files):
            found = load_docker_archive(files, staging)
        else:
            raise BuildError(f"{path} is neither an OCI image layout nor a docker archive")
        if not found:
            raise BuildError(f"{path} holds no image")
        staging.commit()
    out = []
    for descriptor, own in found:
        for name in full or own or [""]:
            store.index.set(name, NamedEntry.of(descriptor))
            out.append(name or descriptor.digest)
    return out


def load_layout_reference(store: Store, text: str, platform: str) -> Descriptor:
    """Load the image that ``oci-layout://PATH[:TAG|@DIGEST]`` means, without giving it a name."""
    path, only = text.removeprefix("oci-layout://"), ""
    if "@" in path:
        path, _, only = path.partition("@")
    elif not os.path.exists(path) and ":" in path:
        path, _, only = path.rpartition(":")
    if not os.path.exists(path):
        raise BuildError(f"the image layout {path} does not exist")
    with store.session() as session:
        staging = Staging(session)
        found = load_layout(LayoutFiles(path, session.path), staging, platform, only)
        if not found:
            raise BuildError(f"{path} has no image{f' called {only!r}' if only else ''}")
        staging.commit()
    return found[0][0]


def pull(store: Store, name: str, *, platform: str = "", report: Report | None = None) -> Descriptor:
    """Pull an image for one platform and give it its name. Raise BuildError if it fails; nothing is kept then.

    Blobs that the store has, and that are whole, are not fetched.
    """
    reference = references.parse(name)
    with store.session() as session:
        descriptor = registry_pull.pull(
            session, reference, reference.target, platform or platforms.host(), report
        )
    store.index.set(str(reference), NamedEntry.of(descriptor))
    return descriptor


def repair(store: Store, reference: Reference, digest: str, *, report: Report | None = None) -> None:
    """Fetch what is missing or damaged of the image with this manifest, from the repository of its name.

    Raise BuildError if the repository does not have it.
    """
    with store.session() as session:
        registry_pull.pull(session, reference, digest, "", report)


def push(store: Store, name: str, target: str = "", *, report: Report | None = None) -> str:
    """Push an image of the store under its own name or ``target``, and return its manifest's digest.

    Raise BuildError if it fails; a blob that is missing or damaged is found before anything is sent.
    """
    entry = known(store, name)
    reference = references.parse(target or name)
    registry_push.push(store, name, entry.digest, reference, report=report, mend=MEND)
    return entry.digest
