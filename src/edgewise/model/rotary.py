"""Rotary positions: pairs of a query's or key's channels are turned by an angle per position."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Rotary:
    """How one layer turns its queries and keys (Su et al. 2021, arXiv 2104.09864).

    `frequencies` are radians per position, one per pair of channels; channels beyond those pairs
    stay as they are. A pair is two neighbours (`interleaved`, GPT-J) or one channel of either half
    of those that turn (GPT-NeoX, Llama). `scale` multiplies cosines and sines (YaRN).
    """

    frequencies: tuple[float, ...]
    interleaved: bool = False
    scale: float = 1.0

    def angles(
        self, place: Int[Tensor, "batch pos"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, "batch pos turned"], Float[Tensor, "batch pos turned"]]:
        """Cosine and sine for every channel that turns, computed in float32 in every model.

        So are those of Hugging Face, and a float64 angle would be another model's.
        """
        frequencies = torch.tensor(self.frequencies, dtype=torch.float32, device=place.device)
        half = place[..., None].float() * frequencies
        both = half.repeat_interleave(2, dim=-1) if self.interleaved else half.repeat(1, 1, 2)
        return (both.cos() * self.scale).to(dtype), (both.sin() * self.scale).to(dtype)

    def turn(
        self,
        x: Float[Tensor, "*vectors pos d_head"],
        cosine: Float[Tensor, "batch pos turned"],
        sine: Float[Tensor, "batch pos turned"],
    ) -> Float[Tensor, "*vectors pos d_head"]:
        """Vectors [… batch pos d_head], turned."""
        n = cosine.shape[-1]
        turned, rest = x[..., :n], x[..., n:]
        turned = turned * cosine + self._across(turned) * sine
        return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned

    def _across(self, x: Tensor) -> Tensor:
        """Each pair (a, b) as (-b, a)."""
        if self.interleaved:
            return torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
        first, second = x.chunk(2, dim=-1)
        return torch.cat([-second, first], dim=-1)
