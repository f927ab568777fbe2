"""How much of the model's behaviour a circuit keeps, on the problem's prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Found
from edgewise.documents import Count, Finite
from edgewise.evaluation.records import Record
from edgewise.graph import Graph
from edgewise.problem import Problem, problem_and_circuit
from edgewise.tables import (
    NOISE,
    Cell,
    Chart,
    Column,
    Mark,
    Series,
    Table,
    cell_text,
    count,
    facts,
    measured,
    number,
    percent,
)


@dataclass(frozen=True, eq=False)
class MetricScale(Record):
    """A metric with its unit and direction, and what the full model and the empty circuit reach."""

    metric: str
    unit: str
    higher_is_better: bool
    full: Finite
    empty: Finite

    @property
    def axis(self) -> Column:
        """The metric, for tables and charts."""
        return Column(self.metric, "number", self.unit)

    @property
    def levels(self) -> tuple[tuple[str, float], ...]:
        """Both ends, for charts."""
        return ("full model", self.full), ("empty circuit", self.empty)

    def loss_of(self, value: float) -> float:
        """A value of the metric with lower made better."""
        return -value if self.higher_is_better else value


def scale_of(problem: Problem, graph: Graph) -> dict[str, Any]:
    """The fields of a `MetricScale`. Costs two forward passes, once. Raises `MetricError`."""
    metric, (full, empty) = problem.metric, problem.baselines(graph)
    words = {"metric": metric.name, "unit": metric.unit}
    return {**words, "higher_is_better": metric.higher_is_better, "full": full, "empty": empty}


def normalized(value: float, full: float, empty: float) -> float | None:
    """(value - empty) / (full - empty); None where full and empty give the same number."""
    # A full model and an empty circuit closer than float noise give a quotient of noise.
    if abs(full - empty) <= NOISE * max(abs(full), abs(empty)):
        return None
    return (value - empty) / (full - empty) + 0.0  # no negative zero


@dataclass(frozen=True)
class Spread:
    """How a number varies over prompts; `worst` is the prompt where the circuit does worst."""

    mean: Finite
    std: Finite
    minimum: Finite
    median: Finite
    maximum: Finite
    worst: Count

    @classmethod
    def of(cls, values: Float[Tensor, "batch"], *, higher_is_better: bool) -> Spread:
        """The spread of one number per prompt (std with n - 1; 0 for a single prompt)."""
        values = values.double()
        std = values.std().item() if len(values) > 1 else 0.0
        minimum, median, maximum = values.quantile(values.new_tensor([0, 0.5, 1])).tolist()
        worst = values.argmin() if higher_is_better else values.argmax()
        return cls(values.mean().item(), std, minimum, median, maximum, int(worst))


@dataclass(frozen=True, eq=False)
class Faithfulness(MetricScale):
    """A circuit between the empty circuit and the full model, in the metric's unit and direction.

    `normalized` = (circuit - empty) / (full - empty): 1 as good as the model, 0 as bad as removing
    everything, above 1 better than the model (MIB, arXiv 2504.13151). None where full and empty
    give the same number.
    """

    circuit: Finite
    normalized: Finite | None
    n_edges: Count
    n_edges_total: Count
    per_prompt: Float[Tensor, "batch"]
    spread: Spread

    title = "Faithfulness"

    @property
    def loss(self) -> float:
        """The metric with lower made better."""
        return self.loss_of(self.circuit)

    @property
    def share_in_words(self) -> str:
        """What is kept, as the end of a sentence."""
        if self.normalized is not None:
            return f"keeps {percent(self.normalized)} of the effect"
        both = f"the full model and the empty circuit {number(self.full)}"
        return f"has {self.metric} {measured(self.circuit, self.unit)} ({both})"

    def sentences(self, prompts: str = "") -> tuple[str, ...]:
        """What is kept on the prompts, in these words, and where that says little."""
        prompts = prompts or count(len(self.per_prompt), "prompt")
        size = f"{self.n_edges:,} of {self.n_edges_total:,} edges"
        kept = f"The circuit ({size}) {self.share_in_words} on {prompts}."
        if self.normalized is None or self.loss_of(self.full) <= self.loss_of(self.empty):
            return (kept,)
        return (
            kept,
            "Without any edge the model does better on this metric than in full, so a share of "
            "the effect says little.",
        )

    def tables(self) -> tuple[Table, ...]:
        """The circuit between its two extremes, and its spread over prompts."""
        spread, better = self.spread, "higher" if self.higher_is_better else "lower"
        between = cell_text((spread.minimum, spread.maximum), "interval")
        more = f"median {number(spread.median, 4)}, standard deviation {number(spread.std, 4)}"
        worst = number(float(self.per_prompt[spread.worst]), 4)
        rows: dict[str, Cell] = {
            self.axis.heading: f"{number(self.circuit, 4)}, {better} is better",
            **{name: number(value, 4) for name, value in self.levels},
            "share of the effect": cell_text(self.normalized, "share"),
            "over prompts": f"{between}, {more}",
            "worst": f"prompt {spread.worst}: {worst}",
        }
        return (facts(self.title, rows),)

    def charts(self) -> tuple[Chart, ...]:
        """The metric of every prompt, beside those of the full model and the empty circuit."""
        marks = (
            Mark(i, value, f"prompt {i}: {number(value, 4)}")
            for i, value in enumerate(self.per_prompt.tolist())
        )
        chart = Chart(
            f"{self.metric} of each prompt",
            Column("prompt"),
            self.axis,
            (Series("circuit", tuple(marks)),),
            levels=self.levels,
            caption=f"The circuit does worst on prompt {self.spread.worst}, counted from 0.",
        )
        return (chart,)


def faithfulness(problem: Problem, circuit: Found) -> Faithfulness:
    """A circuit's metric, or a run's, beside the full model's and the empty circuit's.

    Costs a forward pass over the prompts, and once two more for the full model and the empty
    circuit. Raises `MetricError`.
    """
    circuit = problem_and_circuit(problem, circuit, "faithfulness")
    per_prompt, scale = problem.per_prompt(circuit), scale_of(problem, circuit.graph)
    value = per_prompt.double().mean().item()
    return Faithfulness(
        **scale,
        circuit=value,
        normalized=normalized(value, scale["full"], scale["empty"]),
        n_edges=circuit.n_edges,
        n_edges_total=circuit.graph.n_edges,
        per_prompt=per_prompt,
        spread=Spread.of(per_prompt, higher_is_better=scale["higher_is_better"]),
    )
