"""The answers of three independent implementations on one small random model, as a fixture.

`tests/fixtures/mlp3l.*` come from `scripts/make_fixtures.py`. The numbers were computed in float32
by EAP-IG 2.0.0, AutoCircuit 1.0.1 and the original ACDC code; `data` keeps their conventions:

- `data["evaluations"]`: kept edges, their KL and last-position logits (first three prompts).
- `data["acdc_kl"]`: `threshold`, every test as [edge, delta, kept], the kept edges;
  `head_order="ascending"`, no switches.
- `data["eap_ig"]`, `data["auto_circuit"]`: edge -> score. Logit difference is minimised there, so
  it enters as -(correct - wrong).
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

FIXTURES = Path(__file__).parent / "fixtures"


def load_reference(dtype: torch.dtype = torch.float64) -> tuple[GPT2LMHeadModel, dict]:
    """The fixture's model as a Hugging Face GPT-2 (eager, eval), and its `data` as in the file.

    GPT-2 has no unembedding bias, this model has: `lm_head` is an untied Linear with bias.
    """
    data = json.loads((FIXTURES / "mlp3l.json").read_text())
    weights = load_file(FIXTURES / "mlp3l.safetensors")
    shape = data["config"]
    config = GPT2Config(
        vocab_size=shape["d_vocab"], n_positions=shape["n_ctx"], n_embd=shape["d_model"],
        n_layer=shape["n_layers"], n_head=shape["n_heads"], n_inner=shape["d_mlp"],
        activation_function=shape["act_fn"], layer_norm_epsilon=shape["eps"],
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
        tie_word_embeddings=False, attn_implementation="eager",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # the constructors draw from the global generator
        hf = GPT2LMHeadModel(config)
        hf.lm_head = nn.Linear(shape["d_model"], shape["d_vocab"], bias=True)
    hf.load_state_dict(_hugging_face_names(weights, shape["n_layers"]), strict=True)
    return hf.to(dtype).eval(), data


def reference_tokens(data: dict) -> dict[str, Tensor]:
    """The prompts: "clean", "corrupted" [batch pos], "answers", "wrong" [batch]."""
    tokens = {name: torch.tensor(rows) for name, rows in data["tokens"].items()}
    return {
        "clean": tokens["clean"],
        "corrupted": tokens["corrupted"],
        "answers": tokens["answers"].squeeze(1),
        "wrong": tokens["wrong_answers"].squeeze(1),
    }


def _hugging_face_names(weights: dict[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    """TransformerLens weights under Hugging Face's names and in its shapes."""
    state = {
        "transformer.wte.weight": weights["embed.W_E"],
        "transformer.wpe.weight": weights["pos_embed.W_pos"],
        "transformer.ln_f.weight": weights["ln_final.w"],
        "transformer.ln_f.bias": weights["ln_final.b"],
        "lm_head.weight": weights["unembed.W_U"].T.contiguous(),  # nn.Linear is [out, in]
        "lm_head.bias": weights["unembed.b_U"],
    }
    for layer in range(n_layers):
        theirs, ours = f"blocks.{layer}.", f"transformer.h.{layer}."
        for number in (1, 2):
            state[f"{ours}ln_{number}.weight"] = weights[f"{theirs}ln{number}.w"]
            state[f"{ours}ln_{number}.bias"] = weights[f"{theirs}ln{number}.b"]
        # c_attn: columns are all heads' q, then k, then v, head after head
        columns, biases = [], []
        for letter in "QKV":
            columns.extend(weights[f"{theirs}attn.W_{letter}"])  # each head: [d_model d_head]
            biases.extend(weights[f"{theirs}attn.b_{letter}"])  # each head: [d_head]
        state[f"{ours}attn.c_attn.weight"] = torch.cat(columns, dim=1)
        state[f"{ours}attn.c_attn.bias"] = torch.cat(biases)
        # c_proj: rows are head after head
        state[f"{ours}attn.c_proj.weight"] = torch.cat(list(weights[f"{theirs}attn.W_O"]), dim=0)
        state[f"{ours}attn.c_proj.bias"] = weights[f"{theirs}attn.b_O"]
        state[f"{ours}mlp.c_fc.weight"] = weights[f"{theirs}mlp.W_in"]
        state[f"{ours}mlp.c_fc.bias"] = weights[f"{theirs}mlp.b_in"]
        state[f"{ours}mlp.c_proj.weight"] = weights[f"{theirs}mlp.W_out"]
        state[f"{ours}mlp.c_proj.bias"] = weights[f"{theirs}mlp.b_out"]
    return state
