"""ACDC that decides by sequential tests over prompts (after Conmy et al. 2023, arXiv 2304.14997).

    1. Put the prompts into a random order, and looks at 16, 32, 64, … of them.
    2. Start from the full graph H; visit receivers and edges in ACDC's order (visits.py).
    3. For an edge e: on the prompts of the first look, each prompt's rise of the loss when e goes,
       F_i(H \\ e) - F_i(H), is one value. Test whether their mean is above the threshold, or below
       (sequential.py). If neither is shown, look at more prompts; an edge that all prompts leave
       undecided is removed, or kept, as the settings say.
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

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.engine import Path, Removals
from edgewise.errors import FormatError, SettingError
from edgewise.graph import Edge, Port
from edgewise.methods.journal import NO_JOURNAL, Journal
from edgewise.methods.method_result import Decision, Evidence, MethodResult
from edgewise.methods.search import Visit
from edgewise.methods.sequential import Betting, StagedT, looks, verdict_of
from edgewise.methods.settings import TestedACDCSettings
from edgewise.methods.visits import is_read, visits
from edgewise.problem import Problem
from edgewise.progress import OnProgress, Progress, ignore_progress

_MOST_AHEAD = 32  # removals evaluated at once, in the hope that all before them are removed


def acdc_test(
    problem: Problem,
    settings: TestedACDCSettings,
    on_progress: OnProgress = ignore_progress,
    journal: Journal = NO_JOURNAL,
) -> MethodResult:
    """The circuit of the edges that tests keep, with the evidence for every decision.

    Scores are the mean rises of the loss over the prompts looked at. Raises `SettingError` for
    fewer than two prompts, `MetricError`.
    """
    return tested_search(problem, settings, None, on_progress, journal)


def tested_search(
    problem: Problem,
    settings: TestedACDCSettings,
    plan: Sequence[Visit] | None,
    on_progress: OnProgress,
    journal: Journal,
) -> MethodResult:
    """ACDC with tests, in its own order or another."""
    if len(problem.pairs) < 2:
        raise SettingError(
            "acdc-test compares prompts with each other and needs at least 2, found "
            f"{len(problem.pairs)}. Use acdc, or more prompts."
        )
    search = _Search(problem, settings)
    replay = list(reversed(journal.decisions(problem.graph)))
    total = problem.graph.n_edges
    if plan is None:
        plan = [Visit(*visit) for visit in visits(problem.graph, settings.head_order)]
    for visit in plan:
        for decision in search.visit(visit, replay):
            journal.append(decision)
            on_progress(Progress(search.done, total, f"{decision.edge.name}"))
    if replay:
        raise FormatError(f"decisions of another run: {len(replay)} too many.")
    on_progress(Progress(total, total, "tests done"))
    return search.finding()


class _Search:
    """The circuit so far, and what decides about the next edge."""

    def __init__(self, problem: Problem, settings: TestedACDCSettings) -> None:
        self._graph, self._settings = problem.graph, settings
        self._keep = problem.graph.exists.clone()
        self._deltas = torch.zeros(problem.graph.exists.shape, dtype=torch.float64)
        self._trace: list[Decision] = []
        self._skipped = 0
        self._sizes = looks(len(problem.pairs), settings.first)
        self._stages = _stages(problem, self._sizes, settings.seed)
        self._noise = 64 * torch.finfo(problem.model.dtype).eps
        rate = settings.error_rate
        if settings.control == "circuit":
            rate /= problem.graph.n_edges
        self._test: StagedT | Betting = StagedT(self._sizes, settings.threshold, rate)
        if settings.bound is not None:
            self._test = Betting(settings.bound, settings.threshold, rate)

    @property
    def done(self) -> int:
        """Edges decided so far."""
        return len(self._trace) + self._skipped

    def visit(self, visit: Visit, replay: list[Decision]) -> Iterator[Decision]:
        """The decisions about a receiver's edges; those at the end of `replay` are taken as known,
        and not given again.
        """
        receiver, candidates = visit.receiver, visit.candidates
        if not is_read(self._graph, self._keep, receiver, candidates[0].is_switch):
            for edge in candidates:
                self._keep[self._graph.index(edge)] = False
            self._skipped += len(candidates)
            return
        for stage in self._stages:
            stage.enter(receiver, candidates, self._keep)
        gone: tuple[int, ...] = ()
        for index, edge in enumerate(candidates):
            known = bool(replay)
            decision = self._next(replay, edge) if known else self._decide(edge, index, gone)
            self._take(decision)
            if not decision.kept:
                gone = (*gone, index)
            if not known:
                yield decision
        for stage in self._stages:
            stage.leave(gone)

    def _decide(self, edge: Edge, index: int, gone: tuple[int, ...]) -> Decision:
        deltas, losses = np.empty(0), np.empty((2, 0))
        for stage in self._stages:
            before, without = stage.before(gone), stage.without(index, gone)
            rises = without - before
            rises = torch.where(rises.abs() <= self._noise * before.abs().clamp(min=1), 0.0, rises)
            deltas = np.concatenate([deltas, rises.numpy()])
            losses = np.concatenate([losses, torch.stack([before, without]).numpy()], axis=1)
            evidence = self._judge(edge, deltas)
            if evidence.verdict != "undecided":
                break
        kept = self._kept(evidence)
        loss = float(losses[0 if kept else 1].mean())
        return Decision(edge, float(deltas.mean()), kept, loss, evidence)

    def _kept(self, evidence: Evidence) -> bool:
        undecided = evidence.verdict == "undecided"
        return self._settings.undecided == "keep" if undecided else evidence.verdict == "above"

    def _next(self, replay: list[Decision], expected: Edge) -> Decision:
        """The next of the decisions of an earlier run. Raises `FormatError` if it is none of it."""
        decision = replay.pop()
        if decision.edge != expected:
            raise FormatError(
                f"decisions of another run: found {decision.edge.name} where this one decides "
                f"{expected.name}."
            )
        shown = decision.evidence
        if (
            shown is None
            or shown.verdict != verdict_of(shown.p_above, shown.p_below, self._test.error_rate)
            or decision.kept != self._kept(shown)
        ):
            raise FormatError(
                f"the decision about {expected.name} contradicts itself: its p-values do not lead "
                f"to it at an error rate of {self._test.error_rate:g}."
            )
        return decision

    def _judge(self, edge: Edge, deltas: np.ndarray) -> Evidence:
        try:
            return self._test.judge(deltas)
        except SettingError as reason:
            raise SettingError(f"{edge.name}: {reason}") from reason

    def _take(self, decision: Decision) -> None:
        at = self._graph.index(decision.edge)
        self._keep[at], self._deltas[at] = decision.kept, decision.delta
        self._trace.append(decision)

    def finding(self) -> MethodResult:
        """The circuit, and in a note what the tests showed."""
        scores = EdgeScores(
            self._graph, self._deltas, "acdc-test", "mean rise of the loss when removed in sequence"
        )
        return MethodResult(
            Circuit(self._graph, self._keep),
            scores,
            trace=tuple(self._trace),
            edge_tests=len(self._trace),
            edges_skipped=self._skipped,
            variants=sum(stage.variants for stage in self._stages),
            notes=(self._note(),),
        )

    def _note(self) -> str:
        settings, found = self._settings, [d.evidence for d in self._trace if d.evidence]
        counts = {v: sum(e.verdict == v for e in found) for v in ("above", "below", "undecided")}
        looked = sum(e.n_prompts for e in found) / max(1, len(found))
        whose = "each edge" if settings.control == "edge" else "all edges together"
        becomes = "kept" if settings.undecided == "keep" else "removed"
        return (
            f"Tests at error rate {settings.error_rate:g} for {whose}: {counts['above']} edges "
            f"shown to be above {settings.threshold:g}, {counts['below']} below, "
            f"{counts['undecided']} undecided and {becomes}; {looked:.0f} of {self._sizes[-1]} "
            f"prompts looked at for an edge on average (seed {settings.seed})."
        )


def _stages(problem: Problem, sizes: Sequence[int], seed: int) -> list[_Stage]:
    """The prompts that each look adds, in random order."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(problem.pairs), generator=generator).tolist()
    ablation = problem.ablation.over(problem.pairs)
    return [
        _Stage(problem.with_(pairs=problem.pairs.taken(order[start:stop]), ablation=ablation))
        for start, stop in zip((0, *sizes), sizes, strict=False)
    ]


class _Stage:
    """Losses on the prompts that one look adds, for removals into the receiver at hand.

    States are named by the candidates gone. A state that is asked for is evaluated together with
    those that follow if every next candidate goes too: most do.
    """

    def __init__(self, problem: Problem) -> None:
        self._removals = Removals(problem)
        self._candidates: list[Edge] = []
        self._known: dict[tuple[int, ...], Float[Tensor, "batch"]] = {}

    @property
    def variants(self) -> int:
        """Removals evaluated so far, some of them in vain."""
        return self._removals.effort.variants

    def enter(
        self, receiver: Port, candidates: list[Edge], keep: Bool[Tensor, "sender receiver"]
    ) -> None:
        """Begin with a receiver's candidates, when `keep` is what is left of all others."""
        self._receiver, self._candidates = receiver, candidates
        self._known, self._ahead = {}, _MOST_AHEAD
        self._removals.enter(receiver.node, keep)

    def before(self, gone: tuple[int, ...]) -> Float[Tensor, "batch"]:
        """Each prompt's loss when these candidates are gone."""
        if gone not in self._known:
            if gone:
                (loss,) = self._losses(Path.one(gone[:-1], gone[-1]))
            else:
                loss = self._removals.per_prompt_now()
            self._known[gone] = loss
        return self._known[gone]

    def without(self, index: int, gone: tuple[int, ...]) -> Float[Tensor, "batch"]:
        """Each prompt's loss when this candidate goes as well."""
        if (*gone, index) not in self._known:
            most = self._removals.most_at_once(self._receiver, self._candidates)
            n = min(self._ahead, most, len(self._candidates) - index)
            self._ahead = max(4, self._ahead // 2)  # asked again: what was ahead was in vain
            for i, loss in enumerate(self._losses(Path(gone, index, (True,) * n))):
                self._known[(*gone, *range(index, index + i + 1))] = loss
        return self._known[(*gone, index)]

    def leave(self, gone: tuple[int, ...]) -> None:
        """Remove these candidates for good."""
        self._removals.remove(self._receiver, self._candidates, gone)

    def _losses(self, path: Path) -> list[Float[Tensor, "batch"]]:
        return self._removals.per_prompt(self._receiver, self._candidates, path)
