"""Metrics: logits at the answer positions -> one number per prompt, with unit and direction.

A metric says whether higher is better; `Metric.loss_sign` turns it into the lower-is-better number
that methods minimise, and is applied in `Problem.loss` and nowhere else. Definitions follow
Conmy et al. (appendices): where the paper's code negates a metric, ours does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.data import NO_ANSWER
from edgewise.errors import MetricError, unknown_name


@dataclass(frozen=True, eq=False)
class AnswerRows:
    """What a metric may look at beside the logits: one row per answer position of the batch.

    A prompt with one answer position has one row. `answers` and `wrong` hold -1 where a prompt has
    fewer of them than others.
    """

    prompt: Int[Tensor, "row"]  # which prompt of the batch a row belongs to
    clean_logits: Float[Tensor, "row vocab"]  # the full model's, on the clean prompts
    answers: Int[Tensor, "row answer"] | None
    wrong: Int[Tensor, "row wrong"] | None


Logits = Float[Tensor, "row vocab"]
PerRow = Float[Tensor, "row"]
RowFunction = Callable[[Logits, AnswerRows], PerRow]
METRICS: dict[str, Metric] = {}  # those below, by name


@dataclass(frozen=True)
class Metric:
    """A named function of logits [row vocab] and `AnswerRows` that returns one number per row.

    A prompt's number is the mean over its rows. For a metric of your own:
    `Metric("margin", "logits", higher_is_better=True, function=my_function)`.
    """

    name: str
    unit: str
    higher_is_better: bool
    function: RowFunction
    summary: str = ""
    needs: tuple[str, ...] = ()  # "answers", "wrong"

    @property
    def loss_sign(self) -> int:
        """Multiply a value by this to get a number of which lower is better."""
        return -1 if self.higher_is_better else 1

    def per_prompt(
        self, logits: Logits, rows: AnswerRows, n_prompts: int
    ) -> Float[Tensor, "batch"]:
        """The metric of each prompt, in float32 or better. Raises `MetricError`.

        NaN where a logit, or one of those compared with, is not finite: a function may pass over
        them (a KL of NaN is 0 where probabilities are compared with 0), and callers check values.
        """
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        values = self.function(logits, rows)
        is_tensor, n = isinstance(values, Tensor), len(rows.prompt)
        if not is_tensor or values.shape != (n,) or values.is_complex():
            returned = tuple(values.shape) if is_tensor else type(values).__name__
            kind = "complex numbers, " if is_tensor and values.is_complex() else ""
            raise MetricError(
                f"metric {self.name!r} returned {kind}{returned}; it must return one number for "
                f"each of the {n} answer positions: a real tensor of shape ({n},)."
            )
        finite = logits.isfinite().all(dim=-1) & rows.clean_logits.isfinite().all(dim=-1)
        values = values.to(logits.dtype).where(finite, torch.nan)
        total = values.new_zeros(n_prompts).index_add(0, rows.prompt, values)
        return total / torch.bincount(rows.prompt, minlength=n_prompts)


def check_repeatable(metric: Metric, rows: AnswerRows) -> None:
    """Raise `MetricError` if a user's metric gives other numbers for the same logits."""

    def once() -> Tensor:
        logits = rows.clean_logits.clone()  # a user's function may write to what it is given
        return metric.function(logits, replace(rows, clean_logits=logits.clone()))

    first, second = once(), once()
    if isinstance(first, Tensor) and not torch.equal(first.nan_to_num(), second.nan_to_num()):
        raise MetricError(
            f"metric {metric.name!r} gives other numbers for the same logits each time it is "
            "called, so no decision about an edge would mean anything. Seed what is random in it."
        )


def check_finite(name: str, values: Float[Tensor, "batch"]) -> None:
    """Raise `MetricError`, naming the prompts, unless every value is finite."""
    bad = (~values.isfinite()).nonzero().flatten().tolist()
    if bad:
        shown = ", ".join(map(str, bad[:5])) + (", …" if len(bad) > 5 else "")
        raise MetricError(
            f"metric {name!r} is {values[bad[0]].item()} for {len(bad)} of {len(values)} prompts "
            f"(prompt {shown}). Check the prompts, the answers and the model's dtype."
        )


def _listed(unit: str, *needs: str, higher: bool) -> Callable[[RowFunction], RowFunction]:
    """Add a function to `METRICS`, under its name and the first line of its docstring."""

    def add(function: RowFunction) -> RowFunction:
        name = function.__name__.replace("_", "-")
        summary = (function.__doc__ or "").strip().splitlines()[0]
        METRICS[name] = Metric(name, unit, higher, function, summary, needs)
        return function

    return add


@_listed("nats", higher=False)
def kl(logits: Logits, rows: AnswerRows) -> PerRow:
    """KL(full model || circuit): sum of p_full (log p_full - log p_circuit) over the vocabulary."""
    full = rows.clean_logits.to(logits.dtype).log_softmax(dim=-1)
    p = full.exp()
    # A token that the model all but rules out (p rounds to 0) contributes nothing.
    terms = torch.where(p > 0, p * (full - logits.log_softmax(dim=-1)), 0.0)
    return terms.sum(dim=-1)


@_listed("logits", "answers", "wrong", higher=True)
def logit_diff(logits: Logits, rows: AnswerRows) -> PerRow:
    """Mean logit of the right answers minus mean logit of the wrong ones."""
    return _mean_of(logits, rows.answers) - _mean_of(logits, rows.wrong)


@_listed("logits", "answers", "wrong", higher=True)
def logit_margin(logits: Logits, rows: AnswerRows) -> PerRow:
    """Highest logit of a right answer minus the highest of a wrong one (Docstring)."""
    return _max_of(logits, rows.answers) - _max_of(logits, rows.wrong)


@_listed("probability", "answers", "wrong", higher=True)
def prob_diff(logits: Logits, rows: AnswerRows) -> PerRow:
    """Summed probability of the right answers minus that of the wrong ones (Greater-Than)."""
    probabilities = logits.softmax(dim=-1)
    return _sum_of(probabilities, rows.answers) - _sum_of(probabilities, rows.wrong)


@_listed("nats", "answers", higher=False)
def nll(logits: Logits, rows: AnswerRows) -> PerRow:
    """-log of the summed probability of the right answers."""
    ids, present = _ids(rows.answers)
    logs = logits.log_softmax(dim=-1).gather(-1, ids).masked_fill(~present, -torch.inf)
    return -logs.logsumexp(dim=-1)


@_listed("nats", "answers", higher=False)
def match_nll(logits: Logits, rows: AnswerRows) -> PerRow:
    """How much larger the negative log-likelihood is than the full model's."""
    return nll(logits, rows) - nll(rows.clean_logits.to(logits.dtype), rows)


@_listed("fraction", "answers", higher=True)
def accuracy(logits: Logits, rows: AnswerRows) -> PerRow:
    """1 where the most likely token is a right answer, else 0."""
    assert rows.answers is not None
    return (logits.argmax(dim=-1, keepdim=True) == rows.answers).any(dim=-1).to(logits.dtype)


@_listed("fraction", "answers", "wrong", higher=True)
def fraction_correct(logits: Logits, rows: AnswerRows) -> PerRow:
    """1 where the best right answer has a higher logit than the best wrong one, else 0."""
    return (_max_of(logits, rows.answers) > _max_of(logits, rows.wrong)).to(logits.dtype)


@_listed("squared output", higher=False)
def l2(logits: Logits, rows: AnswerRows) -> PerRow:
    """Mean squared difference from the full model's outputs over the output channels."""
    return (logits - rows.clean_logits.to(logits.dtype)).square().mean(dim=-1)


def _ids(
    ids: Int[Tensor, "row answer"] | None,
) -> tuple[Int[Tensor, "row answer"], Bool[Tensor, "row answer"]]:
    assert ids is not None  # Problem refuses a metric whose needs the pairs do not meet
    return ids.clamp(min=0), ids != NO_ANSWER


def _sum_of(values: Tensor, ids: Tensor | None) -> Tensor:
    index, present = _ids(ids)
    return (values.gather(-1, index) * present).sum(dim=-1)


def _mean_of(values: Tensor, ids: Tensor | None) -> Tensor:
    return _sum_of(values, ids) / _ids(ids)[1].sum(dim=-1)


def _max_of(values: Tensor, ids: Tensor | None) -> Tensor:
    index, present = _ids(ids)
    return values.gather(-1, index).masked_fill(~present, -torch.inf).amax(dim=-1)


def metric_named(metric: str | Metric | RowFunction) -> Metric:
    """The metric of a name, or the metric itself.

    A plain function `(logits [row vocab], AnswerRows) -> [row]` is taken as a loss: lower is
    better. Say otherwise by passing a `Metric`. Raises `UnknownName`.
    """
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        name = getattr(metric, "__name__", type(metric).__name__)
        return Metric(name, "own unit", False, metric, "A function of the user's own.")
    name = metric.replace("_", "-").lower()
    if name not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    return METRICS[name]
