"""Headers, redirects, places of uploads and errors of any shape: success, or a BuildError that can be read."""

from __future__ import annotations

import json
import os

import pytest
from faulty_documents import DEEP, HERE, IMAGE, JSON, fit, index, manifest
from hypothesis import given
from hypothesis import strategies as st
from strangers import INDEX, Asked, Reply, digest, serving

from buildfront.errors import BuildError
from buildfront.image_transfer import pull, push
from buildfront.registry.answers import sensible
from buildfront.store.image_store import Store
from buildfront.text import visible
from buildfront.web.http import Http


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Docker-Content-Digest": "sha256:" + "0" * 64}, "the registry says sha256:000"),
        ({"Content-Length": "5"}, "not JSON"),
        ({"Content-Length": "99999999"}, "larger than|cut off"),
        ({"Content-Length": "1000000"}, "cut off"),
        ({"Content-Length": "-1"}, "can't be reached"),
        ({"Content-Length": "1, 2"}, "can't be reached"),
        ({"Content-Encoding": "gzip"}, "is damaged: it is not gzip"),
        ({"Content-Encoding": "deflate"}, "is damaged: it is not deflate"),
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
    "file:///etc/shadow": "not an http or https",
    "gopher://127.0.0.1/": "not an http or https",
    "javascript:alert(1)": "not an http or https",
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
        monkeypatch.setattr("buildfront.web.connect._CONNECT", 2.0)
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


def test_what_cannot_be_seen_is_made_visible() -> None:
    assert visible("a\x1b[31mb\x07\x9b\n\t\x7f") == r"a\x1b[31mb\x07\x9b\x0a\x09\x7f"
    assert visible("\u202e\u2066\u2028\ud800\ufeff") == r"\u202e\u2066\u2028\ud800\ufeff"
    assert visible("Grüße, 世界 😀") == "Grüße, 世界 😀"
    cut = visible("x" * 3000 + "y")
    assert len(cut) == 2000 and cut.startswith("x" * 1000) and cut.endswith("xy") and "1001 characters" in cut
    assert visible("abcdef", 3) == "ab…" and visible("abc", 3) == "abc"
    assert visible("\x1f", 3) == r"\x…" and visible("\x1f", 1) == "…"


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
