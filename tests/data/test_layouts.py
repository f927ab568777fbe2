"""Which columns are read as what: a map, then Edgewise's names, then one foreign layout whole."""

import json

import pytest
from test_data import Letters
from test_formats import Pieces, write_csv, write_parquet

import edgewise as ew
from commands import edgewise, ok
from edgewise.data import PromptPairs
from edgewise.errors import ProblemError, SettingError

OWN = {"clean": "Jim saw Eve", "corrupted": "Tom saw Eve", "answer": " Jim", "wrong": " Tom"}
SENTENCES = {"text": "Eve saw Jim", "corr_text": "Eve saw Tom"}
IOI = {"ioi_sentences": "Tom to Jim", "corr_ioi_sentences": "Tom to Eve"}
PREFIXES = {"prefix": "Then", "corr_prefix": "When", "pronoun": "she", "corr_pronoun": "he"}
IDS = {"correct_idx": 7, "incorrect_idx": 8, "country_idx": 2, "corrupted_country_idx": 3}


def read(rows, **how):
    tokenizer = Pieces()
    pairs = PromptPairs.from_dataset(rows, tokenizer=tokenizer, **how)

    def words(ids):
        return [tokenizer.decode([i]) for i in ids.tolist() if i >= 0]

    answers = [] if pairs.answers is None else words(pairs.answers[0])
    wrong = [] if pairs.wrong is None else words(pairs.wrong[0])
    assert pairs.corrupted is not None
    return "".join(words(pairs.clean[0])), "".join(words(pairs.corrupted[0])), answers, wrong


@pytest.mark.parametrize("other", [SENTENCES, IOI, PREFIXES, IDS, {"label": 1, "digits": 5}])
def test_edgewise_names_win_over_any_foreign_column(other):
    for row in ({**OWN, **other}, {**other, **OWN}):
        assert read([row]) == ("Jim saw Eve", "Tom saw Eve", [" Jim"], [" Tom"])


@pytest.mark.parametrize("other", [OWN, IOI, PREFIXES, {"clean": "<predict> x</predict>"}])
def test_a_column_map_wins_over_everything(other):
    row = {**other, **SENTENCES, "target": " Ann"}
    columns = {"clean": "text", "corrupted": "corr_text", "answers": "target", "wrong": None}
    found = read([row], columns=columns)
    assert found == ("Eve saw Jim", "Eve saw Tom", [" Ann"], [])


def test_a_layout_is_taken_whole_or_not_at_all():
    assert read([SENTENCES]) == ("Eve saw", "Eve saw", [" Jim"], [])
    with pytest.raises(ProblemError, match="it has no 'clean'; its columns are"):
        read([SENTENCES], columns={"answers": "text"})
    # One layout for all rows: a row of another one is a fault, not read as it likes.
    with pytest.raises(ProblemError, match="row 1: it has no 'clean', read from 'prefix'"):
        read([PREFIXES, SENTENCES])
    marked = {"clean": "Then<predict> Jim</predict>", "corrupted": "When<predict> Eve</predict>"}
    with pytest.raises(ProblemError, match="row 1, clean: it has no <predict>"):
        read([marked, {"clean": "Then Jim", "corrupted": "When Eve"}])
    with pytest.raises(ProblemError, match="<predict> and a column both say what 'answers' is"):
        read([{**marked, "answer": " Tom"}])
    found = read([{**marked, "answer": " Tom"}], columns={"answers": None})
    assert found == ("Then", "When", [], [])


def test_names_inside_of_a_column():
    rows = [{"p": {"clean": "Jim", "bad": ["x", "Tom"]}, "a.b": " Eve"}]
    columns = {"clean": "p.clean", "corrupted": "p.bad.1", "answers": "a.b"}
    assert read(rows, columns=columns) == ("Jim", "Tom", [" Eve"], [])
    with pytest.raises(ProblemError, match=r"it has no 'p.bad.7', which 'corrupted' is read from"):
        read(rows, columns={**columns, "corrupted": "p.bad.7"})


# --- numbers


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.json", "x.jsonl", "x.pq", "rows"])
@pytest.mark.parametrize("prompts", ["text", "ids"])
def test_whole_numbers_mean_the_same_in_every_format(tmp_path, name, prompts):
    clean = "10 13" if prompts == "text" else [1, 2]
    row = {"clean": clean, "answer": 12, "wrong": [13, 14]}
    tokenizer, path = Pieces(), tmp_path / name
    tokenizer.encode("0" + "".join(map(str, range(10, 40))))  # 12 is token 4
    if name in ("x.csv", "x.tsv"):
        write_csv(path, [row], "," if name == "x.csv" else "\t")
    elif name == "x.pq":
        write_parquet(path, [row])
    else:
        path.write_text(json.dumps(row))
    if name == "rows":
        pairs = PromptPairs.from_dataset([row], tokenizer=tokenizer)
    else:
        pairs = PromptPairs.from_file(path, tokenizer=tokenizer)
    expected = [[tokenizer.encode("12")[0]], [12]][prompts == "ids"]
    assert pairs.answers.tolist() == [expected]
    assert len(pairs.wrong[0]) == 2


def test_token_ids_beside_text_are_said_by_the_column():
    rows = [{"clean": "ab", "answer_ids": 3, "wrong_ids": [4, 1]}]
    pairs = PromptPairs.from_dataset(rows, tokenizer=Letters())
    assert (pairs.answers.tolist(), pairs.wrong.tolist()) == ([[3]], [[4, 1]])
    rows = [{"clean": "ab", "target": "3"}]
    pairs = PromptPairs.from_dataset(rows, tokenizer=Letters(), columns={"answer_ids": "target"})
    assert pairs.answers.tolist() == [[3]]
    with pytest.raises(ProblemError, match=r"'target' has ' yes', which is not a token id"):
        PromptPairs.from_dataset(
            [{"clean": "ab", "target": " yes"}],
            tokenizer=Letters(),
            columns={"answer_ids": "target"},
        )


# --- EAP-IG's Greater-Than


def years(tmp_path, column, *rows):
    tokenizer = Pieces()
    cells = [{"clean": clean, "corrupted": clean, column: digits} for clean, digits in rows]
    pairs = PromptPairs.from_file(write_csv(tmp_path / "x.csv", cells), tokenizer=tokenizer)
    return [
        tuple([tokenizer.decode([i]) for i in ids if i >= 0] for ids in (right, wrong))
        for right, wrong in zip(pairs.answers.tolist(), pairs.wrong.tolist(), strict=True)
    ]


@pytest.mark.parametrize("column", ["correct_idx", "label"])
def test_the_digits_of_a_year_are_text_wherever_the_year_stands(tmp_path, column):
    found = years(
        tmp_path,
        column,
        ("1511, 1522, 1540, 1561, 1563, 15", 63),
        ("In 1650 it was sold and in 1604 bought; it was 16", 4),
        ("costs from $ 1200 to $ 12", 0),
    )
    every = [f"{year:02d}" for year in range(100)]
    assert found == [(every[n + 1 :], every[: n + 1]) for n in (63, 4, 0)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("It went from 1499 to 14", 99), "no year of its century is after 99"),
        (("It went from 1463 to 14", 64), r"'64' is not the last two digits of a year"),
        (("It went from 1463 to 15", 63), r"If it is a token id: --columns answer_ids=NAME"),
        (("It went home", 1401), r"'1401' is not the last two digits"),
    ],
)
def test_a_number_is_never_taken_for_a_token_id(tmp_path, row, message):
    with pytest.raises(ProblemError, match=message):
        years(tmp_path, "correct_idx", row, ("It went from 1431 to 14", 31))


def test_other_labels_are_left_alone(tmp_path):
    row = {"clean": "Jim", "corrupted": "Tom", "label": 1}
    assert read([row]) == ("Jim", "Tom", [], [])


# --- AutoCircuit's positions


AUTO = {"clean": "Then, Ann went", "corrupt": "Then, Eve went"}


@pytest.mark.parametrize(
    "facts",
    [
        {"seq_labels": ["a", "b", "c"]},
        {"seq_labels": ["a", "b", "c", "d", "e"], "word_idxs": {"a": 0}},
        {"word_idxs": {"S": 1, "end": 2}},
        {"word_idxs": {"S": 1}, "prompts": [AUTO, {"clean": "Ann went", "corrupt": "Eve went"}]},
    ],
)
def test_positions_of_another_tokenizer_are_refused(tmp_path, facts):
    path = tmp_path / "ac.json"
    path.write_text(json.dumps({"prompts": [AUTO], **facts}))
    for bos in (False, True):
        with pytest.raises(ProblemError, match="its file counts positions in ., as another token"):
            PromptPairs.from_file(path, tokenizer=Pieces(), bos=bos)
    pairs = PromptPairs.from_file(path, tokenizer=Pieces(), columns={"spans": None})
    assert pairs.spans is None


def test_spans_of_rows_win_over_those_of_all(tmp_path):
    path = tmp_path / "ac.json"
    document = {"word_idxs": {"S": 1}, "prompts": [{**AUTO, "spans": {"mine": 0}}]}
    path.write_text(json.dumps(document))
    assert list(PromptPairs.from_file(path, tokenizer=Pieces()).spans) == ["mine"]


# --- JSON of every shape


SHAPES = {
    "one object a line": '{"clean": "ab"}\n{"clean": "c"}\n',
    "objects over lines": '{\n  "clean":\n "ab"\n}\n\n{\n  "clean": "c"\n}',
    "a list": '[{"clean": "ab"},\n{"clean": "c"}]',
    "an object of a list": '{"clean_is": "here", "data": [{"clean": "ab"}, {"clean": "c"}]}',
    "columns of pandas": '{"clean": {"0": "ab", "1": "c"}}',
    "columns of lists": '{"clean": ["ab", "c"], "note": [1, 2]}',
}


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_json(tmp_path, shape, name):
    path = tmp_path / name
    same = PromptPairs.from_text(["ab", "c"], tokenizer=Letters())
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text(SHAPES[shape], encoding=encoding)
        assert PromptPairs.from_file(path, tokenizer=Letters()).sha256 == same.sha256


def test_a_broken_object_over_lines_hides_no_other(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{\n "clean": [1]\n "a": 2}\n{"clean": [1]}\n{"clean": [2}\n{"clean": [3]}')
    with pytest.raises(ProblemError) as caught:
        PromptPairs.from_file(path)
    assert [fault.where for fault in caught.value.faults] == ["line 1", "line 5"]
    assert "in line 3" in caught.value.faults[0]
    assert PromptPairs.from_file(path, faulty="skip").clean.tolist() == [[1], [3]]


# --- what cannot be used


def test_faulty_rows_can_be_left_out():
    rows = [{"clean": [1, 2], "corrupted": [2, 1]}, {"clean": [1], "corrupted": [2, 1]}] * 9
    with pytest.raises(ProblemError, match=r"row 1 \(and 8 like it: row 3, row 5, row 7, …\): cl"):
        PromptPairs.from_dataset(rows)
    pairs = PromptPairs.from_dataset(rows, faulty="skip")
    assert len(pairs) == 9
    assert [fault.where for fault in pairs.left_out] == [f"row {i}" for i in range(1, 18, 2)]
    assert pairs.left_out_sentence.startswith("9 of 18 prompts are left out:\n  row 1 (and 8 like")
    assert PromptPairs.from_dataset(rows[:1]).left_out_sentence == ""


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([{"clean": [1], "corrupted": [1, 2]}], None, "clean has 1 tokens, corrupted 2"),
        ([{"clean": [1], "corupted": [1]}, {"clean": [2]}], None, "Did you mean 'corrupted'"),
        ([{"clean": [1]}] * 3, {"answers": "target"}, "it has no 'target', which 'answers' is"),
    ],
)
def test_what_concerns_all_rows_is_not_left_out(rows, columns, message):
    with pytest.raises(ProblemError, match=message):
        PromptPairs.from_dataset(rows, columns=columns, faulty="skip")
    with pytest.raises(SettingError, match="faulty is 'drop'; it must be 'refuse' or 'skip'"):
        PromptPairs.from_dataset(rows, faulty="drop")


def test_skipping_from_the_command_line(capsys, tmp_path):
    file, out = tmp_path / "x.jsonl", tmp_path / "run"
    rows = [("BOS 1 2", "BOS 2 1"), ("BOS 1 3", "BOS 3"), ("BOS 2 3", "BOS 3 2")]
    file.write_text("\n".join(json.dumps({"p": {"q": a}, "corrupted": b}) for a, b in rows))
    columns = ("--columns", "clean=p.q", "--model", "tracr-reverse")
    code, printed, _ = edgewise(capsys, "tasks", "check", file, *columns)
    assert code == 2
    assert printed.startswith("layout: your column map (clean from p.q; corrupted)\n")
    found = json.loads(ok(capsys, "tasks", "check", file, *columns, "--skip-faulty", "--json"))
    assert (found["usable"], found["pairs"]) == (True, 2)
    assert [fault["line"] for fault in found["left_out"]] == [2]
    arguments = ("discover", "--pairs", file, *columns, "--threshold", "0.1", "--out", out)
    code, _, err = edgewise(capsys, *arguments)
    assert (code, out.exists()) == (2, False)
    code, _, err = edgewise(capsys, *arguments, "--skip-faulty")
    assert code == 0
    assert "1 of 3 prompts are left out:\n  line 2: clean has 3 tokens, corrupted 2." in err
    assert ew.Run.load(out).problem.left_out == [
        "line 2: clean has 3 tokens, corrupted 2. Pairs must have equal length."
    ]
    assert "1 of 3 prompts are left out" in edgewise(capsys, "evaluate", out)[2]
    task = ("--task", "or-gate", "--threshold", "0.1")
    code, _, err = edgewise(capsys, "discover", *task, "--skip-faulty")
    assert "--skip-faulty is for --pairs" in err


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (
            {"clean": "BOS 1", "label": 3, "country_idx": 3},
            "layout: Edgewise (clean); not read: label, country_idx",
        ),
        (
            {"clean": "from 1731 to 17", "corrupted": "from 1701 to 17", "correct_idx": 31},
            "layout: EAP-IG Greater-Than (clean; corrupted; answers from correct_idx)",
        ),
    ],
)
def test_the_layout_is_said(capsys, tmp_path, cells, sentence):
    path = write_csv(tmp_path / "x.csv", [cells])
    _, out, _ = edgewise(capsys, "tasks", "check", path, "--model", "tracr-reverse")
    assert out.splitlines()[0] == sentence
