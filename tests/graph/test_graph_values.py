"""Values of single instructions: ports, signals, and the texts of the history."""

import ipaddress
import shlex
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildfront.errors import BuildError
from buildfront.graph import history, signals
from buildfront.graph.ports import ports_of


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("80", "80/tcp"),
        ("0", "0/tcp"),
        ("0080", "80/tcp"),
        ("+80", "80/tcp"),
        ("80/", "80/tcp"),
        ("80/UDP", "80/udp"),
        ("65535/sctp", "65535/sctp"),
        ("8000-8002", "8000/tcp 8001/tcp 8002/tcp"),
        ("80-80/udp", "80/udp"),
        ("8080:80", "80/tcp"),
        ("8080-8081:80-81", "80/tcp 81/tcp"),
        ("8080-8090:80", "80/tcp"),
        (":80", "80/tcp"),
        ("127.0.0.1:8080:80", "80/tcp"),
        ("127.0.0.1::80", "80/tcp"),
        ("[::1]:8080:80/udp", "80/udp"),
        ("::1:8080:80", "80/tcp"),
    ],
)
def test_ports(word, expected):
    assert ports_of(word) == expected.split()


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("", "not a port"),
        ("/tcp", "not a port"),
        ("65536", "not a port"),
        ("9" * 5000, "not a port"),
        ("x", "not a port"),
        ("-1", "not a port"),
        ("80-", "not a port"),
        ("1.5", "not a port"),
        ("1_0", "not a port"),
        ("٣", "not a port"),
        ("81-80", "ends before it begins"),
        ("80/foo", "unknown protocol 'foo'"),
        ("80/tcp/x", "unknown protocol"),
        ("x:80", "not a port"),
        ("80:", "not a port"),
        ("1-3:1-2", "different lengths"),
        ("host:80:80", "not an IP address"),
        ("[::1%eth0]:80:80", "not an IP address"),
    ],
)
def test_what_is_no_port(word, what):
    with pytest.raises(BuildError, match=what) as caught:
        ports_of(word)
    assert caught.value.what.startswith(f"EXPOSE {word!r}") and caught.value.hint


@given(st.ip_addresses(), st.integers(0, 65535), st.integers(0, 300))
def test_an_address_and_a_range(address, first, more):
    last = min(first + more, 65535)
    host = f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)
    assert len(ports_of(f"{host}:{first}-{last}:{first}-{last}")) == last - first + 1


@pytest.mark.parametrize(
    "text", ["SIGTERM", "term", "Sigint", "9", "RTMIN", "SIGRTMIN+15", "RTMAX-14", "-3", "64"]
)
def test_signals(text):
    signals.check(text)


def test_all_signals_of_the_machine_are_known():
    for item in signal.Signals:
        signals.check(item.name)


@pytest.mark.parametrize(
    "text", ["", "0", "SIGNOPE", "TERMX", "RTMIN+16", "RTMAX-15", "1.5", "SIG9", "TERM "]
)
def test_what_is_no_signal(text):
    with pytest.raises(BuildError, match="is not a signal") as caught:
        signals.check(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", '"a b"'),
        ('a"b\\', r'"a\"b\\"'),
        ("a\n\t\0\x7f", r'"a\n\t\x00\x7f"'),
        ("ä→😀", '"ä→😀"'),
        ("\u00a0\u200b\x85", r'"\u00a0\u200b\u0085"'),
        ("\U000e0001", r'"\U000e0001"'),
        ("\udcff", r'"\xff"'),
        ("", '""'),
    ],
)
def test_quoted(text, shown):
    assert history.quoted(text) == shown


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_a_quoted_line_is_read_by_a_shell_where_nothing_is_special(text):
    plain = text.replace("$", "").replace("`", "").replace("!", "")
    assert shlex.split(history.quoted(plain)) == [plain]


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (500_000_000, "500ms"),
        (999_999_999, "999.999999ms"),
        (1_500_000_000, "1.5s"),
        (90 * 10**9, "1m30s"),
        (3_600 * 10**9, "1h0m0s"),
        (5_400 * 10**9 + 1, "1h30m0.000000001s"),
        (360_000 * 10**9, "100h0m0s"),
    ],
)
def test_durations_as_go_writes_them(nanoseconds, shown):
    assert history.duration(nanoseconds) == shown
