"""Where a package keeps a transformer's tensors, as a table of names, and the tensors by ours.

Modules of Hugging Face, checkpoints of nanoGPT and TransformerLens's own small transformer are all
read by such a table, in families.toml. Tensors are views of theirs wherever the layout permits.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import torch
from torch import Tensor

from edgewise.model.weights import heads_that_read, heads_that_write

Weights = dict[str, Tensor]
Heads = Mapping[str, int]  # how many heads Q, K, V and O are split into


@dataclass(frozen=True)
class Naming:
    """Their names of modules, by ours: the names of `schema` without the W_ and b_.

    `inner` has what each block holds, below `blocks`; `outer` all else. Names with "|" between them
    are alternatives, and what is not there is left out. Matrices are `out_by_in`, as in torch's
    Linear, or the other way round. A `fused` attn.QKV has all queries, keys and values after each
    other ("thirds"), or, for each key, its queries, the key and its value ("groups").
    """

    blocks: str
    outer: Mapping[str, str]
    inner: Mapping[str, str]
    out_by_in: bool = True
    fused: Literal["thirds", "groups"] = "thirds"
    first_position: int = 0  # rows of the position embeddings before that of the first token

    def weights(self, tensors: Mapping[str, Tensor], n_layers: int, heads: Heads) -> Weights:
        """Tensors by our names, of which no gradient is kept."""
        weights: Weights = {}
        for name, module in self._modules(tensors, n_layers):
            if f"{module}.norms.0.weight" in tensors:  # a norm for each head
                n = heads[name[-1]]
                weight = torch.stack([tensors[f"{module}.norms.{i}.weight"] for i in range(n)])
            else:
                weight = tensors[f"{module}.weight" if f"{module}.weight" in tensors else module]
            bias = tensors.get(f"{module}.bias")
            if not self.out_by_in and name.startswith("blocks.") and weight.dim() == 2:
                weight = weight.T
            if name.endswith("attn.QKV"):
                weights |= self._unfused(name.removesuffix("QKV"), weight, bias, heads)
                continue
            if name.startswith("pos_embed"):
                weight = weight[self.first_position :]
            elif name.endswith(("norm_Q", "norm_K")):
                d_head = weights[f"{name.rpartition('.')[0]}.W_Q"].shape[-1]
                whole_layer = weight.dim() == 1 and len(weight) != d_head
                weight = weight.unflatten(0, (-1, d_head)) if whole_layer else weight
            weights |= converted(name, weight, bias, heads=heads)
        return {name: tensor.detach() for name, tensor in weights.items()}

    def _modules(self, tensors: Mapping[str, Tensor], n_layers: int) -> Iterator[tuple[str, str]]:
        """What there is: our name and theirs."""
        present = set(tensors) | {name.rpartition(".")[0] for name in tensors}
        present |= {name.removesuffix(".norms.0.weight") for name in tensors}
        prefixes = [(f"blocks.{i}.", f"{self.blocks}.{i}.") for i in range(n_layers)]
        tables = [("", "", self.outer), *((*prefix, self.inner) for prefix in prefixes)]
        for ours, theirs, names in tables:
            for name, alternatives in names.items():
                modules = [f"{theirs}{module}" for module in alternatives.split("|")]
                module = next((module for module in modules if module in present), None)
                if module is not None:
                    yield f"{ours}{name}", module

    def _unfused(self, prefix: str, weight: Tensor, bias: Tensor | None, heads: Heads) -> Weights:
        weights: Weights = {}
        for kind, fused in (("W", weight), ("b", bias)):
            if fused is None:
                continue
            if self.fused == "thirds":
                parts = [part.unflatten(0, (heads["Q"], -1)) for part in fused.chunk(3)]
            else:
                groups = fused.unflatten(0, (heads["K"], heads["Q"] // heads["K"] + 2, -1))
                parts = [groups[:, :-2].flatten(0, 1), groups[:, -2], groups[:, -1]]
            for letter, part in zip("QKV", parts, strict=True):  # [head d_head …]
                weights[f"{prefix}{kind}_{letter}"] = part.mT if kind == "W" else part
        return weights


def converted(name: str, weight: Tensor, bias: Tensor | None, *, heads: Heads) -> Weights:
    """The tensors of one module by our names, its matrix being [out in]; views."""
    prefix, _, part = name.rpartition(".")
    if part.startswith(("ln", "norm")):
        weight_name = f"{name}.w"
        bias_name = f"{name}.b"
    elif part in ("router", "gate_up", "down"):  # of experts, which lie as Hugging Face has them
        return {name: weight}
    else:
        weight_name = f"{prefix}.W_{part}"
        bias_name = f"{prefix}.b_{part}"
        if part in ("Q", "K", "V"):
            weight = heads_that_read(weight, heads[part])
            bias = None if bias is None else bias.unflatten(0, (heads[part], -1))
        elif part == "O":
            weight = heads_that_write(weight, heads[part])
        elif part not in ("E", "pos"):
            weight = weight.T
    return {weight_name: weight} | ({} if bias is None else {bias_name: bias})


@cache
def naming(name: str) -> Naming:
    """A table of names in families.toml; one that is `like` another changes some of its names."""
    table = dict(tables()["names"][name])
    base = vars(naming(table.pop("like"))) if "like" in table else {"outer": {}, "inner": {}}
    for part in ("outer", "inner"):
        names = {**base[part], **table.get(part, {})}
        table[part] = {ours: theirs for ours, theirs in names.items() if theirs}
    return Naming(**{**base, **table})


@cache
def tables() -> dict[str, Any]:
    """What is in families.toml."""
    text = (files("edgewise.model.families") / "families.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
