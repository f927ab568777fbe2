"""Losses of many variants at once, from what the output port reads at the answer positions."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.engine.memory import logits_bytes
from edgewise.metrics import METRICS, AnswerRows, Metric
from edgewise.model import Model
from edgewise.model.blocks import soft_capped
from edgewise.model.runtime import logits_of

_BLOCK = {"cpu": 4096}  # columns of the unembedding at a time: what stays in a CPU's cache
# Of the second-order part: a product rounds by 2^-9. `Removals.rebase` checks what happens.
_ROUNDING = 2.0**-5


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

    def __init__(self, model: Model, rows: AnswerRows, n_prompts: int) -> None:
        self._model, self._rows, self._n_prompts = model, rows, n_prompts
        self._sides = [_Side(model, ids) for ids in (rows.answers, rows.wrong)]
        (right, right_bias), (wrong, wrong_bias) = (side.mean() for side in self._sides)
        self._direction = right - wrong  # [row d_model]
        self._offset = right_bias - wrong_bias  # [row]

    def exact(self, final: Float[Tensor, "variant row d_model"]) -> Float[Tensor, "variant batch"]:
        y = self._model.final_norm(final)
        if self._model.config.logit_cap:
            answers, wrong = (side.capped(y) for side in self._sides)
            values = answers - wrong
        else:
            values = (y * self._direction).sum(dim=-1) + self._offset
        return by_prompt(values, self._rows, self._n_prompts)


class _Side:
    """The logits of each row's answers, or of its wrong answers."""

    def __init__(self, model: Model, ids: Tensor | None) -> None:
        assert ids is not None  # Problem refuses pairs without them
        weight, bias = model.weights["unembed.W_U"], model.weights.get("unembed.b_U")
        share = (ids >= 0).to(model.compute_dtype)
        self._share = share / share.sum(dim=-1, keepdim=True)  # [row answer]
        index, self._cap = ids.clamp(min=0), model.config.logit_cap
        self._columns = weight.T[index].to(share.dtype)  # [row answer d_model]
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

    def __init__(self, model: Model, metric: Metric, rows: AnswerRows, n_prompts: int) -> None:
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


class KLLosses:
    """The KL from the clean run of each prompt, in one pass over the vocabulary.

    With X the change of the logits since the clean run and P the clean distribution,

        KL(P || Q) = log E_P[exp X] - E_P[X],

    and E_P[X] is a product with one precomputed row. Estimates are relative to a base B, the state
    before the removals at hand, whose KL is known exactly. With X now the change since the base,

        KL(P || Q) = KL(P || B) + (E_B - E_P)[X] + (log E_B[exp X] - E_B[X]).

    The middle term is a product with one row again, in full precision; the last is of second order
    in X, so that rounding X to bfloat16 costs a part of something small. Where logits are capped
    (Gemma 2) X is not linear in what changes, and there are no estimates.
    """

    def __init__(
        self,
        model: Model,
        rows: AnswerRows,
        n_prompts: int,
        *,
        clean: Float[Tensor, "row d_model"],
    ) -> None:
        self._model, self._rows, self._n_prompts = model, rows, n_prompts
        self._clean = model.final_norm(clean)
        self._unembed = model.weights["unembed.W_U"].to(model.compute_dtype)
        self._capped_change = _CappedChange(model, self._clean) if model.config.logit_cap else None
        self._log_p = rows.clean_logits.log_softmax(dim=-1)
        self._p = self._log_p.exp()
        self._expected = self._p @ self._unembed.T  # [row d_model]
        variant_bytes = max(self._p.numel() * clean.element_size(), 1)
        self._at_once = max(1, logits_bytes(clean.device) // variant_bytes)  # variants
        self._buffer: Tensor | None = None
        self._blocks: list[Tensor] = []  # bfloat16 columns of the unembedding

    # --- exactly

    def exact(self, final: Float[Tensor, "variant row d_model"]) -> Float[Tensor, "variant batch"]:
        values = torch.cat([self._exact(part) for part in final.split(self._at_once)])
        return by_prompt(values, self._rows, self._n_prompts)

    def _exact(self, final: Float[Tensor, "variant row d_model"]) -> Float[Tensor, "variant row"]:
        moved = self._model.final_norm(final) - self._clean
        change = self._changed_logits(moved)
        if self._capped_change is None:
            mean = torch.einsum("krd,rd->kr", moved, self._expected)
        else:
            mean = (change @ self._p[:, :, None])[..., 0].T
        total = (change.exp_() @ self._p[:, :, None])[..., 0].T
        values = total.log() - mean
        if not values.isfinite().all():  # exp overflowed: the slow way is safe
            change = self._changed_logits(moved)
            values = (change + self._log_p[:, None]).logsumexp(dim=-1).T - mean
        return values

    def _changed_logits(
        self, moved: Float[Tensor, "variant row d_model"]
    ) -> Float[Tensor, "row variant vocab"]:
        """In a buffer that is used again: fresh pages of this size cost as much as the product."""
        k, r, d = moved.shape
        size = (k * r, self._unembed.shape[1])
        if self._buffer is None or len(self._buffer) < k * r:
            self._buffer = moved.new_empty(size)
        flat = moved.transpose(0, 1).reshape(k * r, d)
        change = torch.mm(flat, self._unembed, out=self._buffer[: k * r]).unflatten(0, (r, k))
        return change if self._capped_change is None else self._capped_change.of_(change)

    # --- relative to a base

    def rebase(self, final: Float[Tensor, "row d_model"]) -> Float[Tensor, "batch"]:
        """Estimate relative to this from now on; returns the KL of it, exactly."""
        self._base = self._model.final_norm(final)
        moved = self._base - self._clean
        log_b = torch.addmm(self._log_p, moved, self._unembed)
        total = log_b.logsumexp(dim=-1, keepdim=True)
        self._b = log_b.sub_(total).exp_()
        self._slope = self._b @ self._unembed.T - self._expected  # of the KL, [row d_model]
        self._base_kl = total[:, 0] - (moved * self._expected).sum(dim=-1)
        return by_prompt(self._base_kl[None], self._rows, self._n_prompts)[0]

    def estimate(
        self, final: Float[Tensor, "variant row d_model"]
    ) -> tuple[Float[Tensor, "variant batch"], Float[Tensor, "variant batch"]]:
        """Estimates as `exact` would give them, and how far off they may be."""
        moved = self._model.final_norm(final) - self._base
        first = torch.einsum("krd,rd->kr", moved, self._slope)
        parts = moved.split(self._at_once * self._p.shape[1] // self._width)
        second = torch.cat([self._second_order(part) for part in parts])
        bounds = _ROUNDING * second.abs() * (1 + moved.norm(dim=-1) * self._spread)
        values = self._base_kl + first + second
        estimates, bounds = (by_prompt(x, self._rows, self._n_prompts) for x in (values, bounds))
        return estimates, bounds

    def _second_order(
        self, moved: Float[Tensor, "variant row d_model"]
    ) -> Float[Tensor, "variant row"]:
        """What is of second order, from a change in bfloat16 and sums in full precision."""
        k, r, d = moved.shape
        flat = moved.transpose(0, 1).reshape(k * r, d).bfloat16()
        blocks = self._bfloat16_blocks()
        room = k * r * blocks[0].shape[1]
        product, copy = flat.new_empty(room), moved.new_empty(room)  # fresh pages are slow
        mean, total = moved.new_zeros(2, r, k, 1)
        for weight, share in zip(blocks, self._b.split(self._width, dim=1), strict=True):
            size = (k * r, weight.shape[1])
            part = size[0] * size[1]
            rounded = torch.mm(flat, weight, out=product[:part].view(size))
            x = copy[:part].view(size).copy_(rounded).unflatten(0, (r, k))
            mean += x @ share[:, :, None]
            total += x.exp_() @ share[:, :, None]
        return (total.log() - mean)[..., 0].T

    @property
    def _width(self) -> int:
        """Columns of the unembedding that are multiplied at a time."""
        return min(_BLOCK.get(self._unembed.device.type, self._p.shape[1]), self._p.shape[1])

    @cached_property
    def _spread(self) -> Tensor:
        """How far logits move, amply, with a change of length 1: rounding grows with that too."""
        return 1.25 * self._unembed.norm(dim=0).max() / len(self._unembed) ** 0.5

    def _bfloat16_blocks(self) -> list[Tensor]:
        if not self._blocks:
            columns = self._unembed.split(self._width, dim=1)
            self._blocks = [block.bfloat16().contiguous() for block in columns]
        return self._blocks


class _CappedChange:
    """Changes of soft-capped logits of some rows, from changes of the logits before the cap."""

    def __init__(self, model: Model, normed: Float[Tensor, "row d_model"]) -> None:
        logits = normed @ model.weights["unembed.W_U"].to(normed.dtype)
        bias = model.weights.get("unembed.b_U")
        self._cap = model.config.logit_cap
        self._logits = logits if bias is None else logits + bias
        self._capped = soft_capped(self._logits, self._cap)

    def of_(self, change: Float[Tensor, "row variant vocab"]) -> Float[Tensor, "row variant vocab"]:
        """In the place of the change that is given."""
        change.add_(self._logits[:, None]).div_(self._cap).tanh_()
        return change.mul_(self._cap).sub_(self._capped[:, None])


def by_prompt(
    values: Float[Tensor, "variant row"], rows: AnswerRows, n_prompts: int
) -> Float[Tensor, "variant batch"]:
    """Each prompt's mean over its rows, in float64 on the CPU."""
    values, prompt = values.cpu().double(), rows.prompt.cpu()
    total = values.new_zeros(values.shape[0], n_prompts).index_add(1, prompt, values)
    return total / torch.bincount(prompt, minlength=n_prompts)
