"""Which redirects are followed, by how far away the servers are; answers are made up here."""

from __future__ import annotations

from typing import Any

import pytest

from buildfront.errors import BuildError
from buildfront.web.http import Http
from buildfront.web.redirects import follow
from buildfront.web.urls import Where, check_addresses, parse


class Answer:
    """An answer of a server at some distance; with ``to`` a redirect."""

    def __init__(self, where: Where, to: str = "") -> None:
        self.where = where
        self.to = to
        self.status = 302 if to else 200

    def header(self, name: str) -> str:
        return self.to if name == "location" else ""

    def finish(self) -> None:
        pass


class Net:
    """Stands for Http: answers by host. ``sent`` are host, headers and reach of each request."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.sent: list[tuple[str, dict[str, str], Where | None]] = []

    def exchange(self, method: str, url: Any, headers: dict[str, str], *, reach: Where | None) -> Answer:
        self.sent.append((url.host, headers, reach))
        return self.answers[url.host]

    persist = staticmethod(lambda attempt: attempt())


def go(net: Net, url: str, **options: Any) -> Any:
    return follow(net, "GET", parse(url), {"A": "1"}, {"Authorization": "x"}, **options)  # type: ignore[arg-type]


def test_a_public_server_may_not_lead_to_a_private_address() -> None:
    for near in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "localhost", "[::ffff:7f00:1]"):
        net = Net({"far.example": Answer(Where.PUBLIC, f"https://{near}/x")})
        with pytest.raises(BuildError, match=r"a redirect to .* is refused"):
            go(net, "https://far.example/x")
        assert len(net.sent) == 1


def test_the_farthest_server_of_a_chain_counts() -> None:
    net = Net(
        {
            "127.0.0.1": Answer(Where.LOOPBACK, "http://far.example/"),
            "far.example": Answer(Where.PUBLIC, "http://127.0.0.1/"),
        }
    )
    with pytest.raises(BuildError, match="is this machine"):
        go(net, "http://127.0.0.1/x")
    assert [reach for _, _, reach in net.sent] == [None, Where.LOOPBACK]


def test_a_private_server_may_lead_to_a_public_one_by_http() -> None:
    net = Net({"10.0.0.1": Answer(Where.PRIVATE, "http://far.example/"), "far.example": Answer(Where.PUBLIC)})
    assert go(net, "http://10.0.0.1/x").status == 200
    assert [host for host, _, _ in net.sent] == ["10.0.0.1", "far.example"]


def test_the_login_stays_at_its_origin() -> None:
    net = Net({"a.example": Answer(Where.PUBLIC, "https://b.example/"), "b.example": Answer(Where.PUBLIC)})
    go(net, "https://a.example/")
    assert [headers for _, headers, _ in net.sent] == [{"A": "1", "Authorization": "x"}, {"A": "1"}]


def test_https_leads_to_http_only_if_the_content_is_known() -> None:
    def net() -> Net:
        return Net(
            {"a.example": Answer(Where.PUBLIC, "http://b.example/"), "b.example": Answer(Where.PUBLIC)}
        )

    with pytest.raises(BuildError, match="from https to http"):
        go(net(), "https://a.example/")
    assert go(net(), "https://a.example/", downgrade=True).status == 200
    near = Net({"a.example": Answer(Where.PUBLIC, "http://127.0.0.1/")})
    with pytest.raises(BuildError, match="this machine"):
        go(near, "https://a.example/", downgrade=True)


def test_plain_http_may_leave_the_machine_where_that_is_allowed() -> None:
    url = parse("http://name.example")
    assert check_addresses(None, url, ["8.8.8.8", "10.0.0.1"], plain=True) is None
    refusal = check_addresses(Where.PUBLIC, url, ["10.0.0.1"], plain=True)
    assert refusal is not None and "private address" in refusal.what


def test_a_connection_is_refused_when_a_name_means_a_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "buildfront.web.connect.look_up", lambda host, port, cut: [(2, "10.0.0.1", ("10.0.0.1", port))]
    )
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    http = Http(plain=True)
    try:
        with pytest.raises(BuildError, match=r"10\.0\.0\.1 is a private address"):
            http.exchange("GET", parse("http://inside.example/"), {}, reach=Where.PUBLIC)
    finally:
        http.close()
