"""Forecasts: what a run will take, from running a part of it."""

import pytest

import edgewise as ew
from edgewise.methods.forecast import forecast
from edgewise.methods.settings import ACDCSettings
from models import random_model, random_pairs


def problem_of(n_prompts, seed=0):
    model = random_model(seed, n_layers=3, n_heads=4, d_model=16, d_head=4)
    return ew.Problem(model, random_pairs(model, seed, lengths=[6] * n_prompts), "kl", "corrupted")


def test_a_run_that_ends_in_time_is_no_longer_a_guess():
    problem = problem_of(8)
    expected = forecast(problem, ACDCSettings(threshold=1e6))
    run = ew.acdc(problem, threshold=1e6)
    assert expected.finished
    assert expected.edge_tests == run.cost.edge_tests
    assert expected.edges_kept == run.circuit.n_edges


@pytest.mark.parametrize("threshold", [0.3, 0.003])
def test_tests_are_expected_within_a_factor_of_two(threshold):
    """Over a few models together: attribution may misjudge a small one."""
    problems = [problem_of(8, seed) for seed in range(4)]
    expected = [forecast(problem, ACDCSettings(threshold=threshold)) for problem in problems]
    made = sum(ew.acdc(problem, threshold=threshold).cost.edge_tests for problem in problems)
    assert 0.5 < sum(each.edge_tests for each in expected) / made < 2


@pytest.mark.parametrize("metric", ["kl", "accuracy"])
def test_without_time_it_still_answers(metric):
    """And where the metric has no gradient, with what a run takes at most."""
    settings = ACDCSettings(threshold=1e-6)
    few, many = (
        forecast(problem_of(n).with_(metric=metric), settings, seconds=0.0) for n in (2, 64)
    )
    assert (few.finished, few.sampled_tests) == (False, 1)
    assert few.seconds > 0
    assert few.at_most == (metric == "accuracy")
    assert 0 < few.edge_tests <= problem_of(2).graph.n_edges
    assert many.memory_bytes > few.memory_bytes
