"""Models of TransformerLens, of nanoGPT, and people's own: a configuration and named tensors.

A `TransformerBridge` (TransformerLens 3 or 4) is a module whose parts are wrapped for hooks, in the
Hugging Face module itself: its family reads it with the wrappers left out, and fused queries, keys
and values are read where the bridge computes with them, for it splits them once and processes the
pieces. Nothing of the other packages is imported; tensors are views wherever the layout permits.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from edgewise.errors import ProofFailed, UnsupportedModel
from edgewise.model.config import ModelConfig
from edgewise.model.families import activation, family_of
from edgewise.model.families.naming import Weights, converted, naming
from edgewise.model.positions import Rotary
from edgewise.model.proof import first_line
from edgewise.model.weights import schema

_WRAPPED = "_original_component"  # under this name a bridge's wrapper keeps what it wraps
# Buffers that TransformerLens keeps beside its weights.
_BUFFERS = re.compile(r".*\.(mask|IGNORE|rotary_sin|rotary_cos|hook_.*)")
_NORMS = {
    "LN": "layernorm",
    "LNPre": "layernorm-plain",
    "RMS": "rmsnorm",
    "RMSPre": "rmsnorm-plain",
    None: "none",
}
_POSITIONS = {"standard": "learned", "shortformer": "shortformer", "rotary": "none"}
# Settings that change what is computed and that are not read: they must be off.
_UNREAD = (
    *("use_NTK_by_parts_rope", "use_qk_norm", "use_normalization_before_and_after"),
    *("num_experts", "post_embedding_ln", "rotary_base_local"),
)


def translated(
    config: ModelConfig | Mapping[str, Any], state_dict: Mapping[str, torch.Tensor]
) -> tuple[ModelConfig, Weights]:
    """Our configuration and weights, from ours, nanoGPT's or TransformerLens's names.

    A `config` that is no `ModelConfig` is nanoGPT's `model_args`, TransformerLens's `cfg` as a
    dictionary, or the fields of a `ModelConfig`. Raises `UnsupportedModel`.
    """
    # Without what torch.compile and wrappers put before a name.
    tensors = {
        name.removeprefix("_orig_mod.").removeprefix("module."): tensor.detach()
        for name, tensor in state_dict.items()
    }
    is_lens = isinstance(config, Mapping) and bool({"act_fn", "normalization_type"} & {*config})
    if not isinstance(config, ModelConfig):
        if "block_size" in config:
            config = _nanogpt_config(config)
        else:
            config = _lens_config(config) if is_lens else ModelConfig.from_json(dict(config))
    if "transformer.wte.weight" in tensors:
        split = dict.fromkeys("QKVO", config.n_heads)
        return config, naming("nanogpt").weights(tensors, config.n_layers, split)
    return config, _lens_weights(config, tensors, bias_after_gate=is_lens and config.gated)


def _nanogpt_config(args: Mapping[str, Any]) -> ModelConfig:
    return ModelConfig(
        n_layers=args["n_layer"],
        n_heads=args["n_head"],
        d_model=args["n_embd"],
        d_head=args["n_embd"] // args["n_head"],
        d_mlp=4 * args["n_embd"],
        d_vocab=args["vocab_size"],
        n_ctx=args["block_size"],
        d_vocab_out=args["vocab_size"],
        activation="gelu",
    )


def _lens_config(cfg: Mapping[str, Any]) -> ModelConfig:
    """Our configuration, from TransformerLens's `cfg`. Raises `UnsupportedModel`."""
    norm = cfg.get("normalization_type")
    positions = cfg.get("positional_embedding_type", "standard")
    n_layers = cfg["n_layers"]
    d_head = cfg["d_head"]
    types = cfg.get("attn_types") or ["local"] * n_layers
    faults = {
        **{name: bool(cfg.get(name)) for name in _UNREAD},
        "normalization_type": norm not in _NORMS,
        "final_rms": bool(cfg.get("final_rms")) and norm not in ("RMS", "RMSPre"),
        "positional_embedding_type": positions not in _POSITIONS,
        "attn_types": not set(types) <= {"global", "local"},
    }
    unread = [f"{name} = {cfg[name]!r}" for name, is_fault in faults.items() if is_fault]
    if unread:
        raise UnsupportedModel(
            f"a TransformerLens model with {', '.join(unread)} is not read from its state. Load "
            "the same model by its Hugging Face name."
        )
    scale = d_head**-0.5 if cfg.get("attn_scale", -1.0) in (-1.0, None) else 1 / cfg["attn_scale"]
    scale = scale if cfg.get("use_attn_scale", True) else 1.0
    by_layer = bool(cfg.get("scale_attn_by_inverse_layer_idx"))
    window = cfg.get("window_size") if cfg.get("use_local_attn") else None
    return ModelConfig(
        n_layers=n_layers,
        n_heads=cfg["n_heads"],
        n_kv_heads=cfg.get("n_key_value_heads") or 0,
        d_model=cfg["d_model"],
        d_head=d_head,
        d_mlp=cfg.get("d_mlp") or 4 * cfg["d_model"],
        d_vocab=cfg["d_vocab"],
        n_ctx=cfg["n_ctx"],
        d_vocab_out=cfg.get("d_vocab_out") or cfg["d_vocab"],
        norm=_NORMS[norm],
        activation=activation(cfg.get("act_fn") or "relu"),
        positions=_POSITIONS[positions],  # type: ignore[arg-type]
        causal=cfg.get("attention_dir", "causal") == "causal",
        attention_only=bool(cfg.get("attn_only")),
        parallel=bool(cfg.get("parallel_attn_mlp")),
        eps=cfg.get("eps", 1e-5),
        attention_scales=tuple(scale / (i + 1 if by_layer else 1) for i in range(n_layers)),
        gated=bool(cfg.get("gated_mlp")),
        rotary=(_lens_rotary(cfg),) * n_layers if positions == "rotary" else (),
        windows=tuple(window if t == "local" else 0 for t in types) if window else (),
        attention_cap=max(cfg.get("attn_scores_soft_cap") or 0.0, 0.0),
        logit_cap=max(cfg.get("output_logits_soft_cap") or 0.0, 0.0),
    )


def _lens_rotary(cfg: Mapping[str, Any]) -> Rotary:
    dims = cfg.get("rotary_dim") or cfg["d_head"]
    base = cfg.get("rotary_base", 10000)
    powers = torch.arange(dims // 2, dtype=torch.float32) / (dims / 2)
    return Rotary(tuple((1 / base**powers).tolist()), bool(cfg.get("rotary_adjacent_pairs")))


def _lens_weights(
    config: ModelConfig, tensors: Mapping[str, torch.Tensor], *, bias_after_gate: bool
) -> Weights:
    """TransformerLens's names are ours; grouped heads have an underscore before theirs.

    `bias_after_gate`: it adds a gated MLP's b_in to the product, a constant b_in W_out of the
    output; ours is a bias of what is multiplied. Its biases of zeros that we have none for are left
    out.
    """
    weights = {
        name.replace("._W_", ".W_").replace("._b_", ".b_"): tensor
        for name, tensor in tensors.items()
        if not _BUFFERS.fullmatch(name)
    }
    for layer in range(config.n_layers if bias_after_gate else 0):
        at = f"blocks.{layer}.mlp"
        bias = weights.pop(f"{at}.b_in", None)
        if bias is not None and bias.any():
            after = bias @ weights[f"{at}.W_out"]
            weights[f"{at}.b_out"] = after + weights.get(f"{at}.b_out", torch.zeros_like(after))
    names = schema(config)
    return {
        name: tensor
        for name, tensor in weights.items()
        if name in names or not name.rpartition(".")[2].startswith("b") or tensor.any()
    }


# --- bridges


def is_bridge(source: Any) -> bool:
    """Whether this wraps a module that runs here, as a `TransformerBridge` does."""
    return hasattr(source, "cfg") and callable(getattr(source, "original_model", None))


def without_wrappers(module: Any) -> Any:
    """A bridge's module without wrappers: new containers around the same parameters and buffers."""
    while _WRAPPED in module._modules:
        module = module._modules[_WRAPPED]
    plain = copy.copy(module)
    vars(plain)["_modules"] = {
        name: None if part is None else without_wrappers(part)
        for name, part in module._modules.items()
    }
    return plain


def read_bridge(bridge: Any, plain: Any) -> tuple[ModelConfig, Weights, Any]:
    """Configuration, weights, and the bridge's submodule that reads the final residual stream.

    `plain` is the bridge's `original_model`, without wrappers. Raises `UnsupportedModel`.
    """
    if not hasattr(plain, "config") and hasattr(plain, "tok_embed"):
        return *_read_native(bridge.cfg, plain), bridge.original_model.ln_out
    family = family_of(plain)
    config, weights = family.read(plain)
    for i, block in enumerate(getattr(bridge, "blocks", ())):
        attention = getattr(block, "attn", None)
        if not hasattr(attention, "split_qkv_matrix"):
            continue
        for letter in "QKV":
            linear = without_wrappers(getattr(attention, letter.lower()))
            heads = {letter: config.n_heads if letter == "Q" else config.n_kv_heads}
            pieces = converted(f"blocks.{i}.attn.{letter}", linear.weight, linear.bias, heads=heads)
            weights |= {key: tensor.detach() for key, tensor in pieces.items()}
    return config, weights, family.final_norm(bridge.original_model)


def _read_native(cfg: Any, module: Any) -> tuple[ModelConfig, Weights]:
    """TransformerLens's own small transformer, for models that are not from the hub."""
    fixed = {"rotary_adjacent_pairs": True, "use_attn_scale": True}  # whatever `cfg` says
    config = _lens_config({**vars(cfg), **fixed})
    heads = config.n_heads
    shared = config.n_kv_heads
    split = {"Q": heads, "K": shared, "V": shared, "O": heads}
    tensors = dict(module.named_parameters())
    weights = naming("lens-native").weights(tensors, config.n_layers, split)
    names = schema(config)  # norms and positions may be there without being used
    return config, {name: tensor for name, tensor in weights.items() if name in names}


def bridge_forward(bridge: Any, name: str) -> Callable[..., Any]:
    """The bridge's own forward pass. Raises `ProofFailed` where it has none that runs."""

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return bridge(*args, **kwargs)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as reason:
            message = f"{name}: the bridge's own forward pass fails ({first_line(reason)})."
            raise ProofFailed(message) from reason

    return run


def refuse_hooks(source: Any, name: str) -> None:
    """Raise `UnsupportedModel` if someone's hooks may change what a model computes.

    TransformerLens's own, which pass an activation from one hook point to another, are let be.
    """
    hooks = {
        str(getattr(point, "name", None) or key): handle
        for key, point in dict(getattr(source, "hook_dict", {})).items()
        for handle in getattr(point, "fwd_hooks", ())
        if not _module_of(handle).startswith("transformer_lens.")
    }
    if hooks:
        lasting = any(getattr(handle, "is_permanent", False) for handle in hooks.values())
        raise UnsupportedModel(
            f"{name} has hooks at {', '.join(sorted(hooks)[:4])}{' …' * (len(hooks) > 4)}, and "
            "what they change is not in its weights. Remove them first: "
            f"reset_hooks({'including_permanent=True' * lasting})."
        )


def _module_of(handle: Any) -> str:
    """Where the function of a hook comes from; before version 4 hooks do not tell."""
    return str(getattr(getattr(handle, "user_hook", None), "__module__", ""))
