"""Every family computes what Hugging Face computes, in numbers, gradients and at every length."""

import pytest
import torch

import edgewise as ew
from edgewise.errors import SettingError
from edgewise.model.families import FAMILIES, proven
from edgewise.model.proof import full_precision
from hf import CASES, gradient_error, hf_model, loaded
from models import random_pairs

LENGTHS = [7, 4, 6]


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def hf_logits(module, tokens, real):
    positions = (real.cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad(), full_precision(module):
        return module(
            input_ids=tokens, attention_mask=real.long(), position_ids=positions, use_cache=False
        ).logits


@pytest.mark.parametrize("case", CASES)
def test_logits_are_hugging_faces(case):
    module, model = loaded(case)
    assert max(model.proof["relative_errors"].values()) < 1e-9
    for padding in ("right", "left"):
        pairs = random_pairs(model, lengths=LENGTHS, padding=padding)
        expected = hf_logits(module, pairs.clean, pairs.real)
        close(model(pairs.clean, pairs.real)[pairs.real], expected[pairs.real])
        alone = pairs.clean[1][pairs.real[1]][None]
        close(model(alone)[0], expected[1][pairs.real[1]])


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_within_tolerance(case):
    module = hf_model(case, dtype=torch.bfloat16)
    model = ew.load_model(module)  # its proof's tolerance is 5 %
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize("case", CASES)
def test_weights_are_shared_with_the_module(case):
    module, model = loaded(case)
    theirs = {p.untyped_storage().data_ptr() for p in module.parameters()}
    copied = [n for n, t in model.weights.items() if t.untyped_storage().data_ptr() not in theirs]
    copied = [name for name in copied if not ("falcon" in case and ".attn." in name)]
    copied = [name for name in copied if not ("stablelm" in case and ".attn.norm_" in name)]
    assert not copied


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_through_hugging_face(case):
    assert gradient_error(case) < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_processing_changes_no_probability(case):
    module, model = loaded(case)
    tokens = random_pairs(model, lengths=[6, 6]).clean
    processed = ew.load_model(module, processing="transformer-lens")
    one, other = (m(tokens).log_softmax(dim=-1) for m in (model, processed))
    close(one, other)


def test_every_family_has_been_proven():
    """`scripts/prove_families.py` writes what `edgewise models` shows."""
    assert {c["case"] for family in FAMILIES for c in proven(family)} == set(CASES)
    for family in FAMILIES:
        assert proven(family), family
        for case in proven(family):
            assert max(case["float64"].values()) < 1e-9
            assert max(case["bfloat16"].values()) < 0.05


# --- angles that change with the length of a prompt


# Case, and how many tokens its angles hold for: its context, or that of its training.
LIMITS = {"llama, dynamic rope": 32, "llama, longrope": 16, "llama, linear rope": 32, "llama": 32}


def prompts(n):
    tokens = torch.randint(23, (2, n), generator=torch.Generator().manual_seed(n))
    return tokens, torch.ones_like(tokens, dtype=torch.bool)


@pytest.mark.parametrize("case", LIMITS)
def test_every_length_up_to_the_limit_is_hugging_faces(case):
    module = hf_model(case)
    model = ew.load_model(module)
    limit = LIMITS[case]
    assert model.config.n_ctx == limit
    for n in (1, 2, limit // 2, limit - 1, limit):
        tokens, real = prompts(n)
        close(model(tokens), hf_logits(module, tokens, real))
    with pytest.raises(SettingError, match=f"takes at most {limit}"):
        model(prompts(limit + 1)[0])


@pytest.mark.parametrize(("case", "limit"), list(LIMITS.items())[:2])
def test_what_a_long_prompt_made_of_the_angles_is_not_read(case, limit):
    module = hf_model(case)
    tokens, real = prompts(limit - 1)
    expected = hf_logits(module, tokens, real)
    before = module.model.rotary_emb.inv_freq.clone()
    hf_logits(module, *prompts(limit + 7))
    assert not torch.equal(before, module.model.rotary_emb.inv_freq)
    close(ew.load_model(module)(tokens), expected)
