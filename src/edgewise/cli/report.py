"""`edgewise report`: one page about finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.console import Output
from edgewise.cli.options import option
from edgewise.documents import check_output_file, read_json


def report(
    *,
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Path = option(Path("report.html"), "HTML page to write."),
    groups: Path | None = option(None, "JSON file of groups of nodes to label: lists by name."),
    output: Annotated[Output, "force", "json"],
) -> None:
    """Write a self-contained HTML page about runs.

    edgewise report runs/reverse runs/xproportion --out report.html
    """
    check_output_file(out, overwrite=output.force)
    named = None if groups is None else read_json(groups, "groups")
    with output.progress("drawing"):
        path = ew.report([ew.Run.load(folder) for folder in runs], out, groups=named)
    if output.json:
        console.as_json({"report": str(path), "runs": [str(folder) for folder in runs]})
    else:
        console.wrote(path)
