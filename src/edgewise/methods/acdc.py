"""Automatic Circuit DisCovery (Conmy et al. 2023, arXiv 2304.14997, Algorithm 1).

    1. Start from the full graph H and its loss F(H).
    2. Visit receivers from the output backwards (visits.py).
    3. For each edge e into the receiver: if F(H \\ e) - F(H) < threshold, remove e for good.
    4. A receiver that nothing reads any more loses its edges without a test: they cannot matter.
    5. Optionally drop the nodes that no longer connect an input to the output.

F is the problem's loss: a metric where lower is better, its mean over all prompts. A removed edge
carries the problem's ablation. The paper prints Eq. 2 with the sign reversed; Eq. 1, its code and
this file agree (spec section 2.5). Edges are tested incrementally unless `engine` is "plain"
(edge_tests.py, edgewise.engine); the decisions are the same. The original recomputes F(H) now and
then; here the running loss is that of the last accepted removal, the same number because runs are
deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgewise.circuit import Circuit
from edgewise.engine import estimated
from edgewise.errors import SettingError
from edgewise.methods.edge_tests import EdgeTests, IncrementalTests, PlainTests
from edgewise.methods.journal import NO_JOURNAL, Journal
from edgewise.methods.method_result import Decision, MethodResult
from edgewise.methods.search import Search, Visit
from edgewise.methods.settings import ACDCSettings
from edgewise.methods.visits import visits
from edgewise.problem import Problem
from edgewise.progress import OnProgress, Progress, ignore_progress


def acdc(
    problem: Problem,
    settings: ACDCSettings,
    on_progress: OnProgress = ignore_progress,
    journal: Journal = NO_JOURNAL,
) -> MethodResult:
    """The circuit that ACDC finds, with a decision for every edge tested.

    Scores are the deltas: how much removing the edge raised the loss when it was tested, 0 for
    edges removed without a test. Decisions that the journal already holds are not tested again.
    Raises `SettingError`, `MetricError`.
    """
    return run_search(problem, settings, None, on_progress, journal)


def run_search(
    problem: Problem,
    settings: ACDCSettings,
    plan: Sequence[Visit] | None,
    on_progress: OnProgress,
    journal: Journal,
) -> MethodResult:
    """ACDC with one threshold, in its own order or another."""
    search = searched(problem, settings, [settings.threshold], plan)

    def on_decision(decision: Decision) -> None:
        journal.append(decision)
        on_progress(Progress(search.done, problem.graph.n_edges, f"loss {search.loss:.4g}"))

    search.run(on_decision, journal.decisions(problem.graph))
    on_progress(Progress(problem.graph.n_edges, problem.graph.n_edges, f"loss {search.loss:.4g}"))
    return search.finding(settings.threshold, prune=settings.prune)


def acdc_thresholds(
    problem: Problem,
    each: Sequence[ACDCSettings],
    on_progress: OnProgress = ignore_progress,
) -> list[MethodResult]:
    """What ACDC finds with each of several thresholds; what they decide alike is done once.

    The settings differ in their threshold alone. A finding's `variants` are those of all
    thresholds together.
    """
    settings, thresholds = each[0], [own.threshold for own in each]
    waiting = [searched(problem, settings, thresholds)]
    total, found = problem.graph.n_edges * len(set(thresholds)), dict[float, MethodResult]()
    while waiting:
        search = waiting.pop()

        def on_decision(_: Decision, search: Search = search) -> None:
            done = len(found) * problem.graph.n_edges + search.done
            lowest = search.thresholds[0]
            on_progress(Progress(done, total, f"threshold {lowest:.3g}, loss {search.loss:.4g}"))

        search.run(on_decision)
        waiting += search.forks
        search.forks.clear()
        for threshold in search.thresholds:
            found[threshold] = search.finding(threshold, prune=settings.prune)
    on_progress(Progress(total, total, f"{len(found)} thresholds"))
    every = max(finding.variants for finding in found.values())  # the count is of all searches
    return [replace(found[threshold], variants=every) for threshold in thresholds]


def searched(
    problem: Problem,
    settings: ACDCSettings,
    thresholds: Sequence[float],
    plan: Sequence[Visit] | None = None,
) -> Search:
    """A search at its beginning; `plan` is another order than ACDC's own.

    Raises `SettingError`, `MetricError`.
    """
    check_prune(problem, settings)
    if settings.precision == "reduced" and problem.metric not in estimated():
        names = " and ".join(repr(metric.name) for metric in estimated())
        raise SettingError(
            f"precision 'reduced' knows the rounding of {names} only, not of "
            f"{problem.metric.name!r}. Use precision 'full'."
        )
    if settings.precision == "reduced" and problem.target is not None:
        raise SettingError(
            "precision 'reduced' knows the kl from the problem's own model only, and the problem "
            "has another target. Use precision 'full'."
        )
    graph = problem.graph
    tests: EdgeTests
    if settings.engine == "plain":
        tests = PlainTests(problem)
    else:
        tests = IncrementalTests(problem, settings)
    return Search(
        graph,
        [Visit(*visit) for visit in visits(graph, settings.head_order)] if plan is None else plan,
        thresholds,
        tests,
        problem.loss(Circuit.full(graph)),
        absolute=settings.absolute,
    )


def check_prune(problem: Problem, settings: ACDCSettings) -> None:
    """Raise `SettingError` if pruning would change what the circuit answers."""
    if settings.prune and problem.ablation.kind != "corrupted":
        raise SettingError(
            "prune drops nodes that no input reaches. With a "
            f"{problem.ablation.kind!r} ablation such nodes still compute something from "
            "constant biases, so pruning would change the circuit's answers. Leave prune off."
        )
