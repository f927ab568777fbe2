"""Several runs of one method: for several values of its settings, or for several problems."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgewise.errors import EdgewiseError, OutputError, SettingError
from edgewise.methods import AnyMethod, Method, OnProgress, Progress, ignore_progress, method_of
from edgewise.methods.execution import run_together
from edgewise.problem import Problem, check_is_problem
from edgewise.run import Clock, Run, check_output_folder, discover, finished_run
from edgewise.work.grid import combinations, grouped, values_of
from edgewise.work.identity import difference, of_problem, warn_if_untold
from edgewise.work.store import remove_unfinished


def sweep(
    problem: Problem,
    method: AnyMethod = "acdc",
    *,
    on_progress: OnProgress = ignore_progress,
    **settings: Any,
) -> list[Run]:
    """A run for each combination of the settings' values; a list, range or array is several values.

    Any method and any settings; the runs come in the order of the values, and each is what
    `discover` gives with its own. What can be shared is done once: ACDC's search over thresholds,
    the scores from which several circuits are selected (`edges`, `share`, `above`, `nodes`,
    `select`, `by`), HISP's gradients (`activations`, `activation_share`). Work is then counted for
    all of them together: each run's `cost` says what all that share it took. Training shares
    nothing, so a run for another `regularisation` or `seed` has a cost of its own. Raises as
    `discover` does; all values are checked before anything runs.

    >>> import edgewise as ew
    >>> problem = ew.load_task("tracr-reverse").problem
    >>> [run.circuit.n_edges for run in sweep(problem, "eap-ig", edges=[5, 10, 20])]
    [5, 10, 20]
    """
    check_is_problem(problem, "sweep")
    chosen = method_of(method)
    varied = [name for name, value in settings.items() if values_of(value) is not None]
    choices = list(combinations(settings, chosen.name))
    resolved = [chosen.resolve(choice) for choice in choices]

    def not_shared(place: int) -> str:
        return repr([v for k, v in vars(resolved[place]).items() if not chosen.shares_work(k)])

    runs: dict[int, Run] = {}
    for group in grouped(range(len(choices)), not_shared):
        together = [resolved[place] for place in group]
        if any(map(chosen.shares_work, varied)):
            together_runs = runs_together(
                problem, chosen, together, given=list(settings), on_progress=on_progress
            )
        else:
            label = ", ".join(f"{name} {getattr(together[0], name)}" for name in varied)
            told = prefixed(on_progress, f"{label}: " if label else "")
            run = discover(problem, chosen, on_progress=told, **choices[group[0]])
            together_runs = [run] * len(group)  # several only for a value that is given twice
        runs |= zip(group, together_runs, strict=True)
    return [runs[place] for place in range(len(choices))]


def runs_together(
    problem: Problem,
    method: Method,
    settings: Sequence[Any],
    *,
    given: Sequence[str],
    on_progress: OnProgress = ignore_progress,
) -> list[Run]:
    """A run for each of these settings, which differ only in what `shares_work`; work done once.

    `given` names the settings that were given. Raises as `discover` does.
    """
    clock = Clock(problem)
    problem.baselines()  # a metric that fails on the empty circuit fails now, not after hours
    about = of_problem(problem)
    results = run_together(method, problem, settings, on_progress=on_progress)
    clock.stop()
    return [
        finished_run(
            problem,
            result,
            clock,
            work={**about, **method.with_settings(own)},
            given={name: getattr(own, name) for name in given},
            settings=own,
        )
        for own, result in zip(settings, results, strict=True)
    ]


def prefixed(on_progress: OnProgress, prefix: str) -> OnProgress:
    """Progress whose messages begin with what it is about."""

    def tell(step: Progress) -> None:
        on_progress(replace(step, message=f"{prefix}{step.message}"))

    return tell


# --- several problems


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
    beside it: if the call is stopped, the same call resumes, and takes runs that are
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
        finished = _finished_runs(problems, folders, chosen, resolved)
    runs = {}
    for place, (name, problem) in enumerate(problems.items(), start=1):
        if name in finished:
            runs[name] = finished[name]
            continue
        told = prefixed(on_progress, f"({place} of {len(problems)}, {name}) ")
        # A problem of its own: the activations it keeps are gone with it.
        runs[name] = _run(problem.with_(), method, folders.get(name), told, name, settings)
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


def _finished_runs(
    problems: Mapping[str, Problem],
    folders: Mapping[str, Path],
    method: Method,
    settings: Any,
) -> dict[str, Run]:
    """The runs that are there already. Raises `OutputError` if one is of other work."""
    finished = {}
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
        finished[name] = run
    return finished


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
