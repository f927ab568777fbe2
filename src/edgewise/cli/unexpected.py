"""An exception that is no error of ours, in one line: whose code it came from, and where."""

from __future__ import annotations

from pathlib import Path
from traceback import walk_tb

from edgewise.blame import users_place
from edgewise.errors import shortened

_MORE = "Add --debug for the traceback."


def explained(error: Exception) -> tuple[str, int]:
    """The line, and the exit code: 1 for a fault of Edgewise, 2 for what the user can mend."""
    what = f"{type(error).__name__}: {shortened(' '.join(str(error).split()), 300)}"
    if place := users_place(error):
        name, file, line = place
        return f"{name} in {shortened(str(file), 200)}, line {line}: {what}. {_MORE}", 2
    if isinstance(error, OSError) and error.strerror:
        names = (error.filename, error.filename2)
        where = "".join(f": {shortened(str(name))}" for name in names if name is not None)
        return f"{error.strerror}{where}. {_MORE}", 2
    if isinstance(error, MemoryError):
        return f"there is not enough memory. Try a smaller --batch-size. {_MORE}", 2
    *_, (frame, line) = walk_tb(error.__traceback__)
    where = f"{Path(frame.f_code.co_filename).name}, line {line}"
    return f"a fault in Edgewise ({where}), which is worth a report: {what}. {_MORE}", 1
