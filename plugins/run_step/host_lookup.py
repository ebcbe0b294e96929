"""The look-up of the host's files that a request needs, added to the facts.

They are devices, CDI files, hook definitions, and the sources of default mounts. Planning itself never looks
at the host. This module is called before it, and its result can be recorded.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from . import documents
from .errors import HostError, RequestError
from .helper_programs import find_runtime
from .host import DeviceFact, HostFacts, PathFact, TextFile
from .network_terms import CNI_CONFIG_DIRS
from .pipeline import cdi
from .pipeline.default_mounts import parse as parse_default_mount
from .pipeline.devices import clean, parse
from .pipeline.isolation_choice import choose as choose_isolation
from .pipeline.seccomp import parse as parse_profile
from .pipeline.volumes import parse_mount, parse_volume
from .request import RunRequest


def look_up(request: RunRequest, host: HostFacts) -> HostFacts:
    """Return ``host`` with the facts added that ``request`` names.

    They are devices, CDI files, hooks, sources of volumes and of default mounts, and configurations of networks. Raises
    RequestError for a malformed device or volume, HostError for a directory of hooks, devices or networks that can't
    be read.
    """
    named = request.devices or request.hooks_dirs or request.volumes or request.mounts
    if not (named or host.default_mounts or names_a_network(request)):
        return host
    devices: dict[str, DeviceFact] = {item.path: item for item in host.devices}
    paths = {item.path: item for item in host.paths}
    for text in request.devices:
        source, _, _ = parse(text)
        if not cdi.is_name(source):
            devices.update({item.path: item for item in _devices(source)})
    specs = host.cdi_specs
    names = [text for text in request.devices if cdi.is_name(text)]
    if names and not specs:
        specs = tuple(_cdi_files(request.cdi_spec_dirs or cdi.DIRECTORIES))
        for name in names:
            with suppress(HostError):  # reported when the plan is made
                for edits in cdi.resolve([name], (), replace(host, cdi_specs=specs)).edits:
                    for node in edits.nodes:
                        source = clean(node.get("hostPath") or node["path"])
                        devices.update({item.path: item for item in _devices(source)})
                    for mount in edits.mounts:
                        _note(mount["hostPath"], paths)
    for volume in (*map(parse_volume, request.volumes), *map(parse_mount, request.mounts)):
        for source in volume.host_paths:
            _note(source, paths)
    for line in host.default_mounts:
        parsed = parse_default_mount(line)
        if parsed is not None and _can_be_copied(parsed[0]):
            _note(parsed[0], paths)
    hooks = list(host.hooks)
    for directory in request.hooks_dirs:
        hooks += _hooks(directory)
    return replace(
        host,
        paths=tuple(paths.values()),
        devices=tuple(devices.values()),
        cdi_specs=specs,
        hooks=tuple(hooks),
        has_rro=_has_rro(request, host),
        cni=host.cni or tuple(_cni_files(request)),
    )


def names_a_network(request: RunRequest) -> bool:
    """Whether the network may be one that CNI makes: by name, or a private one."""
    private = request.network == "private" or bool(request.uid_map or request.gid_map)
    private = private or any(
        option.name in ("network", "user") and not option.host for option in request.namespaces
    )
    return private or request.network not in _NOT_BY_CNI


_NOT_BY_CNI = ("", "default", "host", "none", "bridge", "slirp4netns", "pasta")


def _cni_files(request: RunRequest) -> Iterator[TextFile]:
    """Yield all configurations in the order of their names, the first directory first."""
    if not names_a_network(request) or request.network.startswith("ns:"):
        return
    for directory in request.cni_config_dirs or CNI_CONFIG_DIRS:
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError:
            if request.cni_config_dirs:
                raise HostError(f"the CNI configuration directory {directory} does not exist") from None
            continue
        except OSError as error:
            if not request.cni_config_dirs and isinstance(error, PermissionError):
                continue  # an unprivileged user, who can use none of these networks
            raise HostError(
                f"the CNI configuration directory {directory} can't be read: {error.strerror}"
            ) from None
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith((".conf", ".conflist", ".json")) and os.path.isfile(path):
                yield _read(path)


def _note(path: str, paths: dict[str, PathFact]) -> None:
    if os.path.exists(path):
        paths[path] = PathFact(path, os.path.isdir(path))


def _has_rro(request: RunRequest, host: HostFacts) -> bool:
    """Whether the runtime supports recursive read-only binds (runtime-spec, features.md), if a volume needs to know.

    A runtime that does not report its features does not support them.
    """
    isolation, _ = choose_isolation(request.isolation, host)
    if isolation == "chroot" or not (request.volumes or request.mounts):
        return host.has_rro
    chosen = request.runtime or (host.working_runtime.path if host.working_runtime else "runc")
    path = find_runtime(chosen)
    if path is None:
        return False
    try:
        done = subprocess.run(
            [path, "features"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
        )
        features = documents.parse(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    return isinstance(features, dict) and _has(features.get("mountOptions"), "rro")


def _has(value: Any, item: str) -> bool:
    return isinstance(value, list) and item in value


_NO_DEVICES = ("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console")
"""Entries in a directory of devices that are not devices to pass on (libcontainer, devices.GetDevices)."""


def _devices(path: str) -> list[DeviceFact]:
    """Return the device at ``path``, or all those in a directory; links are followed only if named."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    if stat.S_ISDIR(status.st_mode):
        return list(_devices_in(path))
    return _device(path, status)


def _devices_in(directory: str) -> Iterator[DeviceFact]:
    try:
        names = sorted(set(os.listdir(directory)) - set(_NO_DEVICES))
    except OSError as error:
        raise HostError(f"the directory of devices {directory} can't be read: {error.strerror}") from None
    for name in names:
        path = os.path.join(directory, name)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue  # unplugged meanwhile
        if stat.S_ISDIR(status.st_mode):
            yield from _devices_in(path)
        else:
            yield from _device(path, status)


def _device(path: str, status: os.stat_result) -> list[DeviceFact]:
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
    if not kind:
        return []
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return [DeviceFact(path, kind, major, minor, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)]


def _cdi_files(directories: Iterable[str]) -> Iterator[TextFile]:
    """Yield all specifications. An unreadable one is recorded as such: it matters only to a request that needs it."""
    for directory in dict.fromkeys(directories):
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue  # the usual directories may be missing
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith(cdi.SUFFIXES) and not os.path.isdir(path):
                yield _read(path)


def _read(path: str) -> TextFile:
    try:
        return TextFile(path, documents.read(path, documents.SPECIFICATION, regular=True).decode())
    except OSError as error:
        return TextFile(path, "", f"it can't be read: {error.strerror}")
    except UnicodeDecodeError:
        return TextFile(path, "", "it is not UTF-8 text")


def _hooks(directory: str) -> list[TextFile]:
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".json"))
    except OSError as error:
        raise HostError(f"the hooks directory {directory} can't be read: {error.strerror}") from None
    return [_read(os.path.join(directory, name)) for name in names]


def _can_be_copied(path: str, above: tuple[os.stat_result, ...] = ()) -> bool:
    """Whether :func:`run_step.host_copy.copy` can copy ``path``.

    It must consist of files and directories that we may read, and no link may lead to a directory that it is
    in.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            return stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK)
        if any(os.path.samestat(status, other) for other in above) or not os.access(path, os.X_OK):
            return False
        entries = [os.path.join(path, name) for name in os.listdir(path)]
    except FileNotFoundError:
        return bool(above)  # a dangling link is left out
    except OSError:
        return False
    return all(_can_be_copied(entry, (*above, status)) for entry in entries)


def security_options(texts: Iterable[str], request: RunRequest) -> RunRequest:
    """Return the request with the ``--security-opt`` values; the file of a profile is read here.

    Raises RequestError, which quotes the option and shows the format, and HostError for a file that can't be
    read.
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
    try:
        text = documents.read(value, documents.SPECIFICATION).decode()
    except OSError as error:
        raise HostError(f"the seccomp profile {value} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise HostError(f"the seccomp profile {value} can't be read: it is not UTF-8 text") from None
    parse_profile(text)
    return text
