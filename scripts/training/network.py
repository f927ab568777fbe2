"""A compact GPT to train, made from the tensors of an Edgewise model and giving them back.

It exists because Edgewise's own runtime is made for taking models apart, one port at a time: this
one does the same arithmetic with fused matrices, in bfloat16 where that pays. That both compute the
same logits is checked when a model is exported.

Documents are packed into rows. A document sees itself alone and counts its own positions, so what
the model learns does not depend on what stands next to it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgewise.model import ModelConfig
from edgewise.model.bundled import tied

_HIDDEN = -1e4  # below every score, and finite, so that rows of padding have a softmax


class Network(nn.Module):
    """Pre-LayerNorm, learned positions, exact GELU, unembedding tied to the embedding."""

    def __init__(self, config: ModelConfig, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        w = {name: tensor.detach().clone() for name, tensor in weights.items()}
        self.W_E, self.W_pos = _parameter(w["embed.W_E"]), _parameter(w["pos_embed.W_pos"])
        self.b_U = _parameter(w["unembed.b_U"])
        self.ln_final = _norm(config, w, "ln_final")
        self.blocks = nn.ModuleList(_block(config, w, i) for i in range(config.n_layers))

    def forward(self, tokens: Tensor, places: Tensor, documents: Tensor) -> Tensor:
        """The normed final stream [batch pos d_model] of packed rows.

        `places` [batch pos] counts within a document; `documents` [batch pos] numbers them, and a
        token attends to earlier ones of its own number.
        """
        low = torch.bfloat16 if self.training else torch.float32
        heads, d_head = self.config.n_heads, self.config.d_head
        batch, pos = tokens.shape
        causal = torch.ones(pos, pos, dtype=torch.bool).tril()
        own = documents[:, :, None] == documents[:, None, :]
        hidden = torch.zeros(batch, 1, pos, pos).masked_fill_(~(own & causal)[:, None], _HIDDEN)
        stream = functional.embedding(tokens, self.W_E) + functional.embedding(places, self.W_pos)
        for block in self.blocks:
            fused = _linear(block.ln1(stream).to(low), block.W_QKV, block.b_QKV)
            q, k, v = fused.view(batch, pos, 3, heads, d_head).permute(2, 0, 3, 1, 4)
            scores = (q @ k.transpose(-1, -2)).float() * d_head**-0.5 + hidden
            z = (scores.softmax(dim=-1).to(low) @ v).transpose(1, 2).reshape(batch, pos, -1)
            stream = stream + _linear(z, block.W_O, block.b_O)
            if self.config.has_mlps:
                wide = _linear(block.ln2(stream).to(low), block.W_in, block.b_in)
                stream = stream + _linear(functional.gelu(wide), block.W_out, block.b_out)
        return self.ln_final(stream)

    def logits(self, final: Tensor) -> Tensor:
        """Logits [... vocab] of rows of what `forward` gave; only those that a loss needs."""
        low = torch.bfloat16 if self.training else torch.float32
        return _linear(final.to(low), self.W_E.T, self.b_U).float()

    def tensors(self) -> dict[str, Tensor]:
        """The weights under the names of `edgewise.model.weights.schema`."""
        c = self.config
        found = {
            "embed.W_E": self.W_E,
            "pos_embed.W_pos": self.W_pos,
            "ln_final.w": self.ln_final.weight,
            "ln_final.b": self.ln_final.bias,
            "unembed.b_U": self.b_U,
        }
        for layer, block in enumerate(self.blocks):
            at = f"blocks.{layer}"
            matrices = block.W_QKV.unflatten(1, (3, c.n_heads, c.d_head)).permute(1, 2, 0, 3)
            biases = block.b_QKV.unflatten(0, (3, c.n_heads, c.d_head))
            for i, letter in enumerate("QKV"):
                found[f"{at}.attn.W_{letter}"] = matrices[i]
                found[f"{at}.attn.b_{letter}"] = biases[i]
            found[f"{at}.attn.W_O"] = block.W_O.unflatten(0, (c.n_heads, c.d_head))
            found[f"{at}.attn.b_O"] = block.b_O
            for norm in ("ln1", "ln2") if c.has_mlps else ("ln1",):
                found[f"{at}.{norm}.w"] = getattr(block, norm).weight
                found[f"{at}.{norm}.b"] = getattr(block, norm).bias
            for name in ("W_in", "b_in", "W_out", "b_out") if c.has_mlps else ():
                found[f"{at}.mlp.{name}"] = getattr(block, name)
        copies = {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}
        return tied(copies)


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.contiguous())


def _norm(config: ModelConfig, w: dict[str, Tensor], name: str) -> nn.LayerNorm:
    norm = nn.LayerNorm(config.d_model, eps=config.eps)
    norm.weight, norm.bias = _parameter(w[f"{name}.w"]), _parameter(w[f"{name}.b"])
    return norm


def _block(config: ModelConfig, w: dict[str, Tensor], layer: int) -> nn.Module:
    block, at = nn.Module(), f"blocks.{layer}"
    block.ln1 = _norm(config, w, f"{at}.ln1")
    joined = [w[f"{at}.attn.W_{x}"].permute(1, 0, 2).flatten(1) for x in "QKV"]
    block.W_QKV = _parameter(torch.cat(joined, dim=1))  # [d_model (q heads, k heads, v heads)]
    block.b_QKV = _parameter(torch.cat([w[f"{at}.attn.b_{x}"].flatten() for x in "QKV"]))
    block.W_O = _parameter(w[f"{at}.attn.W_O"].flatten(0, 1))
    block.b_O = _parameter(w[f"{at}.attn.b_O"])
    if config.has_mlps:
        block.ln2 = _norm(config, w, f"{at}.ln2")
        for name in ("W_in", "b_in", "W_out", "b_out"):
            setattr(block, name, _parameter(w[f"{at}.mlp.{name}"]))
    return block


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x @ weight + bias in the dtype of x; the parameters stay float32."""
    return functional.linear(x, weight.to(x.dtype).T, bias.to(x.dtype))
