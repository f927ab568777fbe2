"""What a run says in sentences: the verdict, its cost, its settings and thresholds."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Any

from edgewise.run import Run
from edgewise.tables import (
    NOISE,
    Chart,
    Column,
    Table,
    count,
    measured,
    number,
    percent,
    plain,
    seconds,
)

_ABLATIONS = {
    "corrupted": "its value on the corrupted prompt",
    "zero": "zero",
    "mean": "its mean over prompts and positions",
    "mean-positional": "its mean over prompts at each position",
}


def ablation_words(ablation: Mapping[str, Any]) -> str:
    """What removed edges carry, from a record of it."""
    extra = {k: v for k, v in ablation.items() if k != "kind" and v is not None}
    return plain(ablation.get("kind", "unknown")) + (f" ({plain(extra)})" if extra else "")


def settings_line(run: Run, *, without: Collection[str] = ()) -> str:
    """The settings of a run in one line, as resolved, but those unset or named in `without`."""
    shown = {k: v for k, v in run.settings.items() if k not in without and v is not None}
    return " · ".join(f"{name.replace('_', ' ')} {plain(value)}" for name, value in shown.items())


def threshold(run: Run) -> float | None:
    """The threshold of a method that has one."""
    value = run.settings.get("threshold")
    return float(value) if isinstance(value, int | float) else None


def thresholds(run: Run) -> str | None:
    """The thresholds that give the same circuit, such as '(0.00497, 0.005]'; None if unknown.

    The ends are rounded inwards, so that it holds as written, with digits enough for the run's own.
    """
    ends, own = run.threshold_interval, threshold(run)
    if ends is None or own is None:
        return None
    for digits in range(3, 18):
        low, high = _rounded(ends[0], digits, ROUND_CEILING), _rounded(ends[1], digits, ROUND_FLOOR)
        if low < own <= high:
            break
    shown = f"({low:.{digits}g}, {'∞' if math.isinf(high) else f'{high:.{digits}g}'}]"
    return f"about {shown}" if run.settings.get("precision") == "reduced" else shown


def _rounded(value: float, digits: int, rounding: str) -> float:
    return float(Context(prec=digits, rounding=rounding).create_decimal(repr(value)))


def loss_label(run: Run) -> str:
    """The axis label of a loss: the metric with lower made better, and its unit."""
    name, unit = run.problem.metric, run.problem.unit
    sign = "−" if run.problem.higher_is_better else ""
    return f"loss = {sign}{name}" + (f" ({unit})" if unit else "")


@dataclass(frozen=True)
class RunResult:
    """What a finished run says: its sentences and tables, as any other result has them."""

    run: Run

    @property
    def title(self) -> str:
        return self.run.title

    def sentences(self) -> tuple[str, ...]:
        """The verdict, what it cost, how sure the decisions are, and what to know before."""
        run, same = self.run, thresholds(self.run)
        sentences = [*_verdict(run), _cost(run)]
        if run.margin is not None:
            sentences.append(f"The closest decision is {number(run.margin)} from the threshold.")
        if same is not None:
            sentences.append(f"The circuit is the same for thresholds in {same}.")
        return *sentences, *(f"Note: {note}" for note in run.notes)

    def tables(self) -> tuple[Table, ...]:
        """The kept edges, by the size of their scores."""
        scores = {edge.name: self.run.scores.of(edge) for edge in self.run.circuit.edges}
        rows = sorted(scores.items(), key=lambda item: -abs(item[1]))
        columns = Column("edge", "name"), Column(self.run.scores.meaning, "number")
        return (Table("", columns, tuple(rows)),) if rows else ()

    def charts(self) -> tuple[Chart, ...]:
        """None: what the trace looks like is drawn on the run's page."""
        return ()


def verdict(run: Run) -> str:
    """What was found, in sentences that hold for exactly these measurements."""
    return " ".join(_verdict(run))


def _verdict(run: Run) -> list[str]:
    sentences = [_size(run), _dangling(run)]
    faith = run.measurements.get("faithfulness")
    if faith:
        sentences += [_effect(run, faith), _share(faith)]
    sentences += [_recovered(point, "published edges") for point in recovery_points(run)]
    truth = run.measurements.get("recovery_of_truth")
    if truth:
        sentences.append(_recovered(truth["points"][0], "edges of the structural truth"))
    return [sentence for sentence in sentences if sentence]


def _cost(run: Run) -> str:
    cost = run.cost
    work = f"{cost.forward_passes:,} forward and {cost.backward_passes:,} backward passes"
    if cost.edge_tests:
        before = ""
        if cost.taken_over:
            before = f" ({cost.taken_over:,} taken over from the stopped run)"
        work = f"{cost.edge_tests:,} edges tested{before}, {cost.edges_skipped:,} skipped"
    since = " since it went on" if cost.taken_over else ""
    return f"It took {work}, and {seconds(cost.seconds)}{since}."


def _size(run: Run) -> str:
    kept, total = run.circuit.n_edges, run.circuit.graph.n_edges
    if kept == 0:
        return f"None of the {total:,} edges is kept."
    if kept == total:
        return f"All {total:,} edges are kept."
    verb = "is" if kept == 1 else "are"
    return f"{kept:,} of {count(total, 'edge')} {verb} kept ({percent(kept / total)})."


def _dangling(run: Run) -> str:
    """Kept edges that pass nothing on, which a picture of many edges does not show."""
    kept = run.circuit.n_edges
    loose = kept - run.circuit.pruned().n_edges
    if loose == 0:
        return ""
    which = "None of them lies" if loose == kept else f"{loose:,} of them lie"
    if loose == 1:
        which = "It lies on no" if kept == 1 else "One of them lies on no"
    elif loose < kept:
        which += " on no"
    else:
        which += " on a"
    return f"{which} path from an embedding to the logits."


def _effect(run: Run, faith: Mapping[str, Any]) -> str:
    unit, kept = faith["unit"], run.circuit.n_edges
    scale = max(abs(faith["full"]), abs(faith["empty"]))
    value = measured(faith["circuit"], unit, scale=scale)
    full, empty = (measured(faith[name], "", scale=scale) for name in ("full", "empty"))
    kind = str(run.problem.ablation.get("kind", "its ablation"))
    others = "other edge" if kept else "edge"
    carrying = f"With every {others} carrying {_ABLATIONS.get(kind, kind)}"
    beside = f"the full model has {full}" + (f" and the empty circuit {empty}" if kept else "")
    return f"{carrying}, {faith['metric']} is {value}; {beside}."


def _share(faith: Mapping[str, Any]) -> str:
    share, full, empty = faith["normalized"], faith["full"], faith["empty"]
    if share is None:
        return (
            "Full model and empty circuit give the same number, so there is no effect to keep a "
            "share of."
        )
    if (full < empty) is bool(faith["higher_is_better"]):
        return (
            "Without any edge the model does better on this metric than in full, so a share of the "
            f"effect says little here (it would be {percent(share)})."
        )
    if faith["n_edges"] == 0:
        return ""
    if share > 1 + NOISE:
        return f"The circuit does better than the full model: {percent(share)} of the effect."
    if share < -NOISE:
        return f"The circuit does worse than the empty one: {percent(share)} of the effect."
    return f"The circuit keeps {percent(share)} of the effect."


def _recovered(point: Mapping[str, Any], what: str) -> str:
    edges = point["edges"]
    return (
        f"It finds {edges['true_positives']:,} of the {edges['n_true']:,} {what}, and "
        f"{count(edges['false_positives'], 'other')}."
    )


def recovery_points(run: Run) -> list[Mapping[str, Any]]:
    """The comparison with a published circuit, if the run carries one."""
    found = run.measurements.get("recovery")
    return list(found["points"]) if found else []
