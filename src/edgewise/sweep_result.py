"""The result of a sweep: its points, a table of circuits, and how faithful they are by size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewise.circuit import Circuit
from edgewise.errors import SettingError
from edgewise.sweep_folder import SETTING, Row, in_order, read_rows
from edgewise.tables import Chart, Column, Kind, Mark, Series, Table, count, number, plain
from edgewise.work.executors import grouped

_CHOICES = ("model", "metric", "ablation", "corruption", "template", "seed", "n")
_KINDS: Mapping[str, Kind] = {
    "edges": "count",
    "value": "number",
    "effect kept": "share",
    "prompts": "count",
}


@dataclass(frozen=True, eq=False)
class Sweep:
    """The points of a sweep's folder, as rows of plain values, sorted by what was asked.

    `keys` are the points of this call; the folder may hold others of earlier calls. Rows are
    mappings, as `pandas.DataFrame(sweep.rows)` takes them; `docs/sweeps.md` lists the columns.
    """

    folder: Path
    rows: tuple[Row, ...]
    keys: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Sweep({len(self.done)} points, {len(self.failed)} failed, in {self.folder})"

    @property
    def done(self) -> tuple[Row, ...]:
        """The rows of circuits that were found."""
        return tuple(row for row in self.rows if row["status"] == "done")

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows of points that failed; their `error` says why."""
        return tuple(row for row in self.rows if row["status"] == "failed")

    @property
    def title(self) -> str:
        return f"A sweep of {count(len(self.rows), 'point')}"

    def sentences(self) -> tuple[str, ...]:
        """How many points there are, on what they were evaluated, and why some failed."""
        done = self.done
        errors = Counter(row["error"] for row in self.failed)
        sentences = [f"{count(len(self.rows), 'point')}, {errors.total():,} failed."]
        if done:
            methods = ", ".join(dict.fromkeys(row["method"] for row in done))
            splits = " or ".join(sorted({str(row["evaluation_split"]) for row in done}))
            sentences.append(
                f"{count(len(done), 'circuit')} of {methods}, evaluated on {splits} prompts."
            )
        return (*sentences, *(f"{count(n, 'point')} failed: {why}" for why, n in errors.items()))

    def tables(self) -> tuple[Table, ...]:
        """The circuits that were found."""
        return (_circuits_table(self.done),) if self.done else ()

    def charts(self) -> tuple[Chart, ...]:
        """The effect that circuits of each size keep, a chart for each task."""
        return tuple(_chart(group) for group in grouped(self.done, lambda row: row["task"]))

    def circuit(self, row: Row) -> Circuit:
        """The circuit of a row. Raises `FormatError`, or `SettingError` if the point failed."""
        if row.get("status") != "done":
            raise SettingError(f"point {row.get('key')} has no circuit: {row.get('error')}")
        return Circuit.load(self.folder / row["circuit_file"])

    @classmethod
    def load(cls, folder: str | Path) -> Sweep:
        """Read a sweep's folder, also while it is being written. Raises `FormatError`."""
        rows = in_order(read_rows(Path(folder)))
        return cls(Path(folder), tuple(rows), tuple(row["key"] for row in rows))


def _circuits_table(rows: Sequence[Row]) -> Table:
    """A row for each circuit: what varies, its size, and how good it is."""
    varied = {name: name.removeprefix(SETTING).replace("_", " ") for name in _varied(rows)}
    known = [name for name in ("published", "truth") if any(_rates(row, name) for row in rows)]
    cells = [
        {
            "task": row["task"],
            "method": row["method"],
            **{heading: _cell(row.get(name)) for name, heading in varied.items()},
            "edges": row["n_edges"],
            "value": row["evaluation_metric"],
            "effect kept": row["evaluation_faithfulness"],
            **{name: _rates(row, name) for name in known},
            "prompts": row["evaluation_n"],
        }
        for row in rows
    ]
    kinds: dict[str, Kind] = {**dict.fromkeys(varied.values(), "text"), **_KINDS}
    notes = [f"{' and '.join(known).capitalize()}: recall/precision of the edges kept."]
    return Table.of("Circuits", cells, kinds=kinds, notes=notes if known else ())


def _rates(row: Row, known: str) -> str | None:
    """Recall and precision beside a known circuit, if there is one."""
    rates: list[Any] = [row.get(f"{known}_edge_{rate}") for rate in ("tpr", "precision")]
    return None if None in rates else "/".join(number(rate, 2) for rate in rates)


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else plain(value)


def _chart(rows: Sequence[Row]) -> Chart:
    varied = [name for name in _varied(rows) if name in _CHOICES and name != "seed"]

    def name_of(row: Row) -> str:
        return ", ".join([row["method"], *(f"{name} {plain(row.get(name))}" for name in varied)])

    by_size = sorted(rows, key=lambda row: row["n_edges"])
    prompts = sorted({row["evaluation_n"] for row in rows if row["evaluation_n"] is not None})
    return Chart(
        rows[0]["task"],
        Column("edges", "count"),
        Column("share of the effect kept", "number"),
        tuple(Series(name_of(group[0]), _marks(group)) for group in grouped(by_size, name_of)),
        caption=(
            f"On {' or '.join(map(str, prompts))} prompts. 1: as the full model; 0: as no circuit."
        ),
    )


def _marks(rows: Sequence[Row]) -> tuple[Mark, ...]:
    marks = []
    for row in rows:
        kept = row["evaluation_faithfulness"]
        if kept is not None:
            settings = ", ".join(
                f"{name.removeprefix(SETTING)} {plain(value)}"
                for name, value in row.items()
                if name.startswith(SETTING) and value is not None
            )
            label = f"{row['n_edges']:,} edges: {number(kept, 4)}\n{settings}"
            marks.append(Mark(row["n_edges"], kept, label))
    return tuple(marks)


def _varied(rows: Sequence[Row]) -> list[str]:
    """Settings and choices that have several values for one task and method."""
    names = dict.fromkeys(name for row in rows for name in row)
    groups = grouped(rows, lambda row: (row["task"], row["method"]))
    return [
        name
        for name in names
        if (name.startswith(SETTING) or name in _CHOICES)
        and any(len({str(row.get(name)) for row in group}) > 1 for group in groups)
    ]
