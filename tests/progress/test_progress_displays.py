"""Each display of progress: the lines that a whole build gives, which display is chosen, and what a step used."""

from __future__ import annotations

import io
import json
import re
import threading

import pytest
from rich.console import Console

from buildfront.dockerfile import parse
from buildfront.engine.events import Event
from buildfront.errors import BuildError
from buildfront.graph import GraphOptions, build_graph
from buildfront.progress.display import MODES, OnDemand, Quiet, create_progress
from buildfront.progress.plain import Plain
from buildfront.progress.rawjson import RawJson
from buildfront.progress.tty import Live
from buildfront.progress.usage import usage_text

GRAPH = build_graph(parse("FROM scratch AS base\nRUN one\nRUN two\n"), GraphOptions(), {})
ONE, TWO = (step.id for step in GRAPH.steps if step.title.startswith("RUN"))
USAGE = {"user_us": 1_500_000, "system_us": 500_000, "max_rss": 1, "peak_memory": 512}
BUILD = (
    Event("graph", data={"graph": GRAPH}),
    Event("info", data={"text": "pulling base"}),
    Event("warning", data={"text": "an old syntax", "line": 1}),
    Event("cached", ONE, "RUN one"),
    Event("start", TWO, "RUN two"),
    Event("output", TWO, "RUN two", {"stream": "stdout", "bytes": b"first\nsec"}),
    Event("output", TWO, "RUN two", {"stream": "stderr", "bytes": b"oops\n"}),
    Event("output", TWO, "RUN two", {"stream": "stdout", "bytes": b"ond\nlast"}),
    Event("warning", TWO, "RUN two", {"text": "no limits here"}),
    Event("done", TWO, "RUN two", {"seconds": 1.25, "usage": USAGE}),
)


def test_plain_lines_of_a_build() -> None:
    out = io.StringIO()
    progress = Plain(out)
    for event in BUILD:
        progress(event)
    progress.close()
    text = re.sub(r"^(#\d+) \d+\.\d{3} ", r"\1 0.000 ", out.getvalue(), flags=re.MULTILINE)
    one, two = f"#{ONE + 1}", f"#{TWO + 1}"
    assert text.splitlines() == [
        "pulling base",
        "warning: an old syntax",
        f"{one} [base 2/3] RUN one",
        f"{one} CACHED",
        f"{two} [base 3/3] RUN two",
        f"{two} 0.000 first",
        f"{two} 0.000 oops",
        f"{two} 0.000 second",
        f"{two} warning: no limits here",
        f"{two} last",
        f"{two} DONE 1.2s (cpu 2.00s, memory 512B)",
    ]


def test_plain_keeps_its_text_until_a_step_prints() -> None:
    progress = Plain(io.StringIO())
    for event in BUILD[:5]:
        progress(event)
    assert progress.printed is not None and progress.printed.count("\n") == 5
    progress(BUILD[5])
    assert progress.printed is None


def test_a_failed_step_is_told_after_its_last_line() -> None:
    out = io.StringIO()
    progress = Plain(out)
    for event in (*BUILD[4:6], Event("failed", TWO, "RUN two", {"error": "exit status 1"})):
        progress(event)
    assert out.getvalue().splitlines()[-2:] == [f"#{TWO + 1} sec", f"#{TWO + 1} ERROR: exit status 1"]


def test_a_step_that_failed_before_it_started_is_told_with_its_title() -> None:
    out = io.StringIO()
    progress = Plain(out)
    for event in (BUILD[0], Event("failed", TWO, "RUN two", {"error": "a file is missing"})):
        progress(event)
    number = f"#{TWO + 1}"
    assert out.getvalue().splitlines() == [
        f"{number} [base 3/3] RUN two",
        f"{number} ERROR: a file is missing",
    ]


def test_rawjson_objects_of_a_build() -> None:
    out = io.StringIO()
    progress = RawJson(out)
    for event in BUILD:
        progress(event)
    progress.close()
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == [event.kind for event in BUILD]
    assert [event.get("step") for event in events] == [event.step for event in BUILD]
    assert [event.get("title") for event in events] == [
        event.title if event.step is not None else None for event in BUILD
    ]
    assert [step["title"] for step in events[0]["graph"]["steps"]] == [step.title for step in GRAPH.steps]
    assert [(event["stream"], event["text"]) for event in events if event["event"] == "output"] == [
        ("stdout", "first\nsec"),
        ("stderr", "oops\n"),
        ("stdout", "ond\nlast"),
    ]
    assert events[-1]["usage"] == USAGE
    times = [event["time"] for event in events]
    assert times == sorted(times)


def test_the_live_display_leaves_a_line_for_each_step() -> None:
    out = io.StringIO()
    live = Live(Console(file=out, force_terminal=False, width=200))
    for event in (*BUILD, Event("failed", ONE, "RUN one", {"error": "x"})):
        live(event)
    live.close()
    lines = [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]
    assert lines[:5] == [
        "pulling base",
        "an old syntax",
        " CACHED [base] RUN one",
        "warning: no limits here",
        " DONE 1.2s [base] RUN two (cpu 2.00s, memory 512B)",
    ]
    assert lines[5] == " ERROR [base] RUN one"


@pytest.mark.parametrize("kind", [Plain, RawJson])
def test_events_of_threads_do_not_mix_in_a_line(kind: type[Plain] | type[RawJson]) -> None:
    out = io.StringIO()
    progress = kind(out)

    def emit(step: int) -> None:
        progress(Event("start", step, f"RUN {step}"))
        for _ in range(200):
            progress(Event("output", step, f"RUN {step}", {"stream": "stdout", "bytes": b"text\n"}))
        progress(Event("done", step, f"RUN {step}", {"seconds": 0.0}))

    threads = [threading.Thread(target=emit, args=(step,)) for step in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = out.getvalue().splitlines()
    assert len(lines) == 4 * 202
    if kind is RawJson:
        assert all(isinstance(json.loads(line), dict) for line in lines)
    else:
        assert all(re.fullmatch(r"#[1-4] (RUN [0-3]|\d\.\d{3} text|DONE 0\.0s)", line) for line in lines)


def test_the_mode_chooses_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    kinds = {mode: type(create_progress(mode)) for mode in MODES}
    assert kinds == {"auto": Plain, "tty": OnDemand, "plain": Plain, "rawjson": RawJson, "quiet": Quiet}
    monkeypatch.setattr(stream, "isatty", lambda: True)
    assert type(create_progress("auto")) is OnDemand


def test_an_unknown_mode_is_told_the_known_ones() -> None:
    with pytest.raises(BuildError, match="fancy") as caught:
        create_progress("fancy")
    assert "rawjson" in caught.value.hint
    assert caught.value.status == 2


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = create_progress("quiet")
    for event in BUILD:
        progress(event)
    progress.close()
    assert capsys.readouterr() == ("", "")


def test_what_is_cached_needs_no_live_display(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    progress = OnDemand()
    progress(BUILD[0])
    progress(Event("cached", ONE, "RUN \x1b[2J"))
    progress.close()
    assert stream.getvalue() == " CACHED RUN \\x1b[2J\n"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, ""),
        ({}, ""),
        ({"user_us": 0, "system_us": 0, "max_rss": 100}, "cpu 0.00s, memory 100B"),
        ({"user_us": 1, "system_us": 10_000, "max_rss": 100, "peak_memory": 7}, "cpu 0.01s, memory 7B"),
        (
            {"user_us": 0, "system_us": 0, "max_rss": 1, "read_bytes": 2, "write_bytes": 3},
            "cpu 0.00s, memory 1B, read 2B, wrote 3B",
        ),
        (
            {"user_us": 0, "system_us": 0, "max_rss": 1, "read_bytes": 0, "write_bytes": 3},
            "cpu 0.00s, memory 1B, wrote 3B",
        ),
    ],
)
def test_what_a_step_used_in_a_few_words(usage: dict[str, int] | None, expected: str) -> None:
    assert usage_text(usage) == expected
