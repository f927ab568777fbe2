"""Everything Edgewise raises on purpose.

EdgewiseError
├── UnknownName, SettingError (with ScoreError), ProblemError, MetricError, FormatError: ValueErrors
├── VerificationFailed, OutputError
└── ModelError
    └── UnsupportedModel, ProofFailed, ModelChanged, ModelUnavailable

A message says what was asked, what was found and what would work. The command line prints it as one
line and exits with code 2. Errors that also mean "bad value" are ValueErrors, so callers who do not
know Edgewise can catch those.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

LIMIT = 480  # characters of a message that lists faults


class EdgewiseError(Exception):
    """Base of every error that Edgewise raises on purpose."""

    longest = 1000  # characters: what a message quotes may come from anybody's file

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message, self.longest))


class UnknownName(EdgewiseError, ValueError):
    """A name (of a task, model, method, node, edge …) that we do not have; the nearest are said."""


class SettingError(EdgewiseError, ValueError):
    """A setting outside its range."""


class ScoreError(SettingError):
    """A score that is not a finite number: of which edge, and on which prompt if that is known."""

    def __init__(self, edge: str, value: float, *, prompt: int | None = None) -> None:
        self.edge, self.value, self.prompt = edge, value, prompt
        where = "" if prompt is None else f" on prompt {prompt}"
        super().__init__(
            f"the score of {edge} is {value}{where}; it must be finite. Check the prompts, their "
            "answers, the metric's gradient and the model's dtype."
        )


class MetricError(EdgewiseError, ValueError):
    """A metric returned something that is not a finite number per prompt."""


class FormatError(EdgewiseError, ValueError):
    """A file that is broken, of another kind, or written by a newer Edgewise."""

    longest = 500


class OutputError(EdgewiseError):
    """A place that cannot be written, or that already holds another run."""


class VerificationFailed(EdgewiseError):
    """A result of the incremental engine that the plain evaluator does not confirm."""


class ModelError(EdgewiseError):
    """A model that cannot be used."""


class UnsupportedModel(ModelError):
    """A model family or feature that the runtime does not compute."""


class ProofFailed(ModelError):
    """A loaded model whose logits are not those of the model it came from."""


class ModelChanged(ModelError):
    """A model whose tensors are no longer those that a problem was built with."""


class ModelUnavailable(ModelError):
    """A model that is neither bundled nor on disk, while the hub cannot be reached."""


class Fault(str):
    """What is wrong, as a sentence; `where` names the prompt (its line), `column` the field.

    `whole`: it concerns all prompts, so that none can be used. `text` is without the place.
    """

    where: str
    column: str
    whole: bool
    text: str

    def __new__(cls, text: str, *, where: str = "", column: str = "", whole: bool = False) -> Fault:
        fault = super().__new__(cls, f"{where}: {text}" if where else text)
        fault.where, fault.column, fault.whole = where, column, whole or not where
        fault.text = text
        return fault


class ProblemError(EdgewiseError, ValueError):
    """Parts of a problem that do not fit each other.

    `faults` lists every one of them; the message has a line for each kind, and is short.
    """

    def __init__(self, subject: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        kinds, message = kinds_of(faults), f"{shortened(subject, 120)}: "
        if len(kinds) == 1:
            super().__init__(message + shortened(kinds[0], LIMIT - len(message)))
            return
        of_kinds = f" of {len(kinds)} kinds" if len(kinds) < len(faults) else ""
        message += f"{len(faults)} faults{of_kinds}"
        for i, kind in enumerate(kinds):
            room = LIMIT - 30 - len(message)
            if i and room < 80:
                message += f"\n  … and {len(kinds) - i} more kinds."
                break
            message += f"\n  {i + 1}. {shortened(kind, min(room, 180))}"
        super().__init__(message)


def kinds_of(faults: Iterable[str]) -> list[str]:
    """A sentence for each kind of fault: its first, how many are like it, and the next places.

    Faults are of a kind if they differ in nothing but numbers, quoted texts and places.
    """
    kinds: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        fault = fault if isinstance(fault, Fault) else Fault(fault)
        pattern = re.sub(r"'[^']*'|\"[^\"]*\"|\[.*\]|-?\d+", "…", fault.text)
        pattern = re.sub("…(, …)+", "…", pattern)
        kinds.setdefault((fault.column, pattern), []).append(fault)
    sentences = []
    for first, *more in kinds.values():
        places = list(dict.fromkeys(f.where for f in more if f.where not in ("", first.where)))
        listed = ", ".join([*places[:3], *(["…"] if places[3:] else [])])
        like = f"(and {len(more)} like it{listed and ': '}{listed})" if more else ""
        column = "" if first.column.rstrip("s") in first.text else first.column
        place = ", ".join(filter(None, [first.where, column]))
        where = " ".join(filter(None, [place, like]))
        sentences.append(f"{where}: {first.text}" if where else first.text)
    return sentences


def unknown_name(kind: str, name: str, known: Iterable[str], *, hint: str = "") -> UnknownName:
    """The error for a name that is not in `known`: near misses first, else the first few names."""
    names = list(known)
    near = difflib.get_close_matches(name[:200], names, n=3, cutoff=0.5)
    few = ", ".join(map(quoted, near or names[: 20 if len(names) <= 20 else 3]))
    if near:
        advice = f"Did you mean {few}?"
    elif few:
        advice = f"Known: {few}." if len(names) <= 20 else f"There are {len(names)}, such as {few}."
    else:
        advice = "" if hint else "There are none."
    return UnknownName(" ".join(filter(None, [f"no {kind} named {quoted(name)}.", advice, hint])))


def shortened(text: str, limit: int = 80) -> str:
    """A text of at most `limit` characters, cut out of its middle: it may end in advice."""
    if len(text) <= limit:
        return text
    end = (limit - 3) // 2
    return f"{text[: limit - 3 - end]} … {text[-end:]}"


def quoted(value: object) -> str:
    """A value from outside in quotes, or as Python writes it, shortened."""
    if isinstance(value, str):
        return repr(shortened(value))
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # a whole number of more digits than Python writes
        return f"a {type(value).__name__}"
