"""Circuits of one model at different granularity, seen at one that all of them can be seen at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from edgewise.circuit.circuit import Circuit
from edgewise.errors import SettingError
from edgewise.graph import Graph, Sender

# What a graph may tell apart, or leave together; all else must be equal.
_GRAIN = ("split_qkv", "split_heads", "split_embed", "switches")


def common_graph(graphs: Sequence[Graph]) -> Graph:
    """The finest graph that every one of them can be seen on: what all tell apart, it does.

    Raises `SettingError` for graphs of models of different shape.

    >>> one, other = Graph.build(2, 2, switches=True), Graph.build(2, 2, split_qkv=False)
    >>> common_graph([one, other]).describe()
    '2 layers of 2 heads, MLPs, joined q/k/v, heads as nodes'
    """
    grain: dict[str, Any] = {n: all(getattr(graph, n) for graph in graphs) for n in _GRAIN}
    grouped = {graph.kv_heads for graph in graphs if graph.kv_heads is not None}
    if grouped and grain["split_heads"] and not grain["split_qkv"]:
        raise SettingError(
            "a circuit whose heads share key/value ports and one whose heads read through one port "
            "each have no common graph. Find one of them again, with ungroup_heads=True."
        )
    grain["spans"] = graphs[0].spans if len({graph.spans for graph in graphs}) == 1 else None
    grain["kv_heads"] = max(grouped, default=None) if grain["split_heads"] else None
    grain["switches"] = grain["switches"] and not grouped
    grain["mixed_heads"] = graphs[0].mixed_heads and grain["split_heads"]
    common = replace(graphs[0], **grain)
    for graph in graphs:
        if replace(graph, **grain) != common:
            raise SettingError(
                "circuits can be compared on models of one shape only, but these are on\n"
                f"  {graphs[0].describe()}\n  {graph.describe()}"
            )
    return common


def coarsened(circuit: Circuit, graph: Graph) -> Circuit:
    """The circuit on a graph that tells less apart: an edge is kept if any edge inside it is.

    Switches lie inside a node, and are left out where `graph` has none. `graph` is what
    `common_graph` gives for the circuit's.
    """
    if circuit.graph == graph:
        return circuit
    fine = circuit.graph
    rows = torch.tensor([graph.row[Sender(graph.node_around(node))] for node in fine.senders])
    columns = torch.tensor([graph.column[graph.port_around(port)] for port in fine.receivers])
    kept = circuit.keep if graph.switches else circuit.keep & ~fine.is_switch
    entries = kept.nonzero()
    keep = torch.zeros_like(graph.exists)
    keep[rows[entries[:, 0]], columns[entries[:, 1]]] = True
    return Circuit(graph, keep)
