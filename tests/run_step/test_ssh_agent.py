"""SSH agents lent to a step: real OpenSSH tools before the socket, real and hostile peers on both sides of it."""

import base64
import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, padding
from hypothesis import given, settings
from hypothesis import strategies as st

from run_step import HostError, RequestError
from run_step.ssh import KeyAgent, SocketAgent, messages, parse_ssh
from run_step.ssh import proxy as proxy_module
from run_step.ssh.proxy import CLIENTS, Proxy

FAILURE = b"\x05"
IDENTITIES = b"\x0b"
KINDS = {
    "ed25519": ("-t", "ed25519"),
    "rsa": ("-t", "rsa", "-b", "2048"),
    "p256": ("-t", "ecdsa", "-b", "256"),
    "p384": ("-t", "ecdsa", "-b", "384"),
    "p521": ("-t", "ecdsa", "-b", "521"),
}
GUARD = 60
"""Seconds after which a test that hangs fails, in place of all that come after it."""


def tool(*command, sock=None, data=None, cwd=None):
    """An OpenSSH tool: its status and everything that it said."""
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C"}
    if sock is not None:
        environ["SSH_AUTH_SOCK"] = sock
    done = subprocess.run(
        command,
        input=data or b"",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environ,
        cwd=cwd,
        timeout=GUARD,
        check=False,
    )
    return done.returncode, done.stdout.decode()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A directory with one key of each kind, in OpenSSH's format."""
    top = tmp_path_factory.mktemp("keys")
    for name, options in KINDS.items():
        assert tool("ssh-keygen", "-q", "-N", "", "-C", name, "-f", str(top / name), *options)[0] == 0
    return top


@contextmanager
def real_agent(path, *key_paths):
    """OpenSSH's ssh-agent with these keys."""
    command = ["ssh-agent", "-D", "-a", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            assert process.stdout.readline().startswith(b"SSH_AUTH_SOCK=")
            if key_paths:
                code, said = tool("ssh-add", *map(str, key_paths), sock=str(path))
                assert code == 0, said
            yield process
        finally:
            process.kill()


@pytest.fixture
def lend(tmp_path):
    """Makes proxies of agents; they are closed at the end."""
    with ExitStack() as stack:

        def make(agent, name="agent.sock", directory=tmp_path, mode=0o600, **more):
            more = {"uid": os.getuid(), "gid": os.getgid()} | more
            return stack.enter_context(Proxy(str(directory), name, agent, mode=mode, **more))

        yield make


@pytest.fixture(params=["ssh-agent", "files"])
def lent(request, keys, tmp_path, lend):
    """A proxy's socket for each of the two agents, with a key of each kind in it."""
    paths = [str(keys / name) for name in KINDS]
    if request.param == "files":
        yield lend(KeyAgent(paths)).path
        return
    with real_agent(tmp_path / "real.sock", *paths):
        yield lend(SocketAgent(str(tmp_path / "real.sock"))).path


def connect(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(path)  # before the timeout: with one, a full queue would be an error
    sock.settimeout(GUARD)
    return sock


def exactly(sock, size):
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


def answer(sock):
    return exactly(sock, int.from_bytes(exactly(sock, 4), "big"))


def asked(sock, message):
    sock.sendall(messages.framed(message))
    return answer(sock)


def ask(path, message):
    with connect(path) as sock:
        return asked(sock, message)


def ended(sock):
    """Whether the other end has closed it."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def sign_request(blob, data, flags=0):
    return b"\x0d" + messages.string(blob) + messages.string(data) + flags.to_bytes(4, "big")


def blob_of(keys, name):
    return base64.b64decode((keys / f"{name}.pub").read_text().split()[1])


def open_now():
    """The descriptors of this process, and what they are of."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


# OpenSSH's tools before the socket


def test_ssh_add_lists_the_keys(lent, keys):
    code, said = tool("ssh-add", "-L", sock=lent)
    assert code == 0
    assert [line.split()[:2] for line in said.splitlines()] == [
        (keys / f"{name}.pub").read_text().split()[:2] for name in KINDS
    ]
    code, said = tool("ssh-add", "-l", sock=lent)
    assert code == 0
    for name, line in zip(KINDS, said.splitlines(), strict=True):
        wanted = tool("ssh-keygen", "-l", "-f", str(keys / f"{name}.pub"))[1].split()
        assert line.split() == wanted  # size, fingerprint, comment and kind


@pytest.mark.parametrize("name", KINDS)
def test_what_is_signed_through_the_socket_is_verified(lent, keys, tmp_path, name):
    (tmp_path / "text").write_bytes(b"what is signed\n")
    (tmp_path / "allowed").write_text("me " + (keys / f"{name}.pub").read_text())
    (tmp_path / "key.pub").write_bytes((keys / f"{name}.pub").read_bytes())  # no private key lies beside it
    code, said = tool(
        "ssh-keygen", "-Y", "sign", "-f", "key.pub", "-n", "file", "text", sock=lent, cwd=tmp_path
    )
    assert code == 0, said
    verify = ("ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "me", "-n", "file", "-s", "text.sig")
    assert tool(*verify, data=b"what is signed\n", cwd=tmp_path)[0] == 0
    assert tool(*verify, data=b"something else\n", cwd=tmp_path)[0] != 0


@pytest.mark.parametrize("name", KINDS)
def test_ssh_add_tests_each_key(lent, keys, name):
    """``ssh-add -T`` signs and verifies; for RSA with SHA-256."""
    code, said = tool("ssh-add", "-T", str(keys / f"{name}.pub"), sock=lent)
    assert code == 0, said


def test_nobody_changes_the_agent(lent, keys, tmp_path):
    assert tool("ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", str(tmp_path / "mine"))[0] == 0
    before = tool("ssh-add", "-L", sock=lent)
    for options in (("-D",), ("-d", str(keys / "rsa.pub")), (str(tmp_path / "mine"),), ("-e", "/lib/x.so")):
        assert tool("ssh-add", *options, sock=lent)[0] != 0, options
    # -x and -X ask for a passphrase at a terminal: the messages themselves, then.
    for message in (b"\x16" + messages.string(b"word"), b"\x17" + messages.string(b"word")):
        assert ask(lent, message) == FAILURE
    assert tool("ssh-add", "-L", sock=lent) == before


def test_only_two_kinds_pass(lend):
    asked_for = []

    class Recorder:
        def ask(self, message):
            asked_for.append(message[0])
            return b"\x06"

    with connect(lend(Recorder()).path) as sock:
        for kind in {*range(256)} - {11, 13}:
            assert asked(sock, bytes((kind,)) + messages.string(b"x")) == FAILURE
        assert not asked_for
        assert asked(sock, IDENTITIES) == FAILURE  # what the agent says is no answer to that
    assert asked_for == [11]


@contextmanager
def short_directory():
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        yield top


# The agent for files


def digest_and_name(flags):
    return {
        0: (hashes.SHA1(), b"ssh-rsa"),
        2: (hashes.SHA256(), b"rsa-sha2-256"),
        4: (hashes.SHA512(), b"rsa-sha2-512"),
        6: (hashes.SHA256(), b"rsa-sha2-256"),
    }[flags]


@pytest.mark.parametrize("flags", [0, 2, 4, 6])
def test_flags_choose_the_digest_of_rsa(keys, flags):
    blob = blob_of(keys, "rsa")
    reply = KeyAgent([str(keys / "rsa")]).ask(sign_request(blob, b"data", flags))
    assert reply[0] == 14
    (outer,), rest = messages.strings(reply[1:], 1)
    (name, signature), inner_rest = messages.strings(outer, 2)
    digest, wanted = digest_and_name(flags)
    assert (name, rest, inner_rest) == (wanted, b"", b"")
    public = form.load_ssh_public_key((keys / "rsa.pub").read_bytes())
    public.verify(signature, b"data", padding.PKCS1v15(), digest)
    with pytest.raises(InvalidSignature):
        public.verify(signature, b"date", padding.PKCS1v15(), digest)


def test_an_agent_for_files_refuses_what_it_does_not_have(keys):
    agent = KeyAgent([str(keys / "ed25519"), str(keys / "p256")])
    mine, other = blob_of(keys, "ed25519"), blob_of(keys, "p384")
    assert agent.ask(sign_request(mine, b""))[0] == 14
    assert agent.ask(sign_request(mine, b"data", 2))[0] == 14  # flags for RSA mean nothing to others
    for message in (
        sign_request(other, b"data"),
        sign_request(mine, b"data", 8),
        sign_request(mine, b"data") + b"x",
        sign_request(mine, b"data")[:-1],
        IDENTITIES + b"x",
        b"\x13",
        b"\x1b" + messages.string(b"query"),
        b"",
    ):
        assert agent.ask(message) == FAILURE


def test_the_same_key_twice_is_one(keys):
    agent = KeyAgent([str(keys / "p256"), str(keys / "rsa"), str(keys / "p256")])
    assert agent.ask(IDENTITIES)[1:5] == b"\0\0\0\2"


@pytest.mark.parametrize("format_", ["PEM", "PKCS8"])
@pytest.mark.parametrize("name", ["rsa", "p256", "p384", "p521"])
def test_pem_is_read_as_ssh_keygen_writes_it(keys, tmp_path, name, format_):
    path = tmp_path / "key"
    path.write_bytes((keys / name).read_bytes())
    path.chmod(0o600)
    assert tool("ssh-keygen", "-q", "-p", "-P", "", "-N", "", "-m", format_, "-f", str(path))[0] == 0
    assert b"OPENSSH" not in path.read_bytes()
    assert KeyAgent([str(path)]).ask(sign_request(blob_of(keys, name), b"data"))[0] == 14


def test_ed25519_as_pkcs8_and_text_around_a_key(keys, tmp_path):
    private = form.load_ssh_private_key((keys / "ed25519").read_bytes(), None)
    pem = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    path = tmp_path / "key"
    path.write_bytes(
        b"-----BEGIN EC PARAMETERS-----\r\nBggqhkjOPQMBBw==\r\n-----END EC PARAMETERS-----\r\n" + pem
    )
    assert KeyAgent([str(path)]).ask(sign_request(blob_of(keys, "ed25519"), b"data"))[0] == 14


def test_a_key_comes_through_a_pipe(keys):
    """As from a shell's <(command)."""
    reader, writer = os.pipe()
    try:
        os.write(writer, (keys / "p256").read_bytes())
        os.close(writer)
        assert KeyAgent([f"/dev/fd/{reader}"]).ask(sign_request(blob_of(keys, "p256"), b"data"))[0] == 14
    finally:
        os.close(reader)


def refused(*paths):
    before = open_now()
    with pytest.raises(RequestError) as caught:
        KeyAgent([str(path) for path in paths])
    assert open_now() == before
    return str(caught.value)


@pytest.mark.parametrize("format_", ["RFC4716", "PEM", "PKCS8"])
@pytest.mark.parametrize("name", ["rsa", "p256", "ed25519"])
def test_a_key_with_a_passphrase_is_refused(keys, tmp_path, name, format_):
    if name == "ed25519" and format_ != "RFC4716":
        private = form.load_ssh_private_key((keys / name).read_bytes(), None)
        encryption = form.BestAvailableEncryption(b"secret phrase")
        data = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption)
        (tmp_path / "key").write_bytes(data)
    else:
        (tmp_path / "key").write_bytes((keys / name).read_bytes())
        (tmp_path / "key").chmod(0o600)
        change = ("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret phrase", "-m", format_)
        assert tool(*change, "-f", str(tmp_path / "key"))[0] == 0
    said = refused(keys / "rsa", tmp_path / "key")
    assert repr(str(tmp_path / "key")) in said
    assert "needs a passphrase: add it to an agent with ssh-add and hand that agent over" in said


def test_what_is_no_private_key_is_refused(keys, tmp_path):
    missing = refused(tmp_path / "nothing")
    assert repr(str(tmp_path / "nothing")) in missing and "No such file" in missing
    assert "Is a directory" in refused(tmp_path)
    assert "null byte" in refused("a\0b")
    assert "is a public key" in refused(keys / "rsa.pub")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("no key at all")
    (tmp_path / "public.pem").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    assert "is a public key" in refused(tmp_path / "public.pem")
    for path in (tmp_path / "pipe", tmp_path / "text", "/dev/null", "/dev/zero"):
        said = refused(path)
        assert "is not a private key; give the path" in said and str(path) in said


def test_kinds_that_are_not_supported_are_named(tmp_path):
    curve = ec.generate_private_key(ec.SECP256K1())
    edwards = ed448.Ed448PrivateKey.generate()
    for number, private in enumerate((curve, edwards)):
        path = tmp_path / str(number)
        path.write_bytes(
            private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        )
        said = refused(path)
        assert "not supported" in said and "ssh-add" in said and str(path) in said
    # What a security key leaves in a file: a handle, no key.
    public = (
        messages.string(b"sk-ssh-ed25519@openssh.com") + messages.string(b"p" * 32) + messages.string(b"ssh:")
    )
    raw = b"openssh-key-v1\0" + b"".join(map(messages.string, (b"none", b"none", b""))) + b"\0\0\0\1"
    raw += messages.string(public) + messages.string(b"\0" * 64)
    text = base64.encodebytes(raw).decode()
    (tmp_path / "sk").write_text(
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n"
    )
    assert "the kind sk-ssh-ed25519@openssh.com is not supported" in refused(tmp_path / "sk")


def test_dsa_is_not_supported(tmp_path):
    private = dsa.generate_private_key(1024)
    path = tmp_path / "dsa"
    path.write_bytes(private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    assert "not supported" in refused(path)


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_key_is_told_without_its_material(keys, tmp_path, name):
    lines = (keys / name).read_bytes().splitlines(keepends=True)
    damaged = [
        b"".join([*lines[:2], *lines[3:]]),  # a line is missing
        b"".join([lines[0], b"!!!!\n", lines[-1]]),
        b"".join([lines[0], lines[-1]]),
        b"".join(lines).replace(b"OPENSSH", b"RSA"),
        b"".join(lines).replace(b"OPENSSH ", b""),
        b"".join(lines).replace(b"OPENSSH", b"UNHEARD OF"),
    ]
    for data in damaged:
        (tmp_path / "key").write_bytes(data)
        said = refused(tmp_path / "key")
        assert "damaged" in said and str(tmp_path / "key") in said
        for line in lines[1:-1]:
            assert line.strip().decode() not in said


def test_no_repr_tells_a_key(keys):
    agent = KeyAgent([str(keys / name) for name in KINDS])
    assert repr(agent) == "KeyAgent(5 keys)"
    told = repr(vars(agent))
    for name in KINDS:
        for line in (keys / name).read_text().splitlines()[1:-1]:
            assert line not in told


def test_a_key_too_short_for_a_digest_is_a_failure(keys):
    """What can't be signed is answered, and the agent lives on."""

    def sign(data, flags):
        raise ValueError("Digest too big for RSA key")

    agent = KeyAgent([str(keys / "rsa")])
    blob = blob_of(keys, "rsa")
    agent._keys = {blob: (b"", sign)}
    assert agent.ask(sign_request(blob, b"data", 4)) == FAILURE


def test_cryptography_is_loaded_for_keys_only(keys, tmp_path):
    code = """
import sys
from run_step.ssh import parse_ssh, proxy
with proxy.Proxy(sys.argv[1], "s", parse_ssh("default", {"SSH_AUTH_SOCK": sys.argv[2]})[1], mode=384, uid=-1, gid=-1):
    assert not [name for name in sys.modules if "cryptography" in name]
parse_ssh("a=" + sys.argv[3], {})
assert "cryptography" in sys.modules
"""
    with real_agent(tmp_path / "real"):
        arguments = [str(tmp_path), str(tmp_path / "real"), str(keys / "rsa")]
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, timeout=GUARD)


# The agent at a socket


@contextmanager
def fake_agent(path, behave):
    """An agent that does with each connection what ``behave`` does."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def serve():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return  # shut down
            with sock, suppress(OSError, EOFError):
                behave(sock)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\0\0",
        b"\0\0\0\0",
        b"\0\0\0\5\x0c",
        b"\0\4\0\1" + b"x" * 100,
        b"\xff\xff\xff\xff",
        b"\0\0\0\1\x06",
        b"\0\0\0\1\x0e",
        b"\0\0\0\1\x66",
    ],
)
def test_an_agent_that_answers_nonsense_is_a_failure(tmp_path, lend, reply):
    def behave(sock):
        answer(sock)
        sock.sendall(reply)

    with (
        fake_agent(tmp_path / "fake", behave),
        connect(lend(SocketAgent(str(tmp_path / "fake"))).path) as sock,
    ):
        assert asked(sock, IDENTITIES) == FAILURE
        assert asked(sock, IDENTITIES) == FAILURE  # and the connection goes on


def test_an_agent_whose_answer_comes_in_pieces(tmp_path, lend):
    whole = b"\x0c" + b"\0\0\0\1" + messages.string(b"k" * 200_000) + messages.string(b"comment")

    def behave(sock):
        assert answer(sock) == IDENTITIES
        data = messages.framed(whole)
        for at in range(6):
            sock.sendall(data[at : at + 1])
        sock.sendall(data[6:])

    with fake_agent(tmp_path / "fake", behave):
        assert ask(lend(SocketAgent(str(tmp_path / "fake"))).path, IDENTITIES) == whole


def test_an_agent_that_is_gone_is_a_failure_until_it_is_back(tmp_path, keys, lend):
    path = lend(SocketAgent(str(tmp_path / "real"))).path
    with connect(path) as sock:
        assert asked(sock, IDENTITIES) == FAILURE
        with real_agent(tmp_path / "real", keys / "rsa"):
            assert asked(sock, IDENTITIES)[1:5] == b"\0\0\0\1"
        assert asked(sock, IDENTITIES) == FAILURE
        os.unlink(tmp_path / "real")
        with real_agent(tmp_path / "real"):
            assert asked(sock, IDENTITIES)[1:5] == b"\0\0\0\0"


def test_an_agent_that_hangs_is_a_failure_and_others_are_served(tmp_path, keys, lend):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "hung"))
        listener.listen(1)
        path = lend(SocketAgent(str(tmp_path / "hung")), patience=0.05).path
        with ExitStack() as stack:
            socks = [stack.enter_context(connect(path)) for _ in range(8)]
            for sock in socks:  # more than its queue takes
                sock.sendall(messages.framed(sign_request(b"key", b"d" * 200_000)))
            assert [answer(sock) for sock in socks] == [FAILURE] * 8
            assert asked(socks[0], IDENTITIES) == FAILURE


def test_who_asks_an_agent_that_hangs_delays_nobody(tmp_path, lend):
    """Nobody is served in turn: here the first has no end, and the second is done."""
    released = threading.Event()

    class Agent:
        def __init__(self):
            self.hung = SocketAgent(str(tmp_path / "hung"))

        def ask(self, message):
            return self.hung.ask(message) if message != IDENTITIES else b"\x0c\0\0\0\0"

    with fake_agent(tmp_path / "hung", lambda sock: (answer(sock), released.set(), sock.recv(1))):
        proxy = lend(Agent())
        with connect(proxy.path) as first:
            first.sendall(messages.framed(sign_request(b"key", b"data")))
            assert released.wait(GUARD)
            assert ask(proxy.path, IDENTITIES) == b"\x0c\0\0\0\0"
            proxy.close()
            assert ended(first)


def test_paths_of_any_length(keys, tmp_path, lend):
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    agent = lend(KeyAgent([str(keys / "rsa")]), "a", deep)
    assert len(agent.path) > 240
    again = lend(SocketAgent(agent.path), "b", tmp_path)
    assert ask(again.path, IDENTITIES)[1:5] == b"\0\0\0\1"


# The socket


@contextmanager
def any_umask(value):
    old = os.umask(value)
    try:
        yield
    finally:
        os.umask(old)


@pytest.mark.parametrize("umask", [0, 0o777])
def test_mode_and_owner_are_what_was_asked_for(keys, tmp_path, lend, umask):
    with any_umask(umask):
        proxy = lend(KeyAgent([]), mode=0o640)
    status = os.lstat(proxy.path)
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())


@pytest.mark.root
def test_only_the_owner_may_connect():
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    with short_directory() as top:
        os.chmod(top, 0o755)
        with Proxy(top, "s", KeyAgent([]), mode=0o600, uid=1234, gid=4321) as proxy:
            status = os.lstat(proxy.path)
            assert (status.st_uid, status.st_gid) == (1234, 4321)
            for user, allowed in ((1234, True), (1235, False)):
                done = subprocess.run(
                    ["/usr/bin/env", "python3", "-c", code, proxy.path],
                    user=user,
                    group=4321,
                    extra_groups=[],
                    stderr=subprocess.PIPE,
                    timeout=GUARD,
                    check=False,
                    env={"PATH": "/usr/bin:/bin"},
                )
                assert (done.returncode == 0) == allowed, done.stderr
                assert allowed or b"PermissionError" in done.stderr


def test_nobody_connects_before_the_socket_has_its_owner(tmp_path, lend, monkeypatch):
    seen = []
    real = {name: getattr(os, name) for name in ("chown", "chmod")}

    def watching(name):
        def call(path, *arguments, **more):
            status = os.lstat(tmp_path / "agent.sock")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                seen.append(
                    (name, stat.S_IMODE(status.st_mode), sock.connect_ex(str(tmp_path / "agent.sock")))
                )
            return real[name](path, *arguments, **more)

        return call

    with any_umask(0), monkeypatch.context() as patch:
        for name in real:
            patch.setattr(proxy_module.os, name, watching(name))
        lend(KeyAgent([]), mode=0o666)
    refusals = [errno.ECONNREFUSED] if os.getuid() == 0 else [errno.ECONNREFUSED, errno.EACCES]
    assert [(name, mode) for name, mode, _ in seen] == [("chown", 0), ("chmod", 0)]
    assert all(code in refusals for _, _, code in seen)


def test_everything_is_gone_after_close_and_nothing_is_inherited(keys, tmp_path):
    threads, before = set(threading.enumerate()), open_now()
    proxy = Proxy(str(tmp_path), "s", KeyAgent([str(keys / "rsa")]), mode=0o600, uid=-1, gid=-1)
    assert os.listdir(tmp_path) == ["s"]
    with connect(proxy.path) as sock:
        assert asked(sock, IDENTITIES)[0] == 12
        for fd in set(open_now()) - set(before):
            assert not os.get_inheritable(fd)
        proxy.close()
        assert ended(sock)
    proxy.close()
    assert os.listdir(tmp_path) == []
    assert open_now() == before
    assert set(threading.enumerate()) == threads


def test_many_close_it_at_once(tmp_path):
    before = open_now()
    proxy = Proxy(str(tmp_path), "s", KeyAgent([]), mode=0o600, uid=-1, gid=-1)
    threads = [threading.Thread(target=proxy.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert open_now() == before
    assert os.listdir(tmp_path) == []


def test_what_was_put_in_its_place_is_left(tmp_path):
    for replace in (lambda path: None, lambda path: path.write_text("mine")):
        proxy = Proxy(str(tmp_path), "s", KeyAgent([]), mode=0o600, uid=-1, gid=-1)
        os.unlink(tmp_path / "s")
        replace(tmp_path / "s")
        proxy.close()
    assert (tmp_path / "s").read_text() == "mine"


def test_a_socket_that_cannot_be_made_leaves_nothing(tmp_path, monkeypatch):
    before = open_now()
    agent = KeyAgent([])
    (tmp_path / "taken").write_text("x")
    for directory, name in (
        (tmp_path, "taken"),
        (tmp_path / "nothing", "s"),
        (tmp_path / "taken", "s"),
        (tmp_path, "n" * 200),
    ):
        with pytest.raises(HostError, match="no socket for an SSH agent can be made at"):
            Proxy(str(directory), name, agent, mode=0o600, uid=-1, gid=-1)
    for name in ("", "a/b", "a\0b"):
        with pytest.raises(ValueError, match="not a file name"):
            Proxy(str(tmp_path), name, agent, mode=0o600, uid=-1, gid=-1)

    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch, pytest.raises(HostError, match="Operation not permitted"):
        patch.setattr(proxy_module.os, "chown", refuse)
        Proxy(str(tmp_path), "s", agent, mode=0o600, uid=0, gid=0)

    class NoThread:
        def __init__(self, **_):
            pass

        def start(self):
            raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, pytest.raises(HostError, match="can't start new thread"):
        patch.setattr(proxy_module.threading, "Thread", NoThread)
        Proxy(str(tmp_path), "s", agent, mode=0o600, uid=-1, gid=-1)
    assert os.listdir(tmp_path) == ["taken"]
    assert open_now() == before


# Hostile clients


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\0",
        b"\0\4\0\1\x0d",
        b"\xff\xff\xff\xff",
        messages.framed(IDENTITIES + b"more"),
        messages.framed(b"\x0d"),
        messages.framed(b"\x0d\0\0\0\5key"),
        messages.framed(sign_request(b"key", b"data") + b"x"),
        messages.framed(sign_request(b"key", b"data")[:-1]),
        messages.framed(b"\x0d\xff\xff\xff\xff" + b"x" * 100),
    ],
)
def test_a_malformed_message_ends_its_connection(lend, data):
    proxy = lend(KeyAgent([]))
    with connect(proxy.path) as sock, connect(proxy.path) as other:
        sock.sendall(data)
        assert ended(sock)
        assert asked(other, IDENTITIES) == b"\x0c\0\0\0\0"


def test_the_longest_message_is_still_served(lend, keys):
    proxy = lend(KeyAgent([str(keys / "ed25519")]))
    blob = blob_of(keys, "ed25519")
    message = sign_request(blob, b"")
    message = sign_request(blob, b"x" * (messages.LONGEST - len(message)))
    with connect(proxy.path) as sock:
        assert asked(sock, message)[0] == 14
        sock.sendall(messages.framed(message + b"x")[:5])
        assert ended(sock)


def test_messages_sent_ahead_are_answered_in_order(lend, keys):
    proxy = lend(KeyAgent([str(keys / "p256")]))
    with connect(proxy.path) as sock:
        sock.sendall((messages.framed(IDENTITIES) + messages.framed(b"\x13")) * 100)
        assert [answer(sock)[0] for _ in range(200)] == [12, 5] * 100


def stalled(path, stack, count, data):
    socks = []
    for _ in range(count):
        sock = stack.enter_context(connect(path))
        sock.sendall(data)
        socks.append(sock)
    return socks


def test_who_stalls_blocks_nobody(tmp_path, lend, keys):
    """As many half messages as there are connections: the oldest of them goes, and one that was served stays."""
    proxy = lend(KeyAgent([str(keys / "rsa")]))
    with ExitStack() as stack:
        good = stack.enter_context(connect(proxy.path))
        assert asked(good, IDENTITIES)[0] == 12
        socks = stalled(proxy.path, stack, CLIENTS, b"\0\0\1\0\x0d")
        assert tool("ssh-add", "-l", sock=proxy.path)[0] == 0
        assert ended(socks[0])
        assert asked(good, IDENTITIES)[0] == 12
        proxy.close()
        assert all(ended(sock) for sock in socks[1:])


def test_who_waits_for_the_agent_is_kept(tmp_path, lend):
    """A person may have to confirm it; those who only hold a connection go before."""
    released = threading.Event()

    def behave(sock):
        answer(sock)
        released.wait(GUARD)
        sock.sendall(messages.framed(b"\x0esignature"))

    with fake_agent(tmp_path / "fake", behave), ExitStack() as stack:
        path = lend(SocketAgent(str(tmp_path / "fake"))).path
        waiting = stack.enter_context(connect(path))
        waiting.sendall(messages.framed(sign_request(b"key", b"data")))
        stack.callback(released.set)
        socks = stalled(path, stack, 2 * CLIENTS, b"")
        assert ended(socks[CLIENTS])
        released.set()
        assert answer(waiting) == b"\x0esignature"


def test_who_is_dropped_in_the_turn_in_which_it_speaks(lend):
    """The thread is held while one more connects, and the one that has to go for it says something."""
    asked_now, released = threading.Event(), threading.Event()

    class Agent:
        def ask(self, message):
            asked_now.set()
            released.wait(GUARD)
            return b"\x0c\0\0\0\0"

    path = lend(Agent()).path
    with ExitStack() as stack:
        stack.callback(released.set)
        socks = stalled(path, stack, CLIENTS - 1, b"")
        holding = stack.enter_context(connect(path))
        holding.sendall(messages.framed(IDENTITIES))
        assert asked_now.wait(GUARD)
        one_more = stack.enter_context(connect(path))
        socks[0].sendall(b"\0")
        released.set()
        assert answer(holding)[0] == 12
        assert ended(socks[0])
        assert asked(one_more, IDENTITIES)[0] == 12


def test_who_leaves_before_the_answer_kills_nobody(tmp_path):
    """A program that has given SIGPIPE its usual meaning back must not end of it."""
    code = """
import signal, socket, sys, threading
from run_step.ssh.proxy import Proxy
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
asked, left = threading.Event(), threading.Event()
class Agent:
    def ask(self, message):
        asked.set()
        left.wait()
        return bytes(5)
with Proxy(sys.argv[1], "s", Agent(), mode=384, uid=-1, gid=-1) as proxy:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(proxy.path)
        sock.sendall(bytes((0, 0, 0, 1, 11)))
        asked.wait()
    left.set()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=GUARD)


def test_who_never_reads_blocks_nobody(lend, keys):
    proxy = lend(KeyAgent([str(keys / name) for name in KINDS]))
    with connect(proxy.path) as sock, connect(proxy.path) as other:
        sock.setblocking(False)
        many = messages.framed(IDENTITIES) * 1000
        sent, refusals = 0, 0
        while refusals < 10:  # one alone could mean that the proxy has not come to it yet
            try:
                sent += sock.send(many[sent % 5 :])
                refusals = 0
            except BlockingIOError:
                refusals += 1
                assert asked(other, IDENTITIES)[0] == 12
        assert asked(other, IDENTITIES)[0] == 12
        before = open_now()
        proxy.close()
        assert len(open_now()) < len(before)


def test_a_thousand_connections_cost_no_more_than_the_limit(lend, keys, tmp_path):
    code = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
socks = []
for number in range(1000):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(sys.argv[1])
    socks.append(sock)
print("connected", flush=True)
sys.stdin.read()
"""
    proxy = lend(KeyAgent([str(keys / "rsa")]))
    with connect(proxy.path) as good:
        assert asked(good, IDENTITIES)[0] == 12
        before = len(open_now())
        command = [sys.executable, "-I", "-S", "-c", code, proxy.path]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"connected\n"
            assert len(open_now()) <= before + CLIENTS + 2
            assert asked(good, IDENTITIES)[0] == 12
            assert ask(proxy.path, IDENTITIES)[0] == 12
            proxy.close()
            process.communicate(timeout=GUARD)
            assert process.returncode == 0


def test_without_descriptors_it_goes_on_when_there_are_some(lend, monkeypatch):
    """The listener stays ready while nothing can be accepted: that must neither end the thread nor the others."""
    proxy = lend(KeyAgent([]))
    left = [5]

    def accept(sock):
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return real(sock)

    real = socket.socket.accept
    monkeypatch.setattr(proxy_module, "_PAUSE", 0.01)
    monkeypatch.setattr(socket.socket, "accept", accept)
    assert ask(proxy.path, IDENTITIES) == b"\x0c\0\0\0\0"
    assert left == [0]


def test_descriptors_that_a_client_sends_are_not_kept(lend):
    proxy = lend(KeyAgent([]))
    with connect(proxy.path) as sock:
        assert asked(sock, IDENTITIES)[0] == 12
        before = open_now()
        for _ in range(20):
            socket.send_fds(sock, [messages.framed(IDENTITIES)], [0, 1, 2])
            assert answer(sock)[0] == 12
        assert open_now() == before


def test_clients_that_leave_at_every_point(tmp_path, lend, keys):
    before = open_now()
    with real_agent(tmp_path / "real", keys / "rsa"):
        proxy = lend(SocketAgent(str(tmp_path / "real")))
        whole = messages.framed(sign_request(blob_of(keys, "rsa"), b"data", 2))
        for end in (0, 1, 4, 5, 30, len(whole) - 1, len(whole)):
            for _ in range(5):
                with connect(proxy.path) as sock:
                    sock.sendall(whole[:end])
        assert ask(proxy.path, IDENTITIES)[0] == 12
        proxy.close()
    assert open_now() == before


# Framing, whatever comes


@given(
    sent=st.lists(st.binary(min_size=1, max_size=300), max_size=6),
    sizes=st.lists(st.integers(1, 50), max_size=40),
)
def test_messages_come_out_as_they_went_in_however_they_are_cut(sent, sizes):
    reader, found = messages.Reader(), []
    data = b"".join(map(messages.framed, sent))
    while data:
        size = min(reader.wanted, sizes.pop() if sizes else len(data))
        message = reader.feed(data[:size])
        data = data[size:]
        if message is not None:
            found.append(message)
            assert not reader.begun
    assert found == sent


@given(data=st.binary(max_size=100))
def test_whatever_comes_is_messages_or_malformed(data):
    reader, found = messages.Reader(), []
    left = data
    while left:
        size = reader.wanted
        assert size > 0
        try:
            message = reader.feed(left[:size])
        except messages.MalformedMessage:
            break
        left = left[size:]
        if message is not None:
            found.append(message)
    assert data.startswith(b"".join(map(messages.framed, found)))
    assert all(found)


@given(data=st.binary(max_size=200), fields=st.lists(st.binary(max_size=20), max_size=4))
def test_strings_are_found_or_it_is_malformed(data, fields):
    whole = b"".join(map(messages.string, fields)) + data
    found, rest = messages.strings(whole, len(fields))
    assert (found, rest) == (fields, data)
    try:
        found, rest = messages.strings(data, 2)
    except messages.MalformedMessage:
        return
    assert b"".join(map(messages.string, found)) + rest == data


@given(value=st.integers(0, 1 << 521))
def test_mpint(value):
    (body,), rest = messages.strings(messages.mpint(value), 1)
    assert rest == b""
    assert int.from_bytes(body, "big", signed=True) == value
    assert not body or body[0] or body[1] >= 0x80  # no byte more than needed


@pytest.fixture(scope="module")
def elliptic(keys):
    return KeyAgent([str(keys / "p256"), str(keys / "ed25519")])


@settings(deadline=None, max_examples=200)
@given(
    kind=st.sampled_from([11, 13]) | st.integers(0, 255), data=st.binary(max_size=100), known=st.booleans()
)
def test_an_agent_for_files_answers_whatever_comes(elliptic, keys, kind, data, known):
    message = bytes((kind,)) + (messages.string(blob_of(keys, "p256")) if known else b"") + data
    reply = elliptic.ask(message)
    assert reply == FAILURE or reply[0] == kind + 1


@pytest.fixture(scope="module")
def under_fire(elliptic):
    with short_directory() as top, Proxy(top, "s", elliptic, mode=0o600, uid=-1, gid=-1) as proxy:
        yield proxy.path


PIECE = st.one_of(
    st.binary(max_size=40),
    st.binary(min_size=1, max_size=60).map(messages.framed),
    st.just(messages.framed(IDENTITIES)),
    st.builds(sign_request, st.binary(max_size=9), st.binary(max_size=9), st.integers(0, 9)).map(
        messages.framed
    ),
)


@settings(deadline=None, max_examples=200)
@given(pieces=st.lists(PIECE, max_size=6))
def test_random_bytes_get_answers_or_an_end(under_fire, pieces):
    """What comes back is whole messages of three kinds, then an end; and the next one is served."""
    with connect(under_fire) as sock:
        with suppress(BrokenPipeError):
            for piece in pieces:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
        got = b""
        with suppress(ConnectionResetError):
            while chunk := sock.recv(1 << 16):
                got += chunk
    while got:
        size = int.from_bytes(got[:4], "big")
        assert 1 <= size <= len(got) - 4
        assert got[4] in (5, 12, 14)
        got = got[4 + size :]
    assert ask(under_fire, IDENTITIES)[0] == 12


# The option


def environ(path=None):
    return {} if path is None else {"SSH_AUTH_SOCK": str(path)}


@pytest.fixture
def sockets(tmp_path, monkeypatch):
    """Two sockets and keys in the current directory."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        for name in ("one", "two"):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.bind(name)
        yield tmp_path


@pytest.mark.parametrize(
    ("text", "name"), [("default", "default"), ("mine", "mine"), ("mine=", "mine"), ("=", "default")]
)
def test_an_id_alone_is_the_users_agent(sockets, text, name):
    found, agent = parse_ssh(text, environ(sockets / "one"))
    assert (found, type(agent), agent.path) == (name, SocketAgent, str(sockets / "one"))


def test_paths_are_sockets_or_keys(sockets, keys):
    for name in ("rsa", "p256"):
        os.symlink(keys / name, name)
    found, agent = parse_ssh("a=two", {})
    assert (found, type(agent), agent.path) == ("a", SocketAgent, str(sockets / "two"))
    found, agent = parse_ssh(f"=rsa,p256,{keys}/ed25519", environ("/nonexistent"))
    assert (found, repr(agent)) == ("default", "KeyAgent(3 keys)")
    listed = agent.ask(IDENTITIES)
    assert all(blob_of(keys, name) in listed for name in ("rsa", "p256", "ed25519"))
    assert str(keys).encode() not in listed


def test_a_relative_path_means_the_directory_of_then(sockets, tmp_path, monkeypatch):
    _, agent = parse_ssh("a=one", {})
    monkeypatch.chdir("/")
    assert agent.path == str(tmp_path / "one")


@pytest.mark.parametrize(
    ("text", "variable", "words"),
    [
        ("default", None, "SSH_AUTH_SOCK is not set"),
        ("default", "", "SSH_AUTH_SOCK is not set"),
        ("default", "gone", "'gone' can't be looked at: No such file or directory"),
        ("default", "text", "'text' is not a socket"),
        ("a", None, "start one with 'eval $(ssh-agent)' and ssh-add, or name"),
        ("a=gone", None, "'gone' can't be looked at: No such file or directory"),
        ("a=text", None, "'text' is not a private key; give the path"),
        ("a=one,text", None, "'one' is a socket, and there are keys too"),
        ("a=text,one", None, "'one' is a socket, and there are keys too"),
        ("a=one,two", None, "more than one socket; give each an ID"),
        ("a=one,", None, "one of the paths is empty; the form is default, ID"),
        ("a=b=c", None, "'b=c' can't be looked at"),
        ("a=b\0c", None, "null byte"),
        ("", "one", "the form is default, ID, ID=SOCKET or ID=KEY[,KEY...]"),
        ("default,one", "one", "the form is"),
    ],
)
def test_errors_quote_the_option_and_say_what_helps(sockets, text, variable, words):
    (sockets / "text").write_text("no key")
    with pytest.raises(RequestError) as caught:
        parse_ssh(text, environ(variable))
    assert str(caught.value).startswith(f"ssh {text!r}: ")
    assert words in str(caught.value)
