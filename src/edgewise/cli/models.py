"""`edgewise models`: what can be loaded. Alone it lists; `check NAME` tries one."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from edgewise.cli.options import Json


class _ListsByDefault(TyperGroup):
    """`edgewise models` and `edgewise models --json` are the command `list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = not args or args[0] == "--json"
        return super().parse_args(ctx, ["list", *args] if lists else args)


app = typer.Typer(cls=_ListsByDefault, help="List what can be loaded; check a model.")


@app.command(name="list")
def list_models(json: Json = False) -> None:
    """List the bundled models, and the families that can be loaded with what was proven of each."""
    from edgewise.cli import show
    from edgewise.graph import Graph
    from edgewise.model.bundled import BUNDLED, about
    from edgewise.model.families import FAMILIES
    from edgewise.model.families.proven import proven

    rows = []
    for name in BUNDLED:
        model = about(name)
        config = model.config
        edges = Graph.build(config.n_layers, config.n_heads, split_embed=config.adds_positions)
        rows.append(
            {
                "name": name,
                "description": model.description,
                "layers": config.n_layers,
                "heads": config.n_heads,
                "d_model": config.d_model,
                "vocabulary": list(model.vocabulary),
                "edges": edges.n_edges,
            }
        )
    families = [
        {"model_type": f.model_type, "summary": f.summary, "proven": proven(f.model_type)}
        for f in FAMILIES.values()
    ]
    if json:
        show.as_json({"bundled": rows, "families": families})
        return
    columns = ("model", "what it computes", "layers", "heads", "d_model", "edges")
    keys = ("name", "description", "layers", "heads", "d_model", "edges")
    show.table("Bundled models", columns, [tuple(r[k] for k in keys) for r in rows])
    show.OUT.print()
    headings = ("model type", "models", "float64 logits", "proven with")
    cells = [_cells(f.model_type, f.summary) for f in FAMILIES.values()]
    show.table("Families (hub name, folder, or module)", headings, cells)


def _cells(model_type: str, summary: str) -> tuple[str, str, str, str]:
    """What the list shows of a family."""
    from edgewise.model.families.proven import proven

    cases = proven(model_type)
    features = {feature for case in cases for feature in case["features"]}
    features |= {case["positions"] for case in cases}
    features |= {"grouped heads" for case in cases if len(set(case["heads"])) > 1}
    worst = max((case["float64"]["proof: logits"] for case in cases), default=None)
    error = "not proven" if worst is None else f"{worst:.0e}"
    return model_type, summary, error, ", ".join(sorted(features))


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A bundled model, a hub name, or a folder.")],
    dtype: Annotated[str | None, typer.Option(help="float64, float32, bfloat16, float16.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps, …")] = None,
    json: Json = False,
) -> None:
    """Load a model, which proves it equal to its source, and try what every circuit rests on."""
    from edgewise.cli import show
    from edgewise.evaluation.model_check import check_model
    from edgewise.model import load_model

    with show.spinner("checking", quiet=json):
        found = check_model(load_model(name, dtype=dtype, device=device))
    if json:
        show.as_json(
            {
                "model": found.name,
                "dtype": found.dtype,
                "tolerance": found.tolerance,
                "errors": found.errors,
                "holds": found.holds,
            }
        )
    else:
        rows = [(what, f"{error:.1e}") for what, error in found.errors.items()]
        show.table(f"{found.name}, {found.dtype}", ("what", "largest relative error"), rows)
        verdict = "all within" if found.holds else "NOT all within"
        show.OUT.print(f"{verdict} the tolerance of {found.tolerance:.0e}.")
    if not found.holds:
        raise typer.Exit(1)
