"""The folder beside --out that keeps a run's decisions until the run is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgewise.cli import show
from edgewise.errors import OutputError, SettingError
from edgewise.methods import OnProgress, Progress
from edgewise.record import Run, decisions_kept, remove_unfinished, work_kept


class Stopped(SystemExit):
    """Ctrl-C, with a sentence on what is kept; exit code 130."""

    def __init__(self, message: str) -> None:
        super().__init__(130)
        self.message = message


def journal_beside(out: Path | None, *, resume: bool, quiet: bool) -> Path | None:
    """Where the decisions of a run into `out` are kept; None without `out`.

    Raises `SettingError` if there is nothing to resume, `OutputError` if there is and nobody asked.
    """
    if out is None:
        if resume:
            raise SettingError(
                "--resume needs --out, the folder that the run was to be written to."
            )
        return None
    named = out if out.name else out.absolute()
    folder = named.with_name(f"{named.name}.unfinished")
    kept = work_kept(folder)
    if resume and decisions_kept(folder) is None:
        raise SettingError(f"--resume found no unfinished run: there is no folder {folder}.")
    if kept and not resume:
        raise OutputError(
            f"{folder} holds {kept} of a run that did not finish. "
            "Add --resume to go on from there, or remove it to start anew."
        )
    if kept and not quiet:
        show.say(f"going on after {kept}, kept in {folder}")
    return folder


@contextmanager
def keeping(journal: Path | None) -> Iterator[Callable[[OnProgress], OnProgress]]:
    """Turn Ctrl-C into `Stopped`, which says how far the progress passed on here has come."""
    last: list[Progress] = []

    def watched(on_progress: OnProgress) -> OnProgress:
        def seen(step: Progress) -> None:
            last[:] = [step]
            on_progress(step)

        return seen

    try:
        yield watched
    except KeyboardInterrupt:
        kept = None if journal is None else work_kept(journal)
        if not kept:
            raise
        what = "edges" if kept.endswith(("decision", "decisions")) else "steps"
        where = f" after {last[0].done:,} of {last[0].total:,} {what}" if last else ""
        raise Stopped(
            f"stopped{where}, with {kept} kept in {journal}. "
            "Run the same command with --resume to go on."
        ) from None


def save(run: Run, out: Path, journal: Path, *, overwrite: bool) -> None:
    """Write the run, and only then remove its journal. Raises `OutputError`."""
    try:
        run.save(out, overwrite=overwrite)
    except OutputError as reason:
        kept = work_kept(journal)
        if not kept:
            raise
        raise OutputError(
            f"{str(reason).rstrip('.')}. Nothing is lost: {kept} stay in {journal}. "
            "Run the same command with --resume to write it."
        ) from reason
    remove_unfinished(journal)
