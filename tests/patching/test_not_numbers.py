"""Logits that are no numbers and metrics that measure nothing: refused, or said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import edgewise as ew
from edgewise.errors import MetricError, ProblemError
from edgewise.metrics import METRICS
from models import random_model, random_pairs


def damaged(model: ew.Model, name: str, row: int) -> ew.Model:
    """The model with NaN in one row of one tensor, as nothing would load it."""
    weights = {**model.weights, name: model.weights[name].clone()}
    weights[name][row] = torch.nan
    return replace(model, weights=weights)


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_logits_that_are_no_numbers_are_refused_by_every_metric(metric):
    model = random_model(2)
    pairs = random_pairs(model, 2)
    bad = damaged(model, "blocks.1.mlp.W_out", 0)
    for method, settings in (("acdc", {"threshold": 0.1}), ("exact", {}), ("random", {})):
        with pytest.raises(MetricError, match=rf"'{metric}' is nan for 4 of 4 prompts"):
            ew.discover(ew.Problem(bad, pairs, metric), method, **settings)


@pytest.mark.parametrize("metric", sorted(METRICS))
@pytest.mark.parametrize("batch_size", [None, 1])
def test_the_prompt_is_named(metric, batch_size):
    model = random_model(2)
    clean = [[1, 2, 3], [4, 5, 6], [7, 8, 3]]
    pairs = ew.PromptPairs.from_tokens(clean, [[2, 2, 2]] * 3, answers=[1, 2, 3], wrong=[4, 5, 6])
    bad = damaged(model, "embed.W_E", 7)  # in the last prompt alone
    problem = ew.Problem(bad, pairs, metric, batch_size=batch_size)
    with pytest.raises(MetricError, match=rf"'{metric}' is nan for 1 of 3 prompts \(prompt 2\)"):
        problem.baselines()
    if metric not in ("accuracy", "fraction-correct"):
        for method in ("eap", "eap-ig", "atp-star", "hisp"):
            with pytest.raises(MetricError, match="prompt 2"):
                ew.discover(problem, method)


def test_infinite_logits_and_a_target_that_gives_no_numbers():
    model = random_model(3)
    pairs = random_pairs(model, 3)
    huge = replace(
        model, weights={**model.weights, "unembed.W_U": model.weights["unembed.W_U"] * 1e308 * 10}
    )
    for metric in ("accuracy", "kl", "logit-diff"):
        with pytest.raises(MetricError, match="for 4 of 4 prompts"):
            ew.Problem(huge, pairs, metric).baselines()
    target = damaged(model, "embed.W_E", int(pairs.clean[1, 0]))
    with pytest.raises(MetricError, match="'kl' is nan"):
        ew.Problem(model, pairs, "kl", target=target).baselines()


def test_a_metric_of_ones_own_that_measures_nothing():
    model = random_model(4)
    pairs = random_pairs(model, 4)

    def noisy(logits, rows):
        return logits[:, 0] + torch.rand(len(logits))

    def turned(logits, rows):
        return torch.complex(logits[:, 0], logits[:, 1])

    def constant(logits, rows):
        return torch.ones(len(logits))

    with pytest.raises(MetricError, match=r"'noisy' gives other numbers .* each time"):
        ew.discover(ew.Problem(model, pairs, noisy), "acdc", threshold=0.1)
    with pytest.raises(MetricError, match="'turned' returned complex numbers"):
        ew.discover(ew.Problem(model, pairs, turned), "acdc", threshold=0.1)
    for method, settings in (("acdc", {"threshold": 0.1}), ("exact", {})):
        run = ew.discover(ew.Problem(model, pairs, constant), method, **settings)
        assert "No edge changed 'constant'" in run.notes[-1]
    kept = ew.discover(ew.Problem(model, pairs, "kl"), "acdc", threshold=0.1)
    assert kept.notes == ()


@pytest.mark.parametrize("metric", ["logit-diff", "logit-margin", "prob-diff", "fraction-correct"])
def test_answers_that_are_wrong_too(metric):
    model = random_model(5)
    pairs = ew.PromptPairs.from_tokens(
        [[1, 2], [3, 4]], [[2, 2], [2, 4]], answers=[[1, 2], [3, 3]], wrong=[[4, 2], [5, 6]]
    )
    with pytest.raises(ProblemError, match=r"pair 0: token id 2 is an answer and a wrong .*1 of 2"):
        ew.Problem(model, pairs, metric)
    ew.Problem(model, pairs, "kl")  # compares no answers
    ew.Problem(model, pairs, "nll")
