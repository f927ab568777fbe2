"""`edgewise reproduce`: the paper's tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.console import Output
from edgewise.cli.options import MethodNames, Quick, option
from edgewise.documents import check_output_place
from edgewise.errors import SettingError, quoted

_FILES = {"page": "reproduce.html", "data": "reproduce.json", "points": "points.csv"}


def reproduce(
    *,
    offline: bool = option(False, "Without the paper's language models, or a hub.", "--offline"),
    only: list[str] | None = option(None, "These tasks alone; repeat, or commas."),
    method: MethodNames = None,
    model_of: list[str] | None = option(None, "Where a task's model is: ioi=FOLDER; repeat."),
    out: Path = option(Path("reproduced"), "Folder for the page, the data and the cells."),
    quick: Quick = False,
    minutes: float | None = option(None, "Begin nothing more after this time."),
    output: Annotated[Output, "json"],
) -> None:
    """Make the tables and figures of the ACDC paper.

    All that the models at hand allow. Writes reproduce.html, reproduce.json and points.csv into a
    folder, with methods acdc, hisp and sp. What is done is kept there: after Ctrl-C run the
    same command again. Offline it takes minutes; the paper's own models, hours.

    edgewise reproduce --offline --out reproduced
    """
    check_output_place(out)
    with output.progress("reproducing", kept=out) as on_progress:
        results = ew.recipes.reproduce(
            out,
            offline=offline,
            only=_names(only),
            methods=_names(method),
            models=dict(map(_task_and_model, model_of or ())),
            quick=quick,
            minutes=minutes,
            on_progress=on_progress,
        )
    files = {what: str(out / name) for what, name in _FILES.items()}
    saved = results.to_json()
    document = {name: saved[name] for name in ("areas", "refused", "left")} | {"files": files}
    console.summarize(results, document, *files.values(), quiet=output.json)


def _names(words: list[str] | None) -> list[str]:
    return [name.strip() for text in words or [] for name in text.split(",") if name.strip()]


def _task_and_model(text: str) -> tuple[str, str]:
    task, _, model = text.partition("=")
    if not model:
        raise SettingError(f"--model-of is {quoted(text)}; say of which task: ioi={text}")
    return task, model
