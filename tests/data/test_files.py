"""Prompt pairs from every kind of file and from datasets: the same rows, the same pairs."""

import json
import sys

import numpy as np
import pytest
import torch
from words import Growing, letters, written

from edgewise.data import PromptPairs
from edgewise.errors import FormatError, ProblemError, SettingError

KINDS = ("x", "x.jsonl", "x.json", "x.csv", "x.tsv", "x.pq")
TEXTS = [
    {"clean": "ab", "corrupted": "bb", "answers": [" yes", "a"], "wrong": " no"},
    {"clean": "c", "corrupted": "a", "answers": [" no"], "wrong": " yes"},
]
IDS = [
    {"clean": [1, 2, 3], "corrupted": [1, 3, 3], "answers": 4, "wrong": [5, 6], "spans": {"a": 0}},
    {"clean": [7, 2], "corrupted": [3, 2], "answers": 4, "wrong": [5], "spans": {"a": 1}},
]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_says_the_same(tmp_path, name):
    texts = PromptPairs.from_text(
        ["ab", "c"], ["bb", "a"], tokenizer=letters(), answers=[[" yes", "a"], [" no"]],
        wrong=[" no", " yes"],
    )  # fmt: skip
    ids = PromptPairs.from_tokens(
        [[1, 2, 3], [7, 2]], [[1, 3, 3], [3, 2]], answers=[4, 4], wrong=[[5, 6], [5]],
        spans={"a": [0, 1]},
    )  # fmt: skip
    for rows, same in ((TEXTS, texts), (IDS, ids)):
        path = written(tmp_path / name, rows)
        assert PromptPairs.from_file(path, tokenizer=letters()).sha256 == same.sha256
        dataset = PromptPairs.from_dataset(iter(rows), tokenizer=letters(), source="mine")
        assert (dataset.sha256, dataset.source) == (same.sha256, "mine")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("clean", ["10 13", [1, 2]])
def test_whole_numbers_mean_the_same_in_every_format(tmp_path, name, clean):
    """A number is text beside text and a token id beside ids."""
    tokenizer = Growing()
    row = {
        "clean": clean,
        "corrupted": clean,
        "answer": 12,
        "wrong": [13, 14],
        "answer_positions": -1,
    }
    pairs = PromptPairs.from_file(written(tmp_path / name, [row]), tokenizer=tokenizer)
    answers = [12, 13, 14] if isinstance(clean, list) else tokenizer.encode("121314")
    assert [*pairs.answers[0].tolist(), *pairs.wrong[0].tolist()] == answers
    text, number = {"clean": [1, 2], "answer": " 12"}, {"clean": 12}
    with pytest.raises(ProblemError, match="' 12' is text, beside token ids"):
        PromptPairs.from_dataset([text], tokenizer=tokenizer)
    with pytest.raises(ProblemError, match="'clean' is 12"):  # a token id, or its digits
        PromptPairs.from_file(written(tmp_path / name, [number]), tokenizer=tokenizer)


def test_rows_of_a_dataset_may_hold_arrays():
    rows = [{"clean": np.array([1, 2]), "answers": np.int64(3), "wrong": torch.tensor([4])}]
    pairs = PromptPairs.from_dataset(rows)
    assert (pairs.clean.tolist(), pairs.answers.tolist()) == ([[1, 2]], [[3]])
    rows = [{"clean": [np.int32(1), np.int32(2)], "spans": {"a": np.array([1]), "b": None}}]
    assert PromptPairs.from_dataset(rows).spans["a"].tolist() == [[False, True]]


class Frame:
    def iterrows(self): ...

    def __iter__(self): ...


@pytest.mark.parametrize("dataset", [{"train": TEXTS}, "ab", Frame()])
def test_what_is_no_dataset_is_told_what_would_work(dataset):
    with pytest.raises(SettingError, match=r'must be rows.* DatasetDict, frame.to_dict\("records"'):
        PromptPairs.from_dataset(dataset)


# --- JSON of every shape

SHAPES = {
    "one object a line": '{"clean": "ab"}\n{"clean": "c"}\n',
    "from Windows": '{"clean": "ab"}\r\n{"clean": "c"}\r\n',
    "objects over lines": '{\n  "clean":\n "ab"\n}\n\n{\n  "clean": "c"\n}',
    "a list": '[{"clean": "ab"},\n{"clean": "c"}]',
    "an object of a list": '{"clean_is": "here", "data": [{"clean": "ab"}, {"clean": "c"}]}',
    "columns of pandas": '{"clean": {"0": "ab", "1": "c"}}',
    "columns of lists": '{"clean": ["ab", "c"], "note": [1, 2]}',
    "separators that JSON allows": '{"clean": "ab", "n": "\u2028\x85"}\n{"clean": "c"}',
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_json(tmp_path, shape):
    path = tmp_path / "x.jsonl"
    same = PromptPairs.from_text(["ab", "c"], tokenizer=letters())
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(SHAPES[shape].encode(encoding))
        assert PromptPairs.from_file(path, tokenizer=letters()).sha256 == same.sha256


def test_a_broken_object_over_lines_hides_no_other(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{\n "clean": [1]\n "a": 2}\n{"clean": [1]}\n{"clean": [2}\n{"clean": [3]}')
    with pytest.raises(ProblemError) as caught:
        PromptPairs.from_file(path)
    assert [fault.where for fault in caught.value.faults] == ["line 1", "line 5"]
    assert "in line 3" in caught.value.faults[0]
    assert PromptPairs.from_file(path, faulty="skip").clean.tolist() == [[1], [3]]


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    def refused(name: str, content: bytes | None, message: str) -> None:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(FormatError, match=message):
            PromptPairs.from_file(path)

    refused("no.jsonl", None, r"cannot read the pairs file .*no\.jsonl: No such file")
    refused("", None, "Is a directory")
    refused("binary", b"\n\xff\xfe\x00", "line 2 has the byte 0xff, which is not UTF-8")
    refused("x.xlsx", b"", r"ends in '\.xlsx'. Read are \.jsonl, \.json, \.csv")
    pytest.importorskip("pyarrow")
    refused("x.parquet", b"PAR1 nothing of the kind", "not a Parquet file")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused("x.parquet", None, r"needs pyarrow, .*pip install 'edgewise\[data\]'")


# --- AutoCircuit: positions that hold for all prompts

AUTO = {"clean": "Then, Ann went", "corrupt": "Then, Eve went"}


def auto(path, facts, *rows, **options) -> PromptPairs:
    path.write_text(json.dumps({**facts, "prompts": rows or [AUTO]}, indent=2))
    return PromptPairs.from_file(path, tokenizer=Growing(), **options)


@pytest.mark.parametrize("bos", [False, True])
def test_shared_positions_are_counted_without_bos(tmp_path, bos):
    words = {"IO": 2, "IO+1": 3, "S1-1": 3, ",_B": 1, "end": 3}
    rows = [AUTO, {"clean": "When, Eve left", "corrupt": "When, Ann left"}]
    spans = auto(tmp_path / "x.json", {"word_idxs": words}, *rows, bos=bos).spans
    found = {name: mask.nonzero()[:, 1].tolist() for name, mask in spans.items()}
    assert found == {
        "IO": [2 + bos] * 2, "IO+1=S1-1=end": [3 + bos] * 2, "__B": [1 + bos] * 2,
    }  # fmt: skip
    labels = {"seq_labels": ["\n", "a", "b", "a"]}
    spans = auto(tmp_path / "x.json", labels, bos=bos).spans
    found = {name: mask[0].nonzero().flatten().tolist() for name, mask in spans.items()}
    assert found == {"position0": [bos], "a": [1 + bos, 3 + bos], "b": [2 + bos]}
    mine = {**AUTO, "spans": {"mine": 0}}
    assert list(auto(tmp_path / "x.json", {"word_idxs": words}, mine).spans) == ["mine"]


@pytest.mark.parametrize(
    "facts",
    [
        {"seq_labels": ["a", "b", "c"]},
        {"seq_labels": ["a", "b", "c", "d", "e"], "word_idxs": {"a": 0}},
        {"word_idxs": {"S": 1, "end": 2}},
        {"word_idxs": {"S": 1}},
        {"word_idxs": {"S": 4}},
        {"word_idxs": {"S": -1}},
    ],
)
def test_positions_of_another_tokenizer_are_refused(tmp_path, facts):
    rows = [AUTO, {"clean": "Ann went", "corrupt": "Eve went"}]
    rows = rows if facts == {"word_idxs": {"S": 1}} else rows[:1]
    for bos in (False, True):
        with pytest.raises(ProblemError, match="its file counts positions in ., as another token"):
            auto(tmp_path / "x.json", facts, *rows, bos=bos)
    assert auto(tmp_path / "x.json", facts, *rows, columns={"spans": None}).spans is None


def test_answers_for_each_position_are_refused_with_a_way_out(tmp_path):
    row = {"clean": [1, 2], "answers": [[1, 2]]}
    with pytest.raises(ProblemError, match="a list in a list.* leave the column out"):
        auto(tmp_path / "x.json", {}, row)
    assert auto(tmp_path / "x.json", {}, row, columns={"answers": None}).answers is None
