"""An exception that is no error of ours, in one line: whose code it came from, and where."""

from __future__ import annotations

import sysconfig
from importlib.metadata import entry_points
from pathlib import Path
from traceback import walk_tb
from types import FrameType

import edgewise
from edgewise.errors import shortened

_MORE = "Add --debug for the traceback."


def explained(error: Exception) -> tuple[str, int]:
    """The line, and the exit code: 1 for a fault of Edgewise, 2 for what the user can mend."""
    what = f"{type(error).__name__}: {shortened(' '.join(str(error).split()), 300)}"
    frames = [(frame, line) for frame, line in walk_tb(error.__traceback__)]
    ours = [i for i, (frame, _) in enumerate(frames) if _file(frame).is_relative_to(_OURS)]
    inside = frames[ours[0] :] if ours else []  # what called Edgewise is not asked
    own = [(frame, line) for frame, line in inside if _is_users(frame)]
    if own:
        frame, line = own[-1]
        name = frame.f_code.co_qualname
        return f"{name} in {shortened(str(_file(frame)), 200)}, line {line}: {what}. {_MORE}", 2
    if isinstance(error, OSError) and error.strerror:
        names = (error.filename, error.filename2)
        where = "".join(f": {shortened(str(name))}" for name in names if name is not None)
        return f"{error.strerror}{where}. {_MORE}", 2
    if isinstance(error, MemoryError):
        return f"there is not enough memory. Try a smaller --batch-size. {_MORE}", 2
    frame, line = frames[ours[-1]] if ours else frames[-1]
    where = f"{_file(frame).name}, line {line}"
    return f"a fault in Edgewise ({where}), which is worth a report: {what}. {_MORE}", 1


_OURS = Path(edgewise.__file__).resolve().parent
_INSTALLED = {Path(sysconfig.get_path(n)).resolve() for n in ("stdlib", "purelib", "platlib")}


def _file(frame: FrameType) -> Path:
    return Path(frame.f_code.co_filename).resolve()


def _is_users(frame: FrameType) -> bool:
    """Whether code is neither ours nor a library's; a package of tasks or methods is a user's."""
    if _file(frame).is_relative_to(_OURS) or frame.f_code.co_filename.startswith("<"):
        return False
    offered = {
        point.module.partition(".")[0]
        for group in ("edgewise.tasks", "edgewise.methods")
        for point in entry_points(group=group)
    }
    module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    installed = any(_file(frame).is_relative_to(folder) for folder in _INSTALLED)
    return module in offered or not installed
