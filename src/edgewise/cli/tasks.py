"""`edgewise tasks`: the named behaviours. Alone it lists them; `show` and `check` do more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.check import check
from edgewise.cli.options import Command, Json, ListsByDefault, ProblemOptions, expanded

if TYPE_CHECKING:
    from edgewise.tasks.samples import Sample


def list_tasks(json: Json = False) -> None:
    """List the named behaviours; what `edgewise tasks` does alone."""
    rows = task_rows()
    if json:
        console.as_json(rows)
    else:
        print_tasks(rows)


def task_rows() -> list[dict[str, Any]]:
    """Every task as `edgewise tasks --json` lists it, those of installed packages last.

    A package's task that cannot be loaded, or has no sample, is there with its `error`.
    """
    rows = [_task_row(name) for name in ew.tasks.TASKS]
    for name in ew.tasks.custom_names():
        try:
            rows.append({**_task_row(name), "name": name})
        except Exception as reason:  # somebody else's code: one fault must not hide the list
            rows.append({"name": name, "summary": "", "error": f"{reason}"})
    return rows


def _task_row(name: str) -> dict[str, Any]:
    spec, published = ew.tasks.task_spec(name), ew.tasks.PUBLISHED
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
        "published_edges": ew.tasks.published_circuit(name).n_edges if name in published else None,
    }


def print_tasks(rows: list[dict[str, Any]]) -> None:
    """The list: each task with an example, its metric, its models and what is known of it."""
    for row in rows:
        console.OUT.print(console.bold(row["name"]), row["summary"], sep="  ")
        if "error" in row:
            console.OUT.print(f"  cannot be loaded: {row['error']}", soft_wrap=True)
            continue
        facts = [row["metric"], row["fits"]]
        if row["published_edges"]:
            facts.append(f"published circuit of {row['published_edges']} edges")
        lines = {**row["example"], "measured": "; ".join(facts)}
        for label, text in lines.items():
            if text:
                console.OUT.print(f"  {label:9}  {_one_line(text)}", soft_wrap=True)


def _one_line(text: str) -> str:
    return text.replace("\n", "⏎")


def show_task(
    *,
    name: Annotated[str, typer.Argument(help="A named behaviour; see `edgewise tasks`.")],
    problem: Annotated[
        ProblemOptions, "model", "n", "seed", "template", "corruption", "data", "bos", "chat"
    ],
    json: Json = False,
) -> None:
    """Show prompts of a task (3, or --n): clean above corrupted, token by token.

    With --model, the model's own tokens, BOS included, and how often it is right on the task.

    edgewise tasks show ioi --n 3 --corruption swap
    """
    from edgewise.tasks.samples import samples, samples_of, usual_task

    spec, n = ew.tasks.task_spec(name), 3 if problem.n is None else problem.n
    choices = {k: getattr(problem, k) for k in ("template", "corruption")}
    choices["seed"] = problem.seed or 0
    loading = {k: getattr(problem, k) for k in ("data", "bos", "chat")}
    words = bool(spec.templates) and not any([problem.model, problem.data, problem.chat])
    with console.spinner("loading", quiet=json):
        if words and problem.bos is None:
            task, drawn = None, samples(name, n, **choices)
        else:
            task = usual_task(name, n, problem.model, **choices, **loading)
            drawn = samples_of(task)[:n]
        accuracy = None if task is None else task.problem.accuracy()
    if json:
        number = None if accuracy is None else accuracy.to_json()
        shown = [sample.to_json() for sample in drawn]
        console.as_json({"task": spec.name, "samples": shown, "accuracy": number})
        return
    console.OUT.print(console.bold(spec.name), spec.summary, sep=": ")
    for heading, known, chosen in (
        ("templates", dict.fromkeys(spec.templates, ""), problem.template),
        ("corruptions", spec.corruptions, problem.corruption),
    ):
        if known:
            console.OUT.print(f"{heading}:")
        for i, (key, summary) in enumerate(known.items()):
            mark = "*" if key == chosen or (chosen is None and i == 0) else " "
            text = f"  {mark} {key}" + (f": {summary}" if summary else "")
            console.OUT.print(text)
    for sample in drawn:
        console.OUT.print()
        _print_sample(sample)
    if task is not None:
        console.OUT.print(f"\n{console.accuracy_line(accuracy)}", soft_wrap=True)


def _print_sample(sample: Sample) -> None:
    """Three rows of columns: names of places, clean, corrupted; as many columns as fit a line."""
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
        while stop < len(columns) and used + widths[stop] <= console.OUT.width:
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
                console.OUT.print(row, no_wrap=True, crop=False)
        start = stop
    for label, words, style in (("answer", sample.answers, "green"), ("wrong", sample.wrong, "")):
        if words:
            shown = " ".join(_visible(word) for word in words[:12])
            more = f" … ({len(words)})" if len(words) > 12 else ""
            console.OUT.print(Text(f"{label}: ").append(shown, style=style).append(more))


def _visible(token: str) -> str:
    """A token on one line, its leading space to be seen."""
    text = token.replace("\n", "⏎").replace("\t", "⇥")
    return f"·{text[1:]}" if text.startswith(" ") else text.replace("   ", "···")


app = typer.Typer(cls=ListsByDefault, help="List the named behaviours; check prompts of your own.")
app.command(name="list", cls=Command)(list_tasks)
app.command(name="show", cls=Command)(expanded(show_task))
app.command(cls=Command)(expanded(check))
