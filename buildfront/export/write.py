"""The outputs of a build, written one after the other. Each is complete or not there: made beside, renamed."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from run_step import is_machine_root

from .. import transfer
from ..engine.events import Event, Listener
from ..errors import BuildError
from ..image.built_image import BuiltImage
from ..image.model import Descriptor
from ..options import Output
from ..store.image_store import Store
from ..store.verified import BlobReader
from . import archive, files


def write_outputs(
    store: Store, outputs: Sequence[Output], image: BuiltImage, names: Sequence[str], emit: Listener
) -> None:
    """Write the outputs of a build, one after the other. ``names`` are those of the image.

    Raises BuildError for a destination that can't be written.
    """
    for output in outputs:
        emit(Event("info", data={"text": f"exporting {output.type} {output.dest}".rstrip()}))
        try:
            _write(store, output, image, names, emit)
        except OSError as error:
            raise BuildError(
                f"the output {output.dest} can't be written: {error.strerror or error}"
            ) from None


def _write(
    store: Store, output: Output, image: BuiltImage, image_names: Sequence[str], emit: Listener
) -> None:
    def open_blob(item: Descriptor) -> IO[bytes]:
        return io.BufferedReader(BlobReader(store, item.digest, item.size), 1 << 18)

    names = [output.name] if output.name else list(image_names)
    manifest, config = image.manifest_descriptor, image.config_descriptor
    if output.type in ("oci", "docker") and not output.tar:
        archive.write_layout(output.dest, manifest, config, image.layers, names, open_blob)
    elif output.type in ("oci", "docker"):
        docker = output.type == "docker"
        with destination(output.dest) as out:
            archive.write_archive(out, manifest, config, image.layers, names, open_blob, docker=docker)
    elif output.type == "local":
        # An ordinary user could not even remove what belongs to the IDs of a user namespace.
        owner = None if is_machine_root() else (0, 0)
        with store.session() as session:
            scratch = session.directory("export")
            files.write_directory(output.dest, scratch, image.layers, open_blob, owner=owner)
    elif output.type == "tar":
        with store.session() as session, destination(output.dest) as out:
            files.write_rootfs_tar(out, session.directory("export"), image.layers, open_blob)
    if output.push:
        if not names:
            raise BuildError("pushing needs a name", hint="give one with -t")
        for name in names:
            target = name if output.name else ""
            known = image_names[0] if image_names else manifest.digest
            transfer.push(
                store,
                name if not target else known,
                target,
                report=lambda t: emit(Event("info", data={"text": t})),
            )


@contextmanager
def destination(path: str) -> Iterator[IO[bytes]]:
    """Open a file to write, or standard output for ``-``.

    The file is either complete or not there: it is written beside its place and renamed. A FIFO or a device that is
    there already (/dev/stdout, /dev/null) is written to as it is. A link stays, and its target is replaced.
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
    path = os.path.realpath(path)
    temporary = f"{path}.{os.getpid()}.new"
    try:
        with open(temporary, "xb") as out:
            yield out
        os.rename(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        raise
