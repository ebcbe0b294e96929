"""The places that the contexts of a build are read from, as its options say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..booleans import parse_bool
from ..context.origin import Places
from ..context.remote import Remote
from ..context.workplace import Workplace
from ..graph import git_reference
from ..options import BuildOptions
from ..store.image_store import Store

if TYPE_CHECKING:
    from run_step.ssh import Agent


def places_of(options: BuildOptions, store: Store | None, stack: ExitStack) -> tuple[Places, Remote]:
    """Return the contexts' places, and the sources far away that share their directories.

    Without a store only directories can be read. ``stack`` closes what is opened and removes what is made.
    """
    workplace = Workplace(store)
    stack.callback(workplace.close)
    remote = Remote(workplace, secrets=options.secrets, agents=_agents(options), fresh=options.no_cache)
    stack.callback(remote.close)
    places = Places(
        workplace,
        remote,
        keep_git_dir=parse_bool(options.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "")) is True,
        commit_times=bool(options.build_args.get("SOURCE_DATE_EPOCH")),
    )
    return places, remote


def _agents(options: BuildOptions) -> Mapping[str, Agent]:
    """Return the agents of a build. The user's own one is lent to read the contexts that are named by ssh."""
    texts = [text for text in (options.context, *options.contexts.values()) if not os.path.exists(text)]
    remotes = [git.remote for text in texts if (git := git_reference.parse(text, context=True)) is not None]
    if (
        "default" in options.agents
        or all(map(git_reference.is_web, remotes))
        or not os.environ.get("SSH_AUTH_SOCK")
    ):
        return options.agents
    from .run_options import open_agents

    return {**options.agents, **open_agents(("default",))}
