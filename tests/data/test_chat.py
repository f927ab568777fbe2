"""Prompts as the user's turn of a chat: BOS, spans and answers where the template puts them."""

import copy
import json
from dataclasses import replace

import pytest
import transformers

import edgewise as ew
from edgewise.cli.main import main
from edgewise.data import PromptPairs
from edgewise.data.tokenizers import as_tokenizer
from edgewise.errors import ProblemError, SettingError
from language_models import language_model
from models import random_model
from tiny_tokenizers import KINDS, tiny

TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}{{ turn['role'] }} saw: {{ turn['content'] | trim }}"
    "{% endfor %}{% if add_generation_prompt %}\nthe dog saw:\n{% endif %}"
)


def chatting(tokenizer, template: str = TEMPLATE):
    made = copy.deepcopy(tokenizer)
    made.chat_template = template
    return made


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
    wanted = tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]
    assert pairs.clean[0][pairs.real[0]].tolist() == wanted
    assert (pairs.bos, pairs.chat) == (True, True)
    assert wanted.count(tokenizer.bos_token_id) == 1
    whole = "<s>user saw: Ann saw the dog\nthe dog saw:\n"
    offsets = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    start = whole.index("saw the dog\n")
    for name, low, high in (("verb", start, start + 3), ("who", start - 4, start - 1)):
        places = pairs.spans[name][0].nonzero().flatten().tolist()
        covered = [offsets["offset_mapping"][k] for k in places]
        assert low - 1 <= covered[0][0] <= low
        assert covered[-1][1] == high
    assert pairs.answer_at[0].nonzero().flatten().tolist() == [len(wanted) - 1]


def test_a_reply_begins_a_line_without_a_space():
    tokenizer = chatting(tiny("byte-level"))
    asked = {"tokenizer": tokenizer, "answers": [" The"]}
    assert PromptPairs.from_text(["Ann"], **asked).answers.tolist() != [tokenizer.encode("The")]
    chat = PromptPairs.from_text(["Ann"], chat=True, **asked)
    assert chat.answers.tolist() == [tokenizer.encode("The")]


def test_what_cannot_be_asked_as_a_chat(tmp_path):
    with pytest.raises(ProblemError, match="has no chat template"):
        PromptPairs.from_text(["Ann"], tokenizer=tiny("byte-level"), chat=True)
    with pytest.raises(ProblemError, match="SpacedWordTokenizer.* has no chat template"):
        ew.load_task("ioi", n=3, chat=True)
    tokenizer = chatting(tiny("byte-level"))
    with pytest.raises(ProblemError, match="chat and bos are both asked for"):
        PromptPairs.from_text(["Ann"], tokenizer=tokenizer, chat=True, bos=True)
    with pytest.raises(ProblemError, match="token ids; chat is for text"):
        PromptPairs.from_dataset([{"clean": [1]}], tokenizer=tokenizer, chat=True)
    refusing = chatting(tokenizer, "{{ raise_exception('only verse') }}")
    with pytest.raises(ProblemError, match="pair 0.*: the chat template refuses it: .*only verse"):
        PromptPairs.from_text(["Ann"], tokenizer=refusing, chat=True)
    loud = chatting(tokenizer, "{{ messages[0]['content'] | upper }}")
    with pytest.raises(ProblemError, match="does not leave the text as it is"):
        PromptPairs.from_text(["Ann"], tokenizer=loud, chat=True)
    file = tmp_path / "words.json"
    file.write_text(json.dumps({"prompts": [{"clean": "Ann"}], "word_idxs": {"who": 0}}))
    with pytest.raises(ProblemError, match="its spans are positions of the bare prompt"):
        PromptPairs.from_file(file, tokenizer=tokenizer, chat=True)
    with pytest.raises(SettingError, match="tracr-reverse has no choice of chat"):
        ew.load_task("tracr-reverse", chat=True)


@pytest.mark.parametrize("name", ["ioi", "greater-than", "capitals"])
def test_named_tasks_in_a_chat(name):
    tokenizer = chatting(language_model("byte-pairs").tokenizer._tokenizer)
    size = len(tokenizer)
    model = replace(
        random_model(d_vocab=size, d_vocab_out=size, n_ctx=128), tokenizer=as_tokenizer(tokenizer)
    )
    plain, chat = (ew.load_task(name, model, n=4, chat=c).problem for c in (False, True))
    assert chat.pairs.chat
    assert not plain.pairs.chat
    assert chat.origin["chat"] is True
    text = tokenizer.decode(chat.pairs.clean[0][chat.pairs.real[0]].tolist())
    bare = tokenizer.decode(plain.pairs.clean[0][plain.pairs.real[0]].tolist())
    assert bare.removeprefix("<|endoftext|>").strip() in text
    ends = chat.pairs.answer_at.nonzero()[:, 1]
    assert (ends == chat.pairs.lengths - 1).all()
    assert (chat.pairs.spans["END"] == chat.pairs.answer_at).all()
    for span in set(plain.pairs.spans) - {"END"}:
        said = [
            tokenizer.decode(p.clean[0][p.spans[span][0]].tolist()).strip()
            for p in (plain.pairs, chat.pairs)
        ]
        assert said[0] == said[1]


def test_a_run_in_a_chat_is_made_again(tmp_path, capsys):
    tokenizer = chatting(tiny("byte-level", bos=True))
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=8, n_positions=64, vocab_size=len(tokenizer),
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    file = tmp_path / "pairs.jsonl"
    row = {"clean": "The dog saw Ann", "corrupted": "The cat saw Ann", "answers": "."}
    file.write_text(json.dumps(row))
    asked = ["--pairs", str(file), "--model", str(tmp_path / "model"), "--chat"]
    out = str(tmp_path / "run")
    for command in (
        ["discover", *asked, "--method", "eap-ig", "--edges", "3", "--out", out],
        ["evaluate", out, "--json"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert not stop.value.code, capsys.readouterr().err
    run = ew.Run.load(out)
    assert (run.problem.chat, run.problem.bos) == (True, True)
