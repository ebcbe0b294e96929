"""The files of a commit, checked out into a directory of the session."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress

from ..errors import BuildError
from ..graph.git_reference import shown
from .git_commit import Resolved
from .git_program import Git, GitFailed
from .git_repository import kept_ref


def check_out(
    git: Git,
    bare: str,
    wanted: Resolved,
    remote: str,
    directory: str,
    *,
    subdir: str = "",
    keep_git_dir: bool = False,
    submodules: bool = True,
    commit_times: bool = False,
) -> str:
    """Check a commit of a bare repository out, and return the path of its tree, or of ``subdir`` in it.

    ``directory`` is empty, and what is made lies in it. With ``keep_git_dir`` the whole tree has a repository of its
    own in ``.git``, without the history. Raise BuildError if it can't be done.
    """
    tree = os.path.join(directory, "tree")
    os.mkdir(tree)
    os.chmod(tree, 0o755)
    keep = keep_git_dir and not subdir
    inner = os.path.join(tree, ".git") if keep else os.path.join(directory, "git")
    form = ["--object-format=sha256"] if len(wanted.object) == 64 else []
    try:
        git.run("init", "--quiet", "--template=", *form, git_dir=inner, work_tree=tree)
        if keep:
            name = wanted.name if wanted.name.startswith(("refs/heads/", "refs/tags/")) else ""
            refs = f"{kept_ref(wanted)}:{name}" if name else kept_ref(wanted)
            options = ("--quiet", "--update-head-ok", "--depth=1", "--no-tags", "--no-write-fetch-head")
            git.run(
                "fetch", *options, "--", f"file://{bare}", refs, git_dir=inner, work_tree=tree, local=True
            )
        else:
            os.makedirs(os.path.join(inner, "objects", "info"), exist_ok=True)
            with open(os.path.join(inner, "objects", "info", "alternates"), "w", encoding="utf-8") as stream:
                stream.write(os.path.join(bare, "objects") + "\n")
            with suppress(FileNotFoundError):  # git would look for the history that was not fetched
                shutil.copyfile(os.path.join(bare, "shallow"), os.path.join(inner, "shallow"))
        git.run("checkout", "--quiet", "--force", "--detach", wanted.object, git_dir=inner, work_tree=tree)
        if submodules and os.path.lexists(os.path.join(tree, ".gitmodules")):
            _submodules(git, inner, tree, remote)
        if keep:
            git.run("config", "remote.origin.url", shown(remote), git_dir=inner)
            git.run("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*", git_dir=inner)
        else:
            _remove_links(tree)
        if commit_times:
            _set_times(tree, int(git.run("log", "-1", "--format=%ct", wanted.object, git_dir=inner)))
    except GitFailed as error:
        raise BuildError(f"{wanted.name} of {shown(remote)} can't be checked out: {error.reason}") from None
    return _inside(tree, subdir, remote)


def _submodules(git: Git, inner: str, tree: str, remote: str) -> None:
    git.run("config", "remote.origin.url", remote, git_dir=inner)  # URLs of submodules may be relative to it
    words = ["submodule", "--quiet", "update", "--init", "--recursive"]
    try:
        git.run(*words, "--depth=1", git_dir=inner, work_tree=tree)
    except GitFailed as error:
        if "shallow" not in error.text and "--depth" not in error.text:
            raise
        git.run(*words, git_dir=inner, work_tree=tree)


def _remove_links(tree: str) -> None:
    """Remove the files ``.git`` of submodules: they lead to a repository that is not copied.

    No commit has such a name.
    """
    for top, _, files in os.walk(tree):
        if ".git" in files:
            os.unlink(os.path.join(top, ".git"))


def _set_times(tree: str, moment: int) -> None:
    for top, directories, files in os.walk(tree, topdown=False):
        for name in (*files, *directories):
            os.utime(os.path.join(top, name), (moment, moment), follow_symlinks=False)
    os.utime(tree, (moment, moment))


def _inside(tree: str, subdir: str, remote: str) -> str:
    """Return the path of a directory in the tree. No link on the way is followed."""
    path = tree
    for part in subdir.split("/") if subdir else ():
        path = os.path.join(path, part)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            raise BuildError(f"the repository {shown(remote)} has no directory {subdir!r}") from None
        if part in ("", ".", "..", ".git") or not stat.S_ISDIR(mode):
            raise BuildError(
                f"{subdir!r} of {shown(remote)} is not a directory of the repository",
                hint="links are not followed" if stat.S_ISLNK(mode) else "",
            )
    return path
