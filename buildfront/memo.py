"""The same build again, answered before anything is parsed.

A build that was wholly cached leaves a note: the exact command line, the status (inode, size, times) of
every file and directory that it looked at, and what it printed. The next call with the same command line
looks at those again; when all of them are as they were, it prints the same and is done. Anything else, one
changed time included, goes the ordinary way. So a note can be out of date, but never wrong.

Hot path: imports os, sys and marshal. It holds no cache of its own; :mod:`buildfront.engine` does.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import __version__
from .place import default_root

if TYPE_CHECKING:
    from .api import BuildOutcome, Prepared

_RACY_NS = 100_000_000
"""A file that changed less than this before it was noted could change again without its times telling."""

_STARTED = time.time_ns()
"""A change after this may have come when the build had looked at the file already."""

_VALUED = (
    *("-t", "--tag", "-f", "--file", "--target", "--build-arg", "--label"),
    *("--isolation", "--progress", "--root", "--iidfile"),
)
_FLAGS = ("-q", "--quiet")
"""What a command line may consist of to be answered from a note."""

_ROOT, _UID = default_root(), os.geteuid()
"""As they are where the program starts: a rootless build becomes root later."""

Signature = tuple[int, int, int, int, int, int]


def _options(argv: list[str]) -> dict[str, str] | None:
    """The options of a command line that a note can answer, the last of each; None for any other one."""
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


def _place(argv: list[str]) -> str | None:
    """The file that holds the note for this command line; None when there can't be one."""
    options = _options(argv)
    if options is None or (sys.stderr.isatty() and "-q" not in options and "--quiet" not in options):
        return None
    root = options.get("--root") or _ROOT
    try:
        from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from hashlib import sha256
    own = sorted(item for item in os.environ.items() if item[0].startswith("BUILDFRONT_"))
    identity = marshal.dumps((__version__, argv, os.getcwd(), own, _UID, sys.version))
    return os.path.join(root, "memo", sha256(identity).hexdigest())


def signature(path: str) -> Signature | None:
    """What tells that a file is still the same; None where there is nothing."""
    try:
        s = os.lstat(path)
    except OSError:
        return None
    return (s.st_mode, s.st_ino, s.st_dev, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


def replay(argv: list[str]) -> int | None:
    """Print what the noted build printed and return 0; None when there is no note, or anything has changed."""
    place = _place(argv)
    if place is None:
        return None
    try:
        with open(place, "rb") as note:
            witnesses, blobs, out, err = marshal.loads(note.read())
    except (OSError, ValueError, EOFError, TypeError):
        return None
    for path, known in witnesses:
        if signature(path) != known:
            return None
    for path in blobs:
        if not os.path.exists(path):
            return None
    iidfile = (_options(argv) or {}).get("--iidfile")
    if iidfile:
        try:
            with open(iidfile, "w", encoding="utf-8") as stream:
                stream.write(out.strip())
        except OSError:
            return None  # the ordinary way says what is wrong
    sys.stderr.write(err)
    sys.stdout.write(out)
    sys.stdout.flush()
    return 0


def record(argv: list[str], prepared: Prepared, outcome: BuildOutcome, err: str) -> None:
    """Leave a note of a build that was wholly cached. Does nothing where that can't be done safely."""
    place = _place(argv)
    if place is None:
        return
    from .names import read_manifest

    paths = _looked_at(prepared)
    if paths is None:
        return
    limit = _STARTED - _RACY_NS
    witnesses: list[tuple[str, Any]] = []
    for path in dict.fromkeys(paths):
        known = signature(path)
        if known is not None and max(known[4], known[5]) > limit:
            return
        witnesses.append((path, known))
    store = prepared.store
    digests = [outcome.digest, *(item.digest for item in read_manifest(store, outcome.digest).blobs)]
    note = (witnesses, [store.blob_path(digest) for digest in digests], outcome.image_id + "\n", err)
    try:
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        temporary = f"{place}.{os.getpid()}"
        with open(temporary, "xb") as stream:
            stream.write(marshal.dumps(note))
        os.rename(temporary, place)
    except OSError:
        return  # a full disk or a read-only store: the next build is only slower


def _looked_at(prepared: Prepared) -> Iterable[str] | None:
    """Every path that the build's result depends on; None where one can't be told by its own status."""
    if prepared.session is not None or prepared.source.name == "-":
        return None
    if any(name.startswith("oci-layout://") for name in prepared.bases):
        return None
    paths = [os.path.join(prepared.store.root, "index.json"), *prepared.source.looked_at]
    if any(os.path.islink(path) for path in paths):
        return None  # what it leads to would have to be watched as well
    for (name, sources), selections in prepared.engine.state.digests.selected.items():
        context = prepared.contexts[name]
        top = context.path
        if os.path.islink(top) or any("/" in item.strip("/") and _is_pattern(item) for item in sources):
            return None  # a pattern's match may appear in a directory that has none yet
        paths.append(top)
        for selection in selections:
            if selection.directory and not context.prune:
                # An exception of the ignore file may appear in a directory that is left out so far.
                below = os.walk(os.path.join(top, selection.path))
                paths += [directory for directory, _, _ in below]
            parts = selection.path.split("/") if selection.path else []
            for count in range(1, len(parts) + 1):
                path = os.path.join(top, *parts[:count])
                if os.path.islink(path):
                    return None  # what it leads to would have to be watched as well
                paths.append(path)
            paths += [os.path.join(top, item.path) for item in selection.items if item.path]
    return paths


def _is_pattern(source: str) -> bool:
    return any(char in source for char in "*?[")
