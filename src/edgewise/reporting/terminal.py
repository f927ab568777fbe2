"""The terminal: what results say as sentences and tables, in any encoding, names as they are."""

from __future__ import annotations

import codecs
import io
import sys
from dataclasses import replace
from typing import Any, Literal

import rich.table
from rich.console import Console
from rich.text import Text

from edgewise.tables import Result, Table

_MOST_ROWS = 40
_CONTROLS = {i: f"\\x{i:02x}" for i in (*range(32), *range(127, 160)) if chr(i) not in "\n\t"}
_PLAINER = {"…": "...", "–": "-", "·": ".", "⏎": "\\n", "⇥": "\\t", "×": "x", "→": "->", "−": "-"}


class _Plain(Console):
    """A console that shows texts as they are: names and paths hold brackets, and worse."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)


OUT = _Plain()
ERR = _Plain(stderr=True)


def visible(text: str) -> str:
    """The text with its control characters, which could move the cursor, spelled out."""
    return text.translate(_CONTROLS)


def accept_any_text() -> None:
    """Let stdout and stderr print what their encoding lacks in other characters."""
    codecs.register_error("edgewise", _plainer)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="edgewise")


def _plainer(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_PLAINER.get(character, "?") for character in lacking), error.end


def bold(name: str) -> Text:
    """A name that begins a line."""
    return Text(visible(name), style="bold")


def show(result: Result, **parts: Result) -> None:
    """Print what a result says, with others that belong to it: tables first, then sentences."""
    OUT.print(bold(result.title), soft_wrap=True)
    named = {"": result} | {f"{name.replace('_', ' ')}: ": part for name, part in parts.items()}
    for name, part in named.items():
        for table in part.tables():
            show_table(replace(table, title=f"{name}{table.title}"))
    OUT.print()
    for name, part in named.items():
        for sentence in part.sentences():
            OUT.print(f"{name}{sentence}")


def show_table(table: Table, *, most: int = _MOST_ROWS) -> None:
    """Print a table as wide as the terminal; JSON and pages have the rows beyond `most`."""
    grid = rich.table.Table(box=None, pad_edge=False, header_style="bold")
    grid.show_header = any(column.name for column in table.columns)
    for i, column in enumerate(table.columns):  # a name that is cut or broken cannot be copied
        justify: Literal["left", "right"] = "right" if column.is_numeric else "left"
        whole = i == 0 or column.kind == "name"
        grid.add_column(visible(column.heading), justify=justify, overflow="fold", no_wrap=whole)
    for row in table.cells()[:most]:
        grid.add_row(*row)
    if table.title:
        OUT.print(f"\n{table.title}", style="italic")
    OUT.print(grid)
    if len(table.rows) > most:
        OUT.print(f"… and {len(table.rows) - most:,} more")
    for note in table.notes:
        OUT.print(note)
