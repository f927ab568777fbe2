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
    corrupted: list[int] | None = None
    answers: list[AnswerTokens] | None = None
    wrong: list[AnswerTokens] | None = None
    answer_positions: list[int] | None = None
    spans: Mapping[str, list[int]] | None = None

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
            answer_positions=list(range(len(self.clean) - 1, len(self.clean) + len(before))),
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
    """Reads rows into pairs; `faults` collects what is wrong, one for a field of a row."""

    def __init__(self, table: RowTable, options: ReadingOptions, is_text: bool) -> None:
        self.texts = TextReader(options.tokenizer, table.source, bos=options.bos, chat=options.chat)
        self.faults = list(table.faults)
        self._is_text, self._right = is_text, options.padding == "right"
        self._width = table.width
        self._counted = 0  # tokens in which a file counts its spans

    def good_pairs(self, rows: Sequence[Row]) -> list[PromptPair]:
        """The pairs of the rows that have no fault."""
        prompts = [self._clean(row) for row in rows]
        self._width = max([self._width, *(len(prompt.ids) for prompt in prompts)])
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

    @contextmanager
    def _collecting(self, row: Row, column: str) -> Iterator[None]:
        """Add a `RowFault` of the block to the faults, and continue after the block."""
        try:
            yield
        except RowFault as reason:
            self.faults.append(Fault(reason.text, where=row.where, column=column))

    # --- one row

    def _clean(self, row: Row) -> Prompt:
        """The clean prompt; an empty one if it cannot be read."""
        with self._collecting(row, "clean"):
            return self._prompt("clean", row.values["clean"])
        return Prompt([])

    def _pair(self, row: Row, prompt: Prompt) -> PromptPair:
        """A row in token ids, as far as it can be read."""
        values = {"answer_positions": -1, **row.values}
        ids: dict[str, Any] = {}
        for field, read in (
            ("corrupted", self._corrupted),
            ("answers", self._answers),
            ("wrong", self._answers),
            ("answer_positions", self._answer_positions),
            ("spans", self._spans),
        ):
            if field in values:
                with self._collecting(row, field):
                    ids[field] = read(values[field], prompt)
        return PromptPair(row.where, prompt.ids, **ids)

    def _prompt(self, column: str, value: Any) -> Prompt:
        if not isinstance(value, str if self._is_text else list):
            kind = "text" if self._is_text else "token ids"
            raise RowFault(f"{column!r} is {value!r:.60}; most prompts are {kind}.")
        odd = [] if self._is_text else [token for token in value if whole(token) is None]
        if odd:
            raise RowFault(f"{column} has {odd[0]!r:.60}, which is not a token id.")
        prompt = self.texts.prompt(value) if isinstance(value, str) else Prompt(value)
        if not prompt.ids:
            raise RowFault(f"the {column} prompt is empty.")
        return prompt

    def _corrupted(self, value: Any, clean: Prompt) -> list[int]:
        ids, n = self._prompt("corrupted", value).ids, len(clean.ids)
        if n and n != len(ids):
            text = f"clean has {n} tokens, corrupted {len(ids)}."
            raise RowFault(f"{text} Pairs must have equal length.")
        return ids

    def _answers(self, value: Any, prompt: Prompt) -> list[AnswerTokens]:
        answers = [self.texts.answer(entry, prompt) for entry in _listed(value)]
        answers = [answer for answer in answers if answer != (NO_ANSWER,)]
        if not answers:
            raise RowFault("it is empty.")
        return answers

    def _answer_positions(self, value: Any, prompt: Prompt) -> list[int]:
        return self._positions(value, prompt, "answer position") if prompt.ids else []

    def _positions(self, value: Any, prompt: Prompt, noun: str) -> list[int]:
        """Positions among a prompt's own tokens: indices, from either end, or a mask."""
        n = len(prompt.ids)
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

    def _spans(self, value: Any, prompt: Prompt) -> Mapping[str, list[int]] | None:
        if not prompt.ids:
            return None
        if isinstance(value, SharedSpans):
            return self._shared_spans(value, prompt)
        # Arrow has None for a name that only other rows have.
        entries = value.items() if isinstance(value, Mapping) else ()
        named = {name: entry for name, entry in entries if entry is not None}
        if not named:
            raise RowFault(f"'spans' must map names to positions, not {value!r:.60}.")
        spans = {name: self._span(name, entry, prompt) for name, entry in named.items()}
        claimed = Counter(position for positions in spans.values() for position in positions)
        for position in sorted(position for position, n in claimed.items() if n > 1):
            both = " and ".join(repr(name) for name, at in spans.items() if position in at)
            raise RowFault(f"position {position} is in spans {both}; spans must not overlap.")
        return spans

    def _span(self, name: str, entry: Any, prompt: Prompt) -> list[int]:
        is_nth = isinstance(entry, list | tuple) and len(entry) == 2
        phrase, nth = entry if is_nth else (entry, None)
        try:
            if fault := name_fault(name):
                raise RowFault(fault)
            if isinstance(phrase, str):
                return self.texts.phrase(phrase, prompt, nth)
            return self._positions(entry, prompt, "position")
        except RowFault as reason:
            raise RowFault(f"span {name!r:.60}: {reason.text}") from reason

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
            for name in sorted(usual ^ {*(pair.spans or usual)}):
                text = f"it has {'no' if name in usual else 'a'} span {name!r:.60}, unlike most."
                self.faults.append(Fault(text, where=pair.where, column="spans"))


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
        "answer_at": mask(pair.answer_positions or [] for pair in pairs),
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
