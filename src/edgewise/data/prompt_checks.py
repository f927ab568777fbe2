"""Warnings about usable prompts (duplicates, BOS twice), and prompts that a model cannot take."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from edgewise.data.pairs import PromptPairs
from edgewise.data.reading import NO_ANSWER
from edgewise.data.tokenizers import Tokenizer
from edgewise.errors import Fault


def cautions(
    pairs: PromptPairs, labels: Sequence[str], tokenizer: Tokenizer | None = None
) -> list[Fault]:
    """Warnings about pairs, in their order; `labels` says where each stands."""
    faults = [Fault(note, column="answers") for note in pairs.notes]
    first: dict[object, str] = {}
    bos = None if tokenizer is None else tokenizer.bos
    for i, where in enumerate(labels):
        real = pairs.real[i]
        clean = tuple(pairs.clean[i][real].tolist())
        corrupted = None if pairs.corrupted is None else tuple(pairs.corrupted[i][real].tolist())
        right, wrong = _ids(pairs.answers, i), _ids(pairs.wrong, i)
        if corrupted == clean:
            text = "it equals the clean prompt, so no edge can matter for it."
            faults.append(Fault(text, where=where, column="corrupted"))
        same = first.setdefault((clean, corrupted, right, wrong), where)
        if same != where:
            text = f"it is {same} again, and counts twice."
            faults.append(Fault(text, where=where, column="clean"))
        for both in sorted(set(right) & set(wrong)):
            text = f"the token {_token(both, tokenizer)} is among the right answers too."
            faults.append(Fault(text, where=where, column="wrong"))
        for column, ids in (("clean", clean), ("corrupted", corrupted or clean)):
            if bos is not None and ids[:2] == (bos, bos):
                faults.append(
                    Fault("it begins with the BOS token twice.", where=where, column=column)
                )
        if corrupted is not None and bos is not None and (clean[0] == bos) != (corrupted[0] == bos):
            text = "only one of clean and corrupted begins with the BOS token."
            faults.append(Fault(text, where=where, column="corrupted"))
    return faults


def misfits(
    pairs: PromptPairs, labels: Sequence[str], *, n_tokens: int, n_outputs: int, n_ctx: int
) -> list[Fault]:
    """Prompts that a model cannot take: ids that it does not have, more tokens than positions."""
    faults: list[Fault] = []
    for i, where in enumerate(labels):
        real = pairs.real[i]
        length = int(pairs.lengths[i])
        if length > n_ctx:
            text = f"it has {length} tokens; the model takes at most {n_ctx}."
            faults.append(Fault(text, where=where, column="clean"))
        prompts = [("clean", pairs.clean)]
        prompts += [] if pairs.corrupted is None else [("corrupted", pairs.corrupted)]
        columns = [(name, rows[i][real].tolist(), n_tokens) for name, rows in prompts]
        columns += [
            ("answers", list(_ids(pairs.answers, i)), n_outputs),
            ("wrong", list(_ids(pairs.wrong, i)), n_outputs),
        ]
        for name, ids, n in columns:
            outside = [token for token in ids if not 0 <= token < n]
            if outside:
                text = f"it has the token id {outside[0]}; the model knows 0 to {n - 1}."
                faults.append(Fault(text, where=where, column=name))
    return faults


def _ids(rows: Tensor | None, i: int) -> tuple[int, ...]:
    return () if rows is None else tuple(v for v in rows[i].tolist() if v != NO_ANSWER)


def _token(token: int, tokenizer: Tokenizer | None) -> str:
    return str(token) if tokenizer is None else repr(tokenizer.decode([token]))
