"""`edgewise compare`: circuits that are given, or found in several settings."""

import json

import pytest
import torch
import transformers

import edgewise as ew
from commands import ok, refused
from edgewise.cli.compare import groups_of, parse_over
from edgewise.errors import EdgewiseError
from edgewise.tasks import published_circuit

REVERSE = ("--task", "tracr-reverse")
OVER = ("--over", "ablation")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Two run folders, and a circuit file."""
    folder = tmp_path_factory.mktemp("found")
    problem = ew.load_task("tracr-reverse").problem
    for kind in ("zero", "mean"):
        ew.acdc(problem.with_(ablation=kind), threshold=0.01).save(folder / kind)
    published_circuit("tracr-reverse").save(folder / "known.json")
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A folder with a random GPT-2 without a tokenizer, for induction on token ids."""
    folder = tmp_path_factory.mktemp("gpt2") / "model"
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 12, "vocab_size": 24, "n_positions": 24}
    module = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=1)
    )
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    module.double().save_pretrained(folder)
    return folder


def compared(capsys, *arguments):
    return json.loads(ok(capsys, "compare", *arguments, "--json"))


def names(document):
    return [circuit["name"] for circuit in document["circuits"]]


# --- circuits that are given


def test_runs_and_files(capsys, found, tmp_path):
    page = tmp_path / "page.html"
    paths = (found / "zero", found / "mean", found / "known.json")
    out = ok(capsys, "compare", *paths, "--report", page)
    assert "3 known.json" in out
    assert page.read_text().startswith("<!doctype html>")
    known = ["zero", "mean", "known.json"]
    items = [ew.Run.load(paths[0]), ew.Run.load(paths[1]), ew.Circuit.load(paths[2])]
    expected = json.loads(json.dumps(ew.compare(items, names=known).to_json()))
    assert compared(capsys, *paths) == expected | {"runs": {}, "report": None}


def test_each_on_its_own_problem_and_all_on_one(capsys, found):
    runs = (found / "zero", found / "mean")
    crossed = compared(capsys, *runs, "--cross")["faithfulness"]
    assert [(j["circuit"], j["owners"]) for j in crossed] == [
        ("zero", ["zero"]), ("mean", ["zero"]), ("zero", ["mean"]), ("mean", ["mean"]),
    ]  # fmt: skip
    named = compared(capsys, *runs, found / "known.json", *REVERSE)
    effects = {j["circuit"]: j["normalized"] for j in named["faithfulness"]}
    assert effects["known.json"] == pytest.approx(1)
    message = refused(capsys, "compare", runs[0], found / "known.json", "--cross")
    assert "known.json is a circuit file, which does not say" in message


def test_names_of_circuits(capsys, found, tmp_path):
    paths = (found / "zero", tmp_path / "zero")
    ew.Run.load(found / "mean").save(paths[1])
    assert names(compared(capsys, *paths)) == [str(path) for path in paths]
    assert names(compared(capsys, *paths, "--names", "left, right")) == ["left", "right"]
    for labels in ("left", "left,left"):
        assert "--names" in refused(capsys, "compare", *paths, "--names", labels)


def test_groups_come_with_the_task():
    graph = published_circuit("ioi").graph
    assert groups_of("ioi", ["gpt2"], graph)["S-inhibition"] == [
        "a7.h3",
        "a7.h9",
        "a8.h6",
        "a8.h10",
    ]
    assert groups_of("ioi", ["gpt2"], ew.Graph.build(2, 2)) == {}
    assert groups_of("ioi", ["gpt2", "gpt-neo-125m"], graph) == groups_of("ioi", [], graph) == {}
    assert groups_of("tracr-reverse", ["gpt2"], graph) == groups_of(None, ["gpt2"], graph) == {}


# --- circuits to find


def test_find_and_compare(capsys, gpt2, tmp_path):
    out, page = tmp_path / "runs", tmp_path / "page.html"
    command = ("--task", "induction", "--model", gpt2, "--template", "single", "--n", 6)
    command += ("--over", "corruption,metric=kl,logit-diff", "--method", "eap-ig")
    command += ("--edges", 8, "--cross", "--out", out)
    text = ok(capsys, "compare", *command, "--report", page)
    assert "6 first-a, logit-diff" in text
    document = compared(capsys, *command)
    assert len(document["pairs"]) == 15
    assert len(document["faithfulness"]) == 36
    assert {j["prompts"] for j in document["faithfulness"]} == {"held-out"}
    for name, folder in document["runs"].items():
        run = ew.Run.load(folder)
        assert name == f"{run.request['corruption']}, {run.problem.metric}"
    given = compared(capsys, *document["runs"].values(), "--cross")
    assert given["edges"].keys() == document["edges"].keys()
    values = [[j["value"] for j in d["faithfulness"]] for d in (given, document)]
    assert values[0] == pytest.approx(values[1])


def test_settings_that_share_a_name_with_an_option_and_pairs_of_ones_own(capsys, gpt2, tmp_path):
    lines = [{"clean": [1, 2, 3, i], "corrupted": [1, 5, 3, i]} for i in range(6, 9)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    command = ("--pairs", file, "--model", gpt2, *OVER, "--method", "eap-ig", "--edges", 8)
    document = compared(capsys, *command, "--method-over", "activations")
    assert names(document)[:2] == ["corrupted", "zero"]
    assert {j["prompts"] for j in document["faithfulness"]} == {"discovery"}


def test_over_is_parsed():
    assert parse_over(["corruption,metric"]) == {"corruption": None, "metric": None}
    assert parse_over(["metric=kl,nll,seed", "ablation=zero"]) == {
        "metric": ["kl", "nll"], "seed": None, "ablation": ["zero"],
    }  # fmt: skip
    assert parse_over([" seed = 3, 4 "]) == {"seed": [3, 4]}
    for words, message in (
        ("metrics", "Did you mean 'metric'"),
        ("metric,kl", "no setting to compare over named 'kl'"),
        ("seed,seed=3", "names seed twice"),
        ("seed=x", "'x'"),
        ("metric=", "a value that is empty"),
        ("threshold=1,2", "no setting to compare over named 'threshold'"),
    ):
        with pytest.raises(EdgewiseError, match=message):
            parse_over([words])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x",), "at least two run folders or circuit files, or say with --over"),
        (("x", "y"), "cannot read the circuit file x"),
        (("x", "y", *OVER), "x is for comparing circuits that are there"),
        (("x", "y", "--threshold", 1), "threshold is for finding circuits"),
        ((*REVERSE, *OVER), "method 'acdc' needs threshold"),
        ((*REVERSE, *OVER, "--ablation", "zero", "--threshold", 1), "ablation is what varies"),
        ((*REVERSE, "--over", "ablation=zero,nil", "--threshold", 1), "no ablation named 'nil'"),
        ((*REVERSE, "--over", "model=tracr-reverse,or-gate", "--threshold", 1), "or-gate"),
        ((*REVERSE, "--over", "ablation,data,metric,seed", "--threshold", 1), "--yes"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_any_run(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "compare", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_refused_before_any_run(capsys, found):
    command = ("compare", *REVERSE, *OVER, "--threshold", 1, "--out")
    assert "Choose a folder for several runs" in refused(capsys, *command, found / "zero")
    assert "threshold was 0.01, is 1.0" in refused(capsys, *command, found)


def test_an_error_says_in_which_setting(capsys, gpt2):
    command = ("compare", "--task", "induction", "--model", gpt2, "--template", "single", "--n", 4)
    command += ("--over", "metric=logit-diff,kl", "--method", "hisp", "--activations", 3)
    assert refused(capsys, *command).endswith("(In the run 'kl'.)")
