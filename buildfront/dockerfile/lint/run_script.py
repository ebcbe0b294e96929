"""The script of a RUN with the places of its commands in the Dockerfile."""

from __future__ import annotations

from ...errors import SourceRange
from ..instructions import Run
from .findings import Fix
from .script import ShellCommand, Token, commands
from .source_text import Joined, SourceText

_SHELLS = ("sh", "bash", "ash", "dash", "ksh", "zsh", "busybox")


class RunScript:
    """The commands of a RUN. None of them where it is not a shell that reads them."""

    def __init__(self, item: Run, shell: tuple[str, ...], source: SourceText) -> None:
        self.item = item
        self.is_shell = item.command.shell
        self._source = source
        self._joined: Joined | None = None
        self._start = 0
        self.commands: list[ShellCommand] = []
        words = item.command.words
        if not item.command.shell:
            if len(words) > 2 and _name(words[0]) in _SHELLS and words[1].lstrip("-").endswith("c"):
                self.is_shell = True
                self.commands = commands(words[2])
            elif words:
                tokens = tuple(Token(word, 0, 0) for word in words)
                self.commands = [ShellCommand(tokens, "", "", 0, 0)]
        elif not shell or _name(shell[0]) in _SHELLS:
            self._read(words[0] if words else "")

    def _read(self, script: str) -> None:
        joined = self._source.joined(self.item)
        self.commands = commands(script)
        if self.commands or not self.item.command.documents:
            self._start = joined.text.find(script)
            self._joined = joined if self._start >= 0 else None
            return
        text = self.item.command.documents[0].content
        first = text.partition("\n")[0]
        if (
            first.startswith("#!")
            and _name(first[2:].split()[-1] if first[2:].split() else "") not in _SHELLS
        ):
            return
        self.commands = commands(text.replace("\r\n", "\n") if "\r" in text else text)
        lines = self._source.lines(joined.last + 1, self.item.source.end)
        if "\r" not in text and lines.text.startswith(text):
            self._joined = lines

    def where(self, command: ShellCommand) -> SourceRange:
        """Return the place of a command; that of the instruction where it is not known."""
        if self._joined is None:
            return self.item.source
        start = self._joined.offset(self._start + command.start)
        end = self._joined.offset(self._start + max(command.start, command.end - 1)) + 1
        return self._source.place(start, end)

    def insert(self, at: int, text: str) -> Fix | None:
        """Return the fix that inserts a text at a place of the script. It changes what is built."""
        return self.replace(at, at, text)

    def replace(self, start: int, end: int, text: str) -> Fix | None:
        """Return the fix that writes a text for these characters of the script."""
        if self._joined is None:
            return None
        edit = self._joined.edit(self._start + start, self._start + end, text)
        return Fix((edit,), safe=False) if edit else None

    def removes(self, directory: str) -> bool:
        """Whether a command removes this directory, or something in it."""
        for command in self.commands:
            found = command.unwrapped()
            if found.program in ("rm", "find") and any(
                word.startswith(directory) or (word and directory.startswith(word.rstrip("/*") + "/"))
                for word in found.arguments
                if word.startswith("/") and len(word) > 1
            ):
                return True
        return False

    def mounts(self, directory: str) -> bool:
        """Whether a mount keeps this directory out of the layer."""
        for mount in self.item.mounts:
            target = dict(mount.fields).get("target", "").rstrip("/")
            if target and (directory == target or directory.startswith(target + "/")):
                return True
        return False


def _name(path: str) -> str:
    return path.rpartition("/")[2]
