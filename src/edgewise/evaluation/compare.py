"""Compare circuits: overlap of edges and nodes, order of scores, groups, each on each problem.

The paper's question 4: how does the circuit change with the corrupted prompts, the metric, the
ablation, the sentences? Everything here holds for circuits from anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Protocol, runtime_checkable

from edgewise.circuit import Circuit, EdgeScores, Found, circuit_of, coarsened, common_graph
from edgewise.errors import SettingError, unknown_name
from edgewise.evaluation.comparison import (
    Comparison,
    GroupPresence,
    KeptEffect,
    PairOverlap,
    Prompts,
    jaccard,
    spearman,
)
from edgewise.evaluation.faithfulness import faithfulness
from edgewise.graph import Graph
from edgewise.methods import OnProgress, Progress, ignore_progress
from edgewise.problem import Problem
from edgewise.work.identity import hashed, of_problem


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
        effects = [effect for name, item in chosen.items() for effect in _recorded(name, item)]
    else:
        by_name = _problems(problems, tuple(chosen))
        effects = list(_effects(chosen, circuits, by_name, cross, on_progress))
    scores = {n: item.scores for n, item in chosen.items() if isinstance(item, HasRecord)}
    return Comparison(
        graph=graph,
        circuits=circuits,
        compared=compared,
        pairs=tuple(_pair(*two, compared, scores) for two in combinations(chosen, 2)),
        groups=present,
        effects=tuple(effects),
        notes=(*_notes(chosen, circuits, graph), *_empty_notes(circuits, effects)),
    )


# --- what was passed


def _named(
    found: Sequence[Found] | Mapping[str, Found], names: Sequence[str] | None
) -> dict[str, Found]:
    if isinstance(found, Mapping):
        if names is not None:
            raise SettingError("the circuits have names already, their keys; leave names= out.")
        chosen = {str(name): item for name, item in found.items()}
    else:
        items = list(found)
        if names is None:
            names = _default_names(items)
        if len(names) != len(items):
            raise SettingError(f"there are {len(names)} names for {len(items)} circuits.")
        twice = [name for name, n in Counter(names).items() if n > 1]
        if twice:
            raise SettingError(f"two circuits have the name {twice[0]!r}; names tell them apart.")
        chosen = dict(zip(names, items, strict=True))
    if len(chosen) < 2:
        raise SettingError(f"a comparison needs at least two circuits, found {len(chosen)}.")
    return chosen


def _default_names(items: Sequence[Found]) -> list[str]:
    """Titles of runs; numbered where they are not different."""
    titles = [item.title if isinstance(item, HasRecord) else "circuit" for item in items]
    often, seen, names = Counter(titles), Counter[str](), []
    for title in titles:
        seen[title] += 1
        names.append(title if often[title] == 1 else f"{title} {seen[title]}")
    return names


def _problems(problems: Problems, names: tuple[str, ...]) -> dict[str, Problem]:
    if isinstance(problems, Problem):
        return dict.fromkeys(names, problems)
    if isinstance(problems, Mapping):
        for name in problems:
            if name not in names:
                raise unknown_name("circuit", name, names, hint="Problems go by these names.")
        by_name = dict(problems)
    else:
        if len(problems) != len(names):
            raise SettingError(
                f"there are {len(problems)} problems for {len(names)} circuits; pass one each "
                "(None where there is none), or one for all."
            )
        by_name = dict(zip(names, problems, strict=True))
    for name, problem in by_name.items():
        if problem is not None and not isinstance(problem, Problem):
            hint = " Pass task.test." if hasattr(problem, "problem") else ""
            raise SettingError(
                f"the problem of {name} is a {type(problem).__name__}, not a Problem.{hint}"
            )
    return {name: problem for name, problem in by_name.items() if problem is not None}


def _groups(
    groups: Mapping[str, Sequence[str]], graph: Graph, compared: Mapping[str, Circuit]
) -> tuple[GroupPresence, ...]:
    known = [node.name for node in graph.nodes]
    touched = {name: {node.name for node in circuit.nodes} for name, circuit in compared.items()}
    for group, nodes in groups.items():
        for node in nodes:
            if node not in known:
                hint = f"The circuits are compared on {graph.describe()}."
                raise unknown_name(f"node (of group {group!r})", node, known, hint=hint)
    return tuple(
        GroupPresence(
            group,
            tuple(nodes),
            {name: tuple(n for n in nodes if n in has) for name, has in touched.items()},
        )
        for group, nodes in groups.items()
    )


def _notes(
    chosen: Mapping[str, Found], circuits: Mapping[str, Circuit], graph: Graph
) -> Iterator[str]:
    if any(circuit.graph != graph for circuit in circuits.values()):
        yield (
            f"The circuits are of different granularity, so they are compared on what all tell "
            f"apart: {graph.describe()}. An edge there is kept if any edge inside it is."
        )
    records = [item for item in chosen.values() if isinstance(item, HasRecord)]
    metrics = dict.fromkeys(r.problem.metric for r in records if "threshold" in r.settings)
    if len(metrics) > 1:
        yield (
            f"Thresholds are in the unit of their metric ({', '.join(metrics)}), so these circuits "
            "differ in size for that reason too; a method with edges= gives circuits of one size."
        )


_WEAK = 0.01  # of the largest effect in the same metric: shares of so little are noise


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
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# --- two circuits


def _pair(
    first: str, second: str, compared: Mapping[str, Circuit], scores: Mapping[str, EdgeScores]
) -> PairOverlap:
    a, b = compared[first], compared[second]
    nodes = set(a.nodes), set(b.nodes)
    shared, together = int((a.keep & b.keep).sum()), int((a.keep | b.keep).sum())
    correlation = None
    if first in scores and second in scores and scores[first].graph == scores[second].graph:
        exists = scores[first].graph.exists
        correlation = spearman(scores[first].values[exists], scores[second].values[exists])
    return PairOverlap(
        first=first,
        second=second,
        edge_jaccard=shared / together if together else 1.0,
        node_jaccard=jaccard(*nodes),
        shared_edges=shared,
        shared_nodes=len(nodes[0] & nodes[1]),
        rank_correlation=correlation,
    )


# --- circuits on problems


def _effects(
    chosen: Mapping[str, Found],
    circuits: Mapping[str, Circuit],
    problems: Mapping[str, Problem],
    cross: bool,
    on_progress: OnProgress,
) -> Iterator[KeptEffect]:
    """Every circuit on its own problem; with `cross` on all. Problem by problem."""
    different = _different(problems)
    evaluated = [tuple(circuits) if cross else owners for _, owners in different]
    done, total = 0, sum(map(len, evaluated))
    for (problem, owners), names in zip(different, evaluated, strict=True):
        problem = problem.with_()  # what it computes for these circuits is freed behind them
        prompts = _prompts(problem, [chosen[owner] for owner in owners])
        for name in names:
            on_progress(Progress(done, total, f"{name} on {' = '.join(owners)}"))
            done += 1
            faith = faithfulness(problem, circuits[name]).to_json()
            yield _kept_effect(name, owners, prompts, faith)
    on_progress(Progress(done, total, ""))


def _different(problems: Mapping[str, Problem]) -> list[tuple[Problem, tuple[str, ...]]]:
    """Problems that are not the same, each with those whose own it is."""
    by_content: dict[str, tuple[Problem, list[str]]] = {}
    for name, problem in problems.items():
        content = hashed({**of_problem(problem), "graph": None})  # circuits bring their own
        by_content.setdefault(content, (problem, []))[1].append(name)
    return [(problem, tuple(owners)) for problem, owners in by_content.values()]


def _prompts(problem: Problem, owners: Sequence[Found]) -> Prompts:
    records = [owner for owner in owners if isinstance(owner, HasRecord)]
    if not records:
        return "given"
    seen = any(record.problem.pairs_sha256 == problem.pairs.sha256 for record in records)
    return "discovery" if seen else "held-out"


def _recorded(name: str, item: Found) -> list[KeptEffect]:
    """What a run measured on its own prompts when it was found."""
    faith = item.measurements.get("faithfulness") if isinstance(item, HasRecord) else None
    return [] if faith is None else [_kept_effect(name, (name,), "discovery", faith)]


def _kept_effect(
    name: str, owners: tuple[str, ...], prompts: Prompts, faith: Mapping[str, Any]
) -> KeptEffect:
    same = ("metric", "unit", "higher_is_better", "full", "empty", "normalized")
    return KeptEffect(
        circuit=name,
        owners=owners,
        prompts=prompts,
        value=faith["circuit"],
        **{key: faith[key] for key in same},
    )
