"""The cases of testdata/oracle: Dockerfiles and the recorded results of BuildKit, laid out, served and compared.

testdata/oracle/README.md describes the files of a case. An image is read here by Python's own tarfile: the comparison
shares no code with what it checks.
"""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import posixpath
import re
import shutil
import subprocess
import tarfile
import threading
import tomllib
import urllib.parse
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard
from web_servers import GIT, answer_git

CASES = Path(__file__).parent.parent.parent / "testdata" / "oracle"
SOURCE_TIME = 981173106
"""2001-02-03: the time of context files that say nothing else; a number below TIME_SPAN is added to it."""
TIME_SPAN = 10**7
TIME_CUT = 1577836800
"""2020-01-01: later times are those of a build, and are not recorded."""
_STUBS = {"dev", "proc", "sys"}
_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "link",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
}
Tree = dict[str, dict[str, Any]]


def names() -> list[str]:
    """The names of all cases."""
    return sorted(path.parent.name for path in CASES.glob("*/expected.json"))


@dataclass
class Base:
    """The base image of the cases: its layers and files, and the number of its history entries."""

    diff_ids: list[str]
    history: int
    tree: Tree


@dataclass
class Case:
    """One case, laid out below ``place``."""

    name: str
    place: Path
    url: str
    toml: dict[str, Any] = field(init=False)
    expected: dict[str, Any] = field(init=False)
    dockerfile: Path = field(init=False)
    context: Path = field(init=False)
    contexts: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source = CASES / self.name
        self.toml = tomllib.loads((self.source / "case.toml").read_text())
        self.expected = json.loads((self.source / "expected.json").read_text())
        self.context = self.place / "context"

    @property
    def options(self) -> dict[str, Any]:
        """The options of the build."""
        value: dict[str, Any] = self.toml.get("options", {})
        return value

    def arguments(self) -> list[str]:
        """The options of the command line."""
        out = ["-f", str(self.dockerfile)]
        for option in ("target", "platform"):
            if option in self.options:
                out += [f"--{option}", self.options[option]]
        for option, name in (("--build-arg", "build_args"), ("--label", "labels")):
            for key, value in self.options.get(name, {}).items():
                out += [option, f"{key}={value}"]
        for key, value in self.contexts.items():
            out += ["--build-context", f"{key}={value}"]
        for key, path in self.secrets.items():
            out += ["--secret", f"id={key},src={path}"]
        return [*out, str(self.context)]

    def lay_out(self) -> None:
        """Make the Dockerfile, the contexts, and the files and repositories that are served."""
        self.place.mkdir(parents=True)
        _checkout(self.source / "context", self.context)
        _checkout(self.source / "http", self.place / "http")
        (self.place / "git").mkdir()
        for name, value in self.options.get("contexts", {}).items():
            if "://" not in value:
                _checkout(self.source / value, self.place / value)
            self.contexts[name] = value if "://" in value else str(self.place / value)
        self._run_script("make-context.sh", self.context)
        self._run_script("make-git.sh", self.place / "git")
        directory = self.context if self.toml.get("dockerfile_in_context") else self.place / "file"
        directory.mkdir(exist_ok=True)
        self.dockerfile = directory / "Dockerfile"
        text = (self.source / "Dockerfile").read_bytes()
        text = text.replace(b"{GIT}", f"{self.url}/git".encode()).replace(b"{HTTP}", self.url.encode())
        self.dockerfile.write_bytes(text)
        ignore = self.source / "Dockerfile.dockerignore"
        if ignore.exists():
            shutil.copyfile(ignore, directory / ignore.name)
        for place in (str(self.context), *self.contexts.values()):
            if "://" not in place:
                _settle(Path(place), SOURCE_TIME + _mark(Path(place), self.name.split("-", 1)[1]))
        for name, value in self.options.get("secrets", {}).items():
            self.secrets[name] = self.place / "secrets" / name
            self.secrets[name].parent.mkdir(exist_ok=True)
            self.secrets[name].write_text(value)

    def _run_script(self, name: str, directory: Path) -> None:
        if not (self.source / name).exists():
            return
        env = {
            "PATH": os.environ["PATH"],
            "TZ": "UTC",
            "LC_ALL": "C",
            "HOME": str(self.place),
            "HTTP": str(self.place / "http"),
            "CONTEXTS": str(self.place / "contexts"),
            **GIT,
        }
        command = ["sh", "-eu", str(self.source / name)]
        done = subprocess.run(command, cwd=directory, env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def _checkout(source: Path, target: Path) -> None:
    """Copy a directory as git checks it out: modes 644 and 755, and links."""
    target.mkdir(parents=True, exist_ok=True)
    target.chmod(0o755)
    for top, directories, files in os.walk(source):
        out = target / Path(top).relative_to(source)
        for name in [*directories, *files]:
            path = Path(top) / name
            if path.is_symlink():
                os.symlink(os.readlink(path), out / name)
            elif path.is_dir():
                (out / name).mkdir(exist_ok=True)
                (out / name).chmod(0o755)
            elif name != ".keep-empty":  # stands for an empty directory, which git can't hold
                shutil.copyfile(path, out / name)
                (out / name).chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _settle(root: Path, when: int) -> None:
    for top, directories, files in os.walk(os.fsencode(root), topdown=False):
        for name in [*files, *directories]:
            path = os.path.join(top, name)
            if os.lstat(path).st_mtime >= TIME_CUT:
                os.utime(path, (when, when), follow_symlinks=False)
    os.utime(root, (when, when))


def _mark(root: Path, name: str) -> int:
    """A number that depends on the content of the context: BuildKit takes files of equal size and time for equal."""
    number = zlib.crc32(name.encode())
    for top, directories, files in os.walk(os.fsencode(root)):
        directories.sort()
        for file in sorted(files):
            path = os.path.join(top, file)
            number = zlib.crc32(os.path.relpath(path, os.fsencode(root)), number)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as stream:
                    number = zlib.crc32(stream.read(), number)
    return number % TIME_SPAN


class Server:
    """Serves the files and git repositories of cases on loopback, at ``/CASE/…``."""

    def __init__(self) -> None:
        self.cases: dict[str, Case] = {}
        owner = self

        class Handler(_Handler):
            server_of_cases = owner

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def case(self, name: str, place: Path) -> Case:
        """A case, laid out, whose URLs this server answers."""
        url = f"http://127.0.0.1:{self.http.server_address[1]}/{name}"
        self.cases[name] = case = Case(name, place, url)
        case.lay_out()
        return case

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_cases: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        name, _, rest = path.lstrip("/").partition("/")
        case = self.server_of_cases.cases.get(name)
        if case is None:
            return self._send(404, b"no", {})
        if rest.startswith("git/"):
            return answer_git(self, case.place / "git", rest[3:], uploadpack__allowAnySHA1InWant="true")
        rest = "/" + urllib.parse.unquote(rest)
        table = case.toml.get("http", {})
        entry = table.get(f"{rest}?{query}") if query else None
        entry = table.get(rest, {}) if entry is None else entry
        if "redirect" in entry:
            return self._send(302, b"", {"Location": case.url + entry["redirect"]})
        file = case.place / "http" / entry.get("file", rest.lstrip("/"))
        if "status" in entry or not file.is_file():
            return self._send(entry.get("status", 404), b"no", {})
        headers = {"Content-Type": entry.get("type", "application/octet-stream")}
        keys = {"last_modified": "Last-Modified", "disposition": "Content-Disposition", "etag": "ETag"}
        headers |= {header: entry[key] for key, header in keys.items() if key in entry}
        if "etag" in entry and entry["etag"] in (self.headers.get("If-None-Match") or ""):
            return self._send(304, b"", headers)
        self._send(200, file.read_bytes(), headers)

    do_HEAD = do_POST = do_GET

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 304:
            self.wfile.write(body)


# images


def base_of(archive: Path) -> Base:
    """The base image, from an OCI archive of it."""
    config, layers = _documents(archive)
    tree: Tree = {}
    for layer in layers:
        _apply(tree, layer)
    return Base(config["rootfs"]["diff_ids"], len(config.get("history", [])), tree)


def result_of(archive: Path, base: Base) -> dict[str, Any]:
    """The facts of an image in an OCI archive, as expected.json has them."""
    config, layers = _documents(archive)
    ids = config["rootfs"].get("diff_ids") or []
    on_base = bool(ids) and ids[: len(base.diff_ids)] == base.diff_ids
    skip = len(base.diff_ids) if on_base else 0
    below = base.tree if on_base else {}
    tree = dict(below)
    for layer in layers[skip:]:
        _apply(tree, layer)
    history = (config.get("history") or [])[base.history if on_base else 0 :]
    out: dict[str, Any] = {
        "status": "ok",
        "error_line": None,
        "on_base": on_base,
        "files": _changes(below, tree),
        "config": config.get("config", {}),
        "platform": {key: config[key] for key in ("os", "architecture", "variant") if config.get(key)},
        "history": [
            {"created_by": item.get("created_by", ""), "empty_layer": item.get("empty_layer", False)}
            for item in history
        ],
        "layers": len(ids) - skip,
    }
    if config.get("author"):
        out["author"] = config["author"]
    return out


def _documents(archive: Path) -> tuple[dict[str, Any], list[bytes]]:
    with tarfile.open(archive) as tar:

        def blob(digest: str) -> bytes:
            stream = tar.extractfile("blobs/" + digest.replace(":", "/"))
            assert stream is not None
            return stream.read()

        index = tar.extractfile("index.json")
        assert index is not None
        manifest = json.loads(blob(json.load(index)["manifests"][0]["digest"]))
        while "manifests" in manifest:
            manifest = json.loads(blob(manifest["manifests"][0]["digest"]))
        config = json.loads(blob(manifest["config"]["digest"]))
        return config, [_unpacked(blob(layer["digest"])) for layer in manifest.get("layers") or []]


def _unpacked(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        return zlib.decompress(data, wbits=31)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def _changes(below: Tree, tree: Tree) -> list[dict[str, Any]]:
    first: dict[int, str] = {}
    files: list[dict[str, Any]] = []

    def plain(node: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in node.items() if key not in ("mtime", "implied", "text")}

    for path in sorted(tree, key=os.fsencode):
        node, old = tree[path], below.get(path)
        leader = first.setdefault(id(node), path)
        if old is None:
            stub = path in _STUBS and node["type"] == "dir"
            if path == "" or (stub and not any(other.startswith(path + "/") for other in tree)):
                continue
        elif plain(old) == plain(node) and leader == path:
            continue
        entry = {"path": "/" + path, **{key: value for key, value in node.items() if key != "implied"}}
        if leader != path:
            entry["hardlink"] = "/" + leader
        files.append(entry)
    for path in sorted(below):
        if path not in tree and (posixpath.dirname(path) in tree or posixpath.dirname(path) == ""):
            files.append({"path": "/" + path, "removed": True})
    return sorted(files, key=lambda entry: os.fsencode(entry["path"]))


def _apply(tree: Tree, data: bytes) -> None:
    """Apply a layer (OCI image spec, layer.md)."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = [(member, posixpath.normpath(member.name).lstrip("/")) for member in tar.getmembers()]
        for _, path in members:
            directory, name = posixpath.split(path)
            if name == ".wh..wh..opq":
                for other in [other for other in tree if other.startswith(directory + "/")]:
                    del tree[other]
            elif name.startswith(".wh."):
                _drop(tree, _resolve(tree, posixpath.join(directory, name[4:])))
        for member, path in members:
            if posixpath.basename(path).startswith(".wh."):
                continue
            path = "" if path == "." else _resolve(tree, path)
            if member.type == tarfile.LNKTYPE:
                node = tree[_resolve(tree, posixpath.normpath(member.linkname).lstrip("/"))]
                _drop(tree, path)
                tree[path] = node
                continue
            node = _node(tar, member)
            if node["type"] != "dir" or tree.get(path, {}).get("type") != "dir":
                _drop(tree, path)
            tree[path] = node
            parent = posixpath.dirname(path)
            while parent and parent not in tree:
                tree[parent] = {"type": "dir", "mode": "0755", "uid": 0, "gid": 0, "implied": True}
                parent = posixpath.dirname(parent)


def _node(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    kind = _KINDS[member.type]
    node: dict[str, Any] = {
        "type": kind,
        "mode": format(member.mode & 0o7777, "04o"),
        "uid": member.uid,
        "gid": member.gid,
    }
    if kind == "file":
        stream = tar.extractfile(member)
        assert stream is not None
        content = stream.read()
        node["size"], node["sha256"] = len(content), hashlib.sha256(content).hexdigest()
    elif kind == "link":
        node["target"] = member.linkname
    elif kind in ("char", "block"):
        node["device"] = [member.devmajor, member.devminor]
    prefix = "SCHILY.xattr."
    attributes = {
        key[len(prefix) :]: value
        if value.isascii() and value.isprintable()
        else f"hex:{os.fsencode(value).hex()}"
        for key, value in sorted(member.pax_headers.items())
        if key.startswith(prefix)
    }
    if attributes:
        node["xattrs"] = attributes
    mtime = int(member.mtime // 1)
    by_chance = kind == "dir" and SOURCE_TIME <= mtime < SOURCE_TIME + TIME_SPAN
    if mtime < TIME_CUT and not by_chance:
        node["mtime"] = mtime
    return node


def _drop(tree: Tree, path: str) -> None:
    for other in [other for other in tree if other == path or other.startswith(path + "/")]:
        del tree[other]


def _resolve(tree: Tree, path: str) -> str:
    """Follow the links of the directories in ``path``."""
    done, left, followed = "", path.split("/"), 0
    while left:
        part = left.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            done = posixpath.dirname(done)
            continue
        here = f"{done}/{part}" if done else part
        node = tree.get(here)
        if left and node is not None and node["type"] == "link" and followed < 40:
            followed += 1
            target = node["target"]
            left = target.split("/") + left
            done = "" if target.startswith("/") else done
            continue
        done = here
    return done


# comparing


def failure(output: bytes) -> dict[str, Any]:
    """The facts of a build that failed, from what it wrote."""
    for line in output.decode("utf-8", "replace").splitlines():
        found = re.match(r"^\S*Dockerfile[^:]*:(\d+)\b", line)
        if found:
            return {"status": "error", "error_line": int(found[1])}
    return {"status": "error", "error_line": None}


def printed(output: bytes) -> list[str]:
    """The lines that the steps wrote to standard output, from raw progress, in the order of the steps."""
    text: dict[int, str] = {}
    for line in output.decode("utf-8", "replace").splitlines():
        if line.startswith('{"'):
            event = json.loads(line)
            if event.get("event") == "output" and event.get("stream") == "stdout":
                text[event["step"]] = text.get(event["step"], "") + event["text"]
    return [line for step in sorted(text) for line in text[step].splitlines()]


def differences(case: Case, got: dict[str, Any]) -> list[str]:
    """What differs from the recorded result: lines ``KIND: WHERE: ours, theirs``. History entries are compared without
    their mark ``# buildkit``, which older records lack.
    """
    want = case.expected
    got = json.loads(json.dumps(got).replace(f"{case.url}/git", "{GIT}").replace(case.url, "{HTTP}"))
    if want["status"] != got["status"]:
        return [f"status: {got['status']}, {want['status']}"]
    if want["status"] == "error":
        if want["error_line"] in (None, got["error_line"]):
            return []
        return [f"line: {got['error_line']}, {want['error_line']}"]
    ignored = case.toml.get("ignore_paths", [])
    out = _different_files(want["files"], got["files"], ignored)
    for key in sorted({*want["config"], *got["config"]}):
        ours, theirs = got["config"].get(key), want["config"].get(key)
        if ours != theirs and (ours or theirs):
            out.append(f"config: {key}: {ours}, {theirs}")
    for key in ("on_base", "platform", "author", "output", "layers"):
        if want.get(key) != got.get(key):
            out.append(f"{key}: {got.get(key)}, {want.get(key)}")
    ours, theirs = (
        [
            (entry["created_by"].removesuffix(" # buildkit"), bool(entry.get("empty_layer")))
            for entry in value["history"]
        ]
        for value in (got, want)
    )
    if len(ours) != len(theirs):
        out.append(f"history: {len(ours)} entries, {len(theirs)}")
    out += [f"history: {mine}, {other}" for mine, other in zip(ours, theirs, strict=False) if mine != other]
    return out


def _different_files(want: list[dict[str, Any]], got: list[dict[str, Any]], ignored: list[str]) -> list[str]:
    out = []
    theirs, ours = ({entry["path"]: entry for entry in entries} for entries in (want, got))
    for path in sorted({*theirs, *ours}):
        if any(re.search(pattern, path) for pattern in ignored):
            continue
        a, b = theirs.get(path), ours.get(path)
        if a is None or b is None:
            out.append(f"files: {path}: {'extra' if a is None else 'missing'}")
            continue
        for key in sorted({*a, *b} - {"text"}):
            if a.get(key) != b.get(key):
                out.append(f"files: {path}: {key}: {b.get(key)}, {a.get(key)}")
    return out
