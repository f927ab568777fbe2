"""Whose code an exception came from: a user's task, metric or method, or ours."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from traceback import walk_tb
from types import FrameType

from edgewise.errors import EdgewiseError, shortened
from edgewise.plugins import packages


def explained(error: BaseException) -> str:
    """An exception in one line, with its notes, and where in a user's code it was raised."""
    text = " ".join([str(error), *getattr(error, "__notes__", ())]).strip()
    if isinstance(error, EdgewiseError):
        return text or type(error).__name__
    kind = type(error).__name__
    line = f"{kind}: {shortened(' '.join(text.split()), 300)}" if text else kind
    place = users_place(error)
    return line if place is None else f"{line} (in {place[0]}, {place[1].name}, line {place[2]})"


def users_place(error: BaseException) -> tuple[str, Path, int] | None:
    """Function, file and line, the innermost in a user's code that Edgewise called; None if none.

    The code that called Edgewise is not meant.
    """
    frames = list(walk_tb(error.__traceback__))
    ours = [i for i, (frame, _) in enumerate(frames) if _file(frame).is_relative_to(_OURS)]
    inside = frames[ours[0] :] if ours else []
    for frame, line in reversed(inside):
        if _is_users(frame):
            return frame.f_code.co_qualname, _file(frame), line
    return None


_OURS = Path(__file__).resolve().parent
_INSTALLED = {Path(sysconfig.get_path(n)).resolve() for n in ("stdlib", "purelib", "platlib")}


def _file(frame: FrameType) -> Path:
    return Path(frame.f_code.co_filename).resolve()


def _is_users(frame: FrameType) -> bool:
    """Whether code is neither ours nor a library's; a package of tasks or methods is a user's."""
    if _file(frame).is_relative_to(_OURS) or frame.f_code.co_filename.startswith("<"):
        return False
    module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    installed = any(_file(frame).is_relative_to(folder) for folder in _INSTALLED)
    return module in packages() or not installed
