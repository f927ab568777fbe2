"""`edgewise tasks check`: all that is wrong with prompts, and how often the model is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.console import Output
from edgewise.cli.problems import OF_TASKS, ProblemRequest
from edgewise.errors import Fault, kinds_of
from edgewise.tables import count

if TYPE_CHECKING:
    from edgewise.patching import Accuracy

_SHOWN = 20  # kinds of faults, or warnings, that are printed


def check(
    *,
    prompts: Annotated[str, typer.Argument(help="A file of prompt pairs, or a named task.")],
    problem: Annotated[
        ProblemRequest,
        "model",
        *OF_TASKS,
        "seed",
        "columns",
        "skip_faulty",
        "bos",
        "chat",
        "device",
    ],
    output: Annotated[Output, "json"],
) -> None:
    """List every fault of a file of prompts, and how often the model is right on them at all.

    Below 80 %, also how often with BOS before each prompt, or without where it is there. Exit
    code 2 if something must be changed before the file can be used, else 0.

    edgewise tasks check pairs.jsonl --model gpt2

    edgewise tasks check ioi --model gpt2
    """
    file = Path(prompts)
    is_task = file.suffix == ".py" or not (file.suffix or file.is_file())
    request = replace(problem, task=prompts) if is_task else replace(problem, pairs=prompts)
    request.check()
    with output.progress("loading"):
        checked = _of_task(request) if is_task else _of_file(request)
        accuracies = _examined(checked)
    checked.faults = ew.data.rows.in_order(checked.faults)
    checked.warnings = ew.data.rows.in_order(checked.warnings)
    if output.json:
        console.as_json(_as_json(checked, accuracies))
    else:
        _print(checked, accuracies)
    if checked.faults:
        raise typer.Exit(2)


@dataclass
class _Prompts:
    """Prompts, what must be changed before they can be used, and what should be looked at.

    `layout` says how a file's columns are read, `left_out` what is wrong with rows that
    --skip-faulty leaves out.
    """

    source: str
    model: ew.Model | None
    pairs: ew.PromptPairs | None
    labels: Sequence[str]
    faults: list[Fault] = field(default_factory=list)
    left_out: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    layout: str | None = None


def _of_task(request: ProblemRequest) -> _Prompts:
    task = request.load()
    labels = [f"prompt {i}" for i in range(len(task.problem.pairs))]
    return _Prompts(str(request.task), task.problem.model, task.problem.pairs, labels)


def _of_file(request: ProblemRequest) -> _Prompts:
    """Raises `EdgewiseError` if the file cannot be read at all, or the model loaded."""
    source = str(request.pairs)
    table = ew.data.files.table_of_file(Path(source))
    model = None if request.model is None else request.load_model(request.model)
    tokenizer = None if model is None else model.tokenizer
    how = ew.data.reading.ReadingOptions(tokenizer, request.bos, request.chat, request.column_map)
    reading = ew.data.reading.read_table(table, how)
    skips = request.skip_faulty and bool(reading.labels)
    left_out = [fault for fault in reading.faults if skips and not fault.whole]
    faults = [fault for fault in reading.faults if fault not in left_out]
    pairs = None
    if reading.fields is not None:
        pairs = ew.PromptPairs(**reading.fields, source=source)
    layout = reading.layout.sentence
    return _Prompts(source, model, pairs, reading.labels, faults, left_out, layout=layout)


def _examined(prompts: _Prompts) -> dict[str, Accuracy]:
    """Add what else is wrong with prompts that could be read; how the model answers them, if any.

    By kind of prompts, clean and corrupted.
    """
    from edgewise.data.prompt_checks import cautions, misfits

    pairs, model, labels = prompts.pairs, prompts.model, prompts.labels
    if pairs is None:
        return {}
    prompts.warnings += cautions(pairs, labels, None if model is None else model.tokenizer)
    if pairs.corrupted is not None and pairs.clean.equal(pairs.corrupted):
        text = "every corrupted prompt equals its clean one, so no edge can matter."
        prompts.faults.append(Fault(text, column="corrupted"))
    if model is None:
        return {}
    config = model.config
    sizes = {"n_tokens": config.d_vocab, "n_outputs": config.d_vocab_out, "n_ctx": config.n_ctx}
    unfit = misfits(pairs, labels, **sizes)
    prompts.faults += unfit
    clean = None if unfit else ew.patching.accuracy_of(model, pairs)
    if clean is None:
        return {}
    prompts.warnings += _mistakes(clean, labels, model)
    if pairs.corrupted is None:
        return {"clean": clean}
    corrupted = ew.patching.plain_accuracy(model, replace(pairs, clean=pairs.corrupted))
    return {"clean": clean, "corrupted": corrupted} if corrupted else {"clean": clean}


def _mistakes(accuracy: Accuracy, labels: Sequence[str], model: ew.Model) -> list[Fault]:
    """Prompts that the model itself gets wrong: a circuit for them explains an error."""
    mistakes = []
    right = accuracy.values[accuracy.metric].tolist()
    prefers = ", and it prefers a wrong answer to the right one"
    for label, share, token in zip(labels, right, accuracy.likeliest, strict=True):
        if share < 0.5:
            name = str(token) if model.tokenizer is None else repr(model.tokenizer.decode([token]))
            more = prefers if accuracy.metric == "fraction-correct" else ""
            text = f"the model's own answer is {name}{more}."
            mistakes.append(Fault(text, where=label, column="answers"))
    return mistakes


def _as_json(prompts: _Prompts, accuracies: Mapping[str, Accuracy]) -> dict[str, Any]:
    """The document of `edgewise tasks check --json`."""
    accuracy = accuracies.get("clean")
    low = [] if accuracy is None or not accuracy.low else [Fault(f"{accuracy}", column="answers")]
    return {
        "file": prompts.source,
        "model": None if prompts.model is None else prompts.model.name,
        "usable": not prompts.faults,
        "pairs": len(prompts.labels),
        "layout": prompts.layout,
        "left_out": [_fault_as_json(fault) for fault in prompts.left_out],
        "faults": [_fault_as_json(fault) for fault in prompts.faults],
        "warnings": [_fault_as_json(warning) for warning in (*prompts.warnings, *low)],
        "accuracy": None if accuracy is None else accuracy.to_json(),
        "answers": {name: _numbers(known) for name, known in accuracies.items()} or None,
    }


def _numbers(accuracy: Accuracy) -> dict[str, float | None]:
    means = {name: values.double().mean().item() for name, values in accuracy.values.items()}
    return {
        "accuracy": means.get("accuracy", accuracy.share),
        "prefers_right": means.get("fraction-correct"),
        "logit_diff": means.get("logit-diff"),
    }


def _fault_as_json(fault: Fault) -> dict[str, Any]:
    """A fault for machines; `line` where it has one."""
    line = fault.where.partition(",")[0].removeprefix("line ")
    return {
        "where": fault.where or None,
        "line": int(line) if line.isdecimal() else None,
        "column": fault.column or None,
        "message": fault.text,
    }


def _print(prompts: _Prompts, accuracies: Mapping[str, Accuracy]) -> None:
    """The layout of a file; faults and warnings, a line a kind; how the model answers."""
    lines = [] if prompts.layout is None else [prompts.layout]
    for title, faults in (
        ("must be changed", prompts.faults),
        ("left out", prompts.left_out),
        ("to look at", prompts.warnings),
    ):
        kinds = kinds_of(faults)
        lines += [f"{len(faults)} {title}:"] if kinds else []
        lines += [f"  {kind}" for kind in kinds[:_SHOWN]]
        if len(kinds) > _SHOWN:
            lines.append(f"  … and {len(kinds) - _SHOWN} more kinds (--json lists all).")
    lines.append(f"{prompts.source}: {count(len(prompts.labels), 'pair')} can be used.")
    for kind, accuracy in accuracies.items():
        answers = _numbers(accuracy)
        text = f"The model on {kind} prompts: accuracy {answers['accuracy']:.4g}"
        if answers["logit_diff"] is not None:
            text += f"; the right answer beats the wrong one on {answers['prefers_right']:.0%}"
            text += f"; logit difference {answers['logit_diff']:.4g}"
        lines.append(f"{text}.")
    if prompts.model is not None and not prompts.faults:
        lines.append(console.accuracy_line(accuracies.get("clean")))
    for line in lines:
        console.line(line)
