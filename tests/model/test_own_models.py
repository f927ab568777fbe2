"""Models of one's own: errors say what fits, wrong facts are named, layers are cut into heads."""

from dataclasses import replace

import pytest
import torch

import edgewise as ew
from edgewise.errors import ProofFailed, SettingError, UnsupportedModel
from edgewise.model.weights import heads_that_read, heads_that_write
from models import random_model


def test_errors_about_tensors_say_what_fits():
    ours = random_model()
    weights = dict(ours.weights)
    weights["unembed.WU"] = weights.pop("unembed.W_U")
    wanted = (
        r"unembed\.W_U is missing, expected \(8, 11\); unembed\.WU is not .*mean unembed\.W_U\?"
    )
    with pytest.raises(UnsupportedModel, match=wanted):
        ew.Model.from_torch(ours.config, weights)
    weights = {**ours.weights, "blocks.0.mlp.W_in": ours.weights["blocks.0.mlp.W_in"].T}
    with pytest.raises(
        UnsupportedModel, match=r"\(12, 8\), expected \(8, 12\) \(its transpose fits"
    ):
        ew.Model.from_torch(ours.config, weights)
    mine = {f"layers.{i}.weight": torch.ones(1) for i in range(40)}
    with pytest.raises(UnsupportedModel, match=r"embed\.W_E is missing, .*; and \d+ more\.$"):
        ew.Model.from_torch(ours.config, mine)


@pytest.mark.parametrize(
    ("true", "said"),
    [
        ({"activation": "gelu"}, {"activation": "gelu_new"}),
        ({"causal": False}, {"causal": True}),
        ({"attention_scales": (1.0, 1.0)}, {"attention_scales": ()}),
        ({"parallel": True}, {"parallel": False}),
        ({"eps": 1e-6}, {"eps": 1e-5}),
    ],
)
def test_a_wrong_fact_in_a_configuration_is_named(true, said):
    ours = random_model(**true)
    (name,) = said
    with pytest.raises(ProofFailed, match=f"With {name}=.* in its configuration they agree"):
        ew.Model.from_torch(replace(ours.config, **said), dict(ours.weights), source=ours)


def test_a_wrong_tensor_is_not_blamed_on_the_configuration():
    ours = random_model()
    weights = dict(ours.weights)
    weights["blocks.0.attn.W_Q"] = weights["blocks.0.attn.W_Q"].flip(0)
    with pytest.raises(ProofFailed, match="Check which tensor got which name"):
        ew.Model.from_torch(ours.config, weights, source=ours)


def test_every_head_may_have_a_norm_of_its_own():
    """As in StableLM: equal weights make it the norm that all heads share."""
    for norm in ("layernorm", "rmsnorm"):
        shared = random_model(norm=norm, qk_norm="head", n_kv_heads=1)
        names = [name for name in shared.weights if ".norm_" in name]
        weights = {
            name: tensor.expand(2 if "_Q" in name else 1, -1) if name in names else tensor
            for name, tensor in shared.weights.items()
        }
        own = ew.Model(replace(shared.config, qk_norm="own-head"), weights)
        tokens = torch.arange(6)[None]
        torch.testing.assert_close(own(tokens), shared(tokens), rtol=0, atol=1e-12)


def test_linear_layers_are_split_into_heads():
    torch.manual_seed(0)
    fused, out = torch.nn.Linear(6, 24), torch.nn.Linear(8, 6)
    x, z = torch.randn(3, 6), torch.randn(3, 8)
    for i, rows in enumerate(fused.weight.chunk(3)):
        by_head = torch.einsum("bm,hmd->bhd", x, heads_that_read(rows, 2)).flatten(1)
        expected = (fused(x) - fused.bias)[:, 8 * i : 8 * i + 8]
        torch.testing.assert_close(by_head, expected)
    written = torch.einsum("bhd,hdm->bm", z.unflatten(1, (2, 4)), heads_that_write(out.weight, 2))
    torch.testing.assert_close(written, out(z) - out.bias)
    with pytest.raises(SettingError, match="split into 5 heads: it has 24 rows"):
        heads_that_read(fused.weight, 5)
    with pytest.raises(SettingError, match="split into 3 heads: it has 8 columns"):
        heads_that_write(out.weight, 3)
