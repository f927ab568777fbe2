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


def load_peers(
    dtype: torch.dtype = torch.float64,
) -> tuple[GPT2LMHeadModel, dict[str, Tensor], dict]:
    """The model as a Hugging Face GPT-2 (eager, eval), its prompts, and `data` as in the file.

    Prompts: "clean", "corrupted" [batch pos], "answers", "wrong" [batch].

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
    tokens = {name: torch.tensor(rows) for name, rows in data["tokens"].items()}
    tokens["answers"] = tokens["answers"].squeeze(1)
    tokens["wrong"] = tokens.pop("wrong_answers").squeeze(1)
    return hf.to(dtype).eval(), tokens, data


def _hugging_face_names(weights: dict[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    """TransformerLens weights under Hugging Face's names and in its shapes."""
    w = weights
    state = {
        "transformer.wte.weight": w["embed.W_E"],
        "transformer.wpe.weight": w["pos_embed.W_pos"],
        "transformer.ln_f.weight": w["ln_final.w"],
        "transformer.ln_f.bias": w["ln_final.b"],
        "lm_head.weight": w["unembed.W_U"].T.contiguous(),  # nn.Linear is [out, in]
        "lm_head.bias": w["unembed.b_U"],
    }
    for layer in range(n_layers):
        theirs, ours = f"blocks.{layer}.", f"transformer.h.{layer}."
        # c_attn: columns are all heads' q, then k, then v, head after head; c_proj: rows likewise
        columns = [head for letter in "QKV" for head in w[f"{theirs}attn.W_{letter}"]]
        biases = [head for letter in "QKV" for head in w[f"{theirs}attn.b_{letter}"]]
        state |= {
            f"{ours}attn.c_attn.weight": torch.cat(columns, dim=1),
            f"{ours}attn.c_attn.bias": torch.cat(biases),
            f"{ours}attn.c_proj.weight": torch.cat(list(w[f"{theirs}attn.W_O"]), dim=0),
            f"{ours}attn.c_proj.bias": w[f"{theirs}attn.b_O"],
            f"{ours}mlp.c_fc.weight": w[f"{theirs}mlp.W_in"],
            f"{ours}mlp.c_fc.bias": w[f"{theirs}mlp.b_in"],
            f"{ours}mlp.c_proj.weight": w[f"{theirs}mlp.W_out"],
            f"{ours}mlp.c_proj.bias": w[f"{theirs}mlp.b_out"],
        }
        for n, part in ((n, part) for n in (1, 2) for part in ("weight", "bias")):
            state[f"{ours}ln_{n}.{part}"] = w[f"{theirs}ln{n}.{part[0]}"]
    return state
