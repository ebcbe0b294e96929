"""The working directory (row S13)."""

from __future__ import annotations

import posixpath

from ..host import HostFacts
from ..planning import MakeDirectory
from ..request import RunRequest
from .draft import Draft


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Set the working directory: the step's, else the image's, else ``/``; always absolute and clean."""
    path = request.cwd or request.image.working_dir or "/"
    draft.process["cwd"] = posixpath.normpath("/" + path.lstrip("/"))


def create(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Plan to create it if the root filesystem lacks it; runs after the user is known, who will own it."""
    path = draft.process["cwd"]
    if path != "/" and draft.root.stat(path) is None:
        who = draft.process["user"]
        draft.actions.append(MakeDirectory(path, 0o755, who["uid"], who["gid"]))
