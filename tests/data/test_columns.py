"""Which columns are read as what: a map, then Edgewise's names, then one foreign layout whole."""

import json
from pathlib import Path

import pytest
from words import Growing, letters, written

import edgewise as ew
from commands import edgewise, ok
from edgewise.data import PromptPairs
from edgewise.data.columns import FIELDS
from edgewise.errors import ProblemError, SettingError, UnknownName

OWN = {"clean": "Jim saw Eve", "corrupted": "Tom saw Eve", "answer": " Jim", "wrong": " Tom"}
SENTENCES = {"text": "Eve saw Jim", "corr_text": "Eve saw Tom"}
IOI = {"ioi_sentences": "Tom to Jim", "corr_ioi_sentences": "Tom to Eve"}
PREFIXES = {"prefix": "Then", "corr_prefix": "When", "pronoun": "she", "corr_pronoun": "he"}
IDS = {"correct_idx": 7, "incorrect_idx": 8, "country_idx": 2, "corrupted_country_idx": 3}
MARKED = {"clean": "Then<predict> Jim</predict> x", "corrupted": "When<predict> Eve</predict>"}
YEARS = [f"{year:02d}" for year in range(100)]


def read(rows, source=PromptPairs.from_dataset, **how):
    """The first prompts and their answers, in words."""
    tokenizer = Growing()
    pairs = source(rows, tokenizer=tokenizer, **how)

    def words(ids):
        return [] if ids is None else [tokenizer.decode([i]) for i in ids[0].tolist() if i >= 0]

    prompts = ["".join(words(ids)) for ids in (pairs.clean, pairs.corrupted)]
    return *prompts, words(pairs.answers), words(pairs.wrong)


# --- a column map


@pytest.mark.parametrize("beside", [OWN, IOI, PREFIXES, {"clean": "<predict> x</predict>"}])
def test_a_column_map_wins_over_everything(beside):
    row = {**beside, **SENTENCES, "target": " Ann"}
    columns = {"clean": "text", "corrupted": "corr_text", "answer": "target", "wrong": None}
    assert read([row], columns=columns) == ("Eve saw Jim", "Eve saw Tom", [" Ann"], [])


def test_names_inside_of_a_column():
    rows = [{"p": {"clean": "Jim", "bad": ["x", "Tom"]}, "a.b": " Eve"}]
    columns = {"clean": "p.clean", "corrupted": "p.bad.1", "answers": "a.b"}
    assert read(rows, columns=columns) == ("Jim", "Tom", [" Eve"], [])
    with pytest.raises(ProblemError, match=r"no 'corrupted', read from 'p.bad.7'; its columns"):
        read(rows, columns={**columns, "corrupted": "p.bad.7"})


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"claen": "prompt"}, UnknownName, "no column named 'claen'. Did you mean 'clean'"),
        ({"clean": None}, SettingError, "'clean' cannot be left out"),
        ({"answer": "a", "answer_ids": "b"}, SettingError, "'answers' is mapped twice"),
        ({"clean": "prompts"}, ProblemError, "no 'clean', read from 'prompts'; its columns are"),
    ],
)
def test_a_column_map_that_does_not_fit(columns, error, message):
    with pytest.raises(error, match=message):
        read([OWN], columns=columns)


def test_every_column_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    for name, field in FIELDS.items():
        also = ", ".join(f"`{other}`" for other in field.other_names)
        assert f"| `{name}` |{f' {also} ' if also else ' '}| {field.holds} |" in page


# --- layouts


@pytest.mark.parametrize("beside", [SENTENCES, IOI, PREFIXES, IDS, {"label": 1, "digits": 5}])
def test_edgewise_names_win_over_any_foreign_column(beside):
    for row in ({**OWN, **beside}, {**beside, **OWN}):
        assert read([row]) == ("Jim saw Eve", "Tom saw Eve", [" Jim"], [" Tom"])


def test_a_layout_is_taken_whole_or_not_at_all():
    assert read([SENTENCES])[2] == [" Jim"]
    with pytest.raises(ProblemError, match="it has no 'clean'; its columns are"):
        read([SENTENCES], columns={"answers": "text"})
    # One layout for all rows: a row of another one is a fault, not read as it likes.
    with pytest.raises(ProblemError, match="row 1: it has no 'clean', read from 'prefix'"):
        read([PREFIXES, SENTENCES])
    with pytest.raises(ProblemError, match="row 1, clean: it has no <predict>"):
        read([MARKED, {"clean": "Then Jim", "corrupted": "When Eve"}])
    with pytest.raises(ProblemError, match="<predict> and a column both say what 'answers' is"):
        read([{**MARKED, "answer": " Tom"}])
    assert read([{**MARKED, "answer": " T"}], columns={"answers": None}) == ("Then", "When", [], [])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (SENTENCES, ("Eve saw", "Eve saw", [" Jim"], [])),
        (IOI, ("Tom to", "Tom to", [" Jim"], [])),
        (PREFIXES, ("Then", "When", [" she"], [" he"])),
        (MARKED, ("Then", "When", [" Jim"], [])),
        (
            {"prefix": "from 1798 to 17", "corr_prefix": "from 1701 to 17", "digits": "98"},
            ("from 1798 to 17", "from 1701 to 17", ["99"], YEARS[:99]),
        ),
        (
            {"clean_prefix": "a", "patch_prefix": "b", "clean_answer": " c", "patch_answer": " d"},
            ("a", "b", [" c"], [" d"]),
        ),
        ({"clean": "Jim", "corrupted": "Tom", "label": 1}, ("Jim", "Tom", [], [])),
    ],
)
def test_datasets_of_other_packages(row, expected):
    assert read([row]) == expected


def test_eap_ig_csv(tmp_path):
    """The index of pandas, columns of ids, words without a space, lists as Python writes them."""
    path = tmp_path / "eap.csv"
    path.write_text(
        ",clean,corrupted,corrupted_hard,correct_idx,incorrect_idx\n"
        '470,"ab, c",ab. c,x,4,5\n184,"b, a",b. a,x,5,4\n'
    )
    pairs = PromptPairs.from_file(path, tokenizer=Growing())
    assert (pairs.answers.tolist(), pairs.wrong.tolist()) == ([[4], [5]], [[5], [4]])
    path.write_text(
        "clean,answers,answers_idx,corrupted,corrupted_answers_idx,clean2\n"
        '"a, b","[\'x\', \'y\']","[7, 9]","b, c",[3],x\n'
        '"c, b",[\'x\'],[8],"a, c","[3, 2]",x\n'
    )
    pairs = PromptPairs.from_file(path, tokenizer=Growing())
    assert (pairs.answers.tolist(), pairs.wrong.tolist()) == ([[7, 9], [8, -1]], [[3, -1], [3, 2]])
    path.write_text('clean,corrupted,correct_idx\n"[1, 2]","[1, 3]",7\n')  # beside ids it is one
    assert PromptPairs.from_file(path).answers.tolist() == [[7]]


# --- EAP-IG's Greater-Than


def years(path, column, *rows):
    cells = [{"clean": clean, "corrupted": clean, column: digits} for clean, digits in rows]
    return read(written(path, cells), PromptPairs.from_file)[2:]


@pytest.mark.parametrize("column", ["correct_idx", "label"])
@pytest.mark.parametrize(
    ("clean", "digits"),
    [
        ("1511, 1522, 1540, 1561, 1563, 15", 63),
        ("In 1650 it was sold and in 1604 bought; it was 16", 4),
        ("costs from $ 1200 to $ 12", 0),
    ],
)
def test_the_digits_of_a_year_are_text_wherever_it_stands(tmp_path, column, clean, digits):
    for name in ("x.csv", "x.jsonl"):
        found = years(tmp_path / name, column, (clean, digits))
        assert found == (YEARS[digits + 1 :], YEARS[: digits + 1])


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
        years(tmp_path / "x.csv", "correct_idx", row, ("It went from 1431 to 14", 31))


def test_token_ids_beside_text_are_said_by_the_column():
    rows = [{"clean": "ab", "answer_ids": 3, "wrong_ids": [4, 1]}]
    pairs = PromptPairs.from_dataset(rows, tokenizer=letters())
    assert (pairs.answers.tolist(), pairs.wrong.tolist()) == ([[3]], [[4, 1]])
    how = {"tokenizer": letters(), "columns": {"answer_ids": "target"}}
    pairs = PromptPairs.from_dataset([{"clean": "ab", "target": "3"}], **how)
    assert pairs.answers.tolist() == [[3]]
    with pytest.raises(ProblemError, match=r"'target' has ' yes', which is not a token id"):
        PromptPairs.from_dataset([{"clean": "ab", "target": " yes"}], **how)
    rows = [{"clean": [1, 2], "answers": " no"}]
    assert PromptPairs.from_dataset(rows, tokenizer=letters()).answers.tolist() == [[5]]
    with pytest.raises(ProblemError, match="row 0.*: ' no' is text; pass the model's"):
        PromptPairs.from_dataset(rows)


# --- rows that cannot be used


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
        ([{"clean": [1]}] * 3, {"answers": "target"}, "it has no 'answers', read from 'target'"),
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
    assert (edgewise(capsys, *arguments)[0], out.exists()) == (2, False)
    code, _, err = edgewise(capsys, *arguments, "--skip-faulty")
    assert code == 0
    assert "1 of 3 prompts are left out:\n  line 2: clean has 3 tokens, corrupted 2." in err
    assert ew.Run.load(out).problem.left_out == [
        "line 2: clean has 3 tokens, corrupted 2. Pairs must have equal length."
    ]
    assert "1 of 3 prompts are left out" in edgewise(capsys, "evaluate", out)[2]


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
    path = written(tmp_path / "x.csv", [cells])
    _, out, _ = edgewise(capsys, "tasks", "check", path, "--model", "tracr-reverse")
    assert out.splitlines()[0] == sentence
