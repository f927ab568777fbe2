"""Prompts begin as the model's own tokenizer begins them, or as the user's turn of a chat."""

import copy
import json
from dataclasses import replace

import pytest
import transformers
from words import positions

import edgewise as ew
from commands import ok
from edgewise.data import PromptPairs, as_tokenizer
from edgewise.errors import ProblemError, SettingError
from language_models import language_model
from models import random_model
from tiny_tokenizers import KINDS, tiny

TEXT = "The dog saw Ann."
TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}{{ turn['role'] }} saw: {{ turn['content'] | trim }}"
    "{% endfor %}{% if add_generation_prompt %}\nthe dog saw:\n{% endif %}"
)


def chatting(tokenizer, template: str = TEMPLATE):
    made = copy.deepcopy(tokenizer)
    made.chat_template = template
    return made


def model_reading(tokenizer) -> ew.Model:
    adapted = as_tokenizer(tokenizer)
    shape = {"d_vocab": adapted.n_tokens, "d_vocab_out": adapted.n_tokens, "n_ctx": 128}
    return replace(random_model(**shape), tokenizer=adapted)


# --- BOS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eos", [False, True])
def test_none_is_what_the_tokenizer_adds_in_front_and_no_suffix(kind, eos):
    for adds in (False, True):
        tokenizer = tiny(kind, bos=adds, eos=eos)
        plain = tokenizer.tokenize(TEXT)
        for bos, start in ((None, adds), (True, True), (False, False)):
            pairs = PromptPairs.from_text([TEXT], tokenizer=tokenizer, bos=bos)
            tokens = tokenizer.convert_ids_to_tokens(pairs.clean[0].tolist())
            assert tokens == ["<s>"] * start + plain
            assert pairs.bos is start
    assert PromptPairs.from_tokens([[1]]).bos is None


def test_files_rows_and_shared_spans_follow(tmp_path):
    tokenizer = tiny("byte-level", bos=True)
    n = len(tokenizer.tokenize(TEXT))
    file = tmp_path / "words.json"
    file.write_text(json.dumps({"prompts": [{"clean": TEXT}], "word_idxs": {"END": n - 1}}))
    rows = [{"clean": TEXT, "spans": {"END": -1}}]
    for bos, start in ((None, True), (True, True), (False, False)):
        how = {"tokenizer": tokenizer, "bos": bos}
        found = [
            PromptPairs.from_text([TEXT], spans={"END": -1}, **how),
            PromptPairs.from_dataset(rows, **how),
            PromptPairs.from_file(file, **how),
        ]
        assert {pairs.bos for pairs in found} == {start}
        assert len({pairs.sha256 for pairs in found}) == 1
        assert positions(found[2], "END") == [[n - 1 + start]]


def test_named_tasks_follow_the_paper_on_its_tokenizer_and_else_the_models():
    def starts(tokenizer, name: str, **options) -> bool:
        pairs = ew.load_task(name, model_reading(tokenizer), n=3, **options).problem.pairs
        assert pairs.bos is bool((pairs.clean[:, 0] == tokenizer.bos_token_id).all())
        return pairs.bos

    papers = language_model("byte-pairs").tokenizer._tokenizer  # as GPT-2's
    assert [starts(papers, name) for name in ("ioi", "docstring")] == [False, True]
    assert not starts(papers, "docstring", bos=False)
    for adds in (False, True):
        own = _with_another_bos(papers, adds=adds)
        assert [starts(own, name) for name in ("ioi", "docstring")] == [adds, adds]
        assert not starts(own, "ioi", bos=False)
    assert ew.load_task("docstring", n=3).problem.pairs.bos, "as the paper, on the bundled model"
    assert not ew.load_task("ioi", n=3).problem.pairs.bos


def _with_another_bos(tokenizer, *, adds: bool):
    """The same words, with a BOS that is not GPT-2's separator of documents."""
    import tokenizers

    text = tokenizer.backend_tokenizer.to_str().replace("<|endoftext|>", "<start>")
    made = tokenizers.Tokenizer.from_str(text)
    if adds:
        special = [("<start>", made.token_to_id("<start>"))]
        made.post_processor = tokenizers.processors.TemplateProcessing(
            single="<start> $A", special_tokens=special
        )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<start>")


# --- the chat template


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adds", [False, True])
def test_the_template_stands_around_the_text_and_says_where_bos_is(kind, adds):
    tokenizer = chatting(tiny(kind, bos=adds))
    text = "\n Ann saw the dog"
    pairs = PromptPairs.from_text(
        [text, "The dog saw Ann"], tokenizer=tokenizer, chat=True,
        spans={"verb": "saw", "who": "Ann", "end": -1},
    )  # fmt: skip
    turn = [{"role": "user", "content": text}]
    ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]
    assert pairs.clean[0][pairs.real[0]].tolist() == ids
    assert (pairs.bos, pairs.chat) == (True, True)
    assert ids.count(tokenizer.bos_token_id) == 1
    whole = "<s>user saw: Ann saw the dog\nthe dog saw:\n"
    offsets = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    start = whole.index("saw the dog\n")
    for name, low, high in (("verb", start, start + 3), ("who", start - 4, start - 1)):
        covered = [offsets["offset_mapping"][k] for k in positions(pairs, name)[0]]
        assert low - 1 <= covered[0][0] <= low
        assert covered[-1][1] == high
    assert positions(pairs)[0] == [len(ids) - 1]


def test_a_reply_begins_a_line_without_a_space():
    how = {"tokenizer": chatting(tiny("byte-level")), "answers": [" The"]}
    ids = how["tokenizer"].encode("The")
    assert PromptPairs.from_text(["Ann"], **how).answers.tolist() != [ids]
    assert PromptPairs.from_text(["Ann"], chat=True, **how).answers.tolist() == [ids]


def test_what_cannot_be_a_chat(tmp_path):
    plain, chat = tiny("byte-level"), chatting(tiny("byte-level"))
    refusing = chatting(plain, "{{ raise_exception('only verse') }}")
    loud = chatting(plain, "{{ messages[0]['content'] | upper }}")
    for tokenizer, options, message in (
        (plain, {}, "has no chat template"),
        (chat, {"bos": True}, "chat and bos are both asked for"),
        (refusing, {}, "pair 0.*: the chat template refuses it: .*only verse"),
        (loud, {}, "does not leave the text as it is"),
    ):
        with pytest.raises(ProblemError, match=message):
            PromptPairs.from_text(["Ann"], tokenizer=tokenizer, chat=True, **options)
    with pytest.raises(ProblemError, match="token ids; chat is for text"):
        PromptPairs.from_dataset([{"clean": [1]}], tokenizer=chat, chat=True)
    with pytest.raises(ProblemError, match="token ids; bos is for text"):
        PromptPairs.from_dataset([{"clean": [1]}], tokenizer=chat, bos=True)
    file = tmp_path / "words.json"
    file.write_text(json.dumps({"prompts": [{"clean": "Ann"}], "word_idxs": {"who": 0}}))
    with pytest.raises(ProblemError, match="its spans are positions of the bare prompt"):
        PromptPairs.from_file(file, tokenizer=chat, chat=True)
    with pytest.raises(SettingError, match="tracr-reverse has no choice of chat"):
        ew.load_task("tracr-reverse", chat=True)


@pytest.mark.parametrize("name", ["ioi", "greater-than", "capitals"])
def test_named_tasks_in_a_chat(name):
    tokenizer = chatting(language_model("byte-pairs").tokenizer._tokenizer)
    model = model_reading(tokenizer)
    plain, chat = (ew.load_task(name, model, n=4, chat=c).problem for c in (False, True))
    assert (plain.pairs.chat, chat.pairs.chat, chat.origin["chat"]) == (False, True, True)

    def words(pairs, mask) -> str:
        return tokenizer.decode(pairs.clean[0][mask[0]].tolist())

    bare = words(plain.pairs, plain.pairs.real).removeprefix("<|endoftext|>").strip()
    assert bare in words(chat.pairs, chat.pairs.real)
    assert (chat.pairs.answer_at.nonzero()[:, 1] == chat.pairs.lengths - 1).all()
    assert (chat.pairs.spans["END"] == chat.pairs.answer_at).all()
    for span in set(plain.pairs.spans) - {"END"}:
        both = [words(pairs, pairs.spans[span]).strip() for pairs in (plain.pairs, chat.pairs)]
        assert both[0] == both[1]


# --- runs


@pytest.mark.parametrize("adds", [False, True])
def test_a_run_says_what_was_done_and_is_made_again(tmp_path, capsys, adds):
    tokenizer = chatting(tiny("byte-level", bos=adds))
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=8, n_positions=64, vocab_size=len(tokenizer),
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    file = tmp_path / "pairs.jsonl"
    row = {"clean": "The dog saw the", "corrupted": "The cat saw the", "answers": "t"}
    file.write_text(json.dumps(row))
    about = ("--pairs", file, "--model", tmp_path / "model")
    for flag, bos in ((None, adds), ("--bos", True), ("--no-bos", False), ("--chat", True)):
        flags, out = [flag] if flag else [], tmp_path / f"run{flag}"
        ok(capsys, "discover", *about, "--method", "eap-ig", "--edges", 3, *flags, "--out", out)
        problem = ew.Run.load(out).problem
        assert (problem.bos, bool(problem.chat)) == (bos, flag == "--chat")
        assert json.loads(ok(capsys, "evaluate", out, "--json"))
        check = ok(capsys, "tasks", "check", file, *about[2:], *flags, "--json")
        assert json.loads(check)["usable"]
