"""Real servers on loopback that answer as they are told: well, wrongly, endlessly, not at all."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

OCI = "application/vnd.oci.image."
MANIFEST, INDEX = OCI + "manifest.v1+json", OCI + "index.v1+json"


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: int = 0


@dataclass
class Reply:
    """An answer; ``raw`` is sent instead of all else. A Content-Length is added for bytes unless there is one."""

    status: int = 200
    headers: dict[str, str] | list[tuple[str, str]] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""
    reason: str = "Whatever"
    raw: bytes | Iterable[bytes] | None = None
    close: bool = False

    def parts(self, head_only: bool) -> Iterator[bytes]:
        if self.raw is not None:
            yield from [self.raw] if isinstance(self.raw, bytes) else self.raw
            return
        pairs = list(self.headers.items() if isinstance(self.headers, dict) else self.headers)
        names = {name.lower() for name, _ in pairs}
        if isinstance(self.body, bytes) and not {"content-length", "transfer-encoding"} & names:
            pairs.append(("Content-Length", str(len(self.body))))
        head = f"HTTP/1.1 {self.status} {self.reason}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in pairs)
        yield head.encode("utf-8", "surrogateescape") + b"\r\n"
        if not head_only:
            yield from [self.body] if isinstance(self.body, bytes) else self.body


Handler = Callable[[Asked], Reply]


class Stranger:
    """A server. ``asked`` is what it was asked; ``reads`` false: it leaves bodies unread."""

    def __init__(self, handler: Handler, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.handler = handler
        self.asked: list[Asked] = []
        self.reads = True
        self._tls = tls
        self._open: set[socket.socket] = set()
        self.listener = socket.create_server(
            (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
        self.host = host
        self.port = self.listener.getsockname()[1]
        self.name = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.name}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for line in [self.listener, *self._open]:
            try:
                line.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            line.close()

    def sent(self, name: str) -> list[str]:
        """The values of a header in all that was asked."""
        return [asked.headers[name] for asked in self.asked if name in asked.headers]

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self.listener.accept()
            except OSError:
                return
            self._open.add(line)
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        try:
            if self._tls is not None:
                line = self._tls.wrap_socket(line, server_side=True)
                self._open.add(line)
            with line, line.makefile("rb") as stream:
                while self._one(line, stream):
                    pass
        except (OSError, ValueError):
            pass

    def _one(self, line: socket.socket, stream: Any) -> bool:
        first = stream.readline().decode("latin-1").split()
        if len(first) < 2:
            return False
        headers = {}
        while text := stream.readline().decode("latin-1").rstrip("\r\n"):
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        asked = Asked(first[0], first[1], headers)
        self.asked.append(asked)
        if self.reads:
            left = int(headers.get("content-length", 0))
            while left > 0 and (data := stream.read(min(left, 1 << 16))):
                left -= len(data)
                asked.body += len(data)
        reply = self.handler(asked)
        for part in reply.parts(asked.method == "HEAD"):
            line.sendall(part)
        return not (reply.close or reply.raw is not None or not isinstance(reply.body, bytes))


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


class Image:
    """An image of one config and some layers; ``answers`` are the registry's, by the end of the path."""

    def __init__(self, layers: tuple[bytes, ...] = (b"layer " * 100,)) -> None:
        diff_ids = [digest(item) for item in layers]
        self.config = dumps(
            {
                "os": "linux",
                "architecture": "amd64",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            }
        )
        self.layers = layers
        self.manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.descriptor(self.config, OCI + "config.v1+json"),
            "layers": [self.descriptor(item, OCI + "layer.v1.tar") for item in layers],
        }

    @staticmethod
    def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def answers(self) -> dict[str, Reply]:
        manifest = dumps(self.manifest)
        out = {f"blobs/{digest(item)}": Reply(body=item) for item in (self.config, *self.layers)}
        for target in ("latest", digest(manifest)):
            out[f"manifests/{target}"] = Reply(headers={"Content-Type": MANIFEST}, body=manifest)
        return out


def serving(answers: dict[str, Reply]) -> Handler:
    """A handler for pulls from, and pushes to, the repository ``app``."""

    def handle(asked: Asked) -> Reply:
        name = asked.path.removeprefix("/v2/app/").partition("?")[0]
        if asked.method == "POST":
            return answers.get("POST") or Reply(202, {"Location": "/v2/app/blobs/uploads/1"})
        if asked.method == "PUT":
            return answers.get("PUT") or Reply(201)
        return answers.get(name) or Reply(404)

    return handle


def basic(user: str = "user", password: str = "secret") -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()
