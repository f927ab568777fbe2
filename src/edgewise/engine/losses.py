"""Losses of many variants at once, from what the output port reads at the answer positions."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.metrics import METRICS, AnswerRows, Metric
from edgewise.model.runtime import Transformer, logits_of, norm

_CHUNK_BYTES = 128 * 2**20  # of logits alive at a time


class VariantLosses:
    """The metric of each prompt, for K variants of what the output port reads.

    Logit difference needs a few columns of the unembedding. KL from the clean run needs one pass
    over the vocabulary: with X the change of the logits and P the clean distribution,
    KL = log E_P[exp X] - E_P[X], and E_P[X] is a product with one precomputed row.
    """

    def __init__(
        self,
        model: Transformer,
        metric: Metric,
        rows: AnswerRows,
        n_prompts: int,
        clean: Float[Tensor, "row d_model"],
    ) -> None:
        self._model, self._metric, self._rows, self._n_prompts = model, metric, rows, n_prompts
        self._clean = norm(model, "ln_final", clean)
        self._unembed = model.weights["unembed.W_U"]
        self._buffer: Tensor | None = None
        if metric is METRICS["kl"]:
            self._log_p = rows.clean_logits.log_softmax(dim=-1)
            self._p = self._log_p.exp()
            self._expected = self._p @ self._unembed.T  # [row d_model]

    def __call__(
        self, final: Float[Tensor, "variant row d_model"]
    ) -> Float[Tensor, "variant batch"]:
        """The metric of each prompt in its own direction, in float64 on the CPU."""
        if self._metric is METRICS["logit-diff"]:
            return self._per_prompt(self._logit_diff(final))
        width = final.shape[1] * self._unembed.shape[1] * final.element_size()
        step = max(1, _CHUNK_BYTES // max(width, 1))
        if self._metric is METRICS["kl"]:
            one = self._kl
        else:
            one = self._any if self._metric in METRICS.values() else self._own
        return torch.cat([one(part) for part in final.split(step)])

    def _kl(self, final: Float[Tensor, "variant row d_model"]) -> Float[Tensor, "variant batch"]:
        moved = norm(self._model, "ln_final", final) - self._clean
        mean = torch.einsum("krd,rd->kr", moved, self._expected)
        change = self._changed_logits(moved)
        total = (change.exp_() @ self._p[:, :, None])[..., 0].T
        values = total.log() - mean
        if not values.isfinite().all():  # exp overflowed: the slow way is safe
            change = self._changed_logits(moved)
            values = (change + self._log_p[:, None]).logsumexp(dim=-1).T - mean
        return self._per_prompt(values)

    def _changed_logits(
        self, moved: Float[Tensor, "variant row d_model"]
    ) -> Float[Tensor, "row variant vocab"]:
        """In a buffer that is used again: fresh pages of this size cost as much as the product."""
        k, r, d = moved.shape
        size = (k * r, self._unembed.shape[1])
        if self._buffer is None or len(self._buffer) < k * r:
            self._buffer = moved.new_empty(size)
        flat = moved.transpose(0, 1).reshape(k * r, d)
        return torch.mm(flat, self._unembed, out=self._buffer[: k * r]).unflatten(0, (r, k))

    def _logit_diff(
        self, final: Float[Tensor, "variant row d_model"]
    ) -> Float[Tensor, "variant row"]:
        y = norm(self._model, "ln_final", final)
        return self._mean_logit(y, self._rows.answers) - self._mean_logit(y, self._rows.wrong)

    def _mean_logit(
        self, y: Float[Tensor, "variant row d_model"], ids: Tensor | None
    ) -> Float[Tensor, "variant row"]:
        assert ids is not None  # Problem refuses pairs without them
        present = (ids >= 0).to(y.dtype)
        index = ids.clamp(min=0)
        logits = torch.einsum("krd,rad->kra", y, self._unembed.T[index])
        bias = self._model.weights.get("unembed.b_U")
        if bias is not None:
            logits = logits + bias[index]
        return (logits * present).sum(dim=-1) / present.sum(dim=-1)

    def _own(self, final: Float[Tensor, "variant row d_model"]) -> Float[Tensor, "variant batch"]:
        """A user's function sees what the plain evaluator shows it: one circuit's rows, a copy."""
        values = []
        for logits in logits_of(self._model, final):
            rows = replace(self._rows, clean_logits=self._rows.clean_logits.clone())
            values.append(self._metric.per_prompt(logits, rows, self._n_prompts).cpu().double())
        return torch.stack(values)

    def _any(self, final: Float[Tensor, "variant row d_model"]) -> Float[Tensor, "variant batch"]:
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

    def _per_prompt(self, values: Float[Tensor, "variant row"]) -> Float[Tensor, "variant batch"]:
        values, prompt = values.cpu().double(), self._rows.prompt.cpu()
        total = values.new_zeros(values.shape[0], self._n_prompts).index_add(1, prompt, values)
        return total / torch.bincount(prompt, minlength=self._n_prompts)
