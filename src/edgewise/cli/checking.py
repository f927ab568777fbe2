"""A file of prompts, looked at as a whole: its faults, its doubts, and how a model answers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgewise.cli import show
from edgewise.data import PromptPairs
from edgewise.data.checks import answered, doubts, errors_of_model, last_answer_logits, misfits
from edgewise.data.columns import parse_columns
from edgewise.data.faults import Fault, in_order
from edgewise.data.files import read_pairs
from edgewise.data.tables import table_of_file
from edgewise.model import Model, load_model

_BATCH = 16  # prompts at a time: their logits are the size of the vocabulary


@dataclass(frozen=True)
class Checked:
    """Faults must be changed before a file can be used, warnings looked at; the model's answers."""

    file: Path
    model: str | None
    n_pairs: int
    faults: Sequence[Fault]
    warnings: Sequence[Fault]
    answers: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """The document of `edgewise tasks check --json`."""
        return {
            "file": str(self.file),
            "model": self.model,
            "usable": not self.faults,
            "pairs": self.n_pairs,
            "faults": [_json(fault) for fault in self.faults],
            "warnings": [_json(warning) for warning in self.warnings],
            "answers": self.answers,
        }


def check_file(
    file: Path,
    model: str | None,
    columns: str | None,
    *,
    bos: bool | None,
    device: str | None,
    quiet: bool,
) -> Checked:
    """Look at a file. Raises `EdgewiseError` if it cannot be read at all, or the model loaded."""
    names = parse_columns(columns) if columns is not None else None
    table = table_of_file(file)
    with show.spinner("loading", quiet=quiet):
        loaded = None if model is None else load_model(model, device=device)
    tokenizer = None if loaded is None else loaded.tokenizer
    reading = read_pairs(table, tokenizer, bos=bos, columns=names)
    faults: list[Fault] = list(reading.faults)
    warnings: list[Fault] = []
    answers = None
    if reading.fields is not None:
        pairs = PromptPairs(**reading.fields, source=str(file))
        warnings += doubts(pairs, reading.labels, tokenizer)
        if pairs.corrupted is not None and torch.equal(pairs.clean, pairs.corrupted):
            text = "every corrupted prompt equals its clean one, so no edge can matter."
            faults.append(Fault(text, column="corrupted"))
        if loaded is not None:
            with show.spinner("answering", quiet=quiet):
                answers = _judge(loaded, pairs, reading.labels, faults, warnings)
    return Checked(file, model, len(reading.labels), in_order(faults), in_order(warnings), answers)


def _judge(
    model: Model,
    pairs: PromptPairs,
    labels: Sequence[str],
    faults: list[Fault],
    warnings: list[Fault],
) -> dict[str, Any] | None:
    """How the model answers the prompts that it can take; adds to faults and warnings."""
    config = model.config
    unfit = misfits(
        pairs, labels, n_tokens=config.d_vocab, n_outputs=config.d_vocab_out, n_ctx=config.n_ctx
    )
    faults += unfit
    if unfit or pairs.answers is None:
        return None
    results: dict[str, Any] = {}
    for name in ("clean", "corrupted"):
        tokens = getattr(pairs, name)
        if tokens is None:
            continue
        rows = []
        with torch.no_grad():
            for start in range(0, len(pairs), _BATCH):
                part = pairs.subset(start, start + _BATCH)
                logits = model(getattr(part, name), part.real)
                rows.append(last_answer_logits(part, logits).float().cpu())
        judged = answered(pairs, torch.cat(rows))
        assert judged is not None
        n = len(pairs)
        results[name] = {
            "accuracy": sum(judged.correct) / n,
            "prefers_right": None if judged.prefers is None else sum(judged.prefers) / n,
            "logit_diff": None if judged.difference is None else sum(judged.difference) / n,
        }
        if name == "clean":
            warnings += errors_of_model(pairs, labels, judged, model.tokenizer)
    clean = results["clean"]
    share = clean["accuracy"] if clean["prefers_right"] is None else clean["prefers_right"]
    if share < 0.5:
        text = f"the model is right on {share:.0%} of the prompts: it does not show this behaviour."
        warnings.append(Fault(text, column="answers"))
    return results


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
    """Faults and warnings, one a line, and how the model answers."""

    def line(text: str) -> None:  # whole: it may be searched for, and holds the user's brackets
        show.OUT.print(text, markup=False, soft_wrap=True)

    for title, listed in (("must be changed", found.faults), ("to look at", found.warnings)):
        if listed:
            line(f"{len(listed)} {title}:")
        for fault in listed:
            place = ", ".join(filter(None, [fault.where, fault.column]))
            line(f"  {place}: {fault.text}" if place else f"  {fault.text}")
    line(f"{found.file}: {found.n_pairs} pairs can be used.")
    for name, answers in (found.answers or {}).items():
        line(_answers_line(name, answers, found.model))


def _answers_line(name: str, answers: dict[str, Any], model: str | None) -> str:
    text = f"{model} on {name} prompts: accuracy {show.number(answers['accuracy'])}"
    if answers["logit_diff"] is None:
        return f"{text}."
    return (
        f"{text}; the right answer beats the wrong one on {answers['prefers_right']:.0%}; logit "
        f"difference {show.number(answers['logit_diff'])}."
    )
