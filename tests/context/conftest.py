"""A site on loopback, a store, and what fetches for one build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from web_servers import Site, site

from buildfront.context.remote import Remote
from buildfront.context.workplace import Workplace
from buildfront.store.image_store import Store


@pytest.fixture
def repositories(tmp_path: Path) -> Path:
    """The directory of bare repositories that the site serves."""
    place = tmp_path / "git"
    place.mkdir()
    return place


@pytest.fixture
def web(repositories: Path) -> Iterator[Site]:
    with site(repositories) as found:
        yield found


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Remote]]:
    """A function that makes what fetches for one build, with one store for all."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "store"
    root.mkdir(mode=0o700)
    with ExitStack() as stack:
        store = stack.enter_context(Store(str(root)))

        def make(**options: Any) -> Remote:
            workplace = Workplace(store)
            stack.callback(workplace.close)
            made = Remote(workplace, **{"secrets": {}, "agents": {}, **options})
            stack.callback(made.close)
            return made

        yield make
