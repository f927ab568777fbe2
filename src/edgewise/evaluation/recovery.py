"""How well a circuit recovers a published one: edges, nodes, and the paper's area under the curve.

Section 7 of the spec (Conmy et al. 2023, section 4.1): every edge of the graph is classified as
kept or not, against the published circuit. Nodes are those a kept edge touches, or, by name, what
the paper's code counted. How well *scores* rank a published circuit's edges: see ranking.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Any, Literal, get_args

from edgewise.circuit import Circuit, Found, circuit_of
from edgewise.errors import SettingError
from edgewise.evaluation.paper_nodes import check_has_paper_nodes, n_paper_nodes, paper_nodes
from edgewise.settings.checks import check_choice

NodeCounting = Literal["plain", "paper"]


@dataclass(frozen=True)
class Confusion:
    """Counts of a classification, and the rates made of them."""

    true_positives: int
    false_positives: int
    n_true: int  # in the published circuit
    n_false: int  # in the graph and not in the published circuit

    @property
    def tpr(self) -> float:
        """True positive rate (recall): found and published, of those published; 1 if none are."""
        return self.true_positives / self.n_true if self.n_true else 1.0

    @property
    def fpr(self) -> float:
        """False positive rate: found and not published, of those not published."""
        return self.false_positives / self.n_false if self.n_false else 0.0

    @property
    def precision(self) -> float:
        """Published, of those found; 1 if none are found (the paper's convention)."""
        found = self.true_positives + self.false_positives
        return self.true_positives / found if found else 1.0

    def to_json(self) -> dict[str, float]:
        return {**vars(self), "tpr": self.tpr, "fpr": self.fpr, "precision": self.precision}


@dataclass(frozen=True)
class RecoveryPoint:
    """One circuit against the published one."""

    n_edges: int
    edges: Confusion
    nodes: Confusion


@dataclass(frozen=True)
class Recovery:
    """Circuits against a published one: a point each, and the pessimistic area under them."""

    points: tuple[RecoveryPoint, ...]
    edge_auc: float
    node_auc: float
    node_counting: NodeCounting = "plain"

    @property
    def edges(self) -> Confusion:
        """The edge counts of a single circuit. Raises `SettingError` if there are several."""
        return self._only.edges

    @property
    def nodes(self) -> Confusion:
        """The node counts of a single circuit. Raises `SettingError` if there are several."""
        return self._only.nodes

    @property
    def _only(self) -> RecoveryPoint:
        if len(self.points) != 1:
            raise SettingError(f"there are {len(self.points)} circuits; look at `points`.")
        return self.points[0]

    def to_json(self) -> dict[str, Any]:
        return {
            "edge_auc": self.edge_auc,
            "node_auc": self.node_auc,
            "node_counting": self.node_counting,
            "points": [
                {"n_edges": p.n_edges, "edges": p.edges.to_json(), "nodes": p.nodes.to_json()}
                for p in self.points
            ],
        }


def recovery(
    found: Found | Iterable[Found],
    published: Found | None,
    *,
    nodes: NodeCounting = "plain",
) -> Recovery:
    """Compare circuits, or runs, with a published circuit of the same graph.

    `nodes`: "plain" are heads, MLPs, embeddings and the output; "paper" are what the paper's code
    counted (`edgewise.evaluation.paper_nodes`), for its published node AUCs. Raises
    `SettingError` when the graphs differ or there is nothing to compare, `UnknownName`.
    """
    check_choice("node counting", nodes, get_args(NodeCounting))
    published = check_published(published)
    items = (
        list(found) if isinstance(found, Iterable) and not isinstance(found, Circuit) else [found]
    )
    circuits = [circuit_of(item) for item in items]
    if not circuits:
        raise SettingError("there are no circuits to compare with the published one.")
    for circuit in circuits:
        if circuit.graph != published.graph:
            raise SettingError(
                "the circuit and the published one are on different graphs:\n"
                f"  {circuit.graph.describe()}\n  {published.graph.describe()}\n"
                "Build the problem with graph=published.graph to compare them."
            )
    if nodes == "paper":
        check_has_paper_nodes(published.graph)
    points = tuple(_point(circuit, published, nodes) for circuit in circuits)
    return Recovery(
        points,
        pessimistic_auc([(p.edges.fpr, p.edges.tpr) for p in points]),
        pessimistic_auc([(p.nodes.fpr, p.nodes.tpr) for p in points]),
        nodes,
    )


def check_published(published: Found | None) -> Circuit:
    """A circuit to compare with. Raises `SettingError` if there is none."""
    if published is None:
        raise SettingError(
            "the published circuit is None; pass a Circuit. Not every task has a published one: "
            "see task.published and task.truth."
        )
    return circuit_of(published, "the published circuit")


def _point(circuit: Circuit, published: Circuit, counting: NodeCounting) -> RecoveryPoint:
    graph = circuit.graph
    true_edges = int((circuit.keep & published.keep).sum())
    edges = Confusion(
        true_edges,
        circuit.n_edges - true_edges,
        published.n_edges,
        graph.n_edges - published.n_edges,
    )
    if counting == "paper":
        nodes = _confusion(paper_nodes(circuit), paper_nodes(published), n_paper_nodes(graph))
    else:
        nodes = _confusion(set(circuit.nodes), set(published.nodes), len(graph.nodes))
    return RecoveryPoint(circuit.n_edges, edges, nodes)


def _confusion(found: Set[Any], published: Set[Any], total: int) -> Confusion:
    return Confusion(
        len(found & published), len(found - published), len(published), total - len(published)
    )


def against_known(found: Found, published: Circuit | None, truth: Circuit | None) -> dict[str, Any]:
    """Measurements for a record: recovery of what is known of the circuit, on the same graph."""
    known = {"recovery": published, "recovery_of_truth": truth}
    circuit = circuit_of(found)
    return {
        name: recovery(circuit, answer).to_json()
        for name, answer in known.items()
        if answer is not None and answer.graph == circuit.graph
    }


def pessimistic_auc(points: Iterable[Any]) -> float:
    """The paper's area under (FPR, TPR) points, which credits nothing between two points.

    (0,0) and (1,1) are added; a point is dropped only if another has strictly lower FPR *and*
    strictly higher TPR; then the area is the sum of (1 - FPR_i)(TPR_i - TPR_{i-1}).

    >>> pessimistic_auc([(0.5, 0.5)])
    0.25
    """
    every = [(0.0, 0.0), *((float(fpr), float(tpr)) for fpr, tpr in points), (1.0, 1.0)]
    for fpr, tpr in every:
        if not (0 <= fpr <= 1 and 0 <= tpr <= 1):
            raise SettingError(f"({fpr}, {tpr}) is not a point of two rates between 0 and 1.")
    area, best = 0.0, 0.0
    for fpr, tpr in sorted(every):  # a point below the best so far is a dropped one
        area += (1 - fpr) * max(tpr - best, 0.0)
        best = max(tpr, best)
    return area
