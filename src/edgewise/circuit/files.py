"""Circuit files: our JSON (with a format number) and the EAP-IG/MIB graph JSON, read only."""

from __future__ import annotations

from typing import Any

from edgewise.errors import EdgewiseError, FormatError
from edgewise.graph import Graph
from edgewise.storage import check_format

FORMAT = "edgewise-circuit"
VERSION = 1


def to_json(graph: Graph, names: list[str]) -> dict[str, Any]:
    """The document of a circuit."""
    return {"format": FORMAT, "version": VERSION, "graph": graph.to_json(), "edges": names}


def from_json(document: Any, source: str) -> tuple[Graph, list[str]]:
    """The graph and the kept edges' names in a document. Raises `FormatError`, naming `source`."""
    if isinstance(document, dict) and "cfg" in document and "edges" in document:
        return _from_eap_ig(document, source)
    check_format(document, source, FORMAT, VERSION)
    try:
        graph = Graph.from_json(document["graph"])
        names = document["edges"]
    except (KeyError, TypeError, EdgewiseError) as reason:
        raise FormatError(f"{source}: not a complete circuit file: {reason}") from reason
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FormatError(f"{source}: not a complete circuit file: 'edges' is not a list of names")
    return graph, names


def _from_eap_ig(document: dict[str, Any], source: str) -> tuple[Graph, list[str]]:
    """EAP-IG's graphs are always split q/k/v, whole embeddings, with MLPs."""
    try:
        cfg = document["cfg"]
        graph = Graph(
            n_layers=int(cfg["n_layers"]),
            n_heads=int(cfg["n_heads"]),
            parallel=bool(cfg.get("parallel_attn_mlp", False)),
        )
        names = [name for name, edge in document["edges"].items() if edge["in_graph"]]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as reason:
        raise FormatError(f"{source}: not a complete EAP-IG graph file: {reason!r}") from reason
    return graph, names
