"""Credentials go to the origin that was asked, and to the token server that it named itself: to nobody else."""

from __future__ import annotations

import io
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from strangers import Asked, Image, Reply, Stranger, basic, digest, dumps, serving

from buildfront.errors import BuildError
from buildfront.image import reference
from buildfront.image_transfer import pull, push
from buildfront.registry.client import Repository

BLOB = b"some blob"
NAME = digest(BLOB)

# Each way in: what it sends first, and what is done with the repository.
ENTRIES: dict[str, tuple[str, str, Callable[[Repository], object]]] = {
    "manifest": ("GET", "/manifests/latest", lambda it: it.manifest("latest")),
    "blob": ("GET", "/blobs/" + NAME, lambda it: b"".join(it.blob(NAME))),
    "has_blob": ("HEAD", "/blobs/" + NAME, lambda it: it.has_blob(NAME)),
    "upload": ("POST", "/blobs/uploads/", lambda it: it.upload(NAME, len(BLOB), lambda: io.BytesIO(BLOB))),
    "put_blob": ("PUT", "/blobs/uploads/1", lambda it: it.upload(NAME, len(BLOB), lambda: io.BytesIO(BLOB))),
    "put_manifest": ("PUT", "/manifests/latest", lambda it: it.put_manifest("latest", b"{}", "a/b")),
}
WELL = {
    ("GET", "manifest"): Reply(body=b"{}"),
    ("GET", "blob"): Reply(body=BLOB),
    ("HEAD", "has_blob"): Reply(),
    ("POST", "upload"): Reply(202, {"Location": "/somewhere"}),
    ("PUT", "put_blob"): Reply(201),
    ("PUT", "put_manifest"): Reply(201),
}


class Scene:
    """A registry A that wants a login and leads one request elsewhere; a server B; a token server of A, one of B."""

    def __init__(self, serve: Callable[..., Stranger], kind: str, entry: str, host: str) -> None:
        self.kind = kind
        self.method, self.end, self.use = ENTRIES[entry]
        self.entry = entry
        self.b_says = "well"
        self.status = 307
        self.target = ""
        self.tokens = serve(lambda _: Reply(body=dumps({"token": "good"})))
        self.b_tokens = serve(lambda _: Reply(body=dumps({"token": "evil"})), host)
        self.a = serve(self.answer_a)
        self.b = serve(self.answer_b, host)

    def answer_a(self, asked: Asked) -> Reply:
        wanted = "Bearer good" if self.kind == "bearer" else "Basic " + basic()
        if asked.headers.get("authorization") != wanted:
            header = (
                "Basic realm=x" if self.kind == "basic" else f'Bearer realm="{self.tokens.url}/t",service="s"'
            )
            return Reply(401, {"WWW-Authenticate": header})
        if asked.method == self.method and asked.path.partition("?")[0].endswith(self.end):
            return Reply(self.status, {"Location": self.target or self.b.url + "/there"})
        return self.well(asked)

    def well(self, asked: Asked) -> Reply:
        if asked.method == "POST":
            return Reply(202, {"Location": "/v2/app/blobs/uploads/1"})
        return WELL.get((asked.method, self.entry)) or Reply(201 if asked.method == "PUT" else 200, body=b"")

    def answer_b(self, asked: Asked) -> Reply:
        if self.b_says == "back":
            return Reply(self.status, {"Location": f"{self.a.url}/v2/app/back"})
        challenges = {
            "basic": "Basic realm=x",
            "bearer": f'Bearer realm="{self.b_tokens.url}/t",service="s"',
            "a's": f'Bearer realm="{self.tokens.url}/t",service="s"',
        }
        if self.b_says in challenges:
            return Reply(401, {"WWW-Authenticate": challenges[self.b_says]})
        return self.well(asked)

    def run(self) -> None:
        with Repository(reference.parse(f"{self.a.name}/app"), push=True) as repository:
            self.use(repository)

    def check_b(self) -> None:
        assert self.b.asked, "nobody was led to B"
        assert self.b.sent("authorization") == [] and self.b.sent("cookie") == []
        assert self.b_tokens.asked == []
        assert len(self.tokens.asked) == (1 if self.kind == "bearer" else 0)


@pytest.fixture
def scene(serve, login, request):
    kind, entry, host = request.param
    made = Scene(serve, kind, entry, host)
    login(made.a.name)
    return made


EVERY = pytest.mark.parametrize(
    "scene",
    [
        (kind, entry, host)
        for kind in ("basic", "bearer")
        for entry in ENTRIES
        for host in ("127.0.0.1", "127.0.0.2")
    ],
    ids=" ".join,
    indirect=True,
)


@EVERY
def test_a_redirect_carries_no_credentials(scene) -> None:
    scene.run()
    scene.check_b()
    assert scene.a.sent("authorization")


@EVERY
@pytest.mark.parametrize("says", ["basic", "bearer", "a's"])
def test_a_401_after_a_redirect_is_an_error(scene, says) -> None:
    scene.b_says = says
    with pytest.raises(BuildError, match=r"sent us to .*, which wants a login") as error:
        scene.run()
    assert "the registry that was asked" in error.value.hint
    scene.check_b()


@EVERY
def test_a_way_back_to_the_registry_is_not_trusted(scene) -> None:
    """B would choose what is asked of A with the user's rights."""
    scene.b_says = "back"
    with pytest.raises(BuildError, match="which wants a login"):
        scene.run()
    scene.check_b()
    assert [asked.headers.get("authorization") for asked in scene.a.asked if "/back" in asked.path] == [None]


@EVERY
def test_a_redirect_within_the_registry_keeps_them(scene) -> None:
    scene.target = f"{scene.a.url}/v2/app/elsewhere"
    scene.run()
    found = [asked.headers.get("authorization") for asked in scene.a.asked if "elsewhere" in asked.path]
    assert found and None not in found
    assert scene.b.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_the_place_of_an_upload_elsewhere_is_given_no_token(serve, login, host) -> None:
    made = Scene(serve, "bearer", "upload", host)
    login(made.a.name)
    made.status = 202
    made.run()
    assert [asked.method for asked in made.b.asked] == ["PUT"]
    made.check_b()
    made.b_says = "bearer"
    with pytest.raises(BuildError, match="which wants a login"):
        made.run()
    assert made.b_tokens.asked == [] and made.b.sent("authorization") == []


def test_a_chain_of_redirects_ends_and_carries_nothing(serve, login) -> None:
    made = Scene(serve, "basic", "blob", "127.0.0.2")
    login(made.a.name)
    made.b.handler = lambda asked: Reply(302, {"Location": "again"})
    with pytest.raises(BuildError, match="round in circles"):
        made.run()
    assert made.b.sent("authorization") == []


def test_cookies_are_neither_kept_nor_given_on(serve) -> None:
    other = serve(lambda _: Reply(body=BLOB))
    registry = serve(lambda _: Reply(302, {"Location": other.url, "Set-Cookie": "session=1; Path=/"}))
    with Repository(reference.parse(f"{registry.name}/app")) as repository:
        for _ in range(2):
            assert b"".join(repository.blob(NAME)) == BLOB
    assert registry.sent("cookie") == other.sent("cookie") == []


def wants_token(realm: str, more: str = "", token: str = "good") -> Callable[[Asked], Reply]:
    well = serving(Image().answers())

    def handle(asked: Asked) -> Reply:
        if asked.headers.get("authorization") == f"Bearer {token}":
            return well(asked)
        return Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}"{more}'})

    return handle


def test_the_token_server_of_the_registry_gets_user_and_password(serve, login, store) -> None:
    tokens = serve(lambda _: Reply(body=dumps({"access_token": "good", "expires_in": "soon"})), "127.0.0.3")
    registry = serve(wants_token(tokens.url + "/t?a=b", ',service="s p"'))
    login(registry.name)
    pull(store, f"{registry.name}/app")
    assert tokens.sent("authorization") == ["Basic " + basic()]
    assert parse_qs(urlsplit(tokens.asked[0].path).query) == {
        "a": ["b"],
        "service": ["s p"],
        "scope": ["repository:app:pull"],
    }
    registry_saw = set(registry.sent("authorization"))
    assert registry_saw == {"Bearer good"}


def test_without_credentials_a_token_is_asked_for_as_nobody(serve, store) -> None:
    tokens = serve(lambda _: Reply(body=dumps({"token": "good"})))
    registry = serve(wants_token(tokens.url))
    pull(store, f"{registry.name}/app")
    assert tokens.sent("authorization") == []


@pytest.mark.parametrize(
    "scope", ["repository:other:pull", "repository:app:pull,push,delete", "registry:catalog:*", "*"]
)
def test_the_scope_is_ours_whatever_the_challenge_names(serve, login, store, scope) -> None:
    tokens = serve(lambda _: Reply(body=dumps({"token": "good"})))
    registry = serve(wants_token(tokens.url, f',scope="{scope}"'))
    login(registry.name)
    pull(store, f"{registry.name}/app")
    push(store, f"{registry.name}/app")
    scopes = [parse_qs(urlsplit(asked.path).query)["scope"] for asked in tokens.asked]
    assert scopes == [["repository:app:pull"], ["repository:app:pull,push"]]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_token_server_leads_to_no_other(serve, login, store, status) -> None:
    other = serve(lambda _: Reply(body=dumps({"token": "good"})))
    tokens = serve(lambda _: Reply(status, {"Location": other.url}))
    registry = serve(wants_token(tokens.url))
    login(registry.name)
    with pytest.raises(BuildError, match=r"leads to .* which is another server"):
        pull(store, f"{registry.name}/app")
    assert other.asked == []


def test_a_token_server_may_lead_on_itself(serve, login, store) -> None:
    def handle(asked: Asked) -> Reply:
        return Reply(body=dumps({"token": "good"})) if asked.path == "/b" else Reply(307, {"Location": "/b"})

    tokens = serve(handle)
    registry = serve(wants_token(tokens.url + "/a"))
    login(registry.name)
    pull(store, f"{registry.name}/app")
    assert tokens.sent("authorization") == ["Basic " + basic()] * 2
    tokens.handler = lambda _: Reply(302, {"Location": "/c"})
    with pytest.raises(BuildError, match="round in circles"):
        pull(store, f"{registry.name}/app")


@pytest.mark.parametrize(
    ("realm", "words"),
    [
        ("http://192.0.2.1/token", "plain http is spoken to this machine only"),
        ("http://registry.example/token", "can't be reached|plain http"),
        ("http://0x7f000001:1/token", "in a form that hides the address"),
        ("https://169.254.169.254/token", "link-local"),
        ("https://[fe80::1]/token", "link-local"),
        ("https://[::ffff:169.254.169.254]/token", "link-local"),
        ("https://224.0.0.1/", "no address of a server"),
        ("ftp://127.0.0.1/", "not an http or https URL"),
        ("file:///etc/passwd", "not an http or https URL"),
        ("/token", "not an http or https URL"),
        ("https://user:pass@127.0.0.1/", "is not SCHEME://HOST"),
        ("https://", "is not SCHEME://HOST"),
        ("https://x:99999/", "no port 99999"),
        ("https://x/#f", "is not SCHEME://HOST"),
        ("https://x/\\t", "characters that no URL has|not an http"),
        ("https://x/" + "a" * 9000, "longer than"),
    ],
)
def test_realms_that_are_none(serve, login, store, realm, words) -> None:
    registry = serve(wants_token(realm.replace("\\", "\\\\")))
    login(registry.name)
    with pytest.raises(BuildError, match=words):
        pull(store, f"{registry.name}/app")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b"\xff\xfe",
        b"{" * 100_000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"token": null}',
        b'{"token": ["good"]}',
        b'{"token": {"a": 1}}',
        b'{"token": 7}',
        b'{"token": true}',
        b'{"token": ""}',
        b'{"token": "a b"}',
        b'{"token": "good\\r\\nX-Other: 1"}',
        b'{"token": "\\ud800"}',
        b'{"token": "\\u0000"}',
        '{"token": "é"}'.encode(),
        b'{"token": NaN}',
        b'{"token": ' + b"9" * 5000 + b"}",
        b'{"token": "' + b"a" * 100_000 + b'"}',
        b'{"access_token": "a\\nb"}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_tokens_that_are_none(serve, login, store, body) -> None:
    tokens = serve(lambda _: Reply(body=body))
    registry = serve(wants_token(tokens.url))
    login(registry.name)
    with pytest.raises(
        BuildError, match=r"token server of .* (holds no token|is not JSON|is not a JSON object)"
    ):
        pull(store, f"{registry.name}/app")
    assert set(registry.sent("authorization")) == set()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 500, 503])
def test_a_token_server_that_refuses(serve, login, store, status) -> None:
    tokens = serve(lambda _: Reply(status, body=b"{}"))
    registry = serve(wants_token(tokens.url))
    login(registry.name)
    with pytest.raises(BuildError, match=f"refused the login: {status}") as error:
        pull(store, f"{registry.name}/app")
    assert "check the credentials" in error.value.hint


def test_a_registry_that_is_never_content(serve, login, store) -> None:
    tokens = serve(lambda _: Reply(body=dumps({"token": "other"})))
    registry = serve(wants_token(tokens.url))
    login(registry.name)
    with pytest.raises(BuildError, match="the registry answered 401") as error:
        pull(store, f"{registry.name}/app")
    assert "check the credentials" in error.value.hint
    assert len(tokens.asked) == 1 and len(registry.asked) == 2


def test_many_requests_share_one_login(serve, login, store) -> None:
    image = Image(tuple(b"layer %d" % number for number in range(30)))
    well = serving(image.answers())
    tokens = serve(lambda _: Reply(body=dumps({"token": "good"})))

    def handle(asked: Asked) -> Reply:
        if asked.headers.get("authorization") == "Bearer good":
            return well(asked)
        return Reply(401, {"WWW-Authenticate": f"Bearer realm={tokens.url}"})

    registry = serve(handle)
    login(registry.name)
    pull(store, f"{registry.name}/app")
    assert len(tokens.asked) == 1


def test_the_password_is_in_no_message(serve, login, store) -> None:
    registry = serve(lambda _: Reply(401, {"WWW-Authenticate": "Basic realm=x"}))
    login(registry.name)
    with pytest.raises(BuildError) as error:
        pull(store, f"{registry.name}/app")
    assert "secret" not in str(error.value) and basic() not in str(error.value)
