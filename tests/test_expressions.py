"""Every regular expression of the house, and what reads strangers' text with them, on text that makes backtracking
expressions slow. The limits are generous: what takes the square of the length takes minutes here, the rest no time."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

import buildfront
import run_step
from buildfront.dockerfile import arguments, heredocs, mount_flags, parse, shell_pattern, words
from buildfront.durations import parse_duration
from buildfront.engine.redact import Redactor
from buildfront.engine.redact import words as secret_words
from buildfront.errors import BuildError, nearest
from buildfront.image.platform import normalise
from buildfront.image.reference import parse as reference
from buildfront.registry.challenge import challenges
from buildfront.text import step_line, visible
from run_step import RequestError
from run_step.isolation.runtime_errors import explain
from run_step.option_text import parse_size
from run_step.pipeline.cdi import NAME

MANY = 50_000


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.process_time()  # whatever else the machine does
    yield
    assert time.process_time() - began < seconds


def expressions() -> dict[str, re.Pattern[str] | re.Pattern[bytes]]:
    found = {}
    for package in (buildfront, run_step):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module.name.endswith("__main__"):
                continue
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, re.Pattern):
                    found[f"{module.name}.{name}"] = value
    for escape, runs in words._RUNS.items():
        found[f"words.{escape}.quoted"] = runs.quoted
        found |= {f"words.{escape}.until.{stop}": value for stop, value in runs.until.items()}
        found |= {f"words.{escape}.plain.{stop}": value for stop, value in runs.until_plain.items()}
    for escape, cut in arguments._RUNS.items():
        found |= {f"arguments.{escape}.{name}": value for name, value in vars(cut).items()}
    return found


EXPRESSIONS = expressions()
ANCHORED = {
    "buildfront.dockerfile.lint.check_settings._DIRECTIVE": "it is matched at the beginning of a comment",
    "buildfront.dockerfile.lint.names._DIGEST": "it is matched with the whole text",
    "buildfront.dockerfile.lint.script._ASSIGNMENT": "it is matched at the beginning of a word",
    "buildfront.dockerfile.lint.script._REDIRECTION": "it is matched at the beginning of a word",
    "buildfront.graph.git_reference._HOST": "it is matched with the whole text",
    "buildfront.graph.git_reference._SCHEME": "it is matched at the beginning of the text",
    "buildfront.dockerfile.directives._NAME": "it is matched at the beginning of a comment",
    "buildfront.dockerfile.heredocs._WORD": "it is matched with the whole word",
    "run_step.pipeline.cdi.NAME": "it is matched with the whole text",
}
BOUNDED = {
    "buildfront.durations._DURATION": "it is given 100 characters at most",
    "buildfront.dockerfile.lint.secrets._NAME": "it is given 255 characters at most",
}
"""Expressions that would take long if they were used in another way."""

PIECES = (
    *("a", "A", "_", "0", "9", "-", ".", "/", ":", "=", ",", " ", "\t", "\n", '"', "'", "\\", "$", "}", "#", "<", "é"),
    *("a-", "a.", "a_", "a__", "a/", "0-", "0,", "1h", "a=", 'a="', " 0", "\\ "),
    *("\x1b[", "\x1b[0;", "<<", " <<", " 0<<a"),
    *("[:", "[*]", "%", "@", "a@", "sha256:", "error running ", "error running a ", "msg=", "\\040"),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("name", sorted(set(EXPRESSIONS) - set(BOUNDED)))
def test_no_expression_takes_the_square_of_the_text(name: str) -> None:
    expression = EXPRESSIONS[name]
    ways = [expression.match, expression.fullmatch, *([] if name in ANCHORED else [expression.search])]
    with within(20):
        for piece in PIECES:
            for end in ("", "!"):
                text = piece * (20_000 // len(piece)) + end
                data = text if isinstance(expression.pattern, str) else text.encode()
                for way in ways:
                    way(data)


def test_what_is_left_out_is_there() -> None:
    assert not {*ANCHORED, *BOUNDED} - set(EXPRESSIONS)


def _dockerfile(form: str, text: str) -> None:
    parse("FROM scratch\n" + form.replace("{}", text))


READERS: dict[str, Callable[[str], object]] = {
    "reference": reference,
    "platform": normalise,
    "duration": parse_duration,
    "challenge": lambda text: challenges(["Bearer " + text]),
    "expand": lambda text: words.expand(text, {}),
    "expand, all values": lambda text: words.expand(text, dict.fromkeys("aA_é09", "a" * 100)),
    "words": lambda text: words.expand_words(text, {}),
    "document": lambda text: words.expand_document(text, {}),
    "split": arguments.split,
    "here-documents": lambda text: heredocs.delimiters(f"RUN {text}", "\\"),
    "pattern": lambda text: shell_pattern.without_prefix("*a*" + text[:20_000], text, longest=True),
    "pattern in a suffix": lambda text: shell_pattern.without_suffix(text[:9] + "*/*", text, longest=False),
    "replacement": lambda text: shell_pattern.replaced("?", text[:20_000], "${a$0", every=True, most=1 << 20),
    "mount": mount_flags.parse,
    "mount size": partial(mount_flags.size, "x"),
    "mount mode": partial(mount_flags.mode, "x"),
    "mount uid": partial(mount_flags.number, "x", "uid"),
    "size": parse_size,
    "CDI name": NAME.fullmatch,
    "words of a runtime": lambda text: explain(text, {"prestart": []}),
    "nearest": lambda text: nearest(text, ("abc", "a" * 50)),
    "visible": visible,
    "visible, all of it": lambda text: visible(text, len(text)),
    "line": step_line,
    "line with colours": partial(step_line, colours=True),
    "secrets": lambda text: Redactor(secret_words([b"a-a-a-a-b", b"0000000001"])).feed(text.encode()),
    **{
        form: partial(_dockerfile, form)
        for form in (
            *("RUN {}", "ENV {}", "ENV a={}", "LABEL a='{}'", "ARG {}", "COPY {} /", "COPY --from={} a b", "USER {}"),
            *("COPY --chown={} a b", "EXPOSE {}", "VOLUME {}", "CMD {}", "CMD [{}]", "SHELL [{}]", "ONBUILD {}"),
            *("HEALTHCHECK {}", "HEALTHCHECK --interval={} CMD a", "RUN --mount={} a", "RUN --{} a", "FROM {}"),
            *("FROM --platform={} a", "FROM a AS {}", "# {}", "{}", "RUN a \\\n{}", "RUN <<{}", "RUN ' {}"),
        )
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("name", READERS)
def test_no_reader_takes_the_square_of_the_text(name: str) -> None:
    with within(30):
        for piece in PIECES:
            for end in ("", "!"):
                try:
                    READERS[name](piece * (MANY // len(piece)) + end)
                except (BuildError, RequestError):
                    pass
