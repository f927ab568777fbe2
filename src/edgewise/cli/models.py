"""`edgewise models`: what can be loaded. Alone it lists; `check NAME` tries one."""

from __future__ import annotations

from typing import Annotated

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.options import Command, Json, ListsByDefault, ProblemOptions, expanded


def list_models(json: Json = False) -> None:
    """List the bundled models, and the families that can be loaded with what was proven of each."""
    from edgewise.model.families import proven

    rows = []
    for name in ew.model.bundled.BUNDLED:
        model = ew.model.bundled.about(name)
        config = model.config
        edges = ew.Graph.build(config.n_layers, config.n_heads, split_embed=config.adds_positions)
        rows.append(
            {
                "name": name,
                "description": model.description,
                "layers": config.n_layers,
                "heads": config.n_heads,
                "d_model": config.d_model,
                "vocabulary": list(model.vocab),
                "edges": edges.n_edges,
            }
        )
    families = [
        {"model_type": f.model_type, "summary": f.summary, "proven": proven(f.model_type)}
        for f in ew.model.families.FAMILIES.values()
    ]
    if json:
        console.as_json({"bundled": rows, "families": families})
        return
    columns = ("model", "what it computes", "layers", "heads", "d_model", "edges")
    keys = ("name", "description", "layers", "heads", "d_model", "edges")
    console.table("Bundled models", columns, [tuple(r[k] for k in keys) for r in rows])
    console.OUT.print()
    headings = ("model type", "models", "float64 logits", "proven with")
    cells = [_cells(f.model_type, f.summary) for f in ew.model.families.FAMILIES.values()]
    console.table("Families (hub name, folder, or module)", headings, cells)


def _cells(model_type: str, summary: str) -> tuple[str, str, str, str]:
    """What the list shows of a family."""
    from edgewise.model.families import proven

    cases = proven(model_type)
    features = {feature for case in cases for feature in case["features"]}
    features |= {case["positions"] for case in cases}
    features |= {"grouped heads" for case in cases if len(set(case["heads"])) > 1}
    worst = max((case["float64"]["proof: logits"] for case in cases), default=None)
    error = "not proven" if worst is None else f"{worst:.0e}"
    return model_type, summary, error, ", ".join(sorted(features))


def check(
    *,
    name: Annotated[str, typer.Argument(help="A bundled model, a hub name, or a folder.")],
    problem: Annotated[ProblemOptions, "dtype", "device"],
    json: Json = False,
) -> None:
    """Load a model, which proves it equal to its source, and try what every circuit rests on."""
    from edgewise.evaluation.model_check import check_model

    with console.spinner("checking", quiet=json):
        loaded = ew.load_model(name, dtype=problem.dtype, device=problem.device)
        result = check_model(loaded)
    if json:
        console.as_json(
            {
                "model": result.name,
                "dtype": result.dtype,
                "tolerance": result.tolerance,
                "errors": result.errors,
                "holds": result.holds,
            }
        )
    else:
        rows = [(what, f"{error:.1e}") for what, error in result.errors.items()]
        console.table(f"{result.name}, {result.dtype}", ("what", "largest relative error"), rows)
        verdict = "all within" if result.holds else "NOT all within"
        console.OUT.print(f"{verdict} the tolerance of {result.tolerance:.0e}.")
    if not result.holds:
        raise typer.Exit(1)


app = typer.Typer(cls=ListsByDefault, help="List what can be loaded; check a model.")
app.command(name="list", cls=Command)(list_models)
app.command(cls=Command)(expanded(check))
