"""A `TransformerBridge` of TransformerLens 3 or 4: a module whose parts are wrapped for hooks.

The wrappers stand in the Hugging Face module itself. 1. The module is seen without them, its
parameters shared. 2. Its family reads it. 3. Fused queries, keys and values are read where the
bridge computes with them: it splits them once, and processes the pieces. Nothing of TransformerLens
is imported; loading proves the result against the bridge's own forward pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from edgewise.errors import ProofFailed, UnsupportedModel
from edgewise.model.checkpoints import first_line
from edgewise.model.config import ModelConfig
from edgewise.model.families import family_of
from edgewise.model.families.naming import LENS_NATIVE, Weights, converted
from edgewise.model.state_dicts import lens_config
from edgewise.model.weights import schema

_WRAPPED = "_original_component"  # under this name a wrapper keeps what it wraps


def is_bridge(source: Any) -> bool:
    """Whether this wraps a module that runs here, as a `TransformerBridge` does."""
    return hasattr(source, "cfg") and callable(getattr(source, "original_model", None))


def unwrapped(module: Any) -> Any:
    """A module without wrappers: new containers around the same parameters and buffers."""
    while _WRAPPED in module._modules:
        module = module._modules[_WRAPPED]
    plain = copy.copy(module)
    parts = module._modules.items()
    vars(plain)["_modules"] = {k: None if part is None else unwrapped(part) for k, part in parts}
    return plain


def read(bridge: Any, plain: Any) -> tuple[ModelConfig, Weights, Any]:
    """Configuration, weights, and the bridge's submodule that reads the final residual stream.

    `plain` is the bridge's `original_model`, unwrapped. Raises `UnsupportedModel`.
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
            linear = unwrapped(getattr(attention, letter.lower()))
            heads = {letter: config.n_heads if letter == "Q" else config.n_kv_heads}
            pieces = converted(f"blocks.{i}.attn.{letter}", linear.weight, linear.bias, heads=heads)
            weights |= {key: tensor.detach() for key, tensor in pieces.items()}
    return config, weights, family.final_norm(bridge.original_model)


def _read_native(cfg: Any, module: Any) -> tuple[ModelConfig, Weights]:
    """TransformerLens's own small transformer, for models that are not from the hub."""
    fixed = {"rotary_adjacent_pairs": True, "use_attn_scale": True}  # whatever `cfg` says
    config = lens_config({**vars(cfg), **fixed})
    heads, shared = config.n_heads, config.n_kv_heads
    split = {"Q": heads, "K": shared, "V": shared, "O": heads}
    weights = LENS_NATIVE.weights(dict(module.named_parameters()), config.n_layers, split)
    known = schema(config)  # norms and positions may be there without being used
    return config, {name: tensor for name, tensor in weights.items() if name in known}


def refuse_hooks(source: Any, name: str) -> None:
    """Raise `UnsupportedModel` if someone's hooks may change what a model computes.

    TransformerLens's own, which pass an activation from one hook point to another, are let be.
    """
    hooked = {
        str(getattr(point, "name", None) or key): handle
        for key, point in dict(getattr(source, "hook_dict", {})).items()
        for handle in getattr(point, "fwd_hooks", ())
        if not _module_of(handle).startswith("transformer_lens.")
    }
    if hooked:
        lasting = any(getattr(handle, "is_permanent", False) for handle in hooked.values())
        raise UnsupportedModel(
            f"{name} has hooks at {', '.join(sorted(hooked)[:4])}{' …' * (len(hooked) > 4)}, and "
            "what they change is not in its weights. Remove them first: "
            f"reset_hooks({'including_permanent=True' * lasting})."
        )


def _module_of(handle: Any) -> str:
    """Where the function of a hook comes from; before version 4 hooks do not tell."""
    return str(getattr(getattr(handle, "user_hook", None), "__module__", ""))


def forward(bridge: Any, name: str) -> Callable[..., Any]:
    """The bridge's own forward pass. Raises `ProofFailed` where it has none that runs."""

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return bridge(*args, **kwargs)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as reason:
            raise ProofFailed(
                f"{name}: the bridge's own forward pass fails ({first_line(reason)})."
            ) from reason

    return run
