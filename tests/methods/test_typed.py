"""`ew.eap(problem, …)`: every method has such a function, and its keywords are its settings."""

import inspect
from dataclasses import MISSING, fields
from typing import Required, get_origin, get_type_hints

import pytest

import edgewise as ew
from edgewise.methods import METHODS
from edgewise.record import keywords as kw
from edgewise.settings import SETTINGS
from models import random_model, random_pairs

NAMES = {name: name.replace("-", "_") for name in METHODS} | {"random": "random_scores"}
# Settings that have no default, and ones that make a small run.
NEEDS = {
    "sp": {"regularisation": 0.1, "steps": 2},
    "sp-edges": {"regularisation": 0.1, "steps": 2},
    "edge-pruning": {"sparsity": 0.5, "steps": 2},
    "ugs": {"regularisation": 0.1, "steps": 2},
    "hisp": {"units": 3},
} | {name: {"threshold": 0.05} for name in METHODS if name.startswith("acdc")}


def small_problem():
    model = random_model()
    return ew.Problem(model, random_pairs(model), "logit-diff", "corrupted")


def keyword_type(function):
    """The TypedDict of a function's keywords."""
    written = inspect.getsource(function).partition("Unpack[kw.")[2].partition("]")[0]
    return getattr(kw, written)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_function_with_its_settings_and_defaults(method):
    function, settings = getattr(ew, NAMES[method]), SETTINGS[method]
    shown = dict(inspect.signature(function).parameters)
    assert next(iter(shown)) == "problem"
    assert {"on_progress", "journal"} <= set(shown)
    own = {k: p for k, p in shown.items() if k not in ("problem", "on_progress", "journal")}
    hints, typed = get_type_hints(settings), keyword_type(function)
    types, marked = get_type_hints(typed), get_type_hints(typed, include_extras=True)
    assert set(own) == {f.name for f in fields(settings)}
    assert set(types) - {"on_progress", "journal"} == set(own)
    for field in fields(settings):
        required = field.default is MISSING
        assert own[field.name].kind is inspect.Parameter.KEYWORD_ONLY
        assert own[field.name].default == (inspect.Parameter.empty if required else field.default)
        assert own[field.name].annotation == hints[field.name] == types[field.name]
        assert (get_origin(marked[field.name]) is Required) == required


@pytest.mark.parametrize("method", METHODS)
def test_the_function_runs_its_method_and_names_its_paper(method):
    settings, problem = NEEDS.get(method, {"edges": 4}), small_problem()
    function, seen = getattr(ew, NAMES[method]), []
    run = function(problem, on_progress=seen.append, **settings)
    assert run.method == method
    assert run.settings_given == settings
    assert run.circuit == ew.discover(problem, method, **settings).circuit
    assert seen or method == "random"
    paper = METHODS[method].paper.partition("arXiv ")[2][:10]
    assert paper in function.__doc__


def test_a_setting_that_is_missing_or_unknown():
    with pytest.raises(ew.EdgewiseError, match="'sp' needs regularisation"):
        ew.sp(small_problem())
    with pytest.raises(ew.EdgewiseError, match="setting of eap named 'edge'. Did you mean 'edges'"):
        ew.eap(small_problem(), edge=4)
