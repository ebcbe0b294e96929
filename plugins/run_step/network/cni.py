"""Networks by CNI plugins (row S78; CNI specification, "Execution protocol").

The plugins of each network are called one after the other with ADD, and in reverse order with DEL in every
outcome.

It runs in the supervised child. The plan holds the networks; nothing here reads a configuration directory.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Sequence
from typing import Any, TypeVar

from .. import notes
from ..documents import parse
from ..linux import mount as m
from ..linux.children import Cancelled, die_with_parent, died_of, until_ended
from ..linux.process import loopback_up
from ..network_terms import CNI_PLUGIN_DIRS
from .model import NetworkError
from .user_mode import name_servers

T = TypeVar("T")

SECONDS = 60.0
"""The limit for one call of a plugin, in seconds."""

NOTE = "cni.json"
"""The name of the bundle's file that lists the networks that were added, for :func:`recover`."""

_LARGEST = 1 << 20
"""The limit for the answer of a plugin, in bytes."""


class Networks:
    """All networks of one step.

    A descriptor holds the namespace, so that DEL finds it after the step has ended.
    """

    pid = 0

    def __init__(self, pid: int, bundle: str, calls: Calls, configs: list[dict[str, Any]]) -> None:
        self.addresses: tuple[str, ...] = ()
        self.gateways: tuple[str, ...] = ()
        self.dns: dict[str, Any] = {}
        self.warnings: list[str] = []
        self._namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._note = os.path.join(bundle, NOTE)
        self._calls = calls
        calls.namespace = f"/proc/{os.getpid()}/fd/{self._namespace}"
        self._added: list[dict[str, Any]] = []
        try:
            _loopback_up(self._namespace)
            for number, config in enumerate(configs):
                self._add(config, f"if{number}")
            if not self.dns.get("nameservers") and name_servers(bundle) == []:
                self.warnings.append(
                    "neither the host nor a network names a name server; give one with --dns"
                )
        except BaseException:
            self.close()
            raise

    def _add(self, config: dict[str, Any], interface: str) -> None:
        entry: dict[str, Any] = {
            "config": config,
            "interface": interface,
            "result": None,
            "calls": self._calls.known(),
        }
        self._added.append(entry)  # noted before the first plugin is called: after a failed ADD comes a DEL
        for plugin in config["plugins"]:
            self._save()
            given = _input(config, plugin, entry["result"])
            entry["result"] = self._calls.run("ADD", plugin, given, interface)
        self._save()
        try:
            self._learn(entry["result"] or {})
        except ValueError as error:
            text = json.dumps(entry["result"])[:200]
            last = config["plugins"][-1]["type"]
            raise NetworkError(
                f"the CNI plugin {last} of network {config['name']!r} answered ADD with an invalid result "
                f"({error}): {text}"
            ) from None

    def _learn(self, result: dict[str, Any]) -> None:
        """Take the addresses, the gateways and the name servers for the step's files from a result.

        Results before version 0.3.0 have ``ip4`` and ``ip6``. Raises ValueError if a field has another shape
        than the specification says.
        """
        ips = _items(result, "ips", dict)
        for key in ("ip4", "ip6"):
            old = _field(result, key, dict, {})
            ips.append({"address": old.get("ip"), **old})
        addresses, gateways = ([_field(item, key, str, "") for item in ips] for key in ("address", "gateway"))
        self.addresses += tuple(item.partition("/")[0] for item in addresses if item)
        self.gateways += tuple(item for item in gateways if item)
        dns = _field(result, "dns", dict, {})
        for key in ("nameservers", "search", "options"):
            if found := _items(dns, key, str):
                known = self.dns.setdefault(key, [])
                known += [item for item in found if item not in known]
        if domain := _field(dns, "domain", str, ""):
            self.dns.setdefault("domain", domain)

    def _save(self) -> None:
        with open(self._note + ".new", "w", encoding="utf-8") as stream:
            json.dump(self._added, stream)
        os.rename(self._note + ".new", self._note)

    def words(self) -> str:
        """Return an empty text: no process serves these networks."""
        return ""

    def close(self) -> None:
        """Call DEL for all networks in reverse order. Never raises: an error of a plugin becomes a warning."""
        self._calls.run_socket = None  # no builder waits for this any more, and it must be done
        for entry in reversed(self._added):
            self.warnings += _delete(self._calls, entry)
        self._added = []
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1


class Calls:
    """Calls of plugins for one container and one namespace.

    ``run_socket`` is the socket on which the builder may ask for the end meanwhile.
    """

    def __init__(
        self, container_id: str, plugin_dirs: list[str], run_socket: socket.socket | None, namespace: str = ""
    ) -> None:
        self.container_id = container_id
        self.plugin_dirs = plugin_dirs
        self.run_socket = run_socket
        self.namespace = namespace

    def known(self) -> dict[str, Any]:
        """Return the values that :func:`recover` needs, for JSON."""
        return {"container_id": self.container_id, "plugin_dirs": self.plugin_dirs}

    def run(self, command: str, plugin: dict[str, Any], given: dict[str, Any], interface: str) -> Any:
        """Call a plugin and return its answer.

        Raises NetworkError, which names the plugin and the network, and Cancelled.
        """
        name = plugin["type"]
        where = f"the CNI plugin {name} of network {given['name']!r}"
        path = self.find(name)
        if not path:
            raise NetworkError(
                f"{where} was not found in {', '.join(self.plugin_dirs)}; install containernetworking-plugins, or "
                "see --cni-plugin-path"
            )
        files = [os.memfd_create(part, os.MFD_CLOEXEC) for part in ("input", "output", "errors")]
        try:
            os.write(files[0], json.dumps(given).encode())
            os.lseek(files[0], 0, os.SEEK_SET)
            status = self._wait(where, command, path, files, interface)
            output, errors = (os.pread(fd, _LARGEST, 0) for fd in files[1:])
        finally:
            for fd in files:
                os.close(fd)
        if status != 0:
            raise NetworkError(f"{where} failed for {command}: {_words(output, errors, status)}")
        return _answer(where, command, output)

    def find(self, name: str) -> str:
        places = [os.path.join(item, name) for item in self.plugin_dirs]
        return next((place for place in places if os.access(place, os.X_OK)), "")

    def _wait(self, where: str, command: str, path: str, files: list[int], interface: str) -> int:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.namespace,
            "CNI_IFNAME": interface,
            "CNI_PATH": ":".join(self.plugin_dirs),
        }
        try:
            process = subprocess.Popen(
                [path],
                stdin=files[0],
                stdout=files[1],
                stderr=files[2],
                env=environment,
                cwd="/",
                preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
            )
        except OSError as error:
            raise NetworkError(f"{where} can't be run: {error.strerror}") from None
        if self.run_socket is None:
            try:
                return process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                what = "timeout"
        else:
            what = until_ended(self.run_socket, process.pid, SECONDS)
        if what != "ended":
            process.kill()
        status = process.wait()
        if what == "cancelled":
            raise Cancelled
        if what == "timeout":
            raise NetworkError(f"{where} did not end within {SECONDS:g} s for {command}, and was killed")
        return status


_SHAPES: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}


def _field(value: dict[str, Any], key: str, kind: type[T], nothing: T) -> T:
    """Return a field of a result, or ``nothing`` if it is null or missing. Raises ValueError if it has another type."""
    found = value.get(key)
    if found is None:
        return nothing
    if not isinstance(found, kind):
        raise ValueError(f"{key} is not {_SHAPES[kind]}")
    return found


def _items(value: dict[str, Any], key: str, kind: type[T]) -> list[T]:
    found: list[Any] = _field(value, key, list, [])
    if not all(isinstance(item, kind) for item in found):
        raise ValueError(f"{key} has an item that is not {_SHAPES[kind]}")
    return list(found)


def _answer(where: str, command: str, data: bytes) -> Any:
    if command != "ADD":
        return None
    try:
        result = parse(data)
    except ValueError:
        result = None
    if not isinstance(result, dict):
        raise NetworkError(
            f"{where} did not answer ADD with a JSON object: {data[:200].decode(errors='replace')!r}"
        )
    return result


def _words(output: bytes, errors: bytes, status: int) -> str:
    """Return the message of a plugin's error (CNI specification, "Error"), or else its output."""
    try:
        error = parse(output)
        text = ": ".join(str(error[key]) for key in ("msg", "details") if error.get(key))
    except (ValueError, TypeError, AttributeError):
        text = ""
    printed = (errors or output).decode(errors="replace").strip()
    how = f"exit status {status}" if status >= 0 else died_of(-status)
    return text or printed[-400:] or how


def _input(config: dict[str, Any], plugin: dict[str, Any], previous: Any) -> dict[str, Any]:
    """Return the configuration that a plugin gets (CNI specification, "Deriving execution configuration")."""
    given = {key: value for key, value in plugin.items() if key != "capabilities"}
    given |= {"name": config["name"], "cniVersion": config["cniVersion"]}
    wanted = {key for key, value in (plugin.get("capabilities") or {}).items() if value}
    runtime = {key: value for key, value in (config.get("runtimeConfig") or {}).items() if key in wanted}
    if runtime:
        given["runtimeConfig"] = runtime
    if previous is not None:
        given["prevResult"] = previous
    return given


def _delete(calls: Calls, entry: dict[str, Any]) -> list[str]:
    """Call DEL for each plugin of one network in reverse order, even if some fail; return the error messages."""
    words = []
    config = entry["config"]
    for plugin in reversed(config["plugins"]):
        try:
            calls.run("DEL", plugin, _input(config, plugin, entry["result"]), entry["interface"])
        except NetworkError as error:
            words.append(str(error))
    return words


def _loopback_up(namespace: int) -> None:
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        m.setns(namespace, m.CLONE_NEWNET)
        try:
            loopback_up()
        finally:
            m.setns(own, m.CLONE_NEWNET)
    finally:
        os.close(own)


def recover(bundle: str, plugin_dirs: Sequence[str] = ()) -> list[str]:
    """Call DEL for the networks that a killed step had added. Never raises.

    The namespace is gone, so the calls name none. Returns a warning for each network that could not be
    deleted. Plugins are run only from the usual directories and from ``plugin_dirs``, whatever the note says.
    """
    known = (*CNI_PLUGIN_DIRS, *plugin_dirs)
    data = notes.read(bundle, NOTE)
    warnings = []
    try:
        added = parse(data) if data is not None else []
        for entry in reversed(_items({"added": added}, "added", dict)):
            calls, config = _field(entry, "calls", dict, {}), _field(entry, "config", dict, {})
            wanted = _items(calls, "plugin_dirs", str)
            if not set(wanted) <= set(known):
                warnings.append(
                    f"the networks in {bundle} are left as they are: their note names plugins in "
                    f"{', '.join(wanted)!r}, which are not this machine's plugin directories"
                )
                continue
            where = Calls(_field(calls, "container_id", str, ""), wanted, None)
            plugins = _items(config, "plugins", dict)
            types = [_field(plugin, "type", str, "") for plugin in plugins]
            if all(notes.known_program(where.find(name), types, known) for name in types if where.find(name)):
                warnings += _delete(where, entry)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # it is not a note of ours
    return warnings
