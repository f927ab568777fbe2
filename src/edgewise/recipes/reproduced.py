"""What the experiments say together: areas under ROC curves, sizes that suffice, files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewise.documents import csv_text, write_text
from edgewise.evaluation import pessimistic_auc
from edgewise.evaluation.faithfulness import normalized
from edgewise.evaluation.records import Record, SavedRecord
from edgewise.evaluation.recovery import Confusion
from edgewise.recipes.paper import (
    METHODS,
    Experiment,
    PaperProblem,
    PublishedArea,
    Subject,
    published_areas,
)
from edgewise.recipes.paper_tables import (
    paper_tables,
    roc_chart,
    size_chart,
    what_it_comes_to,
)
from edgewise.tables import Chart, Table, count

DATA, POINTS = "reproduce.json", "points.csv"
LOWEST_THRESHOLD = 1e-6  # the paper drops ACDC's circuits below it


@dataclass(frozen=True)
class KnownCircuit:
    """How many edges a known circuit has, and which, if they are few."""

    n_edges: int
    edges: tuple[str, ...] | None


@dataclass(frozen=True)
class About:
    """What the circuits of an experiment share: prompts, size of the graph, known circuits.

    `baselines` are of the full model and the empty circuit, by metric, on held-out prompts.
    """

    model: str
    n: int
    n_test: int
    held_out: bool
    pairs_sha256: str
    test_sha256: str
    n_edges: int
    baselines: dict[str, tuple[float, float]]
    published: KnownCircuit | None = None
    truth: KnownCircuit | None = None


@dataclass(frozen=True)
class Measured:
    """One circuit: the value it was found with, its size, its measures on held-out prompts.

    `edges` and `nodes` are against the paper's circuit (nodes as its code counts them), `truth`
    against what the weights can use.
    """

    value: float
    n_edges: int
    test: dict[str, float]
    edges: Confusion | None = None
    nodes: Confusion | None = None
    truth: Confusion | None = None
    kept: tuple[str, ...] = ()
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ExperimentRecord(Record):
    """An experiment that is done; `cell` is what it was."""

    cell: Experiment
    about: About
    points: tuple[Measured, ...]
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Area:
    """The pessimistic areas of a series, of edges and of nodes as the paper counts them."""

    edge_auc: float
    node_auc: float
    n_circuits: int


@dataclass(frozen=True)
class ComparedArea(PublishedArea):
    """An entry of the paper's tables beside ours; `missing` says why there is none."""

    ours: Area | None = None
    missing: str | None = None
    n_prompts: int | None = None
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class Reproduced(SavedRecord):
    """The experiments that are done, why others could not be, and the titles of those not begun.

    `Reproduced.load("reproduce.json")` reads them again.
    """

    FORMAT, VERSION = "edgewise-reproduced", 2
    _derived = ("areas",)
    title = "The ACDC paper, reproduced"

    cells: tuple[ExperimentRecord, ...]
    refused: dict[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    # --- series of circuits

    def subjects(self) -> list[Subject]:
        """Every subject once, in the order of work."""
        return list(dict.fromkeys(record.cell.subject for record in self.cells))

    def problems(self) -> list[PaperProblem]:
        """Every problem of the subjects."""
        return [problem for subject in self.subjects() for problem in subject.problems]

    def about(self, problem: PaperProblem) -> About | None:
        """Prompts, sizes and baselines on the trained model; None if nothing ran."""
        return next((r.about for r in self._series(problem) if not r.cell.reset), None)

    def points(
        self,
        problem: PaperProblem,
        *,
        method: str,
        reset: bool = False,
        head_order: str | None = None,
    ) -> list[Measured]:
        """The circuits of a series by their value; by default with the subject's first order."""
        if method == "random":  # chance is the same whatever is minimised
            problem = problem._replace(metric=problem.subject.metrics[0])
        series = self._series(problem, head_order)
        chosen = [r for r in series if (r.cell.method, r.cell.reset) == (method, reset)]
        return sorted((p for r in chosen for p in r.points), key=lambda point: point.value)

    def _series(
        self, problem: PaperProblem, head_order: str | None = None
    ) -> Iterator[ExperimentRecord]:
        """The experiments on a problem, but those of single circuits."""
        orders = (None, head_order or problem.subject.head_orders[0])
        for record in self.cells:
            own = dict(record.cell.settings).get("head_order")
            if record.cell.problem == problem and own in orders and not record.cell.highlight:
                yield record

    # --- numbers of a series

    @staticmethod
    def area_under(points: Sequence[Measured], against: str) -> float:
        """The paper's pessimistic area under circuits, against "edges", "nodes" or "truth"."""
        known = (getattr(point, against) for point in points)
        return pessimistic_auc([(rates.fpr, rates.tpr) for rates in known])

    def area(self, problem: PaperProblem, *, method: str) -> Area | None:
        """The areas against the published circuit; None if nothing ran, or none is published."""
        lowest = LOWEST_THRESHOLD if method == "acdc" else 0.0
        points = [p for p in self.points(problem, method=method) if p.edges and p.value >= lowest]
        if not points:
            return None
        return Area(self.area_under(points, "edges"), self.area_under(points, "nodes"), len(points))

    def areas(self) -> list[ComparedArea]:
        """Every entry of the paper's Tables 2 and 3, beside ours where it could be computed."""
        return [self._compared(area) for area in published_areas()]

    def _compared(self, area: PublishedArea) -> ComparedArea:
        for subject in self.subjects():  # the paper's own model, if anything of it is here
            if subject.task == area.task and (subject.is_program or not subject.bundled):
                metric = subject.metrics[-1 if area.metric == "loss" else 0]
                problem = PaperProblem(subject, metric, area.ablation)
                ours, about = self.area(problem, method=area.method), self.about(problem)
                if ours and about:
                    return ComparedArea(
                        **vars(area), ours=ours, n_prompts=about.n, seed=subject.seed
                    )
                break
        reasons = [why for name, why in self.refused.items() if name.startswith(f"{area.task} on ")]
        usual = "needs the paper's model, from a hub"
        missing = [*reasons, "not run" if area.task.startswith("tracr") else usual][0]
        return ComparedArea(**vars(area), missing=missing)

    def sufficient(self, problem: PaperProblem, *, share: float = 0.9) -> dict[str, int | None]:
        """The fewest edges with which each method, and chance, keeps this share of the effect.

        Of the circuits of its series, on held-out prompts: 1 is as the full model, 0 as the empty
        circuit. None where none of them does.
        """
        about, fewest = self.about(problem), dict[str, int | None]()
        for method in (*METHODS, "random"):
            points = self.points(problem, method=method)
            if points and about:
                metric, ends = problem.metric, about.baselines[problem.metric]
                enough = [
                    p.n_edges for p in points if (normalized(p.test[metric], *ends) or 0) >= share
                ]
                fewest[method] = min(enough, default=None)
        return fewest

    # --- as a result

    def sentences(self) -> tuple[str, ...]:
        """What the tables come to, then what is missing and why."""
        missing = [f"{name}: not here. {reason}" for name, reason in self.refused.items()]
        if self.left:
            missing.append(
                f"{count(len(self.left), 'experiment')} not begun in the time given, the first "
                f"{self.left[0]}. Run the same command again to resume."
            )
        return *what_it_comes_to(self), *missing

    def tables(self) -> tuple[Table, ...]:
        """Tables 2 and 3, the truth, the gates, sizes, single circuits, how it was made."""
        return paper_tables(self)

    def charts(self) -> tuple[Chart, ...]:
        """Figure 3, ROC curves, and Figure 4, measures against size, of every problem there is."""
        problems = [problem for problem in self.problems() if not problem.subject.is_gate]
        charts = (draw(self, problem) for draw in (roc_chart, size_chart) for problem in problems)
        return tuple(chart for chart in charts if chart is not None)

    # --- files

    def write(self, folder: str | Path) -> list[Path]:
        """Write reproduce.json, and points.csv with a line for each circuit. Raises `OutputError`.

        In points.csv, `edges` and `nodes` are against the paper's circuit (nodes as its code counts
        them), `truth` against what the weights can use; `test_` measures are of held-out prompts.
        """
        text = json.dumps(self.to_json(), separators=(",", ":")) + "\n"
        rows = [_row(record, point) for record in self.cells for point in record.points]
        texts = {DATA: text, POINTS: csv_text(rows)}
        return [write_text(text, Path(folder) / name) for name, text in texts.items()]


def _row(record: ExperimentRecord, point: Measured) -> dict[str, Any]:
    """The line of a circuit in points.csv."""
    cell = record.cell
    row: dict[str, Any] = {"task": cell.subject.task, "model": cell.subject.model}
    row |= {"method": cell.method, "metric": cell.metric, "ablation": cell.ablation}
    row |= {"network": "reset" if cell.reset else "trained"}
    row |= {"value": point.value, "n_edges": point.n_edges}
    for against in ("edges", "nodes", "truth"):
        known = getattr(point, against)
        row |= {f"{against}_{r}": getattr(known, r, "") for r in ("tpr", "fpr", "precision")}
    return row | {f"test_{name}": value for name, value in point.test.items()}
