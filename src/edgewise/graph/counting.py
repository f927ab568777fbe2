"""Counting a graph's edges, senders and receivers, without making them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise.errors import SettingError

if TYPE_CHECKING:
    from edgewise.graph.graph import Graph


def count_edges(graph: Graph) -> int:
    """How many edges a graph has, from its shape alone."""
    heads = graph.n_heads if graph.split_heads else 1
    mlps, embeddings = int(graph.mlps), 2 if graph.split_embed else 1
    ports = heads + 2 * (graph.kv_heads or heads) if graph.split_qkv else heads
    below = graph.n_layers * (graph.n_layers - 1) // 2 * (heads + mlps)  # summed over layers
    before = graph.n_layers * embeddings + below
    into_mlps = mlps * (before + (0 if graph.parallel else graph.n_layers * heads))
    into_logits = embeddings + graph.n_layers * (heads + mlps)
    switches = graph.n_layers * ports if graph.switches else 0
    one = ports * before + into_mlps + into_logits + switches
    return one * (1 if graph.spans is None else len(graph.spans))


# Senders times receivers, a byte each in every mask: Llama 3 70B has 80 million.
_MOST_PAIRS = 100_000_000


def check_size(graph: Graph, most: int = _MOST_PAIRS) -> None:
    """Raise `SettingError` for a graph whose masks would fill the memory."""
    heads = graph.n_heads if graph.split_heads else 1
    mlps, spans = int(graph.mlps), 1 if graph.spans is None else len(graph.spans)
    ports = heads + 2 * (graph.kv_heads or heads) if graph.split_qkv else heads
    senders = spans * ((2 if graph.split_embed else 1) + graph.n_layers * (heads + mlps))
    receivers = spans * (1 + graph.n_layers * (ports + mlps))
    if senders * receivers > most:
        raise SettingError(
            f"a graph of {senders:.3g} senders and {receivers:.3g} receivers is too large to be "
            f"worked on: at most {most:,} pairs of them can be."
        )
