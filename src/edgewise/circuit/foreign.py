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
from itertools import compress, zip_longest
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.arguments import whole
from edgewise.documents import Count, decoded, read_json, write_bytes, write_text
from edgewise.errors import EdgewiseError, FormatError, SettingError, shortened
from edgewise.graph import Graph, Node

# In JSON, where a small file can name a large graph; Llama 3 8B has 3 million.
_MOST_PAIRS = 16_000_000
# Fields of a node in JSON, and the tensor that each is a row of.
_NODE_FIELDS = {
    "in_graph": "nodes_in_graph",
    "score": "nodes_scores",
    "neurons": "neurons_in_graph",
    "neurons_scores": "neurons_scores",
}
# What rows hold of which a JSON file says nothing.
_BLANK = {"nodes_in_graph": True, "neurons_in_graph": False}


class _Config(TypedDict):
    n_layers: int
    n_heads: int
    parallel_attn_mlp: NotRequired[bool]
    d_model: NotRequired[Count]


class _Node(TypedDict, total=False):
    in_graph: bool
    score: float
    neurons: list[bool]
    neurons_scores: list[float]


class _Edge(TypedDict):
    in_graph: bool
    score: NotRequired[float]  # 0 for EAP-IG where a file does not say


class _JsonFile(TypedDict):
    cfg: _Config
    edges: dict[str, _Edge]
    nodes: NotRequired[dict[str, _Node]]


class _TorchFile(TypedDict):
    cfg: _Config
    src_nodes: list[str]
    dst_nodes: list[str]
    edges_scores: Any
    edges_in_graph: Any
    nodes_in_graph: Any
    nodes_scores: NotRequired[Any]
    neurons_in_graph: NotRequired[Any]
    neurons_scores: NotRequired[Any]


@dataclass(frozen=True, eq=False)
class ForeignGraph:
    """What such a file says: tensors by their names in .pt files. `source` is for messages."""

    source: str
    graph: Graph
    tensors: Mapping[str, Tensor]

    def kept(self) -> Bool[Tensor, "sender receiver"]:
        """The edges of its circuit. Raises `FormatError` if it has none, or not one of ours."""
        graph, neurons = self.graph, self.tensors.get("neurons_in_graph")
        keep = self.tensors["edges_in_graph"]
        if "nodes_scores" not in self.tensors and neurons is None:
            self._refuse_first(keep & ~graph.exists, "is in the graph, an edge that does not exist")
        keep = keep & graph.exists  # choosing nodes or neurons, EAP-IG switches on whole rows
        if not keep.any() and (self._scored() or self._scored_nodes() is not None):
            self._refuse(
                "it holds scores, and no edge is in its graph. Choose a circuit by them: "
                "edgewise.EdgeScores.load(FILE).top(200).save('circuit.json')"
            )
        reached, nodes = _reached(graph, keep), self.tensors.get("nodes_in_graph")
        for row in keep.any(dim=1).nonzero().flatten().tolist():
            node = graph.senders[row]
            if neurons is not None and not neurons[row].all():
                self._refuse(
                    f"{node} keeps {int(neurons[row].sum())} of its {len(neurons[row])} neurons; "
                    "an edge here carries all of its sender, so keep or remove whole nodes"
                )
            if nodes is not None and not nodes[row] and node in reached:
                self._refuse(
                    f"{node} is not in the graph, but edges into and out of it are; say the same "
                    "of both"
                )
        return keep

    def scores(self) -> tuple[Float[Tensor, "sender receiver"], str]:
        """A finite score for every edge, and what it means. Raises `FormatError`."""
        exists, nodes = self.graph.exists, self._scored_nodes()
        values, meaning = self.tensors["edges_scores"], "score in an EAP-IG file"
        if not self._scored() and nodes is not None:
            values = (nodes / exists.sum(dim=1))[:, None].expand(exists.shape)
            meaning = "a node's score, shared by the edges out of it"
        elif not self._scored() and "neurons_scores" in self.tensors:
            self._refuse("its scores are of single neurons; edges here carry all of their sender")
        self._refuse_first(~values.isfinite() & exists, "has no finite score")
        return values.where(exists, 0.0), meaning

    def _scored(self) -> bool:
        values = self.tensors["edges_scores"].nan_to_num(nan=0.0)
        return bool((values.where(self.graph.exists, 0.0) != 0).any())

    def _scored_nodes(self) -> Float[Tensor, "sender"] | None:
        """The scores of nodes, 0 for the input if it has none; None if no node has one."""
        scores = self.tensors.get("nodes_scores")
        if scores is None or scores.isnan().all():
            return None
        is_input = torch.tensor([node.layer is None for node in self.graph.senders])
        return scores.where(~(scores.isnan() & is_input), 0.0)

    def _refuse_first(self, mask: Bool[Tensor, "sender receiver"], reason: str) -> None:
        for row, column in mask.nonzero()[:1].tolist():
            edge = f"{self.graph.senders[row]}->{self.graph.receivers[column]}"
            self._refuse(f"{edge} {reason}")

    def _refuse(self, reason: str) -> None:
        raise FormatError(f"{self.source}: {reason}.")


def is_foreign(document: Any) -> bool:
    """Whether a document is such a graph."""
    names = {"edges", "edges_scores"}  # one is in every such document
    return isinstance(document, Mapping) and "cfg" in document and not names.isdisjoint(document)


def opened(path: Path, what: str) -> Any:
    """What a file holds: a JSON document, or what torch.save wrote. Raises `FormatError`."""
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
    except (OSError, ValueError):
        is_zip = False
    return _unpacked(path) if is_zip else read_json(path, what)


def _unpacked(path: Path) -> Any:
    """What torch.save wrote: containers and tensors. Raises `FormatError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            # torch stores its records as they are: nothing may grow when it is read.
            if sum(record.file_size for record in archive.infolist()) > path.stat().st_size:
                raise ValueError("its records are larger than the file.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what torch then fails to read
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as reason:  # torch has many ways to say that a file is broken
        first = next(iter(str(reason).splitlines()), type(reason).__name__)
        raise FormatError(f"{path}: not an EAP-IG graph file: {shortened(first, 160)}") from reason


def foreign_graph(document: Any, source: str) -> ForeignGraph:
    """The graph of a document. Raises `FormatError`, naming `source` and the field."""
    if not is_foreign(document):
        raise FormatError(f"{source}: not a graph file of EAP-IG or MIB: it has no 'cfg'.")
    complaint = f"{source}: not a complete EAP-IG graph file"
    if "edges" in document:
        return ForeignGraph(source, *_from_json(document, complaint))
    return ForeignGraph(source, *_from_torch(document, complaint))


def _from_json(document: Any, complaint: str) -> tuple[Graph, dict[str, Tensor]]:
    file = decoded(_JsonFile, document, complaint)
    cfg, edges = file["cfg"], file["edges"]
    graph = _graph(cfg, complaint, most_pairs=_MOST_PAIRS)
    tensors = {"edges_scores": graph.exists.double() * 0, "edges_in_graph": graph.exists & False}
    try:
        entries = graph.entries(edges)
    except EdgewiseError as reason:
        raise FormatError(f"{complaint}: {shortened(str(reason), 240)}") from reason
    for key, field in (("edges_scores", "score"), ("edges_in_graph", "in_graph")):
        values = [edge.get(field, 0.0) for edge in edges.values()]
        tensors[key][entries] = torch.tensor(values, dtype=tensors[key].dtype)
    rows, d_model = {node.name: row for node, row in graph.row.items()}, cfg.get("d_model", 0)
    for name, node in file.get("nodes", {}).items():
        if name == "logits":
            continue
        if name not in rows:
            raise FormatError(f"{complaint}: nodes: {shortened(ascii(name), 80)} is no node of it.")
        for field, value in node.items():
            key = _NODE_FIELDS[field]
            size = (d_model,) if key.startswith("neurons") else ()
            numbers = torch.tensor(value, dtype=torch.float64)
            row = _tensor(numbers, size, f"{complaint}: nodes.{name}: {key}")
            blank = torch.full((len(rows), *size), _BLANK.get(key, torch.nan), dtype=row.dtype)
            tensors.setdefault(key, blank)[rows[name]] = row
    return graph, tensors


def _from_torch(document: Any, complaint: str) -> tuple[Graph, dict[str, Tensor]]:
    file = decoded(_TorchFile, document, complaint)
    graph = _graph(file["cfg"], complaint)
    senders, receivers = _names(graph)
    for field, ours in (("src_nodes", senders), ("dst_nodes", receivers)):
        for i, (theirs, name) in enumerate(zip_longest(document[field] or ours, ours)):
            if theirs != name:
                theirs = shortened(ascii(theirs))
                raise FormatError(f"{complaint}: {field}[{i}] is {theirs}; by cfg it is {name!r}.")
    shapes = {
        "edges": (len(senders), len(receivers)),
        "nodes": (len(senders),),
        "neurons": (len(senders), file["cfg"].get("d_model", 0)),
    }
    return graph, {
        key: _tensor(value, shapes[key.partition("_")[0]], f"{complaint}: {key}")
        for key, value in file.items()
        if key.startswith(tuple(shapes)) and (value is not None or key.startswith("edges"))
    }


def _tensor(value: Any, shape: tuple[int, ...], where: str) -> Tensor:
    dense = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized
    if not dense or value.is_meta or value.is_complex():
        raise FormatError(f"{where} is no dense tensor of numbers.")
    if tuple(value.shape) != shape:
        found = shortened(str(tuple(value.shape)), 60)
        raise FormatError(f"{where} has shape {found}, not {shape}.")
    if not where.endswith("in_graph"):
        return value.detach().double()
    if value.dtype != torch.bool and not ((value == 0) | (value == 1)).all():
        raise FormatError(f"{where} holds other values than true and false.")
    return value.detach().bool()


def _graph(cfg: _Config, complaint: str, **bound: int) -> Graph:
    parallel = cfg.get("parallel_attn_mlp", False)
    fields = {"n_layers": cfg["n_layers"], "n_heads": cfg["n_heads"], "parallel": parallel}
    return Graph.from_json(fields, source=f"{complaint}: cfg", **bound)


def _names(graph: Graph) -> tuple[list[str], list[str]]:
    """What they call our senders and receivers."""
    ports = [f"{p.node.name}<{p.slot}>" if p.slot else p.node.name for p in graph.receivers]
    return [node.name for node in graph.senders], ports


def _reached(graph: Graph, keep: Bool[Tensor, "sender receiver"]) -> set[Node]:
    """The nodes that an edge goes into."""
    return {port.node for port in compress(graph.receivers, keep.any(dim=0).tolist())}


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
    theirs = replace(graph, kv_heads=None, mixed_heads=False)
    if theirs != Graph(graph.n_layers, graph.n_heads, parallel=graph.parallel):
        raise SettingError(
            "EAP-IG's graphs have split q/k/v, heads as nodes, MLPs and one input, without spans "
            f"and switches; this one has {graph.describe()}."
        )
    if graph.kv_heads is not None and scores is not None:
        raise SettingError(
            "EAP-IG scores the keys and values of every head apart; find these scores again with "
            "ungroup_heads=True."
        )
    columns = [graph.column[graph.port_around(port)] for port in theirs.receivers]
    keep = torch.zeros_like(theirs.exists) if keep is None else keep[:, columns]
    scores = (keep if scores is None else scores).float()
    cfg = {"n_layers": graph.n_layers, "n_heads": graph.n_heads}
    cfg |= {"parallel_attn_mlp": graph.parallel, "d_model": whole("d_model", d_model, 1)}
    inside = {node for node in theirs.senders if node.layer is None} | _reached(theirs, keep)
    nodes = keep.any(dim=1) & torch.tensor([node in inside for node in theirs.senders])
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
