"""The outputs of a build, written one after the other. Each is complete or not there."""

from __future__ import annotations

import io
import os
import stat
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from run_step import is_machine_root

from .. import image_transfer
from ..engine.events import Event, Listener
from ..errors import BuildError
from ..image.built_image import BuiltImage
from ..image.descriptor import Descriptor
from ..image.docker_archive import write_docker_manifest
from ..image.oci_layout import write_layout, write_layout_archive
from ..image.whole_file import replaced
from ..options import Output
from ..store.image_store import Store
from ..store.verified import BlobReader
from .files import write_directory, write_rootfs_tar


def write_outputs(
    store: Store, outputs: Sequence[Output], image: BuiltImage, names: Sequence[str], emit: Listener
) -> None:
    """Write an image, which the store has under ``names``. Raise BuildError if a destination can't be written."""
    for output in outputs:
        emit(Event("info", data={"text": f"exporting {output.type} {output.dest}".rstrip()}))
        try:
            _write(store, output, image, names, emit)
        except OSError as error:
            raise BuildError(
                f"the output {output.dest} can't be written: {error.strerror or error}"
            ) from None


def _write(store: Store, output: Output, image: BuiltImage, known: Sequence[str], emit: Listener) -> None:
    def open_blob(item: Descriptor) -> IO[bytes]:
        return io.BufferedReader(BlobReader(store, item.digest, item.size), 1 << 18)

    names = [output.name] if output.name else known
    manifest, config = image.manifest_descriptor, image.config_descriptor
    if output.type in ("oci", "docker") and not output.tar:
        write_layout(output.dest, manifest, config, image.layers, names, open_blob)
    elif output.type in ("oci", "docker"):
        with (
            destination(output.dest) as out,
            tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            write_layout_archive(tar, manifest, config, image.layers, names, open_blob)
            if output.type == "docker":
                write_docker_manifest(tar, config, image.layers, names)
    elif output.type == "local":
        # An ordinary user could not even remove what belongs to the IDs of a user namespace.
        owner = None if is_machine_root() else (0, 0)
        with store.session() as session:
            scratch = session.directory("export")
            write_directory(output.dest, scratch, image.layers, open_blob, owner=owner)
    elif output.type == "tar":
        with store.session() as session, destination(output.dest) as out:
            write_rootfs_tar(out, session.directory("export"), image.layers, open_blob)
    if output.push:
        _push(store, output, manifest, known, emit)


def _push(store: Store, output: Output, manifest: Descriptor, known: Sequence[str], emit: Listener) -> None:
    def report(text: str) -> None:
        emit(Event("info", data={"text": text}))

    if output.name:
        image_transfer.push(store, known[0] if known else manifest.digest, output.name, report=report)
        return
    if not known:
        raise BuildError("pushing needs a name", hint="give one with -t")
    for name in known:
        image_transfer.push(store, name, report=report)


@contextmanager
def destination(path: str) -> Iterator[IO[bytes]]:
    """Open a file to write, or stdout for ``-``.

    A file is complete or not there. If there is something else than a regular file (a FIFO, /dev/stdout, /dev/null), it
    is written to as it is. A link is followed, and stays a link.
    """
    if path == "-":
        if sys.stdout.isatty():
            raise BuildError(
                "a tar won't be written to a terminal", hint="redirect it, or name a file with dest="
            )
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        kind = stat.S_IFREG
    if stat.S_ISDIR(kind):
        raise BuildError(f"the output {path} is a directory", hint="name a file with dest=")
    if not stat.S_ISREG(kind):
        with open(path, "wb") as out:
            yield out
        return
    with replaced(os.path.realpath(path)) as out:
        yield out
