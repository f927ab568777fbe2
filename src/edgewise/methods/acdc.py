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
from dataclasses import replace
from itertools import takewhile

from edgewise.circuit import Circuit
from edgewise.engine import (
    PlainEngine,
    ReceiverStep,
    SequentialEngine,
    SpeculativeEngine,
    Threshold,
)
from edgewise.methods.method_result import Decision, MethodResult
from edgewise.methods.session import QUIET, Session
from edgewise.methods.settings import ACDCSettings
from edgewise.methods.steps import is_read, receiver_steps
from edgewise.methods.trace import Trace
from edgewise.problem import Problem


def acdc(
    problem: Problem,
    settings: ACDCSettings,
    session: Session = QUIET,
    *,
    steps: Iterable[ReceiverStep] | None = None,
    known: Sequence[Decision] | None = None,
) -> MethodResult:
    """The circuit that ACDC finds, with a decision for every edge tested.

    Scores are the deltas: how much removing the edge raised the loss when it was tested, 0 for
    edges removed without a test. `steps` may be another order than the paper's. The decisions
    `known`, by default those that the session has kept, are not tested again. Raises
    `SettingError`, `MetricError`.
    """
    settings.check_ablation(problem.ablation.kind)
    graph = problem.graph
    rule = Threshold(settings.threshold, settings.absolute)
    trace = Trace(graph, rule.keeps, session, known=known)
    engine: SequentialEngine
    if settings.engine == "plain":
        engine = PlainEngine(problem)
    else:
        estimates = settings.precision == "reduced"
        engine = SpeculativeEngine(problem, rule, estimates=estimates, verify=settings.verify)
    steps = receiver_steps(graph, settings.head_order) if steps is None else steps
    circuit = decide_edges(steps, engine, trace)
    circuit = circuit.pruned() if settings.prune else circuit
    meaning = "rise of the loss when removed in sequence"
    result = trace.result(circuit, method="acdc", meaning=meaning, variants=engine.variants)
    margin = rule.smallest_margin([decision.delta for decision in trace.decisions])
    return replace(result, margin=margin)


def decide_edges(steps: Iterable[ReceiverStep], engine: SequentialEngine, trace: Trace) -> Circuit:
    """Algorithm 1: the circuit that remains once every edge is kept, or removed for good."""
    circuit = Circuit.full(trace.graph)
    for step in steps:
        if not is_read(circuit, step):
            circuit = circuit.without(*step.edges)
            trace.skip(step.edges)
            continue
        trace.skip(step.edges[: step.untested])
        for test in engine.ablate_in_sequence(step, circuit, trace.known(step)):
            keep = trace.keeps(test)  # not delta < threshold
            engine.decide(keep=keep)
            trace.record(test, kept=keep)
        circuit = engine.turn.left()
    trace.finish()
    return circuit


def acdc_thresholds(
    problem: Problem, choices: Sequence[ACDCSettings], session: Session = QUIET
) -> list[MethodResult]:
    """What ACDC finds with each of several thresholds, the only setting that differs.

    From the lowest, each begins with the decisions of the one below, as far as both decide alike.
    The results' `variants` are those of all thresholds together.
    """
    by_threshold = {settings.threshold: settings for settings in choices}
    results: dict[float, MethodResult] = {}
    neighbour: tuple[Decision, ...] = ()
    for number, (threshold, settings) in enumerate(sorted(by_threshold.items())):
        rule = Threshold(threshold, settings.absolute)

        def agrees(decision: Decision, rule: Threshold = rule) -> bool:
            is_sure = not rule.is_open(decision.delta, decision.bound)
            return is_sure and decision.kept != rule.removes(decision.delta)

        part = session.part(number, len(by_threshold), f"threshold {threshold:.3g}")
        alike = tuple(takewhile(agrees, neighbour))
        results[threshold] = acdc(problem, settings, part, known=alike)
        neighbour = results[threshold].trace
    variants = sum(result.variants for result in results.values())
    return [replace(results[settings.threshold], variants=variants) for settings in choices]
