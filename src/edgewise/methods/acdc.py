"""Automatic Circuit DisCovery (Conmy et al. 2023, arXiv 2304.14997, Algorithm 1).

    1. Start from the full graph H and its loss F(H).
    2. Take receivers from the output backwards (steps.py).
    3. A receiver that nothing reads any more loses its edges without a test: they cannot matter.
    4. For each edge e into any other: if F(H \\ e) - F(H) < threshold, remove e for good.
    5. Optionally drop the nodes that no longer connect an input to the output.

F is the problem's loss: a metric where lower is better, its mean over all prompts. A removed edge
carries the problem's ablation. The paper prints Eq. 2 with the sign reversed; Eq. 1, its code and
this file agree. The original recomputes F(H) now and then; here the running loss is that of the
last removal, the same number because runs are deterministic. How edges are tested, many at once and
as exactly as each decision needs it, is the engine's business (engine/sequence.py, ladder.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgewise.circuit import Circuit
from edgewise.engine import (
    PlainEngine,
    ReceiverStep,
    SequentialEngine,
    SpeculativeEngine,
    Threshold,
)
from edgewise.errors import SettingError
from edgewise.methods.method_result import Decision, MethodResult
from edgewise.methods.run_journal import NO_JOURNAL, RunJournal
from edgewise.methods.settings import ACDCSettings
from edgewise.methods.steps import is_read, receiver_steps
from edgewise.methods.trace import Rule, Trace
from edgewise.problem import Problem
from edgewise.progress import OnProgress, ignore_progress


def acdc(
    problem: Problem,
    settings: ACDCSettings,
    *,
    on_progress: OnProgress = ignore_progress,
    journal: RunJournal = NO_JOURNAL,
) -> MethodResult:
    """The circuit that ACDC finds, with a decision for every edge tested.

    Scores are the deltas: how much removing the edge raised the loss when it was tested, 0 for
    edges removed without a test. Decisions that the journal already holds are not tested again.
    Raises `SettingError`, `MetricError`.
    """
    steps = receiver_steps(problem.graph, settings.head_order)
    return acdc_in_steps(problem, settings, steps, on_progress=on_progress, journal=journal)


def decide_edges(
    steps: Iterable[ReceiverStep],
    circuit: Circuit,
    *,
    engine: SequentialEngine,
    rule: Rule,
    trace: Trace,
) -> Circuit:
    """Algorithm 1: the circuit that remains once every edge is kept, or removed for good."""
    for step in steps:
        if not is_read(circuit, step):
            circuit = circuit.without(*step.edges)
            trace.skip(step.edges)
            continue
        trace.skip(step.edges[: step.untested])
        for test in engine.ablate_in_sequence(step, circuit, trace.known(step)):
            keep = rule.keeps(test)  # not delta < threshold
            engine.decide(keep=keep)
            trace.record(test, kept=keep)
        circuit = engine.turn.left()
    trace.finish()
    return circuit


def acdc_in_steps(
    problem: Problem,
    settings: ACDCSettings,
    steps: Iterable[ReceiverStep],
    *,
    on_progress: OnProgress = ignore_progress,
    journal: RunJournal = NO_JOURNAL,
    known: Sequence[Decision] | None = None,
) -> MethodResult:
    """ACDC in any order of steps; `known` are its first decisions, by default the journal's."""
    check_prune(problem, settings)
    graph, rule = problem.graph, Threshold(settings.threshold, settings.absolute)
    known = journal.decisions(graph) if known is None else known
    trace = Trace(graph, rule, known=known, journal=journal, on_progress=on_progress)
    engine: SequentialEngine
    if settings.engine == "plain":
        engine = PlainEngine(problem)
    else:
        estimates = settings.precision == "reduced"
        engine = SpeculativeEngine(problem, rule, estimates=estimates, verify=settings.verify)
    circuit = decide_edges(steps, Circuit.full(graph), engine=engine, rule=rule, trace=trace)
    return MethodResult(
        circuit=circuit.pruned() if settings.prune else circuit,
        scores=trace.scores("acdc", "rise of the loss when removed in sequence"),
        trace=tuple(trace.decisions),
        edge_tests=len(trace.decisions),
        edges_skipped=trace.skipped,
        variants=engine.variants,
        margin=rule.smallest_margin([decision.delta for decision in trace.decisions]),
    )


def check_prune(problem: Problem, settings: ACDCSettings) -> None:
    """Raise `SettingError` if pruning would change what the circuit answers."""
    if settings.prune and problem.ablation.kind != "corrupted":
        raise SettingError(
            "prune drops nodes that no input reaches. With a "
            f"{problem.ablation.kind!r} ablation such nodes still compute something from "
            "constant biases, so pruning would change the circuit's answers. Leave prune off."
        )
