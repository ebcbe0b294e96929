"""The border: whatever a registry's documents hold, what comes out is an error that can be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import BuildError
from ..text import visible

_SENSELESS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@contextmanager
def sensible(domain: str) -> Iterator[None]:
    """Make a BuildError of what a document of the wrong shape brings about; what it quotes becomes visible."""
    try:
        yield
    except BuildError as error:
        error.what = visible(error.what)
        error.hint = visible(error.hint)
        error.args = (error.what,)
        raise
    except _SENSELESS as error:
        raise BuildError(
            f"the registry {domain} answered with a document of the wrong shape: {visible(str(error), 200)}",
            hint="the image has to be pushed again, by a program that writes OCI or docker manifests",
        ) from error
