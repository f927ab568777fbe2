"""How often a model is right on prompts that its training kept out (see `corpus.py`)."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from itertools import islice
from random import Random
from typing import Any

import torch
from torch import Tensor

from edgewise.model import Model
from edgewise.tasks.language import BEHAVIOURS, Example
from training.corpus import task_examples

TASKS = tuple(BEHAVIOURS)


def measure(model: Model, task: str, n: int, *, seed: int = 0, bos: bool = False) -> dict[str, Any]:
    """Accuracies on `n` held-out prompts of the test split.

    `accuracy`: the share of answers where the right tokens together are likelier than the wrong
    ones together (with no wrong ones named: than any other token). `first`: where a right token is
    the likeliest of the whole vocabulary. `chance`: `accuracy` of a model that makes no difference
    between right and wrong tokens, in expectation.
    """
    examples = _prompts(task, n, seed)
    right, first, chance, asked = 0.0, 0.0, 0.0, 0
    for example, logits in zip(examples, _answer_logits(model, examples, bos), strict=True):
        for row, answers, wrong in _questions(model, example, logits):
            probabilities = row.softmax(dim=-1)
            best = int(row.argmax())
            first += best in answers
            if wrong:
                right += bool(probabilities[answers].sum() > probabilities[wrong].sum())
                chance += len(answers) / (len(answers) + len(wrong))
            else:
                right += best in answers
                chance += len(answers) / len(row)
            asked += 1
    return {
        "accuracy": round(right / asked, 4),
        "first": round(first / asked, 4),
        "chance": round(chance / asked, 4),
        "prompts": len(examples),
        "answers": asked,
    }


@cache  # several models are measured on the same prompts
def _prompts(task: str, n: int, seed: int) -> tuple[Example, ...]:
    return tuple(islice(task_examples(task, Random(seed), "test", held_out=True), n))


def _questions(
    model: Model, example: Example, logits: Tensor
) -> list[tuple[Tensor, list[int], list[int]]]:
    """For each place where an answer is read: logits, right and wrong token ids."""
    assert model.tokenizer is not None
    ids = [model.tokenizer.encode(word)[0] for word in example.answers]
    wrong = [model.tokenizer.encode(word)[0] for word in example.wrong]
    if len(example.answer_at) == 1:
        return [(logits[0], ids, wrong)]
    return [(row, [answer], wrong) for row, answer in zip(logits, ids, strict=True)]


@torch.no_grad()
def _answer_logits(model: Model, examples: tuple[Example, ...], bos: bool) -> list[Tensor]:
    """The logits [answer vocab] at every example's `answer_at`, prompts of a length together."""
    assert model.tokenizer is not None
    start = [model.tokenizer.bos] if bos else []
    rows = [[*start, *model.tokenizer.encode(example.clean)] for example in examples]
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        by_length[len(row)].append(i)
    found: dict[int, Tensor] = {}
    for which in by_length.values():
        logits = model(torch.tensor([rows[i] for i in which]))
        for i, row in zip(which, logits, strict=True):
            found[i] = row[[len(start) + at for at in examples[i].answer_at]]
    return [found[i] for i in range(len(examples))]
