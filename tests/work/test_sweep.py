"""A sweep is the runs of its values, one by one; what they share is done once."""

import numpy as np
import pytest
import torch

import edgewise as ew
from models import random_model, random_pairs


def small_problem(metric="logit-diff", **options):
    model = random_model()
    graph = ew.Graph.of(model, **options)
    return ew.Problem(model, random_pairs(model), metric, "corrupted", graph=graph)


SWEEPS = [
    ("acdc", {"threshold": [0.3, 0.01, 0.1], "head_order": "ascending"}),
    ("eap", {"edges": [0, 5, 46]}),
    ("eap-ig", {"share": (0.5, 0.1), "steps": 2, "select": "greedy"}),
    ("exact", {"above": [0.0, 0.02], "by": "signed"}),
    ("relp", {"nodes": range(7)}),
    ("random", {"by": ["signed", "absolute"], "edges": 3, "seed": 4}),
    ("random", {"seed": range(3), "edges": 3}),
    ("hisp", {"activations": [14, 0, 3], "reading": "code"}),
    ("hisp", {"activation_share": np.linspace(0, 1, 4)}),
    ("acdc-ordered", {"threshold": [0.1, 0.01]}),
    ("sp", {"regularisation": [0.01, 10], "steps": 3, "learning_rate": 0.1}),
    ("sp-edges", {"regularisation": torch.tensor([0.5, 10.0]), "steps": 3}),
    ("edge-pruning", {"sparsity": [0.2, 0.9], "steps": 3}),
    ("ugs", {"seed": [0, 1], "regularisation": 0.1, "steps": 3}),
]


@pytest.mark.parametrize(("method", "settings"), SWEEPS)
def test_a_sweep_is_its_runs_one_by_one(method, settings):
    problem, seen = small_problem(), []
    (name,) = (k for k, v in settings.items() if not isinstance(v, str | int | float))
    runs = ew.sweep(problem, method, on_progress=seen.append, **settings)
    assert len(runs) == len(settings[name])
    for run, value in zip(runs, settings[name], strict=True):
        one = float(value) if isinstance(value, torch.Tensor) else value
        alone = ew.discover(problem, method, **{**settings, name: one})
        assert run.circuit == alone.circuit
        torch.testing.assert_close(run.scores.values, alone.scores.values)
        assert run.settings == alone.settings
        assert run.settings_given == alone.settings_given
        faith, other = (r.measurements["faithfulness"]["circuit"] for r in (run, alone))
        assert faith == pytest.approx(other)
        assert run.notes == alone.notes
    assert seen or method == "random"


@pytest.mark.parametrize(
    ("method", "axes"),
    [
        ("random", {"seed": [0, 1], "edges": [3, 5]}),
        ("acdc", {"head_order": ["ascending", "descending"], "threshold": [0.1, 0.01]}),
    ],
)
def test_several_settings_are_multiplied(method, axes):
    problem = small_problem()
    runs = ew.sweep(problem, method, **axes)
    (first, firsts), (second, seconds) = axes.items()
    expected = [{first: a, second: b} for a in firsts for b in seconds]
    assert [run.settings_given for run in runs] == expected
    for run, settings in zip(runs, expected, strict=True):
        assert run.circuit == ew.discover(problem, method, **settings).circuit


def test_every_k_of_hisp_is_one_gradient():
    problem = small_problem(switches=True)
    n = len(problem.graph.receivers) - 1
    runs = ew.sweep(problem, "hisp", activations=range(n + 1))
    alone = ew.hisp(problem, activations=3)
    assert runs[3].circuit == alone.circuit
    assert {run.cost.backward_passes for run in runs} == {1}


def test_scores_are_computed_once_and_trainings_each():
    alone = ew.eap_ig(small_problem(), steps=3).cost
    for run in ew.sweep(small_problem(), "eap-ig", edges=[3, 6, 9], steps=3):
        assert run.cost.backward_passes == alone.backward_passes == 3
        assert run.cost.forward_passes == alone.forward_passes
    for run in ew.sweep(small_problem(), "sp", regularisation=[0.1, 1], steps=3):
        assert run.cost.backward_passes == 4  # one is the check that gradients reach the masks


def test_progress_says_which_value_it_is_about():
    seen = []
    problem = small_problem()
    ew.sweep(problem, "sp", regularisation=[0.1, 1], steps=2, on_progress=seen.append)
    assert [(p.done, p.message.partition(":")[0]) for p in seen] == [
        (1, "regularisation 0.1"),
        (2, "regularisation 0.1"),
        (1, "regularisation 1.0"),
        (2, "regularisation 1.0"),
    ]


def test_a_larger_lambda_keeps_fewer_units():
    task = ew.load_task("tracr-xproportion", data="paper")
    runs = ew.sweep(task.problem, "sp", regularisation=[0, 0.05, 100], steps=150, learning_rate=0.1)
    sizes = [run.circuit.n_edges for run in runs]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 2  # the embeddings' edges to the output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"edges": []}, "edges of eap is empty; a sweep needs at least one value"),
        ({"edges": [3, -1]}, "edges is -1; it must be a whole number"),
        ({"edges": [3, 1000]}, "asked for 1000 edges; the graph has"),
        ({"edge": [3]}, "no setting of eap named 'edge'. Did you mean 'edges'"),
    ],
)
def test_what_is_no_sweep(settings, message):
    with pytest.raises(ew.EdgewiseError, match=message):
        ew.sweep(small_problem(), "eap", **settings)


def test_values_are_checked_before_anything_runs():
    seen = []
    with pytest.raises(ew.EdgewiseError, match="regularisation is -1"):
        ew.sweep(small_problem(), "sp", regularisation=[1, -1], on_progress=seen.append)
    assert not seen
