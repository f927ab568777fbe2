"""A TransformerBridge: a stand-in of what is read of one, and the real one if installed."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import edgewise as ew
from edgewise.errors import ProofFailed, UnsupportedModel
from edgewise.model.proof import full_precision
from edgewise.model.runtime import CleanReader, run
from hf import hf_model
from models import random_model


class Wrapper(nn.Module):
    """Stands in the place of a module, keeps it under another name, shows its attributes."""

    def __init__(self, inner):
        super().__init__()
        self.add_module("_original_component", inner)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("_original_component"), name)

    def forward(self, *args, **kwargs):
        return self._original_component(*args, **kwargs)


class JointAttention(Wrapper):
    """GPT-2's attention as a bridge computes it: queries, keys and values from split matrices."""

    def __init__(self, inner):
        super().__init__(inner)
        self.q, self.k, self.v = (Wrapper(linear) for linear in self.split_qkv_matrix(inner))

    def split_qkv_matrix(self, attention):
        fused = attention.c_attn
        for weight, bias in zip(fused.weight.chunk(3, dim=1), fused.bias.chunk(3), strict=True):
            linear = nn.Linear(*weight.shape, dtype=weight.dtype)
            linear.weight, linear.bias = nn.Parameter(weight.T), nn.Parameter(bias)
            yield linear

    def forward(self, x, attention_mask=None, **_):
        heads = self.num_heads
        q, k, v = (
            part(x).unflatten(-1, (heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        scores = q @ k.mT * q.shape[-1] ** -0.5 + attention_mask
        z = scores.softmax(-1) @ v
        return self.c_proj(z.transpose(1, 2).flatten(2)), None


class Bridge(nn.Module):
    """What a TransformerBridge shows of itself, around a tiny GPT-2."""

    def __init__(self, module):
        super().__init__()
        self.cfg = SimpleNamespace(model_name="toy")
        self.__dict__["original_model"] = module
        self.hook_dict, self.tokenizer = {}, None
        core = module.transformer
        for block in core.h:
            block.attn.c_proj, block.mlp.c_fc = Wrapper(block.attn.c_proj), Wrapper(block.mlp.c_fc)
            block.attn, block.mlp = JointAttention(block.attn), Wrapper(block.mlp)
            block.ln_1 = Wrapper(block.ln_1)
        core.h = nn.ModuleList(Wrapper(block) for block in core.h)
        core.wte, core.ln_f, module.lm_head = (
            Wrapper(part) for part in (core.wte, core.ln_f, module.lm_head)
        )
        self.blocks = core.h

    def forward(self, tokens, **kwargs):
        return self.__dict__["original_model"](input_ids=tokens, **kwargs).logits


@pytest.fixture
def bridge():
    return Bridge(hf_model("gpt2"))


TOKENS = torch.randint(23, (2, 6), generator=torch.Generator().manual_seed(0))


def difference(model, bridge):
    with torch.no_grad(), full_precision(bridge):
        return float((model(TOKENS) - bridge(TOKENS)).abs().max())


def test_a_bridge_is_its_module_and_shares_its_parameters(bridge):
    parts = list(bridge.original_model.modules())
    model = ew.load_model(bridge)
    assert model.name == "toy"
    assert model.processing == "none"
    assert max(model.proof["relative_errors"].values()) < 1e-14
    there = {p.untyped_storage().data_ptr() for p in bridge.original_model.parameters()}
    assert {w.untyped_storage().data_ptr() for w in model.weights.values()} <= there
    assert list(bridge.original_model.modules()) == parts  # nothing was taken off it
    original, fresh = ew.load_model(hf_model("gpt2")), model(TOKENS)
    torch.testing.assert_close(fresh, original(TOKENS), rtol=1e-12, atol=1e-12)
    assert model.config == original.config


def test_queries_keys_and_values_are_those_it_computes_with(bridge):
    """Processing replaces the split matrices and leaves the fused one behind."""
    attention = bridge.blocks[0].attn
    with torch.no_grad():
        for letter in "qkv":
            linear = getattr(attention, letter)._original_component
            linear.weight = nn.Parameter(2 * linear.weight)
        attention.c_attn.weight.zero_()
        bridge.blocks[1].mlp.c_fc.weight.mul_(0.5)
    bridge._weights_processed = True
    model = ew.load_model(bridge)
    assert difference(model, bridge) < 1e-13
    assert model.processing == "by TransformerLens"
    with torch.no_grad():
        bridge.blocks[0].attn.v.weight.mul_(3)  # training it changes the model
    assert difference(model, bridge) < 1e-13


def test_a_forward_pass_of_its_own_is_not_its_weights(bridge):
    class Steered(Wrapper):
        def forward(self, x):
            return self._original_component(x) + 0.01

    bridge.blocks[0]._original_component.mlp = Steered(bridge.blocks[0].mlp)
    with pytest.raises(ProofFailed, match="toy: the .* differ from the source model's by"):
        ew.load_model(bridge)


def test_what_cannot_be_read_is_one_line(bridge):
    def hook(value, hook):
        return value

    point = SimpleNamespace(name="blocks.0.hook_out", fwd_hooks=[SimpleNamespace(user_hook=hook)])
    bridge.hook_dict = {"blocks.0.hook_out": point, "blocks.0.hook_resid_post": point}
    with pytest.raises(UnsupportedModel, match=r"toy has hooks at blocks\.0\.hook_out, and"):
        ew.load_model(bridge)
    hook.__module__ = "transformer_lens.model_bridge"  # its own, from one hook point to another
    assert ew.load_model(bridge).name == "toy"
    forward = bridge.forward
    bridge.forward = lambda *_, **__: torch.zeros(2) @ torch.zeros(3)
    with pytest.raises(ProofFailed, match="toy: the bridge's own forward pass fails"):
        ew.load_model(bridge)
    bridge.forward = forward
    matrix = bridge.blocks[1].mlp.c_fc._original_component
    values = matrix.weight.detach().to(torch.int8)
    matrix.weight = nn.Parameter(values, requires_grad=False)
    with pytest.raises(UnsupportedModel, match=r"h\.1\.mlp\.c_fc\.weight is of torch\.int8"):
        ew.load_model(bridge)
    bridge.__dict__["original_model"] = nn.Linear(2, 2)
    with pytest.raises(UnsupportedModel, match="Linear is not a Hugging Face language model"):
        ew.load_model(bridge)


class Native(nn.Module):
    """TransformerLens's own small transformer, as far as it is read; computes as ours does."""

    def __init__(self, ours):
        super().__init__()
        c, w = ours.config, ours.weights
        self.ln_out = nn.LayerNorm(c.d_model, dtype=torch.float64)
        self.put("ln_out", w["ln_final.w"], w["ln_final.b"])
        self.put("tok_embed", w["embed.W_E"])
        self.put("pos", w["pos_embed.W_pos"])
        self.put("head", w["unembed.W_U"].T)
        for i in range(c.n_layers):
            at, there = f"blocks.{i}", f"layers.{i}"
            for norm in ("ln1", "ln2"):
                self.put(f"{there}.{norm}", w[f"{at}.{norm}.w"], w[f"{at}.{norm}.b"])
            for x in "QKV":
                rows = w[f"{at}.attn.W_{x}"].transpose(1, 2).flatten(0, 1)
                self.put(f"{there}.attn.{x.lower()}", rows, w[f"{at}.attn.b_{x}"].flatten())
            columns = w[f"{at}.attn.W_O"].flatten(0, 1).T
            self.put(f"{there}.attn.o", columns, w[f"{at}.attn.b_O"])
            for name in ("in", "out"):
                matrix, bias = w[f"{at}.mlp.W_{name}"].T, w[f"{at}.mlp.b_{name}"]
                self.put(f"{there}.mlp.fc_{name}", matrix, bias)
        self.ours = (ours,)

    def put(self, path, weight, bias=None):
        part = self
        for key in path.split("."):
            if key not in part._modules:
                part.add_module(key, nn.Module())
            part = part._modules[key]
        part.weight = nn.Parameter(weight)
        part.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, tokens, attention_mask, **_):
        (ours,) = self.ours
        real = attention_mask.bool()
        final, _ = run(ours, tokens, real, graph=ours.graph, reader=CleanReader())
        return self.ln_out(final) @ self.head.weight.T


def test_a_native_model_of_transformer_lens():
    whole = random_model(n_kv_heads=1)
    weights = {k: t for k, t in whole.weights.items() if k != "unembed.b_U"}
    ours = ew.Model(whole.config, weights)
    facts = vars(ours.config) | {"act_fn": ours.config.activation, "attn_scale": -1.0}
    facts |= {"n_key_value_heads": 1, "normalization_type": "LN", "model_name": "native"}

    class NativeBridge(nn.Module):
        cfg, original_model = SimpleNamespace(**facts, use_attn_scale=False), Native(ours)

        def forward(self, tokens, **kwargs):
            return self.original_model(tokens, **kwargs)

    model = ew.load_model(NativeBridge())
    assert model.config == ours.config
    assert model.proof["relative_errors"]["logits"] < 1e-12


# --- the real package


# Refused in one line: what the runtime does not compute, and a bridge that is not its own module.
REFUSED = {"ALiBi", "experts", "SoLU", "falcon, rw shape"}


@pytest.mark.lens
@pytest.mark.filterwarnings("ignore")
def test_transformer_lens_itself(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    import lens

    for kind, (_, cases) in lens.kinds().items():
        for case in cases:
            row = lens.measured(kind, case)
            before, processed = row["float64"]
            if case in REFUSED:
                assert before is processed is None, row
                continue
            # Version 3 leaves float32 biases in a processed float64 bridge, which is refused too.
            assert max(before, processed or before) < 1e-7, row  # for the angles see proof.py
            assert max(row["float32"]) < 1e-5, row
