"""Prompt pairs from every kind of file, and from other packages' files as they are."""

import csv
import json
import sys

import numpy as np
import pytest
import torch
from test_data import Letters

from edgewise.data import PromptPairs
from edgewise.errors import FormatError, ProblemError, SettingError, UnknownName


class Pieces:
    """A tokenizer like GPT-2's: a word with the space before it, digits in twos, marks alone."""

    def __init__(self) -> None:
        self.words: list[str] = ["<bos>"]
        self.bos = 0

    def encode(self, text: str) -> list[int]:
        import re

        found = re.findall(r"<bos>| ?[A-Za-z]+| ?\d{2}|\d|[^\w]", text)
        assert "".join(found) == text
        for piece in found:
            if piece not in self.words:
                self.words.append(piece)
        return [self.words.index(piece) for piece in found]

    def decode(self, ids) -> str:
        return "".join(self.words[i] for i in ids)


ROWS = [
    {"clean": "ab", "corrupted": "bb", "answers": [" yes", "a"], "wrong": " no"},
    {"clean": "c", "corrupted": "a", "answers": " no", "wrong": " yes"},
]


def same_rows() -> PromptPairs:
    return PromptPairs.from_text(
        ["ab", "c"],
        ["bb", "a"],
        tokenizer=Letters(),
        answers=[[" yes", "a"], [" no"]],
        wrong=[" no", " yes"],
    )


def write_csv(path, rows, delimiter=","):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path, rows):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


LISTED = [{**row, "answers": [row["answers"]]} for row in ROWS[1:]]
LISTED = [ROWS[0], *LISTED]


@pytest.mark.parametrize("name", ["x", "x.jsonl", "x.json", "lines.json", "x.csv", "x.tsv", "x.pq"])
def test_every_kind_of_file_says_the_same(tmp_path, name):
    path = tmp_path / name
    if path.suffix in (".csv", ".tsv"):
        write_csv(path, ROWS, "," if path.suffix == ".csv" else "\t")
    elif path.suffix == ".pq":
        write_parquet(path, LISTED)
    elif name == "x.json":
        path.write_text(json.dumps(ROWS, indent=1))
    else:
        path.write_text("\n".join(map(json.dumps, ROWS)))
    assert PromptPairs.from_file(path, tokenizer=Letters()).sha256 == same_rows().sha256


def test_ids_in_every_kind_of_file(tmp_path):
    rows = [
        {"clean": [1, 2], "corrupted": [1, 3], "answers": 4, "wrong": [5, 6]},
        {"clean": [7], "corrupted": [3], "answers": 4, "wrong": [5]},
    ]
    same = PromptPairs.from_tokens(
        [[1, 2], [7]], [[1, 3], [3]], answers=[4, 4], wrong=[[5, 6], [5]]
    )
    listed = [{**row, "answers": [row["answers"]]} for row in rows]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    files = [tmp_path / "x.json", write_csv(tmp_path / "x.csv", rows)]
    files.append(write_parquet(tmp_path / "x.parquet", listed))
    for file in files:
        assert PromptPairs.from_file(file).sha256 == same.sha256
    assert PromptPairs.from_dataset(rows).sha256 == same.sha256


def test_rows_of_a_dataset_may_hold_arrays():
    rows = [{"clean": np.array([1, 2]), "answers": np.int64(3), "wrong": torch.tensor([4])}]
    pairs = PromptPairs.from_dataset(iter(rows), source="mine")
    assert (pairs.clean.tolist(), pairs.answers.tolist()) == ([[1, 2]], [[3]])
    assert pairs.source == "mine"
    rows = [{"clean": [np.int32(1), np.int32(2)], "spans": {"a": np.array([1])}}]
    assert PromptPairs.from_dataset(rows).spans["a"].tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"train": ROWS, "test": ROWS}, "a mapping of 'train', 'test'; pass its rows"),
        ("ab", "it must be rows, each a mapping"),
    ],
)
def test_what_is_no_dataset(dataset, message):
    with pytest.raises(SettingError, match=message):
        PromptPairs.from_dataset(dataset, tokenizer=Letters())


def test_a_data_frame_is_told_how():
    class Frame:
        def iterrows(self):
            yield from ()

        def __iter__(self):
            yield "clean"

    with pytest.raises(
        SettingError, match=r'pass its rows as mappings: frame\.to_dict\("records"\)'
    ):
        PromptPairs.from_dataset(Frame())


def test_items_of_a_list_are_found(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('[\n{"clean": [1]},\n\n{"clean": []}, {"clean":\n[2]}]')
    with pytest.raises(ProblemError) as caught:
        PromptPairs.from_file(path)
    assert caught.value.faults == ("item 2: the clean prompt is empty.",)
    path.write_text('[\n{"clean": [1]},\n\n{"clean": []}]')
    with pytest.raises(ProblemError, match="item 2: the clean prompt is empty"):
        PromptPairs.from_file(path)


def test_a_dataset_names_its_rows():
    with pytest.raises(ProblemError) as caught:
        PromptPairs.from_dataset(
            [ROWS[0], [1], {**ROWS[1], "corrupted": "ab"}], tokenizer=Letters()
        )
    assert caught.value.faults == (
        'row 1: expected an object like {"clean": …}, not [1].',
        "row 2: clean has 1 tokens, corrupted 2. Pairs must have equal length.",
    )


# --- columns


def test_a_column_map():
    rows = [{"prompt": "ab", "foil": "bb", "target": " yes", "wrong": 7}]
    columns = {"clean": "prompt", "corrupted": "foil", "answer": "target", "wrong": None}
    pairs = PromptPairs.from_dataset(rows, tokenizer=Letters(), columns=columns)
    same = PromptPairs.from_text(["ab"], ["bb"], tokenizer=Letters(), answers=[" yes"])
    assert pairs.sha256 == same.sha256


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"claen": "prompt"}, UnknownName, "no column named 'claen'. Did you mean 'clean'"),
        ({"clean": None}, SettingError, "'clean' cannot be left out"),
        ({"answer": "a", "answers": "b"}, SettingError, "'answers' is mapped twice"),
        ({"clean": "prompts"}, ProblemError, "no 'prompts', which 'clean' is read from; its colu"),
        ({"answers": "target"}, ProblemError, "no 'target', which 'answers' is read from"),
    ],
)
def test_a_column_map_that_does_not_fit(columns, error, message):
    with pytest.raises(error, match=message):
        PromptPairs.from_dataset(ROWS, tokenizer=Letters(), columns=columns)


def test_answers_as_text_or_ids_for_prompts_of_either_kind():
    rows = [{"clean": "ab", "answer_ids": [4, 5]}]
    assert PromptPairs.from_dataset(rows, tokenizer=Letters()).answers.tolist() == [[4, 5]]
    rows = [{"clean": [1, 2], "answers": " no"}]
    assert PromptPairs.from_dataset(rows, tokenizer=Letters()).answers.tolist() == [[5]]
    with pytest.raises(ProblemError, match="row 0: the answer ' no' is text; pass the model's"):
        PromptPairs.from_dataset(rows)
    pairs = PromptPairs.from_text(["ab"], tokenizer=Letters(), answers=[4], wrong=[[5, "a"]])
    assert (pairs.answers.tolist(), pairs.wrong.tolist()) == ([[4]], [[5, 1]])


# --- spans in files


TEXT = "Mary and Jeffrey went. Jeffrey gave it to Mary, to"


def spans_of(spans, text=TEXT, **how):
    pairs = PromptPairs.from_dataset([{"clean": text, "spans": spans}], tokenizer=Pieces(), **how)
    return {name: mask[0].nonzero().flatten().tolist() for name, mask in pairs.spans.items()}


def test_spans_by_position_or_phrase():
    found = spans_of(
        {
            "S1": ["Jeffrey", 1],
            "S2": ["Jeffrey", 2],
            "IO": ["Mary", -1],
            "gave": "gave it",
            "end": -1,
        }
    )
    assert found == {"S1": [2], "S2": [5], "IO": [9], "gave": [6, 7], "end": [11]}
    assert spans_of({"names": [0, 2]}) == {"names": [0, 2]}
    assert spans_of({"S2": ["Jeffrey", 2], "start": 0}, bos=True) == {"S2": [6], "start": [0]}


def test_characters_of_several_tokens():
    class Bytes:
        bos = None

        def encode(self, text):
            return list(text.encode())

        def decode(self, ids):
            return bytes(ids).decode(errors="replace")

    pairs = PromptPairs.from_text(["é à b"], tokenizer=Bytes(), spans={"a": "à", "e": "é"})
    found = {k: m[0].nonzero().flatten().tolist() for k, m in pairs.spans.items()}
    assert found == {"a": [3, 4], "e": [0, 1]}


def test_spans_in_csv_and_parquet(tmp_path):
    rows = [
        {"clean": [1, 2, 3], "spans": {"a": [0], "b": [2]}},
        {"clean": [1, 2], "spans": {"a": [0], "b": [1]}},
    ]
    cells = [{k: json.dumps(v) for k, v in row.items()} for row in rows]
    same = PromptPairs.from_tokens([[1, 2, 3], [1, 2]], spans={"a": 0, "b": [2, 1]})
    for file in (write_csv(tmp_path / "x.csv", cells), write_parquet(tmp_path / "x.pq", rows)):
        assert PromptPairs.from_file(file).sha256 == same.sha256


# --- other packages' files


def test_eap_ig_csv(tmp_path):
    """The index of pandas, columns of ids, words without a space, lists as Python writes them."""
    path = tmp_path / "eap.csv"
    path.write_text(
        ",clean,corrupted,corrupted_hard,correct_idx,incorrect_idx\n"
        '470,"ab, c",ab. c,x,4,5\n184,"b, a",b. a,x,5,4\n'
    )
    pairs = PromptPairs.from_file(path, tokenizer=Pieces())
    assert (pairs.answers.tolist(), pairs.wrong.tolist()) == ([[4], [5]], [[5], [4]])
    assert len(pairs) == 2
    path.write_text(
        "clean,answers,answers_idx,corrupted,corrupted_answers,corrupted_answers_idx,clean2,corrupted2\n"
        '"a, b","[\'x\', \'y\']","[7, 9]","b, c",[\'z\'],[3],x,y\n'
        '"c, b",[\'x\'],[8],"a, c","[\'z\', \'w\']","[3, 2]",x,y\n'
    )
    pairs = PromptPairs.from_file(path, tokenizer=Pieces())
    assert (pairs.answers.tolist(), pairs.wrong.tolist()) == ([[7, 9], [8, -1]], [[3, -1], [3, 2]])


def test_autocircuit_json(tmp_path):
    """Positions that share a token become one span; they are counted without BOS."""
    path = tmp_path / "ac.json"
    prompts = [
        {
            "clean": "Then, Ann and Bob went. Bob gave to",
            "corrupt": "Then, Eve and Jim went. Tom gave to",
            "answers": [" Ann"],
            "wrong_answers": [" Bob", " Tom"],
        },
        {
            "clean": "Then, Jim and Eve went. Eve gave to",
            "corrupt": "Then, Ann and Bob went. Tom gave to",
            "answers": [" Jim"],
            "wrong_answers": [" Eve"],
        },
    ]
    words = {"IO": 2, "IO+1": 3, "S1-1": 3, "S1": 4, "S2": 7, "end": 9, ",_B": 1}
    path.write_text(json.dumps({"word_idxs": words, "prompts": prompts}, indent=2))
    tokenizer = Pieces()
    for bos in (False, True):
        pairs = PromptPairs.from_file(path, tokenizer=tokenizer, bos=bos)
        assert list(pairs.spans) == ["IO", "IO+1=S1-1", "S1", "S2", "end", "__B"]
        for i, name in enumerate((" Bob", " Eve")):
            ids = pairs.clean[i]
            assert tokenizer.decode(ids[pairs.spans["S1"][i]].tolist()) == name
            assert tokenizer.decode(ids[pairs.spans["S2"][i]].tolist()) == name
    assert [tokenizer.decode([i]) for i in pairs.wrong[0]] == [" Bob", " Tom"]


def test_autocircuit_labels_of_every_position(tmp_path):
    path = tmp_path / "ac.json"
    document = {"seq_labels": ["\n", "a", ",", "b", ","], "prompts": [{"clean": [1, 2, 3, 4, 5]}]}
    path.write_text(json.dumps(document))
    pairs = PromptPairs.from_file(path)
    found = {k: m[0].nonzero().flatten().tolist() for k, m in pairs.spans.items()}
    assert found == {"position0": [0], "a": [1], "_": [2, 4], "b": [3]}


def test_answers_for_each_position_are_refused_with_a_way_out(tmp_path):
    path = tmp_path / "ac.json"
    path.write_text(json.dumps({"prompts": [{"clean": [1, 2], "answers": [[1, 2]]}]}))
    with pytest.raises(ProblemError, match="'answers' has a list in a list"):
        PromptPairs.from_file(path)
    assert PromptPairs.from_file(path, columns={"answers": None}).answers is None


@pytest.mark.parametrize(
    ("row", "answers", "wrong"),
    [
        ({"text": "Bob gave to Ann", "corr_text": "Tom gave to Eve"}, [" Ann"], None),
        ({"ioi_sentences": "Bob to Ann", "corr_ioi_sentences": "Tom to Eve"}, [" Ann"], None),
        (
            {"prefix": "Ann did", "corr_prefix": "Tom did", "pronoun": "she", "corr_pronoun": "he"},
            [" she"],
            [" he"],
        ),
        (
            {"prefix": "from 1798 to 17", "corr_prefix": "from 1701 to 17", "digits": "98"},
            ["99"],
            [f"{year:02d}" for year in range(99)],
        ),
    ],
)
def test_edge_pruning_datasets(row, answers, wrong):
    tokenizer = Pieces()
    pairs = PromptPairs.from_dataset([row], tokenizer=tokenizer)
    assert pairs.corrupted is not None
    assert [tokenizer.decode([i]) for i in pairs.answers[0]] == answers
    assert (wrong is None) == (pairs.wrong is None)
    assert wrong is None or [tokenizer.decode([i]) for i in pairs.wrong[0]] == wrong


# --- files that cannot be read


def test_an_unknown_ending(tmp_path):
    (tmp_path / "x.xlsx").write_text("")
    with pytest.raises(FormatError, match=r"ends in '\.xlsx'. Read are \.jsonl, \.json, \.csv"):
        PromptPairs.from_file(tmp_path / "x.xlsx")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(FormatError, match=r"needs pyarrow, .*pip install 'edgewise\[data\]'"):
        PromptPairs.from_file(tmp_path / "x.parquet")


def test_a_broken_parquet_file(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing of the kind")
    with pytest.raises(FormatError, match="not a Parquet file"):
        PromptPairs.from_file(tmp_path / "x.parquet")
