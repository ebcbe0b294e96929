"""What progress makes of a step's output and of strangers' titles: lines, pieces, and no orders to a terminal."""

from __future__ import annotations

import io
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from buildfront.dockerfile import parse
from buildfront.engine.events import Event
from buildfront.graph import GraphOptions, build_graph
from buildfront.graph.render import to_dot, to_json, to_mermaid, to_text
from buildfront.progress.plain import Plain
from buildfront.progress.rawjson import RawJson
from buildfront.progress.streams import LONGEST, Lines, Tail
from buildfront.progress.tty import Live
from buildfront.text import step_line, visible

HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\x9b1A\u202eb\u2028c\u2066\x08\x7fd\udcff"
ORDERS = set("\x1b\x07\r\x9b\u202e\u2028\u2066\x08\x7f")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def output(data: bytes, stream: str = "stdout") -> Event:
    return Event("output", 0, "RUN a", {"stream": stream, "bytes": data})


DONE = Event("done", 0, "RUN a", {"seconds": 1.0})
GRAPH = build_graph(parse(f"FROM scratch\nRUN echo '{HOSTILE[:-1]}'\nRUN a\n"), GraphOptions(), {})


def plain(*events: Event, out: io.StringIO | None = None) -> str:
    out = out or io.StringIO()
    progress = Plain(out)
    for event in events:
        progress(event)
    progress.close()
    return out.getvalue()


def lines_of(text: str) -> list[str]:
    """The step's own lines, without number and time."""
    return [line.split(" ", 2)[2] for line in text.split("\n") if line.startswith("#1 0.")]


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_lines_come_whole_however_they_are_cut(chunks: list[bytes]) -> None:
    lines, found = Lines(), []
    for chunk in chunks:
        found += lines.feed(chunk)
    found += lines.end()
    wanted = b"".join(chunks).split(b"\n")
    assert found == [(False, line) for line in (wanted if wanted[-1] else wanted[:-1])]


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 16, 1 << 20])
def test_a_long_line_comes_in_pieces_and_whole_characters(size: int) -> None:
    text = ("é€😀" * (LONGEST // 6) + "\nend\n").encode()
    lines, found = Lines(), []
    for at in range(0, len(text), size):
        found += lines.feed(text[at : at + size])
    pieces = [line.decode() for inside, line in found[:-1]]
    assert "".join(pieces).encode() + b"\nend\n" == text
    assert [inside for inside, _ in found] == [False, True, False]
    assert max(map(len, (line for _, line in found))) <= LONGEST
    assert list(lines.end()) == []


def test_what_has_a_long_line_is_marked_in_plain_progress() -> None:
    assert lines_of(plain(output(b"a" * (LONGEST + 3) + b"\nb\n"))) == ["a" * LONGEST, "…aaa", "b"]
    assert lines_of(plain(output(b"a" * LONGEST), output(b"\nb\n"))) == ["a" * LONGEST, "b"]
    assert plain(output(b"a" * (LONGEST + 1)), DONE).split("\n")[1] == "#1 …a"


def test_plain_progress_passes_on_elsewhere_and_makes_visible_on_a_terminal() -> None:
    event = output(b"\x1b[31mred\x1b[0m \x1b]0;x\x07\x1b[2A\tz\n10%\r20%\r\n")
    assert lines_of(plain(event)) == ["\x1b[31mred\x1b[0m \x1b]0;x\x07\x1b[2A\tz", "10%\r20%"]
    assert lines_of(plain(event, out=Terminal())) == [
        "\x1b[31mred\x1b[0m \\x1b]0;x\\x07\\x1b[2A\tz\x1b[0m",
        "20%",
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_rawjson_has_whole_characters(size: int) -> None:
    out = io.StringIO()
    progress = RawJson(out)
    text = "é€😀\n".encode() + b"\xff" + "€".encode()[:2]
    for at in range(0, len(text), size):
        progress(output(text[at : at + size]))
    progress(DONE)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert "".join(event.get("text", "") for event in events) == "é€😀\n\ufffd\ufffd"
    assert events[-1]["event"] == "done"
    assert all(event["title"] == "RUN a" and event["step"] == 0 for event in events)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_terminal_shows_the_last_lines(size: int) -> None:
    tail = Tail(3)
    text = "one\n\n  \ntwo\r\nthr\x1b[2Jé\x07e\n".encode()
    for at in range(0, len(text), size):
        tail.feed("stdout", text[at : at + size])
    assert list(tail.lines) == ["one", "two", "thr[2Jée"]
    tail.feed("stdout", b"a\n" * 10**6 + b"b" * 10**6)
    assert [line[:1] for line in tail.lines] == ["a", "a", "b"]
    assert max(map(len, tail.lines)) == Tail.WIDEST


def test_the_live_display_obeys_no_orders() -> None:
    out = Terminal()
    console = Console(file=out, force_terminal=True, width=200, height=50, color_system=None)
    live = Live(console)
    live(Event("graph", data={"graph": GRAPH}))
    live(Event("start", 1, HOSTILE))
    live(
        Event("output", 1, HOSTILE, {"stream": "stdout", "bytes": HOSTILE.encode("utf-8", "surrogateescape")})
    )
    live(Event("warning", 1, HOSTILE, {"text": HOSTILE}))
    live(Event("info", data={"text": HOSTILE}))
    live(Event("done", 1, HOSTILE, {"seconds": 1.0}))
    live.close()
    shown = out.getvalue()
    assert "\x1b]0;" not in shown
    assert not set("\x07\x9b\u202e\u2028\u2066\x08\x7f") & set(shown)
    assert "\\x1b]0;title" in shown


@pytest.mark.parametrize("kind", ["start", "cached", "warning", "failed", "info"])
def test_titles_warnings_and_errors_obey_no_orders(kind: str) -> None:
    data = {"text": HOSTILE, "error": HOSTILE}
    event = Event(kind, None if kind == "info" else 0, HOSTILE, data)
    for out in (io.StringIO(), Terminal()):
        shown = plain(Event("graph", data={"graph": GRAPH}), event, out=out)
        assert not ORDERS & set(shown)
        assert "\\x1b[2J\\x1b]0;title\\x07\\x0d\\x9b1A\\u202eb\\u2028c\\u2066\\x08\\x7fd\\xff" in shown


@pytest.mark.parametrize("render", [to_text, to_dot, to_mermaid])
def test_a_graph_obeys_no_orders(render) -> None:
    assert not ORDERS & set(render(GRAPH))


def test_a_label_of_mermaid_is_text() -> None:
    graph = build_graph(parse('FROM scratch\nRUN echo "<b>" #1\n'), GraphOptions(), {})
    assert 's1["RUN echo #quot;#lt;b#gt;#quot; #35;1"]' in to_mermaid(graph)


@pytest.mark.no_cover
def test_thousands_of_steps_are_shown_soon() -> None:
    graph = build_graph(parse("FROM scratch\n" + "RUN a\n" * 9990), GraphOptions(), {})
    began = time.monotonic()
    events = [
        Event(kind, step.id, step.title, {"seconds": 0.0})
        for step in graph.steps
        for kind in ("start", "done")
    ]
    assert "#9990 [stage-0 9990/9991] RUN a" in plain(Event("graph", data={"graph": graph}), *events)
    assert to_text(graph)
    assert to_dot(graph)
    assert to_mermaid(graph)
    assert to_json(graph)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é €\u3000x\u00a0y 👩\u200d💻", "plain é €\u3000x\u00a0y 👩\u200d💻"),
        ("\x00\x1b\x7f\x85\x9b\xad", r"\x00\x1b\x7f\x85\x9b\xad"),
        ("\u061c\u200e\u202a\u202e\u2066\u2069", r"\u061c\u200e\u202a\u202e\u2066\u2069"),
        ("\u2028\u2029\ufeff", r"\u2028\u2029\ufeff"),
        ("\ud800\udcff\U000e0041", r"\ud800\xff\U000e0041"),
        ("a\nb\tc", r"a\x0ab\x09c"),
    ],
)  # fmt: skip
def test_what_is_not_printable_is_made_visible(text: str, expected: str) -> None:
    assert visible(text) == expected


def test_more_than_the_limit_loses_its_middle() -> None:
    assert visible("a\n" * 2, keep="\n") == "a\na\n"
    assert visible("b" * 100 + "reason", 60) == "b" * 28 + " …46 characters… " + "b" * 9 + "reason"
    assert visible("b" * 100, 20) == "b" * 19 + "…"
    assert visible("abc", 0) == ""


@given(st.text(), st.integers(0, 50))
def test_nothing_that_is_made_visible_is_an_order(text: str, limit: int) -> None:
    for shown in (visible(text, limit), step_line(text).replace("\t", "")):
        assert not [
            char
            for char in shown
            if not char.isprintable() and not char.isspace() and char not in "\u200c\u200d"
        ]
        assert not ORDERS & set(shown)
