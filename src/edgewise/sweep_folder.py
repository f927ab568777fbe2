"""The folder of a sweep: a row for each finished point, its circuits, and the tables of them.

journal.jsonl     one line per finished point, only ever added to; the truth of the folder
circuits/ID.json  each circuit once, by the hash of its content
unfinished/KEY/   the decisions, or the state, of a point at work
points.jsonl, points.parquet   the journal as a table, made anew whenever a sweep ends

A row is plain values by column. pandas, DuckDB and polars read both tables; Parquet is written
where pyarrow is installed.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import msgspec

from edgewise.documents import Finite, Scalar, decoded, write_bytes, write_json, write_text, writing
from edgewise.errors import FormatError, OutputError, shortened
from edgewise.evaluation import Faithfulness
from edgewise.methods import METHODS
from edgewise.run import Run
from edgewise.tasks import Task
from edgewise.work.identity import of_model
from edgewise.work.journal import Journal, JournalFormat, Record, read_journal
from edgewise.work.store import remove_unfinished

Row = dict[str, Any]  # plain values by column; None where there is nothing to say
SETTING = "setting_"  # before the name of a method's setting
_JOURNAL, _CIRCUITS, _UNFINISHED = "journal.jsonl", "circuits", "unfinished"
_LINES, _PARQUET = "points.jsonl", "points.parquet"
_SWEEP = JournalFormat("edgewise-sweep", holds="a sweep", version_1=("sweep.json", _JOURNAL))


class SweepColumn(NamedTuple):
    """A column: `unit` is "" for names and pure numbers."""

    name: str
    kind: type
    unit: str = ""


def _columns(kind: type, names: str, unit: str = "") -> tuple[SweepColumn, ...]:
    return tuple(SweepColumn(name, kind, unit) for name in names.split())


_METRIC = "(see metric_unit)"
_RATES = [f"{what}_{rate}" for what in ("edge", "node") for rate in ("tpr", "fpr", "precision")]

_STATUS = _columns(str, "key status error_kind error")
_PROBLEM = (
    *_columns(str, "task model model_sha256 processing dtype"),
    *_columns(str, "metric metric_unit"),
    *_columns(bool, "metric_higher_is_better"),
    *_columns(str, "ablation graph"),
    *_columns(int, "n_edges_total", "edges"),
    *_columns(str, "discovery_sha256"),
    *_columns(int, "discovery_n", "prompts"),
    *_columns(str, "evaluation_split evaluation_sha256"),
    *_columns(int, "evaluation_n", "prompts"),
)
_METHOD = _columns(str, "method")
_CIRCUIT = (
    *_columns(int, "n_edges", "edges"),
    *_columns(int, "n_nodes", "nodes"),
    *_columns(float, "weighted_edge_count", "edges"),
    *_columns(str, "circuit_id circuit_file"),
    *_columns(float, "discovery_metric discovery_metric_full discovery_metric_empty", _METRIC),
    *_columns(float, "discovery_faithfulness", "share of the effect"),
    *_columns(float, "evaluation_metric evaluation_metric_full evaluation_metric_empty", _METRIC),
    *_columns(float, "evaluation_faithfulness", "share of the effect"),
    *_columns(float, "evaluation_metric_std evaluation_metric_min", _METRIC),
    *_columns(float, "evaluation_metric_median evaluation_metric_max", _METRIC),
    *_columns(float, " ".join(f"published_{rate}" for rate in _RATES)),
    *_columns(float, " ".join(f"truth_{rate}" for rate in _RATES)),
    *_columns(float, "margin threshold_low threshold_high", _METRIC),
    *_columns(int, "edge_tests edges_skipped", "edges"),
    *_columns(str, "notes"),
)
# What differs between two times that the same point is computed.
_COST = (
    *_columns(float, "seconds", "s"),
    *_columns(int, "points_sharing_cost", "points"),
    *_columns(int, "forward_passes backward_passes", "passes"),
    *_columns(int, "variants", "removals"),
    *_columns(int, "taken_over", "edge tests"),
    *_columns(int, "peak_memory_bytes", "B"),
    *_columns(int, "threads"),
    *_columns(str, "device edgewise torch python commit"),
    *_columns(bool, "dirty"),
    *_columns(str, "started"),
)

COLUMNS = (*_STATUS, *_PROBLEM, *_METHOD, *_CIRCUIT, *_COST)
VOLATILE = frozenset(column.name for column in _COST)
RESERVED = frozenset(column.name for column in COLUMNS)

# A column as it is read; all but two may be null or missing. Names that become paths stay inside.
_READ: dict[str, Any] = {
    c.name: (Finite if c.kind is float else c.kind) | None for c in COLUMNS
} | {
    "key": Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")],
    "status": Literal["done", "failed"],
    "circuit_file": Annotated[str, msgspec.Meta(pattern=rf"^{_CIRCUITS}/[0-9a-f]+\.json$")] | None,
}
_Row = msgspec.defstruct(
    "_Row",
    [(n, kind) if n in ("key", "status") else (n, kind, None) for n, kind in _READ.items()],
    kw_only=True,
)
_OF_DONE = ("task", "method", "circuit_file", "n_edges")


# --- rows


def row_of_problem(name: str, options: Mapping[str, Any], task: Task | None) -> Row:
    """The columns about a problem; of one that could not be loaded only its options."""
    if task is None:
        return _cells({"task": name, **options})
    problem, same = task.problem, task.test is task.problem
    model, metric = problem.model, problem.metric
    options = {k: v for k, v in {**problem.origin, **options}.items() if k not in RESERVED}
    return _cells(options) | {
        "task": name,
        "model": model.name,
        "model_sha256": of_model(model, problem.checksums(model))["weights"],
        "processing": model.processing,
        "dtype": str(model.dtype).removeprefix("torch."),
        "metric": metric.name,
        "metric_unit": metric.unit,
        "metric_higher_is_better": metric.higher_is_better,
        "ablation": problem.ablation.kind,
        "graph": problem.graph.describe(),
        "n_edges_total": problem.graph.n_edges,
        "discovery_sha256": problem.pairs.sha256,
        "discovery_n": len(problem.pairs),
        "evaluation_split": "discovery" if same else "held-out",
        "evaluation_sha256": task.test.pairs.sha256,
        "evaluation_n": len(task.test.pairs),
    }


def row_of_settings(method: str, settings: Any) -> Row:
    """The columns about the method and its settings, as used."""
    named = {f"{SETTING}{name}": value for name, value in asdict(settings).items()}
    return {"method": method, **_cells(named)}


def row_of_run(run: Run, evaluated: Faithfulness, known: Mapping[str, Any]) -> Row:
    """The columns about a circuit, how good it is, and what it cost.

    `known` is of `against_known`: recovery of the circuits that are known.
    """
    circuit, spread = run.circuit, evaluated.spread
    low, high = run.threshold_interval or (None, None)
    costs = {**run.environment, **asdict(run.cost), "started": run.started}
    return _cells(
        {
            "status": "done",
            "n_edges": circuit.n_edges,
            "n_nodes": len(circuit.nodes),
            "weighted_edge_count": float(circuit.weighted_edge_count),
            "circuit_id": circuit.id,
            "circuit_file": f"{_CIRCUITS}/{circuit.id}.json",
            **_faithfulness("discovery", run.measurements["faithfulness"]),
            **_faithfulness("evaluation", evaluated.to_json()),
            "evaluation_metric_std": spread.std,
            "evaluation_metric_min": spread.minimum,
            "evaluation_metric_median": spread.median,
            "evaluation_metric_max": spread.maximum,
            **_rates("published", known.get("recovery")),
            **_rates("truth", known.get("recovery_of_truth")),
            "margin": run.margin,
            "threshold_low": low,
            "threshold_high": high,
            "notes": " ".join(run.notes) or None,
            **{name: value for name, value in costs.items() if name in RESERVED},
        }
    )


def _faithfulness(split: str, values: Mapping[str, Any]) -> Row:
    metrics = {"": "circuit", "_full": "full", "_empty": "empty"}
    row = {f"{split}_metric{end}": values[name] for end, name in metrics.items()}
    return {**row, f"{split}_faithfulness": values["normalized"]}


def _rates(name: str, recovery: Mapping[str, Any] | None) -> Row:
    if recovery is None:
        return {}
    (point,) = recovery["points"]
    rates = {rate: rate.partition("_") for rate in _RATES}
    return {f"{name}_{k}": point[f"{what}s"][rate] for k, (what, _, rate) in rates.items()}


def _cells(row: Row) -> Row:
    """Plain values; no number that JSON does not have (an open end is None)."""
    return {name: _cell(value) for name, value in row.items()}


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return value + 0.0 if math.isfinite(value) else None  # not -0.0
    return value if isinstance(value, str | int | type(None)) else str(value)


def _rows_of(records: Iterable[Record], source: Path) -> dict[str, Row]:
    """The last row of every point, by its key. Raises `FormatError`."""
    rows: dict[str, Row] = {}
    complaint = f"{source}: not a finished point"
    for record in records:
        decoded(_Row, record, complaint)
        for name, value in record.items():
            if not isinstance(value, Scalar):
                raise FormatError(f"{complaint}: {shortened(name)} is a {type(value).__name__}.")
        missing = [name for name in _OF_DONE if record.get(name) is None]
        if record["status"] == "done" and missing:
            raise FormatError(f"{complaint}: it is done, without {', '.join(missing)}.")
        rows[record["key"]] = record
    return rows


# --- tables


def table_columns(rows: Sequence[Row]) -> list[SweepColumn]:
    """The columns of a table: ours, the options of problems, the settings of their methods."""
    names = {name for row in rows for name in row}
    settings = {name: kind for name, kind in _setting_kinds().items() if name in names}
    options = sorted(names - RESERVED - set(settings))
    kinds = {name: _kind({type(row.get(name)) for row in rows}) for name in options} | settings
    own = [SweepColumn(name, kind) for name, kind in kinds.items()]
    n = len(options)
    return [*_STATUS, *_PROBLEM, *own[:n], *_METHOD, *own[n:], *_CIRCUIT, *_COST]


def _setting_kinds() -> dict[str, type]:
    """The type of every setting's column."""
    kinds: dict[str, type] = {}
    for method in METHODS.values():
        hints = get_type_hints(method.settings)
        for f in fields(method.settings):
            hint, parts = hints[f.name], get_args(hints[f.name])
            if type(None) in parts:
                (hint,) = (kind for kind in parts if kind is not type(None))
            kinds[f"{SETTING}{f.name}"] = hint if hint in (bool, int, float) else str
    return kinds


def _kind(kinds: set[type]) -> type:
    """The narrowest type that holds values of all of these."""
    kinds = kinds - {type(None)}
    if kinds == {int, float}:
        return float
    return kinds.pop() if len(kinds) == 1 else str


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows of all columns, sorted by problem, method and settings, not by when they finished."""
    rows = list(rows)
    columns = [column.name for column in table_columns(rows)]
    results = {column.name for column in (*_STATUS, *_CIRCUIT, *_COST)}
    names = [*(name for name in columns if name not in results), "key"]
    ordered = sorted(rows, key=lambda row: [_rank(row.get(name)) for name in names])
    return [{name: row.get(name) for name in columns} for row in ordered]


def _rank(value: Any) -> tuple[int, float, str]:
    if value is None:
        return (0, 0, "")
    return (2, 0, value) if isinstance(value, str) else (1, float(value), "")


def _parquet(rows: Sequence[Row], columns: Sequence[SweepColumn]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    types = {str: "string", bool: "bool", int: "int64", float: "float64"}
    parts = [
        pyarrow.field(
            c.name,
            pyarrow.type_for_alias(types[c.kind]),
            metadata={"unit": c.unit} if c.unit else None,
        )
        for c in columns
    ]
    schema = pyarrow.schema(parts, metadata={"format": "edgewise-sweep", "version": "2"})
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=schema), file)
    return file.getvalue()


# --- the folder


class PointResult(NamedTuple):
    """A finished point: its row, and its circuit's document if it found one."""

    row: Row
    circuit: dict[str, Any] | None = None


class SweepFolder:
    """A sweep's folder while a sweep writes into it; one process at a time may.

    `rows` are the last row of every point, by its key. Raises `OutputError` if it cannot be
    written, is in use or holds something else, `FormatError` if its journal is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.unfinished = path, path / _UNFINISHED
        with writing(path):
            names = [file.name for file in path.iterdir()] if path.exists() else []
            # A process killed before it wrote the journal's header leaves no more than these.
            strange = [name for name in names if not _OURS.fullmatch(name)]
            if strange and _JOURNAL not in names:
                raise OutputError(
                    f"{path} is not the folder of a sweep: it holds {strange[0]}. Choose a new "
                    "folder."
                )
            for folder in (path / _CIRCUITS, self.unfinished):
                folder.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(path / _JOURNAL, _SWEEP)
        try:
            self.rows = _rows_of(self._journal.records, path / _JOURNAL)
        except BaseException:
            self._journal.close()
            raise
        half_written = [path / n for n in names if n.startswith(".") and _OURS.fullmatch(n)]
        for file in (*half_written, *(path / _CIRCUITS).glob(".*.json.*")):
            with suppress(OSError):
                file.unlink()
        for key in self.rows:  # finished, and killed before this was removed
            remove_unfinished(self.unfinished / key)

    def __enter__(self) -> SweepFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()
        with suppress(OSError):
            self.unfinished.rmdir()  # stays while points are unfinished

    def add(self, results: Sequence[PointResult]) -> None:
        """Keep finished points: first their circuits, then their lines. Raises `OutputError`."""
        for row, circuit in results:
            file = self.path / (row.get("circuit_file") or "")
            if circuit is not None and not file.exists():
                try:
                    write_json(circuit, file)
                except OutputError as reason:
                    raise OutputError(
                        f"{str(reason).rstrip('.')}. The points finished before are kept: run the "
                        "same call again to resume."
                    ) from reason
        self._journal.add(*(result.row for result in results), lasting=True)
        for row, _ in results:
            self.rows[row["key"]] = row
            remove_unfinished(self.unfinished / row["key"])

    def write_tables(self) -> None:
        """Write the tables of all points, each whole or not at all.

        Every row has every column, of its type. Raises `OutputError`; the journal has them still.
        """
        # Read again: Ctrl-C may have come between a line and our knowing of it.
        rows = in_order(read_rows(self.path))
        columns = table_columns(rows)
        typed = [
            {c.name: None if row[c.name] is None else c.kind(row[c.name]) for c in columns}
            for row in rows
        ]
        write_text("".join(f"{json.dumps(row)}\n" for row in typed), self.path / _LINES)
        if find_spec("pyarrow") is not None:
            write_bytes(_parquet(typed, columns), self.path / _PARQUET)


# As `write_text` and its like leave a file when their process is killed: .NAME.DIGITS
_OURS = re.compile(rf"{_JOURNAL}|{_CIRCUITS}|{_UNFINISHED}|\.({_JOURNAL}|{_LINES}|{_PARQUET})\..*")


def is_sweep(folder: Path) -> bool:
    """Whether a folder looks like a sweep's."""
    return (folder / _JOURNAL).exists()


def read_rows(folder: Path) -> list[Row]:
    """The rows of a sweep's folder, also while a sweep writes into it. Raises `FormatError`."""
    if not is_sweep(folder):
        raise FormatError(f"{folder} is not the folder of a sweep: it has no {_JOURNAL}.")
    records = read_journal(folder / _JOURNAL, _SWEEP).records
    return list(_rows_of(records, folder / _JOURNAL).values())
