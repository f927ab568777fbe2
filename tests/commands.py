"""The command line as a user meets it: what a command prints, and how it ends."""

import os
import subprocess
import sys
import time

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


def started(folder, *arguments):
    """A command in a process of its own, with one thread."""
    return subprocess.Popen(
        [sys.executable, "-m", "edgewise", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finished(folder, *arguments):
    """What a command in a process of its own prints on stdout and stderr, if it ends well."""
    process = started(folder, *arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def stopped_by(signal, process, journal, lines):
    """Send a signal once a journal has so many lines; exit code, stdout and stderr."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.005)
    process.send_signal(signal)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err
