"""The inputs of one run, which are in no plan, request or record: the files behind RUN mounts, secrets, SSH agents."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import documents
from .errors import HostError, RequestError
from .option_text import split_values
from .planning import ForwardAgent, PutSecret, RunPlan, SetSecret, TakeSource

if TYPE_CHECKING:
    from .ssh import Agent

LARGEST = 500 << 10
"""The most bytes that a secret may have, as in BuildKit."""


class Secret:
    """The bytes of a secret, which its ``repr`` does not show: no message or traceback can hold them."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __repr__(self) -> str:
        return "Secret(…)"


@dataclass(frozen=True)
class Inputs:
    """The inputs of one run, by the names that the plan uses.

    ``sources`` are absolute paths of directories or files, without links; ``secrets`` and ``agents`` go by their
    ids. ``locks`` are descriptors that stay open until the step has ended, even if the builder is killed: files
    whose lock says that a source is in use. ``shared`` names the sources that others may change meanwhile: no other
    mount may lie in one.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    agents: Mapping[str, Agent] = field(default_factory=dict)
    locks: tuple[int, ...] = ()
    shared: frozenset[str] = frozenset()

    def check(self, plan: RunPlan) -> None:
        """Raise HostError for the first input that the plan needs and that is missing, or can't be used."""
        for action in plan.actions:
            if isinstance(action, TakeSource) and action.name not in self.sources:
                raise HostError(f"the source {action.name!r} of a mount was not handed over")
            if isinstance(action, PutSecret | SetSecret) and action.id not in self.secrets:
                raise HostError(f"the secret {action.id!r} was not handed over")
            if isinstance(action, ForwardAgent) and action.id not in self.agents:
                raise HostError(f"the SSH agent {action.id!r} was not handed over")
            if isinstance(action, SetSecret):
                _check_text(action, self.secrets[action.id].data)


_LONGEST = 128 << 10
"""The most bytes of NAME=value with its end (linux/binfmts.h, MAX_ARG_STRLEN)."""


def _check_text(action: SetSecret, data: bytes) -> None:
    try:
        data.decode()
        wrong = b"\0" in data
    except UnicodeDecodeError:
        wrong = True
    if wrong:
        raise HostError(
            f"the secret {action.id!r} is not text, and can't be the variable {action.variable}; take it as a file"
        )
    if len(action.variable) + len(data) + 2 > _LONGEST:
        raise HostError(
            f"the secret {action.id!r} is too long for the variable {action.variable} (128 KiB); take it as a file"
        )


def parse_secret(text: str, environ: Mapping[str, str]) -> tuple[str, Secret]:
    """Return the id and the content of ``id=ID[,type=file|env][,src=PATH|,env=VARIABLE]``, read now.

    The form is that of docker-buildx-build(1), ``--secret``. Without a source it is the variable ``ID`` where there
    is one, else the file ``ID``. Raises RequestError that quotes ``text``, never the secret.
    """
    fields: dict[str, str] = {}
    for item in split_values(text):
        name, equals, value = item.partition("=")
        name = {"source": "src"}.get(name.strip().lower(), name.strip().lower())
        if name not in ("id", "type", "src", "env") or not equals or not value:
            raise RequestError(f"secret {text!r}: the form is id=ID[,src=PATH] or id=ID,env=VARIABLE")
        if name in fields:
            raise RequestError(f"secret {text!r}: {name} is given twice")
        fields[name] = value
    identity, kind = fields.get("id", ""), fields.get("type", "")
    if not identity:
        raise RequestError(f"secret {text!r}: id=ID is missing")
    if kind not in ("", "file", "env"):
        raise RequestError(f"secret {text!r}: type={kind}: known are file, env")
    path, variable = fields.get("src", ""), fields.get("env", "")
    if kind == "env" and path and not variable:
        path, variable = "", path
    if (path and variable) or (kind == "file" and variable):
        raise RequestError(f"secret {text!r}: it comes from a file or from a variable, not from both")
    if not path and not variable:
        from_environment = kind == "env" or (not kind and identity in environ)
        path, variable = ("", identity) if from_environment else (identity, "")
    if variable:
        if variable not in environ:
            raise RequestError(f"secret {text!r}: the environment has no variable {variable}")
        data = os.fsencode(environ[variable])
    else:
        data = _read(text, path)
    if len(data) > LARGEST:
        raise RequestError(f"secret {text!r}: it has more than {LARGEST} bytes, and can't be a secret")
    return identity, Secret(data)


def _read(text: str, path: str) -> bytes:
    try:
        return documents.read(os.path.expanduser(path), LARGEST)
    except documents.TooLarge:
        raise RequestError(
            f"secret {text!r}: it has more than {LARGEST} bytes, and can't be a secret"
        ) from None
    except OSError as error:
        raise RequestError(f"secret {text!r}: the file {path} can't be read: {error.strerror}") from None
