"""Methods of a user's own: a function (problem) -> scores or circuits, wherever it lives.

`package.module:function` is imported, from the current folder too. A package offers one to everyone
as an entry point of the group "edgewise.methods", by its name.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from edgewise.errors import SettingError

GROUP = "edgewise.methods"
OwnMethod = Callable[[Any], Any]


def own_names() -> list[str]:
    """The names of the methods that installed packages offer."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def own_method(name: str) -> OwnMethod | None:
    """The function of `module:function` or of an entry point; None if `name` is neither.

    Raises `SettingError` if it cannot be imported or is no function of one argument.
    """
    if ":" in name:
        return check_function(_imported(name), name)
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    if not found:
        return None
    where = f"{name} (entry point {found[0].value} of group {GROUP})"
    try:
        loaded = found[0].load()
    except Exception as reason:
        raise SettingError(f"method {where}: {type(reason).__name__}: {reason}") from reason
    return check_function(loaded, where)


def check_function(function: Any, where: str) -> OwnMethod:
    """The function, if it can be called with a problem. Raises `SettingError`."""
    if not callable(function):
        raise SettingError(
            f"method {where} is a {type(function).__name__}; it must be a function "
            "(problem) -> EdgeScores, Circuit or list of Circuits."
        )
    try:
        inspect.signature(function).bind(object())
    except TypeError as reason:
        raise SettingError(
            f"method {where} cannot be called with a problem alone: {reason}. "
            "Give its other arguments defaults."
        ) from reason
    except ValueError:
        pass  # no signature to be had; the first call will tell
    return function


def _imported(name: str) -> Any:
    module_name, _, path = name.partition(":")
    if module_name.endswith(".py"):
        stem = Path(module_name).stem
        raise SettingError(
            f"method {name}: name the module, not its file: {stem}:{path}, from the folder that "
            f"holds {stem}.py."
        )
    try:
        with _current_folder_too():
            found: Any = importlib.import_module(module_name)
    except Exception as reason:
        raise SettingError(f"method {name}: {type(reason).__name__}: {reason}") from reason
    for part in path.split("."):
        if not hasattr(found, part):
            functions = [n for n, _ in inspect.getmembers(found, inspect.isfunction)]
            there = f"It has {', '.join(functions[:8])}." if functions else "It has no functions."
            raise SettingError(f"method {name}: there is no {part!r} in {module_name}. {there}")
        found = getattr(found, part)
    return found


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
