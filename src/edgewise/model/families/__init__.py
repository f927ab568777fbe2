"""Model families of Hugging Face transformers, as facts: a row of families.toml each.

To add one, write its names and its row there, named by the module's `config.model_type`; what its
configuration says that others do not goes into the tables at the end, and what the runtime lacks
into `edgewise/model/blocks.py`. Then a random model in `tests/hf.py`, and
`python scripts/prove_families.py`. Loading proves every model against its source, so a wrong fact
cannot pass.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import torch

from edgewise.errors import UnsupportedModel
from edgewise.model.config import ACTIVATIONS, Experts, ModelConfig, QKNorm
from edgewise.model.families.naming import Weights, naming, tables
from edgewise.model.positions import Rotary

# Hugging Face's names for activations that we have under another.
_ACTIVATIONS = {
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_python": "gelu",
    "swish": "silu",
}
# Rope types whose frequencies are the same for all prompts within `context`.
_KNOWN_ROPE = ("default", "linear", "llama3", "yarn", "proportional", "dynamic", "longrope")
Faults = Mapping[str, Callable[[Any, Any], bool]]  # of a module's config and its blocks


@dataclass(frozen=True)
class Family:
    """How to read a module of one family: a row of families.toml."""

    model_type: str
    summary: str
    names: str
    facts: str = ""
    norm: str = "layernorm"
    parallel: str | bool = False

    def read(self, module: Any) -> tuple[ModelConfig, Weights]:
        """Configuration and weights of a module. Raises `UnsupportedModel`."""
        c = module.config
        names = naming(self.names)
        layers = self._checked_blocks(module)
        core = _submodule(module, names.blocks.rpartition(".")[0])
        fields = _general_facts(c, core, layers)
        fields |= _FACTS[self.facts](c, layers) if self.facts in _FACTS else {}
        heads = fields["n_heads"]
        shared = fields["n_kv_heads"] or fields["n_heads"]
        split = {"Q": heads, "K": shared, "V": shared, "O": heads}
        tensors = dict(module.named_parameters(remove_duplicate=False))
        weights = names.weights(tensors, fields["n_layers"], split)
        embedding = _submodule(module, names.outer["embed.E"])
        is_parallel = self.parallel
        config = ModelConfig(
            positions="learned" if "pos_embed.pos" in names.outer else "none",
            parallel=getattr(c, is_parallel) if isinstance(is_parallel, str) else is_parallel,
            embedding_scale=float(getattr(embedding, "embed_scale", 1.0)),
            pre_norm="ln1" in names.inner,
            post_norm="ln1_post" in names.inner,
            norm=self.norm if "ln_final.w" in weights else f"{self.norm}-plain",
            qk_norm=_qk_norm(weights, self.norm),
            **fields,
            **_sizes(c, weights),
        )
        return config, weights

    def final_norm(self, module: Any) -> Any:
        """The submodule whose input is the final residual stream."""
        return _submodule(module, naming(self.names).outer["ln_final"])

    def _checked_blocks(self, module: Any) -> Any:
        """The blocks of a module that we can read. Raises `UnsupportedModel`."""
        names = naming(self.names)
        for name in (names.blocks, names.outer["embed.E"], names.outer["unembed.U"]):
            if _submodule(module, name) is None:
                raise UnsupportedModel(
                    f"{type(module).__name__} has no language-model head or another layout (no "
                    f"{name!r}); load it as a causal language model."
                )
        layers = _submodule(module, names.blocks)
        refused = _REFUSED.get(self.facts, {})
        faults = [fault for fault, holds in refused.items() if holds(module.config, layers)]
        if faults:
            raise UnsupportedModel(
                f"{type(module).__name__}: {'; '.join(faults)}. The runtime does not compute this. "
                "See edgewise/model/families/__init__.py for how to add it."
            )
        return layers


def _submodule(module: Any, names: str) -> Any:
    """What is in a module under a dotted name, or the first of several; None if nothing is."""
    for name in names.split("|"):
        part = module
        for key in name.split("."):
            part = getattr(part, key, None)
        if part is not None:
            return part
    return None


def _qk_norm(weights: Weights, norm: str) -> QKNorm:
    """One weight for the queries of all heads, one for each head, or a norm of the whole layer."""
    weight = weights.get("blocks.0.attn.norm_Q.w")
    if weight is None:
        return "none"
    if weight.dim() == 1:
        return "head"
    return "layer" if norm.startswith("rms") else "own-head"


def family_of(module: Any) -> Family:
    """The family of a Hugging Face module. Raises `UnsupportedModel`, saying which there are."""
    config = getattr(module, "config", None)
    model_type = getattr(config, "model_type", None)
    if model_type is None:
        raise UnsupportedModel(
            f"{type(module).__name__} is not a Hugging Face language model: it has no "
            "config.model_type. Pass a hub name, a folder, or a module of transformers."
        )
    check_model_type(str(model_type))
    return FAMILIES[str(model_type)]


def check_model_type(model_type: str) -> None:
    """Raise `UnsupportedModel` unless there is a family of this name."""
    if model_type not in FAMILIES:
        raise UnsupportedModel(
            f"models of type {model_type!r} are not supported. Supported: {', '.join(FAMILIES)}. "
            "To add a family, see edgewise/model/families/__init__.py."
        )


def proven(model_type: str) -> list[dict[str, Any]]:
    """The random models of a family that were tried, with the errors; empty if none was.

    `scripts/prove_families.py` wrote them down.
    """
    text = (files("edgewise.model.families") / "proven.json").read_text(encoding="utf-8")
    return [case for case in json.loads(text)["cases"] if case["model_type"] == model_type]


# --- what modules say of themselves beside their tensors, in any family


def activation(name: str) -> str:
    """Our name of an activation function. Raises `UnsupportedModel`."""
    ours = _ACTIVATIONS.get(name, name)
    if ours not in ACTIVATIONS or ours.endswith("-linearised"):
        plain = [key for key in ACTIVATIONS if not key.endswith("-linearised")]
        raise UnsupportedModel(
            f"activation {name!r} is not supported; known: {', '.join([*plain, *_ACTIVATIONS])}. "
            "To add one, see ACTIVATIONS in edgewise/model/config.py."
        )
    return ours


def _general_facts(config: Any, core: Any, layers: Any) -> dict[str, Any]:
    """Fields of a `ModelConfig` that are read alike in every family. Raises `UnsupportedModel`.

    `core` is the module that holds the blocks, `layers`.
    """
    c = config
    names = ("hidden_activation", "hidden_act", "activation_function", "activation")
    epsilons = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps")
    alibi = getattr(c, "alibi", False)
    turns = None if alibi else getattr(core, "rotary_emb", None)
    return {
        "n_layers": c.num_hidden_layers,
        "n_heads": c.num_attention_heads,
        "n_kv_heads": getattr(c, "num_key_value_heads", None) or 0,
        "d_model": c.hidden_size,
        "n_ctx": _context(c, turns),
        "activation": activation(next(filter(None, (getattr(c, name, None) for name in names)))),
        "eps": next((getattr(c, name) for name in epsilons if hasattr(c, name)), 1e-5),
        "rotary": () if turns is None else _rotaries(c, turns, layers),
        "alibi_slopes": _slopes(c.num_attention_heads) if alibi else (),
        "windows": _windows(c),
        "attention_cap": getattr(c, "attn_logit_softcapping", None) or 0.0,
        "logit_cap": getattr(c, "final_logit_softcapping", None) or 0.0,
    }


def _sizes(config: Any, weights: Weights) -> dict[str, Any]:
    """Fields of a `ModelConfig` that the tensors tell."""
    layers = range(config.num_hidden_layers)
    experts = tuple(_experts(config, weights, f"blocks.{layer}.mlp") for layer in layers)
    dense = (w.shape[1] for name, w in weights.items() if name.endswith("mlp.W_in"))
    gated = any(name.endswith("mlp.W_gate") for name in weights)
    return {
        "d_head": weights["blocks.0.attn.W_Q"].shape[2],
        "d_mlp": next(dense, None) or config.intermediate_size,
        "d_vocab": weights["embed.W_E"].shape[0],
        "d_vocab_out": weights["unembed.W_U"].shape[1],
        "gated": gated or any(experts),
        "experts": experts if any(experts) else (),
    }


def _experts(config: Any, weights: Weights, at: str) -> Experts | None:
    """The mixture of experts of a layer, if it has one in place of an MLP."""
    if f"{at}.router" not in weights:
        return None
    shared = weights.get(f"{at}.shared.W_gate")
    return Experts(
        n_experts=len(weights[f"{at}.router"]),
        active=config.num_experts_per_tok,
        d_expert=weights[f"{at}.experts.down"].shape[2],
        normalised=getattr(config, "norm_topk_prob", True),  # Mixtral always does
        d_shared=0 if shared is None else shared.shape[1],
    )


def _rotaries(config: Any, turns: Any, layers: Any) -> tuple[Rotary | None, ...]:
    """By layer: models with local layers may turn those otherwise, some layers turn nothing."""
    if isinstance(turns.rope_type, dict):
        kinds = {kind: _rotary(turns, f"{kind}_") for kind in turns.rope_type}
        return tuple(kinds[kind] for kind in config.layer_types)
    rotary = _rotary(turns)
    attentions = (getattr(layer, "self_attn", None) for layer in layers)
    return tuple(rotary if getattr(a, "use_rope", True) else None for a in attentions)


def _rotary(turns: Any, prefix: str = "") -> Rotary:
    """The rotation of a Hugging Face rotary module. Raises `UnsupportedModel`.

    Its frequencies are taken as they are, so whatever scaling made them is in them. "dynamic" and
    "longrope" ones change with a prompt's length, but only beyond `context`; what they are before
    is kept beside what the last prompt made of them.
    """
    kind = turns.rope_type
    kind = kind[prefix.removesuffix("_")] if isinstance(kind, dict) else kind
    if kind not in _KNOWN_ROPE:
        raise UnsupportedModel(
            f"rotary positions of type {kind!r} are not known, and may change with the length of "
            f"the prompt. Supported: {', '.join(_KNOWN_ROPE)}."
        )
    name = f"{prefix}original_inv_freq" if kind in ("dynamic", "longrope") else f"{prefix}inv_freq"
    frequencies = getattr(turns, name).float().tolist()
    return Rotary(tuple(frequencies), scale=float(getattr(turns, f"{prefix}attention_scaling")))


def _context(config: Any, turns: Any) -> int:
    """How many tokens a model with this rotary module takes, its angles being what we read.

    A "dynamic" rope is scaled beyond `max_position_embeddings` alone, a "longrope" from its
    original context on: we stop there.
    """
    kinds = getattr(turns, "rope_type", None)
    by_layer = kinds if isinstance(kinds, dict) else {None: kinds}
    settings = getattr(config, "rope_parameters", None) or {}
    originals = [
        (settings if layer is None else settings[layer])["original_max_position_embeddings"]
        for layer, kind in by_layer.items()
        if kind == "longrope"
    ]
    return min([config.max_position_embeddings, *originals])


def _windows(config: Any) -> tuple[int, ...]:
    """How far back each layer's attention sees; empty if nowhere limited."""
    width = getattr(config, "sliding_window", None)
    if not width:
        return ()
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    sizes = tuple(width if kind == "sliding_attention" else 0 for kind in kinds)
    return sizes if any(sizes) else ()


def _slopes(heads: int) -> tuple[float, ...]:
    """ALiBi's slopes (Press et al. 2021, arXiv 2108.12409): powers of one root, then of another."""
    power = 2 ** math.floor(math.log2(heads))
    root = 2 ** -(2 ** -(math.log2(power) - 3))
    slopes = [root**i for i in range(1, power + 1)]
    finer = 2 ** -(2 ** -(math.log2(2 * power) - 3))
    return tuple(slopes + [finer**i for i in range(1, 2 * (heads - power), 2)])


# --- what a family says in a way of its own, and what the runtime does not compute


def _gpt2_facts(config: Any, layers: Any) -> dict[str, Any]:
    """Scores may be scaled by layer, or not at all."""
    scale = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
    by_layer = config.scale_attn_by_inverse_layer_idx
    scales = (scale / (i + 1 if by_layer else 1) for i in range(config.n_layer))
    return {"attention_scales": tuple(scales)}


def _gptj_facts(config: Any, layers: Any) -> dict[str, Any]:
    """Neighbouring channels are turned, by angles computed in float32, from whole numbers."""
    turned = config.rotary_dim or config.n_embd
    exponents = torch.arange(0, turned, 2, dtype=torch.int64) / turned
    frequencies = (1.0 / (10000**exponents)).tolist()
    return {"rotary": (Rotary(tuple(frequencies), interleaved=True),) * config.n_layer}


def _gpt_neo_facts(config: Any, layers: Any) -> dict[str, Any]:
    """Every other layer is local, and scores are not scaled."""
    widths = (config.window_size if kind == "local" else 0 for kind in config.attention_layers)
    return {"attention_scales": (1.0,) * config.num_layers, "windows": tuple(widths)}


# Fields of a `ModelConfig` that a family's configuration and blocks say in their own way, and what
# the runtime does not compute.
_FACTS: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    "gpt2": _gpt2_facts,
    "gptj": _gptj_facts,
    "gpt_neo": _gpt_neo_facts,
    # Scores are scaled as each layer says; old blocks of Falcon have one key or one for each head.
    "llama": lambda _, layers: {
        "attention_scales": tuple(float(layer.self_attn.scaling) for layer in layers)
    },
    "falcon": lambda _, layers: {"n_kv_heads": layers[0].self_attention.num_kv_heads},
}


_REFUSED: dict[str, Faults] = {
    "gpt2": {
        "cross-attention has inputs that are not in the graph": (
            lambda c, _: getattr(c, "add_cross_attention", False)
        ),
    },
    "llama": {
        "queries, keys and values are clipped": (
            lambda c, _: getattr(c, "clip_qkv", None) is not None
        ),
        "attention looks ahead": lambda c, _: getattr(c, "use_bidirectional_attention", False),
        "products are cut into pieces": (
            lambda c, _: getattr(c, "pretraining_tp", 1) not in (None, 1)
        ),
        "a bias lies before an output norm": (
            lambda _, layers: (
                hasattr(layers[0], "post_feedforward_layernorm")
                and layers[0].self_attn.o_proj.bias is not None
            )
        ),
    },
    "opt": {
        "norms stand after the parts, in the residual stream": (
            lambda c, _: not c.do_layer_norm_before
        ),
        "there is no final norm": lambda c, _: getattr(c, "_remove_final_layer_norm", False),
        "embeddings are projected to another width": (
            lambda c, _: c.word_embed_proj_dim != c.hidden_size
        ),
    },
    "falcon": {
        "blocks are neither old nor new": (
            lambda c, _: c.new_decoder_architecture and not c.parallel_attn
        ),
        "one of two norms is not used": (
            lambda c, layers: not c.new_decoder_architecture and hasattr(layers[0], "ln_mlp")
        ),
        "eager attention of transformers adds ALiBi twice (pass attn_implementation='sdpa')": (
            lambda c, _: c.alibi and c._attn_implementation == "eager"
        ),
    },
}


def _families() -> Iterator[Family]:
    rows = tables()["family"]
    for model_type, row in rows.items():
        fields = dict(row)
        while "like" in fields:
            fields = {**rows[fields.pop("like")], **fields}
        yield Family(model_type, **fields)


FAMILIES: dict[str, Family] = {family.model_type: family for family in _families()}
