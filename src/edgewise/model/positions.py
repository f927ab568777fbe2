"""What positions do: rotations of queries and keys, biases of scores, and who may look at whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from edgewise.model.model import Model


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

    def rotation(self, positions: Int[Tensor, "batch pos"], dtype: torch.dtype) -> Rotation:
        """The rotation at these positions, its angles computed in float32 in every model.

        So are those of Hugging Face, and a float64 angle would be another model's.
        """
        frequencies = torch.tensor(self.frequencies, dtype=torch.float32, device=positions.device)
        half = positions[..., None].float() * frequencies
        both = half.repeat_interleave(2, dim=-1) if self.interleaved else half.repeat(1, 1, 2)
        cosine = (both.cos() * self.scale).to(dtype)
        sine = (both.sin() * self.scale).to(dtype)
        return Rotation(cosine, sine, self.interleaved)


@dataclass(frozen=True, eq=False)
class Rotation:
    """Cosine and sine of every channel that turns, at the positions of given prompts."""

    cosine: Float[Tensor, "batch pos turned"]
    sine: Float[Tensor, "batch pos turned"]
    interleaved: bool

    def at(self, positions: Int[Tensor, "place"]) -> Rotation:
        """The rotation at some positions alone."""
        return Rotation(self.cosine[:, positions], self.sine[:, positions], self.interleaved)

    def turn(self, x: Float[Tensor, "*vectors pos d_head"]) -> Float[Tensor, "*vectors pos d_head"]:
        """Vectors [… batch pos d_head], turned."""
        n = self.cosine.shape[-1]
        turned = x[..., :n]
        rest = x[..., n:]
        if self.interleaved:  # each pair (a, b) as (-b, a)
            across = torch.stack([-turned[..., 1::2], turned[..., ::2]], dim=-1).flatten(-2)
        else:
            first, second = turned.chunk(2, dim=-1)
            across = torch.cat([-second, first], dim=-1)
        turned = turned * self.cosine + across * self.sine
        return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned


class PromptPositions:
    """What positions do in a run of given prompts: made once, used by every layer.

    Positions are counted from a prompt's first token; a permutation gives position p those of
    `permutation[p]`. Who may look at whom goes by the distance in the prompt. By layer, `allowed`
    says who may look at whom, `rotations` how queries and keys turn, and `biases` what ALiBi adds
    to scaled scores, by key [head batch 1 pos]; None where there is neither. Position embeddings
    are added to the stream (`in_stream`) or to what heads read (`at_heads`).
    """

    def __init__(
        self,
        model: Model,
        real: Bool[Tensor, "batch pos"],
        permutation: Int[Tensor, "_pos"] | None = None,
    ) -> None:
        config = model.config
        n_layers = model.config.n_layers
        positions = (real.cumsum(dim=1) - 1).clamp(min=0)
        if permutation is not None:
            positions = permutation.to(real.device)[positions]
        embedded = None
        if config.positions != "none":
            embedded = model.weights["pos_embed.W_pos"][positions].to(model.compute_dtype)
        self.in_stream = embedded if config.adds_positions else None
        self.at_heads = embedded if config.positions == "shortformer" else None
        windows = config.windows or (0,) * n_layers
        masks = {w: attention_mask(real, causal=config.causal, window=w) for w in {*windows}}
        self.allowed = tuple(masks[window] for window in windows)
        turns = config.rotary or (None,) * n_layers
        made = {turn: turn.rotation(positions, model.compute_dtype) for turn in {*turns} if turn}
        self.rotations = tuple(None if turn is None else made[turn] for turn in turns)
        self.biases: tuple[Tensor | None, ...] = (None,) * n_layers
        if config.alibi_slopes:
            # In bfloat16 whatever the model's dtype, as Hugging Face has it; scaled, as in Falcon.
            slopes = torch.tensor(config.alibi_slopes, device=real.device).bfloat16()
            bias = (slopes[:, None, None, None] * (positions * real)[:, None]).to(
                model.compute_dtype
            )
            self.biases = tuple(bias * scale for scale in config.attention_scales)


def attention_mask(
    real: Bool[Tensor, "batch pos"], *, causal: bool, window: int = 0
) -> Bool[Tensor, "batch pos pos"]:
    """Who may look at whom: real keys, no later than the query if causal, within the window.

    Padding looks at itself alone, so that its softmax has something to sum over.
    """
    n = real.shape[1]
    allowed = real[:, None, :].expand(-1, n, -1)
    if causal or window:
        near = torch.ones(n, n, dtype=torch.bool, device=real.device)
        near = near.tril() if causal else near
        near = near.triu(1 - window) if window else near
        allowed = allowed & near
    return allowed | torch.eye(n, dtype=torch.bool, device=real.device)
