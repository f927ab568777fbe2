"""Completeness: what the model still does without the circuit.

- The complement, M \\ C: all edges but the circuit's. If the circuit is all there is, it keeps
  nothing of the effect.
- Knock-outs (Wang et al. 2022, section 4): without any set K of the circuit's nodes, circuit and
  model should suffer alike. The incompleteness of K is |F(C \\ K) - F(M \\ K)|, F the metric. A
  node is knocked out by removing every edge out of it. K is drawn at random, each node with
  probability 1/2; or grown greedily, at each step by the node that raises the incompleteness most;
  or a named group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Literal

import torch

from edgewise.arguments import check_choice, check_seed, whole
from edgewise.circuit import Circuit, Found
from edgewise.documents import Finite
from edgewise.evaluation.faithfulness import Faithfulness, faithfulness
from edgewise.evaluation.records import Record
from edgewise.graph import Node, Sender
from edgewise.problem import Problem, problem_and_circuit
from edgewise.progress import OnProgress, counted, ignore_progress
from edgewise.tables import (
    Cell,
    Table,
    count,
    measured,
    percent,
    plain,
)

_SHOWN = 10  # knock-outs in the table: the worst ones
How = Literal["random", "greedy", "group"]


@dataclass(frozen=True)
class KnockOut(Record):
    """A set of nodes, and the metric of the circuit and of the model without them."""

    how: How
    name: str  # of a group, or a number
    nodes: tuple[str, ...]
    circuit: Finite
    model: Finite

    _derived = ("incompleteness",)

    @property
    def incompleteness(self) -> float:
        """|F(C \\ K) - F(M \\ K)|, in the metric's unit; 0 for a complete circuit."""
        return abs(self.circuit - self.model)


@dataclass(frozen=True, eq=False)
class Completeness(Record):
    """The circuit's complement, and knock-outs of nodes in circuit and model."""

    complement: Faithfulness
    knock_outs: tuple[KnockOut, ...]
    seed: int

    _derived = ("worst",)
    title = "Completeness"

    @property
    def worst(self) -> KnockOut | None:
        """The knock-out in which circuit and model differ most; None if there were none."""
        return max(self.knock_outs, key=lambda k: k.incompleteness, default=None)

    def sentences(self) -> tuple[str, ...]:
        """What the rest keeps, and how far circuit and model differ at most."""
        rest, worst = self.complement, self.worst
        alone = f"The rest of the model, without the circuit's edges, {rest.share_in_words}."
        if worst is None:
            return (alone,)
        size = measured(worst.incompleteness, rest.unit)
        if rest.normalized is not None:
            size = f"{percent(worst.incompleteness / abs(rest.full - rest.empty))} of the effect"
        tried = f"{count(len(self.knock_outs), 'set')} tried, seed {self.seed}"
        apart = f"With {len(worst.nodes)} of its nodes knocked out, circuit and model differ by up"
        return alone, f"{apart} to {size} ({tried})."

    def tables(self) -> tuple[Table, ...]:
        """The complement beside the full model, and the knock-outs, worst first."""
        rest = self.complement
        alone = replace(rest.tables()[0], title="Without the circuit")
        ranked = sorted(self.knock_outs, key=lambda k: -k.incompleteness)
        rows: list[dict[str, Cell]] = [
            {
                "nodes knocked out": plain(k.nodes),
                "set": f"{k.how} {k.name}",
                f"{rest.axis.heading}: circuit": k.circuit,
                "model": k.model,
                "difference": k.incompleteness,
            }
            for k in ranked[:_SHOWN]
        ]
        title = f"Nodes knocked out: the worst of {count(len(ranked), 'set')}, seed {self.seed}"
        return (alone, Table.of(title, rows)) if rows else (alone,)


def knocked_out(circuit: Circuit, nodes: Iterable[Node | str]) -> Circuit:
    """The circuit without any edge out of these nodes (`C \\ K`). Raises `UnknownName`.

    In a graph with spans a node named without one is that node at every span.
    """
    graph, keep = circuit.graph, circuit.keep.clone()
    for name in nodes:
        node = Node.parse(name) if isinstance(name, str) else name
        for at_span in (node,) if node.span else graph.at_spans(node):
            keep[graph.row[Sender(at_span)]] = False
    return Circuit(graph, keep)


def completeness(
    problem: Problem,
    circuit: Found,
    *,
    random: int = 10,
    greedy: int = 0,
    pool: int = 10,
    groups: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    on_progress: OnProgress = ignore_progress,
) -> Completeness:
    """What the complement keeps, and how circuit and model differ without sets of nodes.

    `random` different sets are drawn (all, if there are fewer); `greedy` is the size to which one
    set is grown, trying up to `pool` nodes drawn anew at each step; `groups` are sets by name, such
    as `edgewise.tasks.published_groups("ioi")`, of which the nodes that the circuit has are taken
    out.
    Costs a forward pass and two for each set tried. Raises `SettingError`, `UnknownName`,
    `MetricError`.
    """
    circuit = problem_and_circuit(problem, circuit, "completeness")
    random, greedy = whole("random", random, 0), whole("greedy", greedy, 0)
    pool, groups = whole("pool", pool, 1), groups or {}
    graphs = circuit.graph, circuit.graph.whole
    senders = {node.name for graph in graphs for node in graph.senders}
    for group, names in groups.items():
        for name in names:
            check_choice(f"node (of group {group!r})", name, senders)
    touched, full = set(circuit.nodes), Circuit.full(circuit.graph)
    nodes = [node for node in circuit.graph.senders if node.layer is not None and node in touched]

    def knock_out(how: How, name: str, members: Sequence[Node]) -> KnockOut:
        values = [problem.value(knocked_out(before, members)) for before in (circuit, full)]
        return KnockOut(how, name, tuple(node.name for node in members), *values)

    generator = torch.Generator().manual_seed(check_seed(seed))
    complement = faithfulness(problem, circuit.complement())
    sets: list[tuple[How, str, Sequence[Node]]] = [
        ("random", str(i), members)
        for i, members in enumerate(_random_sets(nodes, random, generator))
    ]
    for group, names in groups.items():
        inside = [n for n in nodes if {n.name, replace(n, span=None).name} & set(names)]
        sets.append(("group", group, inside))
    results = [knock_out(*tried) for tried in counted(sets, on_progress, "sets knocked out")]
    grown = list[Node]()
    for step in counted(range(min(greedy, len(nodes))), on_progress, "nodes of a growing set"):
        left = [node for node in nodes if node not in grown]
        order = torch.randperm(len(left), generator=generator)[:pool].sort().values.tolist()
        larger = [knock_out("greedy", str(step + 1), [*grown, left[i]]) for i in order]
        best = max(range(len(larger)), key=lambda i: larger[i].incompleteness)
        grown.append(left[order[best]])
        results.append(larger[best])
    return Completeness(complement, tuple(results), seed)


def _random_sets(nodes: Sequence[Node], n: int, generator: torch.Generator) -> list[list[Node]]:
    """`n` different sets, none of them empty; all there are if those are fewer."""
    sets: dict[tuple[bool, ...], list[Node]] = {}
    while len(sets) < min(n, 2 ** len(nodes) - 1):
        chosen = tuple((torch.rand(len(nodes), generator=generator) < 0.5).tolist())
        if any(chosen):
            sets[chosen] = list(compress(nodes, chosen))
    return list(sets.values())
