"""Files from a real server: kept, asked for again, resumed, checked, and refused."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from web_servers import Page, Site

from buildfront.context import http_body
from buildfront.context.remote import Remote
from buildfront.errors import BuildError
from run_step import Secret

MODIFIED = "Tue, 05 Mar 2002 06:07:08 GMT"
DATA = bytes(range(256)) * 512
SUM = "sha256:" + hashlib.sha256(DATA).hexdigest()

Make = Callable[..., Remote]


def content(remote: Remote, url: str, checksum: str = "", name: str = "f") -> bytes:
    found = remote.fetch(url, name, checksum)
    return (Path(found.directory) / name).read_bytes()


def test_a_file_has_mode_and_time_of_the_server(web: Site, remote: Make) -> None:
    web.pages["/f"] = Page(DATA, {"Last-Modified": MODIFIED})
    web.pages["/g"] = Page(DATA)
    found = remote().fetch(f"{web.url}/f", "name")
    status = os.stat(Path(found.directory) / "name")
    assert (status.st_mode & 0o7777, status.st_mtime) == (0o600, 1015308428)
    assert found.digest == SUM and found.mtime == 1015308428
    assert remote().fetch(f"{web.url}/g", "name").mtime == 0


@pytest.mark.parametrize(
    "text", ["yesterday", "Thu, 01 Jan 1960 00:00:00 GMT", "Tue, 05 Mar 99999 06:07:08 GMT", ","]
)
def test_a_time_that_is_none_is_the_epoch(web: Site, remote: Make, text: str) -> None:
    web.pages["/f"] = Page(b"x", {"Last-Modified": text})
    assert remote().fetch(f"{web.url}/f", "f").mtime == 0


@pytest.mark.parametrize("headers", [{"ETag": '"a"'}, {"ETag": 'W/"a"'}, {"Last-Modified": MODIFIED}])
def test_what_has_not_changed_is_not_sent_again(web: Site, remote: Make, headers: dict[str, str]) -> None:
    web.pages["/f"] = Page(DATA, headers)
    assert content(remote(), f"{web.url}/f") == DATA
    assert content(remote(), f"{web.url}/f") == DATA
    assert web.asked("/f") == ["GET", "HEAD"]


def test_a_server_that_ignores_conditions_is_told_by_its_tag(web: Site, remote: Make) -> None:
    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("ETag", '"same"')
        handler.send_header("Content-Length", "3")
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(b"abc")

    web.pages["/f"] = answer
    assert content(remote(), f"{web.url}/f") == content(remote(), f"{web.url}/f") == b"abc"
    assert web.asked("/f") == ["GET", "HEAD"]


def test_a_server_without_head_is_asked_by_get(web: Site, remote: Make) -> None:
    def answer(handler: Any) -> None:
        known = handler.headers.get("If-None-Match") == '"t"'
        handler.send_response(405 if handler.command == "HEAD" else 304 if known else 200)
        handler.send_header("ETag", '"t"')
        if not known:
            handler.send_header("Content-Length", "3")
        handler.end_headers()
        if handler.command != "HEAD" and not known:
            handler.wfile.write(b"abc")

    web.pages["/f"] = answer
    assert content(remote(), f"{web.url}/f") == content(remote(), f"{web.url}/f") == b"abc"
    assert web.asked("/f") == ["GET", "HEAD", "GET"]


def test_what_has_changed_is_fetched(web: Site, remote: Make) -> None:
    web.pages["/f"] = Page(b"old", {"ETag": '"1"'})
    first = remote().fetch(f"{web.url}/f", "f")
    web.pages["/f"] = Page(b"new", {"ETag": '"2"'})
    assert content(remote(), f"{web.url}/f") == b"new"
    assert (Path(first.directory) / "f").read_bytes() == b"old", "a build that uses it keeps it"


def test_what_no_build_uses_is_removed_when_it_changes(web: Site, remote: Make) -> None:
    for number in range(4):
        web.pages["/f"] = Page(str(number).encode(), {"ETag": f'"{number}"'})
        build = remote()
        directory = Path(build.fetch(f"{web.url}/f", "f").directory)
        build.close()
    assert len([name for name in os.listdir(directory.parent) if name.startswith("data-")]) <= 2


def test_fresh_asks_for_all_of_it(web: Site, remote: Make) -> None:
    web.pages["/f"] = Page(DATA, {"ETag": '"a"'})
    content(remote(), f"{web.url}/f")
    assert content(remote(fresh=True), f"{web.url}/f") == DATA
    assert web.asked("/f") == ["GET", "GET"]


def test_with_a_checksum_what_is_here_needs_no_request(web: Site, remote: Make) -> None:
    web.pages["/f"] = Page(DATA)
    assert content(remote(), f"{web.url}/f", SUM) == DATA
    assert content(remote(), f"{web.url}/f", SUM) == DATA
    wide = "sha512:" + hashlib.sha512(DATA).hexdigest()
    assert content(remote(), f"{web.url}/f", wide) == DATA
    assert web.asked("/f") == ["GET"]


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_wrong_checksum_shows_both_and_keeps_nothing(web: Site, remote: Make, algorithm: str) -> None:
    web.pages["/f"] = Page(DATA)
    found = f"{algorithm}:{hashlib.new(algorithm, DATA).hexdigest()}"
    wanted = f"{algorithm}:{hashlib.new(algorithm, b'').hexdigest()}"
    build = remote()
    with pytest.raises(BuildError) as error:
        build.fetch(f"{web.url}/f", "f", wanted)
    assert found in error.value.what and wanted in error.value.what
    assert build.known(f"{web.url}/f", "f", SUM) is None


@pytest.mark.parametrize("headers", [{"ETag": '"a"'}, {"Last-Modified": MODIFIED}])
def test_a_broken_transfer_is_resumed(web: Site, remote: Make, headers: dict[str, str]) -> None:
    web.pages["/f"] = Page(DATA, headers, cut=[1000, 0, 50_000], ranges=True)
    assert content(remote(), f"{web.url}/f", SUM) == DATA
    ranges = [fields.get("range") for _, _, fields in web.seen]
    assert ranges[0] is None and ranges[-1] == "bytes=51000-" and len(ranges) == 4


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}, {"ETag": '"a"', "Accept-Ranges": "none"}])
def test_without_a_firm_tag_a_broken_transfer_begins_again(
    web: Site, remote: Make, headers: dict[str, str]
) -> None:
    web.pages["/f"] = Page(DATA, headers, cut=[1000], ranges=True)
    assert content(remote(), f"{web.url}/f", SUM) == DATA
    assert all("range" not in fields for _, _, fields in web.seen)


def test_a_file_that_changed_meanwhile_is_fetched_from_the_beginning(web: Site, remote: Make) -> None:
    web.pages["/f"] = page = Page(b"a" * 1000, {"ETag": '"1"'}, cut=[500], ranges=True)

    def changed(got: int, total: int | None) -> None:
        page.body, page.headers = b"b" * 1000, {"ETag": '"2"'}

    found = remote().fetch(f"{web.url}/f", "f", "", changed)
    assert (Path(found.directory) / "f").read_bytes() == b"b" * 1000


@pytest.mark.parametrize(
    ("headers", "cut", "most"),
    [
        ({"ETag": '"a"'}, [10] + [0] * 20, http_body._TRIES + 1),
        ({}, [10] * 200, http_body._TRIES + 1),
        ({"ETag": '"a"'}, [1] * 200, http_body._MOST_TRIES),
    ],
    ids=["nothing more", "the same again", "a byte each time"],
)
def test_a_server_that_always_breaks_off_is_an_error(
    web: Site, remote: Make, headers: dict[str, str], cut: list[int], most: int
) -> None:
    web.pages["/f"] = Page(DATA, headers, cut=cut, ranges=True)
    with pytest.raises(BuildError, match=r"/f can't be fetched: .*closed connection"):
        remote().fetch(f"{web.url}/f", "f")
    assert len(web.seen) <= most


def test_a_file_that_is_compressed_for_the_way_is_uncompressed(web: Site, remote: Make) -> None:
    web.pages["/f"] = Page(gzip.compress(DATA), {"Content-Encoding": "gzip"})
    assert content(remote(), f"{web.url}/f", SUM) == DATA


def test_damaged_and_cut_off_compression_are_errors(web: Site, remote: Make) -> None:
    web.pages["/f"] = Page(b"no gzip", {"Content-Encoding": "gzip"})
    web.pages["/g"] = Page(gzip.compress(DATA)[:-20], {"Content-Encoding": "gzip"})
    with pytest.raises(BuildError, match="damaged: it is not gzip"):
        remote().fetch(f"{web.url}/f", "f")
    with pytest.raises(BuildError, match="damaged: its gzip data is cut off"):
        remote().fetch(f"{web.url}/g", "f")


@pytest.mark.parametrize(
    ("status", "words"), [(404, "404 Not Found"), (410, "410"), (301, "301"), (400, "400")]
)
def test_a_status_is_an_error(web: Site, remote: Make, status: int, words: str) -> None:
    web.pages["/f"] = Page(b"no", status=status)
    with pytest.raises(BuildError) as error:
        remote().fetch(f"{web.url}/f?token=secret", "f")
    assert words in error.value.what and "secret" not in str(error.value)


def test_a_server_that_is_not_there_is_an_error(remote: Make) -> None:
    with pytest.raises(BuildError, match=r"http://127.0.0.1:9/f can't be fetched: "):
        remote().fetch("http://127.0.0.1:9/f", "f")


def test_a_redirect_is_followed_and_the_name_stays(web: Site, remote: Make) -> None:
    web.pages["/a"] = Page(status=302, headers={"Location": "b?x=1#y"})
    web.pages["/b"] = Page(DATA)
    assert content(remote(), f"{web.url}/a") == DATA


def test_redirects_end(web: Site, remote: Make) -> None:
    web.pages["/a"] = Page(status=302, headers={"Location": "/a"})
    with pytest.raises(BuildError, match="redirects more than 10 times"):
        remote().fetch(f"{web.url}/a", "f")


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "ftp://h/x", "http://[", "http://169.254.169.254/latest"]
)
def test_a_redirect_to_a_strange_place_is_refused(web: Site, remote: Make, to: str) -> None:
    web.pages["/a"] = Page(status=302, headers={"Location": to})
    with pytest.raises(BuildError, match="refused"):
        remote().fetch(f"{web.url}/a", "f")


def test_a_proxy_of_the_environment_is_used_unless_a_host_is_excepted(
    web: Site, remote: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", web.url)
    monkeypatch.setenv("no_proxy", "near.invalid")
    web.pages["http://far.invalid:80/f"] = Page(DATA)
    assert content(remote(), "http://far.invalid/f") == DATA
    with pytest.raises(BuildError, match=r"near\.invalid/f can't be fetched"):
        remote().fetch("http://near.invalid/f", "f")
    assert [path for _, path, _ in web.seen] == ["http://far.invalid:80/f"]


def test_a_server_behind_a_proxy_may_not_lead_to_this_machine(
    web: Site, remote: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", web.url)
    web.pages["http://far.invalid:80/f"] = Page(status=302, headers={"Location": f"{web.url}/secret"})
    web.pages["/secret"] = Page(b"secret")
    with pytest.raises(BuildError, match="this machine"):
        remote().fetch("http://far.invalid/f", "f")
    assert len(web.seen) == 1


SECRETS = {
    "HTTP_AUTH_TOKEN_127.0.0.1": "Bearer word",
    "HTTP_AUTH_HEADER_127.0.0.1": "word",
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_for_a_host_is_sent_there(web: Site, remote: Make, name: str) -> None:
    web.pages["/f"] = Page(DATA, needs=("authorization", SECRETS[name]))
    with pytest.raises(BuildError) as error:
        remote().fetch(f"{web.url}/f", "f")
    assert "401" in error.value.what and name in error.value.hint
    assert content(remote(secrets={name: Secret(b"word\n")}), f"{web.url}/f") == DATA


def test_a_login_does_not_follow_a_redirect_elsewhere(web: Site, remote: Make) -> None:
    place = web.url.replace("127.0.0.1", "localhost")
    web.pages["/a"] = Page(status=302, headers={"Location": f"{place}/b"})
    web.pages["/b"] = Page(b"x")
    remote().fetch(web.url.replace("//", "//me:pw@") + "/a", "f")
    assert [("authorization" in fields) for _, _, fields in web.seen] == [True, False]


def test_a_secret_of_two_lines_is_refused(web: Site, remote: Make) -> None:
    with pytest.raises(BuildError, match=r"HTTP_AUTH_TOKEN_127.0.0.1 is not one line"):
        remote(secrets={"HTTP_AUTH_TOKEN_127.0.0.1": Secret(b"a\r\nX: y")}).fetch(f"{web.url}/f", "f")


def test_the_size_is_limited(web: Site, remote: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x" * 65536)
        except OSError:
            handler.close_connection = True

    monkeypatch.setenv("BUILDFRONT_FETCH_LIMIT", "1m")
    web.pages["/f"] = endless
    web.pages["/g"] = Page(b"x" * ((1 << 20) + 1))
    for name in "fg":
        with pytest.raises(BuildError) as error:
            remote().fetch(f"{web.url}/{name}", "f")
        assert "larger than 1.05MB" in error.value.what and "BUILDFRONT_FETCH_LIMIT" in error.value.hint


def test_a_small_answer_may_not_grow_beyond_the_limit(
    web: Site, remote: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILDFRONT_FETCH_LIMIT", "1m")
    web.pages["/f"] = Page(gzip.compress(b"\0" * (64 << 20)), {"Content-Encoding": "gzip"})
    with pytest.raises(BuildError, match="larger than"):
        remote().fetch(f"{web.url}/f", "f")


def test_the_time_is_limited(web: Site, remote: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDFRONT_FETCH_TIMEOUT", "1ms")
    moments = iter(range(1000))
    monkeypatch.setattr("buildfront.context.http_body.time.monotonic", lambda: float(next(moments)))
    web.pages["/f"] = Page(DATA)
    with pytest.raises(BuildError) as error:
        remote().fetch(f"{web.url}/f", "f")
    assert "takes longer than" in error.value.what and "BUILDFRONT_FETCH_TIMEOUT" in error.value.hint


def test_what_was_begun_and_failed_leaves_nothing(web: Site, remote: Make, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(got: int, total: int | None) -> None:
        raise Stop

    web.pages["/f"] = Page(DATA)
    with pytest.raises(Stop):
        remote().fetch(f"{web.url}/f", "f", "", stop)
    left = [
        path
        for path in (tmp_path / "store" / "downloads").rglob("*")
        if path.name.startswith(("part", "data"))
    ]
    assert left == []


def test_what_a_killed_builder_left_is_removed(web: Site, remote: Make) -> None:
    web.pages["/f"] = Page(DATA)
    place = Path(remote().fetch(f"{web.url}/f", "f").directory).parent
    (place / "part-data").mkdir()
    (place / "part-data" / "f").write_text("half")
    (place / "part-record").write_text("{")
    assert content(remote(), f"{web.url}/f") == DATA
    assert not [name for name in os.listdir(place) if name.startswith("part")]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"sha256": 1}', '{"sha256": "../../x", "mtime": 0, "size": 1}', "[" * 100_000]
)
def test_a_damaged_record_counts_as_none(web: Site, remote: Make, text: str) -> None:
    web.pages["/f"] = Page(DATA, {"ETag": '"a"'})
    place = Path(remote().fetch(f"{web.url}/f", "f").directory).parent
    (place / "record.json").write_text(text)
    assert content(remote(), f"{web.url}/f") == DATA


def test_a_kept_file_that_was_cut_is_fetched_again(web: Site, remote: Make) -> None:
    web.pages["/f"] = Page(DATA, {"ETag": '"a"'})
    found = Path(remote().fetch(f"{web.url}/f", "f").directory) / "f"
    os.truncate(found, 3)
    assert content(remote(), f"{web.url}/f") == DATA
    assert web.asked("/f") == ["GET", "GET"]


def test_two_builds_fetch_one_after_the_other(web: Site, remote: Make) -> None:
    web.pages["/f"] = Page(DATA, {"ETag": '"a"'})
    results: list[bytes] = []
    builds = [remote() for _ in range(4)]
    threads = [
        threading.Thread(target=lambda b=b: results.append(content(b, f"{web.url}/f"))) for b in builds
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [DATA] * 4
