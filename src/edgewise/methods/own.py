"""Methods of a user's own: a function (problem) -> scores or circuits, wherever it lives.

`package.module:function` is imported, from the current folder too. A package offers one to everyone
as an entry point of the group "edgewise.methods", by its name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from edgewise.errors import SettingError
from edgewise.plugins import METHODS, entry_point, imported, offered

OwnMethod = Callable[[Any], Any]


def own_names() -> list[str]:
    """The names of the methods that installed packages offer."""
    return offered(METHODS)


def own_method(name: str) -> OwnMethod | None:
    """The function of `module:function` or of an entry point; None if `name` is neither.

    Raises `SettingError` if it cannot be imported or is no function of one argument.
    """
    if ":" in name:
        return check_function(imported(name), name)
    found = entry_point(METHODS, name)
    return None if found is None else check_function(*found)


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
