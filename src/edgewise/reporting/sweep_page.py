"""The page of a sweep: how faithful circuits are at their size, by task and method; all rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from edgewise.reporting.markup import Markup, el
from edgewise.reporting.page import document
from edgewise.reporting.scatter import Dot, Series, scatter
from edgewise.reporting.tables import data_table, num
from edgewise.sweeps import SETTING, Sweep
from edgewise.tables import count, number, plain

_MOST = 2_000  # rows
_VARIED = ("model", "metric", "ablation", "corruption", "template", "seed", "n")


def sweep_page(sweep: Sweep) -> str:
    """The HTML document of a sweep's folder."""
    tasks = list(dict.fromkeys(row["task"] for row in sweep.done))
    failed = Counter(row["error"] for row in sweep.failed)
    body = el(
        "article",
        el("h1", f"A sweep of {count(len(sweep.rows), 'point')}"),
        el("p", _summary(sweep), class_="verdict"),
        *(
            el("p", f"{count(n, 'point')} failed: {why}", class_="note")
            for why, n in failed.items()
        ),
        *(_task(task, [row for row in sweep.done if row["task"] == task]) for task in tasks),
        el("section", el("h3", "All points"), _table(sweep.done)),
    )
    return document("A sweep", None, [body])


def _summary(sweep: Sweep) -> str:
    splits = sorted({str(row["evaluation_split"]) for row in sweep.done})
    methods = list(dict.fromkeys(row["method"] for row in sweep.done))
    return (
        f"{count(len(sweep.done), 'circuit')} of {', '.join(methods) or 'no method'}, judged on "
        f"{' or '.join(splits) or 'no'} prompts; {len(sweep.failed)} failed."
    )


def _task(task: str, rows: Sequence[Mapping[str, Any]]) -> Markup:
    by_series: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    varied = [name for name in _varied(rows) if name in _VARIED]
    for row in rows:
        more = [f"{name} {plain(row.get(name))}" for name in varied if name != "seed"]
        by_series[", ".join([row["method"], *more])].append(row)
    series = [Series(name, _dots(some)) for name, some in by_series.items()]
    prompts = sorted({row["evaluation_n"] for row in rows if row["evaluation_n"] is not None})
    caption = (
        f"On {' or '.join(map(str, prompts))} prompts. 1: as the full model; 0: as no circuit."
    )
    labels = ("edges", "share of the effect kept")
    chart = scatter("Size and faithfulness", labels, series, caption)
    return el("section", el("h3", task), chart)


def _dots(rows: Sequence[Mapping[str, Any]]) -> list[Dot]:
    return [
        Dot(
            row["n_edges"],
            row["evaluation_faithfulness"],
            f"{row['n_edges']:,} edges: {number(row['evaluation_faithfulness'], 4)}\n"
            + ", ".join(
                f"{name.removeprefix(SETTING)} {plain(row[name])}"
                for name in row
                if name.startswith(SETTING) and row[name] is not None
            ),
        )
        for row in sorted(rows, key=lambda row: row["n_edges"])
        if row["evaluation_faithfulness"] is not None
    ]


def _varied(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row)
    asked = [name for name in names if name.startswith(SETTING) or name in _VARIED]
    by_method: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_method[row["task"], row["method"]].append(row)
    return [
        name
        for name in asked
        if any(len({str(row.get(name)) for row in some}) > 1 for some in by_method.values())
    ]


def _table(rows: Sequence[Mapping[str, Any]]) -> Markup:
    varied = _varied(rows)
    columns = [("task", ""), ("method", "")]
    columns += [(name.removeprefix(SETTING).replace("_", " "), "") for name in varied]
    columns += [("edges", "num"), ("metric", "num"), ("effect kept", "num"), ("prompts", "num")]
    columns += [("split", "")]
    cells = [
        el(
            "tr",
            el("td", row["task"]),
            el("td", row["method"]),
            *(el("td", plain(row.get(name))) for name in varied),
            num(row["n_edges"], f"{row['n_edges']:,}"),
            num(row["evaluation_metric"]),
            num(row["evaluation_faithfulness"]),
            num(row["evaluation_n"], plain(row["evaluation_n"])),
            el("td", plain(row["evaluation_split"])),
            data_name=f"{row['task']} {row['method']}",
        )
        for row in rows[:_MOST]
    ]
    return data_table(columns, cells, searchable=len(cells) > 12)
