"""Files of prompts as users have them: broken in every way, told where, and never half used."""

import csv
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgewise as ew
from commands import edgewise, ok
from edgewise.cli.main import main

PAIR = '{"clean": "BOS 1 2 3", "corrupted": "BOS 3 1 2", "answer": "3", "wrong": "2"}'
IDS = '{"clean": [3, 0, 1], "corrupted": [3, 1, 0], "answer": 0, "wrong": 1}'
HEAD = "clean,corrupted,answer,wrong\n"
CELLS = "BOS 1 2 3,BOS 3 1 2,3,2\n"


def lines(*rows: str) -> str:
    return "\n".join([PAIR, *rows])


def ids(**changes) -> str:
    return "\n".join([IDS, json.dumps({**json.loads(IDS), **changes})])


def spans(*each: str) -> str:
    rows = [PAIR[:-1] + f', "spans": {text}}}' for text in each]
    return "\n".join(rows)


# Name of the file, what it holds, the place that is named, and a part of what is said of it.
MALFORMED = [
    # not JSON
    ("x.jsonl", "", "", "there are no prompts"),
    ("x.jsonl", "  \n\n", "", "there are no prompts"),
    ("x.jsonl", lines('{"clean": "BOS 1",}'), "line 2", "not JSON: "),
    ("x.jsonl", lines("", "{'clean': 'BOS 1'}"), "line 3", "not JSON: Expecting prop"),
    ("x.jsonl", lines('{"clean": "BOS 1"'), "line 2", "not JSON: Expecting ','"),
    ("x.jsonl", lines('{"clean": "BOS 1'), "line 2", "not JSON: Unterminated string"),
    ("x.jsonl", lines(PAIR + PAIR), "line 2", "not JSON: Extra data"),
    ("x.jsonl", lines("BOS 1 2 3"), "line 2", "not JSON: Expecting value"),
    ("x.jsonl", lines('["BOS 1"]'), "line 2", 'expected an object like {"clean": …}'),
    ("x.jsonl", lines("null"), "line 2", "expected an object like"),
    ("x.jsonl", lines('{"clean": "BOS 1", "clean": "BOS 2"}'), "line 2", "'clean' is there twice"),
    ("x.jsonl", lines("[" * 9999), "line 2", "cannot be read"),
    ("x.jsonl", lines('{"clean": ' + "9" * 5000 + "}"), "line 2", "cannot be read"),
    ("x.json", "[" + PAIR + ",\n{]", "line 2", "not JSON: Expecting property"),
    ("x.json", "[" + PAIR + ",\n]", "line 2", "not JSON: Expecting value"),
    ("x.json", "[" + PAIR + "\n" + PAIR + "]", "line 2", "not JSON: Expecting ','"),
    ("x.json", "[" + PAIR + ",\n5]", "item 2", "expected an object like"),
    ("x.json", "[" + PAIR, "line 1", "not JSON: Expecting ','"),
    ("x.json", '{\n"data": []}', "line 1", "it has no 'clean'; its columns are 'data'"),
    ("x.json", "[]", "", "there are no prompts"),
    ("x.json", '"BOS 1"', "line 1", "expected an object like"),
    # not CSV
    ("x.csv", HEAD + CELLS + "BOS 1,BOS 2\n", "line 3", "it has 2 cells; the header has 4"),
    ("x.csv", HEAD + CELLS + '"BOS 1,BOS 2,3,2\n', "line 3", "not CSV: unexpected end of data"),
    ("x.csv", HEAD + '"a"b,c,d,e\n', "line 2", "not CSV: "),
    ("x.csv", HEAD, "", "there are no prompts"),
    ("x.csv", "clean,clean,answer,wrong\n" + CELLS, "line 1", "'clean' is there twice"),
    ("x.csv", CELLS + CELLS, "line 2", "it has no 'clean'; its columns are 'BOS 1 2 3'"),
    # columns
    ("x.jsonl", '{"prompt": "BOS 1"}', "line 1", "Say which it is: columns="),
    ("x.jsonl", lines('{"clean": "BOS 1 2 3"}'), "line 2", "it has no 'corrupted'"),
    ("x.jsonl", PAIR.replace("corrupted", "corupted"), "line 1", "Did you mean 'corrupted'?"),
    ("x.jsonl", lines(PAIR.replace('"3"', "null")), "line 2", "it has no 'answers'"),
    ("x.jsonl", lines(PAIR[:-1] + ', "answers": "3"}'), "line 2", "'answers' and 'answer' both"),
    ("x.csv", HEAD + CELLS + "BOS 1 2 3,BOS 3 1 2,,2\n", "line 3", "it has no 'answers'"),
    # prompts
    ("x.jsonl", lines(PAIR.replace("BOS 1 2 3", "")), "line 2", "the clean prompt is empty"),
    ("x.jsonl", lines(PAIR.replace("BOS 3 1 2", "BOS 3")), "line 2", "clean has 4 tokens, corrup"),
    ("x.jsonl", lines(PAIR.replace("1 2 3", "1 2 7")), "line 2", "the model has no token '7'"),
    ("x.jsonl", lines(IDS), "line 2", "some prompts are text and some are token ids"),
    ("x.jsonl", lines(PAIR.replace('"BOS 3 1 2"', "[3, 1]")), "line 2", "must be text, as the cl"),
    ("x.jsonl", ids(clean=[3, 0.5, 1]), "line 2", "clean has 0.5, which is not a token id"),
    ("x.jsonl", ids(clean=[3, 99, 1]), "line 2", "token id 99; the model knows 0 to 4"),
    ("x.jsonl", ids(corrupted=[3, -1, 1]), "line 2", "token id -1; the model knows 0 to 4"),
    ("x.jsonl", ids(clean=[3] * 9, corrupted=[3] * 9), "line 2", "at most 6"),
    ("x.jsonl", ids(clean=[10**30, 1, 2]), "line 2", "which is not a token id"),
    ("x.jsonl", PAIR.replace("BOS 3 1 2", "BOS 1 2 3"), "", "every corrupted prompt equals"),
    # answers
    ("x.jsonl", lines(PAIR.replace('"3"', '"3 9"')), "line 2", "the model has no token '9'"),
    ("x.jsonl", lines(PAIR.replace('"3"', '""')), "line 2", "the answer '' is no token"),
    ("x.jsonl", lines(PAIR.replace('"3"', '"three"')), "line 2", "the model has no token 'three'"),
    ("x.jsonl", lines(PAIR.replace('"3"', "[]")), "line 2", "answers is empty"),
    ("x.jsonl", lines(PAIR.replace('"2"}', "{}}")), "line 2", "'wrong' must be text or token ids"),
    ("x.jsonl", lines(PAIR.replace('"3"', "[[0, 1]]")), "line 2", "has a list in a list"),
    ("x.jsonl", ids(answer=3), "line 2", "token id 3; the model knows 0 to 2"),
    ("x.csv", "clean,answer_ids\nBOS 1,x\n", "line 2", "'answer_ids' has 'x', which is not"),
    ("x.csv", "clean,correct_idx\nBOS 1,1\n", "line 2", "'1' is not the last two digits of a year"),
    ("x.jsonl", lines(PAIR[:-1] + ', "answer_positions": 1}'), "line 1", "no 'answer_positions'"),
    ("x.jsonl", PAIR[:-1] + ', "answer_positions": 9}', "line 1", "answer position 9 is outside"),
    ("x.jsonl", PAIR[:-1] + ', "answer_positions": []}', "line 1", "it has no answer position"),
    ("x.csv", "clean,answer_positions\nBOS 1,here\n", "line 2", "'here', which cannot be read"),
    # spans
    ("x.jsonl", '{"clean": [3, 9], "spans": {"a": "1"}}', "line 1", "no text for its ids"),
    ("x.jsonl", spans('{"a": 9}'), "line 1", "position 9 of span 'a' is outside its 4 tokens"),
    ("x.jsonl", spans('{"a": "7"}'), "line 1", "the clean prompt does not have '7'"),
    ("x.jsonl", spans('{"a": ["1", 2]}'), "line 1", "'1' is there 1 times, not 2"),
    ("x.jsonl", spans('{"a": ["1", "x"]}'), "line 1", "must say which occurrence"),
    ("x.jsonl", spans('{"a": 1, "b": "1"}'), "line 1", "position 1 is in spans 'a' and 'b'"),
    ("x.jsonl", spans('{"a": 1}', '{"b": 1}'), "line 2", "it has no span 'a'; 1 of 2 prompts"),
    ("x.jsonl", spans('{"a": 1}', '{"a": []}'), "line 2", "it has no position of span 'a'"),
    ("x.jsonl", spans('{"a": 1}', '["a"]'), "line 2", "'spans' must map names to positions"),
    ("x.jsonl", spans('{"a": null}'), "line 1", "'spans' must map names"),
    ("x.json", '{"word_idxs": 3, "prompts": [' + PAIR + "]}", "", "'word_idxs' must map names"),
    # other packages
    ("x.jsonl", '{"clean": "BOS 1<predict>2"}', "line 1", "<predict> has no </predict> after it"),
]


@pytest.mark.parametrize(("name", "text"), [case[:2] for case in MALFORMED[::6]])
def test_nothing_runs_on_a_malformed_file(capsys, tmp_path, name, text):
    file, out, report = tmp_path / name, tmp_path / "run", tmp_path / "report.html"
    file.write_text(text)
    arguments = ("--pairs", file, "--model", "tracr-reverse", "--metric", "l2", "--threshold", "1")
    code, printed, err = edgewise(capsys, "discover", *arguments, "--out", out, "--report", report)
    assert code == 2
    assert "Traceback" not in err
    assert printed == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize(("name", "text", "where", "message"), MALFORMED)
def test_a_malformed_file_is_told_where(capsys, tmp_path, name, text, where, message):
    file = tmp_path / name
    file.write_text(text)
    code, printed, _ = edgewise(
        capsys, "tasks", "check", file, "--model", "tracr-reverse", "--json"
    )
    assert code == 2
    found = json.loads(printed)
    assert not found["usable"]
    places = {fault["where"] or "": fault["message"] for fault in found["faults"]}
    assert where in places
    assert any(message in f["message"] for f in found["faults"] if (f["where"] or "") == where)


def test_bos_is_not_put_twice(capsys, tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text(lines(PAIR.replace("BOS 3", "3 3")))
    code, printed, _ = edgewise(
        capsys, "tasks", "check", file, "--model", "tracr-reverse", "--bos", "--json"
    )
    assert code == 2
    messages = [(f["line"], f["column"], f["message"]) for f in json.loads(printed)["faults"]]
    text = "the text begins with the BOS token already; drop bos."
    assert messages[:3] == [(1, "clean", text), (1, "corrupted", text), (2, "clean", text)]


# --- what is not a fault


def check(capsys, tmp_path, text, *more, model="tracr-reverse"):
    file = tmp_path / "x.jsonl"
    file.write_text(text)
    return json.loads(ok(capsys, "tasks", "check", file, "--model", model, "--json", *more))


def test_a_good_file(capsys, tmp_path):
    rows = [
        {"clean": "BOS 1 2 3", "corrupted": "BOS 2 3 1", "answer": "1", "wrong": "2"},
        {"clean": "BOS 2 1 3", "corrupted": "BOS 3 1 2", "answer": "2", "wrong": ["1", "3"]},
    ]
    found = check(capsys, tmp_path, "\n".join(map(json.dumps, rows)))
    assert (found["usable"], found["pairs"]) == (True, 2)
    assert (found["faults"], found["warnings"]) == ([], [])
    assert found["answers"]["clean"] == pytest.approx(
        {"accuracy": 1, "prefers_right": 1, "logit_diff": 1}, abs=1e-4
    )
    assert found["answers"]["corrupted"]["accuracy"] == 0
    out = ok(capsys, "tasks", "check", tmp_path / "x.jsonl", "--model", "tracr-reverse")
    assert "2 pairs can be used." in out
    assert "accuracy 1; the right answer beats the wrong one on 100%; logit difference 1." in out


def test_doubts_are_no_faults(capsys, tmp_path):
    rows = [
        {"clean": "BOS 1 2 3", "corrupted": "BOS 2 3 1", "answer": "1", "wrong": "2"},
        {"clean": "BOS 1 2 3", "corrupted": "BOS 2 3 1", "answer": "1", "wrong": "2"},
        {"clean": "BOS 1 2 3", "corrupted": "BOS 1 2 3", "answer": "1", "wrong": "2"},
        {"clean": "BOS 1 2 3", "corrupted": "2 1 2 3", "answer": "2", "wrong": "1"},
        {"clean": "BOS BOS 1 2", "corrupted": "BOS BOS 2 1", "answer": "1", "wrong": ["1", "2"]},
    ]
    found = check(capsys, tmp_path, "\n".join(map(json.dumps, rows)))
    assert found["usable"]
    warned = [(w["line"], w["column"], w["message"][:28]) for w in found["warnings"]]
    assert warned[:7] == [
        (2, "clean", "it is line 1 again, and coun"),
        (3, "corrupted", "it equals the clean prompt, "),
        (4, "corrupted", "only one of clean and corrup"),
        (4, "answers", "the model's own answer is '1"),
        (5, "wrong", "the token '1' is among the r"),
        (5, "clean", "it begins with the BOS token"),
        (5, "corrupted", "it begins with the BOS token"),
    ]


def test_a_behaviour_that_the_model_does_not_show(capsys, tmp_path):
    row = {"clean": "BOS 1 2 3", "corrupted": "BOS 2 3 1", "answer": "3"}
    found = check(capsys, tmp_path, json.dumps(row))
    assert "right on 0% of 1 prompts (the most likely" in found["warnings"][-1]["message"]
    assert found["answers"]["clean"]["logit_diff"] is None


def test_without_answers_or_model(capsys, tmp_path):
    assert check(capsys, tmp_path, '{"clean": "BOS 1 2"}')["answers"] is None
    file = tmp_path / "x.jsonl"
    file.write_text(IDS)
    assert json.loads(ok(capsys, "tasks", "check", file, "--json"))["model"] is None
    file.write_text(PAIR)
    code, _, err = edgewise(capsys, "tasks", "check", file)
    assert (code, "its prompts are text; pass the model" in err) == (2, True)


def test_every_fault_at_once_in_order(capsys, tmp_path):
    file = tmp_path / "x.jsonl"
    bad = {"clean": "BOS 1 2 3", "corrupted": "BOS 3", "answer": "9"}
    file.write_text(lines("{", json.dumps(bad), PAIR, PAIR.replace("1 2 3", "7")))
    code, out, _ = edgewise(capsys, "tasks", "check", file, "--model", "tracr-reverse")
    assert code == 2
    assert [line.split(":")[0].strip() for line in out.splitlines()[2:7]] == [
        "line 2",
        "line 3",
        "line 3",
        "line 3, answers",
        "line 5, clean",
    ]


# --- the command line's options for files


def discovered(capsys, file, out, *more):
    arguments = ("--pairs", file, "--model", "tracr-reverse", "--metric", "l2", *more)
    found = ok(capsys, "discover", *arguments, "--threshold", "0.01", "--json", "--out", out)
    return json.loads(found)


def test_columns_and_corruptions_are_kept_with_the_run(capsys, tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("prompt,foil\nBOS 1 2 3,x\nBOS 2 3 1,x\nBOS 2 1 1,x\n")
    for i, how in enumerate(("shuffle", "random")):
        out = tmp_path / f"run{i}"
        more = ("--columns", "clean=prompt,corrupted=", "--corrupt", how, "--seed", "3")
        assert discovered(capsys, file, out, *more)["n_edges"] > 0
        run = ew.Run.load(out)
        assert run.request["columns"] == "clean=prompt,corrupted="
        assert (run.request["corrupt"], run.request["seed"]) == (how, 3)
        ok(capsys, "evaluate", out)  # made again from the record: the same prompts


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--corrupt", "shuffel"), "no corruption named 'shuffel'. Known: 'shuffle'"),
        (("--corrupt", "shuffle"), "has corrupted prompts; to make others"),
        (("--corrupt", "random:S2", "--columns", "corrupted="), "no span named 'S2'"),
        (("--columns", "clean"), "a column map has 'clean'; it must be like clean=prompt"),
        (("--columns", "clear=x"), "no column named 'clear'. Did you mean 'clean'"),
        (("--seed", "3"), "--seed is for tasks"),
    ],
)
def test_options_that_do_not_fit(capsys, tmp_path, more, message):
    file = tmp_path / "x.jsonl"
    file.write_text(PAIR)
    arguments = ("--pairs", file, "--model", "tracr-reverse", "--threshold", "1")
    code, _, err = edgewise(capsys, "discover", *arguments, *more)
    assert code == 2
    assert message in " ".join(err.split())
    code, _, err = edgewise(capsys, "discover", "--task", "or-gate", "--threshold", "1", *more[:2])
    assert code == 2 or more[0] == "--seed"


# --- any file at all


def run_check(file) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["tasks", "check", str(file), "--model", "tracr-reverse", "--json"])
    return stop.value.code or 0


WORDS = st.lists(st.sampled_from(["BOS", "1", "2", "3", "7", '"', "[", ","]), max_size=5)
VALUE = (
    WORDS.map(" ".join)
    | st.lists(st.integers(-1, 6), max_size=4)
    | st.none()
    | st.booleans()
    | st.integers(-2, 7)
    | st.floats(allow_nan=True)
    | st.dictionaries(st.sampled_from("ab"), st.integers(-5, 5) | WORDS.map(" ".join), max_size=2)
)
NAMES = (
    *("clean", "corrupted", "corrupt", "answer", "answers", "wrong", "spans", "answer_positions"),
    *("correct_idx", "incorrect_idx", "label", "corr_text", "text", "prefix", "corr_prefix", "x"),
)
NAME = st.sampled_from(NAMES)
ROWS = st.lists(st.dictionaries(NAME, VALUE, max_size=6), max_size=4)


def _csv_of(rows) -> str:
    names = sorted({name for row in rows for name in row})
    file = io.StringIO()
    writer = csv.DictWriter(file, names)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _damaged(text: str, at: float, put: str) -> str:
    place = int(at * len(text))
    return text[:place] + put + text[place + 1 :]


@settings(
    derandomize=True,
    deadline=None,
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    ROWS,
    st.sampled_from([".json", ".jsonl", ".csv"]),
    st.none() | st.tuples(st.floats(0, 1), st.sampled_from(["", "}", '"', "\n", ",", "\x00", "é"])),
)
def test_any_file_is_used_whole_or_refused_with_reasons(tmp_path, capsys, rows, suffix, damage):
    file = tmp_path / f"x{suffix}"
    text = {".json": json.dumps, ".jsonl": lambda r: "\n".join(map(json.dumps, r)), ".csv": _csv_of}
    written = text[suffix](rows)
    file.write_bytes((_damaged(written, *damage) if damage else written).encode())
    code = run_check(file)
    printed = json.loads(capsys.readouterr().out)
    model = ew.load_model("tracr-reverse")
    if "error" in printed:
        assert code == 2
        return
    assert printed["usable"] == (code == 0)
    assert all(fault["message"] for fault in printed["faults"])
    if code == 0:
        pairs = ew.PromptPairs.from_file(file, tokenizer=model)
        assert len(pairs) == printed["pairs"]
        ew.Problem(model, pairs, "l2", "zero")
