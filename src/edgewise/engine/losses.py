"""Losses of many variants at once, from what the output port reads at the answer positions."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.engine.memory import logits_bytes
from edgewise.metrics import METRICS, AnswerRows, Metric
from edgewise.model.norms import Transformer, norm
from edgewise.model.parts import soft_capped
from edgewise.model.runtime import logits_of


@runtime_checkable
class VariantLosses(Protocol):
    """The metric of each prompt, for K variants of what the output port reads."""

    def exact(self, final: Float[Tensor, "variant row d_model"]) -> Float[Tensor, "variant batch"]:
        """The metric of each prompt in its own direction, in float64 on the CPU."""
        ...


class LogitDiffLosses:
    """Logit difference needs a few columns of the unembedding.

    Without a cap on logits they are one direction, the difference of the sides' mean columns. With
    one, every answer's logit is capped alone.
    """

    def __init__(self, model: Transformer, rows: AnswerRows, n_prompts: int) -> None:
        self._model, self._rows, self._n_prompts = model, rows, n_prompts
        self._sides = [_Side(model, ids) for ids in (rows.answers, rows.wrong)]
        (right, right_bias), (wrong, wrong_bias) = (side.mean() for side in self._sides)
        self._direction = right - wrong  # [row d_model]
        self._offset = right_bias - wrong_bias  # [row]

    def exact(self, final: Float[Tensor, "variant row d_model"]) -> Float[Tensor, "variant batch"]:
        y = norm(self._model, "ln_final", final)
        if self._model.config.logit_cap:
            answers, wrong = (side.capped(y) for side in self._sides)
            values = answers - wrong
        else:
            values = (y * self._direction).sum(dim=-1) + self._offset
        return by_prompt(values, self._rows, self._n_prompts)


class _Side:
    """The logits of each row's answers, or of its wrong answers."""

    def __init__(self, model: Transformer, ids: Tensor | None) -> None:
        assert ids is not None  # Problem refuses pairs without them
        weight, bias = model.weights["unembed.W_U"], model.weights.get("unembed.b_U")
        share = (ids >= 0).to(weight.dtype)
        self._share = share / share.sum(dim=-1, keepdim=True)  # [row answer]
        index, self._cap = ids.clamp(min=0), model.config.logit_cap
        self._columns = weight.T[index]  # [row answer d_model]
        self._bias = torch.zeros_like(share) if bias is None else bias[index]

    def mean(self) -> tuple[Float[Tensor, "row d_model"], Float[Tensor, "row"]]:
        """The mean column of the unembedding over each row's answers, and the mean bias."""
        column = torch.einsum("ra,rad->rd", self._share, self._columns)
        return column, (self._share * self._bias).sum(dim=-1)

    def capped(self, y: Float[Tensor, "variant row d_model"]) -> Float[Tensor, "variant row"]:
        """The mean of each row's capped logits."""
        logits = torch.einsum("krd,rad->kra", y, self._columns) + self._bias
        return (self._share * soft_capped(logits, self._cap)).sum(dim=-1)


class AnyLosses:
    """Any metric, from whole rows of logits.

    A metric of `METRICS` sees all variants in one go. A user's function sees what the plain
    evaluator shows it: one circuit's rows, a copy.
    """

    def __init__(
        self, model: Transformer, metric: Metric, rows: AnswerRows, n_prompts: int
    ) -> None:
        self._model, self._metric, self._rows, self._n_prompts = model, metric, rows, n_prompts

    def exact(self, final: Float[Tensor, "variant row d_model"]) -> Float[Tensor, "variant batch"]:
        width = final.shape[1] * self._model.weights["unembed.W_U"].shape[1] * final.element_size()
        step = max(1, logits_bytes(final.device) // max(width, 1))
        evaluate = self._together if self._metric in METRICS.values() else self._one_by_one
        return torch.cat([evaluate(part) for part in final.split(step)])

    def _one_by_one(
        self, final: Float[Tensor, "variant row d_model"]
    ) -> Float[Tensor, "variant batch"]:
        values = []
        for logits in logits_of(self._model, final):
            rows = replace(self._rows, clean_logits=self._rows.clean_logits.clone())
            values.append(self._metric.per_prompt(logits, rows, self._n_prompts).cpu().double())
        return torch.stack(values)

    def _together(
        self, final: Float[Tensor, "variant row d_model"]
    ) -> Float[Tensor, "variant batch"]:
        logits, k = logits_of(self._model, final), final.shape[0]
        rows = self._rows
        offsets = torch.arange(k, device=rows.prompt.device)[:, None] * self._n_prompts
        repeated = replace(
            rows,
            prompt=(rows.prompt + offsets).flatten(),
            clean_logits=rows.clean_logits.repeat(k, 1),
            answers=None if rows.answers is None else rows.answers.repeat(k, 1),
            wrong=None if rows.wrong is None else rows.wrong.repeat(k, 1),
        )
        values = self._metric.per_prompt(logits.flatten(0, 1), repeated, k * self._n_prompts)
        return values.cpu().double().unflatten(0, (k, self._n_prompts))


def by_prompt(
    values: Float[Tensor, "variant row"], rows: AnswerRows, n_prompts: int
) -> Float[Tensor, "variant batch"]:
    """Each prompt's mean over its rows, in float64 on the CPU."""
    values, prompt = values.cpu().double(), rows.prompt.cpu()
    total = values.new_zeros(values.shape[0], n_prompts).index_add(1, prompt, values)
    return total / torch.bincount(prompt, minlength=n_prompts)
