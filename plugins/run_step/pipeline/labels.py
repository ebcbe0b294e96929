"""SELinux labels and the AppArmor profile (row S33)."""

from __future__ import annotations

from ..errors import RequestError
from ..host import HostFacts
from ..request import RunRequest
from .draft import Draft

PARTS = ("user", "role", "type", "level")
DEFAULT_PROCESS = ("system_u", "system_r", "container_t", "s0")
"""The label that container-selinux gives to a container's processes."""


def parse(options: tuple[str, ...]) -> dict[str, str] | None:
    """Parse ``type:spc_t``, ``level:s0:c1`` and so on; return None for ``disable``.

    Raises RequestError, which quotes the option.
    """
    found: dict[str, str] = {}
    for text in options:
        if text == "disable":
            return None
        name, colon, value = text.partition(":")
        if name not in PARTS or not colon or not value:
            raise RequestError(
                f"security option {'label=' + text!r}: the form is label=disable or label=user|role|type|level:VALUE"
            )
        found[name] = value
    return found


def apply(draft: Draft, request: RunRequest, host: HostFacts) -> None:
    """Set the label and the profile.

    On a host that has neither, the defaults are ignored silently, and an option that was asked for gives one
    warning.
    """
    wanted = parse(request.labels)
    if host.selinux and wanted is not None:
        process = [wanted.get(name, default) for name, default in zip(PARTS, DEFAULT_PROCESS, strict=True)]
        draft.process["selinuxLabel"] = ":".join(process)
        draft.linux["mountLabel"] = f"{process[0]}:object_r:container_file_t:{process[3]}"
    elif wanted and not host.selinux:
        draft.warnings.append("label options do nothing here: this host has no SELinux")
    if request.apparmor and request.apparmor != "unconfined":
        if host.apparmor:
            draft.process["apparmorProfile"] = request.apparmor
        else:
            draft.warnings.append("apparmor= does nothing here: this host has no AppArmor")
