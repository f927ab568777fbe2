"""Any file at all gives a result or one named error: short, soon, and in little memory."""

import json
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
CSV = 'clean,corrupted,answer,wrong\nBOS 1 2,BOS 2 1,1,"[""2"", ""3""]"\nBOS 2,BOS 1,2,1\n'
PAIRS = {
    "lines.jsonl": "\n".join(map(json.dumps, ROWS)),
    "spans.jsonl": "\n".join(map(json.dumps, SPANS)),
    "ids.json": json.dumps(IDS, indent=1),
    "positions.json": json.dumps(
        {"word_idxs": {"first": 1, "end": 2}, "prompts": [ROWS[1], ROWS[1]]}, indent=1
    ),
    "columns.json": json.dumps({"clean": {"0": "BOS 1"}, "corrupted": {"0": "BOS 2"}}),
    "cells.csv": CSV,
    "tabs.tsv": CSV.replace(",", "\t"),
    "years.csv": "clean,corrupted,correct_idx\nfrom 1731 to 17,from 1701 to 17,31\n",
}


def read_pairs(path: Path) -> object:
    model = ew.load_model("tracr-reverse")
    return ew.PromptPairs.from_file(path, tokenizer=model)


@pytest.mark.parametrize("n", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_pairs(tmp_path, n):
    files = {name: text.encode() for name, text in PAIRS.items()}
    assert_answers(read_pairs, files, tmp_path, n=n)
