"""What several circuits share, and what only one of them has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

from edgewise.arguments import check_choice
from edgewise.circuit import Circuit
from edgewise.evaluation.faithfulness import MetricScale
from edgewise.evaluation.records import Record, written
from edgewise.graph import Edge, Graph, Node
from edgewise.tables import Cell, Column, Kind, Table, count, measured, number

FORMAT, VERSION = "edgewise-comparison", 2

# Whether a circuit was found on these very prompts, on others, or nobody knows.
Prompts = Literal["discovery", "held-out", "given"]
_IN_WORDS: Mapping[Prompts, str] = {
    "discovery": "discovery prompts",
    "held-out": "held-out prompts",
    "given": "prompts given",
}


@dataclass(frozen=True)
class PairOverlap:
    """Two circuits side by side.

    Jaccard: what both have, of what either has. `rank_correlation` is Spearman's, of the scores of
    all edges; None where one has no scores, or their graphs differ.
    """

    first: str
    second: str
    edge_jaccard: float
    node_jaccard: float
    shared_edges: int
    shared_nodes: int
    rank_correlation: float | None


@dataclass(frozen=True)
class GroupPresence:
    """A named group of nodes, and which of them each circuit touches."""

    name: str
    nodes: tuple[str, ...]
    present: Mapping[str, tuple[str, ...]]  # name of a circuit -> its nodes of the group


@dataclass(frozen=True)
class KeptEffect(MetricScale):
    """How faithful one circuit is on one problem, in the problem's metric and unit.

    `owners` are the circuits whose own problem it is. `normalized` is 1 for the full model and 0
    for the empty circuit, whatever the metric; None where they give the same number.
    """

    circuit: str
    owners: tuple[str, ...]
    prompts: Prompts
    value: float
    normalized: float | None

    @property
    def is_own(self) -> bool:
        """Whether this is the problem that the circuit was found for."""
        return self.circuit in self.owners

    @property
    def problem(self) -> str:
        """A name for the problem: its owners."""
        return " = ".join(self.owners)


@dataclass(frozen=True, eq=False)
class Comparison(Record):
    """Several circuits by name, as found (`circuits`) and as compared (`compared`, on `graph`).

    The two differ where granularities do: then `graph` is what all of them tell apart. `pairs` has
    every two of them once, `effects` each circuit on its own problem (and, with `cross`, on those
    of the others).
    """

    graph: Graph
    circuits: Mapping[str, Circuit]
    compared: Mapping[str, Circuit]
    pairs: tuple[PairOverlap, ...]
    groups: tuple[GroupPresence, ...] = ()
    effects: tuple[KeptEffect, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shared, union = self.shared.n_edges, self.union.n_edges
        return f"Comparison({len(self.names)} circuits, {shared} of {union} edges in all of them)"

    @property
    def names(self) -> tuple[str, ...]:
        """The circuits' names, in order."""
        return tuple(self.circuits)

    @property
    def shared(self) -> Circuit:
        """The edges that every circuit has."""
        return reduce(Circuit.__and__, self.compared.values())

    @property
    def union(self) -> Circuit:
        """The edges that any circuit has."""
        return reduce(Circuit.__or__, self.compared.values())

    @property
    def shared_nodes(self) -> tuple[Node, ...]:
        """The nodes that every circuit touches, in canonical order."""
        first, *rest = (circuit.nodes for circuit in self.compared.values())
        shared = set(first).intersection(*rest)
        return tuple(node for node in first if node in shared)

    def only(self, name: str) -> Circuit:
        """The edges that this circuit has and no other. Raises `UnknownName`."""
        return reduce(Circuit.__sub__, self._others(name), self.compared[name])

    def only_nodes(self, name: str) -> tuple[Node, ...]:
        """The nodes that this circuit touches and no other. Raises `UnknownName`."""
        rest = {node for circuit in self._others(name) for node in circuit.nodes}
        return tuple(node for node in self.compared[name].nodes if node not in rest)

    def _others(self, name: str) -> list[Circuit]:
        check_choice("circuit of this comparison", name, self.names)
        return [circuit for key, circuit in self.compared.items() if key != name]

    def presence(self) -> tuple[tuple[Edge, tuple[str, ...]], ...]:
        """Every edge that any has, with those that have it: most first, then canonical order."""
        edges = {name: set(circuit.edges) for name, circuit in self.compared.items()}
        holders = [
            (edge, tuple(name for name in self.names if edge in edges[name]))
            for edge in self.union.edges
        ]
        return tuple(sorted(holders, key=lambda item: -len(item[1])))  # stable

    def pair(self, first: str, second: str) -> PairOverlap:
        """Two circuits side by side, in either order. Raises `UnknownName`."""
        for name in (first, second):
            check_choice("circuit of this comparison", name, self.names)
        check_choice("other circuit", second, (name for name in self.names if name != first))
        return next(pair for pair in self.pairs if {pair.first, pair.second} == {first, second})

    def own(self, name: str) -> KeptEffect | None:
        """How faithful a circuit is on its own problem; None if that is not known."""
        check_choice("circuit of this comparison", name, self.names)
        return next((e for e in self.effects if e.circuit == name and e.is_own), None)

    # --- what it says

    @property
    def title(self) -> str:
        return f"{len(self.names)} circuits compared"

    def sentences(self) -> tuple[str, ...]:
        """What they have in common, which are most alike, and what to beware of."""
        n, nodes = len(self.names), count(len(self.shared_nodes), "node")
        all_of_them, shared = "both" if n == 2 else "all", self.shared.n_edges
        common = f"{shared:,} of these and {nodes} are" if shared else "no edge is"
        if not shared and self.shared_nodes:
            common = f"no edge, but {nodes}, is"
        edges = count(self.union.n_edges, "edge")
        together = f"Together the {n} circuits have {edges}; {common} in {all_of_them} of them."
        most = max(self.pairs, key=lambda pair: pair.edge_jaccard)
        least = min(self.pairs, key=lambda pair: pair.edge_jaccard)
        index, lowest = number(most.edge_jaccard, 2), number(least.edge_jaccard, 2)
        if n == 2:
            alike = f"The Jaccard index of their edges is {index}."
        elif most.edge_jaccard == least.edge_jaccard:
            alike = f"Every two of them have Jaccard {index} of edges."
        else:
            alike = (
                f"Most alike are {most.first} and {most.second} (Jaccard of edges {index}), least "
                f"{least.first} and {least.second} ({lowest})."
            )
        return together, alike, *(f"Note: {note}" for note in self.notes)

    def tables(self) -> tuple[Table, ...]:
        """The circuits, how alike each two are, each on each problem, groups, and all edges."""
        labels = {name: f"{i} {name}" for i, name in enumerate(self.names, start=1)}
        groups = {
            (group.name, len(group.nodes)): [len(group.present[name]) for name in self.names]
            for group in self.groups
        }
        presence = {
            (edge.name, len(holders)): [name in holders for name in self.names]
            for edge, holders in self.presence()
        }
        of_group = "How many nodes of each group of the published circuit an edge touches"
        order = "Those that most circuits have come first, then the graph's canonical order."
        columns = Column("edge", "name"), Column("circuits", "count")
        tables = (
            self._circuits_table(labels),
            self._matrix("Jaccard of edges", "edge_jaccard", labels),
            self._matrix("Jaccard of nodes", "node_jaccard", labels),
            self._matrix("Rank correlation of scores", "rank_correlation", labels),
            self._cross_table(labels),
            Table(
                "Groups",
                (Column("group"), Column("nodes", "count"), *self._numbered("count")),
                tuple((*left, *cells) for left, cells in groups.items()),
                (f"{of_group}, by circuit.",),
            ),
            Table(
                f"Edges by circuit ({len(presence):,})",
                (*columns, *self._numbered("flag")),
                tuple((*left, *cells) for left, cells in presence.items()),
                (f"{'; '.join(labels.values())}. {order}",),
            ),
        )
        return tuple(table for table in tables if table.rows)

    def _numbered(self, kind: Kind) -> list[Column]:
        """A column for each circuit, its number above it."""
        return [Column(str(i), kind) for i in range(1, len(self.names) + 1)]

    def _matrix(self, title: str, attribute: str, labels: Mapping[str, str]) -> Table:
        """A measure of each two circuits; no rows where it is not known of any."""
        pairs = {frozenset((p.first, p.second)): getattr(p, attribute) for p in self.pairs}
        rows = tuple(
            (label, *(pairs.get(frozenset((name, column))) for column in self.names))
            for name, label in labels.items()
        )
        rows = rows if any(value is not None for value in pairs.values()) else ()
        return Table(title, (Column(title), *self._numbered("index")), rows, shaded=True)

    def _circuits_table(self, labels: Mapping[str, str]) -> Table:
        rows = list[dict[str, Cell]]()
        for name, label in labels.items():
            circuit, own = self.circuits[name], self.own(name)
            row: dict[str, Cell] = {"circuit": label, "edges": circuit.n_edges}
            row |= {"nodes": len(circuit.nodes), "edges only here": self.only(name).n_edges}
            if own is not None:
                scale = max(abs(own.full), abs(own.empty))
                row["metric"] = f"{own.metric} {measured(own.value, '', scale=scale)}"
                row["full model"] = measured(own.full, "", scale=scale)
                row["effect kept"] = own.normalized
            rows.append(row)
        on = {effect.circuit: _IN_WORDS[effect.prompts] for effect in self.effects}
        where = ", ".join(f"{name} on {prompts}" for name, prompts in on.items())
        if len(set(on.values())) == 1:
            where = f"on {next(iter(on.values()))}"
        notes = [f"The metric, the full model's, and the effect kept: {where}."] if on else []
        return Table.of("Circuits", rows, kinds={"effect kept": "share"}, notes=notes)

    def _cross_table(self, labels: Mapping[str, str]) -> Table:
        """Circuits in rows, problems in columns; no rows where each was evaluated on one alone."""
        title = "Effect that each circuit keeps on the problem of …"
        problems = list(dict.fromkeys(effect.owners for effect in self.effects))
        if len(problems) < 2 or all(effect.is_own for effect in self.effects):
            return Table(title, (), ())
        shares = {(effect.circuit, effect.owners): effect.normalized for effect in self.effects}
        heads = ("=".join(labels[owner].split()[0] for owner in owners) for owners in problems)
        columns = Column("circuit"), *(Column(head, "share") for head in heads)
        rows = (
            (label, *(shares.get((name, owners)) for owners in problems))
            for name, label in labels.items()
        )
        return Table(title, columns, tuple(rows), shaded=True)

    def to_json(self) -> dict[str, Any]:
        """Every number and every edge, with a format number."""
        circuits = [
            {
                "name": name,
                "n_edges": circuit.n_edges,
                "n_edges_total": circuit.graph.n_edges,
                "n_nodes": len(circuit.nodes),
                "only_edges": self.only(name).edges,
                "only_nodes": self.only_nodes(name),
            }
            for name, circuit in self.circuits.items()
        ]
        document = {
            "format": FORMAT,
            "version": VERSION,
            "graph": self.graph,
            "circuits": circuits,
            "shared_edges": self.shared.edges,
            "shared_nodes": self.shared_nodes,
            "edges": dict(self.presence()),
            "pairs": self.pairs,
            "groups": self.groups,
            "faithfulness": self.effects,
            "notes": self.notes,
        }
        return written(document)
