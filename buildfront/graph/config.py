"""How metadata instructions change an image's config (OCI image spec, config.md). Pure folds over dicts."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from ..dockerfile.instructions import Command, Healthcheck
from ..errors import BuildError

DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)

Config = dict[str, Any]


def set_env(config: Config, name: str, value: str) -> None:
    """Replace in place, or append."""
    env = list(config.get("Env") or [])
    for index, entry in enumerate(env):
        if entry.partition("=")[0] == name:
            env[index] = f"{name}={value}"
            break
    else:
        env.append(f"{name}={value}")
    config["Env"] = env


def env_of(config: Config) -> dict[str, str]:
    """The environment as a mapping, in order."""
    return dict(entry.split("=", 1) for entry in config.get("Env") or [] if "=" in entry)


def workdir(config: Config, value: str) -> str:
    """WORKDIR: relative to the one before. Returns the new absolute, clean path."""
    path = posixpath.normpath(posixpath.join("/", config.get("WorkingDir") or "/", value))
    config["WorkingDir"] = "/" + path.lstrip("/")
    return str(config["WorkingDir"])


def command_words(command: Command, shell: tuple[str, ...]) -> list[str]:
    """The argument list: a shell form gets the stage's SHELL in front."""
    return [*shell, *command.words] if command.shell else list(command.words)


def expose(config: Config, words: list[str]) -> None:
    """EXPOSE: ``80``, ``80/udp``, ``8000-8010``."""
    ports = dict(config.get("ExposedPorts") or {})
    for word in words:
        match = _PORT.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not match or not 0 < first <= last <= 65535:
            raise BuildError(f"EXPOSE {word!r}: the form is PORT[-PORT][/tcp|/udp|/sctp]")
        for port in range(first, last + 1):
            ports[f"{port}/{(match[3] or 'tcp').lower()}"] = {}
    config["ExposedPorts"] = ports


def volume(config: Config, paths: list[str]) -> None:
    """VOLUME."""
    if any(not path.strip() for path in paths):
        raise BuildError("VOLUME has an empty path")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}


def healthcheck(config: Config, item: Healthcheck, shell: tuple[str, ...]) -> None:
    """HEALTHCHECK, as Docker writes it into the config; times in nanoseconds."""
    if item.command is None:
        config["Healthcheck"] = {"Test": ["NONE"]}
        return
    test = ["CMD-SHELL", *item.command.words] if item.command.shell else ["CMD", *item.command.words]
    values = {
        "Interval": item.interval,
        "Timeout": item.timeout,
        "StartPeriod": item.start_period,
        "StartInterval": item.start_interval,
        "Retries": item.retries,
    }
    config["Healthcheck"] = {"Test": test, **{key: value for key, value in values.items() if value}}
