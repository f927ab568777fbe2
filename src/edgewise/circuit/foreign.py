"""Graph files of EAP-IG and MIB (hannamw/EAP-IG, src/eap/graph.py): JSON and .pt, both ways.

Their graphs have split q/k/v, single heads, one input and MLPs; under grouped-query attention every
query head has key and value ports of its own. Their rows are our senders and their columns our
receivers, in our order. A score that is NaN was not given. What they can say and we cannot is
refused by name: a node that keeps some of its neurons, an edge that does not exist.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.arguments import whole
from edgewise.documents import Count, decoded, write_bytes, write_text
from edgewise.errors import EdgewiseError, FormatError, SettingError, shortened
from edgewise.graph import Graph, Port

_TENSORS = ("edges_scores", "edges_in_graph", "nodes_in_graph")
_NODE_TENSORS = ("nodes_scores", "neurons_in_graph", "neurons_scores")
# In JSON, where a small file can name a large graph; Llama 3 8B has 3 million.
_MOST_PAIRS = 16_000_000


class _Config(TypedDict, total=False):
    n_layers: int
    n_heads: int
    parallel_attn_mlp: bool
    d_model: Count


class _Node(TypedDict, total=False):
    in_graph: bool
    score: float
    neurons: list[bool]
    neurons_scores: list[float]


@dataclass(frozen=True)
class _Edge:
    in_graph: bool
    score: float = 0.0  # what EAP-IG gives an edge that a file does not score


class _Document(TypedDict):
    cfg: _Config
    edges: dict[str, _Edge]
    nodes: NotRequired[dict[str, _Node]]


@dataclass(frozen=True, eq=False)
class ForeignGraph:
    """What such a file says; parts that it has not are None. `source` is for messages."""

    source: str
    graph: Graph
    edges_in_graph: Bool[Tensor, "sender receiver"]
    edges_scores: Float[Tensor, "sender receiver"]
    nodes_in_graph: Bool[Tensor, "sender"] | None = None
    nodes_scores: Float[Tensor, "sender"] | None = None
    neurons_in_graph: Bool[Tensor, "sender d_model"] | None = None
    neurons_scores: Float[Tensor, "sender d_model"] | None = None

    def kept(self) -> Bool[Tensor, "sender receiver"]:
        """The edges of its circuit. Raises `FormatError` if it has none, or not one of ours."""
        graph, keep = self.graph, self.edges_in_graph
        by_node = self.nodes_scores is not None or self.neurons_in_graph is not None
        if not by_node and (keep & ~graph.exists).any():
            row, column = (keep & ~graph.exists).nonzero()[0].tolist()
            self._refuse(
                f"{graph.senders[row]}->{graph.receivers[column]} is in the graph, an edge that "
                "does not exist"
            )
        keep = keep & graph.exists  # choosing nodes or neurons, EAP-IG switches on whole rows
        if not keep.any() and (self._scored() or self._scored_nodes() is not None):
            self._refuse(
                "it holds scores, and no edge is in its graph. Choose a circuit by them: "
                "edgewise.EdgeScores.load(FILE).top(200).save('circuit.json')"
            )
        self._check_neurons(keep)
        self._check_nodes(keep)
        return keep

    def scores(self) -> tuple[Float[Tensor, "sender receiver"], str]:
        """A finite score for every edge, and what it means. Raises `FormatError`."""
        graph, nodes = self.graph, self._scored_nodes()
        if not self._scored() and nodes is not None:
            out = graph.exists.sum(dim=1, keepdim=True)
            shared = (nodes[:, None] / out).expand(graph.exists.shape)
            return shared.where(graph.exists, 0.0), "a node's score, shared by the edges out of it"
        if not self._scored() and self.neurons_scores is not None:
            self._refuse("its scores are of single neurons; edges here carry all of their sender")
        unscored = self.edges_scores.isnan() & graph.exists
        if unscored.any():
            row, column = unscored.nonzero()[0].tolist()
            self._refuse(f"{graph.senders[row]}->{graph.receivers[column]} has no score (NaN)")
        return self.edges_scores.where(graph.exists, 0.0), "score in an EAP-IG file"

    def _scored(self) -> bool:
        there = self.graph.exists & ~self.edges_scores.isnan()
        return bool((self.edges_scores.where(there, 0.0) != 0).any())

    def _scored_nodes(self) -> Float[Tensor, "sender"] | None:
        """The scores of nodes, 0 for the input if it has none; None if no node has one."""
        scores = self.nodes_scores
        if scores is None or scores.isnan().all():
            return None
        for row, node in enumerate(self.graph.senders):
            if node.layer is not None and scores[row].isnan():
                self._refuse(f"{node} has no score (NaN), while other nodes have")
        return scores.nan_to_num(nan=0.0)

    def _check_neurons(self, keep: Bool[Tensor, "sender receiver"]) -> None:
        if self.neurons_in_graph is None:
            return
        d_model = self.neurons_in_graph.shape[1]
        n_kept = self.neurons_in_graph.sum(dim=1).tolist()
        for row, there in enumerate(keep.any(dim=1).tolist()):
            if there and n_kept[row] < d_model:
                self._refuse(
                    f"{self.graph.senders[row]} keeps {n_kept[row]} of its {d_model} neurons; an "
                    "edge here carries all of its sender, so keep or remove whole nodes"
                )

    def _check_nodes(self, keep: Bool[Tensor, "sender receiver"]) -> None:
        if self.nodes_in_graph is None:
            return
        reached = {port.node for port in self._ports(keep.any(dim=0))}
        for row, node in enumerate(self.graph.senders):
            if not self.nodes_in_graph[row] and node in reached and keep[row].any():
                self._refuse(
                    f"{node} is not in the graph, but edges into and out of it are; say the same "
                    "of both"
                )

    def _ports(self, columns: Bool[Tensor, "receiver"]) -> list[Port]:
        return [p for p, there in zip(self.graph.receivers, columns.tolist(), strict=True) if there]

    def _refuse(self, reason: str) -> None:
        raise FormatError(f"{self.source}: {reason}.")


def is_foreign(document: Any) -> bool:
    """Whether a JSON document is such a graph."""
    return isinstance(document, Mapping) and "cfg" in document and "edges" in document


def is_torch_file(path: Path) -> bool:
    """Whether a file is what torch.save writes: a zip archive."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except (OSError, ValueError):
        return False


def from_json(document: Any, source: str) -> ForeignGraph:
    """The graph of a JSON document. Raises `FormatError`, naming `source` and the field."""
    complaint = f"{source}: not a complete EAP-IG graph file"
    found = decoded(_Document, document, complaint)
    graph = _graph(found["cfg"], complaint)
    try:
        graph.check_size(_MOST_PAIRS)
    except SettingError as reason:
        raise FormatError(f"{complaint}: {reason} A .pt file can be larger.") from reason
    rows = {node.name: row for row, node in enumerate(graph.senders)}
    columns = {_port_name(port): column for column, port in enumerate(graph.receivers)}
    index, exists = [], graph.exists.numpy()
    for name in found["edges"]:
        sender, _, receiver = name.partition("->")
        row, column = rows.get(sender), columns.get(receiver)
        if row is None or column is None or not exists[row, column]:
            try:
                row, column = graph.index(name)  # another spelling, or the error that says why
            except EdgewiseError as reason:
                raise FormatError(f"{source}: {shortened(str(reason), 240)}") from reason
        index.append((row, column))
    scores, keep = torch.zeros(graph.exists.shape, dtype=torch.float64), graph.exists & False
    if index:
        at = tuple(torch.tensor(index).T)
        scores[at] = torch.tensor([e.score for e in found["edges"].values()], dtype=torch.float64)
        keep[at] = torch.tensor([e.in_graph for e in found["edges"].values()])
    nodes, d_model = found.get("nodes", {}), found["cfg"].get("d_model", 0)
    return ForeignGraph(source, graph, keep, scores, **_of_nodes(nodes, rows, d_model, complaint))


def _of_nodes(
    nodes: Mapping[str, _Node], rows: Mapping[str, int], d_model: int, complaint: str
) -> dict[str, Tensor]:
    """The tensors of nodes and neurons that a JSON document has, by field of `ForeignGraph`."""
    n, result = len(rows), dict[str, Tensor]()
    for name, node in nodes.items():
        if name == "logits":
            continue
        if name not in rows:
            raise FormatError(f"{complaint}: nodes: {shortened(ascii(name), 80)} is no node of it.")
        row = rows[name]
        if "in_graph" in node:
            mask = result.setdefault("nodes_in_graph", torch.ones(n, dtype=torch.bool))
            mask[row] = node["in_graph"]
        if "score" in node:
            blank = torch.full((n,), torch.nan, dtype=torch.float64)
            result.setdefault("nodes_scores", blank)[row] = node["score"]
        for field, blank_value in (("neurons", False), ("neurons_scores", torch.nan)):
            values: Sequence[Any] | None = node.get(field)  # type: ignore[assignment]
            if values is None:
                continue
            if len(values) != d_model:
                raise FormatError(
                    f"{complaint}: nodes.{name}.{field} has {len(values)} values; d_model is "
                    f"{d_model}."
                )
            kind = torch.bool if field == "neurons" else torch.float64
            key = "neurons_in_graph" if field == "neurons" else field
            if key not in result:
                result[key] = torch.full((n, d_model), blank_value, dtype=kind)
            result[key][row] = torch.tensor(values, dtype=kind)
    return result


def from_torch(path: Path) -> ForeignGraph:
    """The graph of a .pt file, read without running code in it. Raises `FormatError`."""
    complaint = f"{path}: not a complete EAP-IG graph file"
    document = _unpacked(path)
    missing = [k for k in ("cfg", "src_nodes", "dst_nodes", *_TENSORS) if k not in document]
    if missing:
        raise FormatError(f"{complaint}: it has no {missing[0]!r}.")
    cfg = decoded(_Config, document["cfg"], f"{complaint}: cfg")
    graph = _graph(cfg, complaint)
    names = {
        "src_nodes": [node.name for node in graph.senders],
        "dst_nodes": [_port_name(port) for port in graph.receivers],
    }
    for field, expected in names.items():
        found = document[field]
        if not isinstance(found, list):
            raise FormatError(f"{complaint}: {field} is no list.")
        if found and found != expected:  # some writers leave them empty
            pairs = zip([*found, None], [*expected, None], strict=False)
            at, (one, other) = next((i, p) for i, p in enumerate(pairs) if p[0] != p[1])
            raise FormatError(
                f"{complaint}: {field}[{at}] is {shortened(ascii(one))}; by cfg it is {other!r}."
            )
    edges = len(names["src_nodes"]), len(names["dst_nodes"])
    shapes = {"edges_scores": edges, "edges_in_graph": edges}
    neurons = edges[0], cfg.get("d_model", 0)
    shapes |= {"neurons_in_graph": neurons, "neurons_scores": neurons}
    optional = [name for name in _NODE_TENSORS if document.get(name) is not None]
    tensors = {
        name: _tensor(document[name], shapes.get(name, edges[:1]), f"{complaint}: {name}",
                      mask=name.endswith("in_graph"))
        for name in (*_TENSORS, *optional)
    }  # fmt: skip
    return ForeignGraph(str(path), graph, **tensors)


def _unpacked(path: Path) -> dict[str, Any]:
    """What torch.save wrote: containers and tensors. Raises `FormatError`."""
    complaint = f"{path}: not an EAP-IG graph file"
    try:
        with zipfile.ZipFile(path) as archive:
            # torch stores its records as they are: nothing may grow when it is read.
            if sum(record.file_size for record in archive.infolist()) > path.stat().st_size:
                raise FormatError(f"{complaint}: its records are larger than the file.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what torch then fails to read
            document = torch.load(path, map_location="cpu", weights_only=True)
    except FormatError:
        raise
    except Exception as reason:  # torch has many ways to say that a file is broken
        first = next(iter(str(reason).splitlines()), type(reason).__name__)
        raise FormatError(f"{complaint}: {shortened(first, 160)}") from reason
    if not isinstance(document, dict):
        raise FormatError(f"{complaint}: it holds a {type(document).__name__}, not a dict.")
    return document


def _tensor(value: Any, shape: tuple[int, ...], where: str, *, mask: bool) -> Tensor:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        raise FormatError(f"{where} is no dense tensor.")
    if tuple(value.shape) != shape:
        raise FormatError(
            f"{where} has shape {shortened(str(tuple(value.shape)), 60)}, not {shape}."
        )
    if value.is_meta or value.is_complex():
        raise FormatError(f"{where} holds {value.dtype} on {value.device}.")
    if not mask:
        return value.detach().double()
    if value.dtype != torch.bool and not ((value == 0) | (value == 1)).all():
        raise FormatError(f"{where} holds other values than true and false.")
    return value.detach().bool()


def _graph(cfg: _Config, complaint: str) -> Graph:
    if "n_layers" not in cfg or "n_heads" not in cfg:
        raise FormatError(f"{complaint}: cfg needs n_layers and n_heads.")
    fields = {"n_layers": cfg["n_layers"], "n_heads": cfg["n_heads"]}
    fields["parallel"] = cfg.get("parallel_attn_mlp", False)
    return Graph.from_json(fields, source=f"{complaint}: cfg")


def _port_name(port: Port) -> str:
    return port.node.name if port.slot is None else f"{port.node.name}<{port.slot}>"


def write(
    path: Path,
    graph: Graph,
    *,
    keep: Bool[Tensor, "sender receiver"] | None,
    scores: Float[Tensor, "sender receiver"] | None,
    d_model: int,
) -> Path:
    """Write a circuit, scores or both for EAP-IG: .pt or .json, by the path's ending.

    Without scores every edge of the circuit scores 1. Raises `SettingError` for graphs that EAP-IG
    has not, and `OutputError`.
    """
    if path.suffix not in (".pt", ".json"):
        raise SettingError(f"EAP-IG reads .json and .pt files, and {path} is to be neither.")
    d_model = whole("d_model", d_model, 1)
    theirs = replace(graph, kv_heads=None, mixed_heads=False)
    if theirs != Graph(graph.n_layers, graph.n_heads, parallel=graph.parallel):
        raise SettingError(
            "EAP-IG's graphs have split q/k/v, heads as nodes, MLPs and one input, without spans "
            f"and switches; this one has {graph.describe()}."
        )
    if graph.kv_heads is not None:
        if scores is not None:
            raise SettingError(
                "EAP-IG scores the keys and values of every head apart; find these scores again "
                "with ungroup_heads=True."
            )
        keep = keep[:, _ungrouped(graph, theirs)] if keep is not None else None
    keep = torch.zeros_like(theirs.exists) if keep is None else keep
    scores = keep.float() if scores is None else scores.float()
    cfg = {
        "n_layers": graph.n_layers,
        "n_heads": graph.n_heads,
        "parallel_attn_mlp": graph.parallel,
        "d_model": d_model,
    }
    reached = {
        p.node for p, any_in in zip(theirs.receivers, keep.any(dim=0), strict=True) if any_in
    }
    nodes = [
        bool(keep[row].any()) and (node.layer is None or node in reached)
        for row, node in enumerate(theirs.senders)
    ]
    if path.suffix == ".pt":
        document = {
            "cfg": cfg,
            "src_nodes": [node.name for node in theirs.senders],
            "dst_nodes": [_port_name(port) for port in theirs.receivers],
            "edges_scores": scores,
            "edges_in_graph": keep,
            "nodes_in_graph": torch.tensor(nodes),
        }
        file = io.BytesIO()
        torch.save(document, file)
        return write_bytes(file.getvalue(), path)
    names = [node.name for node in theirs.senders]
    ports = [_port_name(port) for port in theirs.receivers]
    edges = {
        f"{names[row]}->{ports[column]}": {
            "score": scores[row, column].item(),
            "in_graph": bool(keep[row, column]),
        }
        for column, row in theirs.exists.T.nonzero().tolist()
    }
    in_graph = {name: {"in_graph": there} for name, there in zip(names, nodes, strict=True)}
    in_graph["logits"] = {"in_graph": True}
    return write_text(json.dumps({"cfg": cfg, "nodes": in_graph, "edges": edges}) + "\n", path)


def _ungrouped(graph: Graph, theirs: Graph) -> list[int]:
    """For each of their receivers the column of ours that it reads through."""
    assert graph.kv_heads is not None  # or there is nothing to ungroup
    size, columns = graph.n_heads // graph.kv_heads, []
    for port in theirs.receivers:
        node = port.node
        if port.slot in ("k", "v") and node.head is not None:
            port = Port(replace(node, kind="kv", head=node.head // size), port.slot)
        columns.append(graph.column(port))
    return columns
