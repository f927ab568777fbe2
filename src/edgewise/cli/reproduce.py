"""`edgewise reproduce`: the paper's tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgewise.cli.options import Json
from edgewise.errors import SettingError, quoted

if TYPE_CHECKING:
    from edgewise.recipes.reproduced import ComparedArea


def reproduce(
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Without the paper's language models: nothing is loaded from a hub."
        ),
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="These tasks alone; again, or with commas, for more.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="These of acdc, hisp, sp alone; likewise.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Where the paper's model of a task is: ioi=FOLDER; again for more."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page, the data and the cells.")] = Path(
        "reproduced"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Very few thresholds, prompts and steps: does it work?")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Begin nothing more after this time; goes on next time.")
    ] = None,
    json: Json = False,
) -> None:
    """Make every table and figure of the ACDC paper that the models at hand allow.

    Writes reproduce.html, reproduce.json and points.csv into a folder. What is done is kept there:
    after Ctrl-C the same command goes on. Offline it takes minutes; the paper's own models, hours.

    edgewise reproduce --offline --out reproduced
    """
    from edgewise.cli import show
    from edgewise.cli.unfinished import Stopped
    from edgewise.recipes import reproduce as work
    from edgewise.storage import check_output_place

    check_output_place(out)
    try:
        with show.progress_bar("reproducing", quiet=json) as bar:
            results = work(
                out,
                offline=offline,
                only=_names(only),
                methods=_names(method),
                models=_places(model),
                quick=quick,
                minutes=minutes,
                on_progress=bar,
            )
    except KeyboardInterrupt:
        raise Stopped(
            f"stopped. What is done is kept in {out}; the same command goes on."
        ) from None
    names = {"page": "reproduce.html", "data": "reproduce.json", "points": "points.csv"}
    files = {what: str(out / name) for what, name in names.items()}
    if json:
        document = results.to_json()
        known = {name: document[name] for name in ("areas", "refused", "left")}
        show.as_json({**known, "files": files})
        return
    _print_areas(results.areas())
    for sentence in results.sentences():
        show.OUT.print(sentence)
    show.wrote(*files.values())


def _names(given: list[str] | None) -> list[str]:
    return [name.strip() for text in given or [] for name in text.split(",") if name.strip()]


def _places(given: list[str] | None) -> dict[str, str]:
    """Task and place of each --model. Raises `SettingError`."""
    places = {}
    for text in given or []:
        task, sign, place = text.partition("=")
        if not (sign and place):
            raise SettingError(f"--model is {quoted(text)}; say of which task: --model ioi={text}")
        places[task] = place
    return places


def _print_areas(areas: Sequence[ComparedArea]) -> None:
    """The entries that could be computed, beside the paper's."""
    from edgewise.cli import show

    rows = []
    for area in areas:
        if area.ours is not None:
            words = "not a target" if area.why_not else "a target"
            what = (f"{area.task}, {area.ablation}", area.metric, area.method)
            edge, node = f"{area.ours.edge_auc:.3f}", f"{area.ours.node_auc:.3f}"
            rows.append((*what, edge, area.edge_auc, node, area.node_auc, words))
    if rows:
        columns = ("task", "metric", "method", "edge AUC", "paper", "node AUC", "paper", "")
        show.table("Tables 2 and 3", columns, rows)
