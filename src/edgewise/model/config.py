"""The facts about a model that its tensors do not say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgewise.errors import UnsupportedModel
from edgewise.model.parts import ACTIVATIONS, NORMS

Positions = Literal["learned", "shortformer", "none"]
_POSITIONS = ("learned", "shortformer", "none")


@dataclass(frozen=True)
class ModelConfig:
    """A transformer's shape and the kinds of its parts.

    `positions`: "learned" embeddings are added to the residual stream; "shortformer" ones to the
    normalised query and key inputs only; "none". `attention_scales` multiplies q·k, per layer.
    `norm` "layernorm-plain" has no weight and bias (they were folded into what reads it).
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    d_vocab_out: int
    norm: str = "layernorm"
    activation: str = "gelu_new"
    positions: Positions = "learned"
    causal: bool = True
    attention_only: bool = False
    parallel: bool = False
    eps: float = 1e-5
    attention_scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        faults = [
            f"{name} {value!r} is not one of {', '.join(known)}"
            for name, value, known in (
                ("norm", self.norm, NORMS),
                ("activation", self.activation, ACTIVATIONS),
                ("positions", self.positions, _POSITIONS),
            )
            if value not in known
        ]
        sizes = ("n_layers", "n_heads", "d_model", "d_head", "d_vocab", "n_ctx", "d_vocab_out")
        faults += [f"{s} is {getattr(self, s)}" for s in sizes if getattr(self, s) < 1]
        if self.attention_scales and len(self.attention_scales) != self.n_layers:
            faults.append(
                f"{len(self.attention_scales)} attention_scales for {self.n_layers} layers"
            )
        if faults:
            raise UnsupportedModel(f"model configuration: {'; '.join(faults)}.")
        if not self.attention_scales:
            scales = (self.d_head**-0.5,) * self.n_layers
            object.__setattr__(self, "attention_scales", scales)

    @property
    def has_mlps(self) -> bool:
        return not self.attention_only

    @property
    def adds_positions(self) -> bool:
        """Whether position embeddings are written to the residual stream."""
        return self.positions == "learned"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "attention_scales": list(self.attention_scales)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> ModelConfig:
        """The inverse of `to_json`. Raises `UnsupportedModel` for fields it does not know."""
        fields = dict(fields)
        if "attention_scale" in fields:  # one for all layers
            fields["attention_scales"] = (fields.pop("attention_scale"),) * fields["n_layers"]
        fields["attention_scales"] = tuple(fields.get("attention_scales", ()))
        unknown = sorted(set(fields) - set(cls.__dataclass_fields__))
        if unknown:
            raise UnsupportedModel(f"model configuration: unknown fields {', '.join(unknown)}.")
        return cls(**fields)
