"""Loading models: the self-proof, GPT-2 of every kind, and processing."""

import pytest
import torch

import edgewise as ew
from edgewise.errors import ProofFailed, SettingError
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
def test_gpt2_equals_its_source(variant):
    module = gpt2(**VARIANTS[variant])
    tokens = torch.randint(19, (3, 9), generator=torch.Generator().manual_seed(1))
    expected = module(tokens).logits
    model = ew.load_model(module)
    error = (model(tokens) - expected).abs().max() / expected.abs().max()
    assert error < 1e-9
    assert max(model.proof["relative_errors"].values()) < 1e-9
    shared = model.weights["embed.W_E"].data_ptr()
    assert shared == module.transformer.wte.weight.data_ptr(), "parameters are shared, not copied"


@pytest.mark.parametrize("training", [True, False])
def test_loading_gives_the_module_back_as_it_was(training):
    module = gpt2(resid_pdrop=0.5).train(training)
    before = {name: p.clone() for name, p in module.named_parameters()}
    ew.load_model(module)
    assert module.training is training
    assert not module.transformer.ln_f._forward_pre_hooks
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad


def test_a_folder_loads_with_its_tokenizer_or_without(tmp_path):
    module = gpt2()
    module.save_pretrained(tmp_path)
    model = ew.load_model(str(tmp_path), dtype=torch.float64)
    tokens = torch.randint(19, (2, 5))
    torch.testing.assert_close(model(tokens), module(tokens).logits)
    assert model.tokenizer is None


# --- the proof fails when it should


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
    shortformer = random_model(**SHAPES["shortformer"])
    with pytest.raises(SettingError, match="adds its positions after the norm"):
        ew.process(shortformer)
    with pytest.raises(SettingError, match="center_writing is exact only behind a LayerNorm"):
        ew.process(random_model(norm="none"))
    with pytest.raises(SettingError, match="has one output; centring it would leave nothing"):
        ew.process(random_model(d_vocab_out=1))
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


# --- checkpoints in a dtype


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_folder_in_a_dtype(tmp_path, dtype):
    model = ew.load_model(llama_folder(tmp_path), dtype=dtype)
    assert model.dtype == getattr(torch, dtype)
    assert model.weights["blocks.0.attn.W_Q"].dtype == model.dtype
