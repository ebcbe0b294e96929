"""Servers of strangers, an empty store, and no credentials but those that a test writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from strangers import Handler, Stranger, basic

from buildfront.store.image_store import Store
from buildfront.web import http


@pytest.fixture
def serve() -> Iterator[Callable[..., Stranger]]:
    """Starts servers, and ends them."""
    started: list[Stranger] = []

    def start(handler: Handler, host: str = "127.0.0.1", **more: object) -> Stranger:
        started.append(Stranger(handler, host, **more))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; nothing of the machine's own credentials, proxies and pauses."""
    path = tmp_path / "home"
    path.mkdir()
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setattr(http, "BACKOFF", 0.0)
    return path


@pytest.fixture
def login(home: Path) -> Callable[[str], None]:
    """Writes credentials for a registry."""

    def write(name: str) -> None:
        (home / ".docker").mkdir(exist_ok=True)
        (home / ".docker/config.json").write_text(json.dumps({"auths": {name: {"auth": basic()}}}))

    return write


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    """Set at the end of a test: what a server waits for while it keeps somebody waiting."""
    event = threading.Event()
    yield event
    event.set()
