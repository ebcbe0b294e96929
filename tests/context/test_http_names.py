"""What a URL says by itself: what is requested, what is shown, and the name of the file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.context.downloaded import file_name
from buildfront.context.fetch_limits import FetchLimits, fetch_limits
from buildfront.context.http_source import read_url
from buildfront.errors import BuildError

NAMES = {
    "http://h/a/file.txt": "file.txt",
    "http://h/file.txt?v=1&x=/y": "file.txt",
    "http://h/file.txt#/x": "file.txt",
    "http://h/d/": "d",
    "http://h/": "__unnamed__",
    "http://h": "__unnamed__",
    "http://h?x=/y": "__unnamed__",
    "http://h/a%20b": "a b",
    "http://h/a%2Fb": "b",
    "http://h/%2e%2e": "download",
    "http://h/a/..": "download",
    "http://h/x%00y": "download",
    "http://h/x%0ay": "download",
    "http://h/" + "n" * 256: "download",
    "http://h/ä": "ä",
    "http://h/%ff": "\udcff",
}


@pytest.mark.parametrize("url", NAMES)
def test_the_name_is_the_last_part_of_the_path(url: str) -> None:
    assert file_name(url) == NAMES[url]


@given(st.text(max_size=80))
def test_any_text_gives_a_name_that_stays_in_its_directory(text: str) -> None:
    name = file_name("http://h/" + text)
    assert name not in ("", ".", "..") and "/" not in name and "\0" not in name


REQUESTS = {
    "http://h/a b": "http://h/a%20b",
    "http://h/ä?q=ü": "http://h/%C3%A4?q=%C3%BC",
    "http://h/a%20b#part": "http://h/a%20b",
    "https://h:8443?x": "https://h:8443/?x",
    "http://bücher.example/x": "http://xn--bcher-kva.example/x",
}


@pytest.mark.parametrize("url", REQUESTS)
def test_what_is_not_encoded_is_encoded(url: str) -> None:
    assert str(read_url(url).url) == REQUESTS[url]


def test_user_and_password_become_a_login_and_are_not_shown() -> None:
    source = read_url("http://me:s%20cret@h/x?token=t")
    assert source.login == "Basic bWU6cyBjcmV0"
    assert source.shown == "http://h/x"


@pytest.mark.parametrize(
    "url", ["http://", "http://h:99999/x", "http://0x7f.1/x", "http://a b/x", "http://é..x/"]
)
def test_what_is_no_url_is_an_error(url: str) -> None:
    with pytest.raises(BuildError, match="is refused"):
        read_url(url)


def test_limits_come_from_the_environment() -> None:
    assert fetch_limits({}) == FetchLimits()
    found = fetch_limits({"BUILDFRONT_FETCH_TIMEOUT": "1m30s", "BUILDFRONT_FETCH_LIMIT": "2k"})
    assert found == FetchLimits(90.0, 2048)


@pytest.mark.parametrize("name", ["BUILDFRONT_FETCH_TIMEOUT", "BUILDFRONT_FETCH_LIMIT"])
def test_a_wrong_limit_names_its_variable(name: str) -> None:
    with pytest.raises(BuildError, match=name):
        fetch_limits({name: "much"})
