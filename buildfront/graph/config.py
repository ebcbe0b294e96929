"""Metadata instructions applied to an image's config, a dict as the OCI image spec has it (config.md)."""

from __future__ import annotations

import posixpath
from typing import Any

from ..dockerfile.instructions import Command, Healthcheck
from ..errors import BuildError

DEFAULT_SHELL = ("/bin/sh", "-c")
WINDOWS_SHELL = ("cmd", "/S", "/C")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Config = dict[str, Any]


_KNOWN = (
    *("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal"),
    *("ArgsEscaped", "Healthcheck", "Shell"),
)


def known(config: Config) -> Config:
    """Return what an image has of its base's config: the fields of docker's images, without OnBuild."""
    return {name: config[name] for name in _KNOWN if name in config}


class Environment:
    """The environment of a config, changed in the config itself.

    A name is looked up in constant time: a Dockerfile may have any number of them.
    """

    def __init__(self, config: Config) -> None:
        self._entries: list[str] = list(config.get("Env") or [])
        config["Env"] = self._entries
        self._places: dict[str, list[int]] = {}
        for at, entry in enumerate(self._entries):
            self._places.setdefault(entry.partition("=")[0], []).append(at)
        self.values = env_of(config)
        """The variables; follows later changes."""
        self.size = sum(map(len, self._entries))
        self._shared: tuple[str, ...] | None = None

    def set(self, name: str, value: str) -> None:
        """Replace a variable in place, or append it."""
        entry = f"{name}={value}"
        places = self._places.get(name)
        if places is None:
            places = self._places[name] = [len(self._entries)]
            self._entries.append("")
        for at in places:  # a base image may have a name twice
            self.size += len(entry) - len(self._entries[at])
            self._entries[at] = entry
        self.values[name] = value
        self._shared = None

    def entries(self) -> tuple[str, ...]:
        """Return ``NAME=value`` in order."""
        if self._shared is None:
            self._shared = tuple(self._entries)
        return self._shared


def env_of(config: Config) -> dict[str, str]:
    """Return the environment as a mapping, in order."""
    return {name: value for name, _, value in (entry.partition("=") for entry in config.get("Env") or [])}


def clean(path: str) -> str:
    """Return an absolute path in its shortest spelling."""
    return posixpath.normpath("/" + path.lstrip("/"))


def workdir(config: Config, value: str) -> str:
    """Apply WORKDIR and return the new path.

    A relative one counts from the one before and is clean; an absolute one stays as written, as in BuildKit.
    """
    before = str(config.get("WorkingDir") or "/")
    if not value.startswith("/"):
        value = clean(f"{before}/{value}") if value else before
    config["WorkingDir"] = value
    return value


def command_words(command: Command, shell: tuple[str, ...]) -> list[str]:
    """Return the argument list: a shell form gets the stage's SHELL in front."""
    return [*shell, " ".join(command.words)] if command.shell else list(command.words)


def expose(config: Config, ports: list[str]) -> None:
    """Apply EXPOSE to ports of the form ``80/tcp``."""
    known = config["ExposedPorts"] = config.get("ExposedPorts") or {}
    known.update({port: {} for port in ports})


def volume(config: Config, paths: list[str]) -> None:
    """Apply VOLUME. Raises BuildError for an empty path."""
    if not all(paths):
        raise BuildError("VOLUME has an empty path")
    volumes = config["Volumes"] = config.get("Volumes") or {}
    volumes.update({path: {} for path in paths})


def healthcheck(config: Config, item: Healthcheck) -> None:
    """Apply HEALTHCHECK, in Docker's form; times are nanoseconds."""
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
