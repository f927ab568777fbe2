"""A user's own prompts on real models, through the command line."""

import json

import pytest

PAIRS = [
    ("The keys to the cabinet", "The key to the cabinet", " are", " is"),
    ("The pictures of the president", "The picture of the president", " were", " was"),
    ("The letters from the teacher", "The letter from the teacher", " are", " is"),
    ("The flowers in the garden", "The flower in the garden", " were", " was"),
    ("The books about the painter", "The book about the painter", " are", " is"),
    ("The rivers near the village", "The river near the village", " are", " is"),
]
JSONL = "".join(
    json.dumps(dict(zip(("clean", "corrupted", "answer", "wrong"), row, strict=True))) + "\n"
    for row in PAIRS
)
MODELS = pytest.mark.parametrize("name", ["smollm2", "gemma3"])
HOW = ["--metric", "logit-diff"]


def discovered(edgewise, folder, *method):
    """The run of a method on the prompts above, `run` in the folder where it was made."""
    files = {"own.jsonl": JSONL}
    asked = ["--pairs", "own.jsonl", "--model", folder, *HOW, "--out", "run", "--json"]
    return edgewise("discover", *method, *asked, files=files)


@MODELS
@pytest.mark.real_quick
def test_own_prompts_from_discovery_to_report(edgewise, folders, name):
    found = discovered(edgewise, folders[name], "--method", "eap-ig", "--edges", "200")
    run = found.folder / "run"
    evaluated = edgewise("evaluate", run, "--random", "2", "--no-minimality", "--json").json()
    assert evaluated["n_prompts"] == len(PAIRS)
    assert len(evaluated["random"]) == 2
    page = edgewise("report", run, "--out", "page.html")
    assert "logits" in (page.folder / "page.html").read_text()


@MODELS
def test_acdc_on_own_prompts_tested_and_resampled(edgewise, folders, name):
    run = discovered(edgewise, folders[name], "--method", "acdc", "--threshold", "0.1")
    folder = run.folder / "run"
    tested = edgewise("test", folder, "--random", "10", "--max-edges", "20", "--json").json()
    assert tested
    asked = ["--pairs", "own.jsonl", "--model", folders[name], *HOW, "--replicates", "20"]
    by = ["--method", "eap-ig", "--edges", "200", "--over", "prompts", "--json"]
    assert edgewise("stability", *by, *asked, files={"own.jsonl": JSONL}).json()


@MODELS
def test_a_gguf_file_holds_what_circuits_rest_on(edgewise, gguf_files, name):
    assert edgewise("models", "check", gguf_files[name], "--json").json()["holds"]
