"""Any answer, to anything that we ask: success, or a BuildError that can be read."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from faulty_documents import AMD64, DEEP, HERE, IMAGE, JSON, fit, index, manifest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from strangers import INDEX, MANIFEST, Reply, digest, dumps, serving

from buildfront.errors import BuildError
from buildfront.image_transfer import pull, push
from buildfront.store.image_store import Store

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
    monkeypatch.setattr("buildfront.web.connect.PATIENCE", 2.0)
    monkeypatch.setattr("buildfront.web.http._LONGEST_PAUSE", 0.0)


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
    source = next(iter(item.name for item in store.index.read()))
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
