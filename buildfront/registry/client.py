"""One repository on one registry (OCI distribution spec 1.1): manifests and blobs, in and out.

Plain http is spoken to loopback addresses only. Transient failures (connection, 5xx, 429) are tried again a few
times; everything else is a BuildError that says what the registry answered.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

import httpx

from ..errors import BuildError
from ..image.model import INDEXES, MANIFESTS, digest_of
from ..image.reference import Reference
from . import auth

_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
_TRIES = 4
_MANIFEST_LIMIT = 8 << 20


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


class Repository:
    """Use as a context manager."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        host = "registry-1.docker.io" if reference.domain == "docker.io" else reference.domain
        scheme = "http" if is_loopback(reference.domain) else "https"
        self.base = f"{scheme}://{host}/v2/{reference.path}"
        loopback = scheme == "http"
        self._client = httpx.Client(
            timeout=httpx.Timeout(60.0, connect=20.0), follow_redirects=True, trust_env=not loopback
        )
        self._header: dict[str, str] = {}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # requests

    def _send(self, method: str, url: str, *, retry: bool = True, **more: Any) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        stream = more.pop("stream", False)
        make: Callable[[], Any] | None = more.pop("make", None)
        authorised = False
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1 or not retry
            if make is not None:
                more["content"] = make()
            request = self._client.build_request(method, url, headers={**headers, **self._header}, **more)
            try:
                response = self._client.send(request, stream=stream)
            except httpx.HTTPError as error:
                if last:
                    raise BuildError(
                        f"the registry {self.reference.domain} can't be reached: {error}",
                        hint="check the name and the network",
                    ) from None
                time.sleep(0.2 * 2**attempt)
                continue
            if response.status_code == 401 and not authorised:
                authorised = True
                response.read()
                self._authorise(response.headers.get("www-authenticate", ""))
                continue
            if response.status_code in (429, 500, 502, 503, 504) and not last:
                response.close()
                time.sleep(0.2 * 2**attempt)
                continue
            return response
        return response

    def _authorise(self, header: str) -> None:
        scheme, parameters = auth.challenge(header)
        known = auth.credentials(self.reference.domain)
        if scheme == "basic":
            if known is None:
                raise BuildError(
                    f"{self.reference.domain} wants a login",
                    hint="put credentials into ~/.docker/config.json",
                )
            token = httpx.BasicAuth(*known)._auth_header
            self._header = {"Authorization": token}
            return
        if scheme != "bearer" or "realm" not in parameters:
            raise BuildError(f"{self.reference.domain} asks for an unknown kind of login: {header!r}")
        query: dict[str, str] = {key: parameters[key] for key in ("service", "scope") if key in parameters}
        query.setdefault("scope", f"repository:{self.reference.path}:pull")
        try:
            response = self._client.get(parameters["realm"], params=query, auth=known)
        except httpx.HTTPError as error:
            raise BuildError(
                f"the token server of {self.reference.domain} can't be reached: {error}"
            ) from None
        if response.status_code != 200:
            raise BuildError(f"{self.reference.domain} refused the login: {response.status_code}")
        value = response.json()
        self._header = {"Authorization": f"Bearer {value.get('token') or value.get('access_token') or ''}"}

    def _refused(self, response: httpx.Response, what: str) -> BuildError:
        response.read()
        try:
            words = "; ".join(
                str(item.get("message") or item.get("code")) for item in response.json()["errors"]
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            words = response.reason_phrase
        return BuildError(f"{what}: the registry answered {response.status_code} ({words})")

    # pulling

    def manifest(self, target: str) -> tuple[bytes, str]:
        """A manifest's bytes and media type, by tag or digest; a digest is checked. Raises BuildError."""
        response = self._send("GET", f"{self.base}/manifests/{target}", headers={"Accept": _ACCEPT})
        if response.status_code != 200:
            error = self._refused(response, f"no manifest for {self.reference.familiar}")
            if response.status_code == 404:
                error = BuildError(
                    f"{self.reference.familiar} was not found on {self.reference.domain}",
                    hint="check the name and the tag",
                )
            raise error
        data = response.content
        if len(data) > _MANIFEST_LIMIT:
            raise BuildError(
                f"the manifest of {self.reference.familiar} is larger than {_MANIFEST_LIMIT} bytes"
            )
        if target.startswith("sha256:") and digest_of(data) != target:
            raise BuildError(f"the registry answered {target} with other content")
        return data, response.headers.get("content-type", "").partition(";")[0]

    def blob(self, digest: str) -> Iterator[bytes]:
        """A blob's bytes as they come. The caller checks the digest."""
        response = self._send("GET", f"{self.base}/blobs/{digest}", stream=True)
        try:
            if response.status_code != 200:
                raise self._refused(response, f"the blob {digest}")
            try:
                yield from response.iter_raw(1 << 18)
            except httpx.HTTPError as error:
                raise BuildError(f"the blob {digest} was cut off: {error}") from None
        finally:
            response.close()

    # pushing

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has it."""
        return self._send("HEAD", f"{self.base}/blobs/{digest}").status_code == 200

    def upload(self, digest: str, size: int, open_blob: Callable[[], IO[bytes]]) -> None:
        """Upload a blob in one piece. Raises BuildError."""
        started = self._send("POST", f"{self.base}/blobs/uploads/")
        if started.status_code not in (201, 202):
            raise self._refused(started, f"uploading to {self.reference.familiar}")
        place = httpx.URL(self.base + "/").join(started.headers["location"])
        place = place.copy_merge_params({"digest": digest})

        def body() -> Iterator[bytes]:
            with open_blob() as stream:
                while chunk := stream.read(1 << 18):
                    yield chunk

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        done = self._send("PUT", str(place), headers=headers, make=body)
        if done.status_code not in (201, 204):
            raise self._refused(done, f"uploading {digest}")

    def put_manifest(self, target: str, data: bytes, media_type: str) -> None:
        """Upload a manifest under a tag or its digest. Raises BuildError."""
        url = f"{self.base}/manifests/{target}"
        response = self._send("PUT", url, content=data, headers={"Content-Type": media_type})
        if response.status_code not in (200, 201):
            raise self._refused(response, f"pushing {self.reference.familiar}")
