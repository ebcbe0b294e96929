"""Redirects, followed as far as they are safe."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import BuildError
from .http import Http, Response
from .urls import Url, Where, check_addresses, check_redirect, join, literal

LIMIT = 10
_STATUSES = (301, 302, 303, 307, 308)


def follow(
    http: Http,
    method: str,
    url: Url,
    headers: Mapping[str, str],
    private: Mapping[str, str],
    *,
    downgrade: bool = False,
) -> Response:
    """Return the answer at the end of the redirects. Raise Broken, and BuildError for a redirect that is not followed.

    A redirect may not lead to an address that is nearer than the one that it came from, nor from https to http unless
    ``downgrade``. The headers of ``private`` are sent to the origin of ``url`` only.
    """
    what = f"a redirect of {url.scheme}://{url.authority}"
    here, reach = url, None
    for _ in range(LIMIT + 1):
        own = private if here.origin == url.origin else {}
        target, limit = here, reach
        response = http.persist(
            lambda to=target, fields={**headers, **own}, far=limit: http.exchange(
                method, to, fields, reach=far
            )  # type: ignore[misc]
        )
        location = response.header("location")
        if response.status not in _STATUSES or not location:
            return response
        seen = max(response.where, reach or Where.LOOPBACK)
        response.finish()
        to = join(here, location.partition("#")[0], what)
        refusal = _refusal(here, to, seen, downgrade=downgrade)
        if refusal is not None:
            raise refusal
        here, reach = to, seen
    raise BuildError(f"{url.scheme}://{url.authority} redirects more than {LIMIT} times")


def _refusal(here: Url, to: Url, seen: Where, *, downgrade: bool) -> BuildError | None:
    if downgrade and here.scheme == "https" and to.scheme == "http":
        known = literal(to.host)
        return check_addresses(seen, to, [known] if known else [], plain=True)
    return check_redirect(here, to, reach=seen, plain=True)
