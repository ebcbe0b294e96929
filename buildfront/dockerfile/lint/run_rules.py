"""The rules about the scripts of RUN, but for package managers."""

from __future__ import annotations

from .check_settings import CheckSettings
from .collected import Report
from .rules import OWN
from .run_script import RunScript
from .script import ShellCommand

_SHELLS = ("sh", "bash", "ash", "dash", "ksh", "zsh", "python", "python3", "perl", "ruby", "node", "php")
_DOWNLOADS = ("curl", "wget")
_NEVER_FAILS = ("echo", "printf", "yes", "true", ":")


def check_script(script: RunScript, shell: tuple[str, ...], settings: CheckSettings, report: Report) -> None:
    """Note sudo, cd, pipes that hide a failure, and programs that come from the network."""
    for command in script.commands:
        if command.program == "sudo":
            report.add(OWN + "Sudo", "use USER instead of sudo", script.where(command), settings=settings)
    _cd(script, settings, report)
    _pipes(script, shell, settings, report)


def _cd(script: RunScript, settings: CheckSettings, report: Report) -> None:
    if len(script.commands) < 2 or not script.is_shell:
        return
    command = script.commands[0]
    if command.program != "cd" or command.before or len(command.words) != 2:
        return
    path = command.words[1].text
    if path.startswith("/") and "$" not in path and command.after in ("&&", ";", "\n"):
        report.add(
            OWN + "CdInRun",
            f"use WORKDIR {path} instead of cd",
            script.where(command),
            settings=settings,
        )


def _pipes(script: RunScript, shell: tuple[str, ...], settings: CheckSettings, report: Report) -> None:
    safe = any("pipefail" in word for word in shell)
    told = False
    source: ShellCommand | None = None
    first: ShellCommand | None = None
    for command in script.commands:
        if command.program == "set" and any("pipefail" in word for word in command.arguments):
            safe = True
        if command.before not in ("|", "|&"):
            source, first = None, None
        found = command.unwrapped()
        if source is not None and found.program in _SHELLS and not _has_script(found):
            report.add(
                OWN + "DownloadToShell",
                f"{source.unwrapped().program} sends a program straight into {found.program}",
                script.where(source),
                settings=settings,
            )
            source = None
        if command.after not in ("|", "|&"):
            if first is not None and not safe and not told and script.is_shell:
                told = True
                report.add(
                    OWN + "PipeWithoutPipefail",
                    "a command before the last | may fail, and the RUN succeeds all the same",
                    script.where(first),
                    settings=settings,
                )
            continue
        if first is None and found.program not in _NEVER_FAILS:
            first = command
        if found.program in _DOWNLOADS:
            source = command


def _has_script(command: ShellCommand) -> bool:
    """Whether an interpreter reads a file, so that standard input is only data."""
    words = command.arguments
    if any(word in ("-c", "-e") for word in words):
        return True
    plain = [word for word in words if not word.startswith("-")]
    return bool(plain) and "-s" not in words and "-" not in words
