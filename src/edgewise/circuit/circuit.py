"""A circuit: the edges of a graph that are kept. Immutable; every method returns a new object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, runtime_checkable

import networkx as nx
import torch
from jaxtyping import Bool
from torch import Tensor

from edgewise.circuit import foreign
from edgewise.documents import decoded, imported, write_json
from edgewise.errors import EdgewiseError, FormatError, SettingError, shortened, unknown_name
from edgewise.graph import Edge, Graph, HasShape, Node

if TYPE_CHECKING:
    import pandas as pd

    from edgewise.circuit.scores import EdgeScores

_FORMAT = "edgewise-circuit"


class _CircuitFile(TypedDict):
    graph: dict[str, Any]
    edges: list[str]


@dataclass(frozen=True, eq=False)
class Circuit:
    """The edges of `graph` that are kept: `keep[sender, receiver]`, False where no edge exists.

    >>> circuit = Circuit.full(Graph.build(1, 2)).without("a0.h1->m0")
    >>> circuit.n_edges
    12
    """

    graph: Graph
    keep: Bool[Tensor, "sender receiver"]

    def __post_init__(self) -> None:
        keep, exists = self.keep.detach().cpu(), self.graph.exists
        if keep.shape != exists.shape or keep.dtype != torch.bool:
            raise SettingError(
                f"keep is {keep.dtype} of shape {tuple(keep.shape)}; the graph needs torch.bool of "
                f"{tuple(exists.shape)}."
            )
        if (keep & ~exists).any():
            row, column = (keep & ~exists).nonzero()[0].tolist()
            sender, receiver = self.graph.senders[row], self.graph.receivers[column]
            raise SettingError(f"keep marks {sender}->{receiver}, an edge that does not exist.")
        # A private copy: the caller may go on writing to the mask it passed.
        object.__setattr__(self, "keep", keep.clone())

    # --- making circuits

    @classmethod
    def full(cls, graph: Graph) -> Circuit:
        """Every edge kept."""
        return cls(graph, graph.exists)

    @classmethod
    def empty(cls, graph: Graph) -> Circuit:
        """No edge kept."""
        return cls(graph, torch.zeros_like(graph.exists))

    @classmethod
    def of(cls, graph: Graph, edges: Iterable[Edge | str]) -> Circuit:
        """The circuit of the edges named. Raises `UnknownName` for one that does not exist."""
        if not isinstance(graph, Graph):
            raise SettingError(f"graph is a {type(graph).__name__}: Circuit.of(graph, edges).")
        if isinstance(edges, str):
            raise SettingError(f"edges is one name, {edges!r:.80}; pass a list of edges.")
        keep = torch.zeros_like(graph.exists)
        keep[graph.entries(edges)] = True
        return cls(graph, keep)

    @classmethod
    def of_nodes(cls, graph: Graph, nodes: Iterable[Node | str]) -> Circuit:
        """Every edge between these nodes, the embeddings and the output. Raises `UnknownName`.

        In a graph with spans a node named without one is that node at every span.

        >>> Circuit.of_nodes(Graph.build(2, 2), ["m0"]).n_edges  # input->m0, m0->logits, around it
        3
        """
        inside = {node for node in graph.nodes if node.layer is None}
        for node in nodes:
            node = Node.parse(node) if isinstance(node, str) else node
            inside.update((node,) if node.span else graph.at_spans(node))
        for stranger in inside.difference(graph.nodes):
            names = [node.name for node in graph.nodes]
            hint = f"This graph has {graph.describe()}."
            raise unknown_name("node", stranger.name, names, hint=hint)
        rows = torch.tensor([node in inside for node in graph.senders])
        columns = torch.tensor(
            [not inside.isdisjoint((p.node, *graph.group(p.node))) for p in graph.receivers]
        )
        return cls(graph, graph.exists & rows[:, None] & columns[None, :])

    # --- looking

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """The kept edges in canonical order."""
        return self.graph.edges_of(self.keep)

    @property
    def n_edges(self) -> int:
        """How many edges are kept, switches included."""
        return int(torch.count_nonzero(self.keep))  # a sum would make every byte eight

    @property
    def weighted_edge_count(self) -> float:
        """How many edges between single heads' q, k, v inputs, MLPs and one input these stand for.

        What circuits of different granularity are compared by: the full circuit of a model counts
        the same at each. An edge of whole layers or of joined ports counts every edge inside it,
        one of split embeddings half of `input`'s, one into a key/value head one for each of its
        heads, one of n spans an nth, a switch nothing.

        >>> whole_layers = Graph.build(12, 12, split_heads=False, split_qkv=False)
        >>> Circuit.full(whole_layers).weighted_edge_count  # as many as with heads apart
        32491.0
        """
        graph = self.graph
        heads, slots = (1 if graph.split_heads else graph.n_heads), (1 if graph.split_qkv else 3)
        out = {"attention": heads, "tok_embed": 0.5, "pos_embed": 0.5}
        into = {"head": slots, "attention": heads * slots}
        into["kv"] = graph.n_heads // (graph.kv_heads or graph.n_heads)
        rows = torch.tensor([float(out.get(node.kind, 1)) for node in graph.senders])
        columns = torch.tensor([into.get(port.node.kind, 1) for port in graph.receivers])
        counted = (self.keep & ~graph.is_switch).double() / len(graph.spans or "1")
        return float((counted * rows[:, None] * columns[None, :]).sum())

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that a kept edge touches, in canonical order."""
        # Not by way of `edges`: a large graph has millions of them.
        rows, columns = self.keep.any(dim=1).tolist(), self.keep.any(dim=0).tolist()
        touched: set[Node] = set(compress(self.graph.senders, rows))
        touched |= {port.node for port in compress(self.graph.receivers, columns)}
        return tuple(node for node in self.graph.nodes if node in touched)

    @property
    def id(self) -> str:
        """The same for equal circuits on every machine: 12 hex digits of a content hash."""
        content = [self.graph.to_json(), [edge.name for edge in self.edges]]
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def __len__(self) -> int:
        """How many edges are kept."""
        return self.n_edges

    def __iter__(self) -> Iterator[Edge]:
        """The kept edges in canonical order."""
        return iter(self.edges)

    def __contains__(self, edge: Edge | str) -> bool:
        return bool(self.keep[self.graph.index(edge)])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Circuit):
            return NotImplemented
        return self.graph == other.graph and torch.equal(self.keep, other.keep)

    def __hash__(self) -> int:
        return hash((self.graph, self.keep.numpy().tobytes()))

    def __repr__(self) -> str:
        return f"Circuit({self.n_edges} of {self.graph.n_edges} edges, {len(self.nodes)} nodes)"

    # --- new circuits from old

    def without(self, *edges: Edge | str) -> Circuit:
        """This circuit with these edges removed."""
        keep = self.keep.clone()
        keep[self.graph.entries(edges)] = False
        return Circuit(self.graph, keep)

    def __and__(self, other: Found) -> Circuit:
        return Circuit(self.graph, self.keep & self._mask_of(other, "&"))

    def __or__(self, other: Found) -> Circuit:
        return Circuit(self.graph, self.keep | self._mask_of(other, "|"))

    def __sub__(self, other: Found) -> Circuit:
        return Circuit(self.graph, self.keep & ~self._mask_of(other, "-"))

    def _mask_of(self, other: Found, sign: str) -> Bool[Tensor, "sender receiver"]:
        other = circuit_of(other, f"what is after {sign}")
        if self.graph != other.graph:
            raise SettingError(
                f"circuit {sign} circuit needs one graph, but they have\n"
                f"  {self.graph.describe()}\n  {other.graph.describe()}"
            )
        return other.keep

    def complement(self) -> Circuit:
        """The edges of the graph that this circuit does not keep."""
        return Circuit(self.graph, self.graph.exists & ~self.keep)

    def for_model(self, model: HasShape) -> Circuit:
        """This circuit on a model whose heads share a norm, which files of others do not know of.

        For any other model the same circuit.
        """
        mixed = model.config.mixes_heads and self.graph.split_heads
        return Circuit(replace(self.graph, mixed_heads=mixed), self.keep)

    def pruned(self) -> Circuit:
        """Without the edges that lie on no path from an embedding to the logits.

        With a corrupted-prompt ablation this changes no logit: a node that no live input reaches
        emits its ablation value. With a zero or mean ablation such a node still computes something
        from the constant biases, so pruning there is a change of circuit.
        """
        graph, additive = self.graph, self.keep & ~self.graph.is_switch
        active = torch.tensor([node.layer is None for node in graph.senders])
        is_open = self._is_open()
        for column, port in enumerate(graph.receivers):  # in the order they are computed
            if is_open[column] and (additive[:, column] & active).any():
                active[graph.rows_fed[port]] = True
        keep = self.without_unread().keep & active[:, None]
        # A port reached by no live edge passes on nothing, so its switch goes too.
        is_fed = (keep & ~graph.is_switch).any(dim=0)
        return Circuit(graph, keep & (is_fed[None, :] | ~graph.is_switch))

    def without_unread(self) -> Circuit:
        """Without the edges that do not lead on to the logits. Changes no logit, ever.

        What such an edge feeds is read by nothing that gets through to the output. Nodes that no
        live input reaches stay: with a zero or mean ablation they still compute something.
        """
        graph, is_open = self.graph, self._is_open()
        keep, is_read = torch.zeros_like(self.keep), torch.zeros(len(graph.senders)).bool()
        for column in reversed(range(len(graph.receivers))):
            port = graph.receivers[column]
            used = port.node.kind == "logits" or is_read[graph.rows_fed[port]].any()
            if is_open[column] and used:
                keep[:, column] = self.keep[:, column]
                is_read |= keep[:, column]
        return Circuit(graph, keep)

    def _is_open(self) -> Bool[Tensor, "receiver"]:
        """Whether what a port reads gets through to its node: its switch, if any, is kept."""
        return (self.keep | ~self.graph.is_switch).all(dim=0)

    # --- files and other forms

    def to_json(self) -> dict[str, Any]:
        """A JSON document with a format number, the graph and the kept edges by name."""
        names = [edge.name for edge in self.edges]
        return {"format": _FORMAT, "version": 1, "graph": self.graph.to_json(), "edges": names}

    @classmethod
    def from_json(cls, document: Any, *, source: str = "circuit") -> Circuit:
        """The circuit of `to_json`, or of an EAP-IG/MIB graph file. Raises `FormatError`."""
        if foreign.is_foreign(document):
            theirs = foreign.foreign_graph(document, source)
            return cls(theirs.graph, theirs.kept())
        document = imported(document, source, kind=_FORMAT, version=1)
        complaint = f"{source}: not a complete circuit file"
        file = decoded(_CircuitFile, document, complaint)
        graph = Graph.from_json(file["graph"], source=f"{complaint}: graph")
        try:
            return cls.of(graph, file["edges"])
        except EdgewiseError as reason:
            raise FormatError(f"{source}: {shortened(str(reason), 240)}") from reason

    def save(self, path: str | Path) -> Path:
        """Write the circuit as JSON, all of it or nothing. Raises `OutputError`."""
        return write_json(self.to_json(), Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Circuit:
        """Read a circuit from our JSON, or from a graph of EAP-IG or MIB (.json, .pt).

        Their edges are as in the file; scores are read by `EdgeScores.load`. Raises `FormatError`.
        """
        return cls.from_json(foreign.opened(Path(path), "circuit"), source=str(path))

    def save_for_eap_ig(
        self, path: str | Path, *, d_model: int, scores: EdgeScores | None = None
    ) -> Path:
        """Write the circuit, with scores or without, as EAP-IG and MIB read it (.json or .pt).

        `d_model` is the model's width, which their files hold. Raises `SettingError` for a graph
        that EAP-IG has not, `OutputError`.
        """
        if scores is not None and scores.graph != self.graph:
            raise SettingError("these scores are of another graph than the circuit.")
        values = None if scores is None else scores.values
        return foreign.write(Path(path), self.graph, keep=self.keep, scores=values, d_model=d_model)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each kept edge, in canonical order: edge, sender, receiver and slot by name.

        Needs pandas. The slot is 'q', 'k', 'v' or ''.
        """
        import pandas as pd

        rows = [(e.name, e.sender.name, e.receiver.name, e.receiver.slot or "") for e in self]
        return pd.DataFrame(rows, columns=["edge", "sender", "receiver", "slot"])

    def to_networkx(self) -> nx.MultiDiGraph:
        """Nodes by name; one edge per kept edge, keyed by its slot ('q', 'k', 'v' or '').

        Kept switches are listed in the node attribute `switches`, so that the graph has no loops.
        """
        result = nx.MultiDiGraph(graph=self.graph.to_json())
        for node in self.nodes:
            facts = {"kind": node.kind, "layer": node.layer, "head": node.head}
            result.add_node(node.name, **facts, switches=[])
        for edge in self.edges:
            sender, slot = edge.sender.name, edge.receiver.slot or ""
            if edge.is_switch:
                result.nodes[sender]["switches"].append(slot)
            else:
                result.add_edge(sender, edge.receiver.node.name, key=slot, name=edge.name)
        return result


@runtime_checkable
class HasCircuit(Protocol):
    """A run, and whatever else holds a circuit."""

    @property
    def circuit(self) -> Circuit: ...


Found = Circuit | HasCircuit


def circuit_of(source: object, what: str = "the circuit") -> Circuit:
    """The circuit itself, or a run's. Raises `SettingError` for anything else."""
    circuit = source if isinstance(source, Circuit) else getattr(source, "circuit", None)
    if not isinstance(circuit, Circuit):
        raise SettingError(f"{what} is a {type(source).__name__}; pass a Circuit, or a Run.")
    return circuit
