"""Endless, huge and slow answers end in time, and take little memory."""

from __future__ import annotations

import functools
import gzip
import itertools
import os
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from strangers import MANIFEST, Asked, Image, Reply, digest, dumps, serving

from buildfront.errors import BuildError
from buildfront.image_transfer import pull, push
from buildfront.web import connect, http

MEMORY = 150 << 10  # KiB
SECONDS = 60  # of a machine with other work; each takes one or two
MIB = b" " * (1 << 20)
RUN = """
import sys
sys.argv = ["buildfront", *sys.argv[1:]]
from buildfront.web import http
http.BACKOFF = 0.0
from buildfront.__main__ import main
try:
    main()
finally:
    found = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print("peak", *found, flush=True)
"""


def endless(piece: bytes = MIB, first: bytes = b"", times: int = 600) -> Iterator[bytes]:
    yield first
    yield from itertools.repeat(piece, times)


def chunked(parts: Iterator[bytes]) -> Iterator[bytes]:
    for part in parts:
        if part:
            yield b"%x\r\n" % len(part) + part + b"\r\n"
    yield b"0\r\n\r\n"


@functools.cache
def bomb(kind: str) -> bytes:
    """600 MB of spaces, packed."""
    pack = zlib.compressobj(9, wbits=31 if kind == "gzip" else 15)
    return b"".join(pack.compress(MIB) for _ in range(600)) + pack.flush()


def stored() -> Iterator[bytes]:
    """A gzip stream of empty blocks: input without end, and no output."""
    yield gzip.compress(b"")[:10]
    yield from itertools.repeat(b"\0\0\0\xff\xff" * 13_000, 10_000)


JSON = {"Content-Type": MANIFEST}
NESTED = dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": []})[:-2]
MANIFESTS = {
    "600 MB": lambda: Reply(headers=JSON, body=endless()),
    "600 MB announced": lambda: Reply(headers={**JSON, "Content-Length": str(600 << 20)}, body=endless()),
    "600 MB in chunks": lambda: Reply(
        headers={**JSON, "Transfer-Encoding": "chunked"}, body=chunked(endless())
    ),
    "a chunk of 600 MB": lambda: Reply(
        headers={"Transfer-Encoding": "chunked"}, body=endless(first=b"%x\r\n" % (600 << 20))
    ),
    "a chunk of 2**70": lambda: Reply(
        headers={"Transfer-Encoding": "chunked"}, body=endless(first=b"%x\r\n" % (1 << 70))
    ),
    "a gzip bomb": lambda: Reply(headers={**JSON, "Content-Encoding": "gzip"}, body=bomb("gzip")),
    "a deflate bomb": lambda: Reply(headers={**JSON, "Content-Encoding": "deflate"}, body=bomb("deflate")),
    "gzip of nothing": lambda: Reply(headers={**JSON, "Content-Encoding": "gzip"}, body=stored()),
    "brotli": lambda: Reply(headers={**JSON, "Content-Encoding": "br"}, body=endless()),
    "gzip twice": lambda: Reply(headers={**JSON, "Content-Encoding": "gzip, gzip"}, body=bomb("gzip")),
    "8 MB of objects": lambda: Reply(headers=JSON, body=b"[" + b"{}," * 2_700_000 + b"{}]"),
    "8 MB of lists": lambda: Reply(headers=JSON, body=b'{"a":' + b"[[],[]]," * 1_000_000),
    "8 MB of brackets": lambda: Reply(headers=JSON, body=b"[" * 8_000_000),
    "8 MB of strings": lambda: Reply(headers=JSON, body=b'["aa"' + b',"ab"' * 1_600_000 + b"]"),
    "8 MB of numbers": lambda: Reply(headers=JSON, body=b"[1" + b",1.5" * 2_000_000 + b"]"),
    "8 MB of one wide string": lambda: Reply(
        headers=JSON, body='{"a":"😀'.encode() + b"a" * 8_000_000 + b'"}'
    ),
    "a header without end": lambda: Reply(raw=endless(b"a" * 60_000, b"HTTP/1.1 200 OK\r\nX: ")),
    "headers without end": lambda: Reply(raw=endless(b"X: y\r\n" * 10_000, b"HTTP/1.1 200 OK\r\n")),
    "a status without end": lambda: Reply(raw=endless(b"a" * 60_000, b"HTTP/1.1 200 ")),
    "1xx without end": lambda: Reply(raw=endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000, times=10**6)),
    "trailers without end": lambda: Reply(
        headers={"Transfer-Encoding": "chunked"}, body=endless(b"X: y\r\n" * 10_000, b"0\r\n")
    ),
    "an endless error": lambda: Reply(500, body=endless(b'{"errors":[' * 1000, times=10**6)),
    "an endless 404": lambda: Reply(404, body=endless()),
    "an endless 403": lambda: Reply(403, body=endless()),
    "an error that is a bomb": lambda: Reply(403, {"Content-Encoding": "gzip"}, bomb("gzip")),
    "an endless redirect": lambda: Reply(302, {"Location": "latest"}, endless()),
    "an endless 401": lambda: Reply(401, {"WWW-Authenticate": "Basic realm=x"}, endless()),
    "a huge challenge": lambda: Reply(401, {"WWW-Authenticate": 'Bearer realm="' + "a" * 90_000}),
    "a huge Location": lambda: Reply(302, {"Location": "https://x/" + "a" * 90_000}),
}


def run(*words: str, env: dict[str, str] | None = None, store: Path) -> tuple[int, str, str]:
    """The program, with a limit of time, and a check of what it took of memory."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "BUILDFRONT_ROOT": str(store), **(env or {})},
    )
    assert "Traceback" not in done.stderr, done.stderr
    peak = int(done.stdout.split("peak ")[1])
    assert peak < MEMORY, f"{peak >> 10} MiB"
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("case", list(MANIFESTS))
def test_manifests_and_errors(serve, tmp_path, case) -> None:
    registry = serve(lambda _: MANIFESTS[case]())
    status, _, errors = run("pull", f"{registry.name}/app", store=tmp_path / "s")
    assert status == 1 and "error: " in errors


@pytest.mark.parametrize(
    "case", ["600 MB", "600 MB in chunks", "a gzip bomb", "8 MB of objects", "an endless 403"]
)
def test_tokens(serve, tmp_path, case) -> None:
    tokens = serve(lambda _: MANIFESTS[case]())
    registry = serve(lambda _: Reply(401, {"WWW-Authenticate": f'Bearer realm="{tokens.url}"'}))
    status, _, errors = run("pull", f"{registry.name}/app", store=tmp_path / "s")
    assert status == 1 and ("token server" in errors or "refused the login" in errors)


@pytest.mark.parametrize("sent", ["plain", "chunked"])
def test_a_blob_beyond_its_size(serve, tmp_path, sent) -> None:
    image = Image((b"x" * 100_000,))
    answers = image.answers()
    parts = lambda: endless(times=10**6)  # noqa: E731
    answers["blobs/" + digest(image.layers[0])] = Reply(
        headers={"Transfer-Encoding": "chunked"} if sent == "chunked" else {},
        body=chunked(parts()) if sent == "chunked" else parts(),
    )
    registry = serve(serving(answers))
    status, _, errors = run("pull", f"{registry.name}/app", store=tmp_path / "s")
    assert status == 1 and "is longer than its descriptor says (100000 bytes)" in errors
    assert os.listdir(tmp_path / "s/blobs/sha256") == []


@pytest.mark.parametrize("case", ["POST", "PUT"])
def test_endless_answers_to_a_push(serve, tmp_path, case) -> None:
    registry = serve(serving(Image().answers()))
    assert run("pull", f"{registry.name}/app", store=tmp_path / "s")[0] == 0
    registry.handler = serving({case: Reply(400, body=endless())})
    status, _, errors = run("push", f"{registry.name}/app", store=tmp_path / "s")
    assert status == 1 and "answered 400" in errors


def test_ten_thousand_layers(serve, tmp_path) -> None:
    image = Image()
    image.manifest["layers"] *= 10_000
    registry = serve(serving(image.answers()))
    run("pull", f"{registry.name}/app", store=tmp_path / "s")


# slowness


@pytest.fixture
def hasty(monkeypatch) -> None:
    """A patience of a second instead of a minute."""
    monkeypatch.setattr(connect, "PATIENCE", 1.0)


def dripping(stop: threading.Event, first: bytes, piece: bytes = b"a") -> Iterator[bytes]:
    yield first
    while not stop.wait(0.1):
        yield piece


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 ",
        b"HTTP/1.1 200 OK\r\nX: ",
        HEAD,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n",
    ],
    ids=["nothing", "status", "header", "body", "chunked body"],
)
@pytest.mark.parametrize("entry", ["manifest", "blob", "token"])
def test_who_drips_is_left(hasty, serve, store, stop, first, entry) -> None:
    """A byte each tenth of a second would go on for minutes, or for ever."""
    drip = serve(lambda _: Reply(raw=dripping(stop, first)))
    answers = Image((b"x" * 1000,)).answers()
    name = "blobs/" + digest(b"x" * 1000)
    if entry == "manifest":
        registry = drip
    elif entry == "token":
        registry = serve(lambda _: Reply(401, {"WWW-Authenticate": f'Bearer realm="{drip.url}"'}))
    else:
        registry = serve(serving({**answers, name: Reply(302, {"Location": drip.url})}))
    began = time.monotonic()
    with pytest.raises(BuildError, match="sends less than 1024 bytes a second"):
        pull(store, f"{registry.name}/app")
    assert time.monotonic() - began < 30
    assert len(drip.asked) == 1, "what is slow is not asked again"


def test_a_server_that_never_answers(hasty, serve, store, stop) -> None:
    def silent(_: Asked) -> Reply:
        stop.wait(SECONDS)
        return Reply(raw=b"")

    with pytest.raises(BuildError, match="sends less than 1024 bytes a second"):
        pull(store, f"{serve(silent).name}/app")


def test_a_server_that_never_reads(hasty, serve, store, stop) -> None:
    layer = os.urandom(64 << 20)
    good = serve(serving(Image((layer,)).answers()))
    pull(store, f"{good.name}/app")

    def handle(asked: Asked) -> Reply:
        if asked.method == "PUT":
            stop.wait(SECONDS)
        return Reply(202, {"Location": "/there"}) if asked.method == "POST" else Reply(404)

    deaf = serve(handle)
    deaf.reads = False
    with pytest.raises(BuildError, match=r"(takes|sends) less than 1024 bytes a second"):
        push(store, f"{good.name}/app", f"{deaf.name}/app")


def test_a_document_has_its_time(serve, store, stop, monkeypatch) -> None:
    """Fast enough not to be left, and without end."""
    monkeypatch.setattr(http, "_DOCUMENT", 1.0)
    body = {"Content-Type": MANIFEST, "Content-Length": "8000000"}
    registry = serve(lambda _: Reply(headers=body, body=dripping(stop, b"", b" " * 1000)))
    with pytest.raises(BuildError, match="does not come to its end within 1 seconds"):
        pull(store, f"{registry.name}/app")


def test_patience_comes_back_with_what_comes(hasty, serve, store, stop) -> None:
    """A line of 20 KB a second is slow, and good enough, though it takes longer than the patience."""
    image = Image((os.urandom(60_000),))
    answers = image.answers()

    def slowly() -> Iterator[bytes]:
        for start in range(0, 60_000, 2000):
            stop.wait(0.1)
            yield image.layers[0][start : start + 2000]

    answers["blobs/" + digest(image.layers[0])] = Reply(headers={"Content-Length": "60000"}, body=slowly())
    pull(store, f"{serve(serving(answers)).name}/app")
