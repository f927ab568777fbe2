"""The discovery methods by name. To add one: a file like acdc.py, and an entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

from edgewise.discovery.acdc import acdc
from edgewise.discovery.finding import Finding, OnProgress
from edgewise.discovery.journal import Journal
from edgewise.errors import SettingError, unknown_name
from edgewise.problem import Problem
from edgewise.settings import SETTINGS


@dataclass(frozen=True)
class Method:
    """A discovery method: what it is called with, returns and costs, and when to use it."""

    name: str
    summary: str
    paper: str
    returns: str
    cost: str
    when: str
    settings: type[Any]
    function: Callable[[Problem, Any, OnProgress, Journal], Finding]

    def resolve(self, given: dict[str, Any]) -> Any:
        """The settings object for keywords as given. Raises `SettingError`, `UnknownName`."""
        known = {field.name: field for field in fields(self.settings)}
        for name in given:
            if name not in known:
                raise unknown_name(f"setting of {self.name}", name, known)
        missing = [name for name, field in known.items() if _required(field) and name not in given]
        if missing:
            raise SettingError(f"method {self.name!r} needs {', '.join(missing)}.")
        return self.settings(**given)


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="acdc",
            summary="Remove edges one at a time, from the output backwards, as the loss allows.",
            paper="Conmy et al. 2023, arXiv 2304.14997",
            returns="a circuit, a decision per tested edge, deltas as scores",
            cost="one test per edge that is still read; only what the edge changes is recomputed",
            when="you want the paper's circuit, exactly, and a reason for every edge",
            settings=SETTINGS["acdc"],
            function=acdc,
        ),
    )
}


def method_named(name: str) -> Method:
    """The method of a name. Raises `UnknownName`, with suggestions."""
    known = name.replace("_", "-").lower()
    if known not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[known]
