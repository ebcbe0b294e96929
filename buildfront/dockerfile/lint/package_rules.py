"""The rules about package managers in RUN."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .check_settings import CheckSettings
from .collected import Report
from .rules import OWN
from .run_script import RunScript
from .script import ShellCommand

_LISTS = "/var/lib/apt/lists"
_WITH_VALUE = ("-o", "-t", "-c", "--option", "--target-release", "--config-file", "-a")
_INSTALLING = (
    "install",
    "upgrade",
    "dist-upgrade",
    "full-upgrade",
    "build-dep",
    "remove",
    "purge",
    "autoremove",
)
_RPM = ("yum", "dnf", "microdnf", "tdnf")
_APT_WORDS = (*_INSTALLING, "update", "clean", "autoclean", "download", "source")


def check_packages(
    script: RunScript, env: Mapping[str, str], settings: CheckSettings, report: Report
) -> None:
    """Note what apt-get, apk, dnf and pip should be told, and what they leave in the layer."""
    updated = script.mounts("/var/lib/apt/lists")
    for command in script.commands:
        found = command.unwrapped()
        verb = _verb(found)
        if found.program == "apt" and verb in _APT_WORDS:
            token = found.words[0]
            report.add(
                OWN + "AptInScript",
                "apt is made for terminals, use apt-get",
                script.where(command),
                settings=settings,
                fix=script.insert(token.end, "-get"),
            )
        if found.program in ("apt-get", "apt"):
            if verb == "update":
                updated = True
            elif verb in _INSTALLING:
                _apt(script, command, found, verb, updated, settings, report)
                updated = updated or verb != "install"
        elif found.program in _RPM and verb in ("install", "upgrade", "update", "groupinstall"):
            if not _says_yes(found, command) and found.program != "microdnf":
                _asks(script, command, found, verb, settings, report)
        elif found.program == "zypper" and verb in ("install", "in", "update", "up", "dist-upgrade", "dup"):
            if not {"-n", "--non-interactive"} & set(found.arguments) and not _says_yes(found, command):
                _asks(script, command, found, verb, settings, report)
        elif found.program == "apk" and verb == "add":
            _apk(script, command, found, settings, report)
    for test in (_apt_lists, _rpm_caches, _pip_cache):
        culprit = test(script, env)
        if culprit is not None:
            command, message = culprit
            report.add(OWN + "CacheInLayer", message, script.where(command), settings=settings)


def _verb(command: ShellCommand) -> str:
    """Return the first argument that is no option."""
    words = iter(command.arguments)
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def _packages(command: ShellCommand) -> list[str]:
    out, words = [], iter(command.arguments)
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            out.append(word)
    return out[1:]


def _says_yes(found: ShellCommand, command: ShellCommand) -> bool:
    if command.before == "|":
        return True  # something answers
    for word in found.arguments:
        if word in ("--yes", "--assume-yes", "--assumeyes", "--quiet=2", "-q=2") or "Assume-Yes" in word:
            return True
        if word.startswith("-") and not word.startswith("--"):
            letters = word[1:].partition("=")[0]
            if "y" in letters or letters.count("q") > 1:
                return True
    return False


def _asks(
    script: RunScript,
    command: ShellCommand,
    found: ShellCommand,
    verb: str,
    settings: CheckSettings,
    report: Report,
) -> None:
    token = next(word for word in found.words[1:] if word.text == verb)
    option = "--non-interactive" if found.program == "zypper" else "-y"
    fix = script.insert(found.words[0].end if found.program == "zypper" else token.end, f" {option}")
    report.add(
        OWN + "InstallAsksQuestions",
        f"{found.program} {verb} without {option} asks a question that nothing answers",
        script.where(command),
        settings=settings,
        fix=fix,
    )


def _apt(
    script: RunScript,
    command: ShellCommand,
    found: ShellCommand,
    verb: str,
    updated: bool,
    settings: CheckSettings,
    report: Report,
) -> None:
    if not _says_yes(found, command):
        _asks(script, command, found, verb, settings, report)
    if verb != "install":
        return
    names = _packages(found)
    fetched = [name for name in names if not name.startswith((".", "/")) and not name.endswith(".deb")]
    if fetched and not updated:
        report.add(
            OWN + "AptGetWithoutUpdate",
            f"{found.program} install without {found.program} update in the same RUN uses a list that may be old",
            script.where(command),
            settings=settings,
            fix=script.insert(command.start, f"{found.program} update && "),
        )
    plain = [word for word in found.arguments if "ecommends" in word]
    if fetched and not plain:
        token = next(word for word in found.words[1:] if word.text == verb)
        report.add(
            OWN + "AptGetRecommends",
            f"{found.program} install without --no-install-recommends installs more than is named",
            script.where(command),
            settings=settings,
            fix=script.insert(token.end, " --no-install-recommends"),
        )


def _apk(
    script: RunScript, command: ShellCommand, found: ShellCommand, settings: CheckSettings, report: Report
) -> None:
    directory = "/var/cache/apk"
    if "--no-cache" in found.arguments or script.mounts(directory) or script.removes(directory):
        return
    token = next(word for word in found.words[1:] if word.text == "add")
    report.add(
        OWN + "ApkCache",
        "apk add without --no-cache leaves the package index in the layer",
        script.where(command),
        settings=settings,
        fix=script.insert(token.end, " --no-cache"),
    )


_Culprit = tuple[ShellCommand, str] | None
_Test = Callable[[RunScript, Mapping[str, str]], _Culprit]


def _apt_lists(script: RunScript, env: Mapping[str, str]) -> _Culprit:
    culprit: _Culprit = None
    for command in script.commands:
        found = command.unwrapped()
        if found.program not in ("apt-get", "apt"):
            continue
        verb = _verb(found)
        if verb in ("dist-clean", "distclean"):
            culprit = None
        elif verb == "update" and culprit is None:
            culprit = command, f"{found.program} update leaves {_LISTS} in the layer"
    return None if culprit is None or script.removes(_LISTS) or script.mounts(_LISTS) else culprit


def _rpm_caches(script: RunScript, env: Mapping[str, str]) -> _Culprit:
    culprit: _Culprit = None
    for command in script.commands:
        found = command.unwrapped()
        if found.program not in _RPM:
            continue
        verb, directory = _verb(found), f"/var/cache/{'yum' if found.program == 'yum' else 'dnf'}"
        if verb == "clean":
            culprit = None
        elif verb not in ("install", "update", "upgrade") or culprit is not None:
            continue
        elif not script.mounts(directory) and not script.removes(directory):
            culprit = command, f"{found.program} {verb} leaves {directory} in the layer"
    return culprit


def _pip_cache(script: RunScript, env: Mapping[str, str]) -> _Culprit:
    if env.get("PIP_NO_CACHE_DIR") or any(
        mount.kind in ("cache", "tmpfs") and "cache" in dict(mount.fields).get("target", "")
        for mount in script.item.mounts
    ):
        return None
    for command in script.commands:
        words = pip_arguments(command.unwrapped())
        if words and words[0] == "install" and "--no-cache-dir" not in words:
            if any("PIP_NO_CACHE_DIR" in word for word in script.item.command.words) or script.removes(
                "/root/.cache"
            ):
                return None
            return command, "pip install without --no-cache-dir leaves the downloaded packages in the layer"
    return None


def pip_arguments(command: ShellCommand) -> tuple[str, ...]:
    """Return the arguments of pip, or of ``python -m pip``; none for another program."""
    name, words = command.program, command.arguments
    if name.startswith("python") and words[:2] == ("-m", "pip"):
        name, words = "pip", words[2:]
    if name.rstrip("0123456789.") != "pip":
        return ()
    while words and words[0].startswith("-"):
        words = words[1:]
    return words
