"""Warnings about usable prompts (duplicates, BOS twice), and prompts that a model cannot take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    for where, ids in zip(labels, _token_ids(pairs), strict=True):
        clean, corrupted = ids["clean"], ids.get("corrupted")

        def warn(column: str, text: str, where: str = where) -> None:
            faults.append(Fault(text, where=where, column=column))

        if corrupted == clean:
            warn("corrupted", "it equals the clean prompt, so no edge can matter for it.")
        same = first.setdefault(tuple(sorted(ids.items())), where)
        if same != where:
            warn("clean", f"it is {same} again, and counts twice.")
        for token in sorted({*ids.get("answers", ())} & {*ids.get("wrong", ())}):
            name = str(token) if tokenizer is None else repr(tokenizer.decode([token]))
            warn("wrong", f"the token {name} is among the right answers too.")
        if bos is None:
            continue
        for column in ("clean", "corrupted"):
            if ids.get(column, ())[:2] == (bos, bos):
                warn(column, "it begins with the BOS token twice.")
        if corrupted is not None and (clean[0] == bos) != (corrupted[0] == bos):
            warn("corrupted", "only one of clean and corrupted begins with the BOS token.")
    return faults


def misfits(
    pairs: PromptPairs, labels: Sequence[str], *, n_tokens: int, n_outputs: int, n_ctx: int
) -> list[Fault]:
    """Prompts that a model cannot take: ids that it does not have, more tokens than positions."""
    faults: list[Fault] = []
    sizes = {"clean": n_tokens, "corrupted": n_tokens, "answers": n_outputs, "wrong": n_outputs}
    for where, columns in zip(labels, _token_ids(pairs), strict=True):
        length = len(columns["clean"])
        if length > n_ctx:
            text = f"it has {length} tokens; the model takes at most {n_ctx}."
            faults.append(Fault(text, where=where, column="clean"))
        for column, ids in columns.items():
            outside = [token for token in ids if not 0 <= token < sizes[column]]
            if outside:
                text = f"the token id {outside[0]}; the model knows 0 to {sizes[column] - 1}."
                faults.append(Fault(f"it has {text}", where=where, column=column))
    return faults


def _token_ids(pairs: PromptPairs) -> Iterator[dict[str, tuple[int, ...]]]:
    """Each pair's token ids by column, without padding; columns that there are."""
    for i in range(len(pairs)):
        ids: dict[str, tuple[int, ...]] = {}
        for column in ("clean", "corrupted", "answers", "wrong"):
            rows = getattr(pairs, column)
            if rows is not None:
                real = pairs.real[i] if column in ("clean", "corrupted") else rows[i] != NO_ANSWER
                ids[column] = tuple(rows[i][real].tolist())
        yield ids
