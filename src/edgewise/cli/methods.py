"""`edgewise methods`: what finds circuits, in a line each; one of them in full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args, get_type_hints

import typer

from edgewise.cli import console
from edgewise.cli.options import Json, option_name
from edgewise.methods import METHODS, method_of

_ABOUT = ("name", "summary", "paper", "needs", "returns", "cost", "when")


def methods(
    name: Annotated[str | None, typer.Argument(help="One method, with its settings.")] = None,
    json: Json = False,
) -> None:
    """List the methods; all about one with its name.

    edgewise methods acdc
    """
    chosen = [method_of(name)] if name else METHODS.values()
    rows = [_row(method) for method in chosen]
    if json:
        console.as_json(rows[0] if name else rows)
    elif name:
        _print_method(rows[0])
    else:
        console.table(
            "", ("method", "finds a circuit by"), [(r["name"], r["summary"]) for r in rows]
        )
        console.OUT.print("\nWhen to use one, what it costs, its settings: edgewise methods NAME")


def _row(method: Any) -> dict[str, Any]:
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


def _print_method(row: Mapping[str, Any]) -> None:
    console.OUT.print(console.bold(row["name"]), row["summary"], sep=": ")
    console.table("", ("", ""), [(key, row[key]) for key in _ABOUT[2:]])
    cells = [(each["option"], each["help"], _default(each)) for each in row["settings"]]
    console.OUT.print()
    console.table("", ("setting", "", "default"), cells)


def _default(setting: Mapping[str, Any]) -> str:
    value = setting["default"]
    if setting["required"]:
        return "required"
    return "–" if value is None else str(value).lower()
