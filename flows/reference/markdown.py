"""Tables and lists of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

WRITTEN = "*Written from the product by `make reference`; do not edit it here.*"
_MARKUP = re.compile(r"\[/?bold[^\]]*\]")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a table; a cell's bars and line ends are taken care of.

    Example:
        >>> print(table(["a", "b"], [["1|2", "x"]]))
        | a | b |
        |---|---|
        | 1\|2 | x |
    """
    lines = [headings, *rows]
    cells = ["| " + " | ".join(_cell(each) for each in line) + " |" for line in lines]
    return "\n".join([cells[0], "|" + "---|" * len(headings), *cells[1:]])


def code(text: str) -> str:
    """Return ``text`` as code; nothing stays nothing."""
    return f"`{text}`" if text else ""


def plain(text: str) -> str:
    """Return help text without the terminal's markup: what was bold there is code here.

    Example:
        >>> plain("Then [bold]fusion live[/bold].")
        'Then `fusion live`.'
    """
    return _MARKUP.sub("`", text)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
