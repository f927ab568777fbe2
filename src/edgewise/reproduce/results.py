"""What the cells say together: areas under ROC curves, curves of size, and the data for others."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewise.evaluation import pessimistic_auc
from edgewise.evaluation.faithfulness import normalized
from edgewise.metrics import metric_named
from edgewise.reproduce.published import METHODS, PublishedArea, published_areas
from edgewise.storage import imported, read_json

FORMAT, VERSION = "edgewise-reproduced", 2
ENOUGH = 0.9  # of the effect
LOWEST_THRESHOLD = 1e-6  # the paper drops ACDC's points below it
_RATES = ("tpr", "fpr", "precision")
_AGAINST = ("edges", "nodes", "truth")

Rates = Mapping[str, float]


@dataclass(frozen=True)
class Group:
    """Cells that are one series: a method with one metric and ablation on one subject."""

    subject: str
    method: str
    metric: str
    ablation: str
    reset: bool = False
    head_order: str | None = None  # None: whatever the subject has first


@dataclass(frozen=True)
class Area:
    """The pessimistic areas of a series, of edges and of nodes as the paper counts them."""

    edge_auc: float
    node_auc: float
    n_circuits: int


class Results:
    """The documents of all cells that are done, and what was not."""

    def __init__(
        self,
        documents: Sequence[Mapping[str, Any]],
        refused: Mapping[str, str] | None = None,
        left: Sequence[str] = (),
    ) -> None:
        self.documents = list(documents)
        self.refused = dict(refused or {})
        self.left = list(left)

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Results from a reproduce.json. Raises `FormatError`."""
        document = read_json(Path(path), "results")
        document = imported(document, str(path), FORMAT, VERSION)
        return cls(document["cells"], document["refused"], document["left"])

    def subjects(self) -> list[Mapping[str, Any]]:
        """Every subject once, as the grid has it, in the order of work."""
        found = {name_of(d["cell"]["subject"]): d["cell"]["subject"] for d in self.documents}
        return list(found.values())

    def subject(self, name: str) -> Mapping[str, Any]:
        """A subject by its name."""
        return next(one for one in self.subjects() if name_of(one) == name)

    def about(self, subject: str, metric: str, ablation: str) -> Mapping[str, Any] | None:
        """Prompts, sizes and baselines of a problem on the trained model; None if nothing ran."""
        for document in self.documents:
            if _is(document, Group(subject, document["cell"]["method"], metric, ablation)):
                return document["about"]
        return None

    def points(self, group: Group) -> list[Mapping[str, Any]]:
        """The points of a series, by their value."""
        found = [p for d in self.documents if _is(d, group) for p in d["points"]]
        return sorted(found, key=lambda point: point["value"])

    def area(self, group: Group) -> Area | None:
        """The areas against the published circuit; None if nothing ran, or none is published."""
        points = [p for p in self.points(group) if "edges" in p]
        if group.method == "acdc":
            points = [p for p in points if p["value"] >= LOWEST_THRESHOLD]
        if not points:
            return None
        return Area(under(points, "edges"), under(points, "nodes"), len(points))

    def highlights(self, task: str) -> list[Mapping[str, Any]]:
        """The cells of single points that the paper speaks of."""
        return [
            d
            for d in self.documents
            if d["cell"]["highlight"] and d["cell"]["subject"]["task"] == task
        ]

    def areas(self) -> list[dict[str, Any]]:
        """Every entry of the paper's Tables 2 and 3, beside ours where it could be computed."""
        return [self._beside(area) for area in published_areas()]

    def _beside(self, area: PublishedArea) -> dict[str, Any]:
        subject = self._paper_subject(area.task)
        row: dict[str, Any] = {**vars(area), "why_not": area.why_not}
        row |= {"ours": None, "missing": self._missing(area.task), "about": None}
        if subject is None:
            return row
        metric = _metric_of(subject, area.metric)
        name = name_of(subject)
        ours = self.area(Group(name, area.method, metric, area.ablation))
        if ours is not None:
            about = self.about(name, metric, area.ablation)
            row |= {"ours": vars(ours), "missing": None, "seed": subject["seed"]}
            row["about"] = {k: about[k] for k in ("n", "n_test", "held_out")} if about else None
        return row

    def _paper_subject(self, task: str) -> Mapping[str, Any] | None:
        """The task on the paper's own model, if anything of it is here."""
        for subject in self.subjects():
            if subject["task"] == task and (subject["model"] == task or not subject["bundled"]):
                return subject
        return None

    def _missing(self, task: str) -> str:
        for name, reason in self.refused.items():
            if name.startswith(f"{task} on "):
                return reason
        return "not run" if task.startswith("tracr") else "needs the paper's model, from a hub"

    def sufficient(
        self, subject: Mapping[str, Any], metric: str, ablation: str, share: float = ENOUGH
    ) -> dict[str, int | None]:
        """The fewest edges with which each method, and chance, keeps this share of the effect.

        Of the circuits of its sweep, on held-out prompts; None where none of them does.
        """
        name = name_of(subject)
        about = self.about(name, metric, ablation)
        found: dict[str, int | None] = {}
        for method in (*METHODS, "random"):
            own = subject["metrics"][0] if method == "random" else metric
            points = self.points(Group(name, method, own, ablation))
            if points and about:
                best = smallest(points, metric, about["baselines"][metric], share)
                found[method] = None if best is None else best["n_edges"]
        return found

    def seconds(self, what: str = "seconds") -> float:
        """Time spent in all cells, whenever that was; "cpu_seconds" of all processor cores."""
        return sum(d[what] for d in self.documents)

    def to_json(self) -> dict[str, Any]:
        """All of it: the tables, and every cell with its points."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "areas": self.areas(),
            "refused": self.refused,
            "left": self.left,
            "cells": [
                {k: v for k, v in d.items() if k not in ("format", "version")}
                for d in self.documents
            ],
        }

    def to_csv(self) -> str:
        """A line for each circuit: what found it, its size, its rates and its measures.

        `edges` and `nodes` are against the paper's circuit (nodes as its code counts them),
        `truth` against what the weights can use; `test_` measures are of held-out prompts.
        """
        measures = dict.fromkeys(m for d in self.documents for p in d["points"] for m in p["test"])
        heads = ["task", "model", "method", "metric", "ablation", "network", "value", "n_edges"]
        heads += [f"{what}_{rate}" for what in _AGAINST for rate in _RATES]
        heads += [f"test_{name}" for name in measures]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(heads)
        for document in self.documents:
            for point in document["points"]:
                table.writerow(_line(document["cell"], point, measures))
        return text.getvalue()


def _line(cell: Mapping[str, Any], point: Mapping[str, Any], measures: Iterable[str]) -> list[Any]:
    network = "reset" if cell["reset"] else "trained"
    line = [cell["subject"]["task"], cell["subject"]["model"]]
    line += [cell["method"], cell["metric"], cell["ablation"], network]
    line += [point["value"], point["n_edges"]]
    line += [point.get(what, {}).get(rate, "") for what in _AGAINST for rate in _RATES]
    return line + [point["test"].get(name, "") for name in measures]


def name_of(subject: Mapping[str, Any]) -> str:
    """A subject's name from its document, as `Subject.name` gives it."""
    task, model = subject["task"], subject["model"]
    return task if task == model else f"{task} on {model}"


def _metric_of(subject: Mapping[str, Any], kind: str) -> str:
    """A subject's metric for a row of the paper's tables."""
    return subject["metrics"][-1] if kind == "loss" else subject["metrics"][0]


def _is(document: Mapping[str, Any], group: Group) -> bool:
    cell = document["cell"]
    order = dict(cell["settings"]).get("head_order")
    wanted = group.head_order or cell["subject"]["head_orders"][0]
    own = (name_of(cell["subject"]), cell["method"], cell["metric"], cell["ablation"])
    return (
        own == (group.subject, group.method, group.metric, group.ablation)
        and cell["reset"] == group.reset
        and not cell["highlight"]
        and order in (None, wanted)
    )


def under(points: Sequence[Mapping[str, Any]], what: str) -> float:
    """The paper's pessimistic area under points, of "edges", "nodes" or "truth"."""
    return pessimistic_auc([(p[what]["fpr"], p[what]["tpr"]) for p in points])


def kept_effect(value: float, baselines: Sequence[float]) -> float | None:
    """The share of the effect that is kept: 1 as the full model, 0 as the empty circuit."""
    full, empty = baselines
    return normalized(value, full, empty)


def smallest(
    points: Sequence[Mapping[str, Any]], measure: str, baselines: Sequence[float], share: float
) -> Mapping[str, Any] | None:
    """The point of fewest edges that keeps at least this share of the effect; None if none does."""
    good = [p for p in points if (kept_effect(p["test"][measure], baselines) or 0.0) >= share]
    return min(good, key=lambda point: point["n_edges"], default=None)


def described(metric: str) -> str:
    """A metric with its unit and direction, for an axis."""
    known = metric_named(metric)
    return (
        f"{known.name} ({known.unit}), {'higher' if known.higher_is_better else 'lower'} is better"
    )
