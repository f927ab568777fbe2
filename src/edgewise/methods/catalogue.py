"""The discovery methods: a row each, with all that is known of a method outside its own file.

A row, a table of catalogue.toml, names the settings, says in words what the method needs, returns,
costs and is for, and as capabilities what others may count on. Command line, `ew.acdc(...)`-style
functions, stub and docs are made from rows; who wants to know what a method can do asks its row,
never its name. Nothing here imports torch: a method's file is imported when it runs.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields, replace
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeAlias

from edgewise import plugins
from edgewise.errors import SettingError, unknown_name
from edgewise.methods import settings as classes
from edgewise.methods.settings import SelectionSettings, Settings

if TYPE_CHECKING:
    from edgewise.problem import Problem
    from edgewise.work.identity import Identity

AnyMethod: TypeAlias = "str | Method | Callable[..., Any]"


@dataclass(frozen=True, kw_only=True)
class Method:
    """A discovery method: what it is called with, returns and costs, when to use it, what it can.

    `home` is "file.function", of its function in this package; a user's own has `function` instead.
    `revision` is raised whenever the method's results change, so that no older ones are reused.
    """

    name: str
    summary: str
    paper: str
    needs: str
    returns: str = "a score per edge, and the circuit of the best"
    cost: str
    when: str
    settings: type[Settings] = SelectionSettings
    home: str = ""
    revision: int = 1
    function: Callable[..., Any] | None = None

    # --- capabilities
    additive: bool = False  # a score is a mean over prompts of what each prompt says by itself
    resumes: bool = False  # from a journal
    takes_order: bool = False  # its function takes `steps`, another order than ACDC's
    has_forecast: bool = False  # `forecast` knows what a run will take
    trains: bool = False  # learns masks; scores are signed, the least are surest to be removed
    baseline: bool = False  # for methods to beat
    variant: bool = False  # of a method that is in the catalogue too
    # Settings of which several values share work, and the home of the function that does it. Where
    # circuits are selected from scores, all that selects them shares the scores.
    shared: tuple[str, ...] = ()
    together: str = ""

    @property
    def function_name(self) -> str:
        """What the method's function is called, in its file and as `edgewise.NAME`."""
        return self.home.rpartition(".")[2]

    def load(self) -> Callable[..., Any]:
        """The method's function."""
        return self.function or _function_at(self.home)

    def load_together(self) -> Callable[..., Any]:
        """The function for several settings that share work."""
        return _function_at(self.together)

    @property
    def selects(self) -> bool:
        """Whether its circuit is selected from its scores, as its settings say."""
        return issubclass(self.settings, SelectionSettings)

    def shares_work(self, setting: str) -> bool:
        """Whether several values of this setting share work."""
        selecting = {field.name for field in fields(SelectionSettings)} if self.selects else set()
        return setting in self.shared or setting in selecting

    def resolve(self, given: dict[str, Any]) -> Any:
        """The settings object for keywords as given. Raises `SettingError`, `UnknownName`."""
        defaults = {field.name: field.default for field in fields(self.settings)}
        for name in given:
            if name not in defaults:
                raise unknown_name(f"setting of {self.name}", name, defaults)
        required = [name for name, default in defaults.items() if default is MISSING]
        missing = [name for name in required if name not in given]
        if missing:
            raise SettingError(f"method {self.name!r} needs {', '.join(missing)}.")
        return self.settings(**given)

    def identity(self, problem: Problem, settings: Any) -> Identity:
        """What decides what this method finds on a problem (see work/identity.py)."""
        from edgewise.work.identity import of_problem

        return {**of_problem(problem), **self.with_settings(settings)}

    def with_settings(self, settings: Any) -> Identity:
        """The method's part of what decides its results."""
        row = {"method": self.name, "revision": self.revision, "settings": asdict(settings)}
        if self.function is None:
            return row
        from edgewise.work.identity import of_function

        return {**row, "function": of_function(self.function)}


def _function_at(home: str) -> Callable[..., Any]:
    file, _, name = home.partition(".")
    return getattr(import_module(f"edgewise.methods.{file}"), name)


def list_methods() -> list[str]:
    """The names of all methods."""
    return list(METHODS)


def method_of(method: AnyMethod) -> Method:
    """The row of a method: by its name, or one of a user's own.

    A user's own is a function (problem) -> scores or circuit; it is given as it is, as
    "module:function", or by the name of an entry point. How a circuit is selected from its scores
    is set as for any method that scores edges. Raises `UnknownName`, with suggestions, and
    `SettingError` for what is no such function.
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str):
        kind = method if hasattr(method, "__qualname__") else type(method)
        name = f"{getattr(kind, '__module__', None) or 'own'}:{kind.__qualname__}"
        return _row_of_own(name, method, name)
    name = method.replace("_", "-").lower()
    if name in METHODS:
        return METHODS[name]
    if ":" in method:
        return _row_of_own(method, plugins.imported(method), method)
    offer = plugins.entry_point(plugins.METHODS, method)
    if offer is None:
        names = plugins.offered(plugins.METHODS)
        hint = "A function of your own is module:function."
        raise unknown_name("method", method, [*METHODS, *names], hint=hint)
    return _row_of_own(method, *offer)


def _row_of_own(name: str, function: Any, where: str) -> Method:
    """The row of a user's function, if it can be called with a problem. Raises `SettingError`."""
    try:
        inspect.signature(function).bind(object())
    except TypeError as reason:  # not callable, or with other arguments
        raise SettingError(
            f"method {where} cannot be called with a problem alone: {reason}. It must be a "
            "function (problem) -> EdgeScores or Circuit; give its other arguments defaults."
        ) from reason
    except ValueError:
        pass  # no signature to be had; the first call will tell
    return replace(_OWN, name=name, function=function)


def _row(name: str, row: dict[str, Any]) -> Method:
    settings = getattr(classes, row.pop("settings", "SelectionSettings"))
    return Method(name=name, settings=settings, shared=tuple(row.pop("shared", ())), **row)


_TEXT = files("edgewise.methods").joinpath("catalogue.toml").read_text(encoding="utf-8")
METHODS = {name: _row(name, row) for name, row in tomllib.loads(_TEXT).items()}
_OWN = METHODS.pop("own")
