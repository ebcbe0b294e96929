"""What COPY and ADD read, and where they put it, variables replaced. Pure."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace

from ..dockerfile import instructions as ast
from ..errors import BuildError
from . import git_reference
from .document_files import file_of
from .scope import Scope
from .step_graph import CopyOp, CopySource, GitTree, HttpFile, Origin

_CHECKSUM = re.compile("sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_CLIMBS = re.compile(r"(?:^|/)\.\.(?:/|$)")


def copy_op(item: ast.Copy, scope: Scope, origin: Origin) -> tuple[CopyOp, str]:
    """Return the operation of a COPY or ADD, and its line of the history. Raises BuildError."""
    name = "ADD" if item.add else "COPY"
    item = replace(
        item,
        sources=tuple(scope.expand(text) for text in item.sources),
        dest=scope.expand(item.dest),
        chown=scope.expand(item.chown),
        chmod=scope.expand(item.chmod),
        checksum=scope.expand(item.checksum),
    )
    _check_checksum(item)
    documents = [file_of(document, scope.variables) for document in item.documents]
    op = CopyOp(
        sources=(*(_source(text, item) for text in item.sources), *documents),
        dest=destination(scope.cwd, item.dest),
        origin=origin,
        chown=item.chown,
        chmod=item.chmod,
        unpack=item.add if item.unpack is None else item.unpack,
        parents=item.parents,
        excludes=item.excludes,
        link=item.link,
    )
    scope.budget.spend(len(op.dest) + sum(len(file.content) for file in documents))
    shown = [
        name,
        *(["--parents"] if item.parents else []),
        *([f"--chown={item.chown}"] if item.chown else []),
        *([f"--chmod={item.chmod}"] if item.chmod else []),
        *item.sources,
        *(f"<<{document.name}" for document in item.documents),
        item.dest,
    ]
    return op, " ".join(shown)


def _source(text: str, item: ast.Copy) -> CopySource:
    git = git_reference.parse(text)
    if git is not None:
        return _git(text, git, item)
    if text.startswith(("http://", "https://")):
        if not item.add:
            raise BuildError(f"COPY {git_reference.shown(text)}: COPY reads no URL", hint="ADD does")
        if item.checksum and not _CHECKSUM.fullmatch(item.checksum):
            raise BuildError(
                f"ADD --checksum={item.checksum}: the form is sha256:DIGEST with 64 digits",
                hint="print it with sha256sum FILE",
            )
        return HttpFile(text, item.checksum, bool(item.unpack))
    if "\0" in text:
        raise BuildError(f"the source {text!r} has a null byte")
    if not text:  # as a WORKDIR does, an empty path names the directory that it counts from
        return "."
    if item.parents or not _CLIMBS.search(text):
        return text
    return posixpath.normpath("/" + text).lstrip("/") or "."  # ".." ends at the root of the context


def _git(text: str, git: git_reference.GitReference, item: ast.Copy) -> GitTree:
    if not item.add:
        raise BuildError(f"COPY {git_reference.shown(text)}: COPY reads no git repository", hint="ADD does")
    if None not in (item.keep_git_dir, git.keep_git_dir) and item.keep_git_dir != git.keep_git_dir:
        raise BuildError(f"ADD {git_reference.shown(text)}: --keep-git-dir says otherwise than the URL")
    if item.checksum and git.checksum and item.checksum != git.checksum:
        raise BuildError(
            f"ADD {git_reference.shown(text)}: --checksum={item.checksum} says otherwise than the URL"
        )
    keep = item.keep_git_dir if git.keep_git_dir is None else git.keep_git_dir
    return GitTree(
        git.remote,
        git.ref,
        git.subdir,
        checksum=git.checksum or item.checksum,
        keep_git_dir=bool(keep),
        submodules=git.submodules is not False,
        fetch_by_commit=git.fetch_by_commit,
    )


def _check_checksum(item: ast.Copy) -> None:
    if not item.checksum:
        return
    if not item.add:
        raise BuildError("COPY takes no --checksum", hint="ADD does, for a URL")
    remote = [text for text in item.sources if git_reference.parse(text) or git_reference.is_http(text)]
    if len(item.sources) != 1 or not remote:
        raise BuildError(
            "ADD --checksum needs exactly one source, an http or https URL or a git repository",
            hint="write an ADD for each source",
        )


def destination(cwd: str, dest: str) -> str:
    """Return the absolute destination of a COPY; it ends with ``/`` where ``dest`` can only be a directory."""
    absolute = posixpath.normpath(posixpath.join("/", cwd, dest)).replace("//", "/")
    is_directory = dest.endswith(("/", "/.")) or dest in ("", ".")
    return absolute + "/" if is_directory and absolute != "/" else absolute
