"""`edgewise tasks`: the named behaviours. Alone it lists them; a word after it does more."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from edgewise.cli import show_task
from edgewise.cli.check import check
from edgewise.cli.options import Json


class _ListsByDefault(TyperGroup):
    """`edgewise tasks` and `edgewise tasks --json` are the command `list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = not args or args[0] == "--json"
        return super().parse_args(ctx, ["list", *args] if lists else args)


app = typer.Typer(cls=_ListsByDefault, help="List the named behaviours; check prompts of your own.")


@app.command(name="list")
def list_tasks(json: Json = False) -> None:
    """List the named behaviours; what `edgewise tasks` does alone."""
    from edgewise.cli import show

    rows = show_task.task_rows()
    if json:
        show.as_json(rows)
    else:
        show_task.print_tasks(rows)


app.command()(check)
app.command(name="show")(show_task.show_task)
