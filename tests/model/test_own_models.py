"""Models from tensors: people's own, nanoGPT's layout, TransformerLens's."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import edgewise as ew
from edgewise.errors import ModelUnavailable, ProofFailed, SettingError, UnsupportedModel
from edgewise.model.weights import heads_that_read, heads_that_write
from hf import gpt2
from models import random_model

# --- one's own


def test_a_model_of_ones_own_proves_itself():
    ours = random_model()
    weights = dict(ours.weights)
    model = ew.Model.from_torch(ours.config, weights, source=ours, name="mine")
    assert model.proof["relative_errors"]["logits"] == 0
    assert ew.Model.from_torch(ours.config.to_json(), weights).config == ours.config
    with pytest.raises(ProofFailed, match="mine: the logits differ"):
        ew.Model.from_torch(ours.config, weights, source=lambda t: 2 * ours(t), name="mine")
    with pytest.raises(ProofFailed, match="the source gives"):
        ew.Model.from_torch(ours.config, weights, source=lambda t: ours(t)[..., :3])
    weights["blocks.0.attn.W_Q"] = weights["blocks.0.attn.W_Q"].flip(0)
    with pytest.raises(ProofFailed, match="Check which tensor got which name"):
        ew.Model.from_torch(ours.config, weights, source=ours)
    weights["blocks.1.mlp.b_in"] = torch.full((12,), torch.nan).double()
    with pytest.raises(ModelUnavailable, match=r"the tensor blocks\.1\.mlp\.b_in holds 12 NaN"):
        ew.Model.from_torch(ours.config, weights)


@pytest.mark.parametrize(
    ("true", "stated"),
    [
        ({"activation": "gelu"}, {"activation": "gelu_new"}),
        ({"causal": False}, {"causal": True}),
        ({"attention_scales": (1.0, 1.0)}, {"attention_scales": ()}),
        ({"parallel": True}, {"parallel": False}),
        ({"eps": 1e-6}, {"eps": 1e-5}),
    ],
)
def test_a_wrong_fact_in_a_configuration_is_named(true, stated):
    ours = random_model(**true)
    (name,) = stated
    with pytest.raises(ProofFailed, match=f"With {name}=.* in its configuration they agree"):
        ew.Model.from_torch(replace(ours.config, **stated), dict(ours.weights), source=ours)


def test_errors_about_tensors_say_what_fits():
    ours = random_model()
    turned = ours.weights["blocks.0.mlp.W_in"].T
    changes = {"unembed.W_U": None, "unembed.WU": torch.ones(8, 11), "blocks.0.mlp.W_in": turned}
    weights = {k: t for k, t in {**ours.weights, **changes}.items() if t is not None}
    message = (
        r"unembed\.W_U is missing, expected \(8, 11\); .*\(12, 8\), expected \(8, 12\) \(its "
        r"transpose fits.*; unembed\.WU is not .*mean unembed\.W_U\?"
    )
    with pytest.raises(UnsupportedModel, match=message):
        ew.Model(ours.config, weights)
    mine = {f"layers.{i}.weight": torch.ones(1) for i in range(40)}
    with pytest.raises(UnsupportedModel, match=r"embed\.W_E is missing, .*; and \d+ more\.$"):
        ew.Model.from_torch(ours.config, mine)
    mixed = {**ours.weights, "unembed.W_U": torch.zeros(8, 11)}
    with pytest.raises(UnsupportedModel, match=r"are torch.float32 and torch.float64; use one"):
        ew.Model(ours.config, mixed)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"norm": "rms", "activation": "swish", "n_layers": 0}, "'rms' .*; .*'swish' .*; n_layers"),
        ({"norm": "none", "qk_norm": "head"}, "have weights, which 'none' has not"),
        ({"norm": "layernorm", "qk_norm": "layer"}, "whole layers are RMSNorms, not 'layernorm'"),
    ],
)
def test_a_configuration_lists_all_its_faults(fields, message):
    with pytest.raises(UnsupportedModel, match=message):
        random_model(**fields)


def test_linear_layers_are_split_into_heads():
    torch.manual_seed(0)
    fused, out = nn.Linear(6, 24), nn.Linear(8, 6)
    x, z = torch.randn(3, 6), torch.randn(3, 8)
    for i, rows in enumerate(fused.weight.chunk(3)):
        by_head = torch.einsum("bm,hmd->bhd", x, heads_that_read(rows, 2)).flatten(1)
        torch.testing.assert_close(by_head, (fused(x) - fused.bias)[:, 8 * i : 8 * i + 8])
    written = torch.einsum("bhd,hdm->bm", z.unflatten(1, (2, 4)), heads_that_write(out.weight, 2))
    torch.testing.assert_close(written, out(z) - out.bias)
    with pytest.raises(SettingError, match="split into 5 heads: it has 24 rows"):
        heads_that_read(fused.weight, 5)
    with pytest.raises(SettingError, match="split into 3 heads: it has 8 columns"):
        heads_that_write(out.weight, 3)


# --- nanoGPT's


@pytest.mark.parametrize("bias", [True, False])
def test_nanogpt(bias):
    """GPT-2's layout, but for linear layers [out, in]; it gives the last position alone."""
    module, state = gpt2(activation_function="gelu"), {}
    for name, tensor in module.state_dict().items():
        if name.endswith("bias") and not bias:
            tensor.zero_()
        else:
            turned = ".c_" in name and name.endswith("weight")
            state[f"_orig_mod.{name}"] = tensor.T if turned else tensor
    args = {"n_layer": 2, "n_head": 2, "n_embd": 12, "block_size": 14, "vocab_size": 19}

    def last(tokens):
        return module(tokens).logits[:, [-1]], None  # and a loss

    model = ew.Model.from_torch(args, state, source=last)
    assert model.proof["relative_errors"]["logits"] < 1e-12
    assert model.weights["embed.W_E"].data_ptr() == module.lm_head.weight.data_ptr()
    tokens = torch.randint(19, (2, 6))
    loaded = ew.load_model({"model_args": args, "model": state})
    torch.testing.assert_close(loaded(tokens)[:, -1:], last(tokens)[0])


# --- TransformerLens's


def hooked(**config):
    """What a HookedTransformer shows of itself, and the model of ours that it computes as.

    A gated MLP of its adds b_in to the product, so there it is a constant of the output.
    """
    ours = random_model(**config)
    c, theirs, weights = ours.config, dict(ours.weights), dict(ours.weights)
    for i in range(c.n_layers if c.gated else 0):
        at = f"blocks.{i}.mlp"
        weights[f"{at}.b_out"] = (
            weights[f"{at}.b_out"] + weights.pop(f"{at}.b_in") @ (weights[f"{at}.W_out"])
        )
    if c.n_kv_heads < c.n_heads:  # an underscore before grouped heads' names
        for name in [name for name in theirs if name[-2:] in ("_K", "_V")]:
            theirs[f"{name[:-3]}_{name[-3:]}"] = theirs.pop(name)
    facts = {"act_fn": c.activation, "normalization_type": "LN", "attn_scale": c.d_head**0.5}
    facts |= {"n_key_value_heads": c.n_kv_heads, "gated_mlp": c.gated, "model_name": "toy"}
    facts |= {"attn_only": c.attention_only, "parallel_attn_mlp": c.parallel}
    state = theirs | {"blocks.0.attn.mask": torch.ones(3, 3)}
    ours = ew.Model(c, weights)

    class HookedTransformer(nn.Module):
        cfg = SimpleNamespace(**vars(c), **facts)

        def state_dict(self):
            return state

        def forward(self, tokens):
            return ours(tokens)

    return HookedTransformer(), ours


@pytest.mark.parametrize(
    "config",
    [{}, {"attention_only": True}, {"parallel": True}, {"n_kv_heads": 1, "gated": True}],
)
def test_a_hooked_transformer(config):
    module, ours = hooked(**config)
    model = ew.load_model(module)
    assert model.name == "toy"
    assert model.config == ours.config
    assert model.proof["relative_errors"]["logits"] < 1e-15


def test_hooks_of_a_hooked_transformer_are_refused():
    module, _ = hooked()
    handle = SimpleNamespace(is_permanent=True)
    module.hook_dict = {"blocks.0.hook_resid_post": SimpleNamespace(name=None, fwd_hooks=[handle])}
    with pytest.raises(UnsupportedModel, match=r"blocks.0.hook_resid_post.*including_permanent"):
        ew.load_model(module)
    handle.is_permanent = False
    with pytest.raises(UnsupportedModel, match=r"Remove them first: reset_hooks\(\)"):
        ew.load_model(module)
