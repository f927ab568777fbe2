"""Circuits in the literature, and what their nodes do. No model is needed.

`published.json` holds each by rule, on the graph its paper used: groups of nodes, sets of them, and
edges from everyone of one set to everyone of another, if later. Where no circuit is published for a
model, its heads get roles by what they do (`ROLES`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from edgewise.circuit import Circuit, Found, circuit_of
from edgewise.errors import unknown_name
from edgewise.evaluation.roles import Role, head_roles
from edgewise.graph import Edge, Graph, Node, Port, Sender
from edgewise.problem import Problem

PUBLISHED = (
    *("ioi", "greater-than", "docstring"),
    *("tracr-reverse", "tracr-xproportion", "or-gate", "and-gate"),
)
_PREVIOUS = Role("previous token", None, None)

# The first six of IOI are those of Wang et al. (2211.00593). The others are what a model can do
# instead: carry the other name to S2, and read it there.
ROLES: Mapping[str, tuple[Role, ...]] = {
    "ioi": (
        Role("name mover", "END", "IO", "raises"),
        Role("negative name mover", "END", "IO", "lowers"),
        Role("S-inhibition", "END", "S2", "does not raise"),
        Role("induction", "S2", "S1+1"),
        Role("duplicate token", "S2", "S1"),
        _PREVIOUS,
        Role("name mover via S2", "END", "S2", "raises"),
        Role("early name mover", "S2", "IO"),
    ),
    "greater-than": (Role("year reader", "END", "YY"), _PREVIOUS),
    "docstring": (Role("argument mover", "END", "C_def", "raises"), _PREVIOUS),
    "induction": (
        Role("induction", "END", "B1"),
        Role("duplicate token", "END", "A1"),
        _PREVIOUS,
    ),
}


@cache
def _rows() -> dict[str, dict[str, Any]]:
    return json.loads((files("edgewise.tasks") / "published.json").read_text("utf-8"))


def _row(name: str) -> dict[str, Any]:
    """What is known of a published circuit. Raises `UnknownName`."""
    known = name.replace("_", "-").lower()
    if known not in PUBLISHED:
        raise unknown_name("published circuit", name, PUBLISHED)
    return _rows()[known]


def published_circuit(name: str) -> Circuit:
    """The published circuit of a task. Raises `UnknownName` for a task that has none.

    >>> published_circuit("ioi").n_edges
    1041
    """
    row = _row(name)
    sets: dict[str, Sequence[str]] = dict(published_groups(name))
    for key, names in row.get("sets", {}).items():
        sets[key] = [node for name in names.split(", ") for node in sets.get(name, [name])]
    graph = Graph.build(**row["graph"], switches=True)
    edges = [
        Edge(sender, port)
        for senders, receivers in row["edges"]
        for sender in map(Sender, map(Node.parse, _expanded(senders, sets)))
        for port in map(Port.parse, _expanded(receivers, sets))
        if graph.exists[graph.row[sender], graph.column[port]] and port.node != sender
    ]
    switched = _expanded(row["switches"], sets) if "switches" in row else []
    return Circuit.of(graph, [*edges, *(Port.parse(name).switch for name in switched)])


def _expanded(names: str, sets: Mapping[str, Sequence[str]]) -> list[str]:
    """Nodes of names and sets of them; behind ".qkv", their ports."""
    expanded = []
    for name in names.split(", "):
        nodes, dot, slots = name.rpartition(".")
        if dot and set(slots) <= set("qkv"):
            expanded += [f"{node}.{slot}" for node in sets.get(nodes, [nodes]) for slot in slots]
        else:
            expanded += sets.get(name, [name])
    return expanded


def published_groups(name: str) -> dict[str, tuple[str, ...]]:
    """What the nodes of a published circuit do: the names of the nodes of each group.

    Circuits of compiled programs have none. Raises `UnknownName`.

    >>> published_groups("ioi")["S-inhibition"]
    ('a7.h3', 'a7.h9', 'a8.h6', 'a8.h10')
    """
    groups = _row(name).get("groups", {})
    return {
        group: tuple(Node.parse(node).name for node in nodes.split())
        for group, nodes in groups.items()
    }


def groups_on(task: str, model: str, graph: Graph) -> dict[str, Any] | None:
    """The published groups of a task, if they were found in the model of that name; else None.

    A hub name or a folder counts by its last part. `groups` maps names to nodes of `graph`,
    `source` says whose they are.
    """
    row = _rows().get(task.replace("_", "-").lower(), {})
    if "source" not in row:
        return None
    nodes = {node.name for node in graph.nodes}
    groups = {name: list(members) for name, members in published_groups(task).items()}
    there = all(node in nodes for members in groups.values() for node in members)
    if PurePath(model).name.lower() not in row["models"] or not there:
        return None
    return {"groups": groups, "source": f"Groups of {row['source']}."}


def node_groups(problem: Problem, circuit: Found) -> dict[str, Any] | None:
    """What the nodes of a task's circuit do, as a run keeps it under `measurements["groups"]`.

    The published groups if they were found in this very model; else the roles of its heads by what
    they do on the problem's prompts (`ROLES`). None where neither says anything: for other tasks,
    for whole attention layers, for prompts without the places or answers that the roles speak of.
    """
    circuit = circuit_of(circuit)
    task, model = str(problem.origin.get("task", "")), problem.model
    published = groups_on(task, model.name, circuit.graph)
    if published is not None:
        return published
    roles, pairs = ROLES.get(task, ()), problem.pairs
    spans = pairs.spans or {}
    answered = pairs.answers is not None and pairs.wrong is not None
    known = [
        role
        for role in roles
        if all(name is None or name in spans for name in (role.source, role.target))
        and (role.effect is None or answered)
    ]
    if not known or not circuit.graph.split_heads:
        return None
    nodes = dict.fromkeys(replace(node, span=None) for node in circuit.nodes)
    whole = problem.with_(graph=problem.graph.whole, origin=problem.origin)
    return head_roles(whole, known, nodes=tuple(nodes)).to_json()
