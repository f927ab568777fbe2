"""The grid: which tasks and models, and for each which methods, metrics, ablations and values.

A cell is what is computed and kept at a time: ACDC for some thresholds (they share work), SP for
one λ, HISP for its numbers of units, random circuits for their sizes. Thresholds and λ are from the
paper's grids; offline and quick runs take fewer of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product
from math import log10
from typing import Any

ABLATIONS = ("corrupted", "zero")
VERSION = 2  # of what a cell holds; another one is computed anew


@dataclass(frozen=True)
class Subject:
    """A task on a model: what the paper studied, or its like on a bundled model.

    `metrics` are what the methods minimise, the comparison with the full model first, then the
    task's own loss. `reset_seed` is of the reset network, None for none.
    """

    task: str
    model: str
    metrics: tuple[str, ...]
    ablations: tuple[str, ...] = ABLATIONS
    n: int | None = None
    seed: int = 0
    template: str | None = None
    data: str | None = None
    processing: str = "none"
    reset_seed: int | None = None
    head_orders: tuple[str, ...] = ("descending",)
    bundled: bool = True

    @property
    def name(self) -> str:
        return self.task if self.model == self.task else f"{self.task} on {self.model}"

    @property
    def is_program(self) -> bool:
        return self.metrics == ("l2",)

    def kind(self, metric: str) -> str:
        """The paper's row of a metric: kl, l2, or loss for the task's own."""
        return metric if metric in ("kl", "l2") else "loss"


@dataclass(frozen=True)
class Scale:
    """How much is computed. None for a number of values is all of the paper's."""

    name: str
    n: int | None  # prompts of a language task; None is the paper's number
    thresholds: int | None
    lowest: float  # threshold
    penalties: int | None  # values of λ
    units: int | None  # circuits of HISP
    reset_thresholds: int
    sp_steps: int
    sp_rate: float
    random_draws: int
    together: int  # thresholds in a cell
    programs: int | None = None  # thresholds and values of λ of a compiled program
    reset_sp: bool = False


# SP's masks move by at most its learning rate in a step. The paper's 10,000 steps of 0.001 allow a
# way of 10 from the start at 1.6; a hundred steps of 0.1 allow the same.
SCALES = {
    "paper": Scale("paper", None, None, 1e-6, None, None, 5, 10_000, 0.001, 10, 4, reset_sp=True),
    "offline": Scale("offline", 20, 8, 1.5e-3, 6, 13, 4, 80, 0.1, 5, 100),
    "quick": Scale("quick", 6, 3, 1e-2, 2, 4, 2, 5, 0.5, 2, 100, programs=3),
}


@dataclass(frozen=True)
class Cell:
    """One piece of work. `settings` go to the method; `values` are thresholds, λ, or shares."""

    subject: Subject
    method: str
    metric: str
    ablation: str
    values: tuple[float, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()
    reset: bool = False
    highlight: str = ""  # the place in the paper that a single point is for

    @property
    def key(self) -> str:
        """A hash of all that decides what the cell holds."""
        whole = {**asdict(self), "format": VERSION, "edgewise": version("edgewise")}
        text = json.dumps(whole, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        what = f"{self.method} on {self.subject.name}, {self.metric}, {self.ablation}"
        return f"{what}, reset network" if self.reset else what

    @property
    def work(self) -> int:
        """About how long it takes beside others, to say how much time is left."""
        size = 1 if self.subject.is_program else 4 if self.subject.bundled else 4000
        steps = dict(self.settings).get("steps", 0)
        return size * (max(1, steps // 10) if self.method == "sp" else 3)


def _spread(low: float, high: float, n: int) -> tuple[float, ...]:
    """10 to the power of n values from low to high: the paper's way to write its grids.

    Six digits, so that every machine has the same numbers.
    """
    return tuple(float(f"{10 ** (low + (high - low) * i / (n - 1)):.6g}") for i in range(n))


_USUAL = _spread(-4, 0, 21)
THRESHOLDS = {  # spec section 7
    ("ioi", "kl"): _spread(-6, 0, 31),
    ("greater-than", "kl"): (*_spread(-6, -4, 11)[:-1], *_USUAL),
    ("greater-than", "loss"): _spread(-3, -1, 21),
}
_PROGRAM_THRESHOLDS = _spread(-5, -1, 21)
_KL_PENALTIES = (*_spread(-2, 0, 11), *range(2, 11), *range(30, 251, 20))
PENALTIES = {  # spec section 3; the paper rounds λ to three decimals
    ("ioi", "loss"): _spread(-4, 2, 21),
    ("greater-than", "loss"): _spread(-4, 2, 21),
}
_PROGRAM_PENALTIES = _spread(-3, 0, 11)
_RANDOM_SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

LANGUAGE = {  # metrics, the paper's model and its number of prompts
    "ioi": (("kl", "logit-diff"), "gpt2", 100),
    "greater-than": (("kl", "prob-diff"), "gpt2", 100),
    "docstring": (("kl", "logit-margin"), "NeelNanda/Attn_Only_4L512W_C4_Code", 50),
    "induction": (("kl", "nll"), "ArthurConmy/redwood_attn_2l", 50),
}
_RESET_SEEDS = {  # the paper's, spec section 7
    "ioi": 1504304416,
    "tracr-reverse": 1666927681,
    "tracr-xproportion": 913070797,
    "induction": 2016630123,
    "docstring": 814220622,
    "greater-than": 1028419464,
}
# The order that the authors' own sweep scripts ask for; elsewhere their program's default.
_ASCENDING = ("greater-than", "docstring")
_HIGHLIGHTS = {
    "greater-than": (("prob-diff", "corrupted", 0.01585, "abstract, Figure 16b"),),
    "docstring": (
        ("kl", "corrupted", 0.005, "Table 4"),
        ("kl", "corrupted", 0.095, "Table 4"),
        ("logit-margin", "corrupted", 0.067, "Table 4"),
        ("logit-margin", "zero", 0.067, "Table 4, zero activations"),
    ),
}


def subjects(scale: Scale, *, hub: bool, models: Mapping[str, str] | None = None) -> list[Subject]:
    """Compiled programs, the language tasks on small-lm, and on the paper's models if `hub`.

    `models` says where the paper's model of a task is, such as a folder; those are there without a
    hub too.
    """
    places = models or {}
    found = [
        Subject(name, name, ("l2",), data="paper", reset_seed=_RESET_SEEDS[name])
        for name in ("tracr-reverse", "tracr-xproportion")
    ]
    both = ("descending", "ascending")
    found += [
        Subject(name, name, ("l2",), ("zero",), head_orders=both)
        for name in ("or-gate", "and-gate")
    ]
    found += [_language(task, "small-lm", scale.n, bundled=True) for task in LANGUAGE]
    for task, (_, model, n) in LANGUAGE.items():
        if hub or task in places:
            found.append(_language(task, places.get(task, model), scale.n or n, bundled=False))
    return found


def _language(task: str, model: str, n: int | None, *, bundled: bool) -> Subject:
    return Subject(
        task,
        model,
        LANGUAGE[task][0],
        n=n,
        # One answer per prompt, so that the task's own loss can be read as well.
        template="single" if task == "induction" else None,
        processing="none" if bundled else "transformer-lens",
        reset_seed=_RESET_SEEDS[task],
        head_orders=("ascending",) if task in _ASCENDING else ("descending",),
        bundled=bundled,
    )


def cells(scale: Scale, every: Sequence[Subject]) -> list[Cell]:
    """All cells of these subjects, in the order of work: cheap ones first."""
    return [cell for subject in every for cell in _of_subject(scale, subject)]


def _of_subject(scale: Scale, subject: Subject) -> Iterator[Cell]:
    for metric, ablation in product(subject.metrics, subject.ablations):
        taus = _thresholds(scale, subject, metric)
        for order in subject.head_orders:
            for some in _chunks(taus, scale.together):
                yield Cell(subject, "acdc", metric, ablation, some, (("head_order", order),))
        yield _hisp(scale, subject, metric, ablation)
        for weight in _penalties(scale, subject, metric):
            yield _sp(scale, subject, metric, ablation, weight)
    for ablation in subject.ablations:
        yield Cell(
            subject,
            "random",
            subject.metrics[0],
            ablation,
            _RANDOM_SHARES,
            (("draws", scale.random_draws),),
        )
    yield from _reset(scale, subject)
    if not subject.bundled:
        yield from _highlights(subject)


def _reset(scale: Scale, subject: Subject) -> Iterator[Cell]:
    """The control: the comparison with the trained model, on the reset network."""
    if subject.reset_seed is None:
        return
    metric, order = subject.metrics[0], (("head_order", subject.head_orders[0]),)
    for ablation in subject.ablations:
        taus = thinned(_thresholds(scale, subject, metric), scale.reset_thresholds)
        yield Cell(subject, "acdc", metric, ablation, taus, order, reset=True)
        yield _hisp(scale, subject, metric, ablation, reset=True)
        if scale.reset_sp:
            for weight in _spread(-2, 1.5, 5):
                yield _sp(scale, subject, metric, ablation, round(weight, 3), reset=True)


def _hisp(
    scale: Scale, subject: Subject, metric: str, ablation: str, *, reset: bool = False
) -> Cell:
    """HISP as it was run: the code's reading, and a ranking even where the gradient is zero."""
    circuits = None if subject.is_program else scale.units
    settings = (("circuits", circuits), ("reading", "code"), ("allow_zero_gradient", True))
    return Cell(subject, "hisp", metric, ablation, (), settings, reset)


def _sp(
    scale: Scale,
    subject: Subject,
    metric: str,
    ablation: str,
    weight: float,
    *,
    reset: bool = False,
) -> Cell:
    settings = (("steps", scale.sp_steps), ("learning_rate", scale.sp_rate), ("seed", 0))
    return Cell(subject, "sp", metric, ablation, (weight,), settings, reset)


def _highlights(subject: Subject) -> Iterator[Cell]:
    order = (("head_order", subject.head_orders[0]),)
    for metric, ablation, threshold, place in _HIGHLIGHTS.get(subject.task, ()):
        yield Cell(subject, "acdc", metric, ablation, (threshold,), order, highlight=place)


def _thresholds(scale: Scale, subject: Subject, metric: str) -> tuple[float, ...]:
    if subject.is_program:
        return thinned(_PROGRAM_THRESHOLDS, scale.programs)
    grid = THRESHOLDS.get((subject.task, subject.kind(metric)), _USUAL)
    return thinned([tau for tau in grid if tau >= scale.lowest * (1 - 1e-9)], scale.thresholds)


def _penalties(scale: Scale, subject: Subject, metric: str) -> tuple[float, ...]:
    if subject.is_program:
        grid = thinned(_PROGRAM_PENALTIES, scale.programs)
    else:
        every = PENALTIES.get((subject.task, subject.kind(metric)), _KL_PENALTIES)
        grid = _log_thinned(every, scale.penalties)
    return tuple(sorted({round(float(weight), 3) for weight in grid}))


def thinned(grid: Sequence[float], most: int | None) -> tuple[float, ...]:
    """At most so many values of a grid (two or more), evenly spaced in it, its ends among them.

    >>> thinned([1, 2, 3, 4, 5], 3)
    (1, 3, 5)
    """
    if most is None or len(grid) <= most:
        return tuple(grid)
    return tuple(grid[round(i * (len(grid) - 1) / (most - 1))] for i in range(most))


def _log_thinned(grid: Sequence[float], most: int | None) -> tuple[float, ...]:
    """At most so many values of an ascending grid, about evenly spaced in the logarithm."""
    if most is None or len(grid) <= most:
        return tuple(grid)
    targets = _spread(log10(grid[0]), log10(grid[-1]), most)
    near = (min(grid, key=lambda value: abs(log10(value / target))) for target in targets)
    return tuple(dict.fromkeys(near))


def _chunks(values: Sequence[float], size: int) -> list[tuple[float, ...]]:
    return [tuple(values[i : i + size]) for i in range(0, len(values), size)]
