"""Write a trained model as it is bundled: float16 weights, and a card with what was measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from edgewise.data.tokenizers import SpacedWordTokenizer
from edgewise.model import Model
from edgewise.model.bundled import tied
from training.corpus import BOS
from training.loop import Plan
from training.measure import TASKS, measure
from training.network import Network

HELD_OUT_PROMPTS = 1000  # of each task, for the card


def rounded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights as they are stored: float16, without the unembedding, which is the embedding."""
    return {k: t.half().contiguous() for k, t in sorted(tensors.items()) if k != "unembed.W_U"}


def check_equal(network: Network, model: Model, rows: int = 8) -> None:
    """Raise `SystemExit` unless Edgewise computes the logits that were trained."""
    config = model.config
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, config.d_vocab, (rows, config.n_ctx), generator=generator)
    places = torch.arange(config.n_ctx).expand(rows, -1)
    with torch.no_grad():
        trained = network.logits(network(tokens, places, torch.zeros_like(tokens)))
        difference = (trained - model(tokens)).abs().max() / trained.abs().max()
    if difference > 1e-5:
        raise SystemExit(f"{model.name}: exported logits differ by {difference:.1e}.")


def export(
    plan: Plan, network: Network, tokenizer: SpacedWordTokenizer, minutes: float, folder: Path
) -> dict[str, Any]:
    """Write `<name>.safetensors` and `<name>.json`; return the card."""
    check_equal(network, Model(plan.config, network.tensors(), name=plan.name))
    stored = rounded(network.tensors())
    weights = tied({name: tensor.float() for name, tensor in stored.items()})
    model = Model(plan.config, weights, name=plan.name, tokenizer=tokenizer)
    settings = {k: v for k, v in asdict(plan).items() if k not in ("config", "name", "seed")}
    card = {
        "format": "edgewise-trained-model",
        "version": 1,
        "name": plan.name,
        "description": plan.description,
        "seed": plan.seed,
        "config": plan.config.to_json(),
        "parameters": sum(tensor.numel() for tensor in stored.values()),
        "training": {
            **settings,
            "tokens": plan.total_steps * plan.rows * plan.config.n_ctx,
            "core_minutes": round(minutes, 1),
            "torch": torch.__version__.partition("+")[0],
        },
        "accuracy": accuracies(model, HELD_OUT_PROMPTS),
        "words": list(tokenizer.words),
    }
    assert tokenizer.bos == BOS
    (folder / f"{plan.name}.safetensors").write_bytes(save(stored))
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in card.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    (folder / f"{plan.name}.json").write_text(text, encoding="utf-8")
    return card


def accuracies(model: Model, n: int) -> dict[str, Any]:
    """`measure` of every task, and its accuracy with BOS before the prompts."""
    found = {}
    for task in TASKS:
        result = measure(model, task, n)
        found[task] = result | {"with_bos": measure(model, task, n, bos=True)["accuracy"]}
    return found
