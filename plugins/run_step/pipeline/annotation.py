"""The annotations of the spec, for runtimes and for the hooks that match on them."""

from __future__ import annotations

from ..errors import RequestError
from ..host import HostFacts
from ..request import RunRequest
from .draft import Draft


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Set the annotations ``NAME=VALUE``; a later one with the same name replaces an earlier one."""
    for text in request.annotations:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise RequestError(f"annotation {text!r}: the form is NAME=VALUE")
        draft.spec.setdefault("annotations", {})[name] = value
