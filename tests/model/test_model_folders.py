"""A model folder whose files were changed: a model, or one error that says what is wrong."""

import json
import random
import warnings

import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

import edgewise as ew
from edgewise.errors import UnsupportedModel
from fuzz import mutant, unanswered
from hf import llama_folder


@pytest.fixture
def folder(tmp_path):
    special = {"num_key_value_heads": 1, "vocab_size": 40, "bos_token_id": 0, "eos_token_id": 1}
    llama_folder(tmp_path, **special)
    words = {f"w{i}": i for i in range(39)} | {"[UNK]": 39}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path)
    return tmp_path


def assert_loads_answer(folder, *, n: int, seed: int) -> None:
    draw, complaints = random.Random(seed), []
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    for i in range(n):
        file = folder / draw.choice(names)
        content = file.read_bytes()
        kind, changed = mutant(content, draw)
        file.write_bytes(changed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # transformers' own, of what it goes on with
            complaint = unanswered(lambda: ew.load_model(str(folder)))
        if complaint:
            complaints.append(f"mutant {i} of {file.name} ({kind}): {complaint}")
        file.write_bytes(content)
    assert not complaints, f"{len(complaints)} of {n}\n" + "\n".join(complaints[:5])


def test_mutated_model_folders_are_answered(folder):
    assert ew.load_model(str(folder)).tokenizer is not None
    assert_loads_answer(folder, n=200, seed=0)


@pytest.mark.slow
def test_many_mutated_model_folders_are_answered(folder):
    assert_loads_answer(folder, n=2000, seed=1)


def test_a_tokenizer_that_fails_is_said_to(folder):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": [16]}))
    with pytest.raises(UnsupportedModel, match="tokenizer cannot encode a sentence"):
        ew.load_model(str(folder))
