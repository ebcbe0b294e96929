"""The modes of ``--chmod``: octal numbers, and the symbolic modes of chmod(1) as BuildKit reads them.

Pure. The umask never counts. ``X`` looks at the mode that the file has at the beginning, not at the one in between.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import BuildError

_USER, _GROUP, _OTHER = 0o4700, 0o2070, 0o0007
_ALL = _USER | _GROUP | _OTHER
"""Everything that ``a`` stands for. The sticky bit belongs to nobody's part: only ``t`` changes it."""
_STICKY = 0o1000
_SET_ID = 0o6000
_EXECUTE = 0o111
_WHO = {"u": _USER, "g": _GROUP, "o": _OTHER, "a": _ALL}
_SHIFT = {"u": 6, "g": 3, "o": 0}
_PERMISSIONS = {"r": 0o444, "w": 0o222, "x": _EXECUTE}
_LARGEST = 0o7777


@dataclass(frozen=True)
class Change:
    """One thing that a clause does.

    ``action`` is ``+``, ``-``, ``X`` (add ``bits`` where something is executable), or ``copy``: the three bits of
    ``source`` (``u``, ``g`` or ``o``) are added to, taken from or put in the place of those of ``places``, as ``how``
    says.
    """

    action: str
    bits: int = 0
    source: str = ""
    places: str = ""
    how: str = ""


@dataclass(frozen=True)
class Mode:
    """What ``--chmod`` says.

    ``number`` is an octal mode, None for a symbolic one, which is a list of ``changes``.
    """

    number: int | None
    changes: tuple[Change, ...] = ()

    def applied(self, mode: int, *, directory: bool) -> int:
        """Return the permission and special bits that a file with these bits gets."""
        if self.number is not None:
            return self.number
        runs = directory or bool(mode & _EXECUTE)
        new = mode & _LARGEST
        for change in self.changes:
            if change.action == "copy":
                new = _copied(new, change)
            elif change.action == "-":
                new &= ~change.bits
            elif change.action == "+" or runs:
                new |= change.bits
        return new


def _copied(mode: int, change: Change) -> int:
    value = mode >> _SHIFT[change.source] & 0o7
    for place in change.places:
        if change.how != "+":
            mode &= ~((0o7 if change.how == "=" else value) << _SHIFT[place])
        if change.how != "-":
            mode |= value << _SHIFT[place]
    return mode


def parse(text: str) -> Mode | None:
    """Return the mode that ``--chmod=TEXT`` says; None for the empty text. Raise BuildError for anything else."""
    if not text:
        return None
    if text[0] in "0123456789":
        if text.strip("01234567") or len(text) > 20 or int(text, 8) > _LARGEST:
            raise BuildError(
                f"--chmod={text[:100]}: an octal mode has digits from 0 to 7 and is at most 7777, as in --chmod=644"
            )
        return Mode(int(text, 8))
    changes: list[Change] = []
    for clause in text.split(","):
        changes += _clause(text, clause)
    return Mode(None, tuple(changes))


def _clause(text: str, clause: str) -> list[Change]:
    rest = clause.lstrip("ugoa")
    named = clause[: len(clause) - len(rest)]
    who = 0
    for letter in named:
        who |= _WHO[letter]
    if not rest or rest[0] not in "+-=":
        raise _bad(text, clause, "it needs one of + - = after the letters u g o a")
    out: list[Change] = []
    at = 0
    while at < len(rest):
        operator = rest[at]
        at += 1
        end = at
        while end < len(rest) and rest[end] not in "+-=":
            end += 1
        who &= ~_STICKY
        who = _operation(out, who, operator, rest[at:end], (text, clause))
        at = end
    return out


def _operation(out: list[Change], who: int, operator: str, letters: str, shown: tuple[str, str]) -> int:
    """Add the changes of one operator with its letters, and return whom the rest of the clause is about."""
    bits = conditional = 0
    assigned = False

    def flush() -> None:
        nonlocal bits, conditional, assigned
        if bits or (operator == "=" and not assigned):
            if operator == "=":
                out.append(Change("-", who or _ALL))
            out.append(Change("-" if operator == "-" else "+", bits & who if who else bits))
            assigned = True
        if conditional:
            out.append(Change("X", conditional & who if who else conditional))
        bits = conditional = 0

    for letter in letters:
        if letter in _PERMISSIONS:
            bits |= _PERMISSIONS[letter]
        elif letter == "X":
            if operator == "-":
                bits |= _EXECUTE
            else:
                conditional = _EXECUTE
        elif letter in "st":
            if not who or who & ~_OTHER:  # these bits are none of the others'
                if letter == "t":
                    who |= _STICKY
                bits |= _SET_ID if letter == "s" else _STICKY
        elif letter in _SHIFT:
            assigned = assigned or operator == "="
            flush()
            places = "".join(place for place, shift in _SHIFT.items() if not who or who & 0o4 << shift)
            out.append(Change("copy", source=letter, places=places, how=operator))
        else:
            raise _bad(*shown, f"{letter!r} is not one of r w x X s t u g o")
    flush()
    return who


def _bad(text: str, clause: str, why: str) -> BuildError:
    return BuildError(
        f"--chmod={text[:100]}: the clause {clause[:100]!r} is wrong: {why}",
        hint="modes are octal, as in --chmod=644, or symbolic, as in --chmod=u=rwX,go=rX",
    )
