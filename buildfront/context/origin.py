"""Where a build context comes from: a directory, an archive, standard input, a URL or a git repository."""

from __future__ import annotations

import io
import os
from typing import IO, NamedTuple

from ..errors import BuildError
from ..graph import git_reference
from ..graph.git_reference import GitReference, is_http, shown
from ..graph.step_graph import GitTree
from ..image.compression import Rejoined
from .archive import is_archive, unpack
from .remote import Remote
from .standard_input import standard_input
from .workplace import Workplace

_HEAD = 1024
_NAME = "context"
"""The name of the only file of a context that is the file of a URL, as in BuildKit."""

PLACES = "a directory, a tar archive, a URL of one, a git repository, or -"


class Place(NamedTuple):
    """The directory of a context.

    ``dockerfile``: it is a Dockerfile by itself, which ``name`` names in errors. ``local``: it is the directory that
    the user named, and not one that was made of something else. ``fetched``: it comes from the network.
    """

    directory: str
    dockerfile: IO[bytes] | None = None
    name: str = ""
    local: bool = False
    fetched: bool = False


class Places:
    """Finds the contexts of one build.

    With ``keep_git_dir`` the repository of a git context is kept, and with ``commit_times`` its files have the time of
    the commit.
    """

    def __init__(
        self, workplace: Workplace, remote: Remote, *, keep_git_dir: bool = False, commit_times: bool = False
    ) -> None:
        self._workplace = workplace
        self._remote = remote
        self._keep_git_dir = keep_git_dir
        self._commit_times = commit_times

    def main(self, path: str) -> Place:
        """Return the build context. Raise BuildError if there is none, or if it can't be read or fetched."""
        if path == "-":
            return self._of_stream(standard_input(), "the context on standard input", "-")
        if os.path.isdir(path):
            return Place(path.rstrip("/") or "/", local=True)
        if os.path.isfile(path):
            return Place(self._archive(path, f"the context {path}"))
        if (git := git_reference.parse(path, context=True)) is not None:
            return Place(
                self._tree(git, keep_git_dir=self._keep_git_dir, commit_times=self._commit_times),
                fetched=True,
            )
        if is_http(path):
            return self._of_url(path)
        raise BuildError(f"the build context {shown(path)!r} does not exist", hint=f"name {PLACES}")

    def named(self, value: str) -> Place:
        """Return a named context that is no image. Raise BuildError if it can't be read or fetched."""
        if os.path.isdir(value):
            return Place(value, local=True)
        if os.path.isfile(value):
            return Place(self._archive(value, f"the build context {value}"))
        if (git := git_reference.parse(value, context=True)) is not None:
            return Place(self._tree(git), fetched=True)
        return Place(self._remote.fetch(value, _NAME).directory, fetched=True)

    def _archive(self, path: str, what: str) -> str:
        try:
            with open(path, "rb") as stream:
                if not is_archive(stream.read(_HEAD)):
                    raise BuildError(
                        f"{what} is a file, but not a tar archive",
                        hint="a Dockerfile is named with -f, and the context is a directory",
                    )
                stream.seek(0)
                directory = self._workplace.directory("context")
                unpack(stream, directory, what)
        except OSError as error:
            raise BuildError(f"{what} can't be read: {error.strerror}") from None
        return directory

    def _of_stream(self, stream: IO[bytes], what: str, name: str) -> Place:
        """Return the context of an archive; of anything else an empty one whose Dockerfile this is."""
        directory = self._workplace.directory("context")
        try:
            head = stream.read(_HEAD)
            whole = io.BufferedReader(Rejoined(head, stream))
            if not is_archive(head):
                return Place(directory, whole, name)
            unpack(whole, directory, what)
        except OSError as error:
            raise BuildError(f"{what} can't be read: {error.strerror}") from None
        return Place(directory)

    def _of_url(self, url: str) -> Place:
        found = self._remote.fetch(url, _NAME)
        stream = open(os.path.join(found.directory, _NAME), "rb")
        if not is_archive(stream.read(_HEAD)):
            stream.seek(0)
            return Place(found.directory, stream, shown(url), fetched=True)
        with stream:
            stream.seek(0)
            directory = self._workplace.directory("context")
            unpack(stream, directory, f"the context {shown(url)}")
        return Place(directory, fetched=True)

    def _tree(self, git: GitReference, *, keep_git_dir: bool = False, commit_times: bool = False) -> str:
        tree = GitTree(
            git.remote,
            git.ref,
            git.subdir,
            git.checksum,
            bool(git.keep_git_dir) or keep_git_dir,
            git.submodules is not False,
            git.fetch_by_commit,
        )
        trees = self._remote.trees
        return trees.check_out(tree, trees.resolve(tree), commit_times=git.commit_times or commit_times)
