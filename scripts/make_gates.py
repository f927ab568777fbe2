"""Which attention heads make an OR gate, and which an AND gate? Two models built by hand.

Writes `or-gate` and `and-gate` (weights and sidecar) into `src/edgewise/model/bundled/programs/`.
The OR gate is the toy model of the ACDC paper (arXiv 2304.14997); the AND gate is its analogue.
Both have one layer of two heads that each write a constant 1 into residual direction 0, and a one-
neuron MLP that writes the gate's value into direction 1, which is the output. A head is "off" when
its output is replaced by zero; with every head live both gates output 1.

    pip install numpy safetensors
    python scripts/make_gates.py [--out FOLDER]

Expected time: under a second. The files are the same bytes on every run.
`compile_programs.py` imports the file format and the plain forward pass from here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

BUNDLED = Path(__file__).resolve().parents[1] / "src/edgewise/model/bundled/programs"
Tensors = dict[str, np.ndarray]


class ExportError(Exception):
    """A model that does not compute what its sidecar says; nothing is written for it."""


def forward(
    tensors: Tensors, config: dict[str, Any], tokens: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Residual stream after the embedding and every half layer, and the output.

    tokens: [batch pos]; residuals: [batch pos d_model]; output: [batch pos d_vocab_out].
    Deliberately the plainest version, in the dtype of the weights, independent of Edgewise's own.
    """
    n_pos = tokens.shape[1]
    residual = tensors["embed.W_E"][tokens]
    if config["positions"] == "learned":
        residual = residual + tensors["pos_embed.W_pos"][:n_pos]
    residuals = [residual]
    for layer in range(config["n_layers"]):
        w = {
            name.split(".", 2)[2]: tensor
            for name, tensor in tensors.items()
            if name.startswith(f"blocks.{layer}.")
        }
        attention = np.zeros_like(residual) + w["attn.b_O"]
        for head in range(config["n_heads"]):
            query = residual @ w["attn.W_Q"][head] + w["attn.b_Q"][head]
            key = residual @ w["attn.W_K"][head] + w["attn.b_K"][head]
            value = residual @ w["attn.W_V"][head] + w["attn.b_V"][head]
            scores = query @ key.swapaxes(1, 2) * residual.dtype.type(config["attention_scale"])
            if config["causal"]:
                scores = np.where(np.tri(n_pos, dtype=bool), scores, -np.inf)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights = weights / weights.sum(-1, keepdims=True)
            attention = attention + weights @ value @ w["attn.W_O"][head]
        residual = residual + attention
        residuals.append(residual)
        hidden = np.maximum(residual @ w["mlp.W_in"] + w["mlp.b_in"], 0)
        residual = residual + hidden @ w["mlp.W_out"] + w["mlp.b_out"]
        residuals.append(residual)
    return residuals, residual @ tensors["unembed.W_U"] + tensors["unembed.b_U"]


def model_config(**shape: Any) -> dict[str, Any]:
    """The sidecar's `config`, with what all our hand-made and compiled models share."""
    shared = {"norm": "none", "activation": "relu", "attention_only": False, "parallel": False}
    return shape | shared | {"eps": 1e-5}


def write_model(folder: Path, tensors: Tensors, sidecar: dict[str, Any]) -> int:
    """Write `<name>.safetensors` and `<name>.json`; return their size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{sidecar['name']}.safetensors"
    # No metadata: safetensors writes it from a hash map, in an order that changes between runs.
    # (`save_file` would also make the file unreadable to other users.)
    weights.write_bytes(save({name: np.ascontiguousarray(tensors[name]) for name in tensors}))
    document = weights.with_suffix(".json")
    header = {"format": "edgewise-model", "version": 1}
    document.write_text(_layout(header | sidecar), encoding="utf-8")
    return weights.stat().st_size + document.stat().st_size


def _layout(sidecar: dict[str, Any]) -> str:
    """JSON with sorted keys, one key per line, and one example per line."""
    lines = []
    for key, value in sorted(sidecar.items()):
        text = json.dumps(value, sort_keys=True)
        if key == "examples":
            rows = ",\n".join("  " + json.dumps(row, sort_keys=True) for row in value)
            text = f"[\n{rows}\n ]"
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def gate_tensors(*, w_in: float, b_in: float, w_out: float, b_out: float) -> Tensors:
    """One layer, two heads writing 1 into direction 0; the MLP reads 0, writes direction 1."""
    heads, d_model, d_head, d_mlp = 2, 2, 1, 1
    tensors = {
        "embed.W_E": np.zeros((1, d_model)),
        "blocks.0.attn.W_Q": np.zeros((heads, d_model, d_head)),
        "blocks.0.attn.W_K": np.zeros((heads, d_model, d_head)),
        "blocks.0.attn.W_V": np.zeros((heads, d_model, d_head)),
        "blocks.0.attn.W_O": np.zeros((heads, d_head, d_model)),
        "blocks.0.attn.b_Q": np.zeros((heads, d_head)),
        "blocks.0.attn.b_K": np.zeros((heads, d_head)),
        "blocks.0.attn.b_V": np.ones((heads, d_head)),
        "blocks.0.attn.b_O": np.zeros(d_model),
        "blocks.0.mlp.W_in": np.zeros((d_model, d_mlp)),
        "blocks.0.mlp.b_in": np.full(d_mlp, b_in),
        "blocks.0.mlp.W_out": np.zeros((d_mlp, d_model)),
        # The original fills both directions; direction 0 is read by nothing after the MLP.
        "blocks.0.mlp.b_out": np.full(d_model, b_out),
        "unembed.W_U": np.array([[0.0], [1.0]]),
        "unembed.b_U": np.zeros(1),
    }
    tensors["blocks.0.attn.W_O"][:, 0, 0] = 1
    tensors["blocks.0.mlp.W_in"][0, 0] = w_in
    tensors["blocks.0.mlp.W_out"][0, 1] = w_out
    return tensors


GATES = {
    # name: (weights, truth table over (head 0, head 1) off or on, formula, description)
    "or-gate": (
        gate_tensors(w_in=-1.0, b_in=1.0, w_out=-1.0, b_out=1.0),
        {(0, 0): 0.0, (0, 1): 1.0, (1, 0): 1.0, (1, 1): 1.0},
        "1 - relu(1 - (head0 + head1))",
        "Outputs 1 while at least one of its two heads is on; the OR gate of the ACDC paper.",
    ),
    "and-gate": (
        gate_tensors(w_in=1.0, b_in=-1.0, w_out=1.0, b_out=0.0),
        {(0, 0): 0.0, (0, 1): 0.0, (1, 0): 0.0, (1, 1): 1.0},
        "relu(head0 + head1 - 1)",
        "Outputs 1 only while both of its heads are on.",
    ),
}


def prove(name: str, tensors: Tensors, config: dict[str, Any], table: dict) -> None:
    """Switch heads off in all four ways; the output must be the truth table, exactly."""
    for switches, expected in table.items():
        # Zeroing b_V is zero ablation here: it is the only thing that a head writes.
        b_V = np.array(switches, dtype=np.float64)[:, None]
        _, output = forward(tensors | {"blocks.0.attn.b_V": b_V}, config, np.zeros((1, 1), int))
        if output.item() != expected:
            raise ExportError(f"{name}: heads {switches} give {output.item()}, not {expected}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the two hand-made gate models.")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="folder to write into")
    out = parser.parse_args().out
    shape = {"n_layers": 1, "n_heads": 2, "d_model": 2, "d_head": 1, "d_mlp": 1, "n_ctx": 1}
    config = model_config(
        **shape, d_vocab=1, d_vocab_out=1, positions="none", causal=False, attention_scale=1.0
    )
    for name, (tensors, table, formula, description) in GATES.items():
        prove(name, tensors, config, table)
        sidecar = {
            "name": name,
            "description": description,
            "config": config,
            "vocab": ["on"],
            "bos": None,
            "pad": None,
            "inputs": [0],
            "max_length": 1,
            "distinct": False,
            "output": {"kind": "numerical", "labels": ["gate"], "tolerance": 0.0},
            "residual": ["head_sum", "gate"],
            "program": f"gate = {formula}",
            "examples": [{"tokens": [0], "expected": [1.0]}],  # the only input there is
            "checked_inputs": 1,
            "compiled_with": {},  # nothing: made by hand
        }
        print(f"{name:12} {write_model(out, tensors, sidecar):6,} bytes")


if __name__ == "__main__":
    main()
