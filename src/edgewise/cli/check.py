"""`edgewise tasks check`: all that is wrong with prompts, and how often the model is right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgewise.cli.options import Json
from edgewise.errors import SettingError


def check(
    prompts: Annotated[str, typer.Argument(help="A file of prompt pairs, or a named task.")],
    model: Annotated[
        str | None, typer.Option(help="The model that is to run them. Default: a task's own.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="The names of its columns: clean=prompt,answers=target.")
    ] = None,
    n: Annotated[int | None, typer.Option(help="How many prompts a task draws.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of a task's prompts.")] = None,
    template: Annotated[str | None, typer.Option(help="Sentences of a language task.")] = None,
    corruption: Annotated[
        str | None, typer.Option(help="How a language task's prompts are corrupted.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Kind of prompts, where a task has several.")
    ] = None,
    bos: Annotated[
        bool | None,
        typer.Option("--bos/--no-bos", help="BOS before each text. Default: as the tokenizer."),
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Each text is the user's turn in the chat template.")
    ] = False,
    skip_faulty: Annotated[
        bool, typer.Option("--skip-faulty", help="Leave out prompts that cannot be used.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps.")] = None,
    json: Json = False,
) -> None:
    """List every fault of a file of prompts, and how often the model is right on them at all.

    Below 80 %, also how often with BOS before each prompt, or without where it is there. Exit
    code 2 if something must be changed before the file can be used, else 0.

    edgewise tasks check pairs.jsonl --model gpt2
    edgewise tasks check ioi --model gpt2
    """
    from edgewise.cli import show
    from edgewise.cli.checking import check_file, check_task, print_checked

    file = Path(prompts)
    choices = {"n": n, "seed": seed, "template": template, "corruption": corruption, "data": data}
    given = {name: value for name, value in choices.items() if value is not None}
    if file.suffix == ".py" or not (file.suffix or file.is_file()):
        if columns is not None or skip_faulty:
            name = "skip-faulty" if columns is None else "columns"
            raise SettingError(f"--{name} is for files; a task knows its prompts.")
        found = check_task(
            prompts, model, {**given, "bos": bos, "chat": chat}, device=device, quiet=json
        )
    else:
        if given:
            raise SettingError(f"--{next(iter(given))} is for tasks; {prompts} has its prompts.")
        found = check_file(
            file,
            model,
            columns,
            bos=bos,
            chat=chat,
            skip_faulty=skip_faulty,
            device=device,
            quiet=json,
        )
    if json:
        show.as_json(found.to_json())
    else:
        print_checked(found)
    if found.faults:
        raise typer.Exit(2)
