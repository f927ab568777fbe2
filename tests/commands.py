"""The command line as a user meets it: what a command prints, and how it ends."""

import pytest

from edgewise.cli.main import main

REVERSE = ("discover", "--task", "tracr-reverse", "--threshold", "0.01")
TASK = ("--task", "or-gate", "--threshold", "0.01")


def edgewise(capsys, *arguments):
    """Exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err


def ok(capsys, *arguments):
    """What a command prints that ends well."""
    code, out, err = edgewise(capsys, *arguments)
    assert code == 0, err
    return out


def refused(capsys, *arguments):
    """The one line of an expected error; notes and progress may come before."""
    code, _, err = edgewise(capsys, *arguments)
    assert code == 2, err
    assert "Traceback" not in err
    line = err.splitlines()[-1]
    assert line.startswith("edgewise: "), err
    return line
