"""Credentials as docker, podman and buildah keep them (containers-auth.json(5), docker's config.json)."""

from __future__ import annotations

import base64
import json
import os
import re

_PARAMETER = re.compile(r'(?<![a-zA-Z_])([a-zA-Z_]+)="([^"]*)"')
"""A name is looked at from its beginning alone: a registry's header may be long."""


def files() -> list[str]:
    """Where they may be, the first that has an entry wins."""
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
    """User and password for a registry, or None."""
    names = [domain, f"https://{domain}", f"https://{domain}/v1/", f"https://{domain}/v2/"]
    if domain == "docker.io":
        names.append("https://index.docker.io/v1/")
    for path in files():
        try:
            with open(path, encoding="utf-8") as stream:
                auths = json.load(stream).get("auths", {})
        except (OSError, ValueError, AttributeError):
            continue
        for name in names:
            raw = auths.get(name, {}).get("auth")
            if raw:
                user, colon, password = base64.b64decode(raw).decode("utf-8", "replace").partition(":")
                if colon:
                    return user, password
    return None


def challenge(header: str) -> tuple[str, dict[str, str]]:
    """A WWW-Authenticate header as scheme (lower case) and parameters."""
    scheme, _, rest = header.partition(" ")
    return scheme.lower(), dict(_PARAMETER.findall(rest))
