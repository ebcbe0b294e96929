"""The error messages of OCI runtimes, completed with the hook they are about and a remedy.

The module only reads messages. runc names a hook by its place in the list of its stage, crun by its path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_HOOK = re.compile(r"error running (?:(\w+) )?hook #(\d{1,9})")
"""The message of runc (libcontainer/configs, HooksList.RunHooks); it names the stage since version 1.2."""

_AGAIN = re.compile(r"^(?:[\w.-]{1,64} (?:create|start|run|delete) failed: )+")
"""The prefixes in which runc repeats the name of the failed call."""

NOISE = ("unable to get oom kill count", "signal: killed", "failed to clean up ")
"""Beginnings of other messages of runtimes that don't help the user."""


def plain(lines: Sequence[tuple[str, str]]) -> str:
    """Return each message of a runtime once; only the errors, if the levels are known.

    ``lines`` are pairs of level and message.
    """
    errors = [words for level, words in lines if level in ("error", "fatal", "panic")]
    kept = [_AGAIN.sub("", words) for words in errors or [words for _, words in lines]]
    return "; ".join(dict.fromkeys(words for words in kept if words and not words.startswith(NOISE)))


AT_CREATE = ("prestart", "createRuntime", "createContainer", "poststart")
"""The stages whose hooks ``create`` may run; runc counts poststart among them."""


def explain(
    words: str, hooks: Mapping[str, Sequence[Mapping[str, Any]]], stages: Sequence[str] = AT_CREATE
) -> str:
    """Return ``words`` followed by a remedy, if there is one, and the hooks of the spec that they may be about.

    ``stages`` are those whose hooks the failed call runs.
    """
    words = _AGAIN.sub("", words)
    found = _HOOK.search(words)
    if found:
        stages = [found[1]] if found[1] in hooks else [stage for stage in stages if stage in hooks]
        number = int(found[2])
        paths = [
            f"{hooks[stage][number]['path']} ({stage})" for stage in stages if number < len(hooks[stage])
        ]
        if paths:
            words += f"; the hook is {' or '.join(paths)}"
    if "RLIM_MEMLOCK" in words:
        words += (
            "; crun needs CAP_SYS_RESOURCE, or a memlock limit without end, to keep a step from the host's devices: "
            "use --runtime runc, or --isolation chroot"
        )
    return words
