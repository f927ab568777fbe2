"""Loading models: the self-proof, GPT-2 of every kind, processing, wrappers and odd numbers."""

import copy

import pytest
import torch

import edgewise as ew
from edgewise.errors import ModelUnavailable, ProofFailed, SettingError
from edgewise.model.proof import huggingface_source, prove
from hf import gpt2, llama_folder
from models import SHAPES, random_model, random_pairs

VARIANTS = {
    "published": {},
    "relu": {"activation_function": "relu"},
    "exact gelu": {"activation_function": "gelu"},
    "tanh gelu by its other name": {"activation_function": "gelu_pytorch_tanh"},
    "narrow mlp": {"n_inner": 7},
    "unscaled attention": {"scale_attn_weights": False},
    "attention scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
    "untied unembedding": {"tie_word_embeddings": False},
    "another epsilon": {"layer_norm_epsilon": 1e-3},
    "dropout in training mode": {"resid_pdrop": 0.5},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_gpt2_equals_its_source_which_stays_as_it_was(variant):
    module = gpt2(**VARIANTS[variant])
    tokens = torch.randint(19, (3, 9), generator=torch.Generator().manual_seed(1))
    expected = module(tokens).logits
    module.train("training" in variant)
    before = {name: p.clone() for name, p in module.named_parameters()}
    model = ew.load_model(module)
    assert (model(tokens) - expected).abs().max() / expected.abs().max() < 1e-9
    assert max(model.proof["relative_errors"].values()) < 1e-9
    shared = model.weights["embed.W_E"].data_ptr()
    assert shared == module.transformer.wte.weight.data_ptr(), "parameters are shared, not copied"
    assert model.n_parameters == sum(parameter.numel() for parameter in module.parameters())
    assert model.to(dtype=torch.float32).n_parameters == model.n_parameters
    assert module.training == ("training" in variant)
    assert not module.transformer.ln_f._forward_pre_hooks
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_folder_in_a_dtype(tmp_path, dtype):
    model = ew.load_model(llama_folder(tmp_path), dtype=dtype)
    assert {tensor.dtype for tensor in model.weights.values()} == {getattr(torch, dtype)}
    assert model.tokenizer is None


@pytest.mark.parametrize(
    "name", ["blocks.1.attn.W_K", "blocks.0.mlp.b_out", "unembed.W_U", "ln_final.w"]
)
def test_a_wrong_tensor_does_not_pass(name):
    module = gpt2()
    model = ew.load_model(module)
    wrong = {**model.weights, name: model.weights[name] * 1.001}
    source = huggingface_source(module, module.transformer.ln_f)
    with pytest.raises(ProofFailed, match=r"differ from the source model's by .* relative"):
        prove(ew.Model(model.config, wrong, name="wrong"), source)


# --- TransformerLens-style processing


@pytest.mark.parametrize("shape", SHAPES)
def test_processing_changes_no_probability(shape):
    model = random_model(**SHAPES[shape])
    tokens = random_pairs(model).clean
    has_norm = model.config.norm != "none"
    foldable = model.config.positions != "shortformer"
    processed = ew.process(model, fold_norm=foldable, center_writing=has_norm)
    torch.testing.assert_close(
        processed(tokens).log_softmax(-1), model(tokens).log_softmax(-1), rtol=0, atol=1e-10
    )
    assert not any(name.endswith("b_V") for name in processed.weights)
    assert "value biases folded" in processed.processing
    if has_norm and foldable:
        assert processed.config.norm == "layernorm-plain"
        assert not any(".ln" in name for name in processed.weights)
    if has_norm:
        for name in ("embed.W_E", "blocks.0.attn.W_O", "blocks.0.attn.b_O"):
            assert processed.weights[name].mean(dim=-1).abs().max() < 1e-12


def test_steps_that_would_not_be_exact_are_refused():
    for shape, message in (
        (SHAPES["shortformer"], "adds its positions after the norm"),
        ({"norm": "none"}, "has no LayerNorm, .* Pass center_writing=False"),
        ({"d_vocab_out": 1}, "has one output; centring it would leave nothing"),
    ):
        with pytest.raises(SettingError, match=message):
            ew.process(random_model(**shape))
    processed = ew.load_model("tracr-xproportion", processing="transformer-lens")
    tokens = torch.tensor([[0, 2, 3, 4]])
    torch.testing.assert_close(processed(tokens), ew.load_model("tracr-xproportion")(tokens))


def test_processing_matters_for_zero_ablation_and_not_for_corrupted():
    """Spec 1.5: a head's value bias leaves the head when it is folded into the output bias."""
    model = random_model()
    pairs = random_pairs(model)
    folded = ew.process(model, center_writing=False, center_unembed=False)
    circuit = ew.Circuit.full(model.graph).without("a0.h0->m1", "a1.h1->logits")
    for ablation, same in (("corrupted", True), ("zero", False)):
        losses = [ew.Problem(m, pairs, "kl", ablation).loss(circuit) for m in (model, folded)]
        assert (losses[0] == pytest.approx(losses[1], abs=1e-9)) is same


# --- modules inside others, and numbers that are not finite


@pytest.mark.parametrize("parallel", [False, True])
def test_what_only_wraps_a_module_is_taken_off(parallel):
    module = gpt2()
    wrapped = torch.nn.DataParallel(module) if parallel else module
    model = ew.load_model(torch.compile(wrapped, backend="eager"))
    tokens = torch.arange(10).view(2, 5)
    torch.testing.assert_close(model(tokens), module(tokens).logits)
    assert model.name == "GPT2LMHeadModel"


@pytest.mark.parametrize(("value", "kind"), [("nan", "NaN"), ("inf", "inf"), ("-inf", "inf")])
def test_weights_that_are_not_finite_are_named(value, kind):
    module = gpt2()
    with torch.no_grad():
        module.transformer.wte.weight[3, 2:4] = float(value)  # a token that the proof may not meet
    with pytest.raises(ModelUnavailable, match=rf"transformer\.wte\.weight holds 2 {kind}"):
        ew.load_model(module)


def test_weights_whose_sum_overflows_are_finite():
    module = gpt2().float()
    with torch.no_grad():
        module.transformer.h[0].attn.c_attn.bias[12:24] = 3e38  # of keys: adds alike to all scores
    with pytest.raises(ProofFailed):  # but not named as a tensor that holds infinity
        ew.load_model(module)


def test_what_would_overflow_in_float16_is_computed_in_float32():
    module = gpt2(tie_word_embeddings=False)
    with torch.no_grad():
        module.transformer.h[1].mlp.c_proj.weight *= 5_000
        module.transformer.h[1].mlp.c_fc.weight *= 100
    half = ew.load_model(copy.deepcopy(module).half())
    assert max(half.proof["relative_errors"].values()) < 1e-4
    moved = ew.load_model(module.float(), dtype="float16")
    assert moved.proof["moved"]["relative_error"] < 0.01
