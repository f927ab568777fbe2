"""Who does what in a circuit: published groups where they speak of the model, else by behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgewise.circuit import Found, circuit_of
from edgewise.evaluation.roles import Role, head_roles
from edgewise.problem import Problem
from edgewise.tasks.published import groups_on

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
