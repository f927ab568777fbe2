"""Circuits in the literature, built by rule on the graph their paper used. No model is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from edgewise.circuit import Circuit
from edgewise.errors import unknown_name
from edgewise.graph import Graph
from edgewise.tasks import circuits


def tracr_reverse() -> Circuit:
    """tracr-reverse of the ACDC paper: 11 edges and 4 switches (spec 6.4)."""
    graph = Graph.build(4, 1, split_embed=True, switches=True)
    edges = ["a3.h0->logits", "m2->a3.h0.q", "pos_embed->a3.h0.k", "tok_embed->a3.h0.v", "m1->m2"]
    edges += [f"{sender}->m1" for sender in ("m0", "tok_embed", "pos_embed")]
    edges += ["a0.h0->m0", "tok_embed->m0", "tok_embed->a0.h0.v"]
    switches = [f"a3.h0.{slot}->a3.h0" for slot in "qkv"] + ["a0.h0.v->a0.h0"]
    return Circuit.of(graph, edges + switches)


def tracr_xproportion() -> Circuit:
    """tracr-xproportion of the ACDC paper: 7 edges and 3 switches (spec 6.5)."""
    graph = Graph.build(2, 1, split_embed=True, switches=True)
    edges = ["a1.h0->logits", "m0->a1.h0.v", "tok_embed->m0"]
    edges += [f"{sender}->a1.h0.{slot}" for slot in "qk" for sender in ("tok_embed", "pos_embed")]
    switches = [f"a1.h0.{slot}->a1.h0" for slot in "qkv"]
    return Circuit.of(graph, edges + switches)


def gate() -> Circuit:
    """The OR and AND gates: both heads into the MLP, the MLP to the output (spec 5.7)."""
    graph = Graph.build(1, 2, switches=True)
    return Circuit.of(graph, ["a0.h0->m0", "a0.h1->m0", "m0->logits"])


PUBLISHED: dict[str, Callable[[], Circuit]] = {
    "ioi": circuits.ioi,
    "greater-than": circuits.greater_than,
    "docstring": circuits.docstring,
    "tracr-reverse": tracr_reverse,
    "tracr-xproportion": tracr_xproportion,
    "or-gate": gate,
    "and-gate": gate,
}
_GROUPS: dict[str, Mapping[str, tuple[str, ...]]] = {
    "ioi": circuits.IOI_GROUPS,
    "greater-than": circuits.GREATER_THAN_GROUPS,
    "docstring": circuits.DOCSTRING_GROUPS,
}
_GPT2 = ("gpt2", "gpt2-small")
_ATTENTION_ONLY = ("attn-only-4l", "attn_only_4l512w_c4_code")
# Whose groups they are, and the models they were found in: a head's number means nothing elsewhere.
_FOUND_IN: dict[str, tuple[str, tuple[str, ...]]] = {
    "ioi": ("Wang et al. (2211.00593) for GPT-2 small", _GPT2),
    "greater-than": ("Hanna et al. (2305.00586) for GPT-2 small", _GPT2),
    "docstring": ("Heimersheim and Janiak (2023) for attn-only-4l", _ATTENTION_ONLY),
}


def published_circuit(name: str) -> Circuit:
    """The published circuit of a task. Raises `UnknownName` for a task that has none.

    >>> published_circuit("ioi").n_edges
    1041
    """
    return PUBLISHED[_known(name)]()


def published_groups(name: str) -> dict[str, tuple[str, ...]]:
    """What the nodes of a published circuit do: the names of the nodes of each group.

    Circuits of compiled programs have none. Raises `UnknownName`.

    >>> published_groups("ioi")["S-inhibition"]
    ('a7.h3', 'a7.h9', 'a8.h6', 'a8.h10')
    """
    return dict(_GROUPS.get(_known(name), {}))


def groups_on(task: str, model: str, graph: Graph) -> dict[str, Any] | None:
    """The published groups of a task, if they were found in the model of that name; else None.

    A hub name or a folder counts by its last part. `groups` maps names to nodes of `graph`,
    `source` says whose they are.
    """
    known = task.replace("_", "-").lower()
    if known not in _FOUND_IN:
        return None
    source, models = _FOUND_IN[known]
    nodes = {node.name for node in graph.nodes}
    named = published_groups(known)
    there = all(node in nodes for members in named.values() for node in members)
    if PurePath(model).name.lower() not in models or not there:
        return None
    groups = {name: list(members) for name, members in named.items()}
    return {"groups": groups, "source": f"Groups of {source}."}


def _known(name: str) -> str:
    known = name.replace("_", "-").lower()
    if known not in PUBLISHED:
        raise unknown_name("published circuit", name, PUBLISHED)
    return known
