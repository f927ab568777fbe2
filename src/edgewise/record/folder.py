"""Run folders (run.json, circuit.json, trace.jsonl, scores.safetensors): whole or absent."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from edgewise.circuit import Circuit, EdgeScores
from edgewise.discovery import Decision, read_trace
from edgewise.errors import EdgewiseError, FormatError, OutputError, shortened
from edgewise.record.run import Cost, ProblemSummary, Run
from edgewise.storage import check_format, check_output_place, read_json

FORMAT = "edgewise-run"
VERSION = 1
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
        "measurements": dict(run.measurements),
        "request": dict(run.request),
    }


def load_run(folder: Path) -> Run:
    """Read a run folder. Raises `FormatError`, naming the file at fault."""
    source = folder / "run.json"
    document = read_json(source, "run")
    check_format(document, str(source), FORMAT, VERSION)
    circuit = Circuit.load(folder / "circuit.json")
    if circuit.id != document.get("circuit_id"):
        raise FormatError(
            f"{folder}: circuit.json holds circuit {circuit.id}, but run.json is about "
            f"{document.get('circuit_id')}. One of them was changed."
        )
    try:
        values = load_file(folder / "scores.safetensors")["values"]
        return Run(
            method=document["method"],
            settings_given=document["settings_given"],
            settings=document["settings"],
            problem=ProblemSummary(**document["problem"]),
            circuit=circuit,
            scores=EdgeScores(circuit.graph, values, **document["scores"]),
            trace=_trace(folder / "trace.jsonl"),
            cost=Cost(**document["cost"]),
            environment=document["environment"],
            started=document["started"],
            margin=document["margin"],
            notes=tuple(document.get("notes", ())),
            worst_error=document.get("worst_error"),
            measurements=document["measurements"],
            request=document["request"],
        )
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as reason:
        raise FormatError(f"{folder}: not a complete run folder: {reason}") from reason


def _trace(path: Path) -> tuple[Decision, ...]:
    return read_trace(path.read_text(encoding="utf-8").splitlines(), str(path))
