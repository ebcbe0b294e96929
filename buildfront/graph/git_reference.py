"""References to git repositories: which texts are any, and their parts (Dockerfile reference, "ADD <git ref>").

Pure. The forms are URLs, ``https://host/name.git#REF:SUBDIR`` or with a query ``?branch=…&subdir=…``, and
``user@host:path``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote

from ..errors import BuildError

_SCHEME = re.compile(r"([a-zA-Z0-9]+)://")
_SCHEMES = ("http", "https", "ssh", "git")
_SHORT = re.compile(r"([a-zA-Z0-9_-]+)@([a-zA-Z0-9.-]+):([^?#\n]*)(?:\?([^#\n]*))?(?:#(.*))?")
_BAD_ESCAPE = re.compile("%(?![0-9a-fA-F]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FLAGS = ("submodules", "keep-git-dir", "fetch-by-commit")
_TEXTS = ("ref", "tag", "branch", "subdir", "checksum", "commit", "mtime")
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


@dataclass(frozen=True)
class GitReference:
    """A repository and what is wanted of it. ``remote`` is the URL for git; None and empty: not given."""

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None
    mtime: str = ""
    fetch_by_commit: bool = False


def parse(text: str, *, context: bool = False) -> GitReference | None:
    """Return the parts of a git reference; None where the text is a path or another URL.

    ``context`` also takes ``github.com/NAME/NAME`` for one, which ADD takes for a path. Raises BuildError for a
    query that no reference can have.
    """
    if text.startswith(("./", "../")):
        return None
    if context and text.startswith("github.com/"):
        return _url("https://" + text, text, any_path=True)
    if _SCHEME.match(text):
        return _url(text, text)
    match = _SHORT.fullmatch(text)
    if match is None:
        return None
    user, host, path, query, fragment = (part or "" for part in match.groups())
    if _BAD_ESCAPE.search(query):
        return None
    _refuse_option(text, user, host)
    return _reference(f"{user}@{host}:{path}", query, fragment, text)


def is_http(text: str) -> bool:
    """Whether ADD fetches ``text`` as a file: an http or https URL that is no git reference."""
    return text.startswith(("http://", "https://")) and parse(text) is None


def _url(text: str, shown: str, *, any_path: bool = False) -> GitReference | None:
    rest, _, fragment = text.partition("#")
    rest, _, query = rest.partition("?")
    scheme, _, rest = rest.partition("://")
    host, slash, path = rest.partition("/")
    scheme = scheme.lower()
    wrong = _CONTROL.search(text) or _BAD_ESCAPE.search(path + fragment)
    if scheme not in _SCHEMES or wrong or " " in host:
        return None
    if scheme in ("http", "https") and not any_path and not unquote(path).endswith(".git"):
        return None
    user, _, place = host.rpartition("@")
    _refuse_option(shown, user, place)
    remote = f"{scheme}://{host}{slash}" + quote(path, safe="!$&'()*+,;=:@[]%/~")
    return _reference(remote, query, unquote(fragment), shown)


def _refuse_option(text: str, user: str, host: str) -> None:
    """Raise BuildError for what git or ssh would take for an option."""
    if user.startswith("-") or host.startswith("-"):
        raise BuildError(f"{text}: a user or host can't begin with a hyphen")


def _reference(remote: str, query: str, fragment: str, shown: str) -> GitReference:
    ref, _, subdir = fragment.partition(":")
    subdir = posixpath.normpath("/" + subdir).lstrip("/")
    fields = _fields(query, shown)
    for name, value, already in (
        ("ref", fields.get("ref", ""), ref),
        ("subdir", fields.get("subdir", ""), subdir),
    ):
        _same(name, already, value, shown)
    ref, subdir = fields.get("ref", ref), fields.get("subdir", subdir)
    if "tag" in fields and "branch" in fields:
        raise BuildError(f"{shown}: a branch and a tag are both given", hint="give one of them")
    for name, folder in (("tag", "refs/tags/"), ("branch", "refs/heads/")):
        if name in fields:
            wanted = folder + fields[name].removeprefix(folder)
            _same("ref", ref, wanted, shown)
            ref = wanted
    if fields.get("mtime", "commit") not in ("checkout", "commit"):
        raise BuildError(f"{shown}: mtime={fields['mtime']}: known are checkout, commit")
    return GitReference(
        remote,
        ref,
        subdir,
        fields.get("commit", fields.get("checksum", "")),
        _flag(fields, "keep-git-dir", shown),
        _flag(fields, "submodules", shown),
        fields.get("mtime", ""),
        bool(_flag(fields, "fetch-by-commit", shown)),
    )


def _same(name: str, one: str, other: str, shown: str) -> None:
    if one and other and one != other:
        raise BuildError(f"{shown}: {name} is both {one!r} and {other!r}", hint="give one of them")


def _fields(query: str, shown: str) -> dict[str, str]:
    """Return the query. Raises BuildError for an unknown, repeated or empty one."""
    fields: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in (*_FLAGS, *_TEXTS):
            known = ", ".join(sorted((*_FLAGS, *_TEXTS)))
            raise BuildError(f"{shown}: unknown query {name!r}", hint=f"known are {known}")
        if name in fields:
            raise BuildError(f"{shown}: the query {name!r} is given twice")
        if not value and name not in _FLAGS:
            raise BuildError(f"{shown}: the query {name!r} has no value", hint=f"write {name}=VALUE")
        fields[name] = value
    return fields


def _flag(fields: Mapping[str, str], name: str, shown: str) -> bool | None:
    if name not in fields:
        return None
    value = fields[name] or "true"
    if value not in (*_TRUE, *_FALSE):
        raise BuildError(f"{shown}: {name}={value} is neither true nor false")
    return value in _TRUE
