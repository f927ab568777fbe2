"""`edgewise models`: what can be loaded. Alone it lists; `check NAME` tries one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.console import Output
from edgewise.cli.options import Command, ListsByDefault, expanded
from edgewise.cli.problems import ProblemRequest

_FACTS = ("layers", "heads", "d_model", "edges")


def list_models(*, output: Annotated[Output, "json"]) -> None:
    """List the bundled models, and the families that can be loaded with what was proven of each."""
    from edgewise.model.families import FAMILIES, proven

    bundled = [_bundled(name) for name in ew.model.bundled.BUNDLED]
    families = [
        {"model_type": f.model_type, "summary": f.summary, "proven": proven(f.model_type)}
        for f in FAMILIES.values()
    ]
    if output.json:
        console.as_json({"bundled": bundled, "families": families})
        return
    cells = [[row[key] for key in ("name", "description", *_FACTS)] for row in bundled]
    console.table("Bundled models", ("model", "what it computes", *_FACTS), cells)
    console.OUT.print()
    headings = ("model type", "models", "float64 logits", "proven with")
    rows = [(f["model_type"], f["summary"], *_proof(f["proven"])) for f in families]
    console.table("Families (hub name, folder, or module)", headings, rows)


def _bundled(name: str) -> dict[str, Any]:
    model = ew.model.bundled.about(name)
    config = model.config
    graph = ew.Graph.build(config.n_layers, config.n_heads, split_embed=config.adds_positions)
    return {
        "name": name,
        "description": model.description,
        "layers": config.n_layers,
        "heads": config.n_heads,
        "d_model": config.d_model,
        "vocabulary": list(model.vocab),
        "edges": graph.n_edges,
    }


def _proof(cases: Any) -> tuple[str, str]:
    """The largest error of a family's logits, and with which features it was proven."""
    features = {feature for case in cases for feature in (*case["features"], case["positions"])}
    features |= {"grouped heads" for case in cases if len(set(case["heads"])) > 1}
    errors = [case["float64"]["proof: logits"] for case in cases]
    return f"{max(errors):.0e}" if errors else "not proven", ", ".join(sorted(features))


def check(
    *,
    name: Annotated[str, typer.Argument(help="A bundled model, a hub name, or a folder.")],
    problem: Annotated[ProblemRequest, "dtype", "device"],
    output: Annotated[Output, "json"],
) -> None:
    """Load a model, which proves it equal to its source, and try what every circuit rests on."""
    from edgewise.evaluation.model_check import check_model

    with output.progress("checking"):
        result = check_model(ew.load_model(name, dtype=problem.dtype, device=problem.device))
    if output.json:
        about = ("dtype", "tolerance", "errors", "holds")
        console.as_json({"model": result.name} | {key: getattr(result, key) for key in about})
    else:
        rows = [(what, f"{error:.1e}") for what, error in result.errors.items()]
        console.table(f"{result.name}, {result.dtype}", ("what", "largest relative error"), rows)
        verdict = "all within" if result.holds else "NOT all within"
        console.OUT.print(f"{verdict} the tolerance of {result.tolerance:.0e}.")
    if not result.holds:
        raise typer.Exit(1)


app = typer.Typer(cls=ListsByDefault, help="List what can be loaded; check a model.")
app.command(name="list", cls=Command)(expanded(list_models))
app.command(cls=Command)(expanded(check))
