"""Any file of prompts gives pairs or one named error: short, soon, and in little memory."""

import json
import re
from pathlib import Path

import pytest

import edgewise as ew
from fuzz import assert_answers

ROWS = [
    {"clean": "BOS 1 2 3", "corrupted": "BOS 2 3 1", "answer": "1", "wrong": ["2", "3"]},
    {"clean": "BOS 2 1", "corrupted": "BOS 3 1", "answer": ["2"], "wrong": ["1"]},
]
SPANS = [{**row, "spans": {"first": ["BOS", 1], "last": -1}} for row in ROWS]
IDS = [{"clean": [3, 0, 1], "corrupted": [3, 1, 0], "answer": 0, "answer_positions": [-1]}] * 2
AUTO = {"word_idxs": {"first": 1, "end": 6}, "prompts": [ROWS[1], ROWS[1]]}
CSV = 'clean,corrupted,answer,wrong\nBOS 1 2,BOS 2 1,1,"[""2""]"\nBOS 2,BOS 1,2,1\n'
PAIRS = {
    "lines.jsonl": "\n".join(map(json.dumps, ROWS)),
    "spans.jsonl": "\n".join(map(json.dumps, SPANS)),
    "ids.json": json.dumps(IDS, indent=1),
    "positions.json": json.dumps(AUTO, indent=1),
    "columns.json": json.dumps({"clean": {"0": "BOS 1"}, "corrupted": {"0": "BOS 2"}}),
    "cells.csv": CSV,
    "tabs.tsv": CSV.replace(",", "\t"),
    "years.csv": "clean,corrupted,correct_idx\nfrom 1731 to 17,from 1701 to 17,31\n",
    "marked.jsonl": json.dumps({"clean": "a<predict>b</predict>", "corrupted": "c<predict>"}),
}


class Bytes:
    """A token for each byte, and for each two digits."""

    bos = None

    def encode(self, text: str) -> list[int]:
        pieces = re.findall(rb"\d\d|[\0-\xff]", text.encode(errors="surrogatepass"))
        return [256 + int(piece) if len(piece) == 2 else piece[0] for piece in pieces]

    def offsets(self, text: str) -> list[tuple[int, int]] | None:
        pieces = re.finditer(r"\d\d|[\0-\x7f]", text)
        return [piece.span() for piece in pieces] if text.isascii() else None

    def decode(self, ids) -> str:
        pieces = [bytes([i]) if i < 256 else b"%02d" % (i - 256) for i in ids]
        return b"".join(pieces).decode(errors="replace")


@pytest.mark.parametrize("n", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_mutated_files_of_pairs_are_answered(tmp_path, n):
    def read_pairs(path: Path) -> None:
        for faulty in ("skip", "refuse"):
            ew.PromptPairs.from_file(path, tokenizer=Bytes(), faulty=faulty)

    assert_answers(read_pairs, {k: v.encode() for k, v in PAIRS.items()}, tmp_path, n=n, seed=n)
