"""The same build again, answered before anything is parsed.

A build that was wholly cached leaves a note: the exact command line, the status (inode, size, times) of
every file and directory that it looked at, and what it printed. The next call with the same command line
looks at those again; when all of them are as they were, it prints the same and is done. Anything else, even
one changed time, takes the ordinary way. So a note can be out of date, but never wrong.

A note is data: a list of texts (:func:`_parse`), each field checked, in a store that others can't write to. The store
is looked at before the note is.

Hot path: imports os, stat and sys. It holds no cache of its own; :mod:`buildfront.engine` does.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from .store.location import default_root, untrusted
from .version import __version__

if TYPE_CHECKING:
    from .outcome import BuildOutcome

_RACY_NS = 100_000_000
"""A file that changed less than this before it was noted could change again without its times telling."""

_STARTED = time.time_ns()
"""A change after this may have come when the build had looked at the file already."""

_VALUED = (
    *("-t", "--tag", "-f", "--file", "--target", "--build-arg", "--label"),
    *("--isolation", "--progress", "--root", "--iidfile"),
)
_FLAGS = ("-q", "--quiet")
"""The options that a command line may have to be answered from a note."""

_ROOT, _UID = default_root(), os.geteuid()
"""The IDs where the program starts: a rootless build becomes root later."""

_FORMAT = "buildfront note 1"

_LIMIT = 16 << 20
"""The most bytes of a note; a build that looks at more files takes longer than reading them anyway."""

Signature = tuple[int, ...]
"""Mode, inode, device, size, modification and change time."""


class Note(NamedTuple):
    """The content of a note. ``blobs`` are the digits of SHA-256 digests; the last line of ``out`` is the image ID."""

    witnesses: list[tuple[str, Signature | None]]
    blobs: list[str]
    out: str
    err: str


def _options(argv: list[str]) -> dict[str, str] | None:
    """Return the options of a command line that a note can answer, the last of each; None for any other one."""
    found: dict[str, str] = {}
    waiting = ""
    commands = 0
    for word in argv:
        name, equals, value = word.partition("=")
        if waiting:
            name, value, waiting = waiting, word, ""
        elif word in _FLAGS:
            found[word] = word
            continue
        elif name in _VALUED and not equals:
            waiting = name
            continue
        elif name not in _VALUED:
            commands += 1
            if word.startswith("-") or commands > 2 or (commands == 1 and word != "build"):
                return None
            continue
        if value == "-" or not _answerable(name, value):
            return None
        found[name] = value
    return None if waiting or commands == 0 else found


def _answerable(name: str, value: str) -> bool:
    if name == "--build-arg":
        return "=" in value  # without one its value is our environment's
    return name != "--progress" or value in ("auto", "plain", "quiet")


def _place(argv: list[str]) -> tuple[str, str] | None:
    """Return the store, and the file in it for the note of this command line; None when there can't be one."""
    options = _options(argv)
    if options is None or (sys.stderr.isatty() and "-q" not in options and "--quiet" not in options):
        return None
    root = os.path.abspath(options.get("--root") or _ROOT)
    try:
        from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from hashlib import sha256
    own = sorted(item for item in os.environ.items() if item[0].startswith("BUILDFRONT_"))
    identity = repr((__version__, argv, os.getcwd(), own, _UID, sys.version)).encode()
    return root, os.path.join(root, "memo", sha256(identity).hexdigest())


def signature(path: str) -> Signature | None:
    """Return the status by which a file is known to be still the same; None where there is no file."""
    try:
        s = os.lstat(path)
    except OSError:
        return None
    return (s.st_mode, s.st_ino, s.st_dev, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


def _trusted(root: str) -> bool:
    """Whether the store and its notes are ours, so that no other user could have left them.

    Where they are not, the ordinary way reports it, or puts it right.
    """
    try:
        top, notes = os.lstat(os.path.realpath(root)), os.lstat(os.path.join(root, "memo"))
        return (
            untrusted(root) is None
            and top.st_mode & 0o077 == 0
            and stat.S_ISDIR(notes.st_mode)
            and notes.st_uid == top.st_uid
        )
    except OSError:
        return False


def _read(place: str) -> str | None:
    """Return the text of a note that is a file of ours; None for any other one."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != _UID or status.st_size > _LIMIT:
            return None
        with os.fdopen(os.dup(fd), "rb") as stream:
            return stream.read(_LIMIT).decode("utf-8", "surrogateescape")
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)


def _format(note: Note) -> str | None:
    """Return the note as text: fields separated by NUL, which no path has; None for one that can't be kept so."""
    fields = [_FORMAT, str(len(note.witnesses)), str(len(note.blobs)), note.out, note.err, *note.blobs]
    for path, known in note.witnesses:
        fields += [path, " ".join(map(str, known)) if known else ""]
    text = "\0".join(fields)
    return text if _parse(text) == note and len(text) < _LIMIT else None


def _parse(text: str) -> Note | None:
    """Return the note; None for a text that was not made by :func:`_format`."""
    fields = text.split("\0")
    if len(fields) < 5 or fields[0] != _FORMAT or not (_is_number(fields[1]) and _is_number(fields[2])):
        return None
    witnesses, blobs = int(fields[1]), int(fields[2])
    out, err = fields[3:5]
    if len(fields) != 5 + blobs + 2 * witnesses or not witnesses or not blobs:
        return None
    digests = fields[5 : 5 + blobs]
    if not all(_is_digest(digest) for digest in digests):
        return None
    if not (out.startswith("sha256:") and out.endswith("\n") and _is_digest(out[7:-1]) and _is_plain(err)):
        return None
    rest = fields[5 + blobs :]
    known: list[tuple[str, Signature | None]] = []
    for path, words in zip(rest[::2], rest[1::2], strict=True):
        numbers = words.split(" ") if words else []
        if not path.startswith("/") or len(numbers) not in (0, 6) or not all(map(_is_number, numbers)):
            return None
        known.append((path, tuple(map(int, numbers)) if numbers else None))
    return Note(known, digests, out, err)


def _is_number(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdecimal() and len(text) <= 20


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(char in "0123456789abcdef" for char in text)


def _is_plain(text: str) -> bool:
    """Whether the text has only printable characters, tabs and line breaks."""
    return all(line.isprintable() for line in text.replace("\t", " ").split("\n"))


def replay(argv: list[str]) -> int | None:
    """Print what the noted build printed and return 0; return None where there is no note, or anything has changed."""
    found = _place(argv)
    if found is None or not _trusted(found[0]):
        return None
    text = _read(found[1])
    note = None if text is None else _parse(text)
    if note is None:
        return None
    for path, known in note.witnesses:
        if signature(path) != known:
            return None
    for digest in note.blobs:
        if not os.path.exists(_blob_path(found[0], digest)):
            return None
    iidfile = (_options(argv) or {}).get("--iidfile")
    if iidfile:
        try:
            with open(iidfile, "w", encoding="utf-8") as stream:
                stream.write(note.out.strip())
        except OSError:
            return None  # the ordinary way says what is wrong
    sys.stderr.write(note.err)
    sys.stdout.write(note.out)
    sys.stdout.flush()
    return 0


def record(argv: list[str], outcome: BuildOutcome, err: str) -> None:
    """Leave a note of a build that was wholly cached and printed ``err``. Do nothing where that is not safe."""
    found = _place(argv)
    if found is None or outcome.inputs is None:
        return
    root, note = found
    index = os.path.join(root, "index.json")
    if os.path.islink(index):
        return  # its target would have to be watched as well
    limit = _STARTED - _RACY_NS
    witnesses: list[tuple[str, Signature | None]] = []
    for path in (index, *outcome.inputs):
        known = signature(path)
        if known is not None and max(known[4], known[5]) > limit:
            return
        witnesses.append((path, known))
    blobs = [digest.removeprefix("sha256:") for digest in outcome.blobs]
    witnesses += [(path, signature(path)) for path in (_blob_path(root, digest) for digest in blobs)]
    text = _format(Note(witnesses, blobs, outcome.image_id + "\n", err))
    if text is not None:
        _write(note, text)


def _blob_path(root: str, digest: str) -> str:
    return os.path.join(root, "blobs", "sha256", digest)


def _write(place: str, text: str) -> None:
    temporary = f"{place}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        with open(temporary, "xb") as stream:
            stream.write(text.encode("utf-8", "surrogateescape"))
        os.rename(temporary, place)
    except OSError:  # a full disk or a read-only store: the next build is only slower
        try:
            os.unlink(temporary)
        except OSError:
            pass
