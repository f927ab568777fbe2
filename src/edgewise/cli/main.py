"""Entry point of the `edgewise` command."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence

import typer

from edgewise.cli import commands, judging, models, tasks
from edgewise.cli.compare import compare
from edgewise.cli.evaluate import evaluate
from edgewise.cli.leaderboard import leaderboard
from edgewise.cli.reproduce import reproduce
from edgewise.cli.sweep import sweep
from edgewise.errors import EdgewiseError

app = typer.Typer(
    name="edgewise",
    help="Find the circuit a transformer uses for a behaviour.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="--debug, anywhere, shows a traceback for an error. --json prints results for machines.",
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        import edgewise

        typer.echo(f"edgewise {edgewise.__version__}")
        raise typer.Exit


for command in (
    commands.discover,
    evaluate,
    compare,
    judging.stability,
    judging.certify,
    judging.test,
    sweep,
    reproduce,
    leaderboard,
    commands.report,
    commands.methods,
):
    app.command()(command)
app.add_typer(models.app, name="models")
app.add_typer(tasks.app, name="tasks")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Exit code 0 on success, 2 on an expected error, 130 on Ctrl-C.

    1 says that points of a sweep, or methods of a leaderboard, failed, or that Edgewise has a
    fault. Usage errors (a wrong flag, a word for a number) are typer's to report; it exits with 2
    as well.
    """
    from edgewise.cli import show

    show.accept_any_text()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    warnings.formatwarning = _in_one_line
    try:
        app(args=given, prog_name="edgewise")
    except EdgewiseError as error:
        if debug:
            raise
        _print_error(error, as_json="--json" in given)
        raise SystemExit(2) from None
    except Exception as error:
        if debug:
            raise
        from edgewise.cli.unexpected import explained

        message, code = explained(error)
        _print_error(EdgewiseError(message), as_json="--json" in given)
        raise SystemExit(code) from None
    except SystemExit as stop:
        if stop.code == 130:
            typer.echo(f"edgewise: {getattr(stop, 'message', 'interrupted.')}", err=True)
        raise


def _in_one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    return f"edgewise: {message}\n"


def _print_error(error: EdgewiseError, *, as_json: bool) -> None:
    from edgewise.cli import show

    message = " ".join([str(error), *getattr(error, "__notes__", ())])
    if as_json:
        typer.echo(json.dumps({"error": {"kind": type(error).__name__, "message": message}}))
    show.say(f"edgewise: {message}")


if __name__ == "__main__":
    main()
