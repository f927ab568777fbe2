"""Forecasts: what a run will take, from running a part of it."""

import pytest

import edgewise as ew
from edgewise.errors import SettingError
from edgewise.methods.forecast import forecast
from edgewise.methods.settings import ACDCSettings
from models import random_model, random_pairs


def problem_of(n_prompts, **shape):
    model = random_model(n_layers=3, n_heads=4, d_model=16, d_head=4, **shape)
    return ew.Problem(model, random_pairs(model, lengths=[6] * n_prompts), "kl", "corrupted")


def test_a_run_that_ends_in_time_is_no_longer_a_guess():
    problem = problem_of(8)
    found = forecast(problem, ACDCSettings(threshold=1e6))
    run = ew.acdc(problem, threshold=1e6)
    assert found.finished
    assert (found.edge_tests, found.edges_kept) == (run.cost.edge_tests, run.circuit.n_edges)


@pytest.mark.parametrize("threshold", [0.3, 0.003])
def test_tests_are_expected_within_a_factor_of_two(threshold):
    """Over a few models together: attribution may misjudge a small one."""
    expected = made = 0
    for seed in range(4):
        model = random_model(seed, n_layers=3, n_heads=4, d_model=16, d_head=4)
        problem = ew.Problem(model, random_pairs(model, seed, n=8), "kl")
        found = forecast(problem, ACDCSettings(threshold=threshold))
        assert not found.at_most
        expected += found.edge_tests
        made += ew.acdc(problem, threshold=threshold).cost.edge_tests
    assert 0.5 < expected / made < 2


@pytest.mark.parametrize("metric", ["kl", "accuracy"])
def test_without_time_it_still_answers(metric):
    """And where the metric has no gradient, with what a run takes at most."""
    problem = problem_of(8).with_(metric=metric)
    found = forecast(problem, ACDCSettings(threshold=1e-6), seconds=0.0)
    assert not found.finished
    assert found.sampled_tests == 1
    assert found.seconds > 0
    assert found.at_most == (metric == "accuracy")
    assert 0 < found.edge_tests <= problem.graph.n_edges


def test_memory_grows_with_the_prompts():
    settings = ACDCSettings(threshold=0.02)
    few, many = (forecast(problem_of(n), settings, seconds=0.0) for n in (2, 64))
    assert many.memory_bytes > few.memory_bytes
    with pytest.raises(SettingError, match="estimates the kl"):
        forecast(
            problem_of(2).with_(metric="l2"), ACDCSettings(threshold=0.02, precision="reduced")
        )
