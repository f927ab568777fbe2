"""`ew.acdc(problem, threshold=...)`, …: `discover` as a function for each row of the catalogue.

Signatures and docstrings are made from the rows. What a type checker and an editor read is
`functions.pyi`, which `scripts/write_stub.py` writes.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

from edgewise.methods import METHODS, Method, OnProgress, ignore_progress
from edgewise.problem import Problem
from edgewise.run import Run, discover


def _function(method: Method) -> Callable[..., Run]:
    def function(problem: Problem, **keywords: Any) -> Run:
        return discover(problem, method, **keywords)

    function.__name__ = function.__qualname__ = method.function_name
    function.__doc__ = _doc(method)
    function.__signature__ = _signature(method)  # type: ignore[attr-defined]
    return function


def _signature(method: Method) -> inspect.Signature:
    """The problem, the method's settings with their defaults, and what `discover` takes beside."""
    hints, by_name = get_type_hints(method.settings), inspect.Parameter.KEYWORD_ONLY
    first = inspect.Parameter(
        "problem", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Problem
    )
    settings = [
        inspect.Parameter(
            field.name,
            by_name,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(method.settings)
    ]
    more = [
        inspect.Parameter("on_progress", by_name, default=ignore_progress, annotation=OnProgress)
    ]
    if method.resumes:
        kind = str | Path | None
        more.append(inspect.Parameter("journal", by_name, default=None, annotation=kind))
    return inspect.Signature([first, *settings, *more], return_annotation=Run)


def _doc(method: Method) -> str:
    home = f"`edgewise.methods.{method.home.partition('.')[0]}`"
    facts = {
        "Paper": f"{method.paper}; how it works is in {home}",
        "Returns": f"a run with {method.returns}",
        "Needs": method.needs,
        "Costs": method.cost,
        "When": method.when,
    }
    settings = {f"`{field.name}`": field.metadata["help"] for field in fields(method.settings)}
    if method.resumes:
        settings["`journal`"] = "A folder from which a stopped run resumes; see `discover`."
    return "\n".join(
        [
            f"{method.summary}\n",
            *(_paragraph(f"{name}: {text}.") for name, text in facts.items()),
            "",
            *(_paragraph(f"{name}: {text}") for name, text in settings.items()),
        ]
    )


def _paragraph(text: str) -> str:
    return textwrap.fill(
        text, 92, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


__all__ = [method.function_name for method in METHODS.values()]
globals().update({method.function_name: _function(method) for method in METHODS.values()})
