"""The groups that nodes are labelled with: given, kept with the run, or published for its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgewise.errors import FormatError, SettingError, unknown_name
from edgewise.graph import Node
from edgewise.run import Run
from edgewise.tasks import groups_on

Given = Mapping[str, Sequence[str]]  # name of a group -> names of its nodes

_COLOURS = 8  # in style.css; more groups begin again


@dataclass(frozen=True)
class NodeGroups:
    """Which group each node is in, and who says so."""

    members: Mapping[str, Sequence[str]]
    source: str = ""
    heads: Sequence[Mapping[str, Any]] = ()  # what roles were decided by, if they were measured

    def of(self, node: Node) -> str | None:
        """The group of a node, None if it is in none."""
        names = {node.name, node.part}  # a node is in a group at one span, or at all
        return next((name for name, nodes in self.members.items() if names & set(nodes)), None)

    def colour(self, name: str) -> str:
        """The class of a group's colour."""
        return f"g{list(self.members).index(name) % _COLOURS + 1}"


def groups_of(run: Run, given: Given | None = None) -> NodeGroups:
    """The groups that have a node in a run's circuit."""
    task = str(run.request.get("task") or "")
    labels: Mapping[str, Any]
    if given is not None:
        labels = {"groups": given, "source": "Groups as given."}
    else:
        published = groups_on(task, run.problem.model, run.circuit.graph)
        labels = run.measurements.get("groups") or published or {"groups": {}}
    names = {name for node in run.circuit.nodes for name in (node.name, node.part)}
    members = {
        name: [node for node in nodes if node in names] for name, nodes in labels["groups"].items()
    }
    heads = [head for head in labels.get("heads", ()) if head["head"] in names]
    shown = {name: nodes for name, nodes in members.items() if nodes}
    return NodeGroups(shown, str(labels.get("source", "")), heads)


def checked(groups: Any, runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """Groups that somebody gave, every node of them a node of some run's graph, in one group.

    Raises `FormatError`, `UnknownName`, `SettingError`.
    """
    if not isinstance(groups, Mapping):
        raise FormatError(
            f"groups are a {type(groups).__name__}; they must map names to lists of nodes, as in "
            '{"name mover": ["a9.h9", "a9.h6"]}.'
        )
    drawn = {node for run in runs for node in run.circuit.graph.nodes}
    known = {name for node in drawn for name in (node.name, node.part)}
    named: dict[str, str] = {}
    result = {}
    for group, nodes in groups.items():
        listed = isinstance(nodes, list | tuple)
        if not listed or not all(isinstance(node, str) for node in nodes):
            raise FormatError(f"group {group!r} is {nodes!r:.60}; it must be a list of node names.")
        canonical = tuple(Node.parse(node).name for node in nodes)
        for node in canonical:
            if node not in known:
                raise unknown_name(f"node (of group {group!r})", node, known)
            if named.setdefault(node, group) != group:
                raise SettingError(f"{node} is in two groups, {named[node]!r} and {group!r}.")
        result[str(group)] = canonical
    return result
