"""`ew.eap(problem, …)`, rows and users' own functions: what a method is called by."""

import inspect
import runpy
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_type_hints

import pytest

import edgewise as ew
from edgewise.methods import METHODS, method_of
from edgewise.methods.session import Session
from edgewise.work.store import Checkpoint
from models import random_model, random_pairs

ROOT = Path(__file__).parents[2]
# Settings that have no default, and ones that make a small run.
NEEDS = {
    "sp": {"regularisation": 0.1, "steps": 2},
    "sp-edges": {"regularisation": 0.1, "steps": 2},
    "edge-pruning": {"sparsity": 0.5, "steps": 2},
    "ugs": {"regularisation": 0.1, "steps": 2},
    "hisp": {"activations": 3},
} | {name: {"threshold": 0.05} for name in METHODS if name.startswith("acdc")}


class Kept(Checkpoint):
    """A checkpoint without a folder that says whether a method used it."""

    records, is_used = (), False

    def __init__(self):
        pass

    def add(self, record):
        self.is_used = True

    def state(self):
        return None

    def save_state(self, tensors, numbers):
        self.is_used = True


def small_problem():
    model = random_model()
    return ew.Problem(model, random_pairs(model), "logit-diff", "corrupted")


def test_the_stub_is_what_the_rows_say():
    written = runpy.run_path(str(ROOT / "scripts" / "write_stub.py"))
    assert written["STUB"].read_text(encoding="utf-8") == written["stub"]()


@pytest.mark.parametrize("name", METHODS)
def test_a_row_tells_the_truth_about_its_function(name):
    row = METHODS[name]
    function, settings = getattr(ew, row.function_name), row.settings
    shown = dict(inspect.signature(function).parameters)
    own = {k: p for k, p in shown.items() if k not in ("problem", "on_progress", "journal")}
    hints = get_type_hints(settings)
    assert list(own) == [field.name for field in fields(settings)]
    for field in fields(settings):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        assert (own[field.name].default, own[field.name].annotation) == (default, hints[field.name])
    inner = inspect.signature(row.load()).parameters
    assert get_type_hints(row.load())["settings"] is settings
    assert ("steps" in inner) == row.takes_order
    assert ("journal" in shown) == row.resumes
    assert set(row.shared) <= set(own)
    assert not row.together or callable(row.load_together())


@pytest.mark.parametrize("name", METHODS)
def test_the_function_runs_its_method_and_names_its_paper(name):
    row, problem, seen, kept = METHODS[name], small_problem(), [], Kept()
    settings, function = NEEDS.get(name, {"edges": 4}), getattr(ew, row.function_name)
    run = function(problem, on_progress=seen.append, **settings)
    assert (run.method, run.settings_given) == (name, settings)
    result = row.load()(problem, row.resolve(settings), Session(checkpoint=kept))
    assert run.circuit == result.circuit
    assert seen
    assert kept.is_used == row.resumes
    assert function.__doc__.startswith(row.summary)
    assert row.paper.partition("arXiv ")[2][:10] in function.__doc__


# --- functions of users


def by_scores(problem):
    return ew.exact(problem).scores


def by_circuit(problem):
    return ew.exact(problem, edges=4).circuit


def test_a_users_function_works_wherever_a_name_does(tmp_path):
    problem = small_problem()
    best = ew.exact(problem, edges=4)
    run = ew.discover(problem, by_scores, edges=4)
    assert (run.circuit, run.method) == (best.circuit, f"{__name__}:by_scores")
    assert run.scores.values.equal(best.scores.values)
    run.save(tmp_path / "run")
    assert ew.Run.load(tmp_path / "run").circuit == run.circuit
    assert ew.discover(problem, f"{__name__}:by_circuit").circuit == best.circuit
    assert (ew.discover(problem, by_circuit).scores.values != 0).sum() == 4
    named = {f"{__name__}:by_scores": {"edges": [2, 4]}}
    grid = ew.sweep_grid(named, over={"task": "tracr-reverse"}, out=tmp_path / "grid")
    assert [grid.circuit(row).n_edges for row in grid.done] == [2, 4]
    board = ew.leaderboard(by_scores, programs=["tracr-reverse"], ablations=["corrupted"], seeds=1)
    assert f"{__name__}:by_scores" in str(board.sentences())
    sizes = ew.sweep(problem, by_scores, edges=[2, 4])
    assert [run.circuit.n_edges for run in sizes] == [2, 4]
    assert ew.stability(problem, by_scores, edges=4, n=16).circuit == best.circuit
    assert ew.certify(problem, by_circuit, n=4).n == 4
    where = {"out": tmp_path / "each"}
    each = ew.discover_each({"a": problem}, by_scores, **where, edges=4)
    again = ew.discover_each({"a": problem}, by_scores, **where, edges=4)
    assert again["a"].started == each["a"].started
    with pytest.raises(ew.EdgewiseError, match="other work"):
        ew.discover_each({"a": problem}, by_circuit, **where)


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        ("sp", {}, "'sp' needs regularisation"),
        ("eap", {"edge": 4}, "setting of eap named 'edge'. Did you mean 'edges'"),
        (lambda problem: 3, {}, "returned a int; return EdgeScores or a Circuit"),
        (lambda problem: ew.exact(problem), {}, "A run has `.scores` and `.circuit`"),
        (by_circuit, {"edges": 3}, "nothing is selected from scores. Leave edges"),
        (by_scores, {"threshold": 0.1}, "named 'threshold'"),
        (lambda problem, more: 3, {}, "cannot be called with a problem alone"),
        ("by_scores", {}, "method named 'by_scores'.*module:function"),
        (
            lambda problem: ew.Circuit.full(ew.Graph.build(1, 1)),
            {},
            "answers on a graph of .* and problem.graph has",
        ),
    ],
)
def test_what_is_no_method_is_refused(function, settings, message):
    with pytest.raises(ew.EdgewiseError, match=message):
        ew.discover(small_problem(), function, **settings)


def test_a_name_in_any_spelling_and_a_row_give_the_row():
    assert method_of(METHODS["eap-ig"]) is METHODS["eap-ig"] is method_of("EAP_IG")
