"""Image references: ``[domain/]path[:tag][@digest]`` (distribution spec; docker's short names)."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import BuildError
from .digest import Digest

_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PATH}(?:/{_PATH})*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LONGEST = 1000
DEFAULT_DOMAIN = "docker.io"


class Reference(NamedTuple):
    """A parsed name. ``tag`` is ``latest`` where neither tag nor digest was written."""

    domain: str
    path: str
    tag: str
    digest: str

    def __str__(self) -> str:
        """Return the full form, which is the name in the store."""
        tail = f":{self.tag}" if self.tag else ""
        return f"{self.domain}/{self.path}{tail}" + (f"@{self.digest}" if self.digest else "")

    @property
    def familiar(self) -> str:
        """The short form, as users write it."""
        text = str(self)
        return text.removeprefix(f"{DEFAULT_DOMAIN}/library/").removeprefix(f"{DEFAULT_DOMAIN}/")

    @property
    def target(self) -> str:
        """The digest if there is one, else the tag: a registry is asked for it."""
        return self.digest or self.tag


def parse(text: str) -> Reference:
    """Return the reference in ``text``. Raise BuildError, which quotes it, if it is malformed."""
    if len(text) > _LONGEST:
        raise BuildError(f"invalid image reference {text[:100]!r}…: it has {len(text)} characters")
    rest, at, digest = text.partition("@")
    if at and not Digest.is_valid(digest):
        raise BuildError(f"invalid image reference {text!r}: {digest!r} is not sha256:<64 hex digits>")
    first, slash, remainder = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        domain, path = first, remainder
    else:
        domain, path = DEFAULT_DOMAIN, rest
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if not _DOMAIN.fullmatch(domain):
        raise BuildError(f"invalid image reference {text!r}: {domain!r} is not HOST[:PORT]")
    path, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise BuildError(f"invalid image reference {text!r}: {tag!r} is not a tag")
    if domain == DEFAULT_DOMAIN and len(path) == 64 and set(path) <= set("0123456789abcdef"):
        raise BuildError(f"invalid image reference {text!r}: 64 hex digits are an image ID, not a name")
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    if not _NAME.fullmatch(path):
        hint = "names are lower case" if path.lower() != path else ""
        raise BuildError(
            f"invalid image reference {text!r}", hint=hint or "the form is [HOST/]NAME[:TAG][@DIGEST]"
        )
    return Reference(domain, path, tag or ("" if digest else "latest"), digest)
