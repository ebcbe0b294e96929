"""What a request mentions of the host, looked up and added to the facts: devices, CDI files, hook definitions.

Planning itself never looks at the host. This is called at the edge, and its answer can be recorded.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .errors import HostError, RequestError
from .host import DeviceFact, HostFacts, PathFact, TextFile
from .pipeline.devices import is_cdi, parse
from .pipeline.volumes import parse_mount, parse_volume
from .request import RunRequest

CDI_DIRS = ("/etc/cdi", "/var/run/cdi")
"""Where CDI specifications are looked for (CDI SPEC.md)."""


def look_up(request: RunRequest, host: HostFacts) -> HostFacts:
    """The facts with what ``request`` needs added.

    Raises RequestError for a malformed device, HostError for a hooks directory that can't be read.
    """
    devices: dict[str, DeviceFact] = {item.path: item for item in host.devices}
    specs: list[str] = list(host.cdi_specs)
    for text in request.devices:
        source, _, _ = parse(text)
        if not is_cdi(text):
            devices.update({item.path: item for item in _devices(source)})
        elif not specs:
            specs = _cdi(request.cdi_spec_dirs or CDI_DIRS)
            for spec in specs:
                for path in _cdi_nodes(spec):
                    devices.update({item.path: item for item in _devices(path)})
    paths = {item.path: item for item in host.paths}
    for volume in (*map(parse_volume, request.volumes), *map(parse_mount, request.mounts)):
        for source in volume.host_paths:
            if os.path.exists(source):
                paths[source] = PathFact(source, os.path.isdir(source))
    for mount in _cdi_mounts(specs):
        if os.path.exists(mount):
            paths[mount] = PathFact(mount, os.path.isdir(mount))
    hooks = list(host.hooks)
    for directory in request.hooks_dirs:
        hooks += _hooks(directory)
    return replace(
        host,
        paths=tuple(paths.values()),
        devices=tuple(devices.values()),
        cdi_specs=tuple(specs),
        hooks=tuple(hooks),
        has_rro=_has_rro(request, host),
    )


def _has_rro(request: RunRequest, host: HostFacts) -> bool:
    """Asked of the runtime (runtime-spec, features.md), where a volume needs to know; one that can't say has it not."""
    if request.isolation == "chroot" or not (request.volumes or request.mounts):
        return host.has_rro
    import subprocess

    from .isolation.oci import find

    chosen = request.runtime or (host.working_runtime.path if host.working_runtime else "runc")
    path = find(chosen)
    if path is None:
        return False
    try:
        done = subprocess.run(
            [path, "features"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
        )
        features = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    return isinstance(features, dict) and "rro" in (features.get("mountOptions") or [])


def _devices(path: str) -> list[DeviceFact]:
    try:
        status = os.stat(path)
    except OSError:
        return []
    if stat.S_ISDIR(status.st_mode):
        return [item for name in sorted(os.listdir(path)) for item in _devices(os.path.join(path, name))]
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
    if not kind:
        return []
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return [DeviceFact(path, kind, major, minor, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)]


def _cdi(directories: Iterable[str]) -> list[str]:
    """The texts of all JSON specifications; the last directory has the highest priority, so it comes first."""
    out = []
    for directory in reversed(list(directories)):
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith((".yaml", ".yml")):
                raise HostError(
                    f"the CDI specification {path} is YAML, which is not read yet; convert it to JSON"
                )
            if name.endswith(".json"):
                with open(path, encoding="utf-8") as stream:
                    out.append(stream.read())
    return out


def _cdi_edits(text: str) -> list[dict[str, Any]]:
    try:
        spec = json.loads(text)
    except ValueError:
        return []  # said when the specification is used
    if not isinstance(spec, dict):
        return []
    return [item.get("containerEdits") or {} for item in (spec, *(spec.get("devices") or []))]


def _cdi_nodes(text: str) -> list[str]:
    nodes = [node for edits in _cdi_edits(text) for node in edits.get("deviceNodes") or []]
    return [node.get("hostPath") or node.get("path", "") for node in nodes]


def _cdi_mounts(texts: list[str]) -> list[str]:
    edits = [item for text in texts for item in _cdi_edits(text)]
    return [mount.get("hostPath", "") for item in edits for mount in item.get("mounts") or []]


def _hooks(directory: str) -> list[TextFile]:
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".json"))
    except OSError as error:
        raise HostError(f"the hooks directory {directory} can't be read: {error.strerror}") from None
    out = []
    for name in names:
        path = os.path.join(directory, name)
        with open(path, encoding="utf-8") as stream:
            out.append(TextFile(path, stream.read()))
    return out


def security_options(texts: Iterable[str], request: RunRequest) -> RunRequest:
    """``--security-opt`` values put into the request; a profile's file is read here.

    Raises RequestError that quotes the option and says the form, HostError for a file that can't be read.
    """
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals and ":" in text:
            name, equals, value = text.partition(":")  # the old spelling
        if name == "no-new-privileges" and value in ("", "true", "false"):
            request = replace(request, no_new_privileges=value != "false")
        elif name == "seccomp" and value:
            request = replace(request, seccomp=_profile(value))
        elif name == "apparmor" and value:
            request = replace(request, apparmor=value)
        elif name == "label" and value:
            request = replace(request, labels=(*request.labels, value))
        elif name in ("mask", "unmask") and value:
            paths = tuple(value.split(":"))
            bad = next((path for path in paths if not path.startswith("/") and path.upper() != "ALL"), None)
            if bad is not None or (name == "mask" and "ALL" in (path.upper() for path in paths)):
                raise RequestError(
                    f"security option {text!r}: absolute paths with colons between them are wanted"
                )
            if name == "mask":
                request = replace(request, mask=(*request.mask, *paths))
            else:
                request = replace(request, unmask=(*request.unmask, *paths))
        else:
            raise RequestError(
                f"security option {text!r}: known are seccomp=FILE|unconfined, apparmor=PROFILE, label=OPTION, "
                "no-new-privileges, mask=PATH[:PATH], unmask=ALL|PATH[:PATH]"
            )
    return request


def _profile(value: str) -> str:
    if value == "unconfined":
        return value
    if value in ("builtin", "default"):
        return ""
    from .pipeline.seccomp import parse as parse_profile

    try:
        with open(value, encoding="utf-8") as stream:
            text = stream.read()
    except OSError as error:
        raise HostError(f"the seccomp profile {value} can't be read: {error.strerror}") from None
    parse_profile(text)
    return text
