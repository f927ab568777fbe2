"""What may be wrong with prompts that can be used: duplicates, BOS twice, answers nobody gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.data.faults import Fault
from edgewise.data.pairs import PromptPairs
from edgewise.data.tokens import NO_ANSWER, Tokenizer


def doubts(
    pairs: PromptPairs, labels: Sequence[str], tokenizer: Tokenizer | None = None
) -> list[Fault]:
    """Warnings about pairs, in their order; `labels` says where each stands."""
    found: list[Fault] = []
    first: dict[object, str] = {}
    bos = None if tokenizer is None else tokenizer.bos
    for i, where in enumerate(labels):
        at = pairs.real[i]
        clean = tuple(pairs.clean[i][at].tolist())
        corrupted = None if pairs.corrupted is None else tuple(pairs.corrupted[i][at].tolist())
        right, wrong = _ids(pairs.answers, i), _ids(pairs.wrong, i)
        if corrupted == clean:
            text = "it equals the clean prompt, so no edge can matter for it."
            found.append(Fault(text, where=where, column="corrupted"))
        same = first.setdefault((clean, corrupted, right, wrong), where)
        if same != where:
            text = f"it is {same} again, and counts twice."
            found.append(Fault(text, where=where, column="clean"))
        for both in sorted(set(right) & set(wrong)):
            text = f"the token {_token(both, tokenizer)} is among the right answers too."
            found.append(Fault(text, where=where, column="wrong"))
        for column, ids in (("clean", clean), ("corrupted", corrupted or clean)):
            if bos is not None and ids[:2] == (bos, bos):
                found.append(
                    Fault("it begins with the BOS token twice.", where=where, column=column)
                )
        if corrupted is not None and bos is not None and (clean[0] == bos) != (corrupted[0] == bos):
            text = "only one of clean and corrupted begins with the BOS token."
            found.append(Fault(text, where=where, column="corrupted"))
    return found


def misfits(
    pairs: PromptPairs, labels: Sequence[str], *, n_tokens: int, n_outputs: int, n_ctx: int
) -> list[Fault]:
    """Prompts that a model cannot take: ids that it does not have, more tokens than positions."""
    found: list[Fault] = []
    for i, where in enumerate(labels):
        at = pairs.real[i]
        length = int(pairs.lengths[i])
        if length > n_ctx:
            text = f"it has {length} tokens; the model takes at most {n_ctx}."
            found.append(Fault(text, where=where, column="clean"))
        prompts = [("clean", pairs.clean)]
        prompts += [] if pairs.corrupted is None else [("corrupted", pairs.corrupted)]
        columns = [(name, rows[i][at].tolist(), n_tokens) for name, rows in prompts]
        columns += [
            ("answers", list(_ids(pairs.answers, i)), n_outputs),
            ("wrong", list(_ids(pairs.wrong, i)), n_outputs),
        ]
        for name, ids, n in columns:
            outside = [token for token in ids if not 0 <= token < n]
            if outside:
                text = f"it has the token id {outside[0]}; the model knows 0 to {n - 1}."
                found.append(Fault(text, where=where, column=name))
    return found


@dataclass(frozen=True)
class Answered:
    """How a model answers prompts. Logits are at each prompt's last answer position.

    `correct`: the most likely token is a right answer. `prefers`: the best right answer beats the
    best wrong one; `difference`: mean right logit minus mean wrong one. Both are None without
    wrong answers.
    """

    likeliest: Sequence[int]
    correct: Sequence[bool]
    prefers: Sequence[bool] | None
    difference: Sequence[float] | None


def answered(pairs: PromptPairs, logits: Float[Tensor, "batch vocab"]) -> Answered | None:
    """Judge the logits at each prompt's last answer position; None if pairs have no answers."""
    if pairs.answers is None:
        return None
    likeliest = logits.argmax(dim=-1).tolist()
    correct, prefers, difference = [], [], []
    for i, token in enumerate(likeliest):
        right, wrong = list(_ids(pairs.answers, i)), list(_ids(pairs.wrong, i))
        correct.append(token in right)
        if wrong:
            row = logits[i].double()
            prefers.append(bool(row[right].max() > row[wrong].max()))
            difference.append((row[right].mean() - row[wrong].mean()).item())
    if pairs.wrong is None:
        return Answered(likeliest, correct, None, None)
    return Answered(likeliest, correct, prefers, difference)


def errors_of_model(
    pairs: PromptPairs, labels: Sequence[str], judged: Answered, tokenizer: Tokenizer | None
) -> list[Fault]:
    """Prompts that the model itself gets wrong: a circuit for them explains an error."""
    found = []
    verdicts = judged.correct if judged.prefers is None else judged.prefers
    for i, right in enumerate(verdicts):
        if right:
            continue
        text = f"the model's own answer is {_token(judged.likeliest[i], tokenizer)}"
        if judged.prefers is not None:
            text += ", and it prefers a wrong answer to the right one"
        found.append(Fault(f"{text}.", where=labels[i], column="answers"))
    return found


def last_answer_logits(
    pairs: PromptPairs, logits: Float[Tensor, "batch pos vocab"]
) -> Float[Tensor, "batch vocab"]:
    """The logits at each prompt's last answer position."""
    index = torch.arange(pairs.n_positions)
    last = torch.where(pairs.answer_at, index, -1).amax(dim=1).to(logits.device)
    return logits[torch.arange(len(pairs), device=logits.device), last]


def _ids(rows: Tensor | None, i: int) -> tuple[int, ...]:
    return () if rows is None else tuple(v for v in rows[i].tolist() if v != NO_ANSWER)


def _token(token: int, tokenizer: Tokenizer | None) -> str:
    return str(token) if tokenizer is None else repr(tokenizer.decode([token]))
