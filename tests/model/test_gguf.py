"""GGUF files: the model they were written from, their tokenizer's conventions, and refusals."""

import json

import numpy as np
import pytest
import torch
import transformers

import edgewise as ew
from edgewise.cli.main import main
from edgewise.errors import ModelUnavailable, UnsupportedModel
from gguf_files import BYTES, PIECES, write_gguf

FAMILIES = {
    "llama": transformers.LlamaConfig,
    "qwen2": transformers.Qwen2Config,
    "gemma3": transformers.Gemma3TextConfig,
}


def module_of(architecture="llama", **config):
    torch.manual_seed(0)
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    shape |= {"hidden_size": 32, "intermediate_size": 64, "head_dim": 8, "vocab_size": len(BYTES)}
    shape |= {"max_position_embeddings": 64, "rms_norm_eps": 1e-5, "bos_token_id": 0}
    if architecture == "gemma3":
        shape |= {"sliding_window": 4, "query_pre_attn_scalar": 8}
    config = FAMILIES[architecture](**{**shape, **config})
    module = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, mean=0.05, std=0.3)
    return module


def difference(model, module):
    tokens = torch.arange(12).view(1, 12) + 30
    with torch.no_grad():
        expected = module(tokens).logits
    return ((model(tokens) - expected).abs().max() / expected.abs().max()).item()


# Rounding of float32; of matrices to 11 bits; to 8 bits and a scale for each 32 numbers.
TOLERANCES = {"F32": 1e-5, "F16": 5e-3, "Q8_0": 5e-2}


@pytest.mark.parametrize("kind", TOLERANCES)
@pytest.mark.parametrize("tied", [True, False])
def test_a_file_is_the_model_it_was_written_from(tmp_path, kind, tied):
    module = module_of(tie_word_embeddings=tied)
    model = ew.load_model(write_gguf(tmp_path / "x.gguf", module, kind=kind))
    assert difference(model, module) < TOLERANCES[kind]
    assert model.dtype == torch.float32
    assert max(model.proof["relative_errors"].values()) < 1e-4


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3"])
def test_other_families(tmp_path, architecture):
    module = module_of(architecture)
    keys = {"sliding_window": 4} if architecture == "gemma3" else {}
    keys = {f"FAMILY__attention__{name}": value for name, value in keys.items()}
    theta = 1e6 if architecture == "gemma3" else 1e4
    keys["FAMILY__rope__freq_base"] = theta
    file = write_gguf(tmp_path / "x.gguf", module, architecture=architecture, **keys)
    assert difference(ew.load_model(file), module) < 1e-5


def test_the_slower_rotations_of_llama_3_are_in_a_tensor_of_their_own(tmp_path):
    rope = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    module = module_of(rope_parameters=rope)
    plain = 1e4 ** (-torch.arange(0, 8, 2) / 8)
    factors = (plain / module.model.rotary_emb.inv_freq).numpy()
    assert factors.max() > 7
    file = write_gguf(tmp_path / "x.gguf", module, extra={"rope_freqs.weight": factors})
    assert difference(ew.load_model(file), module) < 1e-5


@pytest.mark.parametrize(("layers", "scalar"), [(2, 8), (62, 12)])
def test_gemmas_scale_of_scores_is_that_of_its_size(tmp_path, layers, scalar):
    config = {"num_hidden_layers": layers, "query_pre_attn_scalar": scalar, "hidden_size": 48}
    module = module_of("gemma3", **config)
    keys = {"FAMILY__rope__freq_base": 1e6, "FAMILY__attention__sliding_window": 4}
    file = write_gguf(tmp_path / "x.gguf", module, architecture="gemma3", **keys)
    assert difference(ew.load_model(file), module) < 1e-4


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"FAMILY__rope__scaling__type": "yarn"},
            r"says rope\.scaling\.type = yarn, .* without it\. Load the same model as a checkpoint",
        ),
        ({"FAMILY__rope__scaling__factor": 4.0}, r"rope\.scaling\.factor = 4\.0"),
        ({"FAMILY__attention__sliding_window": 3}, r"sliding_window = 3, .* computes without it"),
        ({"extra": {"blk.0.attn_sinks": np.ones(4, np.float32)}}, r"holds 35,\d\d\d weights, and"),
        ({"architecture": "starcoder2"}, "models of type 'starcoder2' are not supported"),
        ({"architecture": "rwkv7"}, "rwkv7 is not supported yet"),
        ({"FAMILY__block_count": 10**9}, "has fewer tensors than layers: it is broken"),
    ],
)
def test_what_transformers_would_leave_out_is_refused(tmp_path, keys, message):
    architecture = keys.pop("architecture", "llama")
    file = write_gguf(tmp_path / "x.gguf", module_of(), architecture=architecture, **keys)
    with pytest.raises(UnsupportedModel, match=message):
        ew.load_model(file)


# --- the tokenizer inside


@pytest.mark.parametrize(
    ("kind", "keys", "adds"),
    [
        ("gpt2", {}, False),
        ("gpt2", {"tokenizer__ggml__add_bos_token": True}, True),
        ("gpt2", {"tokenizer__ggml__pre": "llama-bpe"}, True),
        (
            "gpt2",
            {"tokenizer__ggml__pre": "llama-bpe", "tokenizer__ggml__add_bos_token": False},
            False,
        ),
        ("llama", {}, True),
        ("llama", {"tokenizer__ggml__add_bos_token": False}, False),
    ],
)
def test_bos_is_put_first_where_the_file_or_llama_cpp_says_so(tmp_path, kind, keys, adds):
    module = module_of(vocab_size=len(BYTES if kind == "gpt2" else PIECES))
    model = ew.load_model(write_gguf(tmp_path / "x.gguf", module, tokenizer=kind, **keys))
    assert model.tokenizer.adds_bos is adds
    assert model.tokenizer.bos == (0 if kind == "gpt2" else 1)


def pieces(tmp_path, text, kind="gpt2", **keys):
    module = module_of(vocab_size=len(BYTES if kind == "gpt2" else PIECES))
    model = ew.load_model(write_gguf(tmp_path / "x.gguf", module, tokenizer=kind, **keys))
    ids = model.tokenizer.encode(text)
    assert model.tokenizer.decode(ids) == text
    return [(BYTES if kind == "gpt2" else PIECES)[i] for i in ids]


def test_words_are_cut_as_the_file_says(tmp_path):
    assert pieces(tmp_path, "the the") == ["t", "he", "Ġthe"]
    assert pieces(tmp_path, "ab a", "llama") == ["▁a", "b", "▁a"]
    no_prefix = {"tokenizer__ggml__add_space_prefix": False}
    assert pieces(tmp_path, "ab a", "llama", **no_prefix) == ["ab", "▁a"]


def test_digits_are_cut_before_spaces_where_the_file_says_so(tmp_path):
    assert pieces(tmp_path, "a  12") == ["a", "Ġ", "Ġ", "1", "2"]
    assert pieces(tmp_path, "a  12", tokenizer__ggml__pre="smollm") == ["a", "ĠĠ", "1", "2"]


# --- where it is, and the command line


def test_a_folder_with_one_file(tmp_path):
    module = module_of()
    write_gguf(tmp_path / "x.gguf", module)
    assert difference(ew.load_model(tmp_path), module) < 1e-5
    write_gguf(tmp_path / "y.gguf", module, kind="F16")
    with pytest.raises(ModelUnavailable, match=r"several GGUF files; name one: x\.gguf, y\.gguf"):
        ew.load_model(tmp_path)
    other = module_of(vocab_size=300)
    other.save_pretrained(tmp_path)
    assert ew.load_model(tmp_path).config.d_vocab == 300, "a checkpoint of transformers comes first"


def test_a_dtype(tmp_path):
    file = write_gguf(tmp_path / "x.gguf", module_of(), kind="F16")
    assert ew.load_model(file, dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a GGUF file"),
        (b"PK\x03\x04 a zip", "is not a GGUF file"),
        (b"GGUF", "is broken"),
        (b"GGUF" + b"\x03\0\0\0" + b"\xff" * 16, "is broken"),
        (None, "there is no file"),
    ],
)
def test_files_that_are_none(tmp_path, content, message):
    file = tmp_path / "x.gguf"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ew.EdgewiseError, match=message) as caught:
        ew.load_model(file)
    assert len(str(caught.value)) < 500


def test_what_must_be_installed_is_said(tmp_path, monkeypatch):
    file = write_gguf(tmp_path / "x.gguf", module_of())
    monkeypatch.setattr("edgewise.model.gguf.find_spec", lambda name: None)
    with pytest.raises(ModelUnavailable, match=r"gguf and accelerate .* 'edgewise\[gguf\]'"):
        ew.load_model(file)


def test_on_the_command_line(tmp_path, capsys, monkeypatch):
    def edgewise(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        assert not stop.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    write_gguf(tmp_path / "x.gguf", module_of())
    monkeypatch.chdir(tmp_path)
    assert "all within the tolerance" in edgewise("models", "check", "x.gguf")
    pair = {"clean": "the a", "corrupted": "the b", "answer": "c", "wrong": "d"}
    (tmp_path / "own.jsonl").write_text(json.dumps(pair) + "\n")
    asked = ("--pairs", "own.jsonl", "--model", "x.gguf", "--method", "eap-ig", "--edges", "9")
    edgewise("discover", *asked, "--out", "run")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    edgewise("evaluate", str(tmp_path / "run"), "--no-minimality")
