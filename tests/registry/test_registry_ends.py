"""What is tried again and what is not; failures and interrupts end all transfers at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from strangers import Asked, Image, Reply, digest, serving

from buildfront.errors import BuildError
from buildfront.image import reference
from buildfront.image_transfer import pull
from buildfront.registry.client import Repository
from buildfront.web import http

SECONDS = 60  # of a machine with other work


def test_what_passes_is_tried_again(serve, store) -> None:
    well = serving(Image().answers())
    trouble = iter([Reply(500), Reply(429), Reply(raw=b"")])
    registry = serve(lambda asked: next(trouble, None) or well(asked))
    pull(store, f"{registry.name}/app")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 418, 501, 505, 304, 300, 204, 999])
def test_what_does_not_pass_is_not(serve, store, status) -> None:
    registry = serve(lambda _: Reply(status))
    with pytest.raises(BuildError):
        pull(store, f"{registry.name}/app")
    assert len(registry.asked) == 1


@pytest.mark.parametrize("raw", [b"garbage\r\n\r\n", b"HTTP/1.1 2\r\n\r\n", b"HTTP/1.1 101 x\r\n\r\n"])
def test_what_is_no_http_is_not(serve, store, raw) -> None:
    registry = serve(lambda _: Reply(raw=raw))
    with pytest.raises(BuildError, match=r"can't be reached|answered 101"):
        pull(store, f"{registry.name}/app")
    assert len(registry.asked) == 1


@pytest.mark.parametrize(
    "value", ["0", "5", "86400", "99999999999999999999", "-1", "1e9", "nan", "Wed, 21 Oct 2065", "x"]
)
def test_retry_after_is_bounded(serve, store, value, monkeypatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", lambda self, timeout=None: bool(waited.append(timeout or 0)))
    registry = serve(lambda _: Reply(429, {"Retry-After": value}))
    with pytest.raises(BuildError, match="answered 429"):
        pull(store, f"{registry.name}/app")
    assert len(registry.asked) == http.TRIES
    assert len(waited) >= 3 and max(waited) <= 10


@pytest.mark.parametrize("where", ["manifest", "token", "blobs", "connect", "upload"])
def test_an_interrupt_ends_it_at_once(serve, store, tmp_path, stop, where) -> None:
    image = Image(tuple(b"layer %d" % number for number in range(8)))
    reached = threading.Event()
    hole = socket.create_server(("127.0.0.1", 0), backlog=0)
    full = [socket.socket() for _ in range(4)]  # nobody takes these: who comes next waits
    for line in full:
        line.setblocking(False)
        line.connect_ex(hole.getsockname())

    def stuck(_: Asked) -> Reply:
        reached.set()
        stop.wait(SECONDS)
        return Reply(raw=b"")

    other = serve(stuck)
    well = serving(image.answers())

    def handle(asked: Asked) -> Reply:
        if where == "manifest":
            return stuck(asked)
        if where == "token":
            return Reply(401, {"WWW-Authenticate": f'Bearer realm="{other.url}"'})
        if where == "upload":
            return stuck(asked) if asked.method == "PUT" else Reply(202, {"Location": "/x"}, reason="x")
        if "/blobs/" in asked.path and where == "connect":
            reached.set()
            return Reply(302, {"Location": f"http://127.0.0.1:{hole.getsockname()[1]}/"})
        return stuck(asked) if "/blobs/" in asked.path else well(asked)

    registry = serve(handle)
    command = ["pull", f"{registry.name}/app"]
    if where == "upload":
        good = serve(well)
        pull(store, f"{good.name}/app")
        command = ["push", f"{good.name}/app", f"{registry.name}/app"]
        handle_head = registry.handler
        registry.handler = lambda asked: Reply(404) if asked.method == "HEAD" else handle_head(asked)
    program = subprocess.Popen(
        [sys.executable, "-m", "buildfront", *command],
        env={**os.environ, "BUILDFRONT_ROOT": store.root},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert reached.wait(SECONDS)
        began = time.monotonic()
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=SECONDS)
        assert time.monotonic() - began < SECONDS / 2
        assert program.returncode == 130 and "Traceback" not in errors
    finally:
        program.kill()
        for line in [hole, *full]:
            line.close()
    assert os.listdir(store.tmp) == []


def test_one_failure_ends_the_other_transfers(serve, store, stop) -> None:
    image = Image(tuple(b"layer %d" % number for number in range(8)))
    answers = image.answers()
    well = serving({name: reply for name, reply in answers.items() if not name.endswith(digest(b"layer 3"))})

    def handle(asked: Asked) -> Reply:
        if asked.path.endswith(digest(b"layer 1")):
            stop.wait(SECONDS)
        return well(asked)

    registry = serve(handle)
    began = time.monotonic()
    with pytest.raises(BuildError, match=f"the blob {digest(b'layer 3')}: the registry answered 404"):
        pull(store, f"{registry.name}/app")
    assert time.monotonic() - began < 30
    assert os.listdir(store.blobs) == []


def test_an_aborted_repository_makes_no_connection(serve) -> None:
    registry = serve(lambda _: Reply())
    with Repository(reference.parse(f"{registry.name}/app")) as repository:
        repository.abort()
        with pytest.raises(BuildError, match="the transfer was ended"):
            repository.manifest("latest")
    assert registry.asked == []
