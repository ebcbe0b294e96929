"""Repositories of git: what a ref stands for, and its commit brought into a bare repository that the store keeps."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress

from run_step import remove_tree

from ..errors import BuildError
from ..graph.git_reference import check_ref, is_commit, shown
from ..graph.step_graph import GitTree
from ..store.downloads import Place
from .git_commit import Resolved, compared, fixed
from .git_program import Git, GitFailed


def resolve(git: Git, tree: GitTree) -> Resolved:
    """Return what the ref of a tree stands for; an empty one is the default branch.

    A branch goes before a tag of the same name. The server is asked, unless :func:`fixed` knows. Raise BuildError for a
    ref that is not there, and for one that does not begin with the checksum.
    """
    check_ref(tree.ref)
    found = fixed(tree)
    return compared(tree, _ask(git, tree.remote, tree.ref)) if found is None else found


def _ask(git: Git, remote: str, ref: str) -> Resolved:
    wanted = (ref, f"{ref}^{{}}") if ref else ("HEAD",)
    try:
        text = git.run("ls-remote", "--symref", "--", remote, *wanted)
    except GitFailed as error:
        raise unreachable(remote, error) from None
    found: dict[str, str] = {}
    head = ""
    for line in text.splitlines():
        value, _, name = line.partition("\t")
        if value.startswith("ref: ") and name == "HEAD":
            head = value.removeprefix("ref: ")
        elif is_commit(value):
            found[name] = value
    if not ref:
        if "HEAD" not in found:
            raise BuildError(f"{shown(remote)} has no default branch", hint="name a branch after a #")
        return Resolved(head or found["HEAD"], found["HEAD"])
    for name in dict.fromkeys(
        (
            "refs/" + ref.removeprefix("refs/"),
            "refs/heads/" + ref.removeprefix("refs/heads/"),
            "refs/tags/" + ref.removeprefix("refs/tags/"),
        )
    ):
        if name in found:
            return Resolved(name, found[name], found.get(f"{name}^{{}}", ""))
    digits = len(ref) < 40 and all(char in "0123456789abcdef" for char in ref)
    raise BuildError(
        f"{shown(remote)} has no branch and no tag {ref!r}",
        hint="a commit is named by its whole hash" if digits else "",
    )


def unreachable(remote: str, error: GitFailed) -> BuildError:
    """Return the error for a repository that can't be read."""
    hint = ""
    if any(word in error.text for word in ("could not read Username", "Authentication failed", "403", "401")):
        hint = "the secret GIT_AUTH_TOKEN is sent as a token, GIT_AUTH_HEADER as the header"
    elif "Permission denied (" in error.text or "Host key verification failed" in error.text:
        hint = "--ssh default lends the keys of your agent"
    return BuildError(f"the repository {shown(remote)} can't be read: {error.reason}", hint=hint)


class Repository:
    """The bare repository that the store keeps of one remote."""

    def __init__(self, root: str, git: Git, remote: str, check: Callable[[], None]) -> None:
        self._git = git
        self._remote = remote
        self._check = check
        self.place = Place(root, "git", remote)

    def fetch(self, wanted: Resolved, *, by_commit: bool = False) -> str:
        """Return the path of the bare repository, which has the commit of ``wanted`` with all its files.

        With ``by_commit`` the name of ``wanted`` is not asked for. The commit lies at :func:`kept_ref`. Raise
        BuildError if it can't be had.
        """
        wide = len(wanted.object) == 64
        path = self.place.data("wide" if wide else "bare")
        with self.place.changing(self._check):
            if not self._is_repository(path):
                if os.path.lexists(path):
                    remove_tree(path)  # it is damaged
                self._make(wide)
            self._remove_locks(path)
            try:
                self._bring(path, wanted, by_commit=by_commit)
                self._git.run("update-ref", kept_ref(wanted), wanted.object, git_dir=path)
            except GitFailed as error:
                raise unreachable(self._remote, error) from None
        return path

    def _is_repository(self, path: str) -> bool:
        if not os.path.isdir(path):
            return False
        try:
            return self._git.run("rev-parse", "--is-bare-repository", git_dir=path).strip() == "true"
        except GitFailed:
            return False

    def _make(self, wide: bool) -> None:
        begun = self.place.begin()
        form = ["--object-format=sha256"] if wide else []
        try:
            self._git.run("init", "--quiet", "--bare", "--template=", *form, begun)
        except GitFailed as error:
            raise BuildError(f"a repository can't be made in the store: {error.reason}") from None
        self.place.keep(begun, "wide" if wide else "bare")

    @staticmethod
    def _remove_locks(path: str) -> None:
        """Remove the locks of a git that was killed: no other one works here now."""
        for name in ("shallow.lock", "config.lock", "packed-refs.lock", "HEAD.lock"):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(path, name))

    def _bring(self, path: str, wanted: Resolved, *, by_commit: bool) -> None:
        if self._has(path, wanted.object):
            return
        if wanted.name.startswith("refs/") and not by_commit:
            self._fetch(path, "--depth=1", "--no-tags", f"+{wanted.name}:refs/new")
            if self._has(path, wanted.object):
                return
        # The ref was moved since, or it is a commit: not every server gives commits by their hash.
        try:
            self._fetch(path, "--depth=1", "--no-tags", wanted.object)
        except GitFailed as error:
            refused = ("not our ref", "unadvertised object", "couldn't find remote ref", "no such remote ref")
            if not any(words in error.text for words in refused):
                raise
            deepen = ("--unshallow",) if os.path.exists(os.path.join(path, "shallow")) else ()
            self._fetch(
                path, *deepen, "--tags", "+refs/heads/*:refs/all/heads/*", "+refs/tags/*:refs/all/tags/*"
            )
        if not self._has(path, wanted.object):
            raise BuildError(f"{shown(self._remote)} has no commit {wanted.object}")

    def _has(self, path: str, name: str) -> bool:
        try:
            self._git.run("cat-file", "-e", f"{name}^{{commit}}", git_dir=path)
        except GitFailed:
            return False
        return True

    def _fetch(self, path: str, *words: str) -> None:
        options = [word for word in words if word.startswith("-")]
        refs = [word for word in words if not word.startswith("-")]
        tail = ["--", self._remote, *refs]
        try:
            self._git.run("fetch", "--quiet", "--no-write-fetch-head", *options, *tail, git_dir=path)
        except GitFailed as error:
            if "--depth=1" not in options or not ("shallow" in error.text or "--depth" in error.text):
                raise
            options.remove("--depth=1")  # a server of plain files has no shallow history
            self._git.run("fetch", "--quiet", "--no-write-fetch-head", *options, *tail, git_dir=path)


def kept_ref(wanted: Resolved) -> str:
    """Return the ref of the bare repository at which a commit or tag lies."""
    return f"refs/kept/{hashlib.sha256(wanted.object.encode()).hexdigest()[:16]}"
