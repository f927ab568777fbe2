"""`edgewise tasks`: the named behaviours. Alone it lists them; `show` and `check` do more."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.check import check
from edgewise.cli.console import Output
from edgewise.cli.options import Command, ListsByDefault, expanded
from edgewise.cli.problems import ProblemRequest

if TYPE_CHECKING:
    from edgewise.tasks.samples import Sample


def list_tasks(*, output: Annotated[Output, "json"]) -> None:
    """List the named behaviours; what `edgewise tasks` does alone."""
    rows = task_rows()
    if output.json:
        console.as_json(rows)
        return
    for row in rows:
        console.OUT.print(console.bold(row["name"]), row["summary"], sep="  ")
        if "error" in row:
            _print_fact("cannot be loaded", row["error"])
            continue
        edges = row["published_edges"]
        facts = [row["metric"], row["fits"], f"published circuit of {edges} edges" if edges else ""]
        for label, text in (row["example"] | {"measured": "; ".join(filter(None, facts))}).items():
            if text:
                _print_fact(f"{label:9}", text)


def _print_fact(label: str, text: str) -> None:
    head = f"  {label}  "
    first, *more = wrap(text.replace("\n", "⏎"), 80 - len(head))
    console.line("\n".join([head + first, *(" " * len(head) + line for line in more)]))


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
    about = ("name", "summary", "model", "fits", "metric", "ablation")
    return {
        **{key: getattr(spec, key) for key in about},
        "example": {"clean": clean, "corrupted": corrupted},
        "data": list(spec.data),
        "templates": list(spec.templates),
        "corruptions": dict(spec.corruptions),
        "published_edges": ew.tasks.published_circuit(name).n_edges if name in published else None,
    }


def show_task(
    *,
    name: Annotated[str, typer.Argument(help="A named behaviour; see `edgewise tasks`.")],
    problem: Annotated[
        ProblemRequest, "model", "n", "seed", "template", "corruption", "data", "bos", "chat"
    ],
    output: Annotated[Output, "json"],
) -> None:
    """Show prompts of a task (3, or --n): clean above corrupted, token by token.

    With --model, the model's own tokens, BOS included, and how often it is right on the task.

    edgewise tasks show ioi --n 3 --corruption swap
    """
    from edgewise.tasks.samples import samples, samples_of, usual_task

    spec, n = ew.tasks.task_spec(name), 3 if problem.n is None else problem.n
    choices: dict[str, Any] = {"template": problem.template, "corruption": problem.corruption}
    choices["seed"] = problem.seed or 0
    loading = {"data": problem.data, "bos": problem.bos, "chat": problem.chat}
    has_words = bool(spec.templates) and problem.model is None
    accuracy = task = None
    with output.progress("loading"):
        if has_words and set(loading.values()) <= {None, False} and problem.bos is None:
            drawn = samples(name, n, **choices)
        else:
            task = usual_task(name, n, problem.model, **choices, **loading)
            drawn, accuracy = samples_of(task)[:n], task.problem.accuracy()
    if output.json:
        number = None if accuracy is None else accuracy.to_json()
        shown = [sample.to_json() for sample in drawn]
        console.as_json({"task": spec.name, "samples": shown, "accuracy": number})
        return
    console.OUT.print(console.bold(spec.name), spec.summary, sep=": ")
    _print_choices("templates", dict.fromkeys(spec.templates, ""), problem.template)
    _print_choices("corruptions", spec.corruptions, problem.corruption)
    for sample in drawn:
        console.OUT.print()
        _print_sample(sample)
    if task is not None:
        console.line(f"\n{console.accuracy_line(accuracy)}")


def _print_choices(heading: str, known: Mapping[str, str], chosen: str | None) -> None:
    """What can be chosen, with a star at what is."""
    if known:
        console.OUT.print(f"{heading}:")
    for i, (name, summary) in enumerate(known.items()):
        mark = "*" if name == chosen or (chosen is None and i == 0) else " "
        console.OUT.print(f"  {mark} {name}" + (f": {summary}" if summary else ""))


def _print_sample(sample: Sample) -> None:
    """The names of positions above clean and corrupted tokens, and the answers."""
    cells, before = [], ""
    for i, (name, clean) in enumerate(zip(sample.spans, sample.clean, strict=True)):
        lines = [("" if name == before else name, "dim")] if any(sample.spans) else []
        answered = " underline" if i in sample.answer_at else ""
        lines.append((_visible(clean), ("green" if i in sample.changed else "") + answered))
        if sample.corrupted:
            color = "red" if i in sample.changed else ""
            lines.append((_visible(sample.corrupted[i]), color + answered))
        cells.append(Text("\n").join(Text(text, style=style.strip()) for text, style in lines))
        before = name
    console.side_by_side(cells)
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
app.command(name="list", cls=Command)(expanded(list_tasks))
app.command(name="show", cls=Command)(expanded(show_task))
app.command(cls=Command)(expanded(check))
