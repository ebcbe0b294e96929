"""Logging in to one registry: credentials and tokens belong to its origin, and go nowhere else.

A token server may be elsewhere: it is given user and password, as docker's token protocol has it, when the registry
itself named it in its own first answer. It is asked for what we want to do, whatever scope the challenge names: else a
registry could have itself a token made for something else that the user may do there.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from ..errors import BuildError
from ..text import visible
from ..web.http import Broken, Http, Response
from ..web.urls import Url, Where, check_redirect, join, parse
from . import auth
from .challenge import challenges, read_token

_TOKEN_LIMIT = 1 << 20
_SERVICE_LIMIT = 1024
_REDIRECTS = 3


class Login:
    """The Authorization header for the registry at ``home``; empty until a challenge has been answered."""

    def __init__(self, http: Http, domain: str, home: Url, scope: str) -> None:
        self._http = http
        self._domain = domain
        self._home = home
        self._scope = scope
        self._lock = threading.Lock()
        self.header: Mapping[str, str] = {}

    def answer(self, headers: Sequence[str], used: Mapping[str, str], distance: Where) -> None:
        """Log in as the registry's WWW-Authenticate headers ask. Raise BuildError if that fails.

        ``used`` is the header that was refused: if another thread has got a new one meanwhile, nothing is done.
        """
        with self._lock:
            if self.header is not used:
                return
            for challenge in challenges(headers):
                if challenge.scheme == "basic":
                    known = auth.credentials(self._domain)
                    if known is None:
                        raise BuildError(
                            f"{self._domain} wants a login",
                            hint="put credentials into ~/.docker/config.json",
                        )
                    self.header = _basic(known)
                    return
                if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                    token = self._token(challenge.parameters, distance)
                    self.header = {"Authorization": f"Bearer {token}"}
                    return
        if not headers:
            raise BuildError(
                f"{self._domain} wants a login, and does not say which (401, no WWW-Authenticate)"
            )
        shown = visible(", ".join(headers), 200)
        raise BuildError(
            f"{self._domain} asks for an unknown kind of login: {shown!r}",
            hint="known are Basic, and Bearer with a realm",
        )

    def _token(self, parameters: Mapping[str, str], distance: Where) -> str:
        realm = parse(parameters["realm"], f"the token server of {self._domain}")
        refusal = check_redirect(self._home, realm, reach=distance)
        if refusal is not None:
            raise refusal
        query = {"scope": self._scope}
        service = parameters.get("service", "")
        if len(service) > _SERVICE_LIMIT:
            raise BuildError(f"{self._domain} names a service of more than {_SERVICE_LIMIT} characters")
        if service:
            query = {"service": service, **query}
        target = realm.target + ("&" if "?" in realm.target else "?") + urlencode(query)
        known = auth.credentials(self._domain)
        headers = dict(_basic(known)) if known else {}
        reach = None if realm.origin == self._home.origin else distance
        what = f"the answer of the token server of {self._domain}"
        try:
            response = self._http.persist(lambda: self._get(realm._replace(target=target), headers, reach))
            try:
                if response.status != 200:
                    raise BuildError(
                        f"{self._domain} refused the login: {response.status} {response.reason}".rstrip(),
                        hint=""
                        if known is None
                        else "check the credentials for it, for instance in ~/.docker/config.json",
                    )
                return read_token(response.read(_TOKEN_LIMIT, what), what)
            finally:
                response.finish()
        except Broken as error:
            raise BuildError(f"the token server of {self._domain} can't be reached: {error}") from None

    def _get(self, url: Url, headers: Mapping[str, str], reach: Where | None) -> Response:
        """Return the answer of a token server. Its redirects may lead to itself only."""
        start = url
        for _ in range(_REDIRECTS + 1):
            response = self._http.exchange("GET", url, headers, reach=reach)
            if response.status not in (301, 302, 303, 307, 308):
                return response
            location = response.header("location")
            response.finish()
            url = join(url, location, f"where the token server of {self._domain} leads")
            if url.origin != start.origin:
                raise BuildError(
                    f"the token server of {self._domain} leads to {url.authority}, which is another server",
                    hint="credentials are not given on",
                )
        raise BuildError(f"the token server of {self._domain} leads round in circles")


def _basic(known: tuple[str, str]) -> Mapping[str, str]:
    text = base64.b64encode(":".join(known).encode()).decode()
    return {"Authorization": f"Basic {text}"}
