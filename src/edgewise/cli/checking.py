"""Prompts of a file or a task, looked at as a whole: faults, doubts, and how a model answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edgewise.cli import show
from edgewise.data import PromptPairs
from edgewise.data.checks import doubts, misfits
from edgewise.data.columns import parse_columns
from edgewise.data.faults import Fault, in_order
from edgewise.data.files import read_pairs
from edgewise.data.tables import table_of_file
from edgewise.errors import kinds_of
from edgewise.model import Model, load_model
from edgewise.patching import Accuracy, accuracy_of, judged
from edgewise.tasks import default_model, load_task, task_spec

_SHOWN = 20  # kinds of faults, or warnings, that are printed


@dataclass(frozen=True)
class Checked:
    """Faults must be changed before prompts can be used, warnings looked at; the model's answers.

    `source` is a file, or the name of a task. `layout` says how a file's columns are read,
    `left_out` what is wrong with prompts of it that are left out, as was asked.
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
        warnings = [*self.warnings, *([Fault(f"{self.accuracy}", column="answers")] if low else ())]
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


def check_file(
    file: Path,
    model: str | None,
    columns: str | None,
    *,
    bos: bool | None,
    chat: bool,
    skip_faulty: bool,
    device: str | None,
    quiet: bool,
) -> Checked:
    """Look at a file. Raises `EdgewiseError` if it cannot be read at all, or the model loaded."""
    names = parse_columns(columns) if columns is not None else None
    table = table_of_file(file)
    with show.spinner("loading", quiet=quiet):
        loaded = None if model is None else load_model(model, device=device)
    tokenizer = None if loaded is None else loaded.tokenizer
    reading = read_pairs(table, tokenizer, bos=bos, chat=chat, columns=names)
    left_out = [f for f in reading.faults if skip_faulty and not f.whole and reading.labels]
    faults = [fault for fault in reading.faults if fault not in left_out]
    pairs = None
    if reading.fields is not None:
        pairs = PromptPairs(**reading.fields, source=str(file))
    found = _checked(str(file), model, loaded, pairs, reading.labels, faults, quiet=quiet)
    return replace(found, layout=reading.layout.sentence, left_out=left_out)


def check_task(
    name: str,
    model: str | None,
    choices: Mapping[str, Any],
    *,
    device: str | None,
    quiet: bool,
) -> Checked:
    """Look at a task's prompts, as `load_task` makes them. Raises `EdgewiseError` as it does."""
    source = model or default_model(task_spec(name))
    with show.spinner("loading", quiet=quiet):
        loaded = load_model(source, device=device)
        pairs = load_task(name, loaded, **choices).problem.pairs
    labels = [f"prompt {i}" for i in range(len(pairs))]
    return _checked(name, source, loaded, pairs, labels, [], quiet=quiet)


def _checked(
    source: str,
    name: str | None,
    model: Model | None,
    pairs: PromptPairs | None,
    labels: Sequence[str],
    faults: list[Fault],
    *,
    quiet: bool,
) -> Checked:
    """What is wrong with prompts, beside `faults`, and how the model answers them."""
    warnings: list[Fault] = []
    accuracy = answers = None
    if pairs is not None:
        warnings += doubts(pairs, labels, None if model is None else model.tokenizer)
        if pairs.corrupted is not None and torch.equal(pairs.clean, pairs.corrupted):
            text = "every corrupted prompt equals its clean one, so no edge can matter."
            faults.append(Fault(text, column="corrupted"))
    if pairs is not None and model is not None:
        config = model.config
        sizes = {"n_tokens": config.d_vocab, "n_outputs": config.d_vocab_out}
        unfit = misfits(pairs, labels, **sizes, n_ctx=config.n_ctx)
        faults += unfit
        if not unfit:
            with show.spinner("answering", quiet=quiet):
                accuracy, answers = _answers(model, pairs)
    if accuracy is not None and model is not None:
        warnings += _mistakes(accuracy, labels, model)
    return Checked(
        source, name, len(labels), in_order(faults), in_order(warnings), accuracy, answers
    )


def _answers(model: Model, pairs: PromptPairs) -> tuple[Accuracy | None, dict[str, Any] | None]:
    """How often the model is right, and its answers to clean and corrupted prompts in numbers."""
    accuracy = accuracy_of(model, pairs)
    if accuracy is None:
        return None, None
    each = {"clean": accuracy}
    if pairs.corrupted is not None:
        other = judged(model, replace(pairs, clean=pairs.corrupted))
        each |= {} if other is None else {"corrupted": other}
    results: dict[str, dict[str, float | None]] = {}
    for prompts, found in each.items():
        means = {name: values.double().mean().item() for name, values in found.values.items()}
        results[prompts] = {
            "accuracy": means.get("accuracy", found.share),
            "prefers_right": means.get("fraction-correct"),
            "logit_diff": means.get("logit-diff"),
        }
    return accuracy, results


def _mistakes(accuracy: Accuracy, labels: Sequence[str], model: Model) -> list[Fault]:
    """Prompts that the model itself gets wrong: a circuit for them explains an error."""
    found = []
    right = accuracy.values[accuracy.metric].tolist()
    for label, share, token in zip(labels, right, accuracy.likeliest, strict=True):
        if share >= 0.5:
            continue
        name = str(token) if model.tokenizer is None else repr(model.tokenizer.decode([token]))
        text = f"the model's own answer is {name}"
        if accuracy.metric == "fraction-correct":
            text += ", and it prefers a wrong answer to the right one"
        found.append(Fault(f"{text}.", where=label, column="answers"))
    return found


def _json(fault: Fault) -> dict[str, Any]:
    """A fault for machines; `line` where it has one."""
    line = fault.where.partition(",")[0].removeprefix("line ")
    return {
        "where": fault.where or None,
        "line": int(line) if line.isdecimal() else None,
        "column": fault.column or None,
        "message": fault.text,
    }


def print_checked(found: Checked) -> None:
    """The layout of a file; faults and warnings, a line a kind; how the model answers."""

    def line(text: str) -> None:  # whole: it may be searched for, and holds the user's brackets
        show.OUT.print(text, soft_wrap=True)

    if found.layout is not None:
        line(found.layout)
    for title, listed in (
        ("must be changed", found.faults),
        ("left out", found.left_out),
        ("to look at", found.warnings),
    ):
        kinds = kinds_of(listed)
        if listed:
            line(f"{len(listed)} {title}:")
        for kind in kinds[:_SHOWN]:
            line(f"  {kind}")
        if len(kinds) > _SHOWN:
            line(f"  … and {len(kinds) - _SHOWN} more kinds (--json lists all).")
    line(f"{found.source}: {found.n_pairs} pairs can be used.")
    for name, answers in (found.answers or {}).items():
        line(_answers_line(name, answers, found.model))
    if found.model is not None and not found.faults:
        line(show.accuracy_line(found.accuracy))


def _answers_line(name: str, answers: dict[str, Any], model: str | None) -> str:
    text = f"{model} on {name} prompts: accuracy {show.number(answers['accuracy'])}"
    if answers["logit_diff"] is None:
        return f"{text}."
    return (
        f"{text}; the right answer beats the wrong one on {answers['prefers_right']:.0%}; logit "
        f"difference {show.number(answers['logit_diff'])}."
    )
