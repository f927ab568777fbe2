"""Small random models and problems that tests share."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

import edgewise as ew
from edgewise.model.weights import schema


def random_model(
    seed: int = 0, *, dtype: torch.dtype = torch.float64, **config: object
) -> ew.Model:
    """A model of any configuration with every tensor random, biases and norms included."""
    sizes = {
        "n_layers": 2,
        "n_heads": 2,
        "d_model": 8,
        "d_head": 4,
        "d_mlp": 12,
        "d_vocab": 11,
        "n_ctx": 10,
        "d_vocab_out": 11,
    }
    full = ew.ModelConfig(**{**sizes, **config})  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)

    def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        scale = 1.5 / shape[-2] ** 0.5 if len(shape) > 1 and "embed" not in name else 0.5
        return (1 + 0.3 * noise if name.endswith(".w") else scale * noise).to(dtype)

    weights = {name: tensor(name, e.shape) for name, e in schema(full).items()}
    return ew.Model(full, weights, name=f"random-{seed}")


def random_pairs(
    model: ew.Model, seed: int = 0, *, n: int = 4, lengths: list[int] | None = None, **how: object
) -> ew.PromptPairs:
    """Random prompt pairs with an answer and a wrong answer each; of 6 tokens unless said."""
    generator = torch.Generator().manual_seed(seed + 1000)
    lengths = lengths or [6] * n
    vocab = model.config.d_vocab

    def rows() -> list[list[int]]:
        return [torch.randint(vocab, (k,), generator=generator).tolist() for k in lengths]

    n_out = model.config.d_vocab_out
    ids = torch.randint(n_out, (2, len(lengths)), generator=generator)
    ids[1] = torch.where(ids[0] == ids[1], (ids[1] + 1) % n_out, ids[1])
    return ew.PromptPairs.from_tokens(rows(), rows(), answers=ids[0], wrong=ids[1], **how)  # type: ignore[arg-type]


def random_circuit(graph: ew.Graph, seed: int = 0, share: float = 0.6) -> ew.Circuit:
    """Each edge kept with probability `share`."""
    generator = torch.Generator().manual_seed(seed)
    return ew.Circuit(
        graph, graph.exists & (torch.rand(graph.exists.shape, generator=generator) < share)
    )


# One configuration per kind of part, so that identities are tried on all of them.
SHAPES: dict[str, dict[str, object]] = {
    "gpt2": {},
    "attention-only": {"attention_only": True, "n_layers": 3},
    "no norm, relu": {"norm": "none", "activation": "relu"},
    "folded norm, exact gelu": {"norm": "layernorm-plain", "activation": "gelu"},
    "shortformer": {"positions": "shortformer", "attention_only": True},
    "no positions": {"positions": "none"},
    "bidirectional": {"causal": False},
    "parallel": {"parallel": True},
    "several outputs": {"d_vocab_out": 3},
}

# Graphs of every granularity: plain, with positions apart, and with grouped keys and values.
fixed = settings(derandomize=True, deadline=None, max_examples=40)
FLAG, SEEDS = st.booleans(), st.integers(0, 10**6)
GRAPHS = st.builds(ew.Graph, st.integers(1, 3), st.integers(1, 3), *[FLAG] * 6)
SPANS = st.lists(st.sampled_from(["S2", "B", "rest"]), min_size=1, unique=True).map(tuple)
SPANNED = st.builds(lambda graph, spans: replace(graph, spans=spans), GRAPHS, SPANS)
GROUPED = st.builds(
    ew.Graph.build,
    st.integers(1, 3),
    st.just(4),
    mlps=FLAG,
    parallel=FLAG,
    split_embed=FLAG,
    mixed_heads=FLAG,
    kv_heads=st.just(2),
    spans=st.none() | SPANS,
)
