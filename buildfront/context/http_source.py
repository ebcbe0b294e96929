"""The URL of a file as text: what is requested, and what is shown."""

from __future__ import annotations

import base64
from typing import NamedTuple
from urllib.parse import quote, unquote

from ..errors import BuildError
from ..graph.git_reference import shown
from ..web.urls import Url, parse

_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))


class WebSource(NamedTuple):
    """An http or https URL. ``login`` is the value of an Authorization header, or empty."""

    url: Url
    login: str

    @property
    def shown(self) -> str:
        """The URL for errors and logs: without user, and without the query, which may be signed."""
        return f"{self.url.scheme}://{self.url.authority}{self.url.target.partition('?')[0]}"


def read_url(text: str) -> WebSource:
    """Return the parts of a URL, which people write. Raise BuildError if it is none.

    What a URL has only in encoded form is encoded: spaces, and characters that are not ASCII. User and password
    become a login, and a fragment is dropped.
    """
    scheme, colon, rest = text.partition("://")
    rest = rest.partition("#")[0]
    end = min((rest.find(char) for char in "/?" if char in rest), default=len(rest))
    authority, target = rest[:end], rest[end:]
    user, at, host = authority.rpartition("@")
    login = ""
    if at:
        name, _, password = user.partition(":")
        pair = f"{unquote(name)}:{unquote(password)}".encode()
        login = f"Basic {base64.b64encode(pair).decode()}"
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            raise BuildError(f"the URL {shown(text)!r} is refused: its host is not a name") from None
    target = quote(target.encode("utf-8", "surrogateescape"), safe=_PRINTABLE)
    return WebSource(parse(f"{scheme}{colon}{host}{target}", "the URL"), login)
