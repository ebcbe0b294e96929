"""Servers on loopback: files with any answer, and repositories of git."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GIT = {
    **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "A"),
    **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "a@example.org"),
    **dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), "2001-02-03T04:05:06Z"),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


def answer_git(handler: http.server.BaseHTTPRequestHandler, root: Path, path: str, **settings: str) -> None:
    """Answer a request for ``path`` by ``git http-backend``, with the repositories below ``root``.

    ``settings`` are git's, with ``__`` for a dot.
    """
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    if handler.headers.get("Transfer-Encoding") == "chunked":
        while size := int(handler.rfile.readline(), 16):
            body += handler.rfile.read(size)
            handler.rfile.readline()
        handler.rfile.readline()
    values = {"safe.directory": "*", **{key.replace("__", "."): value for key, value in settings.items()}}
    environ = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": path,
        "QUERY_STRING": handler.path.partition("?")[2],
        "REQUEST_METHOD": handler.command,
        "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "GIT_PROTOCOL": handler.headers.get("Git-Protocol", ""),
        "HTTP_CONTENT_ENCODING": handler.headers.get("Content-Encoding", ""),
        "GIT_CONFIG_COUNT": str(len(values)),
        **{f"GIT_CONFIG_KEY_{at}": key for at, key in enumerate(values)},
        **{f"GIT_CONFIG_VALUE_{at}": value for at, value in enumerate(values.values())},
    }
    command = ["git", "http-backend"]
    out = subprocess.run(command, input=body, env=environ, capture_output=True, check=False).stdout
    head, _, rest = out.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    handler.send_response(int(headers.pop("Status", "200").split()[0]))
    for name, value in headers.items():
        if name != "Content-Length":
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(rest)))
    handler.end_headers()
    handler.wfile.write(rest)


@dataclass
class Page:
    """An answer. ``cut``: the connection breaks after so many bytes of the body, once for each number."""

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    cut: list[int] = field(default_factory=list)
    ranges: bool = False
    needs: tuple[str, str] | None = None


class Site:
    """A web server. ``pages`` are by path, ``seen`` are the requests: method, path, headers."""

    def __init__(self, server: http.server.ThreadingHTTPServer, git: Path | None) -> None:
        self.server = server
        self.git = git
        self.pages: dict[str, Page | Callable[[Any], None]] = {}
        self.seen: list[tuple[str, str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def asked(self, path: str) -> list[str]:
        return [method for method, place, _ in self.seen if place == path]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.site.seen.append((self.command, self.path, headers))
        if path.startswith("/git/") and self.site.git is not None:
            answer_git(self, self.site.git, path.removeprefix("/git"))
            return
        page = self.site.pages.get(path, Page(b"no", status=404))
        if not isinstance(page, Page):
            page(self)
            return
        status, body, more = page.status, page.body, dict(page.headers)
        etag = page.headers.get("ETag", "")
        known = bool(etag) and etag in headers.get("if-none-match", "")
        known |= more.get("Last-Modified", "no") == headers.get("if-modified-since")
        if page.needs and headers.get(page.needs[0]) != page.needs[1]:
            status, body = 401, b"who?"
        elif known:
            status, body = 304, b""
        wanted = headers.get("range", "")
        same = headers.get("if-range") in (etag, page.headers.get("Last-Modified"))
        if status == 200 and page.ranges and wanted.startswith("bytes=") and same:
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
            more["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[first:]
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if page.cut and status in (200, 206):
            self.wfile.write(body[: page.cut.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(body)

    do_HEAD = do_POST = do_GET


@contextmanager
def site(git: Path | None = None) -> Iterator[Site]:
    """Serve until the end; with ``git`` its bare repositories below ``/git/`` too."""
    handler = type("Handler", (_Handler,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    found = Site(server, git)
    handler.site = found  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def git(directory: Path, *words: str) -> str:
    """Run git in a directory, and return what it prints."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(directory), **GIT}
    done = subprocess.run(
        ["git", *words], cwd=directory, env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def make_repository(top: Path, name: str = "repo.git") -> Path:
    """Make a bare repository with the branches main and dev, the tag v1 and the annotated tag v2."""
    work = top / f"{name}.work"
    work.mkdir(parents=True)
    git(work, "init", "-q", "-b", "main")
    (work / "sub").mkdir()
    (work / "README").write_text("readme\n")
    (work / "sub" / "file").write_text("in sub\n")
    (work / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (work / "sub" / "run.sh").chmod(0o755)
    (work / "link").symlink_to("sub")
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "one")
    git(work, "tag", "v1")
    git(work, "checkout", "-q", "-b", "dev")
    (work / "sub" / "dev").write_text("dev\n")
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "two")
    git(work, "tag", "-a", "v2", "-m", "second")
    git(work, "checkout", "-q", "main")
    git(top, "clone", "-q", "--bare", str(work), name)
    git(work, "remote", "add", "origin", str(top / name))
    return top / name
