"""`edgewise tasks` and `edgewise tasks show`: prompts to look at, as text and as JSON."""

import copy
import json
from dataclasses import replace

import pytest

import edgewise as ew
from commands import ok, refused
from edgewise.data.tokenizers import as_tokenizer
from edgewise.tasks import TASKS
from edgewise.tasks.language import BEHAVIOURS
from edgewise.tasks.samples import samples, samples_of, usual_task
from language_models import byte_pairs, language_model


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_sample(name):
    if TASKS[name].model in ew.model.BUNDLED or name in BEHAVIOURS:
        sample = samples(name, 1)[0]
        assert sample.clean
        assert len(sample.spans) == len(sample.clean)
        assert bool(sample.changed) == bool(sample.corrupted)
    clean, _ = TASKS[name].sample()
    assert clean


def test_samples_of_a_model_are_the_words_where_words_are_tokens():
    model = language_model("words")
    for name in BEHAVIOURS:
        words, tokens = samples(name, 3, seed=1), samples(name, 3, seed=1, model=model)
        for a, b in zip(words, tokens, strict=True):
            shift = len(b.clean) - len(a.clean)  # BOS
            assert b.clean[shift:] == a.clean
            assert b.spans[shift:] == a.spans
            assert [i - shift for i in b.answer_at] == list(a.answer_at)
            assert [i - shift for i in b.changed] == list(a.changed)
            assert b.wrong == a.wrong


def test_samples_without_a_tokenizer_are_ids():
    task = ew.load_task("induction", language_model("ids"), n=2, template="single")
    sample = samples_of(task)[0]
    assert all(token.isdigit() for token in (*sample.clean, *sample.answers, *sample.wrong))


def test_show_aligns_clean_and_corrupted(capsys):
    out = ok(capsys, "tasks", "show", "greater-than", "--n", "1", "--seed", "4")
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if "XX1" in line)
    names, clean, corrupted = lines[at : at + 3]
    (sample,) = samples("greater-than", 1, seed=4)
    year = sample.clean[7]
    place = names.index("YY")
    assert clean[place : place + 2] == year
    assert corrupted[place : place + 2] == "01"
    assert "* 01: YY becomes 01" in out
    assert "answer:" in out
    assert "wrong: 00" in out


def test_show_as_json(capsys):
    document = json.loads(
        ok(capsys, "tasks", "show", "ioi", "--n", "2", "--corruption", "swap", "--json")
    )
    assert document["task"] == "ioi"
    first = document["samples"][0]
    assert first["changed"] == [10]
    assert first["corrupted"][10] == first["clean"][2]
    assert len(document["samples"]) == 2


def test_show_of_a_program(capsys):
    out = ok(capsys, "tasks", "show", "tracr-reverse", "--n", "2", "--data", "paper")
    assert out.count("BOS") == 2 * 2
    assert "on" in ok(capsys, "tasks", "show", "or-gate")


def test_show_says_what_is_unknown(capsys):
    show = ("tasks", "show")
    assert "no task named 'ioj'. Did you mean 'ioi'" in refused(capsys, *show, "ioj")
    err = refused(capsys, *show, "ioi", "--corruption", "cba")
    assert "no corruption of ioi named 'cba'" in err


def test_the_list_has_examples_models_and_sizes(capsys):
    rows = {row["name"]: row for row in json.loads(ok(capsys, "tasks", "--json"))}
    assert rows["ioi"]["published_edges"] == 1041
    assert next(iter(rows["ioi"]["corruptions"])) == "abc"
    assert rows["ioi"]["example"]["clean"].startswith("Then, ")
    assert rows["tracr-reverse"]["example"]["clean"].startswith("BOS")
    out = ok(capsys, "tasks")
    assert "published circuit of 262 edges" in out
    assert "GPT-2 small (paper)" in out


# --- the same choices in the commands that work on a task


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random GPT-2 with a byte-level tokenizer, as a folder of transformers."""
    import torch
    import transformers

    torch.manual_seed(0)
    tokenizer = byte_pairs()
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=8, vocab_size=len(tokenizer), n_positions=48
    )
    path = tmp_path_factory.mktemp("gpt2")
    transformers.GPT2LMHeadModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_a_run_on_a_language_task_is_made_again_from_its_record(capsys, folder, tmp_path):
    out = tmp_path / "run"
    choices = ["--corruption", "swap", "--template", "family", "--n", "3", "--bos"]
    ok(capsys, "discover", "--task", "ioi", "--model", folder, *choices, "--method", "eap",
       "--metric", "logit-diff", "--edges", "5", "--out", out, "--json")  # fmt: skip
    origin = ew.Run.load(out).request
    assert {k: origin[k] for k in ("task", "corruption", "template", "n")} == {
        "task": "ioi", "corruption": "swap", "template": "family", "n": 3
    }  # fmt: skip
    document = json.loads(ok(capsys, "evaluate", out, "--json"))
    assert document["split"] == "test"


def test_tokens_of_a_folder_are_shown(capsys, folder):
    document = json.loads(
        ok(capsys, "tasks", "show", "greater-than", "--model", folder, "--n", "2", "--json")
    )
    assert [len(sample["clean"]) for sample in document["samples"]] == [10, 10]


def test_a_task_without_its_model_says_what_to_give(capsys, monkeypatch):
    monkeypatch.setattr("edgewise.tasks.registry.BUNDLED", ())
    asked = ("discover", "--threshold", "1")
    assert "ioi needs a model: give one" in refused(capsys, *asked, "--task", "ioi")
    pairs = ("--pairs", "x.jsonl", "--model", "tracr-reverse", "--corruption", "abc")
    assert "--corruption is for tasks" in refused(capsys, *asked, *pairs)


def test_the_chat_template_and_its_bos_are_tokens_to_be_seen(capsys):
    template = "{{ bos_token }}User: {{ messages[0]['content'] }}\nReply:"
    tokenizer = copy.deepcopy(byte_pairs())
    tokenizer.chat_template = template
    model = replace(language_model("byte-pairs", n_ctx=64), tokenizer=as_tokenizer(tokenizer))
    task = usual_task("ioi", 2, model, seed=3, chat=True)
    assert len(task.problem.pairs) == BEHAVIOURS["ioi"].n
    (sample, _), (plain,) = samples_of(task)[:2], samples("ioi", 1, seed=3)
    assert sample.clean[0] == tokenizer.bos_token
    assert "".join(sample.clean[1:]) == f"User: {''.join(plain.clean)}\nReply:"
    assert sample.answer_at == (len(sample.clean) - 1,)
    assert task.problem.accuracy().other_bos is None, "the template says where BOS is"
    assert "has no chat template" in refused(capsys, "tasks", "show", "ioi", "--chat")
