"""What is known of a stage while its instructions are read: variables, directory, user, shell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import BuildError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LARGEST = 32 << 20


class Size:
    """Counts the characters of the variables of all stages: a few lines can make any number."""

    def __init__(self) -> None:
        self._spent = 0

    def spend(self, characters: int) -> None:
        """Count ``characters``. Raises BuildError for too many."""
        self._spent += characters
        if self._spent > _LARGEST:
            raise BuildError(
                f"the variables of the stages come to more than {_LARGEST >> 20} MiB",
                hint="does a variable grow with each line, or each stage with the one before?",
            )


@dataclass
class Scope:
    """The state of a stage.

    ``known`` is false where the environment of the base image is not known. ``declared`` are the names of ARG. ``cwd``
    and ``user`` are None where they are not known. ``shell`` is that of SHELL, of the base image too.
    """

    size: Size
    env: dict[str, str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    known: bool = True
    shell: tuple[str, ...] = ()
    cwd: str | None = "/"
    user: str | None = ""
    workdir_set: bool = False
    onbuild: tuple[str, ...] = ()

    def set(self, name: str, value: str) -> None:
        """Set a variable. Raises BuildError where they grow too large."""
        self.size.spend(len(name) + len(value) + 1)
        self.env[name] = value

    def child(self) -> Scope:
        """Return the state with which a stage starts that is FROM this one."""
        self.size.spend(sum(len(name) + len(value) for name, value in self.env.items()))
        self.size.spend(sum(map(len, self.declared)))
        return Scope(
            self.size,
            dict(self.env),
            set(self.declared),
            self.known,
            self.shell,
            self.cwd,
            self.user,
            self.workdir_set,
        )


def of_image(config: Mapping[str, Any] | None, size: Size) -> Scope:
    """Return the state with which a stage starts that is FROM an image; ``config`` None is one that is not known."""
    scope = Scope(size)
    if config is None:
        scope.known, scope.cwd, scope.user = False, None, None
    inner = (config or {}).get("config") or {}
    for entry in inner.get("Env") or ():
        name, equals, value = str(entry).partition("=")
        if equals:
            scope.set(name, value)
    scope.shell = tuple(map(str, inner.get("Shell") or ()))
    if config is not None:
        scope.cwd = str(inner.get("WorkingDir") or "/")
        scope.user = str(inner.get("User") or "")
    scope.onbuild = tuple(map(str, inner.get("OnBuild") or ()))
    if "PATH" not in scope.env:
        scope.set("PATH", DEFAULT_PATH)
    return scope
