"""Volumes and mounts that a build asks for (row S64): ``--volume`` and ``--mount`` as data.

Preparations on the host (a label, an owner, an overlay's scratch directories) become actions of the plan. The
module knows nothing of the other mounts; ``mounts`` decides which one gets a destination.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..errors import RequestError
from ..host import PROTECTED, HostFacts
from ..option_text import parse_size, split_values
from ..planning import BUNDLE, ChangeOwner, MakeScratch, Relabel
from ..request import wrong_target
from .draft import Draft

Mount = dict[str, Any]

PROPAGATION = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
_EXCLUSIVE = (
    ("ro", "rw"),
    ("exec", "noexec"),
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("bind", "rbind"),
    PROPAGATION,
    ("z", "Z", "O"),
)
"""Groups of options of which a volume may have one each (podman-run(1), ``--volume``)."""
FLAGS = (*(option for group in _EXCLUSIVE for option in group), "U")
_SCRATCH = ("upperdir", "workdir")


@dataclass(frozen=True)
class Volume:
    """One volume: ``kind`` is ``bind``, ``overlay`` or ``tmpfs``.

    ``relabel`` is ``shared``, ``private`` or empty. ``upperdir`` and ``workdir`` are directories of the host
    that keep the changes in an overlay.
    """

    text: str
    kind: str
    source: str
    destination: str
    options: tuple[str, ...] = ()
    relabel: str = ""
    change_owner: bool = False
    upperdir: str = ""
    workdir: str = ""

    @property
    def host_paths(self) -> tuple[str, ...]:
        """The paths of the host that the volume needs."""
        return tuple(path for path in (self.source, self.upperdir, self.workdir) if path)

    def mount(self) -> Mount:
        """Return the mount of the spec."""
        return {
            "destination": self.destination,
            "type": self.kind,
            "source": self.source or self.kind,
            "options": list(self.options),
        }


def _destination(text: str, what: str, path: str) -> str:
    if not path.startswith("/"):
        raise RequestError(f"{what} {text!r}: the container path {path!r} must be absolute")
    path = posixpath.normpath("/" + path.lstrip("/"))
    if path == "/":
        raise RequestError(f"{what} {text!r}: the root directory can't be a {what}")
    why = wrong_target(path)
    if why and not path.startswith("/sys/"):  # the cgroups: builds with systemd need them
        raise RequestError(f"{what} {text!r}: {why}")
    return path


def _source(text: str, what: str, path: str) -> str:
    if not path.startswith("/"):
        raise RequestError(f"{what} {text!r}: the host path {path!r} must be absolute")
    return posixpath.normpath("/" + path.lstrip("/"))


def parse_volume(text: str) -> Volume:
    """Parse ``host:container[:opts]``. Raises RequestError, which quotes ``text``."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[0] or not parts[1]:
        raise RequestError(f"volume {text!r}: the form is HOST-PATH:CONTAINER-PATH[:OPTIONS]")
    source = _source(text, "volume", parts[0])
    destination = _destination(text, "volume", parts[1])
    options = [item for item in (parts[2].split(",") if len(parts) == 3 else []) if item]
    return _volume(text, "volume", source, destination, options)


def _volume(text: str, what: str, source: str, destination: str, given: list[str]) -> Volume:
    flags: list[str] = []
    scratch: dict[str, str] = {}
    for option in given:
        name, equals, value = option.partition("=")
        if name in _SCRATCH and equals:
            if not value.startswith("/"):
                raise RequestError(f"{what} {text!r}: {name}={value!r} must be an absolute path")
            scratch[name] = posixpath.normpath("/" + value.lstrip("/"))
        elif option not in FLAGS:
            known = ", ".join((*FLAGS, "upperdir=PATH", "workdir=PATH"))
            raise RequestError(f"{what} {text!r}: unknown option {option!r}; known are {known}")
        elif option not in flags:
            flags.append(option)
    for group in _EXCLUSIVE:
        chosen = [option for option in flags if option in group]
        if len(chosen) > 1:
            raise RequestError(f"{what} {text!r}: {' and '.join(chosen)} exclude each other")
    if scratch and ("O" not in flags or len(scratch) != len(_SCRATCH)):
        raise RequestError(f"{what} {text!r}: upperdir= and workdir= go together, and with O")
    if "O" in flags:
        return _overlay(text, what, source, destination, flags, scratch)
    relabel = "shared" if "z" in flags else "private" if "Z" in flags else ""
    options = [option for option in flags if option not in ("z", "Z", "U")]
    if "ro" not in options and "rw" not in options:
        options.append("rw")
    if not any(option in PROPAGATION for option in options):
        options.append("private")
    if "rbind" not in options and "bind" not in options:
        options.append("rbind")
    changes = "U" in flags
    if source in PROTECTED and (relabel or changes):
        verb = "relabelled" if relabel else "given another owner"
        raise RequestError(
            f"{what} {text!r}: {source} of the host must not be {verb}; mount a directory below it"
        )
    return Volume(text, "bind", source, destination, tuple(options), relabel, changes)


def _overlay(
    text: str, what: str, source: str, destination: str, flags: list[str], scratch: dict[str, str]
) -> Volume:
    for option in flags:
        if option in ("ro", "bind", "rbind"):
            raise RequestError(
                f"{what} {text!r}: {option} and O exclude each other: O is an overlay to write to"
            )
        if option == "U":
            raise RequestError(f"{what} {text!r}: U and O exclude each other: U changes the host's own files")
    options = [option for option in flags if option not in ("O", "rw")]
    if not any(option in PROPAGATION for option in options):
        options.append("private")
    upper, work = scratch.get("upperdir", ""), scratch.get("workdir", "")
    return Volume(text, "overlay", source, destination, tuple(options), upperdir=upper, workdir=work)


_TRUE, _FALSE = ("", "1", "true"), ("0", "false")


def parse_mount(text: str) -> Volume:
    """Parse ``type=bind|tmpfs,key=value,…`` (docker-run(1), ``--mount``).

    Raises RequestError, which quotes ``text``.
    """
    fields: dict[str, str] = {}
    for item in split_values(text):
        name, _, value = item.partition("=")
        name = _SPELLINGS.get(name, name)
        if name in fields:
            raise RequestError(f"mount {text!r}: {name} is given twice")
        fields[name] = value
    kind = fields.pop("type", "")
    if kind not in _KINDS:
        wrong = f"unknown type {kind!r}" if kind else "type=… is missing"
        raise RequestError(f"mount {text!r}: {wrong}; known are {', '.join(_KINDS)}")
    if not fields.get("target"):
        raise RequestError(f"mount {text!r}: target=PATH is missing")
    target = _destination(text, "mount", fields.pop("target"))
    return _KINDS[kind](text, target, fields)


def _flag(text: str, name: str, value: str) -> bool:
    if value.lower() not in (*_TRUE, *_FALSE):
        raise RequestError(f"mount {text!r}: {name}={value!r} is neither true nor false")
    return value.lower() in _TRUE


def _bind_mount(text: str, target: str, fields: dict[str, str]) -> Volume:
    if not fields.get("source"):
        raise RequestError(f"mount {text!r}: source=PATH is missing")
    source = _source(text, "mount", fields.pop("source"))
    options = []
    for name, value in fields.items():
        if name == "bind-propagation":
            if value not in PROPAGATION:
                known = ", ".join(PROPAGATION)
                raise RequestError(f"mount {text!r}: unknown propagation {value!r}; known are {known}")
            options.append(value)
        elif name == "relabel":
            if value not in ("shared", "private"):
                raise RequestError(f"mount {text!r}: relabel={value!r}: known are shared, private")
            options.append("z" if value == "shared" else "Z")
        elif name == "bind-nonrecursive":
            options.append("bind" if _flag(text, name, value) else "rbind")
        elif name in ("ro", "rw"):
            options.append(name if _flag(text, name, value) else {"ro": "rw", "rw": "ro"}[name])
        elif name == "U":
            options += ["U"] if _flag(text, name, value) else []
        else:
            raise RequestError(
                f"mount {text!r}: unknown key {name!r}; known are source, target, ro, rw, bind-propagation, "
                "bind-nonrecursive, relabel, U"
            )
    return _volume(text, "mount", source, target, options)


def _tmpfs_mount(text: str, target: str, fields: dict[str, str]) -> Volume:
    options = ["nosuid", "nodev"]
    for name, value in fields.items():
        if name == "tmpfs-size":
            options.append(f"size={parse_size(value, 'tmpfs-size')}")
        elif name == "tmpfs-mode":
            if not re.fullmatch(r"0?[0-7]{1,4}", value, re.ASCII):
                raise RequestError(f"mount {text!r}: tmpfs-mode={value!r}: an octal mode is wanted")
            options.append(f"mode={value}")
        elif name in ("ro", "rw"):
            options += ["ro"] if _flag(text, name, value) is (name == "ro") else []
        else:
            raise RequestError(
                f"mount {text!r}: unknown key {name!r}; known are target, ro, rw, tmpfs-size, tmpfs-mode"
            )
    return Volume(text, "tmpfs", "", target, (*options, "private"))


_SPELLINGS = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "readonly": "ro",
    "readwrite": "rw",
    "chown": "U",
    "size": "tmpfs-size",
    "mode": "tmpfs-mode",
}
_KINDS: dict[str, Callable[[str, str, dict[str, str]], Volume]] = {"bind": _bind_mount, "tmpfs": _tmpfs_mount}


def prepare(draft: Draft, volume: Volume, host: HostFacts) -> Mount:
    """Return the mount of ``volume``; its preparations become actions of the draft.

    Raises RequestError for a path that this host does not have.
    """
    known = {item.path: item.directory for item in host.paths}
    for path in volume.host_paths:
        if path not in known:
            raise RequestError(f"volume source {path!r} does not exist on this host")
        if volume.kind == "overlay" and not known[path]:
            raise RequestError(f"volume {volume.text!r}: {path} is not a directory; an overlay needs one")
    if volume.relabel:
        _relabel(draft, volume)
    if volume.change_owner:
        user = draft.process["user"]
        uid = draft.host_id("uidMappings", user["uid"])
        gid = draft.host_id("gidMappings", user["gid"])
        draft.actions.append(ChangeOwner(volume.source, uid, gid))
    if volume.kind == "overlay":
        return _scratch(draft, volume, host).mount()
    return volume.mount()


def _relabel(draft: Draft, volume: Volume) -> None:
    """Set a label: for ``z`` one without categories, so that any container may use it; for ``Z`` this step's."""
    label = draft.linux.get("mountLabel", "")
    if not label:
        return  # no SELinux here, or labels are off: nothing to change, as with all builders
    if volume.relabel == "shared":
        label = ":".join([*label.split(":")[:3], "s0"])
    draft.actions.append(Relabel(volume.source, label))


def _escaped(path: str) -> str:
    """Return a path for an overlay's options, which are separated by colons and commas (fs/overlayfs/params.c)."""
    return re.sub(r"([\\:,])", r"\\\1", path)


def _scratch(draft: Draft, volume: Volume, host: HostFacts) -> Volume:
    upper, work = volume.upperdir, volume.workdir
    if not upper:
        name = hashlib.sha256(volume.destination.encode()).hexdigest()[:16]
        draft.actions.append(MakeScratch(volume.source, name))
        upper, work = (f"{BUNDLE}/overlay/{name}/{part}" for part in ("upper", "work"))
    else:
        upper, work = _escaped(upper), _escaped(work)
    layers = (f"lowerdir={_escaped(volume.source)}", f"upperdir={upper}", f"workdir={work}")
    # In a user namespace the kernel gives an overlay no trusted.* attributes (overlayfs.rst, "User xattr").
    own = ("userxattr",) if not host.is_machine_root or draft.linux.get("uidMappings") else ()
    return replace(volume, source="overlay", options=(*layers, *own, *volume.options))
