"""The outputs of a build, written one after the other. Each is complete or not there: made beside, renamed."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from run_step import is_machine_root

from ..engine.model import Event, Listener
from ..errors import BuildError
from ..image.model import Descriptor
from ..store.image_store import Store
from ..store.verified import BlobReader

if TYPE_CHECKING:
    from ..build import BuildOutcome, Image
    from ..options import BuildOptions, Output


def write_outputs(
    store: Store, options: BuildOptions, image: Image, outcome: BuildOutcome, emit: Listener
) -> None:
    """Raises BuildError for a destination that can't be written."""
    for output in options.outputs:
        emit(Event("info", data={"text": f"exporting {output.type} {output.dest}".rstrip()}))
        try:
            _write(store, output, image, outcome, emit)
        except OSError as error:
            raise BuildError(
                f"the output {output.dest} can't be written: {error.strerror or error}"
            ) from None


def _write(store: Store, output: Output, image: Image, outcome: BuildOutcome, emit: Listener) -> None:
    from . import archive, files

    def open_blob(item: Descriptor) -> IO[bytes]:
        return io.BufferedReader(BlobReader(store, item.digest, item.size), 1 << 18)

    names = [output.name] if output.name else list(outcome.names)
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
        from .. import transfer

        if not names:
            raise BuildError("pushing needs a name", hint="give one with -t")
        for name in names:
            target = name if output.name else ""
            known = outcome.names[0] if outcome.names else outcome.digest
            transfer.push(
                store,
                name if not target else known,
                target,
                report=lambda t: emit(Event("info", data={"text": t})),
            )


@contextmanager
def destination(path: str) -> Iterator[IO[bytes]]:
    """A file to write, or stdout for ``-``.

    It is complete or not there: written beside its place and renamed. What is there and no regular file (a FIFO,
    /dev/stdout, /dev/null) is written to as it is. Where a link leads stays where it leads.
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
