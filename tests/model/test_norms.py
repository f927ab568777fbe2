"""Gradients back through norms, in closed form, are those of automatic differentiation."""

import pytest
import torch

from edgewise.model import blocks
from edgewise.model.config import NORMS


@pytest.mark.parametrize("in_cache", [1, 10**9])
@pytest.mark.parametrize("kind", NORMS)
def test_pullback_is_the_derivative(kind, in_cache, monkeypatch):
    monkeypatch.setattr(blocks, "_IN_CACHE", in_cache)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = (draw(6), draw(6)) if NORMS[kind].affine else ()
    norm = blocks.Norm(NORMS[kind], 1e-3, *weights)
    x, gradients = draw(2, 3, 6) + 1, draw(5, 2, 3, 6)
    before = gradients.clone()
    result = norm.pullback(x, gradients)
    pull = torch.func.vjp(norm, x)[1]
    expected = torch.stack([pull(gradient)[0] for gradient in gradients])
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
    assert torch.equal(gradients, before)
