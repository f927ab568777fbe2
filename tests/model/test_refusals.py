"""What cannot be loaded is refused in one line that says why, and what would work."""

import json
import random
import warnings
from types import SimpleNamespace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

import edgewise as ew
from edgewise.errors import ModelUnavailable, UnsupportedModel
from fuzz import mutant, unanswered
from hf import gpt2, hf_model, llama_folder


def bloom():
    config = transformers.BloomConfig(n_layer=1, hidden_size=8, n_head=1, vocab_size=9)
    return transformers.BloomForCausalLM(config)


def turned_otherwise():
    module = hf_model("llama")
    module.model.rotary_emb.rope_type = "spiral"
    return module


def on_meta():
    with torch.device("meta"):
        return gpt2()


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
    "no layers": (lambda: hf_model("llama", num_hidden_layers=0), "has 0 layers"),
    "a rotation": (turned_otherwise, "of type 'spiral' are not known.*dynamic, longrope"),
    "clipped": (lambda: hf_model("olmoe", clip_qkv=1.0), "queries, keys and values are clipped"),
    "on meta": (on_meta, "is on the meta device"),
    "packed": (
        lambda: of_package("torch.ao.nn.quantized", "Linear"),
        r"h\.1\.mlp is a Linear of torch\.ao, and packed .*",
    ),
    "integers": (with_integers, r"quantised: .*c_fc\.weight is of torch\.int8, and"),
    "adapters": (
        lambda: of_package("peft.tuners.lora.layer", "Linear"),
        r"adapters of PEFT \(transformer\.h\.1\.mlp is a Linea.*load_model\(model\.merge_and_un",
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
    wide = SimpleNamespace(bos=0, encode=lambda text: [5, 99], decode=lambda ids: "")
    with pytest.raises(UnsupportedModel, match=r"embeds 19 tokens, but its tokenizer gives .* 99"):
        ew.load_model(gpt2(), tokenizer=wide)


# --- folders


UP = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("shape", "message"), [(None, f"{UP} missing"), ((7, 8), f"{UP} of another shape")]
)
def test_a_checkpoint_whose_weights_do_not_fit(tmp_path, shape, message):
    file = llama_folder(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    del tensors[UP]
    tensors |= {} if shape is None else {UP: torch.zeros(shape)}
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable, match=f"does not fit its configuration: {message}"):
        ew.load_model(tmp_path)


PACKED = {"quant_method": "bitsandbytes", "load_in_4bit": True}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "mamba"}, "'mamba' are not supported"),
        ({"model_type": "brand-new"}, "cannot read the model"),
        ({}, "cannot read the model"),
        ({"model_type": "llama", "quantization_config": PACKED}, r"quantised \(bitsandbytes"),
    ],
)
def test_a_folder_is_refused_before_its_weights_are_read(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ew.EdgewiseError, match=message):
        ew.load_model(str(tmp_path))


@pytest.fixture
def folder(tmp_path):
    special = {"num_key_value_heads": 1, "vocab_size": 40, "bos_token_id": 0, "eos_token_id": 1}
    llama_folder(tmp_path, **special)
    words = {f"w{i}": i for i in range(39)} | {"[UNK]": 39}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("n", "seed"), [(200, 0), pytest.param(2000, 1, marks=pytest.mark.slow)])
def test_a_changed_folder_is_a_model_or_one_error_that_says_what_is_wrong(folder, n, seed):
    assert ew.load_model(str(folder)).tokenizer is not None
    draw, complaints = random.Random(seed), []
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    for i in range(n):
        file = folder / draw.choice(names)
        content = file.read_bytes()
        kind, changed = mutant(content, draw)
        file.write_bytes(changed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # transformers' own, of what it goes on with
            complaint = unanswered(lambda: ew.load_model(str(folder)))
        if complaint:
            complaints.append(f"mutant {i} of {file.name} ({kind}): {complaint}")
        file.write_bytes(content)
    assert not complaints, f"{len(complaints)} of {n}\n" + "\n".join(complaints[:5])


def test_a_tokenizer_that_fails_is_named(folder):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": [16]}))
    with pytest.raises(UnsupportedModel, match="tokenizer cannot encode a sentence"):
        ew.load_model(str(folder))
