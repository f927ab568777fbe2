"""`edgewise tasks show`: prompts of a task, clean and corrupted tokens aligned; and the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgewise.cli.options import Json

if TYPE_CHECKING:
    from edgewise.tasks.samples import Sample

_MODEL = "Whose tokens: bundled name, folder or hub name. Default: words, or the task's own."


def show_task(
    name: Annotated[str, typer.Argument(help="A named behaviour; see `edgewise tasks`.")],
    n: Annotated[int, typer.Option(help="How many prompts.")] = 3,
    model: Annotated[str | None, typer.Option(help=_MODEL)] = None,
    template: Annotated[str | None, typer.Option(help="Sentences of a language task.")] = None,
    corruption: Annotated[
        str | None, typer.Option(help="How a language task's prompts are corrupted.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Kind of prompts, where a task has several.")
    ] = None,
    bos: Annotated[
        bool | None,
        typer.Option("--bos/--no-bos", help="BOS before each prompt. Default: as the tokenizer."),
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Each prompt is the user's turn in the chat template.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the prompts.")] = 0,
    json: Json = False,
) -> None:
    """Show prompts of a task: clean above corrupted, token by token.

    With --model, the model's own tokens, BOS included, and how often it is right on the task.

    edgewise tasks show ioi --n 3 --corruption swap
    """
    from edgewise.cli import show
    from edgewise.tasks import task_spec
    from edgewise.tasks.samples import samples, samples_of, usual_task

    spec = task_spec(name)
    choices: dict[str, Any] = {"seed": seed, "template": template, "corruption": corruption}
    words = bool(spec.templates) and (model, data, bos, chat) == (None, None, None, False)
    with show.spinner("loading", quiet=json):
        given = {**choices, "data": data, "bos": bos, "chat": chat}
        task = None if words else usual_task(name, n, model, **given)
        drawn = samples(name, n, **choices) if task is None else samples_of(task)[:n]
        accuracy = None if task is None else task.problem.accuracy()
    if json:
        number = None if accuracy is None else accuracy.to_json()
        shown = [sample.to_json() for sample in drawn]
        show.as_json({"task": spec.name, "samples": shown, "accuracy": number})
        return
    show.OUT.print(show.bold(spec.name), spec.summary, sep=": ")
    for heading, known, chosen in (
        ("templates", dict.fromkeys(spec.templates, ""), template),
        ("corruptions", spec.corruptions, corruption),
    ):
        if known:
            show.OUT.print(f"{heading}:")
        for i, (key, summary) in enumerate(known.items()):
            mark = "*" if key == chosen or (chosen is None and i == 0) else " "
            text = f"  {mark} {key}" + (f": {summary}" if summary else "")
            show.OUT.print(text)
    for sample in drawn:
        show.OUT.print()
        _print_sample(sample)
    if task is not None:
        show.OUT.print(f"\n{show.accuracy_line(accuracy)}", soft_wrap=True)


def _print_sample(sample: Sample) -> None:
    """Three rows of columns: names of places, clean, corrupted; as many columns as fit a line."""
    from rich.text import Text

    from edgewise.cli import show

    changed, answered = set(sample.changed), set(sample.answer_at)
    clean, corrupted = ([_visible(t) for t in row] for row in (sample.clean, sample.corrupted))
    corrupted = corrupted or [""] * len(clean)
    names = [
        "" if i and name == sample.spans[i - 1] else name for i, name in enumerate(sample.spans)
    ]
    columns = list(zip(names, clean, corrupted, strict=True))
    widths = [max(map(len, column)) + 1 for column in columns]
    start = 0
    while start < len(columns):
        stop, used = start + 1, widths[start]
        while stop < len(columns) and used + widths[stop] <= show.OUT.width:
            used += widths[stop]
            stop += 1
        rows = [Text(), Text(), Text()]
        for i in range(start, stop):
            styles = ["dim", "green" if i in changed else "", "red" if i in changed else ""]
            if i in answered:
                styles = [f"{style} underline".strip() for style in styles]
            for row, cell, style in zip(rows, columns[i], styles, strict=True):
                row.append(cell, style=style)
                row.append(" " * (widths[i] - len(cell)))
        for row in rows:
            if row.plain.strip():
                show.OUT.print(row, no_wrap=True, crop=False)
        start = stop
    for label, words, style in (("answer", sample.answers, "green"), ("wrong", sample.wrong, "")):
        if words:
            shown = " ".join(_visible(word) for word in words[:12])
            more = f" … ({len(words)})" if len(words) > 12 else ""
            show.OUT.print(Text(f"{label}: ").append(shown, style=style).append(more))


def _visible(token: str) -> str:
    """A token on one line, its leading space to be seen."""
    text = token.replace("\n", "⏎").replace("\t", "⇥")
    return f"·{text[1:]}" if text.startswith(" ") else text.replace("   ", "···")


def task_rows() -> list[dict[str, Any]]:
    """Every task as `edgewise tasks --json` lists it, those of installed packages last.

    A package's task that cannot be loaded, or has no sample, is there with its `error`.
    """
    from edgewise.tasks import TASKS, custom_names

    rows = [_task_row(name) for name in TASKS]
    for name in custom_names():
        try:
            rows.append({**_task_row(name), "name": name})
        except Exception as reason:  # somebody else's code: one fault must not hide the list
            rows.append({"name": name, "summary": "", "error": f"{reason}"})
    return rows


def _task_row(name: str) -> dict[str, Any]:
    from edgewise.tasks import PUBLISHED, task_spec

    spec = task_spec(name)
    clean, corrupted = spec.sample()
    return {
        "name": spec.name,
        "summary": spec.summary,
        "example": {"clean": clean, "corrupted": corrupted},
        "model": spec.model,
        "fits": spec.fits,
        "metric": spec.metric,
        "ablation": spec.ablation,
        "data": list(spec.data),
        "templates": list(spec.templates),
        "corruptions": dict(spec.corruptions),
        "published_edges": PUBLISHED[name]().n_edges if name in PUBLISHED else None,
    }


def print_tasks(rows: list[dict[str, Any]]) -> None:
    """The list: each task with an example, its metric, its models and what is known of it."""
    from edgewise.cli import show

    for row in rows:
        show.OUT.print(show.bold(row["name"]), row["summary"], sep="  ")
        if "error" in row:
            show.OUT.print(f"  cannot be loaded: {row['error']}", soft_wrap=True)
            continue
        facts = [row["metric"], row["fits"]]
        if row["published_edges"]:
            facts.append(f"published circuit of {row['published_edges']} edges")
        lines = {**row["example"], "measured": "; ".join(facts)}
        for label, text in lines.items():
            if text:
                show.OUT.print(f"  {label:9}  {_one_line(text)}", soft_wrap=True)


def _one_line(text: str) -> str:
    return text.replace("\n", "⏎")
