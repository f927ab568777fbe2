"""Files of prompts as users have them: broken in every way, told where, and never half used."""

import json

import pytest

import edgewise as ew
from commands import edgewise, ok, refused

PAIR = '{"clean": "BOS 1 2 3", "corrupted": "BOS 3 1 2", "answer": "3", "wrong": "2"}'
IDS = '{"clean": [3, 0, 1], "corrupted": [3, 1, 0], "answer": 0, "wrong": 1}'
HEAD = "clean,corrupted,answer,wrong\n"
CELLS = "BOS 1 2 3,BOS 3 1 2,3,2\n"
CHECK = ("tasks", "check")
REVERSE = ("--model", "tracr-reverse")


def lines(*rows: str) -> str:
    return "\n".join([PAIR, *rows])


def ids(**changes) -> str:
    return "\n".join([IDS, json.dumps({**json.loads(IDS), **changes})])


def spans(*texts: str) -> str:
    return "\n".join(PAIR[:-1] + f', "spans": {text}}}' for text in texts)


# The place that is named, a part of what is said of it, and what the file holds.
JSON = [
    ("", "there are no prompts", "  \n\n"),
    ("", "there are no prompts", "[]"),
    ("line 2", "not JSON: ", lines('{"clean": "BOS 1",}')),
    ("line 3", "not JSON: Expecting prop", lines("", "{'clean': 'BOS 1'}")),
    ("line 2", "not JSON: Expecting ','", lines('{"clean": "BOS 1"')),
    ("line 2", "not JSON: Extra data", lines(PAIR + PAIR)),
    ("line 2", 'expected an object like {"clean": …}', lines('["BOS 1"]')),
    ("line 2", "'clean' is there twice", lines('{"clean": "BOS 1", "clean": "BOS 2"}')),
    ("line 2", "cannot be read", lines('{"clean": ' + "9" * 5000 + "}")),
    ("line 2", "not JSON: Expecting property", "[" + PAIR + ",\n{]"),
    ("item 2", "expected an object like", "[" + PAIR + ",\n5]"),
    ("line 1", "it has no 'clean'; its columns are 'data'", '{\n"data": []}'),
    # columns
    ("line 1", "Say which it is: columns=", '{"prompt": "BOS 1"}'),
    ("line 2", "it has no 'corrupted'", lines('{"clean": "BOS 1 2 3"}')),
    ("line 1", "Did you mean 'corrupted'?", PAIR.replace("corrupted", "corupted")),
    ("line 2", "it has no 'answers'", lines(PAIR.replace('"3"', "null"))),
    ("line 2", "'answer' and 'answers' both", lines(PAIR[:-1] + ', "answers": "3"}')),
    # prompts
    ("line 2", "the clean prompt is empty", lines(PAIR.replace("BOS 1 2 3", ""))),
    ("line 2", "the model has no token '7'", lines(PAIR.replace("1 2 3", "1 2 7"))),
    ("line 2", "most prompts are text", lines(IDS)),
    ("line 2", "most prompts are text", lines(PAIR.replace('"BOS 3 1 2"', "[3, 1]"))),
    ("line 2", "clean has 0.5, which is not a token id", ids(clean=[3, 0.5, 1])),
    ("line 2", "token id 99; the model knows 0 to 4", ids(clean=[3, 99, 1])),
    ("line 2", "token id -1; the model knows 0 to 4", ids(corrupted=[3, -1, 1])),
    ("line 2", "at most 6", ids(clean=[3] * 9, corrupted=[3] * 9)),
    ("", "every corrupted prompt equals", PAIR.replace("BOS 3 1 2", "BOS 1 2 3")),
    # answers
    ("line 2", "the model has no token 'three'", lines(PAIR.replace('"3"', '"three"'))),
    ("line 2", "'' is no token", lines(PAIR.replace('"3"', '""'))),
    ("line 2", "neither text nor a token id", lines(PAIR.replace('"2"}', "{}}"))),
    ("line 2", "token id 3; the model knows 0 to 2", ids(answer=3)),
    ("line 1", "no 'answer_positions'", lines(PAIR[:-1] + ', "answer_positions": 1}')),
    ("line 1", "9 is no answer position", PAIR[:-1] + ', "answer_positions": 9}'),
    # spans
    ("line 1", "no text for its ids", '{"clean": [3, 9], "spans": {"a": "1"}}'),
    ("line 1", "the clean prompt has '7' 0 times", spans('{"a": "7"}')),
    ("line 1", "'1' 1 times; none is 2", spans('{"a": ["1", 2]}')),
    ("line 2", "it has no span 'a', unlike most", spans('{"a": 1}', '{"b": 1}')),
    ("line 2", "'spans' must map names to positions", spans('{"a": 1}', '["a"]')),
    ("item 1", "'word_idxs' must map names", '{"word_idxs": 3, "prompts": [' + PAIR + "]}"),
    # other packages
    ("line 1", "<predict> has no </predict> after it", '{"clean": "BOS 1<predict>2"}'),
]
CSV = [
    ("line 3", "it has 2 cells; the header has 4", HEAD + CELLS + "BOS 1,BOS 2\n"),
    ("line 3", "not CSV: unexpected end of data", HEAD + CELLS + '"BOS 1,BOS 2,3,2\n'),
    ("line 2", "not CSV: ", HEAD + '"a"b,c,d,e\n'),
    ("", "there are no prompts", HEAD),
    ("line 1", "'clean' is there twice", "clean,clean,answer,wrong\n" + CELLS),
    ("line 2", "it has no 'clean'; its columns are 'BOS 1 2 3'", CELLS + CELLS),
    ("line 2", "'answer_ids' has 'x', which is not", "clean,answer_ids\nBOS 1,x\n"),
    ("line 2", "'here' is no answer position", "clean,answer_positions\nBOS 1,here\n"),
]
MALFORMED = [("x.jsonl", *case) for case in JSON] + [("x.csv", *case) for case in CSV]


@pytest.mark.parametrize(("name", "where", "message", "text"), MALFORMED)
def test_a_malformed_file_is_told_where(capsys, tmp_path, name, where, message, text):
    file = tmp_path / name
    file.write_text(text)
    code, printed, _ = edgewise(capsys, *CHECK, file, *REVERSE, "--json")
    found = json.loads(printed)
    assert (code, found["usable"]) == (2, False)
    assert any(message in f["message"] for f in found["faults"] if (f["where"] or "") == where)


@pytest.mark.parametrize(("name", "text"), [(case[0], case[3]) for case in MALFORMED[::12]])
def test_nothing_runs_on_a_malformed_file(capsys, tmp_path, name, text):
    file, report = tmp_path / name, tmp_path / "report.html"
    file.write_text(text)
    arguments = ("--pairs", file, *REVERSE, "--metric", "l2", "--threshold", "1")
    refused(capsys, "discover", *arguments, "--out", tmp_path / "run", "--report", report)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_every_fault_at_once_in_order(capsys, tmp_path):
    file = tmp_path / "x.jsonl"
    bad = {"clean": "BOS 1 2 3", "corrupted": "BOS 3", "answer": "9"}
    file.write_text(lines("{", json.dumps(bad), PAIR, PAIR.replace("1 2 3", "7")))
    code, out, _ = edgewise(capsys, *CHECK, file, *REVERSE)
    places = [line.split(":")[0].strip() for line in out.splitlines()[2:7]]
    assert code == 2
    assert places == ["line 2", "line 3", "line 3", "line 3, answers", "line 5, clean"]


# --- what is not a fault


def check(capsys, tmp_path, *rows, more=()):
    file = tmp_path / "x.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return json.loads(ok(capsys, *CHECK, file, *REVERSE, "--json", *more))


GOOD = {"clean": "BOS 1 2 3", "corrupted": "BOS 2 3 1", "answer": "1", "wrong": "2"}


def test_a_good_file(capsys, tmp_path):
    more = {"clean": "BOS 2 1 3", "corrupted": "BOS 3 1 2", "answer": "2", "wrong": ["1", "3"]}
    found = check(capsys, tmp_path, GOOD, more)
    assert (found["usable"], found["pairs"]) == (True, 2)
    assert (found["faults"], found["warnings"]) == ([], [])
    assert found["answers"]["clean"] == pytest.approx(
        {"accuracy": 1, "prefers_right": 1, "logit_diff": 1}, abs=1e-4
    )
    assert found["answers"]["corrupted"]["accuracy"] == 0
    out = ok(capsys, *CHECK, tmp_path / "x.jsonl", *REVERSE)
    assert "2 pairs can be used." in out
    assert "accuracy 1; the right answer beats the wrong one on 100%; logit difference 1." in out


def test_warnings_are_no_faults(capsys, tmp_path):
    found = check(
        capsys,
        tmp_path,
        GOOD,
        GOOD,
        {**GOOD, "corrupted": "BOS 1 2 3"},
        {**GOOD, "corrupted": "2 1 2 3", "answer": "2", "wrong": "1"},
        {"clean": "BOS BOS 1 2", "corrupted": "BOS BOS 2 1", "answer": "1", "wrong": ["1", "2"]},
    )
    assert found["usable"]
    assert [(w["line"], w["column"], w["message"][:28]) for w in found["warnings"]][:7] == [
        (2, "clean", "it is line 1 again, and coun"),
        (3, "corrupted", "it equals the clean prompt, "),
        (4, "corrupted", "only one of clean and corrup"),
        (4, "answers", "the model's own answer is '1"),
        (5, "wrong", "the token '1' is among the r"),
        (5, "clean", "it begins with the BOS token"),
        (5, "corrupted", "it begins with the BOS token"),
    ]


def test_a_behaviour_that_the_model_does_not_show_and_no_answers(capsys, tmp_path):
    found = check(capsys, tmp_path, {"clean": "BOS 1 2 3", "corrupted": "BOS 2 3 1", "answer": "3"})
    assert "right on 0% of 1 prompts (the most likely" in found["warnings"][-1]["message"]
    assert found["answers"]["clean"]["logit_diff"] is None
    assert check(capsys, tmp_path, {"clean": "BOS 1 2"})["answers"] is None
    file = tmp_path / "x.jsonl"
    file.write_text(IDS)
    assert json.loads(ok(capsys, *CHECK, file, "--json"))["model"] is None
    file.write_text(PAIR)
    assert "its prompts are text; pass the model" in refused(capsys, *CHECK, file)


# --- the command line's options for files


@pytest.mark.parametrize("how", ["shuffle", "random"])
def test_columns_and_corruptions_are_kept_with_the_run(capsys, tmp_path, how):
    file, out = tmp_path / "x.csv", tmp_path / "run"
    file.write_text("prompt,foil\nBOS 1 2 3,x\nBOS 2 3 1,x\nBOS 2 1 1,x\n")
    more = ("--columns", "clean=prompt,corrupted=", "--corrupt", how, "--seed", "3")
    arguments = ("--pairs", file, *REVERSE, "--metric", "l2", "--threshold", "0.01", *more)
    ok(capsys, "discover", *arguments, "--out", out)
    run = ew.Run.load(out)
    assert run.circuit.n_edges > 0
    assert run.request["columns"] == "clean=prompt,corrupted="
    assert (run.request["corrupt"], run.request["seed"]) == (how, 3)
    ok(capsys, "evaluate", out)  # made again from the record: the same prompts


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--corrupt", "shuffel"), "no corruption named 'shuffel'. Did you mean 'shuffle'"),
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
    arguments = ("--pairs", file, *REVERSE, "--threshold", "1")
    assert message in refused(capsys, "discover", *arguments, *more)
