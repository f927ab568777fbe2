"""An evaluation as `edgewise evaluate` prints it: tables, then what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from edgewise.cli import show
from edgewise.evaluation import (
    Completeness,
    Curve,
    Evaluation,
    Faithfulness,
    Minimality,
    RandomBand,
    Recovery,
    ScoreRecovery,
)

_EDGES = 10  # of the minimality table: enough to see the slope; --json has all


def as_json(
    result: Evaluation,
    against: Mapping[str, Recovery],
    ranks: Mapping[str, ScoreRecovery],
    curve: Curve | None,
) -> dict[str, Any]:
    """The JSON document of `edgewise evaluate --json`."""
    return {
        **result.to_json(),
        "recovery": {name: found.to_json() for name, found in against.items()},
        "score_recovery": {name: found.to_json() for name, found in ranks.items()},
        "curve": None if curve is None else curve.to_json(),
    }


def print_evaluation(
    result: Evaluation,
    against: Mapping[str, Recovery],
    ranks: Mapping[str, ScoreRecovery],
    curve: Curve | None,
) -> None:
    """Every part that was measured, and the verdict."""
    faith = result.faithfulness
    show.OUT.print(
        f"{faith.n_edges} of {faith.n_edges_total} edges, on {result.n_prompts} {result.split} "
        f"prompts of {result.source}, {result.ablation} ablation",
        soft_wrap=True,
    )
    _print_faithfulness(faith)
    for band in result.random:
        _print_band(band, faith)
    if result.completeness is not None:
        _print_completeness(result.completeness, faith)
    if result.minimality is not None and result.minimality.n_edges:
        _print_minimality(result.minimality)
    if curve is not None:
        _print_curve(curve)
    for name, found in against.items():
        _print_recovery(name, found, ranks.get(name))
    show.OUT.print()
    for sentence in result.sentences():
        show.OUT.print(sentence, soft_wrap=True)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    show.OUT.print()
    show.table(title, columns, rows)


def _print_faithfulness(faith: Faithfulness) -> None:
    spread = faith.spread
    better = "higher is better" if faith.higher_is_better else "lower is better"
    rows = [
        (f"{faith.metric} of the circuit", f"{show.number(faith.circuit)} {faith.unit}, {better}"),
        ("full model", show.number(faith.full)),
        ("empty circuit", show.number(faith.empty)),
        ("normalised faithfulness", show.number(faith.normalized)),
        (
            "over prompts",
            f"{show.number(spread.minimum)} to {show.number(spread.maximum)}, "
            f"median {show.number(spread.median)}, std {show.number(spread.std)}",
        ),
        ("worst", f"prompt {spread.worst}: {show.number(float(faith.per_prompt[spread.worst]))}"),
    ]
    _table("Faithfulness", ("", ""), rows)


def _print_band(band: RandomBand, faith: Faithfulness) -> None:
    low, high = (show.number(band.quantile(q)) for q in (0.05, 0.95))
    mean = show.number(band.mean)
    if band.interval is not None:
        mean += f" (95 % interval {' to '.join(map(show.number, band.interval))})"
    rows = [
        ("drawn", f"{band.n} of {band.n_edges} edges, seed {band.seed}"),
        (f"mean {faith.metric}", mean),
        ("5 % to 95 %", f"{low} to {high}"),
        ("as good as the circuit", f"{band.as_good_as(faith.circuit)} of {band.n}"),
        ("p", show.number(band.p_value(faith.circuit), 2)),
    ]
    _table(f"Random circuits, {band.kind}", ("", ""), rows)


def _print_completeness(found: Completeness, faith: Faithfulness) -> None:
    rest = found.complement
    rows = [
        (
            f"the {rest.n_edges} others",
            show.number(rest.circuit),
            show.number(rest.full),
            show.number(rest.normalized),
        )
    ]
    worst = found.worst
    columns = ("edges", f"{faith.metric} of these alone", "full model", "normalised")
    _table("Without the circuit", columns, rows)
    if worst is None:
        return
    ranked = sorted(found.knock_outs, key=lambda k: -k.incompleteness)
    _table(
        f"Nodes knocked out: the worst of {len(ranked)} sets, seed {found.seed}",
        ("set", f"{faith.metric} of circuit", "of model", "difference"),
        [
            (
                f"{k.how} {k.name}: {len(k.nodes)} nodes",
                show.number(k.circuit),
                show.number(k.model),
                show.number(k.incompleteness),
            )
            for k in ranked[:3]
        ],
    )


def _print_minimality(found: Minimality) -> None:
    effects = [(name, show.number(x)) for name, x in islice(found.effects.items(), _EDGES)]
    columns = ("edge", f"rise of the loss without it, in {found.unit}")
    _table("What each edge adds", columns, effects)
    if found.n_edges > len(effects):
        show.OUT.print(
            f"… and {found.n_edges - len(effects)} more, down to "
            f"{show.number(min(found.effects.values()))}"
        )


def _print_curve(curve: Curve) -> None:
    rows = [
        (
            "–" if point.share is None else f"{100 * point.share:g} %",
            point.n_edges,
            show.number(point.value),
            show.number(point.normalized),
        )
        for point in curve.points
    ]
    metric = curve.metric
    _table(f"Size and {metric}", ("edges asked", "edges", metric, "normalised"), rows)
    show.OUT.print(
        f"CPR {show.number(curve.cpr)}, CMD {show.number(curve.cmd)} ({curve.source}, "
        f"{curve.selection}, {curve.n_prompts} prompts).",
        soft_wrap=True,
    )


def _print_recovery(name: str, result: Recovery, ranks: ScoreRecovery | None) -> None:
    counted = "nodes" if result.node_counting == "plain" else "nodes (paper)"
    rows = [
        (
            what,
            f"{c.true_positives}/{c.n_true}",
            c.false_positives,
            show.number(c.tpr),
            show.number(c.fpr),
            show.number(c.precision),
        )
        for what, c in (("edges", result.edges), (counted, result.nodes))
    ]
    _table(f"Against {name}", ("", "found", "others", "TPR", "FPR", "precision"), rows)
    if ranks is not None:
        show.OUT.print(
            f"The scores' order ({ranks.by}): ROC AUC {show.number(ranks.roc_auc)}, average "
            f"precision {show.number(ranks.average_precision)}."
        )
