"""What the experiments say together: areas under ROC curves, sizes that suffice, files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgewise.documents import write_text
from edgewise.evaluation.records import SavedRecord
from edgewise.recipes.experiments import (
    ENOUGH,
    About,
    ExperimentRecord,
    Measured,
    area_under,
    smallest,
)
from edgewise.recipes.paper import METHODS, PaperProblem, PublishedArea, Subject, published_areas
from edgewise.recipes.paper_charts import roc_chart, size_chart
from edgewise.recipes.paper_tables import paper_tables, what_it_comes_to
from edgewise.tables import Chart, Table, count

DATA, POINTS = "reproduce.json", "points.csv"
LOWEST_THRESHOLD = 1e-6  # the paper drops ACDC's circuits below it


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

    cells: tuple[ExperimentRecord, ...]
    refused: dict[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return "The ACDC paper, reproduced"

    # --- series of circuits

    def subjects(self) -> list[Subject]:
        """Every subject once, in the order of work."""
        return list(dict.fromkeys(record.cell.subject for record in self.cells))

    def problems(self) -> list[PaperProblem]:
        """Every problem of the subjects."""
        return [problem for subject in self.subjects() for problem in subject.problems]

    def about(self, problem: PaperProblem) -> About | None:
        """Prompts, sizes and baselines on the trained model; None if nothing ran."""
        ran = (r.about for r in self._series(problem) if not r.cell.reset)
        return next(ran, None)

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
        order = head_order or problem.subject.head_orders[0]
        for record in self.cells:
            own = dict(record.cell.settings).get("head_order")
            if (
                record.cell.problem == problem
                and not record.cell.highlight
                and own in (None, order)
            ):
                yield record

    def highlights(self, task: str) -> list[ExperimentRecord]:
        """The experiments of single circuits that the paper speaks of."""
        return [r for r in self.cells if r.cell.highlight and r.cell.subject.task == task]

    # --- numbers of a series

    def area(self, problem: PaperProblem, *, method: str) -> Area | None:
        """The areas against the published circuit; None if nothing ran, or none is published."""
        points = [
            point
            for point in self.points(problem, method=method)
            if point.edges and (method != "acdc" or point.value >= LOWEST_THRESHOLD)
        ]
        if not points:
            return None
        return Area(area_under(points, "edges"), area_under(points, "nodes"), len(points))

    def areas(self) -> list[ComparedArea]:
        """Every entry of the paper's Tables 2 and 3, beside ours where it could be computed."""
        return [self._compared(area) for area in published_areas()]

    def _compared(self, area: PublishedArea) -> ComparedArea:
        own = [  # on the paper's own model, if anything of it is here
            s for s in self.subjects() if s.task == area.task and (s.is_program or not s.bundled)
        ]
        if own:
            metric = own[0].metrics[-1 if area.metric == "loss" else 0]
            problem = PaperProblem(own[0], metric, area.ablation)
            ours, about = self.area(problem, method=area.method), self.about(problem)
            if ours is not None and about is not None:
                return ComparedArea(**vars(area), ours=ours, n_prompts=about.n, seed=own[0].seed)
        return ComparedArea(**vars(area), missing=self._missing(area.task))

    def _missing(self, task: str) -> str:
        for name, reason in self.refused.items():
            if name.startswith(f"{task} on "):
                return reason
        return "not run" if task.startswith("tracr") else "needs the paper's model, from a hub"

    def sufficient(self, problem: PaperProblem, *, share: float = ENOUGH) -> dict[str, int | None]:
        """The fewest edges with which each method, and chance, keeps this share of the effect.

        Of the circuits of its series, on held-out prompts; None where none of them does.
        """
        about, fewest = self.about(problem), {}
        for method in (*METHODS, "random"):
            points = self.points(problem, method=method)
            if points and about:
                baselines = about.baselines[problem.metric]
                fewest[method] = smallest(points, problem.metric, baselines, share=share)
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
        return [
            write_text(text, Path(folder) / DATA),
            write_text(self._points_csv(), Path(folder) / POINTS),
        ]

    def _points_csv(self) -> str:
        measures = dict.fromkeys(m for r in self.cells for p in r.points for m in p.test)
        against, rates = ("edges", "nodes", "truth"), ("tpr", "fpr", "precision")
        heads = ["task", "model", "method", "metric", "ablation", "network", "value", "n_edges"]
        heads += [f"{what}_{rate}" for what in against for rate in rates]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([*heads, *(f"test_{name}" for name in measures)])
        for record in self.cells:
            cell, network = record.cell, "reset" if record.cell.reset else "trained"
            for point in record.points:
                line: list[object] = [cell.subject.task, cell.subject.model, cell.method]
                line += [cell.metric, cell.ablation, network, point.value, point.n_edges]
                line += [getattr(getattr(point, w), rate, "") for w in against for rate in rates]
                table.writerow([*line, *(point.test.get(name, "") for name in measures)])
        return text.getvalue()
