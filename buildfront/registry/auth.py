"""Credentials as docker, podman and buildah keep them (containers-auth.json(5), docker's config.json)."""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from typing import Any

from ..errors import BuildError
from ..text import visible

_LIMIT = 4 << 20


def files() -> list[str]:
    """Return where they may be; the first that has an entry wins."""
    out = []
    if os.environ.get("REGISTRY_AUTH_FILE"):
        out.append(os.environ["REGISTRY_AUTH_FILE"])
    if os.environ.get("XDG_RUNTIME_DIR"):
        out.append(os.path.join(os.environ["XDG_RUNTIME_DIR"], "containers", "auth.json"))
    home = os.path.expanduser("~")
    out.append(os.path.join(home, ".config", "containers", "auth.json"))
    out.append(os.path.join(os.environ.get("DOCKER_CONFIG") or os.path.join(home, ".docker"), "config.json"))
    return out


def credentials(domain: str) -> tuple[str, str] | None:
    """Return user and password for a registry, or None.

    Raise BuildError if a file, or the entry of this registry, is malformed: without credentials, or with those of a
    later file, the build would not do what the user has set up.
    """
    names = [domain, f"https://{domain}", f"https://{domain}/v1/", f"https://{domain}/v2/"]
    if domain == "docker.io":
        names.append("https://index.docker.io/v1/")
    for path in files():
        auths = _read(path).get("auths")
        if auths is None:
            continue
        if not isinstance(auths, dict):
            raise _bad(path, "its auths is not an object")
        for name in names:
            entry = auths.get(name)
            if entry is None:
                continue
            found = _entry(path, name, entry)
            if found is not None:
                return found
    return None


def _entry(path: str, name: str, entry: Any) -> tuple[str, str] | None:
    if not isinstance(entry, dict):
        raise _bad(path, f"its entry for {name} is not an object")
    raw = entry.get("auth")
    if raw is None or raw == "":
        return None  # docker writes such entries when a helper program keeps the password
    if not isinstance(raw, str):
        raise _bad(path, f"the auth of {name} is not a string")
    try:
        text = base64.b64decode("".join(raw.split()), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise _bad(path, f"the auth of {name} is not base64 of USER:PASSWORD") from None
    user, colon, password = text.rstrip("\0").partition(":")
    if not colon or not user:
        raise _bad(path, f"the auth of {name} is not base64 of USER:PASSWORD")
    return user, password


def _read(path: str) -> dict[str, Any]:
    try:
        # not blocking: opening a FIFO would wait for who writes to it
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise _bad(path, getattr(error, "strerror", None) or str(error)) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _bad(path, "it is not a regular file")
        with os.fdopen(os.dup(fd), "rb") as stream:
            data = stream.read(_LIMIT + 1)
        if len(data) > _LIMIT:
            raise _bad(path, f"it is larger than {_LIMIT} bytes")
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from None
    finally:
        os.close(fd)
    if not data.strip():
        return {}
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise _bad(path, "it is not JSON") from None
    if not isinstance(value, dict):
        raise _bad(path, "it is not a JSON object")
    return value


def _bad(path: str, why: str) -> BuildError:
    return BuildError(
        f"the credentials in {visible(path, 300)} can't be used: {visible(why, 300)}",
        hint="mend or remove the file, or name another one with REGISTRY_AUTH_FILE",
    )
