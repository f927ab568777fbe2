"""How well a circuit, or an order of edges, recovers a known circuit.

Section 7 of the spec (Conmy et al. 2023, section 4.1): every edge of the graph is classified as
kept or not, against the known circuit; with the paper's area under the curve of several circuits.
Scores are compared by scikit-learn's ROC AUC and average precision, which look at the whole order
of edges and credit what lies between two points.

Nodes are those a kept edge touches, or, by name, what the paper's code counted (spec section 1.4).
There a head is seven nodes: its output, and for q, k and v what the port reads and the vector made
of it. They are present as ends of kept edges: an edge s->a3.h7.q has s's output and the q input as
ends, the switch of that port its q input and its q vector. MLP inputs are dropped, so an MLP
counts only where it sends. GPT-2 small has 1,022 such nodes, beside 157 heads, MLPs and ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from edgewise.arguments import check_choice
from edgewise.circuit import Circuit, EdgeScores, Found, circuit_of
from edgewise.documents import Count, Finite
from edgewise.errors import SettingError
from edgewise.evaluation.curves import HasScores, scores_of
from edgewise.evaluation.records import Record
from edgewise.graph import Graph
from edgewise.methods.settings import By
from edgewise.tables import Cell, Chart, Column, Kind, Mark, Series, Table, count, number

NodeCounting = Literal["plain", "paper"]
_FPR = Column("false positive rate", "number")
_TPR = Column("true positive rate", "number")


@dataclass(frozen=True)
class Confusion(Record):
    """Counts of a classification, and the rates made of them."""

    true_positives: Count
    false_positives: Count
    n_true: Count  # in the published circuit
    n_false: Count  # in the graph and not in the published circuit

    _derived = ("tpr", "fpr", "precision")

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
        n_found = self.true_positives + self.false_positives
        return self.true_positives / n_found if n_found else 1.0


@dataclass(frozen=True)
class RecoveryPoint:
    """One circuit against the published one."""

    n_edges: Count
    edges: Confusion
    nodes: Confusion


@dataclass(frozen=True)
class Recovery(Record):
    """Circuits against a published one: a point each, and the pessimistic area under them."""

    edge_auc: Finite
    node_auc: Finite
    points: tuple[RecoveryPoint, ...]
    node_counting: NodeCounting = "plain"

    title = "Recovery of a known circuit"

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

    def sentences(self) -> tuple[str, ...]:
        """What the circuit finds; or, of several, the areas under their points."""
        if len(self.points) > 1:
            areas = f"{number(self.edge_auc)} of edges and {number(self.node_auc)} of nodes"
            circuits = count(len(self.points), "circuit")
            return (f"The pessimistic area under the curve of {circuits} is {areas}.",)
        edges, others = self.edges, count(self.edges.false_positives, "other")
        return (
            f"It finds {edges.true_positives:,} of the {edges.n_true:,} known edges, and {others}.",
        )

    def tables(self) -> tuple[Table, ...]:
        """Counts and rates of edges and nodes, a pair of rows for each circuit."""
        nodes = "nodes" if self.node_counting == "plain" else "nodes (paper)"
        rows: list[dict[str, Cell]] = [
            {
                "of a circuit of": f"{count(point.n_edges, 'edge')}: {what}",
                "found": c.true_positives,
                "missed": c.n_true - c.true_positives,
                "others": c.false_positives,
                "recall": c.tpr,
                "precision": c.precision,
                "false positive rate": c.fpr,
            }
            for point in self.points
            for what, c in (("edges", point.edges), (nodes, point.nodes))
        ]
        shares: dict[str, Kind] = dict.fromkeys(("recall", "precision", _FPR.name), "share")
        areas = f"edges {number(self.edge_auc)}, nodes {number(self.node_auc)}"
        notes = [f"Pessimistic area under the curve: {areas}."]
        return (Table.of(self.title, rows, kinds=shares, notes=notes),)

    def charts(self) -> tuple[Chart, ...]:
        """The rates of several circuits; none for a single one."""
        if len(self.points) == 1:
            return ()
        edges = [Mark(p.edges.fpr, p.edges.tpr, count(p.n_edges, "edge")) for p in self.points]
        nodes = [Mark(p.nodes.fpr, p.nodes.tpr, count(p.n_edges, "edge")) for p in self.points]
        series = Series("edges", tuple(edges)), Series("nodes", tuple(nodes))
        return (Chart(self.title, _FPR, _TPR, series, caption="A dot is a circuit."),)


@dataclass(frozen=True)
class ScoreRecovery(Record):
    """Scores against a known circuit, over every edge of the graph.

    `roc_auc` is the chance that an edge of the circuit scores higher than one outside it, ties
    counting half: 1 is a perfect order, 1/2 none. `average_precision` is the mean precision at
    each of the circuit's edges, of which `n_true / (n_true + n_false)` comes by chance.
    `fpr` and `tpr` are the ROC curve's corners, from (0, 0) to (1, 1).
    """

    method: str
    by: By
    n_true: Count
    n_false: Count
    roc_auc: Finite
    average_precision: Finite
    fpr: tuple[Finite, ...]
    tpr: tuple[Finite, ...]

    title = "Order of edges and a known circuit"

    def sentences(self) -> tuple[str, ...]:
        """Both areas."""
        return (
            f"The scores' order ({self.by}): ROC AUC {number(self.roc_auc, 4)}, average precision "
            f"{number(self.average_precision, 4)}.",
        )

    def charts(self) -> tuple[Chart, ...]:
        """The ROC curve."""
        marks = tuple(Mark(x, y) for x, y in zip(self.fpr, self.tpr, strict=True))
        return (Chart(self.title, _FPR, _TPR, (Series(self.method, marks, line=True),)),)


def recovery(
    found: Found | Iterable[Found], published: Found | None, *, nodes: NodeCounting = "plain"
) -> Recovery:
    """Compare circuits, or runs, with a published circuit of the same graph.

    `nodes`: "plain" are heads, MLPs, embeddings and the output; "paper" are what the paper's code
    counted (`edgewise.evaluation.paper_nodes`), for its published node AUCs. Raises
    `SettingError` when the graphs differ or there is nothing to compare, `UnknownName`.
    """
    check_choice("node counting", nodes, get_args(NodeCounting))
    if isinstance(found, Circuit) or not isinstance(found, Iterable):
        found = [found]
    circuits = [circuit_of(item) for item in found]
    if not circuits:
        raise SettingError("there are no circuits to compare with the published one.")
    known = _known(published, *(circuit.graph for circuit in circuits))
    graph = known.graph
    if nodes == "paper" and not (
        graph.split_qkv and graph.split_heads and graph.switches and graph.spans is None
    ):
        raise SettingError(
            "nodes='paper' counts inputs and vectors of q, k and v, which only a graph of heads "
            f"with split q/k/v and switches tells apart; this one has {graph.describe()}. "
            "Use nodes='plain', or build the graph with switches=True and without spans."
        )
    points = tuple(_point(circuit, known, nodes) for circuit in circuits)
    edge_auc = pessimistic_auc([(p.edges.fpr, p.edges.tpr) for p in points])
    node_auc = pessimistic_auc([(p.nodes.fpr, p.nodes.tpr) for p in points])
    return Recovery(edge_auc, node_auc, points, nodes)


def _known(published: Found | None, *graphs: Graph) -> Circuit:
    """The published circuit, of the graph of what it is compared with."""
    if published is None:
        raise SettingError(
            "the published circuit is None; pass a Circuit. Not every task has a published one: "
            "see task.published and task.truth."
        )
    known = circuit_of(published, "the published circuit")
    for graph in graphs:
        if graph != known.graph:
            raise SettingError(
                "what is compared and the published circuit are on different graphs:\n"
                f"  {graph.describe()}\n  {known.graph.describe()}\n"
                "Build the problem with graph=published.graph to compare them."
            )
    return known


def _point(circuit: Circuit, known: Circuit, counting: NodeCounting) -> RecoveryPoint:
    graph, shared = known.graph, (circuit & known).n_edges
    edges = _confusion(shared, circuit.n_edges, known.n_edges, graph.n_edges)
    kept, published, every = (
        paper_nodes(c) if counting == "paper" else frozenset(node.name for node in c.nodes)
        for c in (circuit, known, Circuit.full(graph))
    )
    nodes = _confusion(len(kept & published), len(kept), len(published), len(every))
    return RecoveryPoint(circuit.n_edges, edges, nodes)


def _confusion(n_both: int, n_found: int, n_true: int, n_all: int) -> Confusion:
    return Confusion(n_both, n_found - n_both, n_true, n_all - n_true)


def paper_nodes(circuit: Circuit) -> frozenset[str]:
    """The names of the nodes that the paper's code counts as present.

    A head's are `a3.h7`, and `a3.h7.q:input` and `a3.h7.q:vector` for q, k and v.
    """
    names = set[str]()
    for edge in circuit.edges:
        if edge.is_switch:
            names |= {f"{edge.receiver.name}:input", f"{edge.receiver.name}:vector"}
            continue
        names.add(edge.sender.name)
        if edge.receiver.slot is not None:
            names.add(f"{edge.receiver.name}:input")
        elif edge.receiver.node.kind == "logits":
            names.add(edge.receiver.name)
    return frozenset(names)


def score_recovery(
    scores: EdgeScores | HasScores, published: Found | None, *, by: By = "absolute"
) -> ScoreRecovery:
    """ROC AUC and average precision of edge scores, or of a run's, against a known circuit.

    `by`: rank by absolute score, or by signed score. Raises `SettingError` when the graphs differ,
    or the circuit has no edges or all, `UnknownName`.

    >>> import edgewise as ew
    >>> task = ew.load_task("tracr-reverse")
    >>> score_recovery(ew.exact(task.problem), task.published).roc_auc
    1.0
    """
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve  # slow to import

    check_choice("ranking", by, get_args(By))
    ranked = scores_of(scores)
    known = _known(published, ranked.graph)
    exists, n_true, n_all = known.graph.exists, known.n_edges, known.graph.n_edges
    if n_true in (0, n_all):
        raise SettingError(
            f"the published circuit has {n_true} of {n_all} edges; an order of edges can only be "
            "evaluated if some belong to it and some do not."
        )
    truth, values = known.keep[exists].numpy(), ranked.values[exists]
    ranks = (values.abs() if by == "absolute" else values).numpy()
    fpr, tpr, _ = roc_curve(truth, ranks)
    return ScoreRecovery(
        method=ranked.method,
        by=by,
        n_true=n_true,
        n_false=n_all - n_true,
        roc_auc=float(roc_auc_score(truth, ranks)),
        average_precision=float(average_precision_score(truth, ranks)),
        fpr=tuple(fpr.tolist()),
        tpr=tuple(tpr.tolist()),
    )


def against_known(found: Found, published: Circuit | None, truth: Circuit | None) -> dict[str, Any]:
    """Measurements for a record: recovery of what is known of the circuit, on the same graph."""
    circuit, known = circuit_of(found), {"recovery": published, "recovery_of_truth": truth}
    same = {n: c for n, c in known.items() if c is not None and c.graph == circuit.graph}
    return {name: recovery(circuit, answer).to_json() for name, answer in same.items()}


def pessimistic_auc(points: Iterable[Any]) -> float:
    """The paper's area under (FPR, TPR) points, which credits nothing between two points.

    (0,0) and (1,1) are added; a point is dropped only if another has strictly lower FPR *and*
    strictly higher TPR; then the area is the sum of (1 - FPR_i)(TPR_i - TPR_{i-1}).

    >>> pessimistic_auc([(0.5, 0.5)])
    0.25
    """
    corners = [(0.0, 0.0), *((float(fpr), float(tpr)) for fpr, tpr in points), (1.0, 1.0)]
    for fpr, tpr in corners:
        if not (0 <= fpr <= 1 and 0 <= tpr <= 1):
            raise SettingError(f"({fpr}, {tpr}) is not a point of two rates between 0 and 1.")
    area, best = 0.0, 0.0
    for fpr, tpr in sorted(corners):  # a point below the best so far is a dropped one
        area += (1 - fpr) * max(tpr - best, 0.0)
        best = max(tpr, best)
    return area
