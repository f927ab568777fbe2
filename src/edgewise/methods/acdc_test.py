"""ACDC that decides by sequential tests over prompts (after Conmy et al. 2023, arXiv 2304.14997).

    1. Put the prompts into a random order, and looks at 16, 32, 64, … of them.
    2. Start from the full graph H; take receivers and edges in ACDC's order (steps.py).
    3. For an edge e: on the prompts of the first look, each prompt's rise of the loss when e is
       removed, F_i(H \\ e) - F_i(H), is one value. Test whether their mean is above the threshold,
       or below (sequential.py). If neither is shown, look at more prompts; an edge that all prompts
       leave undecided is removed, or kept, as the settings say.
    4. Remove e for good unless it is kept. A receiver that nothing reads loses its edges untested.

What is promised: with prompts drawn independently, an edge whose true mean rise is at most the
threshold is *shown to be above* with probability at most `error_rate`, and one at or above it is
*shown to be below* with at most that, each given the circuit at its turn; with `control="circuit"`
that holds for all edges together. So with `undecided="remove"` an edge is kept in error with at
most the error rate (how many that matter are lost is a question of power), with "keep" one is
removed in error with at most that. What is not promised: the circuit at an edge's turn was chosen
on the same prompts, so the decisions depend on each other, as ACDC's do; and Student's test, the
default, takes a mean over prompts to be about normal.

Rises within rounding of zero (64 epsilons of the model's dtype) count as zero: the rounding of a
metric at its minimum, such as kl, only ever rises, and would be shown to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.engine import (
    EdgeTest,
    Loss,
    ReceiverStep,
    Removals,
    SequentialEngine,
    SpeculativeBatch,
)
from edgewise.errors import SettingError
from edgewise.methods.acdc import decide_edges
from edgewise.methods.method_result import Decision, MethodResult
from edgewise.methods.sequential import Betting, StagedT, looks, verdict_of
from edgewise.methods.session import QUIET, Session
from edgewise.methods.settings import TestedACDCSettings
from edgewise.methods.steps import receiver_steps
from edgewise.methods.trace import Trace
from edgewise.problem import Problem

_MOST_AHEAD = 32  # removals evaluated at once, in the hope that all before them are removed


def acdc_test(
    problem: Problem,
    settings: TestedACDCSettings,
    session: Session = QUIET,
    *,
    steps: Iterable[ReceiverStep] | None = None,
) -> MethodResult:
    """The circuit of the edges that tests keep, with the evidence for every decision.

    Scores are the mean rises of the loss over the prompts looked at. `steps` may be another order
    than ACDC's. Raises `SettingError` for fewer than two prompts, `MetricError`.
    """
    if len(problem.pairs) < 2:
        raise SettingError(
            "acdc-test compares prompts with each other and needs at least 2, found "
            f"{len(problem.pairs)}. Use acdc, or more prompts."
        )
    graph = problem.graph
    rate = settings.error_rate / (graph.n_edges if settings.control == "circuit" else 1)
    verdicts = ("above", "undecided") if settings.undecided == "keep" else ("above",)

    def keeps(test: EdgeTest) -> bool:
        evidence = test.evidence
        if evidence is None:
            return False
        return verdict_of(evidence.p_above, evidence.p_below, rate) in verdicts

    engine = _TestingEngine(problem, settings, rate)
    trace = Trace(graph, keeps, session)
    steps = receiver_steps(graph, settings.head_order) if steps is None else steps
    circuit = decide_edges(steps, engine, trace)
    meaning = "mean rise of the loss when removed in sequence"
    result = trace.result(circuit, method="acdc-test", meaning=meaning, variants=engine.variants)
    return replace(result, notes=(_note(result.trace, settings, len(problem.pairs)),))


class _TestingEngine(SequentialEngine):
    """Tests each edge on the prompts of one look after the other, until they decide."""

    def __init__(self, problem: Problem, settings: TestedACDCSettings, error_rate: float) -> None:
        sizes = looks(len(problem.pairs), settings.first)
        generator = torch.Generator().manual_seed(settings.seed)
        order = torch.randperm(len(problem.pairs), generator=generator).tolist()
        ablation = problem.ablation.over(problem.pairs)
        self._looks = [  # at the prompts that each adds
            _Look(problem.with_(pairs=problem.pairs.taken(order[start:stop]), ablation=ablation))
            for start, stop in zip((0, *sizes), sizes, strict=False)
        ]
        self._noise = 64 * torch.finfo(problem.model.compute_dtype).eps
        self._test: StagedT | Betting = StagedT(sizes, settings.threshold, error_rate)
        if settings.bound is not None:
            self._test = Betting(settings.bound, settings.threshold, error_rate)

    @property
    def variants(self) -> int:
        return sum(look.removals.variants for look in self._looks)

    def _tests(self) -> Iterator[EdgeTest]:
        step = self.turn.step
        for look in self._looks:
            look.start(step, self.turn.circuit)
        for index in range(self.turn.next, len(step.edges)):
            yield self._tested(index)
        for look in self._looks:
            look.removals.remove(step, self.turn.removed)

    def _tested(self, index: int) -> EdgeTest:
        edge = self.turn.step.edges[index]
        removed = self.turn.removed
        rises = np.empty(0)
        losses = np.empty((2, 0))
        for look in self._looks:
            before = look.before(removed)
            without = look.without(index, removed)
            rise = without - before
            rise = torch.where(rise.abs() <= self._noise * before.abs().clamp(min=1), 0.0, rise)
            rises = np.concatenate([rises, rise.numpy()])
            losses = np.concatenate([losses, torch.stack([before, without]).numpy()], axis=1)
            try:
                evidence = self._test.evidence(rises)
            except SettingError as reason:
                raise SettingError(f"{edge.name}: {reason}") from reason
            if evidence.verdict != "undecided":
                break
        test = EdgeTest.of((edge,), *(Loss(float(row.mean())) for row in losses))
        return replace(test, delta=float(rises.mean()), evidence=evidence)


class _Look:
    """Losses on the prompts that one look adds, for removals into the receiver at hand.

    States are named by the candidates removed. One that is needed is evaluated together with those
    that follow if every next candidate is removed too: most are.
    """

    def __init__(self, problem: Problem) -> None:
        self.removals = Removals(problem)

    def start(self, step: ReceiverStep, circuit: Circuit) -> None:
        """Begin with a receiver's candidates."""
        self._step = step
        self._ahead = _MOST_AHEAD
        self._losses: dict[tuple[int, ...], Float[Tensor, "batch"]] = {}
        self.removals.start(step, circuit)

    def before(self, removed: tuple[int, ...]) -> Float[Tensor, "batch"]:
        """Each prompt's loss without these candidates."""
        if removed not in self._losses:
            if removed:
                (loss,) = self.removals.per_prompt(self._step, SpeculativeBatch.of(removed))
            else:
                loss = self.removals.per_prompt_now()
            self._losses[removed] = loss
        return self._losses[removed]

    def without(self, index: int, removed: tuple[int, ...]) -> Float[Tensor, "batch"]:
        """Each prompt's loss when this candidate is removed as well."""
        if (*removed, index) not in self._losses:
            n = min(self._ahead, self.removals.most_at_once(self._step))
            n = min(n, len(self._step.edges) - index)
            self._ahead = max(4, self._ahead // 2)  # needed again: what was ahead was in vain
            batch = SpeculativeBatch(removed, index, (True,) * n)
            for i, loss in enumerate(self.removals.per_prompt(self._step, batch)):
                self._losses[(*removed, *range(index, index + i + 1))] = loss
        return self._losses[(*removed, index)]


def _note(trace: tuple[Decision, ...], settings: TestedACDCSettings, n_prompts: int) -> str:
    """What the tests showed."""
    shown = [d.evidence for d in trace if d.evidence]
    counts = {v: sum(e.verdict == v for e in shown) for v in ("above", "below", "undecided")}
    mean = sum(e.n_prompts for e in shown) / max(1, len(shown))
    whose = "each edge" if settings.control == "edge" else "all edges together"
    becomes = "kept" if settings.undecided == "keep" else "removed"
    return (
        f"Tests at error rate {settings.error_rate:g} for {whose}: {counts['above']} edges "
        f"shown to be above {settings.threshold:g}, {counts['below']} below, "
        f"{counts['undecided']} undecided and {becomes}; {mean:.0f} of {n_prompts} "
        f"prompts looked at for an edge on average (seed {settings.seed})."
    )
