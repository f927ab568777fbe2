"""Everything Edgewise raises on purpose.

EdgewiseError
├── UnknownName        a name (task, model, method, metric, node, edge …) that we do not have
├── SettingError       a setting outside its range
│   └── ScoreError         a score that is not a finite number; names the edge, and the prompt
├── ProblemError       model, prompts, metric and reference do not fit; lists every fault
├── MetricError        a metric returned something that is not a finite number
├── FormatError        a file that is broken, of another kind, or from a newer version
├── VerificationFailed  a fast result that the slow way does not confirm
├── OutputError        a place that cannot be written, or that holds another run already
└── ModelError         a model that cannot be used
    ├── UnsupportedModel   a family or feature that the runtime does not compute
    ├── ProofFailed        loaded, but its logits are not the source model's
    └── ModelUnavailable   not on disk, and the hub cannot be reached

A message says what was asked, what was found and what would work. The command line prints it as one
line and exits with code 2. Errors that also mean "bad value" are ValueErrors, so callers who do not
know Edgewise can catch those.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class EdgewiseError(Exception):
    """Base of every error that Edgewise raises on purpose."""


class UnknownName(EdgewiseError, ValueError):
    """A name that Edgewise does not know; the message suggests the nearest ones."""


class SettingError(EdgewiseError, ValueError):
    """A setting outside its range."""


class ScoreError(SettingError):
    """A score that is not a finite number: of which edge, and on which prompt if that is known."""

    def __init__(self, edge: str, value: float, *, prompt: int | None = None) -> None:
        self.edge, self.value, self.prompt = edge, value, prompt
        message = f"the score of {edge} is {value}; it must be finite."
        if prompt is not None:
            message = (
                f"the score of {edge} is {value} on prompt {prompt}; it must be finite. Check the "
                "prompt, its answers, the metric's gradient and the model's dtype."
            )
        super().__init__(message)


class ProblemError(EdgewiseError, ValueError):
    """Parts of a problem that do not fit each other; `faults` lists every one of them."""

    def __init__(self, subject: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        if len(self.faults) == 1:
            message = f"{subject}: {self.faults[0]}"
        else:
            listed = "\n".join(f"  {i + 1}. {fault}" for i, fault in enumerate(self.faults))
            message = f"{subject}: {len(self.faults)} faults\n{listed}"
        super().__init__(message)


class MetricError(EdgewiseError, ValueError):
    """A metric returned something that is not a finite number per prompt."""


class FormatError(EdgewiseError, ValueError):
    """A file that is broken, of another kind, or written by a newer Edgewise."""


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


class ModelUnavailable(ModelError):
    """A model that is neither bundled nor on disk, while the hub cannot be reached."""


def unknown_name(kind: str, asked: str, known: Iterable[str], *, hint: str = "") -> UnknownName:
    """The error for a name that is not in `known`: near misses first, else the first few names."""
    names = list(known)
    near = difflib.get_close_matches(asked, names, n=3, cutoff=0.5)
    if near:
        advice = f"Did you mean {_listed(near)}?"
    elif len(names) <= 20:
        advice = f"Known: {_listed(names)}." if names else "" if hint else "There are none."
    else:
        advice = f"There are {len(names)}, such as {_listed(names[:3])}."
    return UnknownName(" ".join(filter(None, [f"no {kind} named {asked!r}.", advice, hint])))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
