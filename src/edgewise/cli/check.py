"""`edgewise tasks check`: all that is wrong with prompts, and how often the model is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.options import Json, ProblemOptions
from edgewise.errors import SettingError, kinds_of

if TYPE_CHECKING:
    from edgewise.errors import Fault
    from edgewise.patching import Accuracy

_SHOWN = 20  # kinds of faults, or warnings, that are printed
_OF_TASKS = ("n", "seed", "template", "corruption", "data")
_OF_FILES = ("columns", "skip_faulty")


def check(
    *,
    prompts: Annotated[str, typer.Argument(help="A file of prompt pairs, or a named task.")],
    problem: Annotated[ProblemOptions, "model", *_OF_TASKS, *_OF_FILES, "bos", "chat", "device"],
    json: Json = False,
) -> None:
    """List every fault of a file of prompts, and how often the model is right on them at all.

    Below 80 %, also how often with BOS before each prompt, or without where it is there. Exit
    code 2 if something must be changed before the file can be used, else 0.

    edgewise tasks check pairs.jsonl --model gpt2

    edgewise tasks check ioi --model gpt2
    """
    file = Path(prompts)
    is_task = file.suffix == ".py" or not (file.suffix or file.is_file())
    for name in _OF_FILES if is_task else _OF_TASKS:
        if getattr(problem, name) not in (None, False):
            reason = "for files; a task knows its prompts."
            if not is_task:
                reason = f"for tasks; {prompts} has its prompts."
            raise SettingError(f"--{name.replace('_', '-')} is {reason}")
    if is_task:
        checked = _check_task(prompts, problem, quiet=json)
    else:
        checked = _check_file(file, problem, quiet=json)
    if json:
        console.as_json(checked.to_json())
    else:
        _print(checked)
    if checked.faults:
        raise typer.Exit(2)


@dataclass(frozen=True)
class _Checked:
    """Faults must be changed before prompts can be used, warnings looked at; the model's answers.

    `source` is a file, or the name of a task. `layout` says how a file's columns are read,
    `left_out` what is wrong with prompts of it that --skip-faulty leaves out.
    """

    source: str
    model: str | None
    n_pairs: int
    faults: Sequence[Fault]
    warnings: Sequence[Fault]
    accuracy: Accuracy | None
    answers: dict[str, Any] | None
    layout: str | None = None
    left_out: Sequence[Fault] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `edgewise tasks check --json`."""
        low = self.accuracy is not None and self.accuracy.low
        warnings = [
            *self.warnings,
            *([ew.errors.Fault(f"{self.accuracy}", column="answers")] if low else ()),
        ]
        return {
            "file": self.source,
            "model": self.model,
            "usable": not self.faults,
            "pairs": self.n_pairs,
            "layout": self.layout,
            "left_out": [_json(fault) for fault in self.left_out],
            "faults": [_json(fault) for fault in self.faults],
            "warnings": [_json(warning) for warning in warnings],
            "accuracy": None if self.accuracy is None else self.accuracy.to_json(),
            "answers": self.answers,
        }


def _check_file(file: Path, options: ProblemOptions, *, quiet: bool) -> _Checked:
    """Raises `EdgewiseError` if the file cannot be read at all, or the model loaded."""
    columns = ew.data.columns.parse_columns(options.columns) if options.columns else None
    table = ew.data.files.table_of_file(file)
    with console.spinner("loading", quiet=quiet):
        model = None
        if options.model is not None:
            model = ew.load_model(options.model, device=options.device)
    tokenizer = None if model is None else model.tokenizer
    how = ew.data.reading.ReadingOptions(tokenizer, options.bos, options.chat, columns)
    reading = ew.data.reading.read_table(table, how)
    left_out = [f for f in reading.faults if options.skip_faulty and not f.whole and reading.labels]
    faults = [fault for fault in reading.faults if fault not in left_out]
    pairs = None
    if reading.fields is not None:
        pairs = ew.PromptPairs(**reading.fields, source=str(file))
    checked = _checked(str(file), options.model, model, pairs, reading.labels, faults, quiet=quiet)
    return replace(checked, layout=reading.layout.sentence, left_out=left_out)


def _check_task(name: str, options: ProblemOptions, *, quiet: bool) -> _Checked:
    """A task's prompts, as `load_task` makes them. Raises `EdgewiseError` as it does."""
    source = options.model or ew.tasks.default_model(ew.tasks.task_spec(name))
    choices = {k: getattr(options, k) for k in (*_OF_TASKS, "bos", "chat")}
    choices["seed"] = options.seed or 0
    with console.spinner("loading", quiet=quiet):
        model = ew.load_model(source, device=options.device)
        pairs = ew.load_task(name, model, **choices).problem.pairs
    labels = [f"prompt {i}" for i in range(len(pairs))]
    return _checked(name, source, model, pairs, labels, [], quiet=quiet)


def _checked(
    source: str,
    name: str | None,
    model: ew.Model | None,
    pairs: ew.PromptPairs | None,
    labels: Sequence[str],
    faults: list[Fault],
    *,
    quiet: bool,
) -> _Checked:
    """What is wrong with prompts, beside `faults`, and how the model answers them."""
    from edgewise.data.prompt_checks import cautions, misfits

    warnings: list[Fault] = []
    accuracy = answers = None
    if pairs is not None:
        warnings += cautions(pairs, labels, None if model is None else model.tokenizer)
        if pairs.corrupted is not None and pairs.clean.equal(pairs.corrupted):
            text = "every corrupted prompt equals its clean one, so no edge can matter."
            faults.append(ew.errors.Fault(text, column="corrupted"))
    if pairs is not None and model is not None:
        config = model.config
        sizes = {"n_tokens": config.d_vocab, "n_outputs": config.d_vocab_out}
        unfit = misfits(pairs, labels, **sizes, n_ctx=config.n_ctx)
        faults += unfit
        if not unfit:
            with console.spinner("answering", quiet=quiet):
                accuracy, answers = _answers(model, pairs)
    if accuracy is not None and model is not None:
        warnings += _mistakes(accuracy, labels, model)
    return _Checked(
        source,
        name,
        len(labels),
        ew.data.rows.in_order(faults),
        ew.data.rows.in_order(warnings),
        accuracy,
        answers,
    )


def _answers(
    model: ew.Model, pairs: ew.PromptPairs
) -> tuple[Accuracy | None, dict[str, Any] | None]:
    """How often the model is right, and its answers to clean and corrupted prompts in numbers."""
    accuracy = ew.patching.accuracy_of(model, pairs)
    if accuracy is None:
        return None, None
    accuracies = {"clean": accuracy}
    if pairs.corrupted is not None:
        corrupted = ew.patching.plain_accuracy(model, replace(pairs, clean=pairs.corrupted))
        accuracies |= {} if corrupted is None else {"corrupted": corrupted}
    results: dict[str, dict[str, float | None]] = {}
    for prompts, measured in accuracies.items():
        means = {name: values.double().mean().item() for name, values in measured.values.items()}
        results[prompts] = {
            "accuracy": means.get("accuracy", measured.share),
            "prefers_right": means.get("fraction-correct"),
            "logit_diff": means.get("logit-diff"),
        }
    return accuracy, results


def _mistakes(accuracy: Accuracy, labels: Sequence[str], model: ew.Model) -> list[Fault]:
    """Prompts that the model itself gets wrong: a circuit for them explains an error."""
    mistakes = []
    right = accuracy.values[accuracy.metric].tolist()
    for label, share, token in zip(labels, right, accuracy.likeliest, strict=True):
        if share >= 0.5:
            continue
        name = str(token) if model.tokenizer is None else repr(model.tokenizer.decode([token]))
        text = f"the model's own answer is {name}"
        if accuracy.metric == "fraction-correct":
            text += ", and it prefers a wrong answer to the right one"
        mistakes.append(ew.errors.Fault(f"{text}.", where=label, column="answers"))
    return mistakes


def _json(fault: Fault) -> dict[str, Any]:
    """A fault for machines; `line` where it has one."""
    line = fault.where.partition(",")[0].removeprefix("line ")
    return {
        "where": fault.where or None,
        "line": int(line) if line.isdecimal() else None,
        "column": fault.column or None,
        "message": fault.text,
    }


def _print(checked: _Checked) -> None:
    """The layout of a file; faults and warnings, a line a kind; how the model answers."""

    def line(text: str) -> None:  # whole: it may be searched for, and holds the user's brackets
        console.OUT.print(text, soft_wrap=True)

    if checked.layout is not None:
        line(checked.layout)
    for title, listed in (
        ("must be changed", checked.faults),
        ("left out", checked.left_out),
        ("to look at", checked.warnings),
    ):
        kinds = kinds_of(listed)
        if listed:
            line(f"{len(listed)} {title}:")
        for kind in kinds[:_SHOWN]:
            line(f"  {kind}")
        if len(kinds) > _SHOWN:
            line(f"  … and {len(kinds) - _SHOWN} more kinds (--json lists all).")
    line(f"{checked.source}: {checked.n_pairs} pairs can be used.")
    for name, answers in (checked.answers or {}).items():
        line(_answers_line(name, answers, checked.model))
    if checked.model is not None and not checked.faults:
        line(console.accuracy_line(checked.accuracy))


def _answers_line(name: str, answers: dict[str, Any], model: str | None) -> str:
    text = f"{model} on {name} prompts: accuracy {console.number(answers['accuracy'])}"
    if answers["logit_diff"] is None:
        return f"{text}."
    return (
        f"{text}; the right answer beats the wrong one on {answers['prefers_right']:.0%}; logit "
        f"difference {console.number(answers['logit_diff'])}."
    )
