"""The configuration of Sphinx: ``make docs`` renders these pages and the docstrings of the public API."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from buildfront import __version__

PROJECT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
}
"""Files above this directory, and the pages that include them."""

project = "buildfront"
copyright = "the buildfront authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
nitpicky = True  # a role or a link that leads nowhere is a warning, and warnings are errors
# No inventories of other projects: nothing is fetched, and names of the standard library are no links. A type that
# the public functions only pass through has no entry either.
nitpick_ignore_regex = [(r"py:.*", r"(?!buildfront\.|run_step\.).*")]
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"buildfront {version}"
html_copy_source = False
html_show_sphinx = False


def _relative_to_the_page(_app: Any, path: Path, page: str, content: list[str]) -> None:
    """Rewrite the links of an included file, which are relative to the project, for the page that includes it."""

    def rewrite(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        if "://" in target:
            return match[0]
        if target in PAGES:
            target = PAGES[target]
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        else:
            target = f"../{target}"
        return f"]({target}{anchor})"

    if (PROJECT / path.name).is_file() and path.name in PAGES:
        content[0] = re.sub(r"\]\(([^)#]+)(#[^)]*)?\)", rewrite, content[0])


def _without_what_is_generated(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Drop the docstrings that NamedTuple writes for its fields."""
    if lines and re.fullmatch(r"Alias for field number \d+", lines[0]):
        lines.clear()


def _with_readable_defaults(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Show the default that a dataclass makes for each object as ``...``."""
    return (signature.replace("<factory>", "...") if signature else signature), returns


def setup(app: Any) -> None:
    """Connect the handlers above."""
    app.connect("include-read", _relative_to_the_page)
    app.connect("autodoc-process-docstring", _without_what_is_generated)
    app.connect("autodoc-process-signature", _with_readable_defaults)
