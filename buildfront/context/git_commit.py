"""What a ref of a repository stands for. Light: a cached build loads this and no more."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import BuildError
from ..graph.git_reference import is_commit, shown
from ..graph.step_graph import GitTree


class Resolved(NamedTuple):
    """What a ref stands for now.

    ``name`` is the full name of the branch or tag, or the commit itself. ``object`` is the commit, or the object of an
    annotated tag whose commit is ``peeled``, which is empty for other refs.
    """

    name: str
    object: str
    peeled: str = ""

    @property
    def commit(self) -> str:
        """The commit, as far as it is known without the repository."""
        return self.peeled or self.object


def fixed(tree: GitTree) -> Resolved | None:
    """Return what a tree's text determines: a whole commit hash; None if the server has to be asked.

    With ``fetch_by_commit`` the checksum is the commit, and the ref is only a name for it.
    """
    if is_commit(tree.ref):
        return compared(tree, Resolved(tree.ref, tree.ref))
    if not tree.fetch_by_commit:
        return None
    if not is_commit(tree.checksum):
        raise BuildError(f"fetch-by-commit of {shown(tree.remote)} needs the whole commit hash as checksum")
    name = tree.ref if tree.ref.startswith("refs/") or not tree.ref else f"refs/heads/{tree.ref}"
    return Resolved(name or tree.checksum, tree.checksum)


def compared(tree: GitTree, found: Resolved) -> Resolved:
    """Return what was found. Raise BuildError if it does not begin with the checksum of the tree."""
    checksum = tree.checksum
    if found.object.startswith(checksum) or found.peeled.startswith(checksum):
        return found
    what = " or ".join(item for item in (found.object, found.peeled) if item)
    raise BuildError(
        f"{found.name} of {shown(tree.remote)} is {what}, and {checksum} is wanted",
        hint="if it was moved on purpose, correct the checksum",
    )
