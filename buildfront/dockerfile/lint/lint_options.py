"""What a check is told besides the text, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import BuildError
from ..ignore import Ignore
from .findings import LintFinding


@dataclass(frozen=True)
class LintOptions:
    """What a check needs to know.

    ``all_stages`` checks also stages that the target does not need. ``contexts`` are the named build contexts, each
    with the name of its image, or empty for a directory. ``bases`` has the configs of the base images that are known,
    by the names in FROM with their variables replaced; ``files`` the paths of the build context, None if they are not
    known. ``seconds`` says how long a RUN took the last time, by its first line.

    ``check`` takes the place of the ``# check=`` directive. ``skip``, ``enable`` and ``errors`` are names of rules that
    are switched off, switched on, and made errors, whatever the directive says.
    """

    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    all_stages: bool = True
    platform: str = "linux/amd64"
    build_platform: str = "linux/amd64"
    contexts: Mapping[str, str] = field(default_factory=dict)
    bases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ignore: Ignore | None = None
    files: tuple[str, ...] | None = None
    seconds: Mapping[int, float] = field(default_factory=dict)
    check: str | None = None
    skip: frozenset[str] = frozenset()
    enable: frozenset[str] = frozenset()
    errors: frozenset[str] = frozenset()

    def base(self, image: str) -> Mapping[str, Any] | None:
        """Return the config of a base image; None where it is not known."""
        return self.bases.get(self.contexts.get(image, image))


@dataclass(frozen=True)
class LintResult:
    """The findings in the order in which BuildKit reports them, and the error that ended the check, if there is one.

    ``fails`` is true where the Dockerfile itself says that its findings are errors (``# check=error=true``).
    """

    findings: tuple[LintFinding, ...]
    error: BuildError | None = None
    fails: bool = False
