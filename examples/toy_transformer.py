"""A small transformer as you may have one, and its training: plain PyTorch, nothing of Edgewise.

own_transformer.py takes it apart.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class Layer(nn.Module):
    """Attention with fused queries, keys and values, and an MLP if it has a width."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width) if hidden else None
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, hidden) if hidden else None
        self.down = nn.Linear(hidden, width) if hidden else None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        z = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(z.transpose(1, 2).flatten(2))
        if self.up is None:
            return x
        return x + self.down(torch.relu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Tokens [batch pos] to logits [batch pos vocab]."""

    def __init__(self, words: int, length: int, width: int, heads: int, hidden: list[int]) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        self.layers = nn.ModuleList(Layer(width, heads, wide) for wide in hidden)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        for embedding in (self.words, self.places):
            nn.init.normal_(embedding.weight, std=width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.places.weight[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


Batch = Callable[[torch.Generator], tuple[Tensor, Tensor]]


def train(module: Transformer, batch: Batch, *, steps: int, decay: float, seed: int) -> float:
    """Minimise cross-entropy of the last answers; `batch` gives tokens and answers [batch answer].

    Returns the last loss, in nats.
    """
    draw = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(module.parameters(), 1e-2, (0.9, 0.98), weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / 20, 1.0, 2 * (1 - step / steps))
    )
    for _ in range(steps):
        tokens, answers = batch(draw)
        logits = module(tokens)[:, -answers.shape[1] :]
        loss = functional.cross_entropy(logits.flatten(0, 1), answers.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return loss.item()
