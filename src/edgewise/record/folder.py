"""Run folders (run.json, circuit.json, trace.jsonl, scores.safetensors): whole or absent."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from edgewise.circuit import Circuit, EdgeScores
from edgewise.discovery import Decision, read_trace
from edgewise.errors import EdgewiseError, FormatError, OutputError
from edgewise.record.run import Cost, ProblemSummary, Run
from edgewise.storage import check_format, read_json

FORMAT = "edgewise-run"
VERSION = 1


def check_output_folder(folder: Path) -> None:
    """Raise `OutputError` unless a run could be written there. Call it before the work starts."""
    if (folder / "run.json").exists():
        raise OutputError(
            f"{folder} already holds a run. Choose another folder, or remove it first."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "is not empty" if folder.is_dir() else "is a file"
        raise OutputError(f"{folder} {what}. Choose a new folder for the run.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".edgewise-").cleanup()
    except OSError as reason:
        raise OutputError(f"cannot write to {folder.parent}: {reason.strerror}.") from reason


def save_run(run: Run, folder: Path) -> Path:
    """Write a run into a new or empty folder. Raises `OutputError`."""
    check_output_folder(folder)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        _write(run, partial)
        partial.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except BaseException as reason:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(reason, OSError | EdgewiseError):
            raise OutputError(f"cannot write the run to {folder}: {_why(reason)}") from reason
        raise
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
