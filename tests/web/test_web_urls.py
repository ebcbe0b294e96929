"""URLs and addresses that a registry names: which are read, which are refused, and what is near what."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buildfront.errors import BuildError
from buildfront.web.urls import Url, Where, check_addresses, check_redirect, join, literal, parse, where


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://x", Url("https", "x", 443, "/")),
        ("HTTPS://Reg.Example:8443/V2/?A=b", Url("https", "reg.example", 8443, "/V2/?A=b")),
        ("http://127.0.0.1:5000/a?b?c", Url("http", "127.0.0.1", 5000, "/a?b?c")),
        ("https://[2001:DB8:0::1]/", Url("https", "2001:db8::1", 443, "/")),
        ("https://x?y", Url("https", "x", 443, "/?y")),
        ("https://a_b.1x/", Url("https", "a_b.1x", 443, "/")),
    ],
)
def test_urls_are_taken_apart(text, url) -> None:
    assert parse(text) == url
    assert parse(str(url)) == url


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "/x", "//x/y", "https:", "https:/x", "https:x", "https://", "https:///x", "https://:443/"),
        *("ftp://x/", "file:///x", "gopher://x/", "data:,x", "javascript:1", "unix:///run/x", "httpss://x/"),
        *("https://u@x/", "https://u:p@x/", "https://x@127.0.0.1:5/", "https://x\\@y/", "https://x\\y/"),
        *(
            "https://x:0/",
            "https://x:65536/",
            "https://x:-1/",
            "https://x:1e3/",
            "https://x:5000000/",
            "https://x:/",
        ),
        *("https://x/#", "https://x#y", "https://x/ y", "https://x/\t", "https://x/\r\nA: b", "https://x/\0"),
        *("https://x/\x7f", "https://é/", "https://１.2.3.4/", "https://x/\u202e", "https://x/\ud800"),
        *("https://a..b/", "https://.a/", "https://a./", f"https://{'a' * 64}.b/", f"https://{'a.' * 127}b/"),
        *(
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
        ),
        *(
            "https://1.2.3.4.5/",
            "https://256.1.1.1/",
            "https://a.1/",
            "https://1.0x/",
            "https://0/",
            "https://01.2.3.4/",
        ),
        *(
            "https://[::1/",
            "https://::1/",
            "https://[]/",
            "https://[::g]/",
            "https://[fe80::1%25eth0]/",
            "https://[v1.x]/",
        ),
        *("https://[1.2.3.4]/", "https://[::1]x/", "https://x/" + "y" * 9000),
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_urls_that_are_refused(text) -> None:
    with pytest.raises(BuildError, match=r"^the place is refused: ") as error:
        parse(text, "the place")
    assert error.value.what.isprintable()


def test_what_is_signed_is_in_no_message() -> None:
    for text in ("ftp://x/?signature=s", "https://x/?signature=s#f", "//[?signature=s"):
        with pytest.raises(BuildError) as error:
            join(parse("https://y"), text, "the place")
        assert "signature" not in error.value.what


@pytest.mark.parametrize(
    ("location", "out"),
    [
        ("/v2/u", "https://r:5/v2/u"),
        ("u?x=1", "https://r:5/a/u?x=1"),
        ("?x", "https://r:5/a/b?x"),
        ("../../../u", "https://r:5/u"),
        ("//other/u", "https://other/u"),
        ("https://other:7/u", "https://other:7/u"),
        ("http://other", "http://other/"),
    ],
)
def test_locations_are_relative_to_where_they_came_from(location, out) -> None:
    assert str(join(parse("https://r:5/a/b?c"), location, "x")) == out


@given(
    st.text(
        st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("/@:?#[]\\.%\t\n\0é"),
        max_size=60,
    )
)
@example("//[")
@example("https://[::1")
def test_any_location_is_a_url_or_an_error(text) -> None:
    try:
        url = join(parse("https://r/a"), text, "x")
    except BuildError as error:
        assert error.what.isprintable()
        return
    assert parse(str(url)) == url
    assert url.scheme in ("http", "https") and 0 < url.port < 65536 and url.target.startswith("/")


NEAR = {
    Where.LOOPBACK: "127.0.0.1 127.255.0.1 0.0.0.0 0.1.2.3 ::1 :: ::ffff:127.0.0.1 ::ffff:0.0.0.0 ::7f00:1"
    " 64:ff9b::127.0.0.1 2002:7f00:1:: ::ffff:0:127.0.0.1 2001:0:1:2:3:4:80ff:fffe ::1%lo",
    Where.LINK_LOCAL: "169.254.169.254 169.254.0.1 fe80::1 febf::1 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe"
    " fe80::1%eth0 fd00:ec2::254 100.100.100.200 192.0.0.192 168.63.129.16 2002:a9fe:a9fe::1",
    Where.PRIVATE: "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 fc00::1 fdff::1 fec0::1 ::ffff:10.0.0.1",
    Where.PUBLIC: "8.8.8.8 172.32.0.1 1.1.1.1 2606:4700::1 203.0.113.1 198.18.0.1 2001:db8::1 ::ffff:8.8.8.8",
    Where.NOWHERE: "224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 ff02::1 ::ffff:224.0.0.1",
}


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in NEAR.items() for text in texts.split()]
)
def test_how_far_away_an_address_is(kind, text) -> None:
    assert where(text) == kind


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "64:ff9b::", "::ffff:0:0:0"]))
def test_an_address_in_ipv6_clothes_is_as_near(four, prefix) -> None:
    six = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(four))
    assert where(str(six)) == where(str(four))


@given(st.ip_addresses(v=6))
def test_every_address_is_somewhere(six) -> None:
    assert where(str(six)) in Where


# from where, to where: followed or not
ALLOWED = {
    (Where.LOOPBACK, Where.LOOPBACK),
    (Where.LOOPBACK, Where.PRIVATE),
    (Where.LOOPBACK, Where.PUBLIC),
    (Where.LINK_LOCAL, Where.LINK_LOCAL),
    (Where.LINK_LOCAL, Where.PRIVATE),
    (Where.LINK_LOCAL, Where.PUBLIC),
    (Where.PRIVATE, Where.PRIVATE),
    (Where.PRIVATE, Where.PUBLIC),
    (Where.PUBLIC, Where.PUBLIC),
}


@pytest.mark.parametrize("reach", [kind for kind in Where if kind != Where.NOWHERE])
@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in NEAR.items() for text in texts.split()]
)
def test_nobody_leads_us_nearer_than_they_are(reach, kind, text) -> None:
    to = Url("https", "name.example", 443, "/")
    refusal = check_redirect(parse("https://registry.example"), to, ["8.8.8.8", text], reach)
    assert (refusal is None) == ((reach, kind) in ALLOWED)
    if refusal is not None:
        assert "a redirect to name.example is refused" in refusal.what and text in refusal.what


@pytest.mark.parametrize(
    "host", ["localhost", "a.localhost", "127.0.0.1", "0.0.0.0", "[::1]", "[::ffff:7f00:1]"]
)
def test_names_of_this_machine_are_known_without_asking(host) -> None:
    refusal = check_redirect(parse("https://registry.example"), parse(f"https://{host}:8080/x"))
    assert refusal is not None and "this machine" in refusal.what
    assert (
        check_redirect(parse("http://127.0.0.1:5000"), parse(f"http://{host}:1/"), reach=Where.LOOPBACK)
        is None
    )


def test_https_leads_to_no_http() -> None:
    for to in ("http://registry.example", "http://other.example", "http://localhost"):
        refusal = check_redirect(parse("https://registry.example"), parse(to))
        assert refusal is not None and "from https to http://" in refusal.what


def test_plain_http_is_for_this_machine() -> None:
    url = parse("http://name.example")
    for reach in (None, Where.LOOPBACK, Where.PUBLIC):
        refusal = check_addresses(reach, url, ["8.8.8.8"])
        assert refusal is not None and "plain http is spoken to this machine only" in refusal.what
    assert check_addresses(None, url, ["127.0.0.1", "::1"]) is None
    assert check_addresses(None, url, ["127.0.0.1", "10.0.0.1"]) is not None


def test_what_the_user_asks_for_is_not_judged() -> None:
    for text in " ".join(NEAR.values()).split():
        assert check_addresses(None, parse("https://x"), [text]) is None


def test_literals() -> None:
    assert [
        literal(host) for host in ("localhost", "x.localhost", "::1", "1.2.3.4", "name", "localhost.x")
    ] == [
        *("127.0.0.1", "127.0.0.1", "::1", "1.2.3.4"),
        None,
        None,
    ]
