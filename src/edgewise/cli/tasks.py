"""`edgewise tasks`: the named behaviours. Alone it lists them; a word after it does more."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

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
    from edgewise.tasks import PUBLISHED, TASKS

    rows = [
        {
            "name": spec.name,
            "summary": spec.summary,
            "model": spec.model,
            "metric": spec.metric,
            "reference": spec.reference,
            "data": ", ".join(spec.data),
            "published_edges": PUBLISHED[name]().n_edges if name in PUBLISHED else None,
        }
        for name, spec in TASKS.items()
    ]
    if json:
        show.as_json(rows)
        return
    cells = [
        (
            r["name"],
            r["summary"],
            r["metric"],
            r["reference"],
            r["data"],
            r["published_edges"] or "–",
        )
        for r in rows
    ]
    columns = ("task", "what the model does", "metric", "reference", "data", "published edges")
    show.table("Tasks", columns, cells)


app.command()(check)
