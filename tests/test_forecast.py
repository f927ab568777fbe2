"""Forecasts: what a run will take, from running a part of it."""

import pytest

import edgewise as ew
from edgewise.discovery import forecast
from edgewise.errors import SettingError
from edgewise.settings import ACDCSettings
from models import random_model, random_pairs


def problem_of(n_prompts, **shape):
    model = random_model(n_layers=3, n_heads=4, d_model=16, d_head=4, **shape)
    return ew.Problem(model, random_pairs(model, lengths=[6] * n_prompts), "kl", "corrupted")


def test_a_run_that_ends_in_time_is_no_longer_a_guess():
    problem = problem_of(8)
    settings = ACDCSettings(threshold=0.02)
    found = forecast(problem, settings, seconds=60)
    assert found.finished
    assert found.pilot_prompts == 1
    run = ew.acdc(problem, threshold=0.02)
    assert 0.2 * run.cost.seconds < found.seconds < 5 * run.cost.seconds


def test_without_time_it_extrapolates():
    found = forecast(problem_of(8), ACDCSettings(threshold=1e-6), seconds=0.01)
    assert not found.finished
    assert found.seconds > 0
    assert 0 < found.edge_tests <= problem_of(8).graph.n_edges * 1.01


def test_the_pilot_takes_as_many_prompts_as_make_a_problem():
    """The first prompts here equal their corrupted twins, which no problem accepts."""
    model = random_model()
    pairs = random_pairs(model, lengths=[5] * 8)
    pairs.corrupted[:3] = pairs.clean[:3]
    found = forecast(ew.Problem(model, pairs, "kl", "corrupted"), ACDCSettings(threshold=0.02))
    assert found.pilot_prompts == 4


def test_memory_grows_with_what_is_kept():
    settings = ACDCSettings(threshold=0.02)
    few, many = (forecast(problem_of(n), settings, seconds=1) for n in (2, 64))
    assert many.memory_bytes > few.memory_bytes


def test_settings_that_cannot_be_are_refused_here_too():
    problem = problem_of(2).with_(metric="l2")
    with pytest.raises(SettingError, match="knows the rounding"):
        forecast(problem, ACDCSettings(threshold=0.02, precision="reduced"))
