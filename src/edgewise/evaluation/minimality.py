"""Minimality: what each edge of a circuit adds to it.

    effect(e) = L(C \\ e) - L(C),   L lower is better

An edge whose effect is no more than rounding could be left out (Conmy et al. 2023 ask for a circuit
without such edges; Wang et al. 2022, section 4, ask the same of nodes, but remove
some others with each: what two edges do for each other this number does not see). Edges into
the same receiver are evaluated together by the incremental engine, which begins at the circuit.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from edgewise.circuit import Found
from edgewise.documents import Count, Finite
from edgewise.engine import Removals
from edgewise.evaluation.records import Record
from edgewise.methods.steps import receiver_steps
from edgewise.problem import Problem, problem_and_circuit
from edgewise.progress import OnProgress, Progress, ignore_progress
from edgewise.tables import Column, Table

_ROUNDING = 128  # units in the last place of the loss: what sums in another order may differ by


@dataclass(frozen=True, eq=False)
class Minimality(Record):
    """How much the loss rises when each edge alone is removed from the circuit.

    `effects` by the edges' names, largest first, ties in canonical order, in the metric's unit.
    `rounding` is what float sums may move them by. `n_unread` edges lead to nothing that reaches
    the output, so their effect is exactly 0.
    """

    n_unread: Count
    loss: Finite
    effect_of_all: Finite  # the loss of the empty circuit minus that of the full model
    rounding: Finite
    unit: str
    effects: Mapping[str, Finite]

    _derived = ("n_edges", "needed", "idle", "harmful", "median")
    title = "Minimality"

    @property
    def n_edges(self) -> int:
        return len(self.effects)

    @property
    def needed(self) -> int:
        """Edges without which the circuit is worse."""
        return sum(effect > self.rounding for effect in self.effects.values())

    @property
    def harmful(self) -> int:
        """Edges without which the circuit is better."""
        return sum(effect < -self.rounding for effect in self.effects.values())

    @property
    def idle(self) -> int:
        """Edges that make no difference beyond rounding."""
        return self.n_edges - self.needed - self.harmful

    @property
    def median(self) -> float | None:
        """The median effect; None for a circuit without edges."""
        return statistics.median(self.effects.values()) if self.effects else None

    def sentences(self) -> tuple[str, ...]:
        """How many edges the circuit needs."""
        if not self.effects:
            return ("The circuit has no edges to remove.",)
        parts = [f"{self.needed:,} of its {self.n_edges:,} edges are needed"]
        parts += [f"{self.idle:,} make no difference"] if self.idle else []
        parts += [f"{self.harmful:,} make it worse"] if self.harmful else []
        return (f"Removed one at a time, {', '.join(parts)}.",)

    def tables(self) -> tuple[Table, ...]:
        """Every edge, the most needed first; none for a circuit without edges."""
        columns = Column("edge", "name"), Column("rise of the loss without it", "number", self.unit)
        table = Table("What each edge adds", columns, tuple(self.effects.items()))
        return (table,) if self.effects else ()


def minimality(
    problem: Problem, circuit: Found, *, on_progress: OnProgress = ignore_progress
) -> Minimality:
    """What each edge adds to a circuit: the rise of the loss when it alone is removed.

    Exact up to rounding, at far less than a forward pass for each edge. Raises `MetricError`.

    >>> import edgewise as ew
    >>> task = ew.load_task("tracr-reverse")
    >>> found = minimality(task.problem, task.published)
    >>> found.needed, found.idle
    (15, 0)
    """
    circuit = problem_and_circuit(problem, circuit, "minimality")
    if problem.graph != circuit.graph:
        problem = problem.with_(graph=circuit.graph)
    full, empty = problem.baselines()
    base = circuit.without_unread()
    loss, effects = problem.loss(base), dict.fromkeys(circuit.edges, 0.0)
    removals, done = Removals(problem, base=base), 0
    for step in receiver_steps(circuit.graph):
        edges = tuple(edge for edge in step.edges if edge in base)
        if not edges:
            continue
        step = replace(step, edges=edges)
        removals.start(step, base)
        effects |= {edge: without - loss for edge, without in removals.alone(step)}
        done += len(edges)
        on_progress(Progress(done, base.n_edges, step.receiver.name))
    ranked = sorted(effects.items(), key=lambda item: -item[1])
    return Minimality(
        n_unread=circuit.n_edges - base.n_edges,
        loss=loss,
        effect_of_all=problem.metric.loss_sign * (empty - full),
        rounding=_ROUNDING * torch.finfo(problem.model.compute_dtype).eps * max(1.0, abs(loss)),
        unit=problem.metric.unit,
        effects={edge.name: effect for edge, effect in ranked},
    )
