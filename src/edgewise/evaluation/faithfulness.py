"""How much of the model's behaviour a circuit keeps, on the problem's prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Found
from edgewise.problem import Problem, problem_and_circuit


@dataclass(frozen=True, eq=False)
class Spread:
    """How a number varies over prompts; `worst` is the prompt where the circuit does worst."""

    mean: float
    std: float
    minimum: float
    median: float
    maximum: float
    worst: int

    @classmethod
    def of(cls, values: Float[Tensor, "batch"], *, higher_is_better: bool) -> Spread:
        """The spread of one number per prompt (std with n - 1; 0 for a single prompt)."""
        values = values.double()
        worst = values.argmin() if higher_is_better else values.argmax()
        return cls(
            mean=values.mean().item(),
            std=values.std().item() if len(values) > 1 else 0.0,
            minimum=values.min().item(),
            median=values.quantile(0.5).item(),
            maximum=values.max().item(),
            worst=int(worst),
        )


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """A circuit between the empty circuit and the full model, in the metric's unit and direction.

    `normalized` = (circuit - empty) / (full - empty): 1 as good as the model, 0 as bad as removing
    everything, above 1 better than the model (MIB, arXiv 2504.13151). None where full and empty
    give the same number. Losses are the metric with lower made better.
    """

    metric: str
    unit: str
    higher_is_better: bool
    circuit: float
    full: float
    empty: float
    normalized: float | None
    per_prompt: Float[Tensor, "batch"]
    spread: Spread
    n_edges: int
    n_edges_total: int

    @property
    def _sign(self) -> int:
        return -1 if self.higher_is_better else 1

    @property
    def loss(self) -> float:
        return self._sign * self.circuit

    @property
    def loss_full(self) -> float:
        return self._sign * self.full

    @property
    def loss_empty(self) -> float:
        return self._sign * self.empty

    def to_json(self) -> dict[str, Any]:
        """Every number, for records."""
        return {
            "metric": self.metric,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "circuit": self.circuit,
            "full": self.full,
            "empty": self.empty,
            "normalized": self.normalized,
            "n_edges": self.n_edges,
            "n_edges_total": self.n_edges_total,
            "per_prompt": self.per_prompt.tolist(),
            "spread": dict(vars(self.spread)),
        }


def faithfulness(problem: Problem, circuit: Found) -> Faithfulness:
    """A circuit's metric, or a run's, beside the full model's and the empty circuit's.

    Costs a forward pass over the prompts, and once two more for the full model and the empty
    circuit. Raises `MetricError`.
    """
    circuit = problem_and_circuit(problem, circuit, "faithfulness")
    graph, metric = circuit.graph, problem.metric
    per_prompt = problem.per_prompt(circuit)
    full, empty = problem.baselines(graph)
    value = per_prompt.double().mean().item()
    return Faithfulness(
        metric=metric.name,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        circuit=value,
        full=full,
        empty=empty,
        normalized=normalized(value, full, empty),
        per_prompt=per_prompt,
        spread=Spread.of(per_prompt, higher_is_better=metric.higher_is_better),
        n_edges=circuit.n_edges,
        n_edges_total=graph.n_edges,
    )


def normalized(value: float, full: float, empty: float) -> float | None:
    """(value - empty) / (full - empty); None where full and empty give the same number."""
    # A full model and an empty circuit closer than float noise give a quotient of noise.
    noise = 1e-6 * max(abs(full), abs(empty))
    if abs(full - empty) <= noise:
        return None
    return (value - empty) / (full - empty) + 0.0  # no negative zero
