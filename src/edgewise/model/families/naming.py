"""Where a package keeps a transformer's tensors, as a table of names, and the tensors by ours.

Modules of Hugging Face, checkpoints of nanoGPT and TransformerLens's own small transformer are all
read by such a table. Tensors are views of theirs wherever the layout permits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

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

    def with_inner(self, **names: str) -> Naming:
        """The layout with other names in each block; an empty one takes it out."""
        changed = {**self.inner, **names}
        return replace(self, inner={ours: name for ours, name in changed.items() if name})

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
        for ours, theirs, names in (
            ("", "", self.outer),
            *((ours, theirs, self.inner) for ours, theirs in prefixes),
        ):
            for name, alternatives in names.items():
                modules = [f"{theirs}{module}" for module in alternatives.split("|")]
                module = next((module for module in modules if module in present), None)
                if module is not None:
                    yield f"{ours}{name}", module

    def _unfused(self, place: str, weight: Tensor, bias: Tensor | None, heads: Heads) -> Weights:
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
                weights[f"{place}{kind}_{letter}"] = part.mT if kind == "W" else part
        return weights


def converted(name: str, weight: Tensor, bias: Tensor | None, *, heads: Heads) -> Weights:
    """The tensors of one module by our names, its matrix being [out in]; views."""
    place, _, part = name.rpartition(".")
    if part.startswith(("ln", "norm")):
        weight_name, bias_name = f"{name}.w", f"{name}.b"
    elif part in ("router", "gate_up", "down"):  # of experts, which lie as Hugging Face has them
        return {name: weight}
    else:
        weight_name, bias_name = f"{place}.W_{part}", f"{place}.b_{part}"
        if part in ("Q", "K", "V"):
            weight = heads_that_read(weight, heads[part])
            bias = None if bias is None else bias.unflatten(0, (heads[part], -1))
        elif part == "O":
            weight = heads_that_write(weight, heads[part])
        elif part not in ("E", "pos"):
            weight = weight.T
    return {weight_name: weight} | ({} if bias is None else {bias_name: bias})


def _each(name: str) -> dict[str, str]:
    """Queries, keys and values apart."""
    return {f"attn.{letter}": name.format(letter.lower()) for letter in "QKV"}


GPT2 = Naming(
    "transformer.h",
    {
        "embed.E": "transformer.wte",
        "pos_embed.pos": "transformer.wpe",
        "ln_final": "transformer.ln_f",
        "unembed.U": "lm_head",
    },
    {
        "attn.QKV": "attn.c_attn",
        "attn.O": "attn.c_proj",
        "ln1": "ln_1",
        "ln2": "ln_2",
        "mlp.in": "mlp.c_fc",
        "mlp.out": "mlp.c_proj",
    },
    out_by_in=False,
)
NANOGPT = replace(
    GPT2, out_by_in=True, outer={**GPT2.outer, "unembed.U": "lm_head|transformer.wte"}
)
GPT_NEO = replace(
    GPT2,
    out_by_in=True,
    inner={
        **_each("attn.attention.{}_proj"),
        "attn.O": "attn.attention.out_proj",
        "ln1": "ln_1",
        "ln2": "ln_2",
        "mlp.in": "mlp.c_fc",
        "mlp.out": "mlp.c_proj",
    },
)
GPTJ = Naming(
    "transformer.h",
    {"embed.E": "transformer.wte", "ln_final": "transformer.ln_f", "unembed.U": "lm_head"},
    {
        **_each("attn.{}_proj"),
        "attn.O": "attn.out_proj",
        "ln1": "ln_1",
        "ln2": "ln_1",  # the MLP reads behind the same norm
        "mlp.in": "mlp.fc_in",
        "mlp.out": "mlp.fc_out",
    },
)
GPT_NEOX = Naming(
    "gpt_neox.layers",
    {
        "embed.E": "gpt_neox.embed_in",
        "ln_final": "gpt_neox.final_layer_norm",
        "unembed.U": "lm_head|embed_out",
    },
    {
        "attn.QKV": "attention.query_key_value",
        "attn.O": "attention.dense",
        "ln1": "input_layernorm",
        "ln2": "post_attention_layernorm",
        "mlp.in": "mlp.dense_h_to_4h",
        "mlp.out": "mlp.dense_4h_to_h",
    },
    fused="groups",
)
LLAMA = Naming(
    "model.layers",
    {
        "embed.E": "model.embed_tokens",
        "ln_final": "model.norm|model.final_layernorm",
        "unembed.U": "lm_head",
    },
    {
        **_each("self_attn.{}_proj"),
        "attn.norm_Q": "self_attn.q_norm|self_attn.q_layernorm",
        "attn.norm_K": "self_attn.k_norm|self_attn.k_layernorm",
        "attn.O": "self_attn.o_proj|self_attn.dense",
        "ln1": "input_layernorm",
        "ln2": "post_attention_layernorm|input_layernorm",  # one norm where blocks are parallel
        "mlp.gate": "mlp.gate_proj",
        "mlp.in": "mlp.up_proj|mlp.fc1",
        "mlp.out": "mlp.down_proj|mlp.fc2",
        "mlp.router": "mlp.gate",
        "mlp.experts.gate_up": "mlp.experts.gate_up_proj",
        "mlp.experts.down": "mlp.experts.down_proj",
        "mlp.shared.gate": "mlp.shared_expert.gate_proj",
        "mlp.shared.in": "mlp.shared_expert.up_proj",
        "mlp.shared.out": "mlp.shared_expert.down_proj",
        "mlp.shared.share": "mlp.shared_expert_gate",
    },
)
_POST_NORMS = {"ln1_post": "post_attention_layernorm", "ln2_post": "post_feedforward_layernorm"}
GEMMA2 = LLAMA.with_inner(ln2="pre_feedforward_layernorm", **_POST_NORMS)
OLMO2 = LLAMA.with_inner(ln1="", ln2="", **_POST_NORMS)
OPT = Naming(
    "model.decoder.layers",
    {
        "embed.E": "model.decoder.embed_tokens",
        "pos_embed.pos": "model.decoder.embed_positions",
        "ln_final": "model.decoder.final_layer_norm",
        "unembed.U": "lm_head",
    },
    {
        **_each("self_attn.{}_proj"),
        "attn.O": "self_attn.out_proj",
        "ln1": "self_attn_layer_norm",
        "ln2": "final_layer_norm",
        "mlp.in": "fc1",
        "mlp.out": "fc2",
    },
    first_position=2,
)
FALCON = Naming(
    "transformer.h",
    {
        "embed.E": "transformer.word_embeddings",
        "ln_final": "transformer.ln_f",
        "unembed.U": "lm_head",
    },
    {
        "attn.QKV": "self_attention.query_key_value",
        "attn.O": "self_attention.dense",
        "ln1": "ln_attn|input_layernorm",
        "ln2": "ln_mlp|post_attention_layernorm|input_layernorm",
        "mlp.in": "mlp.dense_h_to_4h",
        "mlp.out": "mlp.dense_4h_to_h",
    },
    fused="groups",
)
LENS_NATIVE = Naming(  # TransformerLens's own small transformer, for models not from the hub
    "layers",
    {"embed.E": "tok_embed", "pos_embed.pos": "pos", "ln_final": "ln_out", "unembed.U": "head"},
    {
        **_each("attn.{}"),
        "attn.O": "attn.o",
        "ln1": "ln1",
        "ln2": "ln2",
        "mlp.gate": "mlp.gate",
        "mlp.in": "mlp.in|mlp.fc_in",
        "mlp.out": "mlp.out|mlp.fc_out",
    },
)
