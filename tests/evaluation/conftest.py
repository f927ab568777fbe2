"""What several tests of evaluation need."""

import pytest
import torch

import edgewise as ew
from models import random_model, random_pairs


@pytest.fixture
def unchecked():
    """Without the tests' own checks of annotations: what a user's call meets."""
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def small_problem():
    """Makes a problem of a random model, of two layers unless said, and random prompts."""

    def make(seed=0, metric="logit-diff", ablation="corrupted", *, n=3, n_layers=2):
        model = random_model(seed, n_layers=n_layers)
        return ew.Problem(model, random_pairs(model, seed, n=n), metric, ablation)

    return make


@pytest.fixture(scope="session")
def random_scores():
    """Makes random scores of a graph's edges."""

    def make(graph, seed=0):
        generator = torch.Generator().manual_seed(seed)
        values = torch.randn(graph.exists.shape, generator=generator, dtype=torch.float64)
        return ew.EdgeScores(graph, values, "made up", "nothing")

    return make
