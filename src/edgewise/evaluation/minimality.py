"""Minimality: what each edge of a circuit adds to it.

    effect(e) = L(C \\ e) - L(C),   L lower is better

An edge whose effect is no more than rounding could be left out (Conmy et al. 2023 ask for a circuit
without such edges; Wang et al. 2022, section 4, ask the same of nodes, but let each be judged with
some others gone as well: what two edges do for each other this number does not see). Edges into
the same receiver are evaluated together by the incremental engine, which begins at the circuit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Circuit, Found
from edgewise.engine import Path, Removals
from edgewise.graph import Edge
from edgewise.methods import OnProgress, Progress, ignore_progress, visits
from edgewise.problem import Problem, problem_and_circuit

_ROUNDING = 128  # units in the last place of the loss: what sums in another order may differ by


@dataclass(frozen=True, eq=False)
class Minimality:
    """How much the loss rises when each edge alone is removed from the circuit.

    `effects[sender, receiver]` in the metric's unit, 0 for edges that the circuit does not have.
    `rounding` is what float sums may move them by. `n_unread` edges lead to nothing that reaches
    the output, so their effect is exactly 0.
    """

    circuit: Circuit
    effects: Float[Tensor, "sender receiver"]
    loss: float
    effect_of_all: float  # the loss of the empty circuit minus that of the full model
    rounding: float
    n_unread: int
    unit: str

    @cached_property
    def of_edges(self) -> dict[Edge, float]:
        """Each edge's effect, largest first; ties in canonical order."""
        edges = {edge: float(self.effects[self.circuit.graph.index(edge)]) for edge in self.edges}
        return dict(sorted(edges.items(), key=lambda item: -item[1]))

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The circuit's edges in canonical order."""
        return self.circuit.edges

    @property
    def needed(self) -> int:
        """Edges without which the circuit is worse."""
        return int((self.effects[self.circuit.keep] > self.rounding).sum())

    @property
    def idle(self) -> int:
        """Edges that make no difference beyond rounding."""
        return int((self.effects[self.circuit.keep].abs() <= self.rounding).sum())

    @property
    def harmful(self) -> int:
        """Edges without which the circuit is better."""
        return int((self.effects[self.circuit.keep] < -self.rounding).sum())

    @property
    def median(self) -> float | None:
        """The median effect; None for a circuit without edges."""
        effects = self.effects[self.circuit.keep]
        return effects.quantile(0.5).item() if len(effects) else None

    def to_json(self) -> dict[str, Any]:
        """Counts, and each edge's effect by name, largest first."""
        return {
            "n_edges": self.circuit.n_edges,
            "needed": self.needed,
            "idle": self.idle,
            "harmful": self.harmful,
            "n_unread": self.n_unread,
            "median": self.median,
            "loss": self.loss,
            "effect_of_all": self.effect_of_all,
            "rounding": self.rounding,
            "unit": self.unit,
            "effects": {edge.name: effect for edge, effect in self.of_edges.items()},
        }


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
    graph, sign, base = circuit.graph, problem.metric.loss_sign, circuit.without_unread()
    full, empty = problem.baselines()
    loss = problem.loss(base)
    effects = torch.zeros(graph.exists.shape, dtype=torch.float64)
    removals, done = Removals(problem, base=base), 0
    for receiver, candidates in visits(graph, "descending"):
        kept = [edge for edge in candidates if base.keep[graph.index(edge)]]
        if not kept:
            continue
        removals.enter(receiver.node, base.keep)
        most = removals.most_at_once(receiver, kept)
        for start in range(0, len(kept), most):
            some = kept[start : start + most]
            path = Path((), start, goes=(False,) * len(some))
            for edge, (without, _) in zip(some, removals.losses(receiver, kept, path), strict=True):
                effects[graph.index(edge)] = without - loss
            done += len(some)
            on_progress(Progress(done, base.n_edges, receiver.name))
    return Minimality(
        circuit=circuit,
        effects=effects,
        loss=loss,
        effect_of_all=sign * (empty - full),
        rounding=_ROUNDING * torch.finfo(problem.model.dtype).eps * max(1.0, abs(loss)),
        n_unread=circuit.n_edges - base.n_edges,
        unit=problem.metric.unit,
    )
