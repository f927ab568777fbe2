"""Entry point of the `edgewise` command: its commands, and what becomes of errors."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from traceback import extract_tb

import typer

from edgewise import plugins
from edgewise.cli import console, models, tasks
from edgewise.cli.certify import certify
from edgewise.cli.compare import compare
from edgewise.cli.discover import discover
from edgewise.cli.evaluate import evaluate
from edgewise.cli.leaderboard import leaderboard
from edgewise.cli.methods import methods
from edgewise.cli.options import Command, expanded
from edgewise.cli.report import report
from edgewise.cli.reproduce import reproduce
from edgewise.cli.stability import stability
from edgewise.cli.sweep import sweep
from edgewise.cli.test import hypothesis_tests
from edgewise.errors import EdgewiseError

_MORE = "Add --debug for the traceback."

app = typer.Typer(
    name="edgewise",
    help="Find the circuit a transformer uses for a behaviour.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="--debug, anywhere, shows a traceback for an error. --json prints results for machines.",
)


def _print_version(is_on: bool) -> bool:
    if is_on:
        import edgewise

        typer.echo(f"edgewise {edgewise.__version__}")
        raise typer.Exit
    return is_on


@app.callback()
def _root(
    version: bool = typer.Option(
        False,
        "--version",
        help="Print the version and exit.",
        is_eager=True,
        callback=_print_version,
    ),
) -> None:
    pass


for command in (
    *(discover, evaluate, compare, stability, certify, sweep),
    *(report, methods, leaderboard, reproduce),
):
    app.command(cls=Command)(expanded(command))
app.command(name="test", cls=Command)(expanded(hypothesis_tests))
app.add_typer(tasks.app, name="tasks")
app.add_typer(models.app, name="models")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Exit code 0 on success, 2 on an expected error, 130 on Ctrl-C.

    1 says that points of a sweep, or methods of a leaderboard, failed, or that Edgewise has a
    fault. A reader that goes away (`| head`) ends the command quietly.
    """
    console.accept_any_text()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug, as_json = "--debug" in words, "--json" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    warnings.formatwarning = lambda message, *_, **__: f"edgewise: {message}\n"
    message = ""
    try:
        code = app(args=words, prog_name="edgewise", standalone_mode=False)
        sys.stdout.flush()
    except console.Stopped as stop:
        message, code = str(stop), 130
    except (BrokenPipeError, SystemExit) as stop:
        # rich and typer turn a pipe that was closed into an exit of their own
        if not {type(stop), type(stop.__context__)} & {BrokenPipeError}:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the buffer is flushed yet
        code = 0
    except Exception as error:
        if debug:
            raise
        message, code = explained(error)
        if as_json:
            console.as_json({"error": {"kind": type(error).__name__, "message": message}})
    if message or code == 130:  # Ctrl-C
        console.say(f"edgewise: {message or 'interrupted.'}")
    raise SystemExit(code)


def explained(error: Exception) -> tuple[str, int]:
    """An error in one line, and the exit code: 1 for a fault of Edgewise, 2 for the user's."""
    if isinstance(error, EdgewiseError):
        return plugins.explained(error), 2
    if hasattr(error, "format_message"):  # a wrong option or word: typer's to describe
        return " ".join(str(error.format_message()).split()), 2
    what = plugins.explained(error).rstrip(".")
    if plugins.users_place(error) or isinstance(error, OSError):
        return f"{what}. {_MORE}", 2
    if isinstance(error, MemoryError):
        return f"there is not enough memory. Try a smaller --batch-size. {_MORE}", 2
    last = extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(last.filename)}, line {last.lineno}"
    return f"a fault in Edgewise ({where}), which is worth a report: {what}. {_MORE}", 1


if __name__ == "__main__":
    main()
