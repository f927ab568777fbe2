"""Compare circuits: overlap of edges and nodes, order of scores, groups, each on each problem.

The paper's question 4: how does the circuit change with the corrupted prompts, the metric, the
ablation, the sentences? Everything here holds for circuits from anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Protocol, runtime_checkable

from edgewise.arguments import check_choice
from edgewise.circuit import Circuit, EdgeScores, Found, circuit_of, coarsened, common_graph
from edgewise.errors import SettingError, unknown_name
from edgewise.evaluation.comparison import (
    Comparison,
    GroupPresence,
    KeptEffect,
    PairOverlap,
    Prompts,
)
from edgewise.evaluation.faithfulness import faithfulness
from edgewise.evaluation.inference import jaccard, spearman
from edgewise.graph import Graph
from edgewise.problem import Problem, check_is_problem
from edgewise.progress import OnProgress, counted, ignore_progress
from edgewise.work.identity import hashed, of_problem

_WEAK = 0.01  # of the largest effect in the same metric: shares of so little are noise


@runtime_checkable
class HasRecord(Protocol):
    """What a run knows beside its circuit."""

    circuit: Circuit
    scores: EdgeScores
    title: str
    settings: Mapping[str, Any]
    measurements: Mapping[str, Any]
    problem: Any


Problems = Mapping[str, Problem | None] | Sequence[Problem | None] | Problem


def compare(
    found: Sequence[Found] | Mapping[str, Found],
    *,
    names: Sequence[str] | None = None,
    problems: Problems | None = None,
    cross: bool = False,
    groups: Mapping[str, Sequence[str]] | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Comparison:
    """What circuits (or runs) share, and what only one of them sees.

    `names` default to the keys of a mapping, or to the runs' titles. `problems` are what circuits
    are evaluated on, best with held-out prompts: one each, in order or by name, or one for all;
    with `cross` every circuit is evaluated on every problem. Without `problems` runs say what they
    measured when they were found. `groups` names groups of nodes to look for, such as
    `edgewise.tasks.published_groups("ioi")`. Circuits of one model at different granularity are
    compared on what all of them tell apart: an edge there is kept if any edge inside it is.

    Costs a forward pass for each circuit and problem, and two for each problem. Raises
    `SettingError` for fewer than two circuits, names that do not fit and models of different shape,
    `UnknownName` for a group's node that the graph does not have.

    >>> import edgewise as ew
    >>> problem = ew.load_task("tracr-reverse").problem
    >>> runs = {str(t): ew.acdc(problem, threshold=t) for t in (0.01, 0.3)}
    >>> compare(runs)
    Comparison(2 circuits, 2 of 15 edges in all of them)
    """
    chosen = _named(found, names)
    circuits = {name: circuit_of(item, name) for name, item in chosen.items()}
    graph = common_graph([circuit.graph for circuit in circuits.values()])
    compared = {name: coarsened(circuit, graph) for name, circuit in circuits.items()}
    present = _groups(groups or {}, graph, compared)
    if problems is None:
        if cross:
            raise SettingError("cross needs a problem of every circuit; pass problems=.")
        effects = tuple(_measured(chosen))
    else:
        by_name = _by_name(problems, tuple(chosen))
        effects = tuple(_effects(chosen, by_name, cross, on_progress))
    return Comparison(
        graph=graph,
        circuits=circuits,
        compared=compared,
        pairs=tuple(_pair(*two, compared, chosen) for two in combinations(chosen, 2)),
        groups=present,
        effects=effects,
        notes=(*_notes(chosen, circuits, graph), *_empty_notes(circuits, effects)),
    )


# --- what was passed


def _named(
    found: Sequence[Found] | Mapping[str, Found], names: Sequence[str] | None
) -> dict[str, Found]:
    items = list(found.values() if isinstance(found, Mapping) else found)
    if isinstance(found, Mapping):
        if names is not None:
            raise SettingError("the circuits have names already, their keys; leave names= out.")
        names = [str(name) for name in found]
    elif names is None:
        names = _titles(items)
    if len(names) != len(items):
        raise SettingError(f"there are {len(names)} names for {len(items)} circuits.")
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise SettingError(f"two circuits have the name {twice[0]!r}; names tell them apart.")
    if len(items) < 2:
        raise SettingError(f"a comparison needs at least two circuits, found {len(items)}.")
    return dict(zip(names, items, strict=True))


def _titles(items: Sequence[Found]) -> list[str]:
    """Titles of runs; numbered where they are not different."""
    titles = [item.title if isinstance(item, HasRecord) else "circuit" for item in items]
    return [
        title if titles.count(title) == 1 else f"{title} {titles[: i + 1].count(title)}"
        for i, title in enumerate(titles)
    ]


def _by_name(problems: Problems, names: tuple[str, ...]) -> dict[str, Problem]:
    """The problem of each circuit that has one."""
    if isinstance(problems, Problem):
        return dict.fromkeys(names, problems)
    if not isinstance(problems, Mapping):
        if len(problems) != len(names):
            raise SettingError(
                f"there are {len(problems)} problems for {len(names)} circuits; pass one each "
                "(None where there is none), or one for all."
            )
        problems = dict(zip(names, problems, strict=True))
    for name, problem in problems.items():
        check_choice("circuit", name, names)
        if problem is not None:
            check_is_problem(problem, name)
    return {name: problem for name, problem in problems.items() if problem is not None}


def _groups(
    groups: Mapping[str, Sequence[str]], graph: Graph, compared: Mapping[str, Circuit]
) -> tuple[GroupPresence, ...]:
    names = [node.name for node in graph.nodes]
    touched = {name: {node.name for node in circuit.nodes} for name, circuit in compared.items()}
    for group, nodes in groups.items():
        for node in nodes:
            if node not in names:
                hint = f"The circuits are compared on {graph.describe()}."
                raise unknown_name(f"node (of group {group!r})", node, names, hint=hint)
    return tuple(
        GroupPresence(
            group,
            tuple(nodes),
            {name: tuple(n for n in nodes if n in has) for name, has in touched.items()},
        )
        for group, nodes in groups.items()
    )


# --- what to beware of


def _notes(
    chosen: Mapping[str, Found], circuits: Mapping[str, Circuit], graph: Graph
) -> Iterator[str]:
    if any(circuit.graph != graph for circuit in circuits.values()):
        yield (
            f"The circuits are of different granularity, so they are compared on what all tell "
            f"apart: {graph.describe()}. An edge there is kept if any edge inside it is."
        )
    runs = [item for item in chosen.values() if isinstance(item, HasRecord)]
    metrics = dict.fromkeys(run.problem.metric for run in runs if "threshold" in run.settings)
    if len(metrics) > 1:
        yield (
            f"Thresholds are in the unit of their metric ({', '.join(metrics)}), so these circuits "
            "differ in size for that reason too; a method with edges= gives circuits of one size."
        )


def _empty_notes(circuits: Mapping[str, Circuit], kept: Sequence[KeptEffect]) -> Iterator[str]:
    """What looks like a result, and is none: nothing kept, or hardly anything to keep."""
    empty = [name for name, circuit in circuits.items() if not circuit.n_edges]
    if empty:
        yield f"{_listed(empty)} kept no edge, so nothing is shared by all."
    changes = {e.owners: (e.metric, abs(e.full - e.empty)) for e in kept if e.is_own}
    for owners, (metric, change) in changes.items():
        largest = max(size for name, size in changes.values() if name == metric)
        if change < _WEAK * largest:
            yield (
                f"On the problem of {_listed(owners)} removing every edge changes {metric} by "
                f"{change:.2g}, elsewhere by up to {largest:.2g}: there is hardly an effect to "
                "keep, and shares of it mean little."
            )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


# --- two circuits, and circuits on problems


def _pair(
    first: str, second: str, compared: Mapping[str, Circuit], chosen: Mapping[str, Found]
) -> PairOverlap:
    a, b = compared[first], compared[second]
    scores = [
        item.scores for item in (chosen[first], chosen[second]) if isinstance(item, HasRecord)
    ]
    correlation = None
    if len(scores) == 2 and scores[0].graph == scores[1].graph:
        correlation = spearman(*(each.values[each.graph.exists] for each in scores))
    nodes, shared, union = (set(a.nodes), set(b.nodes)), (a & b).n_edges, (a | b).n_edges
    return PairOverlap(
        first=first,
        second=second,
        edge_jaccard=shared / union if union else 1.0,
        node_jaccard=jaccard(*nodes),
        shared_edges=shared,
        shared_nodes=len(nodes[0] & nodes[1]),
        rank_correlation=correlation,
    )


def _effects(
    chosen: Mapping[str, Found],
    problems: Mapping[str, Problem],
    cross: bool,
    on_progress: OnProgress,
) -> Iterator[KeptEffect]:
    """Every circuit on its own problem; with `cross` on all. Equal problems are one."""
    same: dict[str, list[str]] = {}
    for name, problem in problems.items():
        content = hashed({**of_problem(problem), "graph": None})  # circuits bring their own
        same.setdefault(content, []).append(name)
    for owners in map(tuple, same.values()):
        problem = problems[owners[0]].with_()  # what it computes here is freed behind it
        hashes = [
            item.problem.pairs_sha256
            for item in (chosen[owner] for owner in owners)
            if isinstance(item, HasRecord)
        ]
        seen: Prompts = "discovery" if problem.pairs.sha256 in hashes else "held-out"
        names = tuple(chosen) if cross else owners
        for name in counted(names, on_progress, f"circuits on {' = '.join(owners)}"):
            faith = faithfulness(problem, chosen[name]).to_json()
            yield _kept_effect(name, owners, seen if hashes else "given", faith)


def _measured(chosen: Mapping[str, Found]) -> Iterator[KeptEffect]:
    """What runs measured on their own prompts when they were found."""
    for name, item in chosen.items():
        faith = item.measurements.get("faithfulness") if isinstance(item, HasRecord) else None
        if faith is not None:
            yield _kept_effect(name, (name,), "discovery", faith)


def _kept_effect(
    name: str, owners: tuple[str, ...], prompts: Prompts, faith: Mapping[str, Any]
) -> KeptEffect:
    same = ("metric", "unit", "higher_is_better", "full", "empty", "normalized")
    values: dict[str, Any] = {key: faith[key] for key in same}
    return KeptEffect(
        circuit=name, owners=owners, prompts=prompts, value=faith["circuit"], **values
    )
