"""Prompt pairs: clean and corrupted prompts of equal length, and what the model should answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from edgewise.data.columns import Columns
from edgewise.data.files import table_of_file
from edgewise.data.reading import (
    NO_ANSWER,
    Padding,
    ReadingOptions,
    ReadingResult,
    read_rows,
    read_table,
)
from edgewise.data.rows import table_of_columns, table_of_rows
from edgewise.data.tokenizers import as_tokenizer
from edgewise.errors import Fault, ProblemError, SettingError, kinds_of
from edgewise.graph import REST

TokenRows = Int[Tensor, "batch pos"] | np.ndarray | Sequence[Sequence[int]]
Answers = (
    Int[Tensor, "batch"]
    | Int[Tensor, "batch _"]
    | np.ndarray
    | Sequence[int]
    | Sequence[Sequence[int]]
)


@dataclass(frozen=True, eq=False)
class PromptPairs:
    """Clean and corrupted prompts, and the answers at each prompt's answer positions.

    Make them with `from_tokens`, `from_text`, `from_file` or `from_dataset`. Prompts may differ in
    length from each other; a pair may not. Shorter prompts are padded on the side `padding` says;
    what a model computes at real positions does not depend on it. `spans` names positions: a mask
    per name, disjoint, each with at least one position in every prompt.
    """

    clean: Int[Tensor, "batch pos"]
    corrupted: Int[Tensor, "batch pos"] | None
    lengths: Int[Tensor, "batch"]
    answer_at: Bool[Tensor, "batch pos"]
    answers: Int[Tensor, "batch answer"] | None = None
    wrong: Int[Tensor, "batch wrong"] | None = None
    spans: Mapping[str, Bool[Tensor, "batch pos"]] | None = None
    padding: Padding = "right"
    source: str = "tokens"
    bos: bool | None = None  # whether texts were begun with BOS; None for token ids
    chat: bool = False  # whether texts are the user's turn in the tokenizer's chat template
    notes: tuple[str, ...] = ()  # what to know of the prompts before trusting a result
    whole_answers: bool = False  # answers are the tokens of one answer, one for each position
    left_out: tuple[Fault, ...] = ()  # what is wrong with rows that were left out

    def __post_init__(self) -> None:
        if self.spans is not None:
            object.__setattr__(self, "spans", MappingProxyType(dict(self.spans)))

    @classmethod
    def from_tokens(
        cls,
        clean: TokenRows,
        corrupted: TokenRows | None = None,
        *,
        answers: Answers | None = None,
        wrong: Answers | None = None,
        lengths: Sequence[int] | np.ndarray | Int[Tensor, "batch"] | None = None,
        answer_positions: Any = None,
        spans: Mapping[str, Any] | None = None,
        padding: Padding = "right",
        source: str = "tokens",
    ) -> PromptPairs:
        """Pairs from token ids: a [batch pos] tensor (padded, with `lengths`) or lists of ids.

        `answers` and `wrong`: an id per prompt, or several. `answer_positions`: where the answer is
        read, an index or several into each prompt's own tokens (negative counts from its end), or
        a [batch pos] mask; by default each prompt's last token. `spans` maps names to positions:
        one index for all prompts, a list with an index or several for each, or a [batch pos] mask.
        Raises `ProblemError` with every fault.
        """
        columns: dict[str, Any] = {"clean": clean, "corrupted": corrupted, "lengths": lengths}
        columns |= {"answers": answers, "wrong": wrong, "answer_positions": answer_positions}
        options = ReadingOptions(padding=padding)
        table = table_of_columns(source, columns, spans, right=padding == "right")
        return cls._of(read_rows(table, options, is_text=False), options, source)

    @classmethod
    def from_text(
        cls,
        clean: Sequence[str],
        corrupted: Sequence[str] | None = None,
        *,
        tokenizer: Any,
        answers: Sequence[str | int] | Sequence[Sequence[str | int]] | None = None,
        wrong: Sequence[str | int] | Sequence[Sequence[str | int]] | None = None,
        answer_positions: Any = None,
        spans: Mapping[str, Any] | None = None,
        bos: bool | None = None,
        chat: bool = False,
        padding: Padding = "right",
        source: str = "text",
    ) -> PromptPairs:
        """Pairs from text; answers are text (mind the leading space) or ids, one or several.

        `tokenizer` is a model, its tokenizer, or one of transformers. `bos` puts the tokenizer's
        beginning-of-sequence token before each prompt, or not; None, what the tokenizer does by
        itself. `chat` makes each prompt the user's turn in the tokenizer's chat template, which
        says itself where BOS is. `answer_positions` and `spans` count BOS and the template.
        A span may also be a phrase of each clean prompt: one that occurs once, or the phrase and
        which of its occurrences is meant, `("Jeffrey", 2)`; it is every token of the phrase.
        An answer of several tokens is scored by its first, unless a wrong one begins alike: then
        as a whole (`notes` says which). Raises `ProblemError` with every fault.
        """
        options = ReadingOptions(as_tokenizer(tokenizer), bos, chat, padding=padding)
        if options.tokenizer is None:
            raise ProblemError(source, ["prompts of text need a tokenizer; pass the model."])
        columns: dict[str, Any] = {"clean": clean, "corrupted": corrupted, "answers": answers}
        columns |= {"wrong": wrong, "answer_positions": answer_positions}
        table = table_of_columns(source, columns, spans, right=padding == "right")
        return cls._of(read_rows(table, options, is_text=True), options, source)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        tokenizer: Any = None,
        columns: Columns | None = None,
        bos: bool | None = None,
        chat: bool = False,
        padding: Padding = "right",
        faulty: str = "refuse",
    ) -> PromptPairs:
        """Pairs from a file of JSON lines, JSON (a list), CSV or Parquet.

        A row has `clean`, `corrupted`, `answers`, `wrong`, `answer_positions` and `spans`; all but
        `clean` may be missing throughout. `columns` says under which names it has them, None to
        leave one out: `{"clean": "prompt", "wrong": None}`. Prompts are text (then a model or
        tokenizer is needed) or lists of token ids; answers are of the prompts' kind, one or a list,
        or ids in `answer_ids` and `wrong_ids`. Files of EAP-IG, AutoCircuit, Edge Pruning and
        Feature Circuits are read as they are, where neither `columns` nor our names say what is
        what. Other columns are left alone, unless they look misspelt. Raises `FormatError`, or
        `ProblemError` with every fault and its line; `faulty="skip"` leaves out rows with faults,
        which `left_out` lists, and raises it if none is left.
        """
        options = ReadingOptions(as_tokenizer(tokenizer), bos, chat, columns, padding, faulty)
        table = table_of_file(Path(path))
        return cls._of(read_table(table, options), options, table.source)

    @classmethod
    def from_dataset(
        cls,
        dataset: Iterable[Any],
        *,
        tokenizer: Any = None,
        columns: Columns | None = None,
        bos: bool | None = None,
        chat: bool = False,
        padding: Padding = "right",
        faulty: str = "refuse",
        source: str = "dataset",
    ) -> PromptPairs:
        """Pairs from rows, each a mapping: a dataset of Hugging Face, or a list of dictionaries.

        Rows, `columns` and faults are those of `from_file`; a fault names its row, from 0.
        """
        options = ReadingOptions(as_tokenizer(tokenizer), bos, chat, columns, padding, faulty)
        return cls._of(read_table(table_of_rows(dataset, source), options), options, source)

    @classmethod
    def _of(cls, reading: ReadingResult, options: ReadingOptions, source: str) -> PromptPairs:
        faults = reading.faults
        is_skipping = options.faulty == "skip" and not any(fault.whole for fault in faults)
        if reading.fields is None or (faults and not is_skipping):
            raise ProblemError(source, faults)
        return cls(**reading.fields, source=source, left_out=faults)

    # --- looking

    @property
    def left_out_sentence(self) -> str:
        """How many rows of a file were left out, and why; empty if none was."""
        rows = {fault.where.partition(", column")[0] for fault in self.left_out}
        if not rows:
            return ""
        kinds = "\n".join(f"  {kind}" for kind in kinds_of(self.left_out))
        return f"{len(rows)} of {len(rows) + len(self)} prompts are left out:\n{kinds}"

    def __len__(self) -> int:
        return self.clean.shape[0]

    def __repr__(self) -> str:
        shortest, longest = int(self.lengths.min()), int(self.lengths.max())
        tokens = f"{longest}" if shortest == longest else f"{shortest} to {longest}"
        return f"PromptPairs({len(self)} of {tokens} tokens, {self.source})"

    @property
    def n_positions(self) -> int:
        """Positions in the padded batch: the longest prompt's length."""
        return self.clean.shape[1]

    @cached_property
    def real(self) -> Bool[Tensor, "batch pos"]:
        """True at tokens of a prompt, False at padding."""
        index = torch.arange(self.n_positions)
        if self.padding == "right":
            return index[None, :] < self.lengths[:, None]
        return index[None, :] >= (self.n_positions - self.lengths)[:, None]

    @property
    def answers_in_order(self) -> Int[Tensor, "row answer"] | None:
        """The right answers of each answer position, in the prompts' order."""
        prompt, _ = self.answer_at.nonzero(as_tuple=True)
        if self.answers is None or not self.whole_answers:
            return None if self.answers is None else self.answers[prompt]
        nth = self.answer_at.cumsum(dim=1)[self.answer_at] - 1
        return self.answers[prompt].gather(1, nth[:, None])

    @property
    def forced(self) -> Bool[Tensor, "batch pos"]:
        """Where a whole answer's own tokens stand in its prompt, given to predict the next."""
        later = self.answer_at & (self.answer_at.cumsum(dim=1) > 1)
        return later if self.whole_answers else torch.zeros_like(later)

    @cached_property
    def sha256(self) -> str:
        """A content hash: the same for equal pairs on every machine, whatever their padding."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            real = self.real[index]
            for rows in (self.clean, self.corrupted, self.answer_at):
                content = None if rows is None else rows[index][real].int().tolist()
                digest.update(str(content).encode())
            for rows in (self.answers, self.wrong):
                ids = None if rows is None else rows[index][rows[index] != NO_ANSWER].tolist()
                digest.update(str(ids).encode())
            if self.whole_answers:
                digest.update(b"whole")
            for name, mask in sorted((self.spans or {}).items()):
                positions = mask[index][real].nonzero().flatten().tolist()
                digest.update(f"{name!r}: {positions}".encode())
        return digest.hexdigest()

    def at_spans(self, names: Sequence[str] | None) -> Bool[Tensor, "span batch pos"]:
        """Where a graph's spans are; "rest" is every real position that is in no other of them.

        None, all positions together, is one span of all real positions.
        """
        if names is None:
            return self.real[None]
        nowhere = torch.zeros_like(self.real)
        masks = {name: (self.spans or {}).get(name, nowhere) for name in names if name != REST}
        taken = torch.stack([nowhere, *masks.values()]).any(dim=0)
        return torch.stack([masks.get(name, self.real & ~taken) for name in names])

    # --- new pairs from old

    def subset(self, start: int, stop: int) -> PromptPairs:
        """The pairs from `start` to before `stop`, padded as they were."""
        return self._rows(slice(start, stop))

    def taken(self, rows: Sequence[int]) -> PromptPairs:
        """The pairs of these rows in this order, padded as they were; a row may come twice.

        Raises `SettingError` for no rows, or one that is not there.
        """
        chosen = [int(row) for row in rows]
        if not chosen or not all(0 <= row < len(self) for row in chosen):
            raise SettingError(f"asked for {chosen!s:.60}; there are rows 0 to {len(self) - 1}.")
        return self._rows(chosen)

    def by_position(self) -> PromptPairs:
        """Every answer position as a pair of its own: a mean over prompts is then one over all
        answer positions, as in the original ACDC code, instead of one of each prompt's means.
        """
        prompt, position = self.answer_at.nonzero(as_tuple=True)
        rows = self._rows(prompt.tolist())
        single = torch.zeros_like(rows.answer_at)
        single[torch.arange(len(prompt)), position] = True
        return replace(rows, answer_at=single, answers=self.answers_in_order, whole_answers=False)

    def batches(self, size: int | None) -> tuple[PromptPairs, ...]:
        """These pairs in micro-batches of at most `size` prompts; None means one batch."""
        if size is not None and size < 1:
            raise SettingError(f"a batch of {size} prompts; it must be at least 1, or None.")
        step = len(self) if size is None else size
        return tuple(self.subset(i, min(i + step, len(self))) for i in range(0, len(self), step))

    def _rows(self, rows: slice | list[int]) -> PromptPairs:
        names = ("clean", "corrupted", "lengths", "answer_at", "answers", "wrong")
        values = {name: getattr(self, name) for name in names}
        chosen: dict[str, Any] = {k: v if v is None else v[rows] for k, v in values.items()}
        spans = None if self.spans is None else {k: mask[rows] for k, mask in self.spans.items()}
        return replace(self, **chosen, spans=spans)
