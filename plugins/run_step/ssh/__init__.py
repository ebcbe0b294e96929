"""A step's use of SSH keys: agents that hold them, a socket that lends them, and the option that names them.

With a lent agent a step may list the keys and sign, nothing else. Mounting the socket is done elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from ..errors import RequestError
from .agent import Agent, KeyAgent, SocketAgent

__all__ = ["Agent", "KeyAgent", "SocketAgent", "parse_ssh"]

_FORM = "the form is default, ID, ID=SOCKET or ID=KEY[,KEY...]"


def parse_ssh(text: str, environ: Mapping[str, str]) -> tuple[str, Agent]:
    """Return the ID and the agent of ``default|ID[=SOCKET|KEY[,KEY...]]``, the syntax of docker buildx.

    An ID without ``=``, or with nothing after it, means the agent at SSH_AUTH_SOCK of ``environ``. Without an
    ID before the ``=`` it is ``default``. Relative paths count from the current directory. Keys are read now.
    Raises RequestError, which quotes ``text`` and says how to correct it.
    """
    name, _, value = text.partition("=")
    if not text or "," in name:
        raise RequestError(f"ssh {text!r}: {_FORM}")
    try:
        return name or "default", _at_paths(value.split(",")) if value else _of_user(environ)
    except RequestError as error:
        raise RequestError(f"ssh {text!r}: {error}") from None


def _of_user(environ: Mapping[str, str]) -> Agent:
    path = environ.get("SSH_AUTH_SOCK", "")
    remedy = "start one with 'eval $(ssh-agent)' and ssh-add, or name a socket or keys with ID=PATH"
    if not path:
        raise RequestError(f"SSH_AUTH_SOCK is not set, so there is no agent; {remedy}")
    try:
        if _is_socket(path):
            return SocketAgent(path)
    except RequestError as error:
        raise RequestError(f"SSH_AUTH_SOCK: {error}; {remedy}") from None
    raise RequestError(f"SSH_AUTH_SOCK: {path!r} is not a socket; {remedy}")


def _at_paths(paths: list[str]) -> Agent:
    if "" in paths:
        raise RequestError(f"one of the paths is empty; {_FORM}")
    paths = [os.path.expanduser(path) for path in paths]  # a shell expands ~ only at the beginning of a word
    sockets = [path for path in paths if _is_socket(path)]
    if not sockets:
        return KeyAgent(paths)
    if len(sockets) < len(paths):
        raise RequestError(f"{sockets[0]!r} is a socket, and there are keys too; give them IDs of their own")
    if len(sockets) > 1:
        raise RequestError("more than one socket; give each an ID of its own")
    return SocketAgent(sockets[0])


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError as error:
        raise RequestError(f"{path!r} can't be looked at: {error.strerror}") from None
    except ValueError:
        raise RequestError(f"{path!r} is not a path: it has a null byte") from None
