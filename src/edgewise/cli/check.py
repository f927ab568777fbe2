"""`edgewise tasks check`: all that is wrong with a file of prompts, by line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgewise.cli.options import Json


def check(
    file: Annotated[Path, typer.Argument(help="A file of prompt pairs.")],
    model: Annotated[
        str | None, typer.Option(help="The model that is to run them: its tokenizer and answers.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="The names of its columns: clean=prompt,answers=target.")
    ] = None,
    bos: Annotated[
        bool | None,
        typer.Option("--bos/--no-bos", help="BOS before each text. Default: as the tokenizer."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps.")] = None,
    json: Json = False,
) -> None:
    """List every fault of a file of prompts, and how often the model is right at all.

    Exit code 2 if something must be changed before the file can be used, else 0.

    edgewise tasks check pairs.jsonl --model gpt2
    """
    from edgewise.cli import show
    from edgewise.cli.checking import check_file, print_checked

    found = check_file(file, model, columns, bos=bos, device=device, quiet=json)
    if json:
        show.as_json(found.to_json())
    else:
        print_checked(found)
    if found.faults:
        raise typer.Exit(2)
