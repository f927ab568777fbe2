"""Tokenizers whose tokens are plain to see, and what pairs say in their words."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgewise.data import PromptPairs
from edgewise.data.tokenizers import SpacedWordTokenizer
from language_models import LongestWord


def letters() -> LongestWord:
    """`<bos>` is 0, a, b and c are 1 to 3, " yes" and " no" 4 and 5."""
    tokenizer = LongestWord(["<bos>", "a", "b", "c", " yes", " no"])
    tokenizer.words = tokenizer.words[1:]
    return tokenizer


class Growing(SpacedWordTokenizer):
    """Cut as GPT-2 cuts, digits in twos; a word that is new becomes a token."""

    def __init__(self) -> None:
        super().__init__(["<bos>"], bos=0)

    def encode(self, text: str) -> list[int]:
        for word in self._cut(text):
            self._ids.setdefault(word, len(self._ids))
        self.words = tuple(self._ids)
        return super().encode(text)


def positions(pairs: PromptPairs, span: str | None = None) -> list[list[int]]:
    """Where each padded row has a span; without one, where the answer is read."""
    mask = pairs.answer_at if span is None else pairs.spans[span]
    return [row.nonzero().flatten().tolist() for row in mask]


def written(path: Path, rows: Sequence[dict]) -> Path:
    """A file of these rows, as its name ends."""
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=",\t"[path.suffix == ".tsv"])
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".pq":
        parquet = pytest.importorskip("pyarrow.parquet")
        import pyarrow

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    return path
