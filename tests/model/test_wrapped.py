"""Modules inside others, numbers that are not finite, and parameters that are shared."""

import copy

import pytest
import torch

import edgewise as ew
from edgewise.errors import ModelUnavailable, ProofFailed
from hf import gpt2
from models import random_model


@pytest.mark.parametrize(
    "wrap",
    [
        lambda module: torch.compile(module, backend="eager"),
        torch.nn.DataParallel,
        lambda module: torch.compile(torch.nn.DataParallel(module), backend="eager"),
    ],
)
def test_what_only_wraps_a_module_is_taken_off(wrap):
    module = gpt2()
    model = ew.load_model(wrap(module))
    tokens = torch.arange(10).view(2, 5)
    torch.testing.assert_close(model(tokens), module(tokens).logits)
    assert model.name == "GPT2LMHeadModel"
    shared = model.weights["embed.W_E"].data_ptr()
    assert shared == module.transformer.wte.weight.data_ptr()


# --- numbers that are not finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(value):
    module = gpt2()
    with torch.no_grad():
        module.transformer.wte.weight[3, 2:4] = value  # a token that the proof may not meet
    kind = "2 NaN" if value != value else "2 infinite"
    with pytest.raises(
        ModelUnavailable, match=rf"the tensor transformer\.wte\.weight holds {kind}"
    ):
        ew.load_model(module)
    model = random_model()
    weights = {**model.weights, "blocks.1.mlp.b_in": torch.full((8,), value).double()}
    with pytest.raises(ModelUnavailable, match=r"the tensor blocks\.1\.mlp\.b_in holds"):
        ew.Model.from_torch(model.config, weights)


def test_weights_whose_sum_overflows_are_finite():
    module = gpt2().float()
    with torch.no_grad():
        module.transformer.h[0].attn.c_attn.bias[12:24] = 3e38  # of keys: adds alike to all scores
    with pytest.raises(ProofFailed):  # but not named as a tensor that holds infinity
        ew.load_model(module)


def test_overflow_in_float16_names_where_it_begins():
    module = gpt2(tie_word_embeddings=False)
    with torch.no_grad():
        module.transformer.h[1].mlp.c_proj.weight *= 5_000
        module.transformer.h[1].mlp.c_fc.weight *= 100
    assert ew.load_model(module.float()).dtype == torch.float32
    message = r"not finite in float16, first in the output of m1\. .* dtype='bfloat16' or 'float32'"
    with pytest.raises(ProofFailed, match=message):
        ew.load_model(copy.deepcopy(module).half())
    with pytest.raises(ProofFailed, match=message):
        ew.load_model(module, dtype="float16")


# --- parameters


@pytest.mark.parametrize("tied", [True, False])
def test_tied_parameters_are_counted_once(tied):
    module = gpt2(tie_word_embeddings=tied)
    expected = sum(parameter.numel() for parameter in module.parameters())
    model = ew.load_model(module)
    assert model.n_parameters == expected
    assert model.to(dtype=torch.float32).n_parameters == expected
