"""Run folders (run.json, circuit.json, trace.jsonl, scores.safetensors): whole or absent."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from edgewise.circuit import Circuit, EdgeScores
from edgewise.codec import Finite, Plain, decoded
from edgewise.errors import EdgewiseError, FormatError, OutputError, shortened
from edgewise.graph import Graph
from edgewise.methods import METHODS
from edgewise.methods.journal import read_trace
from edgewise.record.measured import Measurements
from edgewise.record.run import Cost, ProblemSummary, Run
from edgewise.storage import check_output_place, imported, read_json, read_text

FORMAT = "edgewise-run"
VERSION = 2
_FILES = {"run.json", "circuit.json", "trace.jsonl", "scores.safetensors"}


def check_output_folder(folder: Path, *, overwrite: bool = False) -> None:
    """Raise `OutputError` unless a run could be written there. Call it before the work starts.

    With `overwrite` the folder may hold a run, and nothing else.
    """
    target = Path(os.path.realpath(folder))
    try:
        there = {path.name for path in target.iterdir()} if target.is_dir() else set()
        if "run.json" in there and not overwrite:
            raise OutputError(
                f"{folder} already holds a run. Choose another folder, or add --force (in Python "
                "overwrite=True) to replace it."
            )
        if strange := there - (_FILES if _holds_run(target) else set()):
            raise OutputError(
                f"{folder} is not empty: it holds {min(strange)}. Choose a new folder for the run."
            )
        if target.exists() and not target.is_dir():
            raise OutputError(f"{folder} is a file. Choose a new folder for the run.")
    except OSError as reason:
        where = shortened(str(folder))
        raise OutputError(f"cannot write to {where}: {reason.strerror}.") from reason
    check_output_place(folder.parent)
    target.parent.mkdir(parents=True, exist_ok=True)


def _holds_run(folder: Path) -> bool:
    try:
        return bool(read_json(folder / "run.json", "run")["format"] == FORMAT)
    except (FormatError, KeyError, TypeError):
        return False


def save_run(run: Run, folder: Path, *, overwrite: bool = False) -> Path:
    """Write a run into a new or empty folder, or in the place of a run. Raises `OutputError`."""
    check_output_folder(folder, overwrite=overwrite)
    target = Path(os.path.realpath(folder))  # a link stays one
    partial, old = (target.with_name(f".{target.name[:50]}.{token_hex(4)}") for _ in range(2))
    try:
        partial.mkdir(parents=True)
        _write(run, partial)
        if target.exists():
            target.rename(old)
        partial.rename(target)
    except BaseException as reason:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists():
            old.rename(target)
        if isinstance(reason, OSError | EdgewiseError):
            raise OutputError(f"cannot write the run to {folder}: {_why(reason)}") from reason
        raise
    shutil.rmtree(old, ignore_errors=True)
    return folder


def _why(reason: BaseException) -> str:
    cause = reason if isinstance(reason, OSError) else reason.__cause__
    return f"{cause.strerror}." if isinstance(cause, OSError) else str(reason)


def _write(run: Run, folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps(_document(run), indent=1) + "\n", encoding="utf-8")
    run.circuit.save(folder / "circuit.json")
    scores = save({"values": run.scores.values.contiguous()})
    (folder / "scores.safetensors").write_bytes(scores)
    lines = [json.dumps(decision.to_json()) for decision in run.trace]
    (folder / "trace.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _document(run: Run) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "method": run.method,
        "settings_given": dict(run.settings_given),
        "settings": dict(run.settings),
        "problem": asdict(run.problem),
        "n_edges": run.circuit.n_edges,
        "circuit_id": run.circuit.id,
        "scores": {"method": run.scores.method, "meaning": run.scores.meaning},
        "cost": asdict(run.cost),
        "environment": dict(run.environment),
        "started": run.started,
        "margin": run.margin,
        "notes": list(run.notes),
        "worst_error": run.worst_error,
        "work": dict(run.work),
        "measurements": dict(run.measurements),
        "request": dict(run.request),
    }


@dataclass(frozen=True)
class _Scores:
    method: str
    meaning: str


@dataclass(frozen=True)
class _Document:
    """What run.json holds."""

    method: str
    settings_given: Plain
    settings: Plain
    problem: ProblemSummary
    circuit_id: str
    scores: _Scores
    cost: Cost
    environment: Plain
    started: str
    measurements: Measurements
    request: Plain
    margin: Finite | None = None
    notes: tuple[str, ...] = ()
    worst_error: Finite | None = None
    work: dict[str, Any] = field(default_factory=dict)


def load_run(folder: Path) -> Run:
    """Read a run folder. Raises `FormatError`, naming the file and the field at fault."""
    source = folder / "run.json"
    document = read_json(source, "run")
    document = imported(document, str(source), FORMAT, VERSION)
    found = decoded(_Document, document, f"{source}: not a complete run folder")
    if found.method in METHODS:
        decoded(METHODS[found.method].settings, dict(found.settings), f"{source}: settings")
    circuit = Circuit.load(folder / "circuit.json")
    if circuit.id != found.circuit_id:
        raise FormatError(
            f"{folder}: circuit.json holds circuit {circuit.id}, but run.json is about "
            f"{shortened(found.circuit_id)}. One of them was changed."
        )
    trace = read_text(folder / "trace.jsonl", "trace").splitlines()
    fields = {**vars(found), "measurements": document["measurements"]}
    del fields["circuit_id"]
    return Run(
        **fields | {"scores": _scores(folder / "scores.safetensors", circuit.graph, found.scores)},
        circuit=circuit,
        trace=read_trace(trace, str(folder / "trace.jsonl"), circuit.graph),
    )


def _scores(path: Path, graph: Graph, about: _Scores) -> EdgeScores:
    if not path.is_file():
        raise FormatError(f"cannot read the scores file {path}: there is no such file.")
    try:
        values = load_file(path)["values"]
        if not values.is_floating_point():
            raise FormatError(f"it holds {values.dtype}")
        return EdgeScores(graph, values, about.method, about.meaning)
    except (KeyError, ValueError, OSError, SafetensorError) as reason:
        raise FormatError(f"{path}: not a scores file: {shortened(str(reason), 240)}") from reason
