"""How often the full model is right on prompts: what to know before looking for its circuit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.data import PromptPairs
from edgewise.data.tokenizers import WordTokenizer
from edgewise.metrics import METRICS, AnswerRows, Metric, check_finite
from edgewise.model.model import Model
from edgewise.patching.ablation import ablation_named
from edgewise.patching.evaluator import Evaluator, answer_rows

LOW = 0.8  # below this share of right prompts, a circuit for them explains much that is wrong
_BATCH = 16  # prompts at a time: what every node writes is kept while they run
_RULES = {
    "fraction-correct": "the best right answer beats the best wrong one",
    "accuracy": "the most likely token is a right answer",
    "next-token": "the most likely token is the prompt's own next one",
}


@dataclass(frozen=True, eq=False)
class Accuracy:
    """How often the full model is right on prompts.

    `metric` says what right means: fraction-correct where prompts have wrong answers, accuracy
    where they have right ones alone, next-token where the answer is read within the prompt, as in
    induction. `values` has the mean of that and other metrics for each prompt, `likeliest` each
    prompt's most likely token. `bos` is whether all prompts begin with BOS, or none does (None: the
    tokenizer has none, or some do), and `of_text` whether that was for us to choose. `other_bos` is
    the share under the other convention, where it was tried.
    """

    metric: str
    values: Mapping[str, Float[Tensor, "batch"]]
    likeliest: tuple[int, ...]
    bos: bool | None
    of_text: bool
    other_bos: float | None = None

    @property
    def share(self) -> float:
        """The share of prompts that are right, or of answer positions where they have several."""
        return self.values[self.metric].double().mean().item()

    @property
    def low(self) -> bool:
        """Whether a circuit for these prompts explains mistakes as much as the behaviour."""
        return self.share < LOW

    def __str__(self) -> str:
        text = (
            f"the full model is right on {self.share:.0%} of {len(self.likeliest)} prompts "
            f"({_RULES[self.metric]})"
        )
        if self.other_bos is not None:
            text += f"; {'without' if self.bos else 'with'} BOS: {self.other_bos:.0%}"
            text += f" (--{'no-' if self.bos else ''}bos)" if self.of_text else ""
        hint = ". Where it is wrong, a circuit explains mistakes" if self.low else ""
        return f"{text}{hint}."

    def to_json(self) -> dict[str, Any]:
        """The numbers, for records."""
        return {
            "share": self.share,
            "n_prompts": len(self.likeliest),
            "metric": self.metric,
            "rule": _RULES[self.metric],
            "bos": self.bos,
            "other_bos": self.other_bos,
        }


Rows = Iterable[tuple[PromptPairs, AnswerRows]]


def accuracy_of(model: Model, pairs: PromptPairs, kept: Rows | None = None) -> Accuracy | None:
    """How often the model is right on prompts; None without answers to judge it by.

    A forward pass, unless its clean logits are `kept`; another one, with BOS put before each prompt
    or taken away, where the share is below `LOW` (not in a chat: its template says where BOS is).
    Raises `MetricError`.
    """
    accuracy = plain_accuracy(model, pairs, kept)
    if accuracy is None or not accuracy.low or accuracy.bos is None or pairs.chat:
        return accuracy
    retried = _without_bos(pairs) if accuracy.bos else _with_bos(pairs, model)
    again = None if retried is None else plain_accuracy(model, retried)
    return replace(accuracy, other_bos=None if again is None else again.share)


def plain_accuracy(model: Model, pairs: PromptPairs, kept: Rows | None = None) -> Accuracy | None:
    """How often the model is right on prompts as they are begun. Raises `MetricError`."""
    metrics: list[Metric | None] = [METRICS["accuracy"]]
    if pairs.answers is None:
        inside = torch.zeros_like(pairs.answer_at)
        inside[:, :-1] = pairs.answer_at[:, :-1] & pairs.real[:, 1:]
        if not inside.any(dim=1).all() or not _predicts_tokens(model):
            return None
        pairs, kept, metrics = replace(pairs, answer_at=inside), None, [None]
    elif pairs.wrong is not None:
        metrics = [METRICS["fraction-correct"], METRICS["accuracy"], METRICS["logit-diff"]]
    values: dict[str, list[Tensor]] = {}
    likeliest: list[int] = []
    for batch, rows in _clean_rows(model, pairs) if kept is None else kept:
        for metric in metrics:
            known = metric or _next_token(batch)
            part = known.per_prompt(rows.clean_logits, rows, len(batch)).cpu()
            values.setdefault(known.name, []).append(part)
        last = torch.diff(rows.prompt, append=rows.prompt.new_full((1,), -1)) != 0
        likeliest += rows.clean_logits[last].argmax(dim=-1).tolist()
    whole = {name: torch.cat(parts) for name, parts in values.items()}
    name = next(iter(whole))
    check_finite(name, whole[name])
    begins = _begins_with_bos(model, pairs)
    return Accuracy(name, whole, tuple(likeliest), begins, of_text=pairs.bos is not None)


def _predicts_tokens(model: Model) -> bool:
    """Whether outputs are next tokens; those of compiled programs are not."""
    config = model.config
    return config.d_vocab == config.d_vocab_out and not isinstance(model.tokenizer, WordTokenizer)


def _next_token(pairs: PromptPairs) -> Metric:
    """Right where the most likely token is the one that the prompt goes on with."""
    following = pairs.clean.roll(-1, dims=1)[pairs.answer_at]

    def right(logits: Float[Tensor, "row vocab"], rows: AnswerRows) -> Float[Tensor, "row"]:
        return (logits.argmax(dim=-1) == following.to(logits.device)).to(logits.dtype)

    return Metric("next-token", "fraction", higher_is_better=True, function=right)


def _clean_rows(model: Model, pairs: PromptPairs) -> Iterator[tuple[PromptPairs, AnswerRows]]:
    """The model's logits at the answer positions, batch by batch."""
    zero = ablation_named("zero")  # nothing is ablated
    evaluator = Evaluator(model, pairs, METRICS["l2"], zero, model.graph, _BATCH)
    for batch in pairs.batches(_BATCH):
        yield batch, answer_rows(batch, evaluator.target_logits(batch))


def _begins_with_bos(model: Model, pairs: PromptPairs) -> bool | None:
    """Whether all prompts begin with the tokenizer's BOS, or none; None if neither."""
    bos = None if model.tokenizer is None else model.tokenizer.bos
    first = pairs.real.int().argmax(dim=1, keepdim=True)
    begins = {bool(token == bos) for token in pairs.clean.gather(1, first).flatten().tolist()}
    return begins.pop() if bos is not None and len(begins) == 1 else None


def _without_bos(pairs: PromptPairs) -> PromptPairs | None:
    """Prompts without their first token; None where an answer is read there."""
    cut = slice(1 if pairs.padding == "right" else 0, None)
    without = replace(
        pairs,
        clean=pairs.clean[:, cut],
        corrupted=None,
        answer_at=pairs.answer_at[:, cut],
        lengths=pairs.lengths - 1,
        spans=None,
    )
    return without if (without.answer_at & without.real).sum() == pairs.answer_at.sum() else None


def _with_bos(pairs: PromptPairs, model: Model) -> PromptPairs | None:
    """Prompts with BOS before them; None where the model cannot take them."""
    bos = None if model.tokenizer is None else model.tokenizer.bos
    config, width = model.config, pairs.n_positions + 1
    if bos is None or bos >= config.d_vocab or width > config.n_ctx:
        return None
    column = torch.zeros_like(pairs.clean[:, :1])
    clean = torch.cat([column, pairs.clean], dim=1)
    lengths = pairs.lengths + 1
    start = 0 if pairs.padding == "right" else width - lengths
    clean[torch.arange(len(pairs)), start] = bos
    answer_at = torch.cat([column.bool(), pairs.answer_at], dim=1)
    return replace(
        pairs, clean=clean, corrupted=None, answer_at=answer_at, lengths=lengths, spans=None
    )
