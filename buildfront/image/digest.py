"""Digests of content (OCI image spec, descriptor.md)."""

from __future__ import annotations

import hashlib
import json
import re

from ..errors import BuildError

_FORM = re.compile("sha256:[0-9a-f]{64}")


class Digest(str):
    """``sha256:`` and 64 hexadecimal digits.

    It is a text, so it can be compared, printed, and written as JSON. Use :meth:`parse` for text from outside.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, value: object, what: str = "") -> Digest:
        """Return the digest that ``value`` is. ``what`` names it in the error.

        Raise BuildError for anything else, digests of other algorithms included.
        """
        if isinstance(value, str) and cls.is_valid(value):
            return cls(value)
        shown = value if isinstance(value, str) else json.dumps(value)
        raise BuildError(
            f"{what + ': ' if what else ''}unsupported digest {shown[:200]!r}",
            hint="only sha256 is supported",
        )

    @staticmethod
    def is_valid(text: str) -> bool:
        """Whether a text is such a digest."""
        return _FORM.fullmatch(text) is not None

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the digest of some bytes."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @property
    def hex(self) -> str:
        """The hexadecimal digits."""
        return self.removeprefix("sha256:")

    @property
    def short(self) -> str:
        """The first 12 hexadecimal digits, as they are shown to users."""
        return self.hex[:12]
