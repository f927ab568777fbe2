"""Circuit files: our JSON, with a format number, and the graph files of EAP-IG and MIB."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import torch
from jaxtyping import Bool
from torch import Tensor

from edgewise.circuit import foreign
from edgewise.documents import decoded, imported, read_json
from edgewise.errors import EdgewiseError, FormatError, shortened
from edgewise.graph import Graph

FORMAT = "edgewise-circuit"
VERSION = 1


class _Document(TypedDict):
    graph: dict[str, Any]
    edges: list[str]


def to_json(graph: Graph, names: list[str]) -> dict[str, Any]:
    """The document of a circuit."""
    return {"format": FORMAT, "version": VERSION, "graph": graph.to_json(), "edges": names}


def from_json(document: Any, source: str) -> tuple[Graph, Bool[Tensor, "sender receiver"]]:
    """The graph and the kept edges of our document, or of EAP-IG's. Raises `FormatError`."""
    if foreign.is_foreign(document):
        return _kept(foreign.from_json(document, source))
    document = imported(document, source, FORMAT, VERSION)
    complaint = f"{source}: not a complete circuit file"
    found = decoded(_Document, document, complaint)
    graph = Graph.from_json(found["graph"], source=f"{complaint}: graph")
    keep = torch.zeros_like(graph.exists)
    try:
        for name in found["edges"]:
            keep[graph.index(name)] = True
    except EdgewiseError as reason:
        raise FormatError(f"{source}: {shortened(str(reason), 240)}") from reason
    return graph, keep


def load(path: Path) -> tuple[Graph, Bool[Tensor, "sender receiver"]]:
    """The graph and the kept edges of a file. Raises `FormatError`."""
    if foreign.is_torch_file(path):
        return _kept(foreign.from_torch(path))
    return from_json(read_json(path, "circuit"), str(path))


def _kept(found: foreign.ForeignGraph) -> tuple[Graph, Bool[Tensor, "sender receiver"]]:
    return found.graph, found.kept()
