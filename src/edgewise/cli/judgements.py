"""Any result as the command line prints it: its tables, then what they say."""

from __future__ import annotations

from edgewise.cli import console
from edgewise.tables import Result

_ROWS = 40


def print_result(result: Result) -> None:
    """Its tables, with the notes on them, and its sentences."""
    for table in result.tables():
        cells = table.cells()
        headings = [column.heading for column in table.columns]
        console.table(table.title, headings, cells[:_ROWS])
        if len(cells) > _ROWS:
            console.OUT.print(f"… and {len(cells) - _ROWS} more")
        for note in table.notes:
            console.OUT.print(note)
        console.OUT.print()
    for sentence in result.sentences():
        console.OUT.print(sentence, soft_wrap=True)
