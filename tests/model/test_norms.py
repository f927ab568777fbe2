"""Gradients back through norms, in closed form, are those of automatic differentiation."""

from types import SimpleNamespace

import pytest
import torch

from edgewise.model import norms
from edgewise.model.parts import NORMS


@pytest.mark.parametrize("in_cache", [1, 10**9])
@pytest.mark.parametrize("kind", NORMS)
def test_norm_pullback_is_the_derivative(kind, in_cache, monkeypatch):
    monkeypatch.setattr(norms, "_IN_CACHE", in_cache)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = {"blocks.0.ln1.w": draw(6), "blocks.0.ln1.b": draw(6)} if NORMS[kind].affine else {}
    config = SimpleNamespace(norm=kind, pre_norm=True, eps=1e-3)
    model = SimpleNamespace(config=config, weights=weights)
    x, gradients = draw(2, 3, 6) + 1, draw(5, 2, 3, 6)
    before = gradients.clone()
    found = norms.norm_pullback(model, "blocks.0.ln1", x, gradients=gradients)
    pull = torch.func.vjp(lambda y: norms.norm(model, "blocks.0.ln1", y), x)[1]
    expected = torch.stack([pull(gradient)[0] for gradient in gradients])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert torch.equal(gradients, before)


def test_without_a_norm_before_a_layer_gradients_pass():
    model = SimpleNamespace(config=SimpleNamespace(norm="rmsnorm", pre_norm=False), weights={})
    gradients = torch.randn(2, 1, 1, 4)
    assert (
        norms.norm_pullback(model, "blocks.3.ln1", gradients[0], gradients=gradients) is gradients
    )
