"""Loading models: the self-proof, GPT-2 of every kind, processing, and refusals."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import edgewise as ew
from edgewise.errors import ModelUnavailable, ProofFailed, SettingError, UnsupportedModel
from edgewise.model import loading
from edgewise.model.proof import huggingface_source, prove
from models import SHAPES, random_model, random_pairs
from oracle import random_gpt2


def gpt2(**config):
    """A random GPT-2 of Hugging Face with random biases and norms, in float64."""
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 12, "vocab_size": 19, "n_positions": 14}
    special = {"bos_token_id": 0, "eos_token_id": 1}
    module = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, **special, **config))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.4)
    return module.double().eval()


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


def test_float32_to_one_part_in_ten_thousand():
    module = gpt2().float()
    model = ew.load_model(module)
    assert model.dtype == torch.float32
    assert max(model.proof["relative_errors"].values()) < 1e-4


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_can_be_chosen(dtype):
    assert ew.load_model("tracr-reverse", dtype=dtype).dtype == dtype
    assert ew.load_model(gpt2(), dtype=dtype).dtype == dtype


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


# --- refusals


def test_an_unsupported_family_is_named_with_what_would_work():
    config = transformers.BloomConfig(n_layer=1, hidden_size=8, n_head=1, vocab_size=9)
    module = transformers.BloomForCausalLM(config)
    with pytest.raises(
        UnsupportedModel, match=r"'bloom' are not supported\. Supported: gpt2, llama, .* To add"
    ):
        ew.load_model(module)


def test_an_unsupported_family_in_a_folder_is_refused_before_its_weights_are_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(UnsupportedModel, match="'mamba' are not supported"):
        ew.load_model(str(tmp_path))


def test_an_unknown_model_type_in_a_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "brand-new"}))
    with pytest.raises(UnsupportedModel, match="cannot read the model"):
        ew.load_model(str(tmp_path))


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ew.EdgewiseError, match="cannot read the model"):
        ew.load_model(str(tmp_path))


def test_an_unknown_activation():
    module = gpt2(activation_function="mish")
    with pytest.raises(UnsupportedModel, match=r"activation 'mish' is not supported; known: relu"):
        ew.load_model(module)


def test_a_module_that_is_no_language_model():
    with pytest.raises(UnsupportedModel, match="Linear is not a Hugging Face language model"):
        ew.load_model(torch.nn.Linear(2, 2))
    with pytest.raises(UnsupportedModel, match="has no language-model head"):
        ew.load_model(gpt2().transformer)


def test_an_unreachable_hub_names_the_bundled_models(monkeypatch):
    def unreachable(name, **options):
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(
        ModelUnavailable, match=r"No model 'gpt2': .* use a bundled one, such as small-lm"
    ):
        ew.load_model("gpt2")


def test_offline_mode_is_one_line_too():
    with pytest.raises(ModelUnavailable) as caught:
        ew.load_model("some-user/some-model-nobody-has")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    with pytest.raises(ModelUnavailable, match=r"there is no folder or file '\./no/such'"):
        ew.load_model("./no/such")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": "blocks.0.attn.W_Q"}, r"blocks\.0\.attn\.W_Q is missing"),
        ({"add": ("blocks.9.attn.W_Q", (2, 8, 4))}, "is not a tensor of this architecture"),
        ({"add": ("unembed.W_U", (8, 12))}, r"unembed\.W_U is \(8, 12\), expected \(8, 11\)"),
    ],
)
def test_wrong_weights_are_listed(change, message):
    model = random_model()
    weights = dict(model.weights)
    if "drop" in change:
        weights.pop(change["drop"])
    else:
        name, shape = change["add"]
        weights[name] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(UnsupportedModel, match=message):
        ew.Model(model.config, weights)


def test_mixed_dtypes_are_refused():
    model = random_model()
    weights = {**model.weights, "unembed.W_U": model.weights["unembed.W_U"].float()}
    with pytest.raises(UnsupportedModel, match=r"are torch\.float32 and torch\.float64; use one"):
        ew.Model(model.config, weights)


def test_a_configuration_lists_all_its_faults():
    sizes = {"n_layers": 0, "n_heads": 1, "d_model": 2, "d_head": 2, "d_mlp": 2}
    with pytest.raises(
        UnsupportedModel, match=r"norm 'rms' .*; activation 'swish' .*; n_layers is 0"
    ):
        ew.ModelConfig(**sizes, d_vocab=3, n_ctx=3, d_vocab_out=3, norm="rms", activation="swish")


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


def test_processing_of_gpt2_at_load():
    module = gpt2()
    tokens = torch.randint(19, (2, 6))
    model = ew.load_model(module, processing="transformer-lens")
    torch.testing.assert_close(
        model(tokens).log_softmax(-1), module(tokens).logits.log_softmax(-1), rtol=0, atol=1e-9
    )


def test_centring_without_a_norm_is_refused():
    with pytest.raises(SettingError, match="center_writing is exact only behind a LayerNorm"):
        ew.process(random_model(norm="none"))


def test_prompts_longer_than_the_context_are_refused():
    with pytest.raises(SettingError, match="prompts of 11 tokens; random-0 takes at most 10"):
        random_model()(torch.zeros(1, 11, dtype=torch.long))


def test_random_gpt2_of_the_oracle_loads():
    assert "Model('GPT2LMHeadModel': 2 layers" in repr(ew.load_model(random_gpt2(0)))
    assert loading.BUNDLED


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": torch.int8}, "no dtype for a model named 'int8'"),
        ({"dtype": "float23"}, "Did you mean 'float32'"),
        ({"device": "foo"}, "device 'foo' cannot be used here"),
    ],
)
def test_dtypes_and_devices_that_cannot_be_used(options, message):
    with pytest.raises(ew.EdgewiseError, match=message):
        ew.load_model("tracr-reverse", **options)


def test_a_dtype_by_name():
    assert ew.load_model("tracr-reverse", dtype="float64").dtype == torch.float64


# --- checkpoints that are not what they should be


def llama_folder(folder, **config):
    """A tiny Llama saved as a checkpoint."""
    shape = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8, "vocab_size": 31}
    shape |= {"num_attention_heads": 2, "max_position_embeddings": 16}
    module = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**shape, **config}))
    module.save_pretrained(folder)
    return folder


def change_weights(folder, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


UP = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(UP), rf"does not fit its configuration: {UP} missing"),
        (lambda t: t.update({UP: torch.zeros(7, 8)}), rf"{UP} of another shape"),
    ],
)
def test_a_checkpoint_whose_weights_do_not_fit(tmp_path, change, message):
    change_weights(llama_folder(tmp_path), change)
    with pytest.raises(ModelUnavailable, match=message) as caught:
        ew.load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_quantised_checkpoint_is_refused_before_its_weights_are_read(tmp_path):
    file = llama_folder(tmp_path) / "config.json"
    config = json.loads(file.read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    file.write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match=r"is quantised \(bitsandbytes\).*unquantised"):
        ew.load_model(tmp_path)


def test_a_module_on_the_meta_device_or_of_integers_is_refused():
    with torch.device("meta"):
        module = gpt2()
    with pytest.raises(UnsupportedModel, match="is on the meta device"):
        ew.load_model(module)


def test_another_models_tokenizer_is_refused():
    class Wide:
        bos = 0

        def encode(self, text):
            return [5, 99]

        def decode(self, ids):
            return ""

    with pytest.raises(UnsupportedModel, match=r"embeds 19 tokens, but its tokenizer gives .* 99"):
        ew.load_model(gpt2(), tokenizer=Wide())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_folder_in_a_dtype(tmp_path, dtype):
    model = ew.load_model(llama_folder(tmp_path), dtype=dtype)
    assert model.dtype == getattr(torch, dtype)
    assert model.weights["blocks.0.attn.W_Q"].dtype == model.dtype


def test_rope_of_an_unknown_type_is_refused(tmp_path):
    module = transformers.AutoModelForCausalLM.from_pretrained(llama_folder(tmp_path))
    module.model.rotary_emb.rope_type = "spiral"
    with pytest.raises(UnsupportedModel, match="of type 'spiral' are not known.*dynamic, longrope"):
        ew.load_model(module)


def test_another_dtype_keeps_tied_weights_tied():
    model = ew.load_model(gpt2()).to(dtype=torch.float32)
    embed, unembed = model.weights["embed.W_E"], model.weights["unembed.W_U"]
    assert embed.dtype == torch.float32
    assert embed.untyped_storage().data_ptr() == unembed.untyped_storage().data_ptr()


def test_a_model_without_layers_is_named():
    config = transformers.LlamaConfig(
        num_hidden_layers=0, hidden_size=8, intermediate_size=8, num_attention_heads=2, vocab_size=9
    )
    with pytest.raises(UnsupportedModel, match="has 0 layers"):
        ew.load_model(transformers.LlamaForCausalLM(config))
