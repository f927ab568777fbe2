"""Angles that change with a prompt's length are exact until they change, and refused beyond."""

import pytest
import torch
from test_families import close, hf_logits

import edgewise as ew
from edgewise.errors import SettingError
from hf import hf_model

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
