"""The one pass from rows to pairs: every row is read and checked once, with all its faults.

1. Prompts become token ids: they are text or ids, as most of them are.
2. Each row's answers, answer positions and spans are read against its own prompt.
3. What only the rows together can tell: spans that some lack, answers that must be scored whole.
4. The rows without a fault are stacked into the fields of `PromptPairs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import Any, Literal

import torch
from torch import Tensor

from edgewise.data.columns import Columns, Layout, layout_of, named_rows
from edgewise.data.files import SharedSpans
from edgewise.data.rows import Mask, Row, RowFault, RowTable, in_order, whole
from edgewise.data.texts import AnswerTokens, Prompt, TextReader
from edgewise.data.tokenizers import Tokenizer
from edgewise.errors import Fault, ProblemError, SettingError
from edgewise.graph import name_fault

Padding = Literal["right", "left"]
NO_ANSWER = -1  # fills the rows of prompts that have fewer answers than others


@dataclass(frozen=True)
class ReadingOptions:
    """How prompts are read: by which tokenizer, begun how, from which columns.

    `faulty` says what is done with rows that have faults: "refuse" them all, or "skip" these.
    """

    tokenizer: Tokenizer | None = None
    bos: bool | None = None
    chat: bool = False
    columns: Columns | None = None
    padding: Padding = "right"
    faulty: str = "refuse"

    def __post_init__(self) -> None:
        for name, choices in (("padding", ("right", "left")), ("faulty", ("refuse", "skip"))):
            if getattr(self, name) not in choices:
                text = f"{name} is {getattr(self, name)!r:.60}; it must be"
                raise SettingError(f"{text} {' or '.join(map(repr, choices))}.")


@dataclass(frozen=True)
class ReadingResult:
    """What rows gave: the fields of `PromptPairs` of the good ones, and all faults.

    `labels` says where each good row stands; `fields` is None if there is no good row.
    """

    fields: dict[str, Any] | None
    labels: tuple[str, ...]
    faults: tuple[Fault, ...]
    layout: Layout


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
        both = product(self.answers or (), self.wrong or ())
        return any(right[0] == wrong[0] and right != wrong for right, wrong in both)

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
            answers=[(token,) for token in answer],
            wrong=None,
            answer_at=list(range(len(self.clean) - 1, len(self.clean) + len(before))),
        )


def read_table(table: RowTable, options: ReadingOptions) -> ReadingResult:
    """Read a file or a dataset. Raises `SettingError` for a column map that makes no sense."""
    layout = layout_of(table, options.columns)
    rows, faults = named_rows(table, layout)
    is_text = 2 * sum(isinstance(row.values["clean"], str) for row in rows) >= len(rows)
    refusal = ""
    if rows and is_text and options.tokenizer is None:
        refusal = "its prompts are text; pass the model's tokenizer."
    elif rows and not is_text and (options.bos or options.chat):
        refusal = f"its prompts are token ids; {'bos' if options.bos else 'chat'} is for text."
    if refusal:
        raise ProblemError(table.source, [refusal, *faults])
    named = replace(table, rows=tuple(rows), faults=tuple(faults))
    return read_rows(named, options, is_text=is_text, layout=layout)


def read_rows(
    table: RowTable, options: ReadingOptions, *, is_text: bool, layout: Layout | None = None
) -> ReadingResult:
    """Read rows under our names, whose prompts are text, or else token ids."""
    reader = _PairReader(table, options, is_text)
    pairs, texts = reader.good_pairs(table.rows), reader.texts
    fields = None
    if pairs:
        notes = _notes(pairs)
        whole_answers = any(pair.begins_as_wrong for pair in pairs)
        if whole_answers:
            pairs = [pair.with_whole_answer() for pair in pairs]
        width = max([0 if whole_answers else table.width, *(len(pair.clean) for pair in pairs)])
        fields = _stacked(pairs, width, options.padding == "right", whole_answers)
        fields |= {"padding": options.padding, "whole_answers": whole_answers, "notes": notes}
    if fields is not None and is_text:
        begins = options.chat and pairs[0].clean[:1] == [texts.tokenizer and texts.tokenizer.bos]
        fields |= {"bos": bool(texts.start) or begins, "chat": options.chat}
        fields["notes"] += texts.notes
    labels = tuple(pair.where for pair in pairs)
    faults = tuple(in_order(reader.faults))
    return ReadingResult(fields, labels, faults, layout or Layout("Edgewise", {}))


class _PairReader:
    """Reads rows into pairs; `faults` collects what is wrong."""

    def __init__(self, table: RowTable, options: ReadingOptions, is_text: bool) -> None:
        self.texts = TextReader(options.tokenizer, table.source, bos=options.bos, chat=options.chat)
        self.faults = list(table.faults)
        self._is_text, self._right = is_text, options.padding == "right"
        self._width = table.width
        self._counted = 0  # tokens in which a file counts its spans
        self._where = ""

    def good_pairs(self, rows: Sequence[Row]) -> list[PromptPair]:
        """The pairs of the rows that have no fault."""
        prompts = [self._prompt("clean", row) for row in rows]
        self._width = max([self._width, *(len(prompt.ids) for prompt in prompts if prompt)])
        pairs = [self._pair(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
        self._check_span_names(pairs)
        alike = next((pair.where for pair in self._good(pairs) if pair.begins_as_wrong), None)
        for row, pair in zip(rows, pairs, strict=True):
            several = len(pair.answers or ()) > 1 or "answer_positions" in row.values
            if alike is not None and several:
                text = (
                    f"as an answer of {alike} begins with the same token as a wrong one, whole "
                    "answers are scored: give a prompt one answer, and no answer_positions."
                )
                self.faults.append(Fault(text, where=row.where, column="answers"))
        return self._good(pairs)

    def _good(self, pairs: Sequence[PromptPair]) -> list[PromptPair]:
        bad = {fault.where for fault in self.faults}
        return [pair for pair in pairs if pair.where not in bad]

    def _add_fault(self, text: str, column: str) -> None:
        self.faults.append(Fault(text, where=self._where, column=column))

    @contextmanager
    def _collecting(self, column: str, prefix: str = "") -> Iterator[None]:
        """Add a `RowFault` of the block to the faults, and continue after the block."""
        try:
            yield
        except RowFault as reason:
            self._add_fault(prefix + reason.text, column)

    # --- one row

    def _prompt(self, column: str, row: Row) -> Prompt | None:
        self._where, value = row.where, row.values[column]
        with self._collecting(column):
            if self._is_text and isinstance(value, str):
                prompt = self.texts.prompt(value)
            elif not self._is_text and isinstance(value, list):
                odd = [entry for entry in value if whole(entry) is None]
                if odd:
                    raise RowFault(f"{column} has {odd[0]!r:.60}, which is not a token id.")
                prompt = Prompt(value)
            else:
                kind = "text" if self._is_text else "token ids"
                raise RowFault(f"{column!r} is {value!r:.60}; most prompts are {kind}.")
            if not prompt.ids:
                raise RowFault(f"the {column} prompt is empty.")
            return prompt
        return None

    def _pair(self, row: Row, clean: Prompt | None) -> PromptPair:
        """A row in token ids, as far as it can be read."""
        values = row.values
        corrupted = self._prompt("corrupted", row) if "corrupted" in values else None
        self._where = row.where
        prompt = clean or Prompt([])
        n = len(prompt.ids)
        if clean and corrupted and n != len(corrupted.ids):
            text = f"clean has {n} tokens, corrupted {len(corrupted.ids)}."
            self._add_fault(f"{text} Pairs must have equal length.", "corrupted")
        answer_at: list[int] = []
        spans = None
        if clean:
            with self._collecting("answer_positions"):
                at = values.get("answer_positions", -1)
                answer_at = self._positions(at, n, "answer position")
            with self._collecting("spans"):
                spans = self._spans(values["spans"], prompt) if "spans" in values else None
        return PromptPair(
            where=row.where,
            clean=prompt.ids,
            corrupted=None if corrupted is None else corrupted.ids,
            answers=self._answers("answers", row, prompt),
            wrong=self._answers("wrong", row, prompt),
            answer_at=answer_at,
            spans=spans,
        )

    def _answers(self, column: str, row: Row, prompt: Prompt) -> list[AnswerTokens] | None:
        if column not in row.values:
            return None
        answers, n_faults = [], len(self.faults)
        for entry in _listed(row.values[column]):
            with self._collecting(column):
                answers.append(self.texts.answer(entry, prompt))
        answers = [answer for answer in answers if answer != (NO_ANSWER,)]
        if not answers and len(self.faults) == n_faults:
            self._add_fault(f"{column} is empty.", column)
        return answers

    def _positions(self, value: Any, n: int, noun: str) -> list[int]:
        """Positions among a prompt's own `n` tokens: indices, from either end, or a mask."""
        if isinstance(value, Mask):
            if len(value) != self._width:
                text = f"the mask of {noun}s has {len(value)} entries for {self._width} positions."
                raise RowFault(text)
            start = 0 if self._right else self._width - n
            value = [k - start for k, chosen in enumerate(value) if chosen]
            if any(not 0 <= position < n for position in value):
                raise RowFault(f"padding is no {noun}.")
        positions = set()
        for entry in _listed(value):
            position = whole(entry)
            if position is None or not -n <= position < n:
                raise RowFault(f"{entry!r:.60} is no {noun} of its {n} tokens.")
            positions.add(position % n)
        if not positions:
            raise RowFault(f"it has no {noun}; every prompt must have one.")
        return sorted(positions)

    def _spans(self, value: Any, prompt: Prompt) -> Mapping[str, list[int]]:
        if isinstance(value, SharedSpans):
            return self._shared_spans(value, prompt)
        # Arrow has None for a name that only other rows have.
        entries = value.items() if isinstance(value, Mapping) else ()
        named = {name: entry for name, entry in entries if entry is not None}
        if not named:
            raise RowFault(f"'spans' must map names to positions, not {value!r:.60}.")
        spans: dict[str, list[int]] = {}
        for name, entry in named.items():
            fault = name_fault(name)
            if fault:
                self.faults += [] if fault in self.faults else [Fault(fault, column="spans")]
                continue
            spans[name] = []
            with self._collecting("spans", f"span {name!r:.60}: "):
                is_nth = isinstance(entry, list | tuple) and len(entry) == 2
                phrase, nth = entry if is_nth else (entry, None)
                if isinstance(phrase, str):
                    spans[name] = self.texts.phrase(phrase, prompt, nth)
                else:
                    spans[name] = self._positions(entry, len(prompt.ids), "position")
        claimed = Counter(position for positions in spans.values() for position in positions)
        for position in sorted(position for position, n in claimed.items() if n > 1):
            both = " and ".join(repr(name) for name, at in spans.items() if position in at)
            text = f"position {position} is in spans {both}; spans must not overlap."
            self._add_fault(text, "spans")
        return spans

    def _shared_spans(self, shared: SharedSpans, prompt: Prompt) -> Mapping[str, list[int]]:
        """Positions that AutoCircuit counted, without BOS, in prompts of one length."""
        if not shared.positions:
            raise RowFault("'word_idxs' must map names to positions, or 'seq_labels' list names.")
        if self.texts.chat:
            raise RowFault("its spans are positions of the bare prompt; drop chat, or them.")
        n = len(prompt.ids) - prompt.n_before
        self._counted = self._counted or shared.n_tokens or n
        positions = shared.positions.items()
        if n != self._counted or not all(0 <= k < n for _, indices in positions for k in indices):
            raise RowFault(
                f"it has {n} tokens; its file counts positions in {self._counted}, as another "
                'tokenizer does. Leave them out: columns={"spans": None}, --columns spans=.'
            )
        return {name: [k + prompt.n_before for k in indices] for name, indices in positions}

    # --- the rows together

    def _check_span_names(self, pairs: Sequence[PromptPair]) -> None:
        """Every prompt has the spans that most have."""
        names = Counter(frozenset(pair.spans) for pair in pairs if pair.spans)
        usual = names.most_common(1)[0][0] if names else frozenset()
        for pair in pairs:
            self._where = pair.where
            for name in sorted(usual ^ {*(pair.spans or usual)}):
                has = "no" if name in usual else "a"
                self._add_fault(f"it has {has} span {name!r:.60}, unlike most prompts.", "spans")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _stacked(
    pairs: Sequence[PromptPair], width: int, right: bool, whole_answers: bool
) -> dict[str, Any]:
    """The tensors of `PromptPairs` of pairs that have no fault."""

    def padded(rows: Iterable[list[int]]) -> Tensor:
        pads = ((row, [0] * (width - len(row))) for row in rows)  # any legal id: it is never read
        return torch.tensor([row + pad if right else pad + row for row, pad in pads])

    def mask(positions: Iterable[list[int]]) -> Tensor:
        rows = zip(positions, pairs, strict=True)
        return padded([int(k in at) for k in range(len(pair.clean))] for at, pair in rows).bool()

    def answers(column: str) -> Tensor | None:
        if getattr(pairs[0], column) is None:
            return None
        rows = [[answer[0] for answer in getattr(pair, column)] for pair in pairs]
        if not whole_answers:  # an answer given twice would count twice
            rows = [list(dict.fromkeys(row)) for row in rows]
        most = max(map(len, rows))
        return torch.tensor([row + [NO_ANSWER] * (most - len(row)) for row in rows])

    first = pairs[0]
    return {
        "clean": padded(pair.clean for pair in pairs),
        "corrupted": first.corrupted and padded(pair.corrupted or [] for pair in pairs),
        "lengths": torch.tensor([len(pair.clean) for pair in pairs]),
        "answer_at": mask(pair.answer_at for pair in pairs),
        "answers": answers("answers"),
        "wrong": answers("wrong"),
        "spans": first.spans
        and {name: mask((pair.spans or {})[name] for pair in pairs) for name in first.spans},
    }


def _notes(pairs: Sequence[PromptPair]) -> tuple[str, ...]:
    """What to know of answers with several tokens."""
    alike = [pair.where for pair in pairs if pair.begins_as_wrong]
    if alike:
        return (
            f"in {len(alike)} of {len(pairs)} prompts, such as {alike[0]}, a right answer begins "
            "with the same token as a wrong one: whole answers are scored, by the mean "
            "log-probability of their tokens, and wrong answers are left out.",
        )
    answers = [(pair.where, pair.answers or [], pair.wrong or []) for pair in pairs]
    several = [where for where, *both in answers if any(len(a) > 1 for a in chain(*both))]
    if not several:
        return ()
    in_prompts = f"in {len(several)} of {len(pairs)} prompts, such as {several[0]}"
    return (f"{in_prompts}, an answer has several tokens; the first is scored.",)
