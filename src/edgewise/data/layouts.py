"""The fields of a row, and which columns of other packages' files are read as which field.

EAP-IG (github.com/hannamw/EAP-IG) writes CSV with token ids in columns such as `correct_idx`;
without `incorrect_idx` beside it, it is a Greater-Than file, and the number is the last two digits
of a year. Edge Pruning (github.com/princeton-nlp/Edge-Pruning) marks what is predicted with
<predict>…</predict>, or has `prefix` and `corr_prefix` with a pronoun or the digits of a year, or
whole sentences. Feature Circuits (github.com/saprmarks/feature-circuits) has `clean_prefix` and
`patch_prefix`. AutoCircuit has our names; what its file says of all prompts is read in `files`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.data.rows import RowFault
from edgewise.errors import shortened

Values = dict[str, Any]  # of a row, by field


@dataclass(frozen=True)
class Field:
    """A column of ours: what it holds, its other names, and the field whose ids it gives, if so.

    The table in docs/data.md says the same (a test holds it).
    """

    holds: str
    other_names: tuple[str, ...] = ()
    ids_of: str = ""


FIELDS = {
    "clean": Field("the prompt: text, or a list of token ids"),
    "corrupted": Field("the corrupted prompt, as many tokens long", ("corrupt",)),
    "answers": Field("the right answer or several: text beside text, ids beside ids", ("answer",)),
    "answer_ids": Field("the same as token ids, whatever the prompts are", ids_of="answers"),
    "wrong": Field("wrong answers, likewise", ("wrong_answers", "wrong_answer")),
    "wrong_ids": Field("the same as token ids", ids_of="wrong"),
    "answer_positions": Field(
        "where the answer is read: an index or several; default: the last token",
        ("answer_position",),
    ),
    "spans": Field("named positions, see below"),
}


def value_of(field: str) -> str:
    """Which value of a prompt a field gives: both `answers` and `answer_ids` give answers."""
    return FIELDS[field].ids_of or field


@dataclass(frozen=True)
class Layout:
    """The columns that each field is read from, and what is done with a row then.

    `finish` makes the values in `makes`, or raises `RowFault`; a layout that `fits` is taken if any
    row does. `over` is a value of ours that the layout may stand beside; those in `without` are
    left out; columns in `unread` mean nothing to us.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    finish: Callable[[Values], Values] | None = None
    makes: tuple[str, ...] = ()
    fits: Callable[[Values], bool] | None = None
    over: str = ""
    without: frozenset[str] = frozenset()
    unread: tuple[str, ...] = ()

    @property
    def values(self) -> set[str]:
        """The values of a row that the layout gives."""
        return {*map(value_of, self.columns)} | {*self.makes}

    @property
    def sentence(self) -> str:
        """What the layout is called, and which columns it reads."""
        read = []
        for field, columns in self.columns.items():
            theirs = [shortened(column, 40) for column in columns]
            read.append(field if theirs == [field] else f"{field} from {', '.join(theirs)}")
        text = f"layout: {self.name} ({'; '.join(read)})"
        others = ", ".join(shortened(column, 40) for column in self.unread[:8])
        return f"{text}; not read: {others}{', …' if self.unread[8:] else ''}" if others else text


# --- Edge Pruning


def _is_marked(row: Values) -> bool:
    return isinstance(row.get("clean"), str) and "<predict>" in row["clean"]


def _predicted(row: Values) -> Values:
    """The prompt up to what is predicted, and that; nothing after it can be read before it."""
    if "answers" in row:
        raise RowFault("<predict> and a column both say what 'answers' is. Keep one.", "answers")
    if not _is_marked(row):
        raise RowFault("it has no <predict>, which other prompts have.", "clean")
    before, _, rest = row["clean"].partition("<predict>")
    word, close, _ = rest.partition("</predict>")
    if not close:
        raise RowFault("<predict> has no </predict> after it.", "clean")
    row |= {"clean": before, "answers": word}
    if isinstance(row.get("corrupted"), str):
        row["corrupted"] = row["corrupted"].partition("<predict>")[0]
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


def _has_ids(row: Values) -> bool:
    return isinstance(row.get("clean"), list)


def _asks_for_year(row: Values) -> bool:
    """Whether a prompt ends in the century of a year that it has, with the row's two digits."""
    clean, digits = row.get("clean"), str(row.get("answers")).zfill(2)
    if not isinstance(clean, str):
        return False
    century = re.search(r"(?<!\d)\d\d$", clean.rstrip())
    return century is not None and century[0] + digits in re.findall(r"(?<!\d)\d{4}(?!\d)", clean)


def _with_years(row: Values) -> Values:
    """Answers are the two digits of later years of the century, as text; wrong, all others."""
    if not _asks_for_year(row):
        raise RowFault(
            f"{row.get('answers')!r:.60} is not the last two digits of a year in the prompt whose "
            "century the prompt ends in, as in a Greater-Than file of EAP-IG. If it is a token id: "
            "--columns answer_ids=NAME.",
            "answers",
        )
    years, digits = [f"{year:02d}" for year in range(100)], int(row["answers"])
    if digits == 99:
        raise RowFault("no year of its century is after 99, so no answer is right.", "answers")
    return row | {"answers": years[digits + 1 :], "wrong": years[: digits + 1]}


def _of(package: str, columns: Mapping[str, str], **more: Any) -> Layout:
    return Layout(package, {field: (column,) for field, column in columns.items()}, **more)


_YEARS: Mapping[str, Any] = {"finish": _with_years, "makes": ("answers", "wrong")}
_LAST: Mapping[str, Any] = {"finish": _without_last_word, "makes": ("answers",)}
_MARKED: Mapping[str, Any] = {"finish": _predicted, "makes": ("answers",), "fits": _is_marked}
_PREFIXES = {"clean": "prefix", "corrupted": "corr_prefix"}
_PRONOUNS = {**_PREFIXES, "answers": "pronoun", "wrong": "corr_pronoun"}
_PATCHES = {"clean": "clean_prefix", "corrupted": "patch_prefix"}
FOREIGN = (  # the first that is there as a whole is taken
    _of("EAP-IG", {"answer_ids": "correct_idx", "wrong_ids": "incorrect_idx"}),
    _of(  # its words lack their spaces
        "EAP-IG",
        {"answer_ids": "answers_idx", "wrong_ids": "corrupted_answers_idx"},
        over="answers",
    ),
    _of("EAP-IG", {"answer_ids": "clean_answer_idx", "wrong_ids": "corrupted_answer_idx"}),
    _of("EAP-IG", {"answer_ids": "country_idx", "wrong_ids": "corrupted_country_idx"}),
    _of("EAP-IG", {"answer_ids": "correct_idx"}, fits=_has_ids),
    _of("EAP-IG Greater-Than", {"answers": "correct_idx"}, **_YEARS),
    _of("EAP-IG Greater-Than", {"answers": "label"}, **_YEARS, fits=_asks_for_year),
    _of("Edge Pruning", _PRONOUNS, finish=_with_spaces),
    _of("Edge Pruning", {**_PREFIXES, "answers": "digits"}, **_YEARS),
    _of("Edge Pruning", _PREFIXES),
    _of("Edge Pruning", {"clean": "text", "corrupted": "corr_text"}, **_LAST),
    _of("Edge Pruning", {"clean": "ioi_sentences", "corrupted": "corr_ioi_sentences"}, **_LAST),
    _of("Edge Pruning", {}, **_MARKED, over="answers"),
    _of("Feature Circuits", {**_PATCHES, "answers": "clean_answer", "wrong": "patch_answer"}),
)
