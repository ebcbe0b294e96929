"""Named build contexts: the values of ``--build-context``."""

from __future__ import annotations

import os

from ..dockerfile.ignore import Ignore
from ..errors import BuildError
from ..graph import NamedContext
from .directory import DirectoryContext


def named_context(name: str, value: str) -> NamedContext:
    """Return what ``NAME=VALUE`` stands for: a directory, or an image. Raises BuildError for anything else."""
    if value.startswith(("oci-layout://", "docker-image://")):
        return NamedContext("image", value)
    if value.startswith(("http://", "https://", "git://", "git@")):
        raise BuildError(f"the build context {name}={value}: URLs are not supported yet")
    if not os.path.isdir(value):
        raise BuildError(
            f"the build context {name}={value} is not a directory",
            hint="the form is NAME=DIR, NAME=oci-layout://PATH or NAME=docker-image://REF",
        )
    return NamedContext("dir", value)


def whole_directory(path: str) -> DirectoryContext:
    """Return the context of a directory of which nothing is left out."""
    return DirectoryContext(os.path.abspath(path), Ignore(()))
