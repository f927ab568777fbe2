"""What a sweep says: how many points, a table of circuits, and how faithful they are by size."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from edgewise.sweeps.table import SETTING, Row
from edgewise.tables import Cell, Chart, Column, Mark, Series, Table, count, number, plain

_CHOICES = ("model", "metric", "ablation", "corruption", "template", "seed", "n")


def sentences(rows: Sequence[Row]) -> tuple[str, ...]:
    """How many points there are, on what they were evaluated, and why some failed."""
    done = [row for row in rows if row["status"] == "done"]
    errors = Counter(row["error"] for row in rows if row["status"] == "failed")
    first = f"{count(len(rows), 'point')}, {errors.total():,} failed."
    if not done:
        return first, *(f"{count(n, 'point')} failed: {why}" for why, n in errors.items())
    splits = " or ".join(sorted({str(row["evaluation_split"]) for row in done}))
    methods = ", ".join(dict.fromkeys(row["method"] for row in done))
    return (
        first,
        f"{count(len(done), 'circuit')} of {methods}, evaluated on {splits} prompts.",
        *(f"{count(n, 'point')} failed: {why}" for why, n in errors.items()),
    )


def circuits_table(rows: Sequence[Row]) -> Table:
    """A row for each circuit: what varies, its size, and how good it is."""
    varied = _varied(rows)
    columns = {"task": Column("task"), "method": Column("method")}
    columns |= {name: Column(name.removeprefix(SETTING).replace("_", " ")) for name in varied}
    columns |= {
        "n_edges": Column("edges", "count"),
        "evaluation_metric": Column("value", "number"),
        "evaluation_faithfulness": Column("effect kept", "share"),
    }
    known = [k for k in ("published", "truth") if any(_rates(row, k) for row in rows)]
    last = Column("prompts", "count")
    cells = tuple(
        (
            *(_cell(row.get(name)) for name in columns),
            *(_rates(row, name) for name in known),
            row.get("evaluation_n"),
        )
        for row in rows
    )
    notes = (f"{' and '.join(known).capitalize()}: recall/precision of the edges kept.",)
    heads = (*columns.values(), *map(Column, known), last)
    return Table("Circuits", heads, cells, notes if known else ())


def _rates(row: Row, known: str) -> str | None:
    """Recall and precision beside a known circuit, if there is one."""
    recall, precision = row.get(f"{known}_edge_tpr"), row.get(f"{known}_edge_precision")
    if recall is None or precision is None:
        return None
    return f"{number(recall, 2)}/{number(precision, 2)}"


def _cell(value: Any) -> Cell:
    return value if value is None or isinstance(value, int | float) else plain(value)


def faithfulness_charts(rows: Sequence[Row]) -> tuple[Chart, ...]:
    """The effect kept by circuits of each size, a chart for each task."""
    tasks = dict.fromkeys(row["task"] for row in rows)
    return tuple(_chart(task, [row for row in rows if row["task"] == task]) for task in tasks)


def _chart(task: str, rows: Sequence[Row]) -> Chart:
    varied = [name for name in _varied(rows) if name in _CHOICES and name != "seed"]
    by_series: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["n_edges"]):
        choices = [f"{name} {plain(row.get(name))}" for name in varied]
        by_series[", ".join([row["method"], *choices])].append(row)
    series = tuple(Series(name, _marks(group)) for name, group in by_series.items())
    prompts = sorted({row["evaluation_n"] for row in rows if row["evaluation_n"] is not None})
    words = " or ".join(map(str, prompts))
    return Chart(
        task,
        Column("edges", "count"),
        Column("share of the effect kept", "number"),
        series,
        caption=f"On {words} prompts. 1: as the full model; 0: as no circuit.",
    )


def _marks(rows: Sequence[Row]) -> tuple[Mark, ...]:
    return tuple(
        Mark(row["n_edges"], row["evaluation_faithfulness"], _label(row))
        for row in rows
        if row["evaluation_faithfulness"] is not None
    )


def _label(row: Row) -> str:
    settings = ", ".join(
        f"{name.removeprefix(SETTING)} {plain(value)}"
        for name, value in row.items()
        if name.startswith(SETTING) and value is not None
    )
    size = f"{row['n_edges']:,} edges"
    return f"{size}: {number(row['evaluation_faithfulness'], 4)}\n{settings}"


def _varied(rows: Sequence[Row]) -> list[str]:
    """Settings and choices that have several values for one task and method."""
    names = dict.fromkeys(name for row in rows for name in row)
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["task"], row["method"]].append(row)
    return [
        name
        for name in names
        if (name.startswith(SETTING) or name in _CHOICES)
        and any(len({str(row.get(name)) for row in group}) > 1 for group in groups.values())
    ]
