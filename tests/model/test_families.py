"""Every family computes what Hugging Face computes, in numbers, gradients and at every length."""

import pytest
import torch

import edgewise as ew
from edgewise.errors import SettingError
from edgewise.model.families import FAMILIES, proven
from edgewise.model.proof import full_precision
from hf import CASES, gradient_error, hf_model, loaded
from models import random_pairs


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def hf_logits(module, tokens, real=None):
    real = torch.ones_like(tokens, dtype=torch.bool) if real is None else real
    positions = (real.cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad(), full_precision(module):
        return module(
            input_ids=tokens, attention_mask=real.long(), position_ids=positions, use_cache=False
        ).logits


@pytest.mark.parametrize("case", CASES)
def test_logits_and_gradients_are_hugging_faces(case):
    module, model = loaded(case)
    assert max(model.proof["relative_errors"].values()) < 1e-9
    for padding in ("right", "left"):
        pairs = random_pairs(model, lengths=[7, 4, 6], padding=padding)
        expected = hf_logits(module, pairs.clean, pairs.real)
        close(model(pairs.clean, pairs.real)[pairs.real], expected[pairs.real])
        alone = pairs.clean[1][pairs.real[1]][None]
        close(model(alone)[0], expected[1][pairs.real[1]])
    assert gradient_error(case) < 1e-9
    half = ew.load_model(hf_model(case, dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16
    tolerance = 0.05 if case == "gptj" else 1e-4  # whose table of angles is in bfloat16
    assert max(half.proof["relative_errors"].values()) < tolerance


@pytest.mark.parametrize("case", CASES)
def test_weights_are_the_modules_own_and_processing_changes_no_probability(case):
    module, model = loaded(case)
    theirs = {p.untyped_storage().data_ptr() for p in module.parameters()}
    copied = [n for n, t in model.weights.items() if t.untyped_storage().data_ptr() not in theirs]
    copies = {"falcon": ".attn.", "stablelm": ".attn.norm_"}.get(case.partition(",")[0], "!")
    assert all(copies in name for name in copied)
    tokens = random_pairs(model, lengths=[6, 6]).clean
    processed = ew.load_model(module, processing="transformer-lens")
    close(processed(tokens).log_softmax(dim=-1), model(tokens).log_softmax(dim=-1))


def test_every_family_has_been_proven():
    """`scripts/prove_families.py` writes what `edgewise models` shows."""
    assert {c["case"] for family in FAMILIES for c in proven(family)} == set(CASES)
    for family in FAMILIES:
        assert proven(family), family
        for case in proven(family):
            assert max(case["float64"].values()) < 1e-9
            assert max(case["bfloat16"].values()) < 0.05


# Case, and how many tokens its angles hold for: its context, or that of its training.
LIMITS = {"llama, dynamic rope": 32, "llama, longrope": 16, "llama, linear rope": 32}


@pytest.mark.parametrize(("case", "limit"), LIMITS.items())
def test_every_length_up_to_the_limit_is_hugging_faces(case, limit):
    """Angles may change with the length of a prompt; what a longer one made of them is not read."""
    module = hf_model(case)
    before = module.model.rotary_emb.inv_freq.clone()
    model = ew.load_model(module)
    tokens = torch.randint(23, (2, limit + 7), generator=torch.Generator().manual_seed(0))
    for n in (1, limit // 2, limit):
        close(model(tokens[:, :n]), hf_logits(module, tokens[:, :n]))
    with pytest.raises(SettingError, match=f"takes at most {limit}"):
        model(tokens[:, : limit + 1])
    expected = hf_logits(module, tokens[:, :limit])
    hf_logits(module, tokens)
    assert torch.equal(before, module.model.rotary_emb.inv_freq) == (case == "llama, linear rope")
    close(ew.load_model(module)(tokens[:, :limit]), expected)
