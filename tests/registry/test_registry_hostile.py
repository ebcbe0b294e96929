"""Whatever a registry answers, a pull or push succeeds or ends with a BuildError that can be read."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from strangers import INDEX, MANIFEST, Asked, Image, Reply, digest, dumps, serving

from buildfront.errors import BuildError
from buildfront.registry.answers import sensible
from buildfront.registry.http import Http
from buildfront.store import Store
from buildfront.text import visible
from buildfront.transfer import pull, push

JSON = {"Content-Type": MANIFEST}
IMAGE = Image()


def fit(error: BuildError) -> None:
    """What a message of ours looks like: short, on one line, of visible characters."""
    for text in (error.what, error.hint):
        assert len(text) <= 2000 and text == visible(text), text


def manifest(**changes: Any) -> bytes:
    return dumps({**IMAGE.manifest, **changes})


def with_config(**changes: Any) -> bytes:
    return manifest(config={**IMAGE.manifest["config"], **changes})


def with_layer(**changes: Any) -> bytes:
    return manifest(layers=[{**IMAGE.manifest["layers"][0], **changes}])


def index(*entries: Any, **more: Any) -> bytes:
    return dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries), **more})


DEEP = b'{"a":' * 100_000
HERE = {"mediaType": MANIFEST, "digest": digest(manifest()), "size": len(manifest())}
AMD64 = {"os": "linux", "architecture": "amd64"}
BAD = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "string": b'"x"',
    "number": b"1e999",
    "no object": b"{}",
    "cut": b'{"config":',
    "not UTF-8": b'{"mediaType":"\xff"}',
    "UTF-16": '{"mediaType":"x"}'.encode("utf-16"),
    "NaN": b'{"config": NaN, "layers": NaN}',
    "deep": DEEP,
    "deep list": b"[" * 100_000 + b"]" * 100_000,
    "deep layers": b'{"mediaType":"'
    + MANIFEST.encode()
    + b'","layers":'
    + b"[" * 100_000
    + b"]" * 100_000
    + b"}",
    "huge number": b'{"config":' + b"9" * 100_000 + b"}",
    "layers null": manifest(layers=None),
    "layers an object": manifest(layers={}),
    "layers a string": manifest(layers="x"),
    "layer null": manifest(layers=[None]),
    "layer a list": manifest(layers=[[]]),
    "config null": manifest(config=None),
    "config a list": manifest(config=[]),
    "config a string": manifest(config="x"),
    "media type null": manifest(mediaType=None, config=None),
    "media type a list": manifest(mediaType=["x"]),
    "media type an object": manifest(mediaType={"a": 1}),
    "media type a number": manifest(mediaType=7),
    "media type with escapes": manifest(mediaType="\x1b[31mred\u202e\n"),
    "media type huge": manifest(mediaType="x" * 100_000),
    "index empty": index(),
    "index of nulls": index(None, 1, "x", [], True),
    "index null": dumps({"manifests": None}),
    "index a number": dumps({"manifests": 5}),
    "index a string": dumps({"manifests": "abc"}),
    "index an object": dumps({"manifests": {"a": 1}}),
    "platform null, two": index({**HERE, "platform": None}, {**HERE, "platform": None}),
    "platform a string": index({**HERE, "platform": "linux/amd64"}),
    "platform a list": index({**HERE, "platform": []}),
    "platform a number": index({**HERE, "platform": 3}),
    "platform of odd types": index({**HERE, "platform": {"os": 1, "architecture": [], "variant": {}}}),
    "platform with escapes": index({**HERE, "platform": {"os": "\x1b[31m", "architecture": "\u202e\n"}}),
    "platform empty": index({**HERE, "platform": {}}),
    "platforms, many": index(
        *({**HERE, "platform": {"os": f"o{n}", "architecture": "a"}} for n in range(9000))
    ),
    "digest missing": index({"platform": AMD64}),
    "digest null": index({"digest": None, "platform": AMD64}),
    "digest a list": index({"digest": [], "platform": AMD64}),
    "digest a path": index({**HERE, "digest": "sha256:../../../etc/passwd", "platform": AMD64}),
    "digest sha512": index({**HERE, "digest": "sha512:" + "0" * 128, "platform": AMD64}),
    "digest upper case": index({**HERE, "digest": HERE["digest"].upper(), "platform": AMD64}),
    "digest with a line break": index({**HERE, "digest": HERE["digest"] + "\n", "platform": AMD64}),
    "digest with escapes": index({**HERE, "digest": "\x1b[2J", "platform": AMD64}),
    "digest huge": index({**HERE, "digest": "x" * 100_000, "platform": AMD64}),
    "index and image": manifest(manifests=[]),
    "blob digest null": with_layer(digest=None),
    "blob digest a path": with_layer(digest="../x"),
    "blob digest a query": with_layer(digest="sha256:" + "0" * 60 + "?a=b"),
    "config digest short": with_config(digest="sha256:00"),
    "size missing": manifest(config={"digest": digest(IMAGE.config)}),
    "size null": with_layer(size=None),
    "size true": with_layer(size=True),
    "size negative": with_layer(size=-5),
    "size a float": with_layer(size=1.5),
    "size a string": with_layer(size="600"),
    "size 2**70": with_layer(size=2**70),
    "size 2**63": with_config(size=2**63),
    "size 10**4000": with_config(size=10**4000),
    "size too small": with_layer(size=3),
    "size too large": with_layer(size=10_000),
    "size zero": with_config(size=0),
    "blob missing": with_layer(digest="sha256:" + "0" * 64),
}


@pytest.mark.parametrize("case", list(BAD))
def test_manifests_that_are_none(serve, store, case) -> None:
    registry = serve(serving({**IMAGE.answers(), "manifests/latest": Reply(headers=JSON, body=BAD[case])}))
    began = time.monotonic()
    with pytest.raises(BuildError) as error:
        pull(store, f"{registry.name}/app", platform="linux/amd64")
    fit(error.value)
    assert time.monotonic() - began < 20
    assert os.listdir(store.blobs) == os.listdir(store.tmp) == [] and store.index.read() == []


GOOD = {
    "as it is": (MANIFEST, manifest()),
    "without a media type": ("application/json", manifest(mediaType=MANIFEST, annotations={"a": "b"})),
    "type in the header": (MANIFEST + "; charset=utf-8", dumps({**IMAGE.manifest, "mediaType": ""})),
    "layers twice": (MANIFEST, manifest(layers=IMAGE.manifest["layers"] * 2)),
    "index of one": (INDEX, index(HERE)),
    "index by its form": ("", dumps({"manifests": [HERE]})),
    "index of two": (
        INDEX,
        index({**HERE, "platform": {**AMD64, "architecture": "arm64"}}, {**HERE, "platform": AMD64}),
    ),
}


@pytest.mark.parametrize("case", list(GOOD))
def test_manifests_that_are_good(serve, store, case) -> None:
    media_type, body = GOOD[case]
    registry = serve(
        serving(
            {**IMAGE.answers(), "manifests/latest": Reply(headers={"Content-Type": media_type}, body=body)}
        )
    )
    pull(store, f"{registry.name}/app", platform="linux/amd64")
    assert len(store.index.read()) == 1


def test_an_index_in_an_index_in_an_index(serve, store) -> None:
    """1 500 of them, each naming the next."""
    answers, body = IMAGE.answers(), manifest()
    for _ in range(1500):
        answers[f"manifests/{digest(body)}"] = Reply(headers={"Content-Type": INDEX}, body=body)
        body = index({"digest": digest(body), "size": len(body), "mediaType": INDEX, "platform": AMD64})
    answers["manifests/latest"] = Reply(headers={"Content-Type": INDEX}, body=body)
    registry = serve(serving(answers))
    try:
        pull(store, f"{registry.name}/app", platform="linux/amd64")
    except BuildError as error:
        fit(error)
    assert len(registry.asked) < 20


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Docker-Content-Digest": "sha256:" + "0" * 64}, "the registry says sha256:000"),
        ({"Content-Length": "5"}, "no JSON"),
        ({"Content-Length": "99999999"}, "larger than|cut off"),
        ({"Content-Length": "1000000"}, "cut off"),
        ({"Content-Length": "-1"}, "can't be reached"),
        ({"Content-Length": "1, 2"}, "can't be reached"),
        ({"Content-Encoding": "gzip"}, "is damaged: it is no gzip"),
        ({"Content-Encoding": "deflate"}, "is damaged: it is no deflate"),
        ({"Content-Encoding": "zstd"}, "comes encoded as 'zstd'"),
        ({"Transfer-Encoding": "gzip"}, "can't be reached"),
        ({"Transfer-Encoding": "chunked"}, "cut off"),
        ({"A b": "x"}, "can't be reached"),
    ],
    ids=str,
)
def test_headers_that_lie(serve, store, headers, words) -> None:
    reply = Reply(headers=list({**JSON, **headers}.items()), body=manifest(), close=True)
    registry = serve(serving({**IMAGE.answers(), "manifests/latest": reply}))
    with pytest.raises(BuildError, match=words) as error:
        pull(store, f"{registry.name}/app")
    fit(error.value)


@pytest.mark.parametrize("stated", ["", "sha512:" + "0" * 128, "nonsense", "\x1bodd", digest(manifest())])
def test_a_stated_digest_may_be_missing_or_unknown(serve, store, stated) -> None:
    reply = Reply(headers={**JSON, "Docker-Content-Digest": stated}, body=manifest())
    pull(store, f"{serve(serving({**IMAGE.answers(), 'manifests/latest': reply})).name}/app")


def test_content_that_is_not_what_was_asked_for(serve, store) -> None:
    answers = IMAGE.answers()
    wrong = "sha256:" + "1" * 64
    answers[f"manifests/{wrong}"] = Reply(headers=JSON, body=manifest())
    answers["manifests/latest"] = Reply(
        headers={"Content-Type": INDEX}, body=index({**HERE, "digest": wrong})
    )
    registry = serve(serving(answers))
    for name in (f"{registry.name}/app", f"{registry.name}/app@{wrong}"):
        with pytest.raises(BuildError, match=r"answered sha256:1111.* with other content"):
            pull(store, name)
    answers["manifests/latest"] = Reply(headers=JSON, body=manifest())
    answers["blobs/" + digest(IMAGE.config)] = Reply(body=IMAGE.config.replace(b"linux", b"Linux"))
    with pytest.raises(BuildError, match="is damaged"):
        pull(store, f"{registry.name}/app")
    assert os.listdir(store.blobs) == []


LOCATIONS = {
    "": "leads nowhere",
    "http://192.0.2.1/x": "plain http is spoken to this machine only",
    "http://169.254.169.254/latest/meta-data/": "plain http is spoken to this machine only",
    "https://169.254.169.254/x": "link-local",
    "https://[fe80::1]/x": "link-local",
    "https://[::ffff:a9fe:a9fe]/x": "link-local",
    "https://[fd00:ec2::254]/x": "link-local",
    "https://255.255.255.255/": "no address of a server",
    "http://2130706433/": "hides the address",
    "http://0x7f.1/": "hides the address",
    "http://0177.0.0.01/": "hides the address",
    "http://user:pass@127.0.0.1/": "is not SCHEME",
    "file:///etc/shadow": "no http or https",
    "gopher://127.0.0.1/": "no http or https",
    "javascript:alert(1)": "no http or https",
    "http://": "is refused",
    "http://127.0.0.1:0/": "no port 0",
    "http://127.0.0.1:99999/": "no port 99999",
    "http://[::1/": "is refused",
    "http://127.0.0.1/#x": "is not SCHEME",
    "/x\\y": "characters that no URL has",
    "/\u202e": "characters that no URL has",
    "/a b": "characters that no URL has",
    "/" + "a" * 9000: "longer than 8192",
    "http://127.0.0.1:1/": "can't be reached",
    "https://127.0.0.1:1/": "can't be reached",
}


@pytest.mark.parametrize("location", list(LOCATIONS), ids=lambda text: ascii(text[:40]))
@pytest.mark.parametrize("entry", ["manifest", "blob", "upload place", "PUT"])
def test_locations_that_lead_nowhere(serve, store, location, entry) -> None:
    good = serve(serving(IMAGE.answers()))
    pull(store, f"{good.name}/app")
    answers = IMAGE.answers()
    redirect = Reply(307, {"Location": location} if location else {})
    if entry == "manifest":
        answers["manifests/latest"] = redirect
    elif entry == "blob":
        answers["blobs/" + digest(IMAGE.config)] = redirect
    else:
        answers = {"POST": Reply(202, redirect.headers)} if entry == "upload place" else {"PUT": redirect}
    registry = serve(serving(answers))
    with pytest.raises(BuildError, match=LOCATIONS[location]) as error:
        if entry in ("manifest", "blob"):
            fresh = Store(os.path.join(store.root, "fresh"))
            pull(fresh, f"{registry.name}/app")
        else:
            push(store, f"{good.name}/app", f"{registry.name}/app")
    fit(error.value)


@pytest.mark.parametrize(
    "location", ["http://localhost:{port}/x", "//127.0.0.2:{port}/x", "https://localhost:{port}/x"]
)
def test_names_are_looked_up_before_they_are_asked(serve, store, location, monkeypatch) -> None:
    """A registry on loopback may lead to this machine; https is spoken there when it says so."""
    other = serve(
        lambda _: Reply(headers=JSON, body=manifest()), "127.0.0.2" if "127" in location else "127.0.0.1"
    )
    answers = IMAGE.answers()
    answers["manifests/latest"] = Reply(302, {"Location": location.format(port=other.port)})
    registry = serve(serving(answers))
    if location.startswith("https"):
        monkeypatch.setattr("buildfront.registry.connect._CONNECT", 2.0)
        with pytest.raises(BuildError, match="can't be reached"):
            pull(store, f"{registry.name}/app")
        assert "GET" not in [asked.method for asked in other.asked]
    else:
        pull(store, f"{registry.name}/app")
        assert other.asked[0].headers["host"] == location.format(port=other.port).split("/")[2]


ERRORS = {
    "a string": b'{"errors": "x"}',
    "null": b'{"errors": null}',
    "of nulls": b'{"errors": [null, 1, "x", [], {}]}',
    "odd message": b'{"errors": [{"message": {"a": 1}, "code": []}]}',
    "a list": b"[1]",
    "deep": DEEP,
    "escapes": b'{"errors": [{"message": "\\u001b]0;title\\u0007\\u202e\\nerror: forged \\ud800"}]}',
    "huge": json.dumps({"errors": [{"message": "x" * 10_000}] * 9}).encode(),
    "cut": b'{"errors": [{"message": "' + b"x" * 100_000 + b'"}]}',
    "not UTF-8": b'{"errors": [{"message": "\xff"}]}',
}


@pytest.mark.parametrize("case", list(ERRORS))
@pytest.mark.parametrize("entry", ["manifests/latest", "blobs/" + digest(IMAGE.config), "POST", "PUT"])
def test_errors_of_any_shape(serve, store, case, entry) -> None:
    reply = Reply(400, body=ERRORS[case], reason="Odd \x80\xff reason")
    registry = serve(serving({**IMAGE.answers(), entry: reply}))
    with pytest.raises(BuildError, match="answered 400") as error:
        if entry in ("POST", "PUT"):
            good = serve(serving(IMAGE.answers()))
            pull(store, f"{good.name}/app")
            registry.handler = serving({entry: reply})
            push(store, f"{good.name}/app", f"{registry.name}/app")
        else:
            pull(store, f"{registry.name}/app")
    fit(error.value)
    if case == "escapes":
        assert r"\x1b]0;title\x07\u202e\x0aerror: forged" in error.value.what


@pytest.mark.parametrize("stated", ["sha256:" + "0" * 64])
@pytest.mark.parametrize("entry", ["blob", "manifest"])
def test_a_registry_that_says_it_kept_something_else(serve, store, stated, entry) -> None:
    good = serve(serving(IMAGE.answers()))
    pull(store, f"{good.name}/app")

    def handle(asked: Asked) -> Reply:
        if asked.method == "POST":
            return Reply(202, {"Location": "/u"})
        if asked.method == "PUT" and ("/manifests/" in asked.path) == (entry == "manifest"):
            return Reply(201, {"Docker-Content-Digest": stated})
        return Reply(201 if asked.method == "PUT" else 404)

    with pytest.raises(BuildError, match=f"the (pushed|uploaded) {entry} is damaged"):
        push(store, f"{good.name}/app", f"{serve(handle).name}/app")


def test_the_place_of_an_upload_is_kept_as_it_was_written(serve, store) -> None:
    good = serve(serving(IMAGE.answers()))
    pull(store, f"{good.name}/app")
    there = "/u/a%2Fb?_state=x%3D%3D&sig=a+b%20c~"
    registry = serve(
        lambda asked: (
            Reply(404)
            if asked.method == "HEAD"
            else Reply(201 if asked.method == "PUT" else 202, {"Location": there})
        )
    )
    push(store, f"{good.name}/app", f"{registry.name}/app")
    places = {asked.path for asked in registry.asked if asked.path.startswith("/u/")}
    assert places == {f"{there}&digest={digest(data)}" for data in (IMAGE.config, *IMAGE.layers)}
    sent = [asked.body for asked in registry.asked if asked.path.startswith("/u/")]
    assert sorted(sent) == sorted([len(IMAGE.config), len(IMAGE.layers[0])])


# fuzzing

FIELDS = [
    "config",
    "layers",
    "manifests",
    "mediaType",
    "digest",
    "size",
    "platform",
    "os",
    "architecture",
    "errors",
]
WORDS = st.sampled_from(
    [
        MANIFEST,
        INDEX,
        digest(IMAGE.config),
        digest(IMAGE.layers[0]),
        digest(manifest()),
        "linux",
        "amd64",
        "sha256:x",
    ]
) | st.text(max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | WORDS
    | st.sampled_from([IMAGE.manifest, HERE, {**HERE, "platform": AMD64}, *IMAGE.manifest["layers"]]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), inner)
    ),
    max_leaves=12,
)
CHANGED = st.builds(
    lambda base, changes: {**base, **changes},
    st.sampled_from([IMAGE.manifest, {"mediaType": INDEX, "manifests": [HERE]}]),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3),
)
BODIES = st.binary(max_size=60) | st.builds(dumps, VALUES | CHANGED)
HEADERS = st.dictionaries(
    st.sampled_from(
        "Location WWW-Authenticate Content-Type Content-Encoding Docker-Content-Digest Retry-After Content-Length"
        " Transfer-Encoding Connection Set-Cookie Link".split()
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30)
    | st.sampled_from(
        [
            *(
                "http://127.0.0.1:1/",
                "/v2/app/manifests/latest",
                "Bearer realm=/x",
                'Basic realm="x"',
                "gzip",
            ),
            *("chunked", "-1", INDEX, MANIFEST, "sha256:" + "0" * 64, "99999999999", "close"),
        ]
    ),
    max_size=3,
)
STATUS = st.sampled_from(
    [200, 200, 200, 201, 202, 204, 206, 301, 307, 400, 401, 403, 404, 416, 429, 500, 503]
) | st.integers(100, 999)
PLACES = ["manifests/latest", "blobs/" + digest(IMAGE.config), "blobs/" + digest(IMAGE.layers[0])]
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def target(serve) -> Callable[[dict[str, Reply]], str]:
    """One server for all examples, which answers as the last one says; without pauses."""
    server = serve(serving({}))

    def answer(answers: dict[str, Reply]) -> str:
        server.handler = serving(answers)
        return f"{server.name}/app"

    return answer


@pytest.fixture
def impatient(monkeypatch) -> None:
    monkeypatch.setattr("buildfront.registry.connect.PATIENCE", 0.3)
    monkeypatch.setattr("buildfront.registry.http._LONGEST_PAUSE", 0.0)


def latin(headers: dict[str, str]) -> dict[str, str]:
    return {name: value.encode("latin-1", "replace").decode("latin-1") for name, value in headers.items()}


@FUZZ
@given(st.sampled_from(PLACES), STATUS, HEADERS, BODIES)
@example("manifests/latest", 200, {}, DEEP)
@example("manifests/latest", 401, {"WWW-Authenticate": "Bearer realm=http://127.0.0.1:1/"}, b"")
@example("manifests/latest", 200, JSON, index({"digest": digest(index()), "platform": AMD64}))
def test_any_answer_to_a_pull(impatient, target, tmp_path_factory, place, status, headers, body) -> None:
    name = target({**IMAGE.answers(), place: Reply(status, latin(headers), body, close=True)})
    with Store(str(tmp_path_factory.mktemp("store"))) as store:
        try:
            pull(store, name, platform="linux/amd64")
        except BuildError as error:
            fit(error)
            assert store.index.read() == [] and os.listdir(store.tmp) == []


@FUZZ
@given(BODIES | CHANGED.map(dumps))
def test_any_manifest(impatient, target, tmp_path_factory, body) -> None:
    name = target({**IMAGE.answers(), "manifests/latest": Reply(200, JSON, body)})
    with Store(str(tmp_path_factory.mktemp("store"))) as store:
        try:
            pull(store, name, platform="linux/amd64")
        except BuildError as error:
            fit(error)


@FUZZ
@given(
    st.binary(max_size=200)
    | st.builds(lambda head, rest: b"HTTP/1.1 " + head + rest, st.binary(max_size=20), st.binary())
)
def test_any_bytes(impatient, target, tmp_path_factory, raw) -> None:
    name = target({"manifests/latest": Reply(raw=raw)})
    with Store(str(tmp_path_factory.mktemp("store"))) as store, pytest.raises(BuildError) as error:
        pull(store, name)
    fit(error.value)


@FUZZ
@given(st.sampled_from(["POST", "PUT", PLACES[1]]), STATUS, HEADERS, BODIES)
def test_any_answer_to_a_push(impatient, target, store, place, status, headers, body) -> None:
    pull(store, target(IMAGE.answers()))
    source = next(
        iter(item["annotations"]["org.opencontainers.image.ref.name"] for item in store.index.read())
    )
    name = target({place: Reply(status, latin(headers), body, close=True)})
    try:
        push(store, source, name)
    except BuildError as error:
        fit(error)


@FUZZ
@given(STATUS, HEADERS, BODIES | st.builds(lambda value: dumps({"token": value}), VALUES))
def test_any_answer_of_a_token_server(impatient, serve, tmp_path_factory, status, headers, body) -> None:
    tokens = serve(lambda _: Reply(status, latin(headers), body, close=True))
    registry = serve(lambda _: Reply(401, {"WWW-Authenticate": f'Bearer realm="{tokens.url}/t"'}))
    with Store(str(tmp_path_factory.mktemp("store"))) as store, pytest.raises(BuildError) as error:
        pull(store, f"{registry.name}/app")
    fit(error.value)
    tokens.close()
    registry.close()


# text


def test_what_cannot_be_seen_is_made_visible() -> None:
    assert visible("a\x1b[31mb\x07\x9b\n\t\x7f") == r"a\x1b[31mb\x07\x9b\x0a\x09\x7f"
    assert visible("\u202e\u2066\u2028\ud800\ufeff") == r"\u202e\u2066\u2028\ud800\ufeff"
    assert visible("Grüße, 世界 😀") == "Grüße, 世界 😀"
    assert visible("x" * 3000) == "x" * 1999 + "…"
    assert visible("abcdef", 3) == "ab…" and visible("abc", 3) == "abc"


@given(st.text(st.characters()), st.integers(1, 50))
def test_visible_text_is_short_and_on_one_line(text, limit) -> None:
    out = visible(text, limit)
    assert len(out) <= limit and out == visible(out, limit) and len((out + "x").splitlines()) == 1
    out.encode()


def test_the_border_lets_interrupts_through() -> None:
    for error in (KeyboardInterrupt, MemoryError, SystemExit):
        with pytest.raises(error), sensible("x"):
            raise error
    for error in (KeyError, TypeError, RecursionError, OverflowError):
        with pytest.raises(BuildError, match="a document of the wrong shape"), sensible("x"):
            raise error("\x1b")


def test_closing_twice_is_nothing() -> None:
    http = Http()
    http.close()
    http.close()
