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
GEMMA3 = {"FAMILY__rope__freq_base": 1e6, "FAMILY__attention__sliding_window": 4}


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


# Tolerances: rounding of float32; of matrices to 11 bits; to 8 bits and a scale for each 32.
@pytest.mark.parametrize(
    ("architecture", "config", "kind", "keys", "tolerance"),
    [
        ("llama", {"tie_word_embeddings": True}, "F32", {}, 1e-5),
        ("llama", {}, "F16", {}, 5e-3),
        ("llama", {}, "Q8_0", {}, 5e-2),
        ("qwen2", {}, "F32", {"FAMILY__rope__freq_base": 1e4}, 1e-5),
        ("gemma3", {}, "F32", GEMMA3, 1e-5),
        # Of 62 layers are the 27B models, whose scores have a scale of their own.
        (
            "gemma3",
            {"num_hidden_layers": 62, "query_pre_attn_scalar": 12, "hidden_size": 48},
            "F32",
            GEMMA3,
            1e-4,
        ),
    ],
)
def test_a_file_is_the_model_it_was_written_from(
    tmp_path, architecture, config, kind, keys, tolerance
):
    module = module_of(architecture, **config)
    file = write_gguf(tmp_path / "x.gguf", module, architecture=architecture, kind=kind, **keys)
    model = ew.load_model(file)
    assert difference(model, module) < tolerance
    assert model.dtype == torch.float32
    assert max(model.proof["relative_errors"].values()) < 1e-4


def test_the_slower_rotations_of_llama_3_are_in_a_tensor_of_their_own(tmp_path):
    rope = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    module = module_of(rope_parameters=rope)
    plain = 1e4 ** (-torch.arange(0, 8, 2) / 8)
    factors = (plain / module.model.rotary_emb.inv_freq).numpy()
    assert factors.max() > 7
    file = write_gguf(tmp_path / "x.gguf", module, extra={"rope_freqs.weight": factors})
    assert difference(ew.load_model(file), module) < 1e-5


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"FAMILY__rope__scaling__type": "yarn"}, r"says rope\.scaling\.type = yarn, .* without"),
        ({"FAMILY__rope__scaling__factor": 4.0}, r"rope\.scaling\.factor = 4\.0"),
        ({"FAMILY__attention__sliding_window": 3}, r"sliding_window = 3, .* computes without it"),
        ({"extra": {"blk.0.attn_sinks": np.ones(4, np.float32)}}, r"holds 35,\d\d\d weights, and"),
        ({"architecture": "starcoder2"}, "models of type 'starcoder2' are not supported"),
        ({"architecture": "rwkv7"}, "rwkv7 is not supported yet"),
        ({"FAMILY__block_count": 10**9}, "has fewer tensors than layers: it is broken"),
    ],
)
def test_what_transformers_would_leave_out_is_refused(tmp_path, keys, message):
    file = write_gguf(tmp_path / "x.gguf", module_of(), **{"architecture": "llama", **keys})
    with pytest.raises(UnsupportedModel, match=message):
        ew.load_model(file)


# --- the tokenizer inside

BYTE_CUT = ["t", "he", "Ġ", "a", "Ġ", "Ġ", "1", "2"]


@pytest.mark.parametrize(
    ("kind", "keys", "adds_bos", "cut"),
    [
        ("gpt2", {}, False, BYTE_CUT),
        ("gpt2", {"add_bos_token": True}, True, BYTE_CUT),
        ("gpt2", {"pre": "llama-bpe"}, True, BYTE_CUT),
        ("gpt2", {"pre": "llama-bpe", "add_bos_token": False}, False, BYTE_CUT),
        ("gpt2", {"pre": "smollm"}, False, ["t", "he", "Ġ", "a", "ĠĠ", "1", "2"]),
        ("llama", {}, True, ["▁a", "b", "▁a"]),
        ("llama", {"add_bos_token": False}, False, ["▁a", "b", "▁a"]),
        ("llama", {"add_space_prefix": False}, True, ["ab", "▁a"]),
    ],
)
def test_words_are_cut_and_bos_put_first_as_the_file_or_llama_cpp_says(
    tmp_path, kind, keys, adds_bos, cut
):
    pieces, text = (BYTES, "the a  12") if kind == "gpt2" else (PIECES, "ab a")
    keys = {f"tokenizer__ggml__{key}": value for key, value in keys.items()}
    module = module_of(vocab_size=len(pieces))
    tokenizer = ew.load_model(
        write_gguf(tmp_path / "x.gguf", module, tokenizer=kind, **keys)
    ).tokenizer
    ids = tokenizer.encode(text)
    assert [pieces[i] for i in ids] == cut
    assert tokenizer.decode(ids) == text
    assert (tokenizer.adds_bos, tokenizer.bos) == (adds_bos, 0 if kind == "gpt2" else 1)


# --- where it is, and the command line


def test_a_folder_with_one_file(tmp_path):
    module = module_of()
    write_gguf(tmp_path / "x.gguf", module)
    assert ew.load_model(tmp_path, dtype="bfloat16").dtype == torch.bfloat16
    write_gguf(tmp_path / "y.gguf", module, kind="F16")
    with pytest.raises(ModelUnavailable, match=r"several GGUF files; name one: x\.gguf, y\.gguf"):
        ew.load_model(tmp_path)
    module_of(vocab_size=300).save_pretrained(tmp_path)
    assert ew.load_model(tmp_path).config.d_vocab == 300, "a checkpoint of transformers comes first"


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
    with pytest.raises(ew.EdgewiseError, match=message):
        ew.load_model(file)


def test_on_the_command_line(tmp_path, capsys, monkeypatch):
    def edgewise(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        return stop.value.code or 0, capsys.readouterr()

    write_gguf(tmp_path / "x.gguf", module_of())
    monkeypatch.chdir(tmp_path)
    status, printed = edgewise("models", "check", "x.gguf")
    assert status == 0
    assert "all within the tolerance" in printed.out
    pair = {"clean": "the a", "corrupted": "the b", "answer": "c", "wrong": "d"}
    (tmp_path / "own.jsonl").write_text(json.dumps(pair) + "\n")
    options = ("--pairs", "own.jsonl", "--model", "x.gguf", "--method", "eap-ig", "--edges", "9")
    assert edgewise("discover", *options, "--out", "run")[0] == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert edgewise("evaluate", str(tmp_path / "run"), "--no-minimality")[0] == 0
    monkeypatch.setattr("edgewise.model.gguf.find_spec", lambda name: None)
    status, printed = edgewise("models", "check", str(tmp_path / "x.gguf"))
    assert status == 2
    assert "pip install 'edgewise[gguf]'" in printed.err.replace("\n", " ")
