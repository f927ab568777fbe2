"""`edgewise reproduce`: the paper's tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.options import Json, MethodNames, Quick
from edgewise.documents import check_output_place
from edgewise.errors import SettingError, quoted


def reproduce(
    *,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Without the paper's language models, or a hub."),
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="These tasks alone; repeat, or commas.")
    ] = None,
    method: MethodNames = None,
    model_of: Annotated[
        list[str] | None, typer.Option(help="Where a task's model is: ioi=FOLDER; repeat.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page, the data and the cells.")] = Path(
        "reproduced"
    ),
    quick: Quick = False,
    minutes: Annotated[
        float | None, typer.Option(help="Begin nothing more after this time.")
    ] = None,
    json: Json = False,
) -> None:
    """Make the tables and figures of the ACDC paper.

    All that the models at hand allow. Writes reproduce.html, reproduce.json and points.csv into a
    folder, with methods acdc, hisp and sp. What is done is kept there: after Ctrl-C run the
    same command again. Offline it takes minutes; the paper's own models, hours.

    edgewise reproduce --offline --out reproduced
    """
    check_output_place(out)

    def kept() -> str:
        return f"stopped. What is done is kept in {out}; run the same command again to resume."

    with console.stoppable(kept), console.progress_bar("reproducing", quiet=json) as bar:
        results = ew.recipes.reproduce(
            out,
            offline=offline,
            only=_names(only),
            methods=_names(method),
            models=_places(model_of),
            quick=quick,
            minutes=minutes,
            on_progress=bar,
        )
    names = {"page": "reproduce.html", "data": "reproduce.json", "points": "points.csv"}
    files = {what: str(out / name) for what, name in names.items()}
    if json:
        document = results.to_json()
        known = {name: document[name] for name in ("areas", "refused", "left")}
        console.as_json({**known, "files": files})
    else:
        if any(area.ours for area in results.areas()):
            console.show_table(results.tables()[0])  # the page has the others
        for sentence in results.sentences():
            console.OUT.print(sentence)
        console.wrote(*files.values())


def _names(words: list[str] | None) -> list[str]:
    return [name.strip() for text in words or [] for name in text.split(",") if name.strip()]


def _places(words: list[str] | None) -> dict[str, str]:
    """Task and place of each --model-of. Raises `SettingError`."""
    places = {}
    for text in words or []:
        task, sign, place = text.partition("=")
        if not (sign and place):
            raise SettingError(
                f"--model-of is {quoted(text)}; say of which task: --model-of ioi={text}"
            )
        places[task] = place
    return places
