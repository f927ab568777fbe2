"""One method on several problems: a run for each, in a folder that a stopped call goes on from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgewise.errors import EdgewiseError, OutputError, SettingError
from edgewise.methods import AnyMethod, Method, OnProgress, Progress, ignore_progress, method_of
from edgewise.problem import Problem, check_is_problem
from edgewise.run import Run, check_output_folder, discover
from edgewise.work.identity import difference, warn_if_untold
from edgewise.work.store import remove_unfinished


def discover_each(
    problems: Mapping[str, Problem],
    method: AnyMethod = "acdc",
    *,
    out: str | Path | None = None,
    on_progress: OnProgress = ignore_progress,
    **settings: Any,
) -> dict[str, Run]:
    """A run for each problem, by its name, all with one method and its settings.

    With `out`, each run is saved into a folder of its name there, and work in progress is kept
    beside it: if the call is stopped, the same call goes on from there, and takes runs that are
    finished as they are. Settings, and all that `out` holds, are checked before anything runs.
    Raises as `discover` does.

    >>> import edgewise as ew
    >>> problem = ew.load_task("tracr-reverse").problem
    >>> each = {kind: problem.with_(ablation=kind) for kind in ("zero", "corrupted")}
    >>> {name: run.circuit.n_edges for name, run in discover_each(each, threshold=0.01).items()}
    {'zero': 15, 'corrupted': 3}
    """
    if not isinstance(problems, Mapping) or not problems:
        raise SettingError("discover_each takes problems by name: {'zero': problem, …}.")
    for problem in problems.values():
        check_is_problem(problem, "discover_each")
    chosen = method_of(method)
    resolved = chosen.resolve(settings)
    finished: dict[str, Run] = {}
    folders: dict[str, Path] = {}
    if out is not None:
        folders = run_folders(problems, Path(out))
        finished = finished_runs(problems, folders, chosen, resolved)
    runs = {}
    for place, (name, problem) in enumerate(problems.items(), start=1):
        if name in finished:
            runs[name] = finished[name]
            continue
        about = _about(on_progress, f"{place} of {len(problems)}, {name}")
        # A problem of its own: the activations it keeps are gone with it.
        runs[name] = _run(problem.with_(), method, folders.get(name), about, name, settings)
    return runs


def run_folders(problems: Mapping[str, Problem], out: Path) -> dict[str, Path]:
    """The folder of each problem's run. Raises `OutputError`."""
    if (out / "run.json").exists():
        raise OutputError(f"{out} holds a run. Choose a folder for several runs.")
    folders = {name: out / _folder_name(name) for name in problems}
    if len({str(folder).lower() for folder in folders.values()}) < len(folders):
        raise OutputError(f"the names {', '.join(problems)} do not all give different folders.")
    for folder in folders.values():
        if not (folder / "run.json").exists():
            check_output_folder(folder)
    return folders


def _folder_name(name: str) -> str:
    """The name with what a file system may not take as dashes; hashed where little is left."""
    plain = re.sub(r"[^\w.=-]+", "-", name).strip("-.")
    if 0 < len(plain.encode()) <= 120:
        return plain
    return f"{plain[:30]}-{sha256(name.encode()).hexdigest()[:12]}".strip("-")


def finished_runs(
    problems: Mapping[str, Problem],
    folders: Mapping[str, Path],
    method: Method,
    settings: Any,
) -> dict[str, Run]:
    """The runs that are there already. Raises `OutputError` if one is of other work."""
    found = {}
    for name, folder in folders.items():
        if not (folder / "run.json").exists():
            continue
        run = Run.load(folder)
        work = method.identity(problems[name], settings)
        warn_if_untold(work)
        differs = difference(run.work, work)
        if differs:
            raise OutputError(
                f"{folder} holds a run of other work: {differs}. "
                "Ask for the same again, or choose another folder."
            )
        found[name] = run
    return found


def _run(
    problem: Problem,
    method: AnyMethod,
    folder: Path | None,
    on_progress: OnProgress,
    name: str,
    settings: Mapping[str, Any],
) -> Run:
    journal = None if folder is None else folder.with_name(f"{folder.name}.unfinished")
    try:
        run = discover(problem, method, on_progress=on_progress, journal=journal, **settings)
    except EdgewiseError as reason:
        reason.add_note(f"(In the run {name!r}.)")
        raise
    if folder is not None and journal is not None:
        run.save(folder)
        remove_unfinished(journal)
    return run


def _about(on_progress: OnProgress, which: str) -> OnProgress:
    """Progress that says which problem it is about."""

    def tell(step: Progress) -> None:
        on_progress(replace(step, message=f"({which}) {step.message}"))

    return tell
