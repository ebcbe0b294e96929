"""The user namespace in which an ordinary user's program builds."""

from __future__ import annotations

import run_step

from ..errors import BuildError
from ..store.location import check, default_root


def enter_user_namespace(root: str | None = None) -> tuple[str, ...]:
    """Make an ordinary user's process root of a user namespace, and return warnings about what can't work in it.

    Building needs that. Call it where the program starts, because the process must have one thread. For root that may
    mount, it does nothing. Root that may not mount (in a container) enters a namespace where it can.

    Args:
        root: The store. Who owns the directories on the way to it can be told only before a namespace is entered, so
            they are checked here.

    Raises:
        BuildError: The kernel does not allow it, the process has several threads, or others could change the store.
    """
    if not run_step.needs_user_namespace():
        return ()
    check(root or default_root())
    try:
        return run_step.enter_user_namespace()
    except run_step.HostError as error:
        raise BuildError(str(error)) from None
