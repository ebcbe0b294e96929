"""Named build contexts: the values of ``--build-context``."""

from __future__ import annotations

import os

from ..errors import BuildError
from ..graph import NamedContext, git_reference
from ..graph.git_reference import is_http, shown


def named_context(name: str, value: str) -> NamedContext:
    """Return what ``NAME=VALUE`` stands for: files, or an image. Nothing is fetched.

    Raises BuildError for anything else.
    """
    if value.startswith(("oci-layout://", "docker-image://")):
        return NamedContext("image", value)
    if os.path.exists(value) or is_http(value):
        return NamedContext("dir", value)
    if value.startswith("target:"):
        raise BuildError(
            f"the build context {name}={value}: a target of another build can't be a context",
            hint=f"build it with --output type=oci,tar=false, and give {name}=oci-layout://PATH",
        )
    if git_reference.parse(value, context=True) is not None:
        return NamedContext("dir", value)
    raise BuildError(
        f"the build context {name}={shown(value)} does not exist",
        hint="the form is NAME=DIR, NAME=ARCHIVE, NAME=URL, NAME=oci-layout://PATH or NAME=docker-image://REF",
    )
