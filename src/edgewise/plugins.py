"""Code of the user's own: a Python file, `module:name`, or an entry point of an installed package.

Loading it runs it: a name that a file holds (a run's record) is loaded only where the user says so.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from traceback import walk_tb
from types import FrameType, ModuleType
from typing import Any

from edgewise.errors import EdgewiseError, FormatError, SettingError, shortened

TASKS, METHODS = "edgewise.tasks", "edgewise.methods"  # groups of entry points
_HAVE_RUN: dict[Path, tuple[bytes, ModuleType]] = {}  # a file's text when it was run, its module


def offered(group: str) -> list[str]:
    """The names that installed packages offer in a group of entry points."""
    return sorted({point.name for point in entry_points(group=group)})


def packages() -> set[str]:
    """The packages that offer something: their code is a user's."""
    points = [point for group in (TASKS, METHODS) for point in entry_points(group=group)]
    return {point.module.partition(".")[0] for point in points}


def entry_point(group: str, name: str) -> tuple[Any, str] | None:
    """What a package offers under a name, and how to call it in errors; None if none does.

    Raises `SettingError` if it cannot be loaded.
    """
    points = [point for point in entry_points(group=group) if point.name == name]
    if not points:
        return None
    where = f"{name} (entry point {points[0].value} of group {group})"
    with _explained(where):
        return points[0].load(), where
    return None


def imported(name: str) -> Any:
    """What `module:name` names, the module also from the current folder. Raises `SettingError`."""
    module_name, _, path = name.partition(":")
    if module_name.endswith(".py"):
        stem = Path(module_name).stem
        raise SettingError(
            f"{name}: name the module, not its file: {stem}:{path}, from the folder that holds "
            f"{stem}.py."
        )
    with _explained(name), _current_folder_too():
        value: Any = importlib.import_module(module_name)
    for part in path.split("."):
        if not hasattr(value, part):
            functions = [n for n, _ in inspect.getmembers(value, inspect.isfunction)]
            there = f"It has {', '.join(functions[:8])}." if functions else "It has no functions."
            raise SettingError(f"{name}: there is no {part!r} in {module_name}. {there}")
        value = getattr(value, part)
    return value


def run_file(path: Path) -> ModuleType:
    """The module of a file. It runs once, and again only when its text has changed.

    Raises `FormatError`, with the line of the file.
    """
    if not path.is_file():
        raise FormatError(f"there is no task file {path}.")
    text = path.read_bytes()
    if path in _HAVE_RUN and _HAVE_RUN[path][0] == text:
        return _HAVE_RUN[path][1]
    name = f"edgewise_task_{sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except EdgewiseError:
        raise
    except Exception as reason:
        steps = walk_tb(reason.__traceback__)
        lines = [line for frame, line in steps if _file(frame) == path.resolve()]
        line = reason.lineno if isinstance(reason, SyntaxError) else next(reversed(lines), None)
        where = f"{path}, line {line}" if line else str(path)
        raise FormatError(f"{where}: {type(reason).__name__}: {reason}") from reason
    _HAVE_RUN[path] = text, module
    return module


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """An exception of the user's code as an error that says whose it is."""
    try:
        yield
    except EdgewiseError:
        raise
    except Exception as reason:
        raise SettingError(f"{where}: {type(reason).__name__}: {reason}") from reason


@contextmanager
def _current_folder_too() -> Iterator[None]:
    """An installed command looks for modules beside itself only."""
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


# --- whose code an exception came from


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
