"""Prompts begin as the model's own tokenizer begins them, unless asked, and the record says how."""

import json
from dataclasses import replace

import pytest

import edgewise as ew
from edgewise.cli.main import main
from edgewise.data import PromptPairs
from edgewise.data.tokenizers import HuggingFaceTokenizer
from language_models import language_model
from models import random_model
from tiny_tokenizers import KINDS, tiny

TEXT = "The dog saw Ann."


def begun(tokenizer, text=TEXT, **options) -> list[str]:
    pairs = PromptPairs.from_text([text], tokenizer=tokenizer, **options)
    return tokenizer.convert_ids_to_tokens(pairs.clean[0].tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eos", [False, True])
def test_none_is_what_the_tokenizer_adds_in_front_and_no_suffix(kind, eos):
    for adds in (False, True):
        tokenizer = tiny(kind, bos=adds, eos=eos)
        assert HuggingFaceTokenizer(tokenizer).adds_bos is adds
        plain = tokenizer.tokenize(TEXT)
        assert begun(tokenizer) == (["<s>"] if adds else []) + plain
        assert begun(tokenizer, bos=True) == ["<s>", *plain]
        assert begun(tokenizer, bos=False) == plain


def test_files_rows_and_shared_spans_follow_and_say_so(tmp_path):
    tokenizer = tiny("byte-level", bos=True)
    rows = [{"clean": TEXT, "answer_ids": 3, "spans": {"first": 0}}]
    for options in ({}, {"bos": True}, {"bos": False}):
        pairs = PromptPairs.from_dataset(rows, tokenizer=tokenizer, **options)
        assert pairs.bos is options.get("bos", True)
        assert pairs.sha256 == PromptPairs.from_text(
            [TEXT], tokenizer=tokenizer, answers=[3], spans={"first": 0}, **options
        ).sha256  # fmt: skip
        assert pairs.sha256 == PromptPairs.from_tokens(
            pairs.clean, answers=[3], spans={"first": 0}
        ).sha256  # fmt: skip
    assert PromptPairs.from_tokens([[1]]).bos is None
    file = tmp_path / "words.json"
    pair = {"clean": TEXT, "corrupt": TEXT, "answers": ["a"], "wrong_answers": ["b"]}
    n = len(tokenizer.tokenize(TEXT))
    file.write_text(json.dumps({"prompts": [pair], "word_idxs": {"END": n - 1}}))
    for options, end in (({}, n), ({"bos": False}, n - 1)):
        pairs = PromptPairs.from_file(file, tokenizer=tokenizer, **options)
        assert pairs.spans["END"][0].nonzero().flatten().tolist() == [end]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two GPT-2 folders whose tokenizers differ in nothing but BOS."""
    transformers = pytest.importorskip("transformers")
    found = {}
    for adds in (False, True):
        tokenizer = tiny("byte-level", bos=adds)
        config = transformers.GPT2Config(
            n_layer=1, n_head=2, n_embd=8, n_positions=32, vocab_size=len(tokenizer),
            bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        found[adds] = tmp_path_factory.mktemp("model")
        transformers.GPT2LMHeadModel(config).save_pretrained(found[adds])
        tokenizer.save_pretrained(found[adds])
    return found


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    return stop.value.code or 0


@pytest.mark.parametrize("adds", [False, True])
def test_a_run_says_what_was_done_and_is_made_again(folders, tmp_path, capsys, adds):
    file = tmp_path / "pairs.jsonl"
    row = {"clean": "The dog saw the", "corrupted": "The cat saw the", "answers": "t"}
    file.write_text(json.dumps(row))
    for flags, wanted in (([], adds), (["--bos"], True), (["--no-bos"], False)):
        out = tmp_path / f"run{len(flags)}{wanted}"
        asked = ["--pairs", file, "--model", folders[adds], "--method", "eap-ig", "--edges", 3]
        assert command("discover", *asked, *flags, "--out", out) == 0
        run = ew.Run.load(out)
        assert run.problem.bos is wanted
        assert command("evaluate", out, "--json") == 0
        capsys.readouterr()
        assert command("tasks", "check", file, "--model", folders[adds], *flags, "--json") == 0
        assert json.loads(capsys.readouterr().out)["usable"]


def test_named_tasks_follow_the_paper_on_its_tokenizer_and_else_the_models():
    def starts(tokenizer, name: str, **options) -> bool:
        size = len(tokenizer)
        model = random_model(d_vocab=size, d_vocab_out=size, n_ctx=64)
        pairs = ew.load_task(
            name, replace(model, tokenizer=HuggingFaceTokenizer(tokenizer)), n=3, **options
        ).problem.pairs
        assert pairs.bos is bool((pairs.clean[:, 0] == tokenizer.bos_token_id).all())
        return pairs.bos

    papers = language_model("byte-pairs").tokenizer._tokenizer  # as GPT-2's
    assert not starts(papers, "ioi")
    assert starts(papers, "docstring")
    assert not starts(papers, "docstring", bos=False)
    other = _with_another_bos(papers, adds=False)
    assert not starts(other, "ioi")
    assert not starts(other, "docstring")
    own = _with_another_bos(papers, adds=True)
    assert starts(own, "ioi")
    assert starts(own, "docstring")
    assert not starts(own, "ioi", bos=False)
    assert ew.load_task("docstring", n=3).problem.pairs.bos, "as the paper, on the bundled model"
    assert not ew.load_task("ioi", n=3).problem.pairs.bos


def _with_another_bos(tokenizer, *, adds: bool):
    """The same words, with a BOS that is not GPT-2's separator of documents."""
    import tokenizers
    import transformers

    text = tokenizer.backend_tokenizer.to_str().replace("<|endoftext|>", "<start>")
    made = tokenizers.Tokenizer.from_str(text)
    if adds:
        special = [("<start>", made.token_to_id("<start>"))]
        made.post_processor = tokenizers.processors.TemplateProcessing(
            single="<start> $A", special_tokens=special
        )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<start>")
