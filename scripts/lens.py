"""TransformerLens's own objects on tiny random models, of whatever version is installed.

Up to version 3 there is HookedTransformer, from 3 on TransformerBridge, from 4 on a transformer of
its own under a bridge. Nothing is downloaded.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformer_lens

import edgewise as ew
from edgewise.errors import ModelError
from hf import CASES as HF_CASES
from hf import hf_model

VERSION = version("transformer-lens")
MAJOR = int(VERSION.partition(".")[0])

_SHAPE: dict[str, Any] = {
    "d_model": 16, "n_layers": 2, "d_head": 4, "n_heads": 4, "n_ctx": 12, "d_vocab": 23,
    "act_fn": "gelu", "seed": 0, "device": "cpu",
}  # fmt: skip
_GATED = {"gated_mlp": True, "act_fn": "silu"}
_ROTARY = {"positional_embedding_type": "rotary", "rotary_dim": 4}
_LLAMA = {**_GATED, **_ROTARY, "normalization_type": "RMS", "n_key_value_heads": 2}
_CAPS = {"output_logits_soft_cap": 5.0, "attn_scores_soft_cap": 3.0}
# What its two configurable transformers, the old one and the new one, both have.
_OWN: dict[str, dict[str, Any]] = {
    "GPT-2's shape": {},
    "attention alone": {"attn_only": True},
    "no norm": {"normalization_type": None},
    "norms without weights": {"normalization_type": "LNPre"},
    "grouped heads": {"n_key_value_heads": 2},
    "gated MLPs": _GATED,
    "Llama's shape": _LLAMA,
    "bidirectional": {"attention_dir": "bidirectional"},
    "soft caps": _CAPS,
    "another output vocabulary": {"d_vocab_out": 5},
}
_HOOKED = {
    **_OWN,
    "shortformer": {"positional_embedding_type": "shortformer"},
    "parallel, partly rotary": {**_ROTARY, "rotary_dim": 2, "parallel_attn_mlp": True},
    "local attention": {
        "use_local_attn": True, "window_size": 3, "attn_types": ["global", "local"],
    },
    "GPT-Neo's scale": {"use_attn_scale": False},
    "Mistral's scale": {"scale_attn_by_inverse_layer_idx": True},
    "ALiBi": {"positional_embedding_type": "alibi"},
    "experts": {**_GATED, "num_experts": 2, "experts_per_token": 1},
    "SoLU": {"act_fn": "solu_ln"},
}  # fmt: skip
# What the bridge itself cannot do with the shapes of tests/hf.py: process a grouped Phi, and split
# Falcon's groups where a setting that the new architecture ignores says that there is one.
_CHANGED = {"phi": {"num_key_value_heads": 4}, "falcon, 40b shape": {"multi_query": False}}


def hooked(case: str, dtype: torch.dtype) -> Any:
    """A HookedTransformer whose every parameter is random."""
    config = transformer_lens.HookedTransformerConfig(**{**_SHAPE, **_HOOKED[case], "dtype": dtype})
    return _random(transformer_lens.HookedTransformer(config)).to(dtype)


def fold(model: Any) -> None:
    """TransformerLens's processing of a HookedTransformer, all steps of it."""
    model.load_and_process_state_dict(
        model.state_dict(),
        fold_ln=model.cfg.normalization_type in ("LN", "RMS"),  # version 2 fails without weights
        center_writing_weights=True,
        center_unembed=True,
        fold_value_biases=True,
    )


def bridge(case: str, dtype: torch.dtype) -> Any:
    """A TransformerBridge around a random module of Hugging Face's."""
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    module = hf_model(case, dtype=dtype, **_CHANGED.get(case, {}))
    return build_bridge_from_module(module, type(module).__name__, hf_config=module.config)


def native(case: str, dtype: torch.dtype) -> Any:
    """A TransformerBridge around TransformerLens's own transformer."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    config = TransformerBridgeConfig(**{**_SHAPE, **_OWN[case]})
    made = TransformerBridge.boot_native(config, dtype=dtype)
    _random(made)
    return made


def _compatible(made: Any) -> None:
    made.enable_compatibility_mode()


def _random(model: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.5, generator=generator)
    return model


Made = tuple[Callable[[str, torch.dtype], Any], Callable[[Any], None]]


def kinds() -> dict[str, tuple[Made, list[str]]]:
    """What this version has: how it is made and processed, and of which models."""
    found: dict[str, tuple[Made, list[str]]] = {}
    if MAJOR <= 3:
        found["HookedTransformer"] = (hooked, fold), list(_HOOKED)
    if MAJOR >= 3:
        found["TransformerBridge"] = (bridge, _compatible), list(HF_CASES)
    if MAJOR >= 4:
        found["TransformerBridge, native"] = (native, _compatible), list(_OWN)
    return found


def measured(kind: str, case: str) -> dict[str, Any]:
    """Largest relative error as it is and processed, by precision; None and why if refused."""
    make, process = kinds()[kind][0]
    row: dict[str, Any] = {"kind": kind, "case": case, "refused": ""}
    with _quiet():
        for dtype in (torch.float64, torch.float32):
            made, errors = make(case, dtype), []
            for step in (None, process):
                if step is not None and errors[-1] is None:  # version 2 cannot process some
                    errors.append(None)
                    continue
                try:
                    if step is not None:
                        step(made)
                    proof = ew.load_model(made).proof
                    errors.append(float(max(proof["relative_errors"].values())))
                except ModelError as reason:
                    errors.append(None)
                    row["refused"] = row["refused"] or str(reason)
            row[str(dtype).removeprefix("torch.")] = errors
    return row


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
