"""`edgewise methods`: what finds circuits, in a line each; one of them in full."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args, get_type_hints

import typer

from edgewise.cli import console
from edgewise.cli.console import Output
from edgewise.cli.options import option_name
from edgewise.methods import METHODS, method_of

_ABOUT = ("name", "summary", "paper", "needs", "returns", "cost", "when")


def methods(
    *,
    name: Annotated[str | None, typer.Argument(help="One method, with its settings.")] = None,
    output: Annotated[Output, "json"],
) -> None:
    """List the methods; all about one with its name.

    edgewise methods acdc
    """
    rows = [_row(method) for method in ([method_of(name)] if name else METHODS.values())]
    if output.json:
        console.as_json(rows[0] if name else rows)
    elif name:
        (row,) = rows
        console.OUT.print(console.bold(row["name"]), row["summary"], sep=": ")
        console.table("", ("", ""), [(key, row[key]) for key in _ABOUT[2:]])
        console.OUT.print()
        cells = [(each["option"], each["help"], _default(each)) for each in row["settings"]]
        console.table("", ("setting", "", "default"), cells)
    else:
        summaries = [(row["name"], row["summary"]) for row in rows]
        console.table("", ("method", "finds a circuit by"), summaries)
        console.OUT.print("\nWhen to use one, what it costs, its settings: edgewise methods NAME")


def _row(method: Any) -> dict[str, Any]:
    """All that is to know about a method, as JSON."""
    hints = get_type_hints(method.settings)
    settings = [
        {
            "name": f.name,
            "option": f"--{option_name(f.name)}",
            "help": f.metadata["help"],
            "choices": [str(value) for value in get_args(hints[f.name]) if isinstance(value, str)],
            "default": None if f.default is MISSING else f.default,
            "required": f.default is MISSING,
        }
        for f in fields(method.settings)
    ]
    return {name: getattr(method, name) for name in _ABOUT} | {"settings": settings}


def _default(setting: dict[str, Any]) -> str:
    if setting["required"]:
        return "required"
    return "–" if setting["default"] is None else str(setting["default"]).lower()
