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

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from edgewise.arguments import check_seed, whole
from edgewise.circuit import Circuit, Found
from edgewise.documents import Finite
from edgewise.errors import unknown_name
from edgewise.evaluation.faithfulness import Faithfulness, faithfulness
from edgewise.evaluation.records import Record
from edgewise.graph import Node, Sender
from edgewise.methods import OnProgress, Progress, ignore_progress
from edgewise.problem import Problem, problem_and_circuit
from edgewise.tables import Column, Table, cell_text, count, facts, measured, number, percent, plain

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

    @property
    def worst(self) -> KnockOut | None:
        """The knock-out in which circuit and model differ most; None if there were none."""
        return max(self.knock_outs, key=lambda k: k.incompleteness, default=None)

    title = "Completeness"

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
        rest, metric = self.complement, self.complement.metric
        alone = facts(
            "Without the circuit",
            {
                "edges": f"{rest.n_edges:,}",
                f"{metric} of these alone": number(rest.circuit, 4),
                "full model": number(rest.full, 4),
                "share of the effect": cell_text(rest.normalized, "share"),
            },
        )
        if not self.knock_outs:
            return (alone,)
        columns = (
            Column("nodes knocked out"),
            Column("set"),
            Column(f"{metric} of circuit", "number", rest.unit),
            Column("of model", "number"),
            Column("difference", "number"),
        )
        ranked = sorted(self.knock_outs, key=lambda k: -k.incompleteness)
        rows = tuple(
            (plain(k.nodes), f"{k.how} {k.name}", k.circuit, k.model, k.incompleteness)
            for k in ranked[:_SHOWN]
        )
        title = f"Nodes knocked out: the worst of {count(len(ranked), 'set')}, seed {self.seed}"
        return alone, Table(title, columns, rows)


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
    pool = whole("pool", pool, 1)
    touched = set(circuit.nodes)
    nodes = [s for s in circuit.graph.senders if s.layer is not None and s in touched]
    known = {n.name for graph in (circuit.graph, circuit.graph.whole) for n in graph.senders}
    for group, members in (groups or {}).items():
        for name in members:
            if name not in known:
                raise unknown_name(f"node (of group {group!r})", name, known)
    generator = torch.Generator().manual_seed(check_seed(seed))
    drawn = _random_sets(nodes, random, generator)
    total = 1 + len(drawn) + len(groups or {})
    total += sum(min(pool, len(nodes) - i) for i in range(min(greedy, len(nodes))))
    progress = (Progress(done, total, "nodes knocked out") for done in itertools.count(1))
    full = Circuit.full(circuit.graph)

    def knock_out(how: How, name: str, members: Sequence[Node]) -> KnockOut:
        values = [problem.value(knocked_out(before, members)) for before in (circuit, full)]
        on_progress(next(progress))
        return KnockOut(how, name, tuple(node.name for node in members), *values)

    complement = faithfulness(problem, circuit.complement())
    on_progress(next(progress))
    results = [knock_out("random", str(i), members) for i, members in enumerate(drawn)]
    for group, names in (groups or {}).items():
        inside = [n for n in nodes if {n.name, replace(n, span=None).name} & set(names)]
        results.append(knock_out("group", group, inside))
    results += _grown(knock_out, nodes, greedy, pool, generator)
    return Completeness(complement, tuple(results), seed)


def _grown(
    knock_out: Callable[[How, str, Sequence[Node]], KnockOut],
    nodes: Sequence[Node],
    steps: int,
    pool: int,
    generator: torch.Generator,
) -> Iterator[KnockOut]:
    """A set that grows by the node that makes circuit and model differ most: a result per step."""
    chosen: list[Node] = []
    for step in range(min(steps, len(nodes))):
        left = [node for node in nodes if node not in chosen]
        order = torch.randperm(len(left), generator=generator)[:pool].sort().values.tolist()
        tried = [knock_out("greedy", str(step + 1), [*chosen, left[i]]) for i in order]
        best = max(range(len(tried)), key=lambda i: tried[i].incompleteness)
        chosen.append(left[order[best]])
        yield tried[best]


def _random_sets(nodes: Sequence[Node], n: int, generator: torch.Generator) -> list[list[Node]]:
    """`n` different sets, none of them empty; all there are if those are fewer."""
    sets: dict[tuple[bool, ...], list[Node]] = {}
    while len(sets) < min(n, 2 ** len(nodes) - 1):
        chosen = tuple((torch.rand(len(nodes), generator=generator) < 0.5).tolist())
        if any(chosen):
            sets[chosen] = list(itertools.compress(nodes, chosen))
    return list(sets.values())
