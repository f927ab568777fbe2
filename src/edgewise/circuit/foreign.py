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
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.arguments import whole
from edgewise.documents import Count, decoded, read_json, write_bytes, write_text
from edgewise.errors import EdgewiseError, FormatError, SettingError, shortened
from edgewise.graph import Graph, Node, Port

# The tensors of such a file by what each is of; the first three must be there.
_TENSORS = {
    "edges_scores": "edges",
    "edges_in_graph": "edges",
    "nodes_in_graph": "nodes",
    "nodes_scores": "nodes",
    "neurons_in_graph": "neurons",
    "neurons_scores": "neurons",
}
_NEEDED = ("cfg", "src_nodes", "dst_nodes", *list(_TENSORS)[:3])
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


class _GraphFile(TypedDict):
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
        for row, is_kept in enumerate(keep.any(dim=1).tolist()):
            if is_kept and n_kept[row] < d_model:
                self._refuse(
                    f"{self.graph.senders[row]} keeps {n_kept[row]} of its {d_model} neurons; an "
                    "edge here carries all of its sender, so keep or remove whole nodes"
                )

    def _check_nodes(self, keep: Bool[Tensor, "sender receiver"]) -> None:
        if self.nodes_in_graph is None:
            return
        reached = _reached(self.graph, keep)
        for row, node in enumerate(self.graph.senders):
            if not self.nodes_in_graph[row] and node in reached and keep[row].any():
                self._refuse(
                    f"{node} is not in the graph, but edges into and out of it are; say the same "
                    "of both"
                )

    def _refuse(self, reason: str) -> None:
        raise FormatError(f"{self.source}: {reason}.")


def opened(path: Path, what: str) -> Any:
    """What a file holds: a JSON document, or what torch.save wrote. Raises `FormatError`."""
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
    except (OSError, ValueError):
        is_zip = False
    return _unpacked(path) if is_zip else read_json(path, what)


def is_foreign(document: Any) -> bool:
    """Whether a document is such a graph."""
    return isinstance(document, Mapping) and "cfg" in document and not _NAMES.isdisjoint(document)


def foreign_graph(document: Any, source: str) -> ForeignGraph:
    """The graph of a document. Raises `FormatError`, naming `source` and the field."""
    complaint = f"{source}: not a complete EAP-IG graph file"
    if "edges" in document:
        tensors, graph = _from_json(decoded(_GraphFile, document, complaint), complaint)
    else:
        tensors, graph = _from_torch(document, complaint)
    return ForeignGraph(source, graph, **tensors)


def _from_json(document: _GraphFile, complaint: str) -> tuple[dict[str, Tensor], Graph]:
    graph, cfg, edges = _graph(document["cfg"], complaint), document["cfg"], document["edges"]
    try:
        graph.check_size(_MOST_PAIRS)
    except SettingError as reason:
        raise FormatError(f"{complaint}: {reason} A .pt file can be larger.") from reason
    rows, columns = ({name: i for i, name in enumerate(names)} for names in _names(graph))
    index, exists = [], graph.exists.numpy()
    for name in edges:
        sender, _, receiver = name.partition("->")
        row, column = rows.get(sender), columns.get(receiver)
        if row is None or column is None or not exists[row, column]:
            try:
                row, column = graph.index(name)  # another spelling, or the error that says why
            except EdgewiseError as reason:
                raise FormatError(f"{complaint}: {shortened(str(reason), 240)}") from reason
        index.append((row, column))
    scores, keep = torch.zeros(graph.exists.shape, dtype=torch.float64), graph.exists & False
    if index:
        at = tuple(torch.tensor(index).T)
        scores[at] = torch.tensor([edge.score for edge in edges.values()], dtype=torch.float64)
        keep[at] = torch.tensor([edge.in_graph for edge in edges.values()])
    tensors = {"edges_scores": scores, "edges_in_graph": keep}
    for name, node in document.get("nodes", {}).items():
        if name == "logits":
            continue
        if name not in rows:
            raise FormatError(f"{complaint}: nodes: {shortened(ascii(name), 80)} is no node of it.")
        for field, (key, blank) in _NODE_FIELDS.items():
            value: Any = node.get(field)
            if value is None:
                continue
            size = () if not isinstance(value, list) else (cfg.get("d_model", 0),)
            if size and len(value) != size[0]:
                raise FormatError(
                    f"{complaint}: nodes.{name}.{field} has {len(value)} values; d_model is "
                    f"{size[0]}."
                )
            kind = torch.bool if isinstance(blank, bool) else torch.float64
            whole = tensors.setdefault(key, torch.full((len(rows), *size), blank, dtype=kind))
            whole[rows[name]] = torch.tensor(value, dtype=kind)
    return tensors, graph


# Fields of a node in JSON: the tensor that each is a row of, and what rows without it hold.
_NODE_FIELDS: dict[str, tuple[str, bool | float]] = {
    "in_graph": ("nodes_in_graph", True),
    "score": ("nodes_scores", torch.nan),
    "neurons": ("neurons_in_graph", False),
    "neurons_scores": ("neurons_scores", torch.nan),
}
_NAMES = {"edges", "edges_scores"}  # one is in every such document


def _from_torch(document: Mapping[str, Any], complaint: str) -> tuple[dict[str, Tensor], Graph]:
    cfg = decoded(_Config, document["cfg"], f"{complaint}: cfg")
    graph = _graph(cfg, complaint)
    expected = _names(graph)
    for field, names in zip(("src_nodes", "dst_nodes"), expected, strict=True):
        theirs = document[field]
        if not isinstance(theirs, list):
            raise FormatError(f"{complaint}: {field} is no list.")
        if theirs and theirs != names:  # some writers leave them empty
            pairs = zip([*theirs, None], [*names, None], strict=False)
            at, (theirs, ours) = next((i, p) for i, p in enumerate(pairs) if p[0] != p[1])
            raise FormatError(
                f"{complaint}: {field}[{at}] is {shortened(ascii(theirs))}; by cfg it is {ours!r}."
            )
    n_senders = len(expected[0])
    shapes = {
        "edges": (n_senders, len(expected[1])),
        "nodes": (n_senders,),
        "neurons": (n_senders, cfg.get("d_model", 0)),
    }
    return {
        name: _tensor(document[name], shapes[axes], f"{complaint}: {name}")
        for name, axes in _TENSORS.items()
        if name in _NEEDED or document.get(name) is not None
    }, graph


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
    missing = [name for name in _NEEDED if name not in document]
    if missing:
        raise FormatError(f"{path}: not a complete EAP-IG graph file: it has no {missing[0]!r}.")
    return document


def _tensor(value: Any, shape: tuple[int, ...], where: str) -> Tensor:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        raise FormatError(f"{where} is no dense tensor.")
    if tuple(value.shape) != shape:
        raise FormatError(
            f"{where} has shape {shortened(str(tuple(value.shape)), 60)}, not {shape}."
        )
    if value.is_meta or value.is_complex():
        raise FormatError(f"{where} holds {value.dtype} on {value.device}.")
    if not where.endswith("in_graph"):
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


def _names(graph: Graph) -> tuple[list[str], list[str]]:
    """What they call our senders and receivers."""
    ports = [f"{p.node.name}<{p.slot}>" if p.slot else p.node.name for p in graph.receivers]
    return [node.name for node in graph.senders], ports


def _reached(graph: Graph, keep: Bool[Tensor, "sender receiver"]) -> set[Node]:
    """The nodes that an edge goes into."""
    kept = keep.any(dim=0).tolist()
    return {port.node for port, into in zip(graph.receivers, kept, strict=True) if into}


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
    nodes = keep.any(dim=1)
    reached = _reached(theirs, keep)
    for row, node in enumerate(theirs.senders):
        nodes[row] &= node.layer is None or node in reached
    senders, receivers = _names(theirs)
    if path.suffix == ".pt":
        file, document = io.BytesIO(), {"cfg": cfg, "src_nodes": senders, "dst_nodes": receivers}
        tensors = {"edges_scores": scores, "edges_in_graph": keep, "nodes_in_graph": nodes}
        torch.save(document | tensors, file)
        return write_bytes(file.getvalue(), path)
    edges = {
        f"{senders[row]}->{receivers[column]}": {
            "score": scores[row, column].item(),
            "in_graph": bool(keep[row, column]),
        }
        for column, row in theirs.exists.T.nonzero().tolist()
    }
    in_graph = zip([*senders, "logits"], [*nodes.tolist(), True], strict=True)
    by_node = {name: {"in_graph": is_kept} for name, is_kept in in_graph}
    return write_text(json.dumps({"cfg": cfg, "nodes": by_node, "edges": edges}) + "\n", path)


def _ungrouped(graph: Graph, theirs: Graph) -> list[int]:
    """For each of their receivers the column of ours that it reads through."""
    assert graph.kv_heads is not None  # or there is nothing to ungroup
    size, columns = graph.n_heads // graph.kv_heads, []
    for port in theirs.receivers:
        node = port.node
        if port.slot in ("k", "v") and node.head is not None:
            port = Port(replace(node, kind="kv", head=node.head // size), port.slot)
        columns.append(graph.column[port])
    return columns
