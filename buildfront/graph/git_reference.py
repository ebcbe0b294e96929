"""References to git repositories: ``https://HOST/NAME.git#REF:SUBDIR``, with a query, and as ``USER@HOST:PATH``.

Text becomes data here; :mod:`buildfront.context` does what it says.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from ..booleans import parse_bool
from ..errors import BuildError, nearest

PROTOCOLS = ("http", "https", "ssh", "git")
"""The protocols by which repositories are fetched."""

_KEYS = (
    *("ref", "tag", "branch", "subdir", "checksum", "commit"),
    *("keep-git-dir", "submodules", "mtime", "fetch-by-commit"),
)
_FLAGS = ("keep-git-dir", "submodules", "fetch-by-commit")
_SCHEME = re.compile(r"([A-Za-z0-9]+)://")
_SCP = re.compile(r"([A-Za-z0-9_-]+@[A-Za-z0-9.-]+:.*?)(?:\?(.*?))?(?:#(.*))?", re.DOTALL)
_HOST = re.compile(r"(?:[^@/\\\s]*@)?(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]*)?")
_UNFIT = re.compile(r"[\x00-\x1f\x7f]")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_DIGITS = re.compile(r"[0-9A-Fa-f]+")


@dataclass(frozen=True)
class GitReference:
    """A repository, and what is wanted of it.

    ``remote`` is a URL as git takes it. ``subdir`` is relative, and empty for the whole tree. ``keep_git_dir`` and
    ``submodules`` are None where the text doesn't say. ``commit_times``: files get the time of the commit.
    """

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None
    commit_times: bool = False
    fetch_by_commit: bool = False

    @property
    def name(self) -> str:
        """The name of the repository: ``bar`` for ``https://example.com/foo/bar.git``."""
        return self.remote.rpartition("/")[2].removesuffix(".git")


def is_commit(text: str) -> bool:
    """Return whether a reference is a whole commit hash, which stands for itself."""
    return _COMMIT.fullmatch(text) is not None


def is_http(text: str) -> bool:
    """Return whether a text is the URL of a file: an http or https URL that is no git reference."""
    return text.startswith(("http://", "https://")) and parse(text) is None


def is_web(remote: str) -> bool:
    """Return whether a remote is read without ssh."""
    return remote.startswith(("http://", "https://", "git://"))


def parse(text: str, *, context: bool = False) -> GitReference | None:
    """Return the repository that a text stands for, or None for a text that is no git reference.

    An http or https URL is one if its path ends with ``.git``. ``github.com/…`` is one for a ``context``, and a path
    for ADD. Raise BuildError for a git reference whose query or parts are wrong.
    """
    if text.startswith(("./", "../")):
        return None
    parts = _split(text, hub=context and text.startswith("github.com/"))
    if parts is None:
        return None
    remote, query, fragment = parts
    ref, _, subdir = fragment.partition(":")
    found = _Settings(text, ref, posixpath.normpath("/" + subdir).strip("/"))
    found.load(query)
    return found.reference(remote)


def _split(text: str, *, hub: bool) -> tuple[str, str, str] | None:
    """Return the URL for git, the query and the fragment; None for a text that is no git reference."""
    if _UNFIT.search(text):
        return None
    if hub:
        text = f"https://{text}"
    scheme = _SCHEME.match(text)
    if scheme is None:
        scp = _SCP.fullmatch(text)
        if scp is None:
            return None
        _refuse_option(text, scp[1])
        return scp[1], scp[2] or "", scp[3] or ""
    name = scheme[1].lower()
    if name not in PROTOCOLS:
        return None
    rest, _, fragment = text[scheme.end() :].partition("#")
    rest, _, query = rest.partition("?")
    host, slash, path = rest.partition("/")
    if _HOST.fullmatch(host) is None:
        return None
    if name in ("http", "https") and not hub and not unquote(path).endswith(".git"):
        return None
    _refuse_option(text, host)
    return f"{name}://{host}{slash}{path.replace(' ', '%20')}", query, unquote(fragment)


def _refuse_option(text: str, authority: str) -> None:
    """Raise BuildError for a user or host that ssh could take for an option."""
    if authority.startswith("-") or "@-" in authority.partition(":")[0]:
        raise BuildError(f"the git reference {shown(text)!r}: a user or host can't begin with a hyphen")


class _Settings:
    """The settings of one reference, from its fragment and then its query."""

    def __init__(self, text: str, ref: str, subdir: str) -> None:
        self._text = text
        self._ref = ref
        self._subdir = subdir
        self._values: dict[str, str] = {}

    def load(self, query: str) -> None:
        for key, value in parse_qsl(query, keep_blank_values=True):
            if key not in _KEYS:
                raise self._wrong(
                    f"unknown key {key!r} in the query",
                    nearest(key, _KEYS) or f"known are {', '.join(_KEYS)}",
                )
            if key in self._values:
                raise self._wrong(f"the query has two values for {key}")
            if not value and key not in _FLAGS:
                raise self._wrong(f"the query has no value for {key}")
            self._values[key] = value
        get = self._values.get
        self._ref = self._agreed("ref", self._ref, get("ref", ""))
        self._subdir = self._agreed("subdir", self._subdir, get("subdir", ""))
        if "tag" in self._values and "branch" in self._values:
            raise self._wrong("a branch and a tag are given, and only one can be taken")
        for key, prefix in (("tag", "refs/tags/"), ("branch", "refs/heads/")):
            if key in self._values:
                name = prefix + self._values[key].removeprefix(prefix)
                self._ref = self._agreed("ref", self._ref, name)
        if get("mtime", "checkout") not in ("checkout", "commit"):
            raise self._wrong(f"mtime={get('mtime')} is neither checkout nor commit")

    def reference(self, remote: str) -> GitReference:
        checksum = self._values.get("commit") or self._values.get("checksum") or ""
        if checksum and _DIGITS.fullmatch(checksum) is None:
            raise self._wrong(f"the checksum {checksum!r} is not the beginning of a commit hash")
        check_ref(self._ref)
        subdir = posixpath.normpath("/" + self._subdir).strip("/")
        return GitReference(
            remote,
            self._ref,
            subdir,
            checksum,
            self._flag("keep-git-dir"),
            self._flag("submodules"),
            self._values.get("mtime") == "commit",
            bool(self._flag("fetch-by-commit")),
        )

    def _agreed(self, what: str, one: str, other: str) -> str:
        if one and other and one != other:
            raise self._wrong(f"it has two values for {what}: {one!r} and {other!r}")
        return one or other

    def _flag(self, key: str) -> bool | None:
        value = self._values.get(key)
        if value is None:
            return None
        truth = parse_bool(value) if value else True
        if truth is None:
            raise self._wrong(f"{key}={value} is neither true nor false")
        return truth

    def _wrong(self, what: str, hint: str = "") -> BuildError:
        return BuildError(f"the git reference {shown(self._text)!r}: {what}", hint=hint)


def check_ref(ref: str) -> None:
    """Raise BuildError for a ref that git would take for an option, or that no branch or tag can have."""
    if ref.startswith("-") or _UNFIT.search(ref) or any(char in ref for char in " ~^:?*[\\") or ".." in ref:
        raise BuildError(
            f"{ref!r} is not the name of a branch or tag, nor a commit",
            hint="the form is URL#REF:SUBDIR",
        )


def shown(text: str) -> str:
    """Return a URL without the password in it, fit for errors and logs."""
    return re.sub(r"(?<=://)([^/@:\s]*):[^/@\s]*@", r"\1:xxxxx@", text)
