"""Files from http and https URLs, kept in the store and asked for again only if they have changed."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from ..errors import BuildError
from ..store.downloads import Place
from ..store.failure import telling
from ..web.http import Broken, Http, Response
from ..web.redirects import follow
from .downloaded import Downloaded, Report
from .fetch_limits import FetchLimits
from .http_body import Body
from .http_source import WebSource, read_url

_LONGEST = 1000  # characters of a header that is kept


class HttpFiles:
    """Fetches files for one build. Methods may be called by several threads, for one URL by one at a time.

    ``credentials`` returns the value of the Authorization header for a host, or the empty string. ``check`` is called
    often, and may raise to end it.
    """

    def __init__(
        self,
        root: str,
        limits: FetchLimits,
        *,
        credentials: Callable[[str], str] = lambda host: "",
        check: Callable[[], None] = lambda: None,
        fresh: bool = False,
    ) -> None:
        self._root = root
        self._limits = limits
        self._credentials = credentials
        self._check = check
        self._fresh = fresh
        self._http = Http(plain=True)

    def abort(self) -> None:
        """Cut all connections: whoever waits for one gets an error."""
        self._http.abort()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def place(self, url: str, name: str) -> Place:
        """Return the directory of the store for a URL whose file gets this name."""
        return Place(self._root, "http", f"{url}\n{name}")

    def unchanged(self, place: Place, url: str, name: str) -> Downloaded | None:
        """Return the file that the store has, if the server says that it has not changed."""
        known = None if self._fresh else _known(place, name)
        if known is None:
            return None
        source = read_url(url)
        etag, since = known.record["etag"], known.record["last_modified"]
        if not etag and not since:
            return None
        conditions = {"If-None-Match": etag} if etag else {"If-Modified-Since": since}
        # Some servers have ETags, and send everything nevertheless: so only the headers are asked for.
        try:
            response = self._ask(source, conditions, "HEAD")
        except Broken:
            return None
        response.finish()
        if response.status == 304 and (not etag or _tag(response.header("etag")) in ("", _tag(etag))):
            return known.file
        if etag and response.status == 200 and _tag(response.header("etag")) == _tag(etag):
            return known.file
        return None

    def kept(self, place: Place, name: str, checksum: str) -> Downloaded | None:
        """Return the file that the store has, if it has this checksum."""
        known = None if self._fresh else _known(place, name)
        if known is None:
            return None
        if checksum == known.file.digest:
            return known.file
        algorithm, _, digits = checksum.partition(":")
        if algorithm == "sha256":
            return None
        with open(os.path.join(known.file.directory, name), "rb") as stream:
            return known.file if hashlib.file_digest(stream, algorithm).hexdigest() == digits else None

    def download(self, place: Place, url: str, name: str, checksum: str, report: Report) -> Downloaded:
        """Download the file into the store, unless a request with its tag says that it is there already.

        Raise BuildError if it can't be had, or has another checksum.
        """
        source = read_url(url)
        with place.changing(self._check):
            known = None if self._fresh or checksum else _known(place, name)
            etag = known.record["etag"] if known is not None else ""
            try:
                response = self._ask(
                    source, {"If-None-Match": etag} if etag else {}, downgrade=bool(checksum)
                )
                if response.status == 304 and known is not None:
                    response.finish()
                    return known.file
                return self._save(place, source, name, response, checksum, report)
            except Broken as error:
                self._check()
                raise unreachable(source, error) from None

    def _save(
        self, place: Place, source: WebSource, name: str, response: Response, checksum: str, report: Report
    ) -> Downloaded:
        if not 200 <= response.status < 300:
            response.finish()
            raise _refused(source, response)
        algorithm = checksum.partition(":")[0] or "sha256"
        with telling(self._root):
            begun = place.begin()
            try:
                with open(os.path.join(begun, name), "xb") as out:
                    os.fchmod(out.fileno(), 0o600)
                    body = Body(
                        source.shown,
                        out,
                        algorithm,
                        self._limits,
                        report,
                        lambda more: self._ask(source, more, downgrade=bool(checksum)),
                    )
                    response = body.receive(response)
                    _compare(source, checksum, body.digests)
                    mtime = _seconds(response.header("last-modified"))
                    out.flush()
                    os.utime(out.fileno(), (mtime, mtime))
                    os.fsync(out.fileno())
            except BaseException:
                shutil.rmtree(begun, ignore_errors=True)
                raise
            digits = body.digests["sha256"]
            size = os.stat(os.path.join(begun, name)).st_size
            name_of_data = secrets.token_hex(8)  # never that of a file that a build uses, or that was damaged
            directory = place.keep(begun, name_of_data)
            place.set_record(
                {
                    "data": name_of_data,
                    "sha256": digits,
                    "mtime": mtime,
                    "size": size,
                    "etag": response.header("etag")[:_LONGEST],
                    "last_modified": response.header("last-modified")[:_LONGEST],
                }
            )
            place.drop_others()
        return Downloaded(directory, f"sha256:{digits}", mtime)

    def _ask(
        self, source: WebSource, headers: Mapping[str, str], method: str = "GET", *, downgrade: bool = False
    ) -> Response:
        login = source.login or self._credentials(source.url.host)
        private = {"Authorization": login} if login else {}
        return follow(self._http, method, source.url, headers, private, downgrade=downgrade)


class _Known(NamedTuple):
    file: Downloaded
    record: dict[str, Any]


def _known(place: Place, name: str) -> _Known | None:
    """Return the file that the store has, and its record; None if it is not there as it was written."""
    record = place.record()
    texts = {key: record.get(key) for key in ("data", "sha256", "etag", "last_modified")}
    mtime, size = record.get("mtime"), record.get("size")
    if not all(isinstance(text, str) for text in texts.values()) or not isinstance(mtime, int):
        return None
    digits = str(texts["sha256"])
    if not re.fullmatch("[0-9a-f]{64}", digits) or not re.fullmatch("[0-9a-f]{16}", str(texts["data"])):
        return None
    directory = place.data(str(texts["data"]))
    try:
        status = os.lstat(os.path.join(directory, name))
    except OSError:
        return None
    if status.st_size != size or status.st_mtime_ns != mtime * 10**9:
        return None
    return _Known(Downloaded(directory, f"sha256:{digits}", mtime), record)


def _compare(source: WebSource, wanted: str, found: Mapping[str, str]) -> None:
    algorithm, _, digits = wanted.partition(":")
    if wanted and found[algorithm] != digits:
        raise BuildError(
            f"{source.shown} has the checksum {algorithm}:{found[algorithm]}, and {wanted} is wanted",
            hint="if the file was changed on purpose, correct --checksum",
        )


def unreachable(source: WebSource, error: Broken) -> BuildError:
    """Return the error for a server that does not give a complete answer."""
    return BuildError(
        f"{source.shown} can't be fetched: {error}", hint="is the network there, and the name right?"
    )


def _refused(source: WebSource, response: Response) -> BuildError:
    hint = ""
    if response.status in (401, 403):
        host = source.url.host
        hint = (
            f"the secret HTTP_AUTH_TOKEN_{host} is sent as a bearer token, HTTP_AUTH_HEADER_{host} as it is"
        )
    reason = f"{response.status} {response.reason}".rstrip()
    return BuildError(f"{source.shown} can't be fetched: the server answers {reason}", hint=hint)


def _tag(text: str) -> str:
    """Return an ETag for a comparison: a weak one is as good."""
    return text.removeprefix("W/")


def _seconds(text: str) -> int:
    """Return the time of a Last-Modified header; the epoch if it has none."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    return seconds if 0 <= seconds < 1 << 33 else 0
