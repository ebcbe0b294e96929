"""One repository on one registry (OCI distribution spec 1.1): manifests and blobs, in and out.

Plain http is spoken to loopback addresses only. Transient failures (connection, 5xx, 429) are tried again a few
times; everything else is a BuildError that says what the registry answered.

A registry is not trusted: redirects and places of uploads are followed one by one, as ``urls`` allows; credentials stay
with the registry's origin, and once a request has left it none are sent any more, not even back.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, NamedTuple

from ..errors import BuildError
from ..image.digest import Digest
from ..image.documents import LIMIT
from ..image.media_types import INDEXES, MANIFESTS
from ..image.reference import Reference
from ..text import visible
from ..web.http import Broken, Http, Response
from ..web.urls import Url, Where, check_redirect, join, parse
from .challenge import check_extent, read_object
from .login import Login

_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
_MANIFEST_LIMIT = LIMIT
_ERROR_LIMIT = 64 << 10
_REDIRECTS = 10
_FIELD = re.compile(r"[\x21-\x7e]{1,255}")


def is_loopback(domain: str) -> bool:
    """Whether a registry's host is this machine."""
    host = domain.rsplit(":", 1)[0] if not domain.endswith("]") else domain
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Place(NamedTuple):
    """The target of a request. ``home``: only the registry itself had a say, so its credentials may go along.

    ``reach`` is the farthest place that had a say, None if only the user had (see ``urls.check_addresses``).
    """

    url: Url
    home: bool = True
    reach: Where | None = None


class _Answer(NamedTuple):
    """An answer, the place that it came from, and how far away the farthest was that had a say in it."""

    response: Response
    place: _Place
    seen: Where


class Repository:
    """One repository of a registry. Use as a context manager; requests may come from several threads.

    ``push``: a login asks for the right to push, too.
    """

    def __init__(self, reference: Reference, *, push: bool = False) -> None:
        self.reference = reference
        host = "registry-1.docker.io" if reference.domain == "docker.io" else reference.domain
        scheme = "http" if is_loopback(reference.domain) else "https"
        self.base = f"{scheme}://{host}/v2/{reference.path}"
        self._base = parse(self.base, f"the registry {reference.domain}")
        self._http = Http()
        scope = f"repository:{reference.path}:{'pull,push' if push else 'pull'}"
        self._login = Login(self._http, reference.domain, self._base, scope)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def abort(self) -> None:
        """Cut the connections: what other threads do with this repository ends at once, with a BuildError."""
        self._http.abort()

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # requests

    def _at(self, path: str) -> _Place:
        return _Place(self._base._replace(target=f"{self._base.target}/{path}"))

    def _send(
        self,
        method: str,
        start: _Place,
        headers: Mapping[str, str] | None = None,
        make: Callable[[], Iterable[bytes]] | None = None,
    ) -> _Answer:
        """Return the answer to a request, after redirects and a login; the caller closes it.

        Raise BuildError if there is none.
        """
        answer: _Answer | None = None

        def attempt() -> Response:
            nonlocal answer
            answer = self._logged_in(method, start, headers or {}, make)
            return answer.response

        try:
            self._http.persist(attempt)
        except Broken as error:
            raise self._unreachable(error) from None
        assert answer is not None
        return answer

    def _unreachable(self, error: Broken) -> BuildError:
        return BuildError(
            f"the registry {self.reference.domain} can't be reached: {error}",
            hint="check the name and the network",
        )

    def _logged_in(
        self,
        method: str,
        start: _Place,
        headers: Mapping[str, str],
        make: Callable[[], Iterable[bytes]] | None,
    ) -> _Answer:
        for first in (True, False):
            login = self._login.header
            answer = self._follow(method, start, headers, login, make)
            response = answer.response
            if response.status != 401:
                return answer
            if not answer.place.home:
                response.finish()
                raise BuildError(
                    f"{self.reference.domain} sent us to {answer.place.url.authority}, which wants a login",
                    hint="credentials are for the registry that was asked, and are given to no other server",
                )
            if not first:
                break
            challenge = response.all("www-authenticate")
            response.finish()
            self._login.answer(challenge, login, response.where)
        return answer

    def _follow(
        self,
        method: str,
        place: _Place,
        headers: Mapping[str, str],
        login: Mapping[str, str],
        make: Callable[[], Iterable[bytes]] | None,
    ) -> _Answer:
        redirects = (301, 302, 303, 307, 308) if method in ("GET", "HEAD") else (307, 308)
        for _ in range(_REDIRECTS + 1):
            response = self._http.exchange(
                method,
                place.url,
                {**headers, **login} if place.home else headers,
                None if make is None else make(),
                reach=place.reach,
            )
            answer = _Answer(response, place, max(response.where, place.reach or Where.LOOPBACK))
            if response.status not in redirects:
                return answer
            response.finish()
            place = self._next(answer, "a redirect")
        raise BuildError(
            f"{self.reference.domain} redirects round in circles, to {place.url.authority} at last"
        )

    def _next(self, answer: _Answer, what: str) -> _Place:
        """Return the place that the Location of an answer names. Raise BuildError if it must not be visited."""
        source = answer.place
        what = f"{what} of {source.url.authority}"
        location = answer.response.header("location")
        if not location:
            raise BuildError(f"{what} leads nowhere: the answer has no Location")
        url = join(source.url, location, what)
        if source.home and url.origin == source.url.origin:
            return source._replace(url=url)
        refusal = check_redirect(source.url, url, reach=answer.seen)
        if refusal is not None:
            raise refusal
        return _Place(url, False, answer.seen)

    def _refused(self, response: Response, what: str) -> BuildError:
        try:
            words = _error_words(response.read(_ERROR_LIMIT, "the registry's error", cut=True))
        except (Broken, BuildError):
            words = ""
        finally:
            response.close()
        words = f" ({words or response.reason})" if words or response.reason else ""
        hint = f"check the credentials for {self.reference.domain}" if response.status in (401, 403) else ""
        return BuildError(f"{what}: the registry answered {response.status}{words}", hint=hint)

    # pulling

    def manifest(self, target: str) -> tuple[bytes, str]:
        """Return a manifest's bytes and media type, by tag or digest. Raise BuildError if it is missing or damaged."""
        response = self._send("GET", self._at(f"manifests/{target}"), {"Accept": _ACCEPT}).response
        if response.status == 404:
            response.finish()
            raise BuildError(
                f"{self.reference.familiar} was not found on {self.reference.domain}",
                hint="check the name and the tag",
            )
        if response.status != 200:
            raise self._refused(response, f"no manifest for {self.reference.familiar}")
        what = f"the manifest of {self.reference.familiar}"
        try:
            data = response.read(_MANIFEST_LIMIT, what)
        except Broken as error:
            raise BuildError(f"{what} was cut off: {error}") from None
        finally:
            response.close()
        check_extent(data, what)
        if target.startswith("sha256:") and Digest.of(data) != target:
            raise BuildError(f"the registry answered {target} with other content")
        self._check_stated(response, Digest.of(data), what)
        return data, visible(response.header("content-type").partition(";")[0].strip(), 255)

    @staticmethod
    def _check_stated(response: Response, digest: str, what: str) -> None:
        """Raise BuildError if the registry states another digest."""
        stated = response.header("docker-content-digest")
        if Digest.is_valid(stated) and stated != digest:
            raise BuildError(f"{what} is damaged: its digest is {digest}, and the registry says {stated}")

    def blob(self, digest: str, size: int | None = None) -> Iterator[bytes]:
        """Yield a blob's bytes as they come. The caller checks the digest.

        Raise BuildError if there are more or fewer than ``size`` bytes; more are never yielded.
        """
        Digest.parse(digest)
        response = self._send("GET", self._at(f"blobs/{digest}")).response
        try:
            if response.status != 200:
                raise self._refused(response, f"the blob {digest}")
            left = size
            for chunk in response.chunks():
                if left is not None:
                    left -= len(chunk)
                    if left < 0:
                        raise BuildError(
                            f"the blob {digest} is longer than its descriptor says ({size} bytes)"
                        )
                yield chunk
            if size is not None and left:
                raise BuildError(f"the blob {digest} has {size - left} bytes, and its descriptor says {size}")
        except Broken as error:
            raise BuildError(f"the blob {digest} was cut off: {error}") from None
        finally:
            response.close()

    # pushing

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has it."""
        Digest.parse(digest)
        response = self._send("HEAD", self._at(f"blobs/{digest}")).response
        response.finish()
        return response.status == 200

    def upload(self, digest: str, size: int, open_blob: Callable[[], IO[bytes]]) -> None:
        """Upload a blob in one piece. Raise BuildError if it fails."""
        Digest.parse(digest)
        what = f"uploading to {self.reference.familiar}"
        started = self._send("POST", self._at("blobs/uploads/"), {"Content-Length": "0"})
        if started.response.status not in (201, 202):
            raise self._refused(started.response, what)
        started.response.finish()
        place = self._next(started, "the place of an upload")
        mark = "&" if "?" in place.url.target else "?"
        # appended, not merged: what the registry wrote may be signed
        place = place._replace(url=place.url._replace(target=f"{place.url.target}{mark}digest={digest}"))

        def body() -> Iterator[bytes]:
            try:
                with open_blob() as stream:
                    while chunk := stream.read(1 << 18):
                        yield chunk
            except OSError as error:
                raise BuildError(f"the blob {digest} can't be read: {error.strerror or error}") from None

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        response = self._send("PUT", place, headers, body).response
        if response.status not in (201, 204):
            raise self._refused(response, f"uploading {digest}")
        response.finish()
        self._check_stated(response, digest, "the uploaded blob")

    def put_manifest(self, target: str, data: bytes, media_type: str) -> None:
        """Upload a manifest under a tag or its digest. Raise BuildError if it fails."""
        what = f"pushing {self.reference.familiar}"
        if not _FIELD.fullmatch(media_type):
            raise BuildError(f"{what}: {visible(media_type, 100)!r} is not a media type")
        headers = {"Content-Type": media_type, "Content-Length": str(len(data))}
        response = self._send("PUT", self._at(f"manifests/{target}"), headers, lambda: [data]).response
        if response.status not in (200, 201):
            raise self._refused(response, what)
        response.finish()
        self._check_stated(response, Digest.of(data), "the pushed manifest")


def _error_words(data: bytes) -> str:
    """Return the messages of an answer's errors (distribution spec, "Error Codes"), empty for any other body."""
    try:
        errors = read_object(data, "the registry's error").get("errors")
    except BuildError:
        return ""
    words = []
    for item in errors[:5] if isinstance(errors, list) else []:
        found = (item.get("message") or item.get("code")) if isinstance(item, dict) else None
        if isinstance(found, str):
            words.append(visible(found, 500))
    return "; ".join(words)
