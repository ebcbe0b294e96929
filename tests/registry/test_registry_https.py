"""Registries with https, at addresses of their own: a network namespace has public, private and link-local ones."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from strangers import Image, Reply, Stranger, basic, dumps, serving

from buildfront.errors import BuildError
from buildfront.web import http
from buildfront.web.http import Http, proxy_for, tls_context
from buildfront.web.urls import Where, parse

# of documentation (RFC 5737), which nobody routes
PUBLIC, OTHER, PRIVATE, LINK_LOCAL = "203.0.113.5", "198.51.100.7", "10.9.8.7", "169.254.169.254"
NAMES = ["localhost", PUBLIC, OTHER, PRIVATE, LINK_LOCAL, "127.0.0.1"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> tuple[Path, Path]:
    """A certificate of our own authority for all names, and one that it has not signed."""
    out = []
    for kind in ("good", "other"):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
        now = datetime.datetime.now(datetime.UTC)
        alternatives: list[x509.GeneralName] = [x509.DNSName("localhost")]
        alternatives += [x509.IPAddress(ipaddress.ip_address(text)) for text in NAMES[1:]]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        path = tmp_path_factory.mktemp("tls") / f"{kind}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        out.append(path)
    return out[0], out[1]


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


# Inside the namespace: servers at SOURCE and TARGET; what comes of a pull, and what the target was asked.
INSIDE = """
import subprocess, sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
for command in ("ip link set lo up", *(f"ip addr add {a}/32 dev lo" for a in sys.argv[3].split(","))):
    subprocess.run(command.split(), check=True)
from test_registry_https import scene
scene(Path(sys.argv[2]), *sys.argv[4:])
"""


def scene(place: Path, case: str, source: str, target: str, scheme: str) -> None:
    """Run in a namespace of its own. Prints "pulled" or the error, then what the second server was asked."""
    from buildfront.image_transfer import pull
    from buildfront.store.image_store import Store

    http.BACKOFF = 0.0
    context = server_context(place / "good.pem")
    os.environ["SSL_CERT_FILE"] = str(place / "good.pem")
    os.environ["HOME"] = str(place)
    image = Image()
    answers = image.answers()
    second = Stranger(serving(answers), target, tls=context if scheme == "https" else None)
    host = "localhost" if case == "name" else target
    url = f"{scheme}://{host}:{second.port}"

    def handle(asked):
        if case == "realm":
            if asked.headers.get("authorization") == "Bearer good":
                return serving(answers)(asked)
            return Reply(401, {"WWW-Authenticate": f'Bearer realm="{url}/token"'})
        return Reply(307, {"Location": url + asked.path})

    if case == "realm":
        second.handler = lambda _: Reply(body=dumps({"token": "good"}))
    first = Stranger(handle, source, tls=context)
    (place / ".docker").mkdir(exist_ok=True)
    (place / ".docker/config.json").write_bytes(dumps({"auths": {first.name: {"auth": basic()}}}))
    with Store(str(place / "store")) as store:
        try:
            pull(store, f"{first.name}/app")
            print("pulled")
        except BuildError as error:
            print(error)
    print(len(second.asked), *set(second.sent("authorization")))


WAYS = [
    ("redirect", PUBLIC, OTHER, "https", "pulled"),
    ("redirect", PUBLIC, PUBLIC, "https", "pulled"),
    ("redirect", PRIVATE, PRIVATE, "https", "pulled"),
    ("redirect", PRIVATE, OTHER, "https", "pulled"),
    ("realm", PUBLIC, OTHER, "https", "pulled"),
    ("redirect", PUBLIC, PRIVATE, "https", "is a private address"),
    ("redirect", PUBLIC, LINK_LOCAL, "https", "is a link-local address"),
    ("redirect", PRIVATE, LINK_LOCAL, "https", "is a link-local address"),
    ("redirect", PUBLIC, "127.0.0.1", "https", "is this machine"),
    ("redirect", PRIVATE, "127.0.0.1", "https", "is this machine"),
    ("name", PUBLIC, "127.0.0.1", "https", "is this machine"),
    ("redirect", PUBLIC, OTHER, "http", "from https to http"),
    ("redirect", PUBLIC, "127.0.0.1", "http", "from https to http"),
    ("realm", PUBLIC, "127.0.0.1", "https", "is this machine"),
    ("realm", PUBLIC, "127.0.0.1", "http", "from https to http"),
    ("realm", PUBLIC, OTHER, "http", "from https to http"),
    ("realm", PUBLIC, LINK_LOCAL, "https", "is a link-local address"),
    ("realm", PUBLIC, PRIVATE, "https", "is a private address"),
]


@pytest.mark.root
@pytest.mark.parametrize(("case", "source", "target", "scheme", "words"), WAYS)
def test_where_a_registry_may_lead(authority, tmp_path, case, source, target, scheme, words) -> None:
    (tmp_path / "good.pem").write_bytes(authority[0].read_bytes())
    addresses = ",".join({source, target} - {"127.0.0.1"})
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [
            "unshare",
            "-n",
            sys.executable,
            "-c",
            INSIDE,
            here,
            str(tmp_path),
            addresses,
            case,
            source,
            target,
            scheme,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, asked = done.stdout.splitlines()
    assert words in said
    if words != "pulled":
        assert asked == "0"
    elif case == "realm":
        assert asked == "1 Basic " + basic()
    else:
        assert asked.split()[1:] == [] and asked != "0"


@pytest.fixture
def trusting(authority, monkeypatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))


def test_a_certificate_that_nobody_vouches_for(serve, trusting, authority) -> None:
    good = serve(lambda _: Reply(body=b"x"), tls=server_context(authority[0]))
    bad = serve(lambda _: Reply(body=b"x"), tls=server_context(authority[1]))
    client = Http()
    response = client.exchange("GET", parse(f"https://localhost:{good.port}"), {}, reach=None)
    assert (response.read(10, "it"), response.where) == (b"x", Where.LOOPBACK)
    with pytest.raises(BuildError, match=r"certificate of localhost is not trusted: .*") as error:
        client.exchange("GET", parse(f"https://localhost:{bad.port}"), {}, reach=None)
    assert "SSL_CERT_FILE" in error.value.hint
    with pytest.raises(BuildError, match=r"certificate of 127.0.0.2 is not trusted"):
        other = serve(lambda _: Reply(), "127.0.0.2", tls=server_context(authority[0]))
        client.exchange("GET", parse(other.url), {}, reach=None)
    client.close()
    assert bad.asked == []


def test_what_one_may_do_is_not_lent_to_another(serve, trusting, authority) -> None:
    """A connection that the user's own choice has opened is not used for a request that a stranger leads there."""
    server = serve(lambda _: Reply(body=b""), tls=server_context(authority[0]))
    url = parse(f"https://localhost:{server.port}")
    client = Http()
    client.exchange("GET", url, {}, reach=None).finish()
    for reach in (Where.PUBLIC, Where.PRIVATE, Where.LINK_LOCAL):
        with pytest.raises(BuildError, match="is this machine"):
            client.exchange("GET", url, {}, reach=reach)
    client.exchange("GET", url, {}, reach=Where.LOOPBACK).finish()
    client.close()
    assert len(server.asked) == 2


def test_a_name_is_judged_by_the_address_that_is_connected_to(
    serve, trusting, authority, monkeypatch
) -> None:
    """A name server that answers otherwise the second time (DNS rebinding) is asked once."""
    import socket

    server = serve(lambda _: Reply(body=b""), tls=server_context(authority[0]))
    answers = iter(["203.0.113.9", "127.0.0.1"])
    asked = []

    def getaddrinfo(host, port, *_, **__):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    connected = []
    real = socket.socket.connect

    def connect(self, address):
        connected.append(address)
        raise OSError("not from here")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", connect)
    client = Http()
    url = parse(f"https://rebind.example:{server.port}")
    with pytest.raises(http.Broken, match="not from here"):
        client.exchange("GET", url, {}, reach=Where.PUBLIC)
    assert (asked, connected) == (["rebind.example"], [("203.0.113.9", server.port)])
    with pytest.raises(BuildError, match=r"rebind.example.*is this machine"):
        client.exchange("GET", url, {}, reach=Where.PUBLIC)
    assert len(connected) == 1
    monkeypatch.setattr(socket.socket, "connect", real)
    client.close()


def test_certificates_that_are_none(tmp_path, monkeypatch) -> None:
    for path in (tmp_path / "missing.pem", tmp_path / "empty.pem", tmp_path):
        if path.name == "empty.pem":
            path.write_text("nothing")
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with pytest.raises(BuildError, match=r"certificates of .* can't be read") as error:
            tls_context()
        assert str(path) in error.value.what
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert tls_context().verify_mode == ssl.CERT_REQUIRED
    monkeypatch.delenv("SSL_CERT_DIR")
    assert tls_context().get_ca_certs()


# proxies


@pytest.mark.parametrize(
    ("env", "url", "proxy"),
    [
        ({}, "https://x", ""),
        ({"HTTPS_PROXY": "http://p:1"}, "https://x", "http://p:1"),
        ({"https_proxy": "p:1"}, "https://x", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "https://x", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://x", ""),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x,y"}, "https://x", ""),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".z"}, "https://a.z", ""),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "https://x", ""),
        ({"ALL_PROXY": "http://p:1"}, "http://127.0.0.1:5000", ""),
        ({"ALL_PROXY": "http://p:1"}, "http://localhost:5000", ""),
        ({"ALL_PROXY": "http://p:1"}, "https://[::1]:5000", ""),
    ],
)
def test_which_proxy(monkeypatch, env, url, proxy) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(parse(url)) == proxy


def test_a_proxy_is_asked_for_what_is_elsewhere_and_leads_nowhere_near(serve, trusting, monkeypatch) -> None:
    proxy = serve(lambda _: Reply(403, reason="Not\x1bhere"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass@127.0.0.1:{proxy.port}")
    client = Http()
    with pytest.raises(http.Broken, match="403") as error:
        client.exchange("GET", parse("https://registry.example/v2/"), {"Authorization": "x"}, reach=None)
    assert str(error.value).isprintable()
    assert [(asked.method, asked.path) for asked in proxy.asked] == [("CONNECT", "registry.example:443")]
    assert proxy.sent("authorization") == [] and proxy.sent("proxy-authorization") == [
        "Basic " + basic("user", "pass")
    ]
    with pytest.raises(BuildError, match="link-local"):
        client.exchange("GET", parse("https://169.254.169.254/"), {}, reach=Where.PUBLIC)
    client.close()
    assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    "proxy", ["ftp://p", "http://", "http://p:x", "http://[::1", "socks5://user:secret@p:1", "http://é"]
)
def test_proxies_that_are_none(trusting, monkeypatch, proxy) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(BuildError, match=r"is not an http, https or socks5 URL|socksio is missing") as error:
        Http().exchange("GET", parse("https://x"), {}, reach=None)
    assert "secret" not in str(error.value)
