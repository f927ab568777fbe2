"""Answers of several tokens: their first token, where it tells right from wrong, else all of them.

A whole answer is put behind its prompt, all but the last token, and each of its tokens is an answer
where it is to be predicted: the mean log-probability of the answer is then the negative of `nll`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgewise.data.faults import Fault, Label
from edgewise.data.tokens import NO_ANSWER, AnswerTokens, Padding

Answers = list[list[AnswerTokens]]  # of each prompt


def begins_as_wrong(answers: Answers | None, wrong: Answers | None) -> list[int]:
    """The prompts that have a right answer whose first token is also that of another, wrong one."""
    if answers is None or wrong is None:
        return []
    return [
        i
        for i, (right, other) in enumerate(zip(answers, wrong, strict=False))
        if any(a[:1] == b[:1] and a != b for a in right for b in other)
    ]


def notes_of(answers: Answers | None, wrong: Answers | None, alike: Sequence[int]) -> list[str]:
    """What to know of answers with several tokens, as sentences."""
    if alike:
        prompts = "1 prompt has" if len(alike) == 1 else f"{len(alike)} prompts have"
        return [
            f"{prompts} a right answer that begins with the same token as a wrong one: whole "
            "answers are scored, by the mean log-probability of their tokens, and wrong answers "
            "are left out."
        ]
    several = [a for rows in (answers, wrong) for row in rows or () for a in row if len(a) > 1]
    if not several:
        return []
    example = f" (such as {several[0].text!r:.60})" if several[0].text else ""
    have = "1 answer has" if len(several) == 1 else f"{len(several)} answers have"
    return [f"{have} several tokens{example}; the first token of an answer is scored."]


def whole_answer_faults(
    answers: Answers, alike: Sequence[int], answer_positions: Any, label: Label
) -> list[str]:
    """Why whole answers cannot be scored."""
    faults: list[str] = []
    if answer_positions is not None:
        faults.append(
            "answers that begin with the same token as a wrong one are scored as a whole, at the "
            "prompt's end; leave answer_positions out."
        )
    for i, row in enumerate(answers):
        if len(row) > 1:
            text = (
                f"it has {len(row)} right answers; as {label(alike[0])} has one that begins with "
                "the same token as a wrong one, whole answers are scored, one for a prompt."
            )
            faults.append(Fault(text, where=label(i), column="answers"))
    return faults


def id_rows(answers: Answers | None, *, whole: bool = False) -> Tensor | None:
    """Ids [batch answer]: every answer's first token, once; or the tokens of the only answer."""
    if answers is None:
        return None
    # An answer given twice would count twice.
    rows = [list(row[0]) if whole else list(dict.fromkeys(a[0] for a in row)) for row in answers]
    width = max(len(row) for row in rows)
    padded = [row + [NO_ANSWER] * (width - len(row)) for row in rows]
    return torch.tensor(padded).reshape(len(rows), width)


def with_whole_answers(
    fields: dict[str, Any], answers: Answers, padding: Padding
) -> dict[str, Any]:
    """The fields of `PromptPairs`, with each prompt's answer behind it, but for its last token."""
    sizes = fields["lengths"].tolist()
    more = [row[0][:-1] for row in answers]
    lengths = [size + len(extra) for size, extra in zip(sizes, more, strict=True)]
    width = max(lengths)

    def grown(rows: Tensor | None, extra: Sequence[Sequence[int]]) -> Tensor | None:
        """Each prompt's own entries, more behind them, padded anew."""
        if rows is None:
            return None
        result = rows.new_zeros(len(rows), width)
        for i, (size, length) in enumerate(zip(sizes, lengths, strict=True)):
            own = rows[i, :size] if padding == "right" else rows[i, rows.shape[1] - size :]
            at = slice(0, length) if padding == "right" else slice(width - length, width)
            result[i, at] = torch.cat([own, rows.new_tensor(extra[i])])
        return result

    nowhere, everywhere = ([[value] * len(extra) for extra in more] for value in (0, 1))
    spans = fields["spans"]
    return fields | {
        "clean": grown(fields["clean"], more),
        "corrupted": grown(fields["corrupted"], more),
        "lengths": torch.tensor(lengths),
        "answer_at": grown(fields["answer_at"], everywhere),
        "answers": id_rows(answers, whole=True),
        "wrong": None,
        "spans": spans and {name: grown(mask, nowhere) for name, mask in spans.items()},
        "whole_answers": True,
    }
