"""The result of a build."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .dockerfile.lint.findings import LintFinding


@dataclass(frozen=True)
class BuildOutcome:
    """The image that a build has put into the store.

    Attributes:
        image_id: The digest of the image config, ``sha256:…``.
        digest: The digest of the manifest.
        names: The full names that the image was given, one for each of the tags.
        size: The size of the compressed layers in bytes.
        blobs: The digests of the manifest, the config and the layers.
        cached: Whether the result of every step came from the cache.
        findings: What a check finds in the Dockerfile, in the stages that were built. See :func:`check`.
        find_inputs: Returns :attr:`inputs`.
    """

    image_id: str
    digest: str
    names: tuple[str, ...]
    size: int
    blobs: tuple[str, ...] = ()
    cached: bool = False
    findings: tuple[LintFinding, ...] = ()
    find_inputs: Callable[[], tuple[str, ...] | None] = field(default=lambda: None, repr=False, compare=False)

    @cached_property
    def inputs(self) -> tuple[str, ...] | None:
        """For a build that was wholly cached, the paths on which its result depends, found when first asked for.

        They are the Dockerfile and the ignore file wherever they were looked for, and the directories and files of the
        build contexts that steps read. As long as :func:`os.lstat` says the same of each of them, the same build gives
        the same image. None where a step ran, and where the status of files can't tell (standard input, archives,
        links).
        """
        return self.find_inputs()
