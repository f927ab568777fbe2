"""What cannot be loaded is refused in one line that says why, and what would work."""

import json
import re
import warnings
from types import SimpleNamespace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import edgewise as ew
from edgewise.errors import ModelUnavailable, UnsupportedModel
from hf import gpt2, llama_folder
from models import random_model


def bloom():
    config = transformers.BloomConfig(n_layer=1, hidden_size=8, n_head=1, vocab_size=9)
    return transformers.BloomForCausalLM(config)


def llama(**config):
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    shape |= {"num_hidden_layers": 1}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape | config))


def turned_otherwise():
    module = llama()
    module.model.rotary_emb.rope_type = "spiral"
    return module


def on_meta():
    with torch.device("meta"):
        return gpt2()


def dynamically_quantised():
    module = gpt2(tie_word_embeddings=False).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of this way to pack
        kinds = {torch.nn.Linear}
        return torch.ao.quantization.quantize_dynamic(module, kinds, dtype=torch.qint8)


def with_integers():
    module = gpt2()
    matrix = module.transformer.h[0].mlp.c_fc
    values = matrix.weight.detach().to(torch.int8)
    matrix.weight = torch.nn.Parameter(values, requires_grad=False)
    return module


def of_package(package, kind):
    module = gpt2()
    inner = module.transformer.h[1].mlp
    inner.__class__ = type(kind, (type(inner),), {"__module__": package})
    return module


def hooked():
    config = {"n_layers": 1, "n_heads": 1, "d_model": 2, "d_head": 2, "d_vocab": 3, "n_ctx": 3}
    cfg = SimpleNamespace(**config, use_qk_norm=True, normalization_type="LN", model_name=None)
    module = torch.nn.Module()
    module.cfg, module.state_dict = cfg, lambda: {"embed.W_E": torch.zeros(3, 2)}
    return module


SOURCES = {
    "another family": (bloom, r"'bloom' are not supported\. Supported: gpt2, llama, .* To add"),
    "an activation": (lambda: gpt2(activation_function="mish"), "'mish' is not .* known: relu"),
    "a layer": (lambda: torch.nn.Linear(2, 2), "Linear is not a Hugging Face language model"),
    "no head": (lambda: gpt2().transformer, "has no language-model head"),
    "no layers": (lambda: llama(num_hidden_layers=0), "has 0 layers"),
    "a rotation": (turned_otherwise, "of type 'spiral' are not known.*dynamic, longrope"),
    "on meta": (on_meta, "is on the meta device"),
    "packed": (dynamically_quantised, r"lm_head is a Linear of torch\.ao, and packed .*"),
    "integers": (with_integers, r"quantised: .*c_fc\.weight is of torch\.int8, and"),
    "adapters": (
        lambda: of_package("peft.tuners.lora.layer", "Linear"),
        r"adapters of PEFT \(transformer\.h\.1\.mlp is a Linea.*load_model\(model\.merge_and_un",
    ),
    "4 bits": (
        lambda: of_package("bitsandbytes.nn.modules", "Linear4bit"),
        r"h\.1\.mlp is a Linear4bit of bitsandbytes\.nn",
    ),
    "a dictionary": (lambda: {"a": 1}, "read as a nanoGPT checkpoint"),
    "a cfg alone": (
        lambda: SimpleNamespace(cfg=SimpleNamespace(model_name=None)),
        "SimpleNamespace keeps its tensors in another",
    ),
    "another setting": (hooked, "use_qk_norm = True is not read.*Hugging Face name"),
    "no hub": (lambda: "some-user/some-model-nobody-has", "use a bundled one, such as small-lm"),
    "no folder": (lambda: "./no/such", r"there is no folder or file '\./no/such'"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_sources(case):
    make, message = SOURCES[case]
    with pytest.raises((UnsupportedModel, ModelUnavailable), match=message) as caught:
        ew.load_model(make())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


UP = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(UP), rf"does not fit its configuration: {UP} missing"),
        (lambda t: t.update({UP: torch.zeros(7, 8)}), rf"{UP} of another shape"),
    ],
)
def test_a_checkpoint_whose_weights_do_not_fit(tmp_path, change, message):
    file = llama_folder(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable, match=message):
        ew.load_model(tmp_path)


PACKED = {"quant_method": "bitsandbytes", "load_in_4bit": True}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "mamba"}, "'mamba' are not supported"),
        ({"model_type": "brand-new"}, "cannot read the model"),
        ({}, "cannot read the model"),
        (
            {"model_type": "llama", "quantization_config": PACKED},
            r"quantised \(bitsandbytes",
        ),
    ],
)
def test_a_folder_is_refused_before_its_weights_are_read(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ew.EdgewiseError, match=message):
        ew.load_model(str(tmp_path))


class Wide:
    """Another model's tokenizer."""

    bos = 0

    def encode(self, text):
        return [5, 99]

    def decode(self, ids):
        return ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": torch.int8}, "no dtype for a model named 'int8'"),
        ({"dtype": "float23"}, "Did you mean 'float32'"),
        ({"device": "foo"}, "device 'foo' cannot be used here"),
        ({"device": "auto"}, "places checkpoints, by hub name or folder"),
        ({"device": ["cpu", "foo"]}, "device 'foo' cannot be used here"),
        ({"device": ["cpu"] * 5}, "5 devices for 4 layers"),
    ],
)
def test_options(options, message):
    with pytest.raises(ew.EdgewiseError, match=message):
        ew.load_model("tracr-reverse", **options)


def test_another_models_tokenizer():
    with pytest.raises(UnsupportedModel, match=r"embeds 19 tokens, but its tokenizer gives .* 99"):
        ew.load_model(gpt2(), tokenizer=Wide())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks.0.attn.W_Q": None}, "blocks.0.attn.W_Q is missing"),
        ({"blocks.9.attn.W_Q": torch.zeros(2, 8, 4)}, "is not a tensor of this architecture"),
        ({"unembed.W_U": torch.zeros(8, 12)}, "unembed.W_U is (8, 12), expected (8, 11)"),
        ({"unembed.W_U": torch.zeros(8, 11)}, "are torch.float32 and torch.float64; use one"),
    ],
)
def test_weights(changes, message):
    model = random_model()
    weights = {k: t for k, t in {**model.weights, **changes}.items() if t is not None}
    with pytest.raises(UnsupportedModel, match=re.escape(message)):
        ew.Model(model.config, weights)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"norm": "rms", "activation": "swish", "n_layers": 0}, "'rms' .*; .*'swish' .*; n_layers"),
        ({"norm": "none", "qk_norm": "head"}, "have weights, which 'none' has not"),
        ({"norm": "layernorm", "qk_norm": "layer"}, "whole layers are RMSNorms, not 'layernorm'"),
    ],
)
def test_a_configuration_lists_all_its_faults(fields, message):
    sizes = {"n_layers": 1, "n_heads": 1, "d_model": 2, "d_head": 2, "d_mlp": 2, "d_vocab": 3}
    with pytest.raises(UnsupportedModel, match=message):
        ew.ModelConfig(**{**sizes, "n_ctx": 3, "d_vocab_out": 3, **fields})
