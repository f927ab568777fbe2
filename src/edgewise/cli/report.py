"""`edgewise report`: one page about finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.options import Force, Json
from edgewise.documents import check_output_file, read_json


def report(
    *,
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("report.html"),
    groups: Annotated[
        Path | None, typer.Option(help="JSON file of groups of nodes to label: lists by name.")
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write a self-contained HTML page about runs.

    edgewise report runs/reverse runs/xproportion --out report.html
    """
    check_output_file(out, overwrite=force)
    named = None if groups is None else read_json(groups, "groups")
    with console.spinner("drawing", quiet=json):
        path = ew.report([ew.Run.load(folder) for folder in runs], out, groups=named)
    if json:
        console.as_json({"report": str(path), "runs": [str(folder) for folder in runs]})
    else:
        console.wrote(path)
