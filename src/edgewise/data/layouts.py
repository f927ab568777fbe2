"""Which columns of a file are read as what: one layout for the whole file.

Edgewise's own names, and the layouts of other packages' files. EAP-IG (github.com/hannamw/EAP-IG)
writes CSV with token ids in columns such as `correct_idx`; without `incorrect_idx` beside it, it is
a Greater-Than file, and the number is the last two digits of a year. Edge Pruning
(github.com/princeton-nlp/Edge-Pruning) marks what is predicted with <predict>…</predict>, or has
`prefix` and `corr_prefix` with a pronoun or the digits of a year, or whole sentences. Feature
Circuits (github.com/saprmarks/feature-circuits) has `clean_prefix` and `patch_prefix`. AutoCircuit
(github.com/UFO-101/auto-circuit) writes an object with `prompts`, and names positions in
`word_idxs`, or all of them in `seq_labels`, counted without BOS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgewise.data.rows import RowFault, whole
from edgewise.errors import shortened
from edgewise.graph import name_fault

SPELLINGS = {  # our name for a column: the spellings it is read from
    "clean": ("clean",),
    "corrupted": ("corrupted", "corrupt"),
    "answers": ("answers", "answer", "answer_ids"),
    "wrong": ("wrong", "wrong_answers", "wrong_answer", "wrong_ids"),
    "answer_positions": ("answer_positions", "answer_position"),
    "spans": ("spans",),
}
ID_SPELLINGS = ("answer_ids", "wrong_ids")  # of token ids, whatever the prompts are
Values = dict[str, Any]  # of a row, under our names


@dataclass(frozen=True)
class Layout:
    """The columns that each of our names is read from, and what is done with a row then.

    `ids` are our columns that hold token ids whatever the prompts are. `finish` makes the columns
    in `makes`, or raises `RowFault`; a layout that `fits` is taken if any row does. `over` are our
    own names that the layout may stand beside. `spans` and `n_positions` hold for every prompt.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    ids: frozenset[str] = frozenset()
    finish: Callable[[Values], Values] | None = None
    makes: frozenset[str] = frozenset()
    fits: Callable[[Values], bool] | None = None
    over: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()  # our names that are left out
    spans: Mapping[str, list[int]] = field(default_factory=dict)
    n_positions: int = 0  # 0: not known
    unread: tuple[str, ...] = ()  # columns that mean nothing to us

    @property
    def sentence(self) -> str:
        """What the layout is called, and which columns it reads."""
        read = []
        for name, columns in self.columns.items():
            theirs = [shortened(column, 40) for column in columns]
            read.append(name if theirs == [name] else f"{name} from {', '.join(theirs)}")
        read += ["spans of all prompts"] if self.spans else []
        text = f"layout: {self.name} ({'; '.join(read)})"
        others = ", ".join(shortened(column, 40) for column in self.unread[:8])
        return f"{text}; not read: {others}{', …' if self.unread[8:] else ''}" if others else text


OWN = Layout("Edgewise", {})


# --- Edge Pruning

_OPEN, _CLOSE = "<predict>", "</predict>"


def _is_marked(row: Values) -> bool:
    return isinstance(row.get("clean"), str) and _OPEN in row["clean"]


def _predicted(row: Values) -> Values:
    """The prompt up to what is predicted, and that; nothing after it can be read before it."""
    if "answers" in row:
        raise RowFault(f"{_OPEN} and a column both say what 'answers' is. Keep one.", "answers")
    if not _is_marked(row):
        raise RowFault(f"it has no {_OPEN}, which other prompts have.", "clean")
    before, _, rest = row["clean"].partition(_OPEN)
    word, close, _ = rest.partition(_CLOSE)
    if not close:
        raise RowFault(f"{_OPEN} has no {_CLOSE} after it.", "clean")
    row |= {"clean": before, "answers": word}
    if isinstance(row.get("corrupted"), str):
        row["corrupted"] = row["corrupted"].partition(_OPEN)[0]
    return row


def _without_last_word(row: Values) -> Values:
    """The last word of the clean sentence is the answer."""
    for name in ("corrupted", "clean"):
        if isinstance(row.get(name), str):
            row[name], space, word = row[name].rpartition(" ")
            row["answers"] = space + word
    return row


def _with_spaces(row: Values) -> Values:
    return row | {name: f" {row[name]}" for name in ("answers", "wrong") if name in row}


# --- Greater-Than: the last two digits of a year stand for all years after it, and up to it


def _digits(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 3 else None
    number = whole(value)
    return number if number is not None and 0 <= number < 100 else None


def _asks_for_year(row: Values) -> bool:
    """Whether a prompt ends in the century of a year that it has, with the row's two digits."""
    clean, digits = row.get("clean"), _digits(row.get("answers"))
    if not isinstance(clean, str) or digits is None:
        return False
    century = re.search(r"(?<!\d)\d\d$", clean.rstrip())
    years = re.findall(r"(?<!\d)\d{4}(?!\d)", clean)
    return century is not None and f"{century[0]}{digits:02d}" in years


def _is_text(row: Values) -> bool:
    return isinstance(row.get("clean"), str)


def _with_years(row: Values) -> Values:
    """Answers are the two digits of later years of the century, as text; wrong, all others."""
    digits = _digits(row.get("answers"))
    if digits is None or not _asks_for_year(row):
        text = (
            f"{row.get('answers')!r:.60} is not the last two digits of a year in the prompt whose "
            "century the prompt ends in, as in a Greater-Than file of EAP-IG. If it is a token id: "
            "--columns answer_ids=NAME."
        )
        raise RowFault(text, "answers")
    if digits == 99:
        raise RowFault("no year of its century is after 99, so no answer is right.", "answers")
    years = [f"{year:02d}" for year in range(100)]
    return row | {"answers": years[digits + 1 :], "wrong": years[: digits + 1]}


def _of_ids(right: str, wrong: str, *over: str) -> Layout:
    columns = {"answers": (right,), "wrong": (wrong,)}
    return Layout("EAP-IG", columns, ids=frozenset(columns), over=frozenset(over))


def _sentences(clean: str) -> Layout:
    columns = {"clean": (clean,), "corrupted": (f"corr_{clean}",)}
    return Layout("Edge Pruning", columns, finish=_without_last_word, makes=frozenset({"answers"}))


_PREFIXES = {"clean": ("prefix",), "corrupted": ("corr_prefix",)}
_PRONOUNS = {"answers": ("pronoun",), "wrong": ("corr_pronoun",)}
_PATCHES = {"clean": ("clean_prefix",), "corrupted": ("patch_prefix",)}
_ANSWERS, _BOTH = frozenset({"answers"}), frozenset({"answers", "wrong"})
FOREIGN = (  # the first that is there as a whole is taken
    _of_ids("correct_idx", "incorrect_idx"),
    _of_ids("answers_idx", "corrupted_answers_idx", "answers"),  # words without their spaces
    _of_ids("clean_answer_idx", "corrupted_answer_idx"),
    _of_ids("country_idx", "corrupted_country_idx"),
    *(
        Layout("EAP-IG Greater-Than", {"answers": (name,)}, finish=_with_years, makes=_BOTH, fits=f)
        for name, f in (("correct_idx", _is_text), ("label", _asks_for_year))
    ),
    Layout("EAP-IG", {"answers": ("correct_idx",)}, ids=_ANSWERS),
    Layout("Edge Pruning", {**_PREFIXES, **_PRONOUNS}, finish=_with_spaces),
    Layout("Edge Pruning", {**_PREFIXES, "answers": ("digits",)}, finish=_with_years, makes=_BOTH),
    Layout("Edge Pruning", _PREFIXES),
    _sentences("text"),
    _sentences("ioi_sentences"),
    Layout("Edge Pruning", {}, finish=_predicted, makes=_ANSWERS, fits=_is_marked, over=_ANSWERS),
    Layout(
        "Feature Circuits",
        {**_PATCHES, "answers": ("clean_answer",), "wrong": ("patch_answer",)},
    ),
)


# --- AutoCircuit: positions that hold for every prompt


def shared_spans(facts: Mapping[str, Any]) -> tuple[dict[str, list[int]], int]:
    """Spans by `word_idxs`, or else `seq_labels`, and how many tokens they were counted in.

    Names of the same position become one, joined with "=". Raises `RowFault`.
    """
    words, labels = facts.get("word_idxs"), facts.get("seq_labels")
    if labels is not None and not _are_texts(labels):
        raise RowFault("'seq_labels' must be a list of texts.", "seq_labels")
    if words is not None and not (
        isinstance(words, dict) and all(whole(v) is not None for v in words.values())
    ):
        raise RowFault("'word_idxs' must map names to positions.", "word_idxs")
    named: dict[int, list[str]] = {}
    for position, name in enumerate(labels or ()) if words is None else _turned(words):
        named.setdefault(position, []).append(_name(name, position))
    spans: dict[str, list[int]] = {}
    for position, names in named.items():
        spans.setdefault("=".join(names), []).append(position)
    end = next((place + 1 for place, name in _turned(words or {}) if name.lower() == "end"), 0)
    return spans, len(labels) if labels else end


def _turned(words: Mapping[str, int]) -> list[tuple[int, str]]:
    return [(position, name) for name, position in words.items()]


def _are_texts(labels: Any) -> bool:
    return isinstance(labels, list) and all(isinstance(label, str) for label in labels)


def _name(name: str, position: int) -> str:
    """A name that edges can hold."""
    clean = re.sub(r"->|[\[\]<>@|,:]|[^\S ]", "_", name.strip())
    return clean if clean and name_fault(clean) is None else f"position{position}"
