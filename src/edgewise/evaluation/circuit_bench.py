"""What the hypothesis tests of a circuit measure: losses of each prompt."""

from __future__ import annotations

import numpy as np

from edgewise.arguments import whole
from edgewise.circuit import Circuit
from edgewise.evaluation.independence import Values
from edgewise.graph import Edge
from edgewise.methods import OnProgress, Progress
from edgewise.problem import Problem


class Bench:
    """What the tests measure, and how far they are."""

    def __init__(
        self,
        problem: Problem,
        circuit: Circuit,
        seed: int,
        n_random: int,
        on_progress: OnProgress,
    ) -> None:
        self.problem, self.circuit, self.seed, self.n_random = problem, circuit, seed, n_random
        self._on_progress, self._done = on_progress, 0
        self.total = 4 + 4 * n_random + circuit.n_edges
        self.full = self.losses(Circuit.full(circuit.graph))
        self.own = self.losses(circuit)
        self.without = self.losses(circuit.complement())

    def losses(self, circuit: Circuit) -> Values:
        """The loss of each prompt."""
        self._done += 1
        self._on_progress(Progress(min(self._done, self.total), self.total, "circuits run"))
        found = self.problem.metric.loss_sign * self.problem.per_prompt(circuit)
        values: Values = found.double().numpy()
        return values

    def far(self, losses: Values) -> float:
        """How far a mean loss is from the model's."""
        return abs(float(losses.mean() - self.full.mean()))

    @property
    def is_distance(self) -> bool:
        """Whether the metric compares with the model, which so has the same score everywhere."""
        scale = max(1.0, float(np.abs(self.full).max()))
        return bool(np.ptp(self.full) <= 1e-6 * scale) and len(self.full) > 1

    def chosen_edges(self, most: int | None) -> list[Edge]:
        """The circuit's edges, or as many at random."""
        edges = self.circuit.edges
        if most is None or most >= len(edges):
            return list(edges)
        random = np.random.default_rng([self.seed, 3])
        places = random.choice(len(edges), whole("max_edges", most, 1), replace=False)
        return [edges[place] for place in sorted(places.tolist())]
