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
from hf import hf_model
from language_models import byte_pairs, language_model


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_sample(name):
    if TASKS[name].model in ew.model.BUNDLED or name in BEHAVIOURS:
        (sample,) = samples(name, 1)
        assert sample.clean
        assert len(sample.spans) == len(sample.clean)
        assert bool(sample.changed) == bool(sample.corrupted)


def test_samples_of_a_model_are_the_words_where_words_are_tokens():
    model = language_model("words")
    for name in BEHAVIOURS:
        words, tokens = samples(name, 3, seed=1), samples(name, 3, seed=1, model=model)
        for a, b in zip(words, tokens, strict=True):
            shift = len(b.clean) - len(a.clean)  # BOS
            assert (b.clean[shift:], b.spans[shift:], b.wrong) == (a.clean, a.spans, a.wrong)
            assert [i - shift for i in b.answer_at] == list(a.answer_at)
            assert [i - shift for i in b.changed] == list(a.changed)


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
    place = names.index("YY")
    assert (clean[place : place + 2], corrupted[place : place + 2]) == (sample.clean[7], "01")
    assert "* 01: YY becomes 01" in out
    assert "wrong: 00" in out
    assert max(map(len, lines)) <= 80


def test_show_as_json_in_words_and_in_a_models_tokens(capsys, tmp_path):
    command = ("tasks", "show", "ioi", "--n", "2", "--corruption", "swap", "--json")
    document = json.loads(ok(capsys, *command))
    first, _ = document["samples"]
    assert (document["task"], first["changed"]) == ("ioi", [10])
    assert first["corrupted"][10] == first["clean"][2]
    sizes = {"vocab_size": len(byte_pairs()), "max_position_embeddings": 64}
    hf_model("llama", **sizes).save_pretrained(tmp_path)
    byte_pairs().save_pretrained(tmp_path)
    document = json.loads(ok(capsys, *command, "--model", tmp_path))
    assert "".join(document["samples"][0]["clean"]).endswith("".join(first["clean"]))
    assert document["accuracy"]["n_prompts"] >= 2


def test_show_of_a_program_and_of_what_is_unknown(capsys):
    show = ("tasks", "show")
    out = ok(capsys, *show, "tracr-reverse", "--n", "2", "--data", "paper")
    assert out.count("BOS") == 2 * 2
    assert "no task named 'ioj'. Did you mean 'ioi'" in refused(capsys, *show, "ioj")
    err = refused(capsys, *show, "ioi", "--corruption", "cba")
    assert "no corruption of ioi named 'cba'" in err
    assert "has no chat template" in refused(capsys, *show, "ioi", "--chat")


def test_the_list_has_examples_models_and_sizes(capsys):
    rows = {row["name"]: row for row in json.loads(ok(capsys, "tasks", "--json"))}
    assert rows["ioi"]["published_edges"] == 1041
    assert next(iter(rows["ioi"]["corruptions"])) == "abc"
    assert rows["tracr-reverse"]["example"]["clean"].startswith("BOS")
    out = ok(capsys, "tasks")
    assert "published circuit of 262 edges" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


def test_a_task_without_its_model_says_what_to_give(capsys, monkeypatch):
    monkeypatch.setattr("edgewise.tasks.registry.BUNDLED", ())
    message = refused(capsys, "discover", "--threshold", "1", "--task", "ioi")
    assert "ioi needs a model: give one" in message


def test_the_chat_template_and_its_bos_are_tokens_to_be_seen():
    tokenizer = copy.deepcopy(byte_pairs())
    tokenizer.chat_template = "{{ bos_token }}User: {{ messages[0]['content'] }}\nReply:"
    model = replace(language_model("byte-pairs", n_ctx=64), tokenizer=as_tokenizer(tokenizer))
    task = usual_task("ioi", 2, model, seed=3, chat=True)
    assert len(task.problem.pairs) == BEHAVIOURS["ioi"].n
    (sample, _), (plain,) = samples_of(task)[:2], samples("ioi", 1, seed=3)
    assert sample.clean[0] == tokenizer.bos_token
    assert "".join(sample.clean[1:]) == f"User: {''.join(plain.clean)}\nReply:"
    assert sample.answer_at == (len(sample.clean) - 1,)
    assert task.problem.accuracy().other_bos is None, "the template says where BOS is"
