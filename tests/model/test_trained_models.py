"""The bundled language models load offline, and really do what their cards say."""

import sys
import time
from pathlib import Path

import pytest
import torch

import edgewise as ew
from edgewise.data.tokenizers import SpacedWordTokenizer
from edgewise.model.bundled import TRAINED, initial_weights, model_card
from edgewise.tasks.language import BEHAVIOURS, examples

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "scripts"))

from training.corpus import is_held_out, task_examples  # noqa: E402
from training.measure import measure  # noqa: E402

MAIN = "small-lm"
SEEDS = [name for name in TRAINED if name.startswith(MAIN)]
N = 100  # prompts, the same for all models and tests: drawing them takes longer than running
PROMISED = ("induction", "ioi", "greater-than", "docstring", "pronouns", "agreement")
BELOW = {("small-lm-seed1", "pronouns")}  # it takes one held-out name for a woman's


@pytest.mark.parametrize("name", TRAINED)
def test_loading_is_quick_and_offline(name):
    started = time.perf_counter()
    model = ew.load_model(name)
    assert time.perf_counter() - started < 5  # far less on an idle machine
    assert model.name == name
    assert model.dtype == torch.float32
    assert model.config.causal
    assert model.config.norm == "layernorm"
    assert torch.equal(model.weights["unembed.W_U"], model.weights["embed.W_E"].T)


@pytest.mark.parametrize("task", PROMISED)
@pytest.mark.parametrize("name", TRAINED)
def test_it_does_the_tasks_on_what_training_held_out(name, task):
    measured = measure(ew.load_model(name), task, N, seed=1)
    assert measured["accuracy"] >= (0.88 if (name, task) in BELOW else 0.95)
    assert measured["chance"] < 0.6


@pytest.mark.parametrize("name", TRAINED)
def test_accuracies_are_those_of_the_card(name):
    model, card = ew.load_model(name), model_card(name)
    assert set(card.accuracy) <= set(BEHAVIOURS)
    for task, found in card.accuracy.items():
        # The card is of another draw; four standard deviations of the difference, and one prompt.
        expected = found["accuracy"]
        measured = measure(model, task, N, seed=1)["accuracy"]
        assert abs(measured - expected) <= 4 * (expected * (1 - expected) / N) ** 0.5 + 2 / N, task


@pytest.mark.parametrize("task", PROMISED)
def test_the_untrained_twin_cannot(task):
    """The control: far from what is trained, on the same prompts."""
    trained = measure(ew.load_model(MAIN), task, N, seed=1)["first"]
    assert measure(ew.load_model(f"{MAIN}-untrained"), task, N, seed=1)["first"] <= trained - 0.5


def test_seeds_and_twins_differ_in_weights_alone():
    models = [ew.load_model(name) for name in (*SEEDS, f"{MAIN}-untrained")]
    assert len({model.config for model in models}) == 1
    assert len({model.tokenizer.words for model in models}) == 1
    for i, one in enumerate(models):
        for other in models[:i]:
            assert not torch.equal(one.weights["embed.W_E"], other.weights["embed.W_E"])


def test_an_untrained_twin_is_the_same_each_time():
    config, seed = model_card(MAIN).config, model_card(MAIN).seed
    one, other = initial_weights(config, seed), ew.load_model(f"{MAIN}-untrained").weights
    assert set(one) == set(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("task", BEHAVIOURS)
def test_the_tokenizer_cuts_prompts_into_their_words(task):
    tokenizer = ew.load_model(MAIN).tokenizer
    for template in BEHAVIOURS[task].templates:
        for example in examples(task, 5, template=template):
            words = [tokenizer.decode([i]) for i in tokenizer.encode(example.clean)]
            assert tuple(words) == example.clean_words


def test_held_out_prompts_are_a_tenth():
    found = examples("ioi", 300, split="test")
    share = sum(is_held_out("ioi", e.clean_words, e.spans) for e in found) / len(found)
    assert 0.04 < share < 0.2


def test_held_out_prompts_stay_held_out():
    from itertools import islice
    from random import Random

    stream = task_examples("ioi", Random(0), "train", held_out=False)
    assert not any(is_held_out("ioi", e.clean_words, e.spans) for e in islice(stream, 100))


# --- the tokenizer


def test_words_keep_their_space_and_numbers_have_two_digits():
    text = "In 1732, Mary wasn't there.\n    12345"
    words = [text[start:stop] for start, stop in SpacedWordTokenizer([]).offsets(text)]
    assert "".join(words) == text
    assert words[:4] == ["In", " 17", "32", ","]
    assert words[-3:] == [" 12", "34", "5"]


def test_a_bos_that_is_written_is_read():
    tokenizer = SpacedWordTokenizer(["<bos>", "A", " b"], bos=0)
    assert tokenizer.encode("<bos>A b") == [0, 1, 2]
    assert tokenizer.bos == 0
    assert tokenizer.decode([0, 1, 2]) == "<bos>A b"


def test_an_unknown_word_is_named_with_what_is_near():
    tokenizer = SpacedWordTokenizer(["A", " Mary"])
    with pytest.raises(ValueError, match=r"no token 'Mary'; .* Near 'Mary': ' Mary'"):
        tokenizer.encode("Mary")
