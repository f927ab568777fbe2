"""Models from tensors: people's own, nanoGPT's layout, TransformerLens's."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

import edgewise as ew
from edgewise.errors import ProofFailed, UnsupportedModel
from models import random_model


class NanoBlock(nn.Module):
    """A block in nanoGPT's layout: fused q/k/v, linear layers [out, in]."""

    def __init__(self, width, heads, bias):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = (nn.LayerNorm(width, bias=bias) for _ in range(2))
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.c_attn = nn.Linear(width, 3 * width, bias=bias)
        self.attn.c_proj = nn.Linear(width, width, bias=bias)
        self.mlp.c_fc = nn.Linear(width, 4 * width, bias=bias)
        self.mlp.c_proj = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x):
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.attn.c_attn(self.ln_1(x)).chunk(3, dim=-1)
        )
        z = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn.c_proj(z.transpose(1, 2).flatten(2))
        return x + self.mlp.c_proj(functional.gelu(self.mlp.c_fc(self.ln_2(x))))


class Nano(nn.Module):
    def __init__(self, args):
        super().__init__()
        width = args["n_embd"]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(args["vocab_size"], width),
                "wpe": nn.Embedding(args["block_size"], width),
                "h": nn.ModuleList(
                    NanoBlock(width, args["n_head"], args["bias"]) for _ in range(args["n_layer"])
                ),
                "ln_f": nn.LayerNorm(width, bias=args["bias"]),
            }
        )
        self.lm_head = nn.Linear(width, args["vocab_size"], bias=False)
        self.lm_head.weight = self.transformer.wte.weight

    def forward(self, tokens):
        parts = self.transformer
        x = parts.wte(tokens) + parts.wpe(torch.arange(tokens.shape[1]))
        for block in parts.h:
            x = block(x)
        return self.lm_head(parts.ln_f(x)[:, [-1]]), None  # the last position alone, and a loss


def nano(bias):
    torch.manual_seed(0)
    args = {
        "n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 10, "bias": bias, "vocab_size": 13,
    }  # fmt: skip
    module = Nano(args).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.5)
    return args, module


@pytest.mark.parametrize("bias", [True, False])
def test_nanogpt(bias):
    args, module = nano(bias)
    state = {f"_orig_mod.{name}": tensor for name, tensor in module.state_dict().items()}
    model = ew.Model.from_torch(args, state, source=module)
    assert model.proof["relative_errors"]["logits"] < 1e-12
    assert model.weights["embed.W_E"].data_ptr() == module.lm_head.weight.data_ptr()
    loaded = ew.load_model({"model_args": args, "model": state})
    tokens = torch.randint(13, (2, 6))
    torch.testing.assert_close(loaded(tokens)[:, -1:], module(tokens)[0])


def hooked(**config):
    """What a HookedTransformer shows of itself; it computes as one of our models does.

    A gated MLP of its adds b_in to the product, so there it is a constant of the output.
    """
    ours = random_model(**config)
    c, theirs = ours.config, dict(ours.weights)
    if c.gated:
        weights = dict(theirs)
        for i in range(c.n_layers):
            after = weights.pop(f"blocks.{i}.mlp.b_in") @ weights[f"blocks.{i}.mlp.W_out"]
            weights[f"blocks.{i}.mlp.b_out"] = after + weights[f"blocks.{i}.mlp.b_out"]
        ours = ew.Model(c, weights)

    class HookedTransformer(nn.Module):
        cfg = SimpleNamespace(
            n_layers=c.n_layers, n_heads=c.n_heads, d_model=c.d_model, d_head=c.d_head,
            d_mlp=c.d_mlp, d_vocab=c.d_vocab, d_vocab_out=c.d_vocab_out, n_ctx=c.n_ctx, eps=c.eps,
            act_fn=c.activation, normalization_type="LN", attn_scale=c.d_head**0.5,
            positional_embedding_type="standard", attn_only=c.attention_only,
            n_key_value_heads=c.n_kv_heads if c.group > 1 else None, gated_mlp=c.gated,
            parallel_attn_mlp=c.parallel, attention_dir="causal", model_name="toy",
        )  # fmt: skip

        def state_dict(self):
            mask = {"blocks.0.attn.mask": torch.ones(3, 3), "blocks.0.attn.IGNORE": torch.ones(())}
            state = theirs | mask
            if c.group > 1:
                for letter in "KV":
                    for kind in "Wb":
                        for i in range(c.n_layers):
                            name = f"blocks.{i}.attn.{kind}_{letter}"
                            state[name.replace(kind + "_", f"_{kind}_")] = state.pop(name)
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
    assert model.proof["relative_errors"]["logits"] == 0


def test_hooks_of_a_hooked_transformer_are_refused():
    module, _ = hooked()
    handle = SimpleNamespace(is_permanent=True)
    module.hook_dict = {"blocks.0.hook_resid_post": SimpleNamespace(name=None, fwd_hooks=[handle])}
    with pytest.raises(UnsupportedModel, match=r"blocks.0.hook_resid_post.*including_permanent"):
        ew.load_model(module)
    handle.is_permanent = False
    with pytest.raises(UnsupportedModel, match=r"Remove them first: reset_hooks\(\)"):
        ew.load_model(module)


def test_a_model_of_ones_own_proves_itself():
    ours = random_model()
    model = ew.Model.from_torch(ours.config, dict(ours.weights), source=ours, name="mine")
    assert model.proof["relative_errors"]["logits"] == 0
    assert ew.Model.from_torch(ours.config.to_json(), dict(ours.weights)).config == ours.config
    with pytest.raises(ProofFailed, match="mine: the logits differ"):
        ew.Model.from_torch(
            ours.config, dict(ours.weights), source=lambda t: 2 * ours(t), name="mine"
        )
    with pytest.raises(ProofFailed, match="the source gives"):
        ew.Model.from_torch(ours.config, dict(ours.weights), source=lambda t: ours(t)[..., :3])
