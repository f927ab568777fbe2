"""The folder beside --out that keeps a run's decisions until the run is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgewise.cli import show
from edgewise.discovery import OnProgress, Progress
from edgewise.errors import OutputError, SettingError
from edgewise.record import Run, decisions_kept, remove_unfinished
from edgewise.reporting.text import count


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
    n = decisions_kept(folder)
    if resume and n is None:
        raise SettingError(f"--resume found no unfinished run: there is no folder {folder}.")
    if n and not resume:
        raise OutputError(
            f"{folder} holds {count(n, 'decision')} of a run that did not finish. "
            "Add --resume to go on from there, or remove it to start anew."
        )
    if n and not quiet:
        show.say(f"going on after {count(n, 'decision')}, kept in {folder}")
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
        n = None if journal is None else decisions_kept(journal)
        if not n:
            raise
        where = f" after {last[0].done:,} of {last[0].total:,} edges" if last else ""
        raise Stopped(
            f"stopped{where}, with {count(n, 'decision')} kept in {journal}. "
            "Run the same command with --resume to go on."
        ) from None


def save(run: Run, out: Path, journal: Path) -> None:
    """Write the run, and only then remove its journal. Raises `OutputError`."""
    try:
        run.save(out)
    except OutputError as reason:
        if not decisions_kept(journal):
            raise
        raise OutputError(
            f"{str(reason).rstrip('.')}. Nothing is lost: its decisions are kept in {journal}. "
            "Run the same command with --resume to write it."
        ) from reason
    remove_unfinished(journal)
