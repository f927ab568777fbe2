"""KL from the clean run in one pass over the vocabulary, exactly or from bfloat16 differences.

With X the change of the logits since the clean run and P the clean distribution,

    KL(P || Q) = log E_P[exp X] - E_P[X],

and E_P[X] is a product with one precomputed row. Estimates are relative to a base B, the state
before the removals at hand, whose KL is known exactly. With X now the change since the base,

    KL(P || Q) = KL(P || B) + (E_B - E_P)[X] + (log E_B[exp X] - E_B[X]).

The middle term is a product with one row again, in full precision; the last is of second order in
X, so that rounding X to bfloat16 costs a part of something small.

Where logits are capped (Gemma 2), X is not linear in what changes: X = S D + R, with D the change
before the cap, S the cap's slope at the base and R of second order in D. Then

    KL(P || Q) = KL(P || B) + (E_B - E_P)[S D] + (log E_B[exp X] - E_P[X] - (E_B - E_P)[S D]),

again a product with one row, and something of second order.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.engine.budgets import logits_bytes
from edgewise.engine.losses import by_prompt, rounding
from edgewise.metrics import AnswerRows
from edgewise.model.norms import Transformer, norm
from edgewise.model.parts import soft_capped

_BLOCK = {"cpu": 4096}  # columns of the unembedding at a time: what stays in a CPU's cache
_SECOND_ORDER_ROUNDING = 2.0**-5


class KLLosses:
    """The KL of each prompt, for K variants of what the output port reads."""

    def __init__(
        self,
        model: Transformer,
        rows: AnswerRows,
        n_prompts: int,
        clean: Float[Tensor, "row d_model"],
    ) -> None:
        self._model, self._rows, self._n_prompts = model, rows, n_prompts
        self._clean = norm(model, "ln_final", clean)
        self._unembed = model.weights["unembed.W_U"]
        self._cap = _Cap.of(model, self._clean) if model.config.logit_cap else None
        self._log_p = rows.clean_logits.log_softmax(dim=-1)
        self._p = self._log_p.exp()
        self._expected = self._p @ self._unembed.T  # [row d_model]
        one = max(self._p.numel() * clean.element_size(), 1)
        self._at_once = max(1, logits_bytes(clean.device) // one)  # variants
        self._buffer: Tensor | None = None
        self._blocks: list[tuple[slice, Tensor]] = []  # bfloat16 columns of the unembedding

    # --- exactly

    def exact(self, final: Float[Tensor, "variant row d_model"]) -> Float[Tensor, "variant batch"]:
        values = torch.cat([self._exact(part) for part in final.split(self._at_once)])
        return by_prompt(values, self._rows, self._n_prompts)

    def _exact(self, final: Float[Tensor, "variant row d_model"]) -> Float[Tensor, "variant row"]:
        moved = norm(self._model, "ln_final", final) - self._clean
        change = self._changed_logits(moved)
        if self._cap is None:
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
        return change if self._cap is None else self._cap.changed_(change)

    # --- relative to a base

    def rebase(self, final: Float[Tensor, "row d_model"]) -> Float[Tensor, "batch"]:
        self._base = norm(self._model, "ln_final", final)
        moved = self._base - self._clean
        if self._cap is None:
            log_b = torch.addmm(self._log_p, moved, self._unembed)
            mean = (moved * self._expected).sum(dim=-1)
        else:
            change = self._changed_logits(moved[None])[:, 0]
            log_b, mean = self._log_p + change, (change * self._p).sum(dim=-1)
            self._at_base = _Cap.of(self._model, self._base)
        total = log_b.logsumexp(dim=-1, keepdim=True)
        self._b = log_b.sub_(total).exp_()
        if self._cap is None:
            self._slope = self._b @ self._unembed.T - self._expected  # of the KL, [row d_model]
        else:
            self._tilt = self._at_base.slope() * (self._b - self._p)
            self._slope = self._tilt @ self._unembed.T
        self._base_kl = total[:, 0] - mean
        return by_prompt(self._base_kl[None], self._rows, self._n_prompts)[0]

    def estimate(
        self, final: Float[Tensor, "variant row d_model"]
    ) -> tuple[Float[Tensor, "variant batch"], Float[Tensor, "variant batch"]]:
        moved = norm(self._model, "ln_final", final) - self._base
        first = torch.einsum("krd,rd->kr", moved, self._slope)
        parts = moved.split(self._at_once * self._p.shape[1] // self._width)
        second = torch.cat([self._second_order(part) for part in parts])
        noise = moved.norm(dim=-1) * rounding(self._slope)
        noise = noise + _SECOND_ORDER_ROUNDING * second.abs()
        values = self._base_kl + first + second
        per_prompt = by_prompt(noise, self._rows, self._n_prompts)
        return by_prompt(values, self._rows, self._n_prompts), per_prompt.square()

    def _second_order(
        self, moved: Float[Tensor, "variant row d_model"]
    ) -> Float[Tensor, "variant row"]:
        """What is of second order, from a change in bfloat16 and sums in full precision."""
        k, r, d = moved.shape
        flat = moved.transpose(0, 1).reshape(k * r, d).bfloat16()
        blocks = self._bfloat16_blocks()
        room = k * r * blocks[0][1].shape[1]
        product, copy = flat.new_empty(room), moved.new_empty(room)  # fresh pages are slow
        mean, total = moved.new_zeros(2, r, k, 1)
        for columns, weight in blocks:
            size = (k * r, weight.shape[1])
            part = size[0] * size[1]
            rounded = torch.mm(flat, weight, out=product[:part].view(size))
            x = copy[:part].view(size).copy_(rounded).unflatten(0, (r, k))
            share = self._b[:, columns, None]
            if self._cap is None:
                mean += x @ share
            else:
                mean += x @ self._tilt[:, columns, None]
                x = self._at_base.changed_(x, columns)
                mean += x @ self._p[:, columns, None]
            total += x.exp_() @ share
        return (total.log() - mean)[..., 0].T

    @property
    def _width(self) -> int:
        """Columns of the unembedding that are multiplied at a time."""
        return min(_BLOCK.get(self._unembed.device.type, self._p.shape[1]), self._p.shape[1])

    def _bfloat16_blocks(self) -> list[tuple[slice, Tensor]]:
        if not self._blocks:
            n = self._unembed.shape[1]
            for start in range(0, n, self._width):
                columns = slice(start, min(start + self._width, n))
                block = self._unembed[:, columns].bfloat16().contiguous()
                self._blocks.append((columns, block))
        return self._blocks


class _Cap:
    """A soft cap on the logits of some rows, and what it makes of changes of them."""

    def __init__(self, cap: float, logits: Float[Tensor, "row vocab"]) -> None:
        self._size, self._logits, self._capped = cap, logits, soft_capped(logits, cap)

    @classmethod
    def of(cls, model: Transformer, normed: Float[Tensor, "row d_model"]) -> _Cap:
        """At the logits of these rows."""
        logits, bias = normed @ model.weights["unembed.W_U"], model.weights.get("unembed.b_U")
        return cls(model.config.logit_cap, logits if bias is None else logits + bias)

    def changed_(
        self, change: Float[Tensor, "row variant _vocab"], columns: slice = slice(None)
    ) -> Float[Tensor, "row variant _vocab"]:
        """Capped logits' change, from that of the logits before, which it takes the place of."""
        change.add_(self._logits[:, None, columns]).div_(self._size).tanh_()
        return change.mul_(self._size).sub_(self._capped[:, None, columns])

    def slope(self) -> Float[Tensor, "row vocab"]:
        """How capped logits move with those before the cap."""
        return 1 - (self._capped / self._size).square()
