"""A sweep's table: its columns with their types and units, its rows, and the files that hold it.

A row is plain values by column. The files are JSON lines and, where pyarrow is installed, Parquet:
pandas, DuckDB and polars read both.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from edgewise.documents import Finite, Scalar, decoded, write_bytes, write_text
from edgewise.errors import FormatError, shortened
from edgewise.evaluation import Faithfulness
from edgewise.methods import METHODS
from edgewise.run import Run
from edgewise.tasks import Task
from edgewise.work.identity import of_model

Row = dict[str, Any]  # plain values by column; None where there is nothing to say
SETTING = "setting_"  # before the name of a method's setting


@dataclass(frozen=True)
class SweepColumn:
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
    *_columns(str, "method"),
)
_FOUND = (
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

COLUMNS = (*_STATUS, *_PROBLEM, *_FOUND, *_COST)
VOLATILE = frozenset(column.name for column in _COST)
RESERVED = frozenset(column.name for column in COLUMNS)
_BY_NAME = {column.name: column for column in COLUMNS}

# A column as it is read; all but these may be null or missing.
_READ: dict[str, Any] = {c.name: Finite if c.kind is float else c.kind for c in COLUMNS}
_READ["status"] = Literal["done", "failed"]
_OF_DONE = ("task", "method", "circuit_file", "n_edges")


def _row_type(name: str, needed: Sequence[str]) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        name,
        [(n, kind) if n in needed else (n, kind | None, None) for n, kind in _READ.items()],
        kw_only=True,
    )


_ROWS = {
    True: _row_type("Done", ("key", "status", *_OF_DONE)),
    False: _row_type("Row", ("key", "status")),
}


def checked_row(document: Any, source: str) -> Row:
    """A row of a sweep's journal, every column of its type. Raises `FormatError`."""
    row = decoded(dict, document, source)
    decoded(_ROWS[row.get("status") == "done"], row, source)
    for name, value in row.items():
        if not isinstance(value, Scalar):
            raise FormatError(f"{source}: {shortened(name)} is a {type(value).__name__}.")
    return row


def row_of_problem(name: str, options: Mapping[str, Any], task: Task | None) -> Row:
    """The columns about a problem; of one that could not be loaded only what was asked."""
    options = {k: _cell(v) for k, v in options.items()}
    if task is None:
        return {"task": name, **options}
    problem, same = task.problem, task.test is task.problem
    metric, origin = problem.metric, {k: _cell(v) for k, v in problem.origin.items()}
    return {
        **{k: v for k, v in {**origin, **options}.items() if k not in RESERVED},
        "task": name,
        "model": problem.model.name,
        "model_sha256": of_model(problem.model, problem.checksums(problem.model))["weights"],
        "processing": problem.model.processing,
        "dtype": str(problem.model.dtype).removeprefix("torch."),
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
    cells = {f"{SETTING}{name}": _cell(value) for name, value in asdict(settings).items()}
    return {"method": method, **cells}


def row_of_run(run: Run, evaluated: Faithfulness, known: Mapping[str, Any], *, sharing: int) -> Row:
    """The columns about a circuit, how good it is, and what it cost."""
    faith, spread, environment = run.measurements["faithfulness"], evaluated.spread, run.environment
    low, high = run.threshold_interval or (None, None)
    cost = asdict(run.cost)
    row = {
        "status": "done",
        "n_edges": run.circuit.n_edges,
        "n_nodes": len(run.circuit.nodes),
        "weighted_edge_count": float(run.circuit.weighted_edge_count),
        "circuit_id": run.circuit.id,
        "circuit_file": f"circuits/{run.circuit.id}.json",
        "discovery_metric": faith["circuit"],
        "discovery_metric_full": faith["full"],
        "discovery_metric_empty": faith["empty"],
        "discovery_faithfulness": faith["normalized"],
        "evaluation_metric": evaluated.circuit,
        "evaluation_metric_full": evaluated.full,
        "evaluation_metric_empty": evaluated.empty,
        "evaluation_faithfulness": evaluated.normalized,
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
        "points_sharing_cost": sharing,
        "started": run.started,
        **{name: cost[name] for name in RESERVED & set(cost)},
        **{name: environment[name] for name in VOLATILE & set(environment)},
    }
    return {name: _cell(value) for name, value in row.items()}


def _rates(name: str, recovery: Mapping[str, Any] | None) -> Row:
    if recovery is None:
        return {}
    (point,) = recovery["points"]
    rates = {rate: rate.partition("_") for rate in _RATES}
    return {f"{name}_{k}": point[f"{what}s"][rate] for k, (what, _, rate) in rates.items()}


def _cell(value: Any) -> Any:
    """A plain value; no number that JSON does not have (an open end is None)."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, float):
        return value + 0.0  # not -0.0
    return value if isinstance(value, str | int | type(None)) else str(value)


def table_columns(rows: Sequence[Row]) -> list[SweepColumn]:
    """The columns of a table of these rows: ours, what was asked, the settings of their methods."""
    present = dict.fromkeys(name for row in rows for name in row)
    others = sorted(name for name in present if name not in RESERVED)
    settings = [name for name in _setting_kinds() if name in present]
    options = [name for name in others if name not in settings]
    head = [c.name for c in (*_STATUS, *_PROBLEM)]
    names = [*head[:-1], *options, head[-1], *settings, *(c.name for c in (*_FOUND, *_COST))]
    kinds = _setting_kinds()
    return [
        _BY_NAME.get(name)
        or SweepColumn(name, kinds.get(name) or _kind([r.get(name) for r in rows]))
        for name in names
    ]


def _setting_kinds() -> dict[str, type]:
    """The type of every setting's column."""
    kinds: dict[str, type] = {}
    for method in METHODS.values():
        hints = get_type_hints(method.settings)
        for f in fields(method.settings):
            hint = hints[f.name]
            if isinstance(hint, UnionType):
                (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
            kinds[f"{SETTING}{f.name}"] = hint if hint in (bool, int, float) else str
    return kinds


def _kind(values: Sequence[Any]) -> type:
    """The narrowest type that holds all of these."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return float
    return kinds.pop() if len(kinds) == 1 else str


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Rows of all columns, sorted by problem, method and settings, not by when they finished."""
    columns = [c.name for c in table_columns(rows)]
    results = {c.name for c in (*_STATUS, *_FOUND, *_COST)}
    names = [*(name for name in columns if name not in results), "key"]
    ordered = sorted(rows, key=lambda row: [_rank(row.get(name)) for name in names])
    return [{name: row.get(name) for name in columns} for row in ordered]


def _rank(value: Any) -> tuple[int, float, str]:
    if value is None:
        return (0, 0, "")
    return (2, 0, value) if isinstance(value, str) else (1, float(value), "")


# --- files

LINES, PARQUET = "points.jsonl", "points.parquet"


def write_tables(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write the tables, each whole or not at all; Parquet where pyarrow is installed.

    Every line and every row has every column. Raises `OutputError`.
    """
    ordered, columns = in_order(rows), table_columns(rows)
    lines = [json.dumps({c.name: _as(c, row.get(c.name)) for c in columns}) for row in ordered]
    written = [write_text("".join(f"{line}\n" for line in lines), folder / LINES)]
    if find_spec("pyarrow") is not None:
        written.append(write_bytes(_parquet(ordered, columns), folder / PARQUET))
    return written


def _as(column: SweepColumn, value: Any) -> Any:
    """The value in the type of its column, so that every reader sees one type."""
    return value if value is None else column.kind(value)


def _parquet(rows: Sequence[Row], columns: Sequence[SweepColumn]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    types = {
        str: pyarrow.string(),
        bool: pyarrow.bool_(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
    }
    schema = pyarrow.schema(
        [
            pyarrow.field(c.name, types[c.kind], metadata={"unit": c.unit} if c.unit else None)
            for c in columns
        ],
        metadata={"format": "edgewise-sweep", "version": "2"},
    )
    data = {c.name: [_as(c, row.get(c.name)) for row in rows] for c in columns}
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(data, schema=schema), file)
    return file.getvalue()
