"""The oracle for model families: circuit runs by hooks on a Hugging Face module, slow and obvious.

It uses nothing of Edgewise's runtime: the module computes, and hooks replace what each part reads.
Nodes and ports are names. Each port's input is built from what senders wrote, so the module's own
residual stream plays no part.

    senders    "input", "a3.h7" (one head's output, no output bias), "m3"
    receivers  "a3.h7.q", "a3.h2.k" or "a3.kv2.k" if keys are shared, "m3", "logits"

A norm of an attention layer's output (Gemma 2, OLMo 2) multiplies every channel of the sum of its
heads by a number; each head's share is what it gave to the sum, times that number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Read = Callable[[str], Tensor]


@dataclass
class Parts:
    """Where a layer's parts are in a module; columns of each port's vector in its linear layer."""

    ln1: Any
    ln2: Any
    ports: dict[str, tuple[Any, Tensor]]
    out: Any
    mlp: Any
    post_attention: Any = None
    post_mlp: Any = None


def parts_of(module: Any, layer: int) -> Parts:
    """The parts of one layer, for every layout of the families."""
    c, core = module.config, module.base_model
    core = getattr(core, "decoder", core)
    block = (getattr(core, "layers", None) or core.h)[layer]
    attention = (
        getattr(block, "self_attn", None) or getattr(block, "attention", None)
        or getattr(block, "self_attention", None) or block.attn
    )  # fmt: skip
    attention = getattr(attention, "attention", attention)
    heads = getattr(c, "num_attention_heads", None) or c.num_heads
    identity = torch.nn.Identity()
    ln1 = _first(block, "input_layernorm", "ln_attn", "ln_1", "self_attn_layer_norm") or identity
    after = getattr(block, "post_feedforward_layernorm", None)
    names = ("ln_mlp", "ln_2") if after is None else ()
    plain = () if after is not None else ("post_attention_layernorm",)
    pre = _first(block, "pre_feedforward_layernorm", *names, *plain)
    if pre is None:
        pre = identity if after is not None else ln1
    if hasattr(block, "fc1"):  # OPT: the block is the MLP, and its norm has another name
        pre = block.final_layer_norm
    return Parts(
        ln1,
        pre,
        _ports(attention, c, layer, heads),
        _first(attention, "o_proj", "dense", "out_proj"),
        getattr(block, "mlp", None) or block,
        None if after is None else block.post_attention_layernorm,
        after,
    )


def _first(owner: Any, *names: str) -> Any:
    return next((getattr(owner, n) for n in names if getattr(owner, n, None) is not None), None)


def _ports(attention: Any, c: Any, layer: int, heads: int) -> dict[str, tuple[Any, Tensor]]:
    ports = {}
    if hasattr(attention, "q_proj"):
        out = _first(attention, "o_proj", "dense", "out_proj")
        d = out.weight.shape[1] // heads
        for letter in "qkv":
            linear = getattr(attention, f"{letter}_proj")
            n = linear.weight.shape[0] // d
            for i in range(n):
                name = f"a{layer}.{'h' if n == heads else 'kv'}{i}.{letter}"
                ports[name] = (linear, torch.arange(i * d, (i + 1) * d))
        return ports
    linear = attention.query_key_value
    d = c.hidden_size // heads
    rows = torch.arange(linear.weight.shape[0]).view(-1, d)  # [vector d_head]
    if getattr(c, "new_decoder_architecture", False):
        groups = rows.view(c.num_kv_heads, -1, d)
        split = groups[:, :-2].reshape(-1, d), groups[:, -2], groups[:, -1]
    elif getattr(c, "multi_query", False):
        split = rows[:-2], rows[-2:-1], rows[-1:]
    else:
        split = tuple(rows.view(heads, 3, d).unbind(dim=1))
    for letter, found in zip("qkv", split, strict=True):
        for i, columns in enumerate(found):
            kind = "h" if len(found) == heads else "kv"
            ports[f"a{layer}.{kind}{i}.{letter}"] = (linear, columns)
    return ports


@torch.no_grad()
def hooked_run(
    module: Any, tokens: Tensor, real: Tensor, read: Callable[[str, dict[str, Tensor]], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and what every sender wrote, when ports read what `read(port, written)` says."""
    from edgewise.model.proof import full_precision

    c, core = module.config, module.base_model
    core = getattr(core, "decoder", core)
    heads = getattr(c, "num_attention_heads", None) or c.num_heads
    n_layers = getattr(c, "num_hidden_layers", None) or c.num_layers
    live: dict[str, Tensor] = {}
    handles: list[Any] = []
    layers = getattr(core, "layers", None) or core.h

    def note_input(block: Any, args: Any) -> None:
        live.setdefault("input", args[0])

    handles.append(layers[0].register_forward_pre_hook(note_input))
    for layer in range(n_layers):
        handles += _hook_layer(parts_of(module, layer), layer, heads, live, read)

    norm = _first(core, "norm", "final_layer_norm", "final_layernorm", "ln_f")
    handles.append(norm.register_forward_pre_hook(lambda m, a: (read("logits", live),)))
    positions = (real.cumsum(dim=1) - 1).clamp(min=0)
    try:
        with full_precision(module):
            logits = module(
                input_ids=tokens, attention_mask=real.long(), position_ids=positions,
                use_cache=False,
            ).logits  # fmt: skip
    finally:
        for handle in handles:
            handle.remove()
    return logits, live


def _hook_layer(
    parts: Parts, layer: int, heads: int, live: dict[str, Tensor], read: Any
) -> list[Any]:
    handles, given = [], {}

    def vectors(linear: Any, args: Any, output: Tensor) -> Tensor:
        result = output.clone()
        for port, (owner, columns) in parts.ports.items():
            if owner is linear:
                normed = parts.ln1.forward(read(port, live))
                result[..., columns] = linear.forward(normed)[..., columns]
        return result

    def mixed(linear: Any, args: Any) -> None:
        z = args[0].unflatten(-1, (heads, -1))  # [batch pos head d_head]
        weight = linear.weight.unflatten(1, (heads, -1))  # [d_model head d_head]
        for head in range(heads):
            live[f"a{layer}.h{head}"] = z[:, :, head] @ weight[:, head].T
        if linear.bias is not None:
            live[f"bias{layer}"] = linear.bias.expand_as(live[f"a{layer}.h0"])

    def normed_attention(norm: Any, args: Any, output: Tensor) -> None:
        for head in range(heads):
            live[f"a{layer}.h{head}"] = live[f"a{layer}.h{head}"] * (output / args[0])

    def into_mlp(mlp: Any, args: Any) -> Any:
        return (parts.ln2.forward(read(f"m{layer}", live)), *args[1:])

    def out_of_mlp(mlp: Any, args: Any, output: Any) -> None:
        live[f"m{layer}"] = (output[0] if isinstance(output, tuple) else output).clone()

    for linear in {id(owner): owner for owner, _ in parts.ports.values()}.values():
        handles.append(linear.register_forward_hook(vectors))
    handles.append(parts.out.register_forward_pre_hook(mixed))
    if parts.post_attention is not None:
        handles.append(parts.post_attention.register_forward_hook(normed_attention))
    if hasattr(parts.mlp, "fc2"):  # OPT keeps its MLP in the block, over all rows flat

        def flat_into(fc1: Any, args: Any) -> Any:
            x = parts.ln2.forward(read(f"m{layer}", live))
            given["shape"] = x.shape
            return (x.reshape(args[0].shape),)

        def flat_out(fc2: Any, args: Any, output: Tensor) -> None:
            live[f"m{layer}"] = output.reshape(given["shape"]).clone()

        handles.append(parts.mlp.fc1.register_forward_pre_hook(flat_into))
        handles.append(parts.mlp.fc2.register_forward_hook(flat_out))
        return handles
    handles.append(parts.mlp.register_forward_pre_hook(into_mlp))
    handles.append((parts.post_mlp or parts.mlp).register_forward_hook(out_of_mlp))
    return handles


def run_circuit(
    module: Any,
    graph: Any,  # of Edgewise: who can talk to whom, by name
    kept: set[str],
    clean: Tensor,
    corrupted: Tensor,
    real: Tensor,
) -> Tensor:
    """Logits of the circuit of the edges named in `kept`, removed ones carry corrupted values."""
    before = {
        port.name: [graph.senders[row].name for row in graph.exists[:, column].nonzero().flatten()]
        for column, port in enumerate(graph.receivers)
    }

    def constants(port: str, live: dict[str, Tensor]) -> Tensor:
        total = torch.zeros_like(live["input"])
        for name in before[port]:
            if name.endswith(".h0"):  # a layer's bias comes with its first head
                total = total + live.get(f"bias{name[1:-3]}", 0)
        return total

    def read_plain(port: str, live: dict[str, Tensor]) -> Tensor:
        return constants(port, live) + sum(live[name] for name in before[port])

    _, ablation = hooked_run(module, corrupted, real, read_plain)

    def read_circuit(port: str, live: dict[str, Tensor]) -> Tensor:
        total = constants(port, live)
        for name in before[port]:
            total = total + (live if f"{name}->{port}" in kept else ablation)[name]
        return total

    return hooked_run(module, clean, real, read_circuit)[0]
