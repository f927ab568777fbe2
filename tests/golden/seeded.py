"""Random weights and random prompts, made without the library and the same on every machine."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np
import torch
import transformers

_SHAPE: dict[str, Any] = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 12,
    "vocab_size": 23,
    "max_position_embeddings": 32,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}


def values(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Values of one tensor, which depend on its name, its shape and the seed alone.

    Matrices double the size of what they are applied to; vectors that may be weights of a norm
    lie around 1, and biases around 0.
    """
    random = np.random.default_rng([seed, crc32(name.encode())])
    noise = torch.from_numpy(random.standard_normal(shape))
    if len(shape) > 1:
        return 2 / shape[-1] ** 0.5 * noise
    return 0.3 * noise if name.split(".")[-1].startswith("b") else 1 + 0.3 * noise


def hf_model(config: str, changes: dict[str, Any], seed: int) -> Any:
    """A tiny Hugging Face model of a configuration class, in float64, with every tensor random."""
    kind = getattr(transformers, config)
    shape = {key: size for key, size in _SHAPE.items() if hasattr(kind(), key)}
    # Eager attention knows every feature, but adds Falcon's ALiBi twice.
    attention = "sdpa" if changes.get("alibi") else "eager"
    module = transformers.AutoModelForCausalLM.from_config(
        kind(**{**shape, **changes}), attn_implementation=attention
    ).double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(values(name, tuple(parameter.shape), seed))
    if "num_experts_per_tok" in changes:  # the fast experts want widths of multiples of 16
        module.config._experts_implementation = "eager"
    return module.eval()


def prompts(vocab: int, n_out: int, spec: dict[str, Any]) -> dict[str, Any]:
    """Clean and corrupted token ids, answers and wrong answers, of the lengths asked for."""
    random = np.random.default_rng([7, spec.get("seed", 0)])
    lengths, n_answers = spec.get("lengths", [6] * 4), spec.get("answers", 1)
    rows = [[random.integers(vocab, size=n).tolist() for n in lengths] for _ in range(2)]
    drawn = [random.permutation(n_out)[: 2 * n_answers].tolist() for _ in lengths]
    answers, wrong = [ids[:n_answers] for ids in drawn], [ids[n_answers:] for ids in drawn]
    return {"clean": rows[0], "corrupted": rows[1], "answers": answers, "wrong": wrong}


def chosen(n: int, share: float, seed: int = 0) -> list[int]:
    """Which of n edges a random circuit keeps."""
    return np.flatnonzero(np.random.default_rng([11, seed]).random(n) < share).tolist()
