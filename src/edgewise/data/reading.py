"""The one pass from rows to pairs: every row is read and checked once, with all its faults.

1. Prompts become token ids: they are text or ids, as most of them are.
2. Each row's answers, answer positions and spans are read against its own prompt.
3. What only the rows together can tell: spans that some lack, answers that must be scored whole.
4. The rows without a fault are stacked into the fields of `PromptPairs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from edgewise.data.column_names import Columns, layout_of, named_rows
from edgewise.data.layouts import OWN, Layout
from edgewise.data.rows import Mask, Row, RowFault, RowTable, in_order, rows_of_columns, whole
from edgewise.data.texts import AnswerTokens, Prompt, TextReader
from edgewise.data.tokenizers import Tokenizer
from edgewise.errors import Fault, ProblemError
from edgewise.graph import name_fault

Padding = Literal["right", "left"]
NO_ANSWER = -1  # fills the rows of prompts that have fewer answers than others


@dataclass(frozen=True)
class PromptPair:
    """One prompt pair in token ids; positions count its own tokens, from the first."""

    where: str
    clean: list[int]
    corrupted: list[int] | None
    answers: list[AnswerTokens] | None
    wrong: list[AnswerTokens] | None
    answer_at: list[int]
    spans: Mapping[str, list[int]] | None

    @property
    def begins_as_wrong(self) -> bool:
        """Whether a right answer's first token is also that of another, wrong one."""
        return any(
            right[:1] == wrong[:1] and right != wrong
            for right in self.answers or ()
            for wrong in self.wrong or ()
        )

    def with_whole_answer(self) -> PromptPair:
        """The answer stands behind the prompt, but for its last token.

        Each of its tokens is an answer where it is to be predicted: the mean log-probability of
        the answer is then the negative of `nll`.
        """
        assert self.answers is not None
        (answer,) = self.answers
        before = list(answer[:-1])
        return replace(
            self,
            clean=self.clean + before,
            corrupted=None if self.corrupted is None else self.corrupted + before,
            answers=[AnswerTokens([token]) for token in answer],
            wrong=None,
            answer_at=list(range(len(self.clean) - 1, len(self.clean) + len(before))),
        )


@dataclass(frozen=True)
class ReadingResult:
    """What rows gave: the fields of `PromptPairs` of the good ones, and all faults.

    `labels` says where each good row stands; `fields` is None if there is no good row.
    """

    fields: dict[str, Any] | None
    labels: tuple[str, ...]
    faults: tuple[Fault, ...]
    layout: Layout


def read_table(
    table: RowTable,
    tokenizer: Tokenizer | None,
    *,
    bos: bool | None = None,
    chat: bool = False,
    columns: Columns | None = None,
    padding: Padding = "right",
) -> ReadingResult:
    """Read a file or a dataset. Raises `SettingError` for a column map that makes no sense."""
    faults = list(table.faults)
    layout = layout_of(table, columns, faults)
    rows = named_rows(table, layout, faults)
    is_text = 2 * sum(isinstance(row.values["clean"], str) for row in rows) >= len(rows)
    refusal = ""
    if rows and is_text and tokenizer is None:
        refusal = "its prompts are text; pass the model's tokenizer."
    elif rows and not is_text and (bos or chat):
        refusal = f"its prompts are token ids; {'bos' if bos else 'chat'} is for text. Drop it."
    if refusal:
        raise ProblemError(table.source, [refusal, *faults])
    reader = TextReader(tokenizer, table.source, bos=bos, chat=chat)
    return PairReader(reader, faults, is_text=is_text, padding=padding, layout=layout).read(rows)


def read_columns(
    columns: Mapping[str, Any],
    reader: TextReader,
    *,
    lengths: Any = None,
    padding: Padding = "right",
) -> ReadingResult:
    """Read columns, an entry for each prompt: of text if the reader has a tokenizer, else ids."""
    if padding not in ("right", "left"):
        fault = Fault(f"padding is {padding!r}; it must be 'right' or 'left'.")
        return ReadingResult(None, (), (fault,), OWN)
    faults: list[Fault] = []
    rows, width = rows_of_columns(columns, faults, lengths=lengths, right=padding == "right")
    is_text = reader.tokenizer is not None
    return PairReader(reader, faults, is_text=is_text, padding=padding, width=width).read(rows)


class PairReader:
    """Reads rows, whose values are under our names, into pairs; `faults` collects what is wrong."""

    def __init__(
        self,
        reader: TextReader,
        faults: list[Fault],
        *,
        is_text: bool,
        padding: Padding,
        width: int = 0,
        layout: Layout = OWN,
    ) -> None:
        self._reader, self._faults = reader, faults
        self._is_text, self._padding = is_text, padding
        self._least_width = width  # a batch padded by the user keeps its width, and positions in it
        self._width = width
        self._layout = layout
        self._n_positions = self._layout.n_positions
        self._where = ""

    def read(self, rows: Sequence[Row]) -> ReadingResult:
        """Read all rows; those with faults are left out of the fields."""
        prompts = [self._prompt("clean", row) for row in rows]
        self._width = max([self._width, *(len(prompt.ids) for prompt in prompts if prompt)])
        pairs = [self._pair(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
        self._check_span_names(pairs)
        if any(pair.begins_as_wrong for pair in self._good(pairs)):
            self._check_whole_answers(rows, self._good(pairs))
        good = self._good(pairs)
        fields = None
        if good:
            fields = _fields(good, self._padding, self._least_width)
        if fields is not None and self._is_text:
            fields["bos"] = self._reader.begins_with_bos(good[0].clean)
            fields["chat"] = self._reader.chat
            fields["notes"] = (*self._reader.notes, *fields["notes"])
        labels = tuple(pair.where for pair in good)
        return ReadingResult(fields, labels, tuple(in_order(self._faults)), self._layout)

    def _good(self, pairs: Sequence[PromptPair]) -> list[PromptPair]:
        bad = {fault.where for fault in self._faults}
        return [pair for pair in pairs if pair.where not in bad]

    def _add_fault(self, text: str, column: str) -> None:
        self._faults.append(Fault(text, where=self._where, column=column))

    @contextmanager
    def _collecting(self, column: str) -> Iterator[None]:
        """Add a `RowFault` of the block to the faults, and continue after the block."""
        try:
            yield
        except RowFault as reason:
            self._add_fault(reason.text, column)

    # --- one row

    def _prompt(self, column: str, row: Row) -> Prompt | None:
        self._where = row.where
        with self._collecting(column):
            return self._prompt_of(column, row.values[column])
        return None

    def _prompt_of(self, column: str, value: Any) -> Prompt:
        if self._is_text and isinstance(value, str):
            prompt = self._reader.prompt(value)
        elif not self._is_text and isinstance(value, list):
            odd = [v for v in value if whole(v) is None]
            if odd:
                raise RowFault(f"{column} has {odd[0]!r:.60}, which is not a token id.")
            prompt = Prompt(value)
        else:
            kind = "text" if self._is_text else "token ids"
            if column == "clean" and isinstance(value, str | list):
                raise RowFault(f"some prompts are text and some are token ids; most are {kind}.")
            raise RowFault(
                f"{column!r} must be {kind}, as the clean prompts are, not {value!r:.60}."
            )
        if column == "clean" and not prompt.ids:
            raise RowFault("the clean prompt is empty.")
        return prompt

    def _pair(self, row: Row, clean: Prompt | None) -> PromptPair:
        """A row in token ids, as far as it can be read."""
        corrupted = self._prompt("corrupted", row) if "corrupted" in row.values else None
        self._where = row.where
        prompt = clean or Prompt([])
        ids, n = prompt.ids, len(prompt.ids)
        if clean and corrupted and n != len(corrupted.ids):
            text = f"clean has {n} tokens, corrupted {len(corrupted.ids)}."
            self._add_fault(f"{text} Pairs must have equal length.", "corrupted")
        answer_at: list[int] = []
        if clean is not None:
            with self._collecting("answer_positions"):
                positions = row.values.get("answer_positions", -1)
                answer_at = self._positions(positions, n, "answer position")
        return PromptPair(
            where=row.where,
            clean=ids,
            corrupted=None if corrupted is None else corrupted.ids,
            answers=self._answers("answers", row, prompt),
            wrong=self._answers("wrong", row, prompt),
            answer_at=answer_at,
            spans=self._spans(row, clean),
        )

    def _answers(self, column: str, row: Row, prompt: Prompt) -> list[AnswerTokens] | None:
        if column not in row.values:
            return None
        value = row.values[column]
        several = value if isinstance(value, list) else [value]
        answers, n_faults = [], len(self._faults)
        for entry in several:
            with self._collecting(column):
                answers.append(self._reader.answer(entry, prompt, column))
        answers = [answer for answer in answers if answer != (NO_ANSWER,)]
        if not answers and len(self._faults) == n_faults:
            self._add_fault(f"{column} is empty.", column)
        return answers

    def _positions(self, value: Any, n: int, noun: str, of: str = "") -> list[int]:
        """Positions among a prompt's own `n` tokens: indices, from either end, or a mask."""
        positions: list[int] = []
        if isinstance(value, Mask):
            start = 0 if self._padding == "right" else self._width - n
            positions = [k - start for k, chosen in enumerate(value) if chosen]
            if len(value) != self._width:
                raise RowFault(
                    f"the mask of {noun}s{of} has {len(value)} entries for {self._width} positions."
                )
            if any(not 0 <= position < n for position in positions):
                raise RowFault(f"a padded place is no {noun}{of}.")
        for entry in [] if isinstance(value, Mask) else _listed(value):
            position = whole(entry)
            if position is None:
                raise RowFault(
                    f"{entry!r:.60} is no {noun}{of}; give indices, or a [batch pos] mask."
                )
            if not -n <= position < n:
                raise RowFault(f"{noun} {position}{of} is outside its {n} tokens.")
            positions.append(position % n)
        if not positions:
            raise RowFault(f"it has no {noun}{of}{'; every prompt must have one' if of else ''}.")
        return sorted(set(positions))

    def _spans(self, row: Row, prompt: Prompt | None) -> dict[str, list[int]] | None:
        if self._layout.spans and prompt is not None:
            return self._shared_spans(prompt)
        if "spans" not in row.values:
            return None
        value = row.values["spans"]
        # Arrow has None for a name that only other rows have.
        named = (
            {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else {}
        )
        if not named:
            self._add_fault(f"'spans' must map names to positions, not {value!r:.60}.", "spans")
        if prompt is None:
            return None
        spans = {name: self._span(name, entry, prompt) for name, entry in named.items()}
        claimed = Counter(position for positions in spans.values() for position in positions)
        for position in sorted(position for position, n in claimed.items() if n > 1):
            both = " and ".join(repr(name) for name, at in spans.items() if position in at)
            text = f"position {position} is in spans {both}; spans must not overlap."
            self._add_fault(text, "spans")
        return spans

    def _span(self, name: str, value: Any, prompt: Prompt) -> list[int]:
        fault = name_fault(name)
        if fault:
            self._faults += [] if fault in self._faults else [Fault(fault, column="spans")]
            return []
        phrase, nth = value if _is_nth(value) else (value, None)
        with self._collecting("spans"):
            if isinstance(phrase, str):
                return self._reader.phrase(phrase, prompt, name=name, nth=nth)
            return self._positions(value, len(prompt.ids), "position", f" of span {name!r}")
        return []

    def _shared_spans(self, prompt: Prompt) -> dict[str, list[int]]:
        """Positions that AutoCircuit counted, without BOS, in prompts of one length."""
        if self._reader.chat:
            text = "its spans are positions of the bare prompt; leave out chat or the spans."
            self._add_fault(text, "spans")
        n = len(prompt.ids) - prompt.n_before
        self._n_positions = self._n_positions or n
        if n != self._n_positions:
            text = (
                f"it has {n} tokens; its file counts positions in {self._n_positions}, as another "
                'tokenizer does. Leave them out: columns={"spans": None}, --columns spans=.'
            )
            self._add_fault(text, "spans")
        shared = self._layout.spans
        return {name: [k + prompt.n_before for k in places] for name, places in shared.items()}

    # --- the rows together

    def _check_span_names(self, pairs: Sequence[PromptPair]) -> None:
        """Every prompt has the spans that most have."""
        having = [pair for pair in pairs if pair.spans]
        names = Counter(tuple(sorted(pair.spans or ())) for pair in having).most_common(1)
        for pair in having:
            self._where = pair.where
            ((usual, n),) = names
            for name in sorted({*usual} ^ {*(pair.spans or ())}):
                has, have = ("no", "one") if name in usual else ("a", "other spans")
                text = f"it has {has} span {name!r:.60}; {n} of {len(pairs)} prompts have {have}."
                self._add_fault(text, "spans")

    def _check_whole_answers(self, rows: Sequence[Row], pairs: Sequence[PromptPair]) -> None:
        """Whole answers are scored where a wrong one begins alike: one answer, at the end."""
        first = next(pair.where for pair in pairs if pair.begins_as_wrong)
        if any("answer_positions" in row.values for row in rows):
            text = (
                "answers that begin with the same token as a wrong one are scored as a whole, at "
                "the prompt's end; leave answer_positions out."
            )
            self._faults.append(Fault(text))
        for pair in pairs:
            self._where = pair.where
            if len(pair.answers or ()) > 1:
                text = (
                    f"it has {len(pair.answers or ())} right answers; as {first} has one that "
                    "begins with the same token as a wrong one, whole answers are scored, one for "
                    "a prompt."
                )
                self._add_fault(text, "answers")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_nth(value: Any) -> bool:
    """Whether a span is a phrase and which of its occurrences is meant."""
    return isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], str)


def _fields(pairs: Sequence[PromptPair], padding: Padding, width: int) -> dict[str, Any]:
    """The fields of `PromptPairs` of pairs that have no fault."""
    n_alike = sum(pair.begins_as_wrong for pair in pairs)
    notes = _notes(pairs, n_alike)
    if n_alike:
        pairs, width = [pair.with_whole_answer() for pair in pairs], 0
    width = max([width, *(len(pair.clean) for pair in pairs)])

    def padded(rows: Sequence[list[int]]) -> Tensor:
        pads = [[0] * (width - len(row)) for row in rows]  # any legal id: it is never read
        both = zip(rows, pads, strict=True)
        return torch.tensor([r + p if padding == "right" else p + r for r, p in both])

    def mask(positions: Sequence[Sequence[int]]) -> Tensor:
        rows = [[0] * len(pair.clean) for pair in pairs]
        for row, chosen in zip(rows, positions, strict=True):
            for position in chosen:
                row[position] = 1
        return padded(rows).bool()

    def answers(rows: Sequence[Sequence[AnswerTokens]]) -> Tensor:
        firsts = [[answer[0] for answer in row] for row in rows]
        # An answer given twice would count twice.
        kept = firsts if n_alike else [list(dict.fromkeys(row)) for row in firsts]
        most = max(map(len, kept))
        return torch.tensor([row + [NO_ANSWER] * (most - len(row)) for row in kept])

    first = pairs[0]
    return {
        "clean": padded([pair.clean for pair in pairs]),
        "corrupted": first.corrupted and padded([pair.corrupted or [] for pair in pairs]),
        "lengths": torch.tensor([len(pair.clean) for pair in pairs]),
        "answer_at": mask([pair.answer_at for pair in pairs]),
        "answers": first.answers and answers([pair.answers or [] for pair in pairs]),
        "wrong": first.wrong and answers([pair.wrong or [] for pair in pairs]),
        "spans": first.spans
        and {name: mask([(pair.spans or {})[name] for pair in pairs]) for name in first.spans},
        "notes": notes,
        "whole_answers": bool(n_alike),
    }


def _notes(pairs: Sequence[PromptPair], n_alike: int) -> tuple[str, ...]:
    """What to know of answers with several tokens."""
    if n_alike:
        prompts = "1 prompt has" if n_alike == 1 else f"{n_alike} prompts have"
        return (
            f"{prompts} a right answer that begins with the same token as a wrong one: whole "
            "answers are scored, by the mean log-probability of their tokens, and wrong answers "
            "are left out.",
        )
    rows = [
        row
        for column in ("answers", "wrong")
        for pair in pairs
        for row in getattr(pair, column) or ()
    ]
    several = [answer for answer in rows if len(answer) > 1]
    if not several:
        return ()
    example = f" (such as {several[0].text!r:.60})" if several[0].text else ""
    have = "1 answer has" if len(several) == 1 else f"{len(several)} answers have"
    return (f"{have} several tokens{example}; the first token of an answer is scored.",)
