"""Model families of Hugging Face transformers, as facts: a row of families.toml each.

To add one, write its names and its row there, named by the module's `config.model_type`; what its
configuration says that others do not goes into hub_facts.py and the tables below. What the
runtime lacks goes into `edgewise/model/blocks.py`. Then a random model in `tests/hf.py`, and
`python scripts/prove_families.py`. Loading proves every model against its source, so a wrong fact
cannot pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from edgewise.errors import UnsupportedModel
from edgewise.model.config import ModelConfig, QKNorm
from edgewise.model.families import hub_facts
from edgewise.model.families.naming import Weights, naming, tables

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
        c, names = module.config, naming(self.names)
        layers = self._checked_blocks(module)
        core = _submodule(module, names.blocks.rpartition(".")[0])
        fields = hub_facts.general_facts(c, core, layers)
        fields |= _FACTS[self.facts](c, layers) if self.facts in _FACTS else {}
        heads, shared = fields["n_heads"], fields["n_kv_heads"] or fields["n_heads"]
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
            **hub_facts.sizes(c, weights),
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
# Fields of a `ModelConfig` that a family's configuration and blocks say in their own way, and what
# the runtime does not compute.
_FACTS: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    "gpt2": hub_facts.gpt2_facts,
    "gptj": hub_facts.gptj_facts,
    "gpt_neo": hub_facts.gpt_neo_facts,
    # Scores are scaled as each layer says; old blocks of Falcon have one key or one for each head.
    "llama": lambda _, layers: {
        "attention_scales": tuple(float(layer.self_attn.scaling) for layer in layers)
    },
    "falcon": lambda _, layers: {"n_kv_heads": layers[0].self_attention.num_kv_heads},
}


def _families() -> Iterator[Family]:
    rows = tables()["family"]
    for model_type, row in rows.items():
        fields = dict(row)
        while "like" in fields:
            fields = {**rows[fields.pop("like")], **fields}
        yield Family(model_type, **fields)


FAMILIES: dict[str, Family] = {family.model_type: family for family in _families()}


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


@cache
def _proofs() -> list[dict[str, Any]]:
    """What was shown of random models of each family, by `scripts/prove_families.py`."""
    text = (files("edgewise.model.families") / "proven.json").read_text(encoding="utf-8")
    return json.loads(text)["cases"]


def proven(model_type: str) -> list[dict[str, Any]]:
    """The random models of a family that were tried, with the errors found; empty if none was."""
    return [case for case in _proofs() if case["model_type"] == model_type]
