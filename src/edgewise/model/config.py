"""The facts about a model that its tensors do not say, and the kinds of parts to choose from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from edgewise.documents import decoded
from edgewise.errors import FormatError, UnsupportedModel
from edgewise.model.positions import Rotary


@dataclass(frozen=True)
class NormKind:
    """A kind of norm: over d_model, eps inside the root.

    Those of `form` "layer" subtract the mean, of "rms" do not, and "none" leaves the stream as it
    is, as in compiled programs. `offset` is added to the weight (Gemma). `held`: the denominator
    has no gradient (the LN rule of relevance propagation).
    """

    form: Literal["layer", "rms", "none"]
    affine: bool = True  # it has a weight of its own, and perhaps a bias
    offset: float = 0.0
    held: bool = False


NORMS: dict[str, NormKind] = {
    "layernorm": NormKind("layer"),
    "layernorm-plain": NormKind("layer", affine=False),
    "rmsnorm": NormKind("rms"),
    "rmsnorm-offset": NormKind("rms", offset=1.0),
    "rmsnorm-plain": NormKind("rms", affine=False),
    "none": NormKind("none", affine=False),
}
NORMS |= {f"{name}-linearised": replace(kind, held=True) for name, kind in NORMS.items()}


def linearised(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """x times a constant activation(x) / x (the identity rule of relevance propagation)."""

    def function(x: Tensor) -> Tensor:
        with torch.no_grad():
            tiny = x.abs() < torch.finfo(x.dtype).eps
            ratio = torch.where(tiny, 0.5, activation(x) / torch.where(tiny, 1.0, x))
        return x * ratio

    return function


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": functional.silu,
    "relu2": lambda x: functional.relu(x).square(),
}
ACTIVATIONS |= {f"{name}-linearised": linearised(f) for name, f in ACTIVATIONS.items()}

Positions = Literal["learned", "shortformer", "none"]
QKNorm = Literal["none", "head", "own-head", "layer"]


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in the place of a dense MLP; the whole of it is one node.

    The router's softmax over all experts is cut to the `active` largest, which then add up to one
    if `normalised`. A shared expert of width `d_shared` runs for every token, behind a gate of its
    own; 0 is none.
    """

    n_experts: int
    active: int
    d_expert: int
    normalised: bool = True
    d_shared: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """A transformer's shape and the kinds of its parts.

    `positions`: "learned" embeddings are added to the residual stream; "shortformer" ones to the
    normalised query and key inputs only; "none". `attention_scales` multiplies q·k, per layer.
    `norm` "layernorm-plain" has no weight and bias (they were folded into what reads it).

    What only some families have, per layer where a tuple:
    `n_kv_heads`   heads that keys and values are computed for (0: as many as `n_heads`)
    `gated`        the MLP multiplies activation(x W_gate) into x W_in
    `rotary`       how queries and keys are turned, None for a layer that does not turn them
    `alibi_slopes` a bias of slope times key position on scores before they are scaled, per head
    `windows`      how many tokens back attention sees, its own included; 0 sees everything
    `attention_cap`, `logit_cap`  c tanh(x / c) on attention scores and on logits; 0 is none
    `embedding_scale`  multiplies token embeddings
    `pre_norm`     whether heads and MLPs norm what they read
    `post_norm`    whether what attention and MLP write is normed before it is added to the stream
    `qk_norm`      a norm of queries and keys: of each "head" with one weight for all, of each with
                   its "own-head" weight, or an RMSNorm of the whole "layer"
    `experts`      by layer, None for a dense MLP
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
    n_kv_heads: int = 0
    gated: bool = False
    rotary: tuple[Rotary | None, ...] = ()
    alibi_slopes: tuple[float, ...] = ()
    windows: tuple[int, ...] = ()
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    embedding_scale: float = 1.0
    pre_norm: bool = True
    post_norm: bool = False
    qk_norm: QKNorm = "none"
    experts: tuple[Experts | None, ...] = ()

    def __post_init__(self) -> None:
        faults = [
            f"{name} {value!r} is not one of {', '.join(known)}"
            for name, value, known in (
                ("norm", self.norm, NORMS),
                ("activation", self.activation, ACTIVATIONS),
                ("positions", self.positions, get_args(Positions)),
                ("qk_norm", self.qk_norm, get_args(QKNorm)),
            )
            if value not in known
        ]
        sizes = ("n_layers", "n_heads", "d_model", "d_head", "d_vocab", "n_ctx", "d_vocab_out")
        faults += [f"{s} is {getattr(self, s)}" for s in sizes if getattr(self, s) < 1]
        for name, per in (
            ("attention_scales", self.n_layers),
            ("rotary", self.n_layers),
            ("windows", self.n_layers),
            ("experts", self.n_layers),
            ("alibi_slopes", self.n_heads),
        ):
            length = len(getattr(self, name))
            if length not in (0, per):
                what = "heads" if name == "alibi_slopes" else "layers"
                faults.append(f"{length} {name} for {per} {what}")
        if not self.n_kv_heads:
            object.__setattr__(self, "n_kv_heads", self.n_heads)
        if self.n_kv_heads < 0 or self.n_heads % self.n_kv_heads:
            faults.append(f"{self.n_heads} heads cannot share {self.n_kv_heads} key/value heads")
        if (self.post_norm or self.qk_norm == "layer") and not self.norm.startswith("rms"):
            faults.append(f"norms of outputs and of whole layers are RMSNorms, not {self.norm!r}")
        if self.qk_norm != "none" and self.norm in NORMS and not NORMS[self.norm].affine:
            faults.append(f"norms of queries and keys have weights, which {self.norm!r} has not")
        if faults:
            raise UnsupportedModel(f"model configuration: {'; '.join(faults)}.")
        if not self.attention_scales:
            scales = (self.d_head**-0.5,) * self.n_layers
            object.__setattr__(self, "attention_scales", scales)

    @cached_property
    def has_mlps(self) -> bool:
        return not self.attention_only

    @cached_property
    def adds_positions(self) -> bool:
        """Whether position embeddings are written to the residual stream."""
        return self.positions == "learned"

    @cached_property
    def mixes_heads(self) -> bool:
        """Whether a norm over all of a layer's heads lets each depend on what the others read."""
        return self.post_norm or self.qk_norm == "layer"

    @cached_property
    def group(self) -> int:
        """How many heads share a key/value head."""
        return self.n_heads // self.n_kv_heads

    def to_json(self) -> dict[str, Any]:
        """Everything that differs from a GPT-2 shaped model's default."""
        fields = {k: v for k, v in asdict(self).items() if k not in _NEWER or v != _NEWER[k]}
        if self.n_kv_heads == self.n_heads:
            del fields["n_kv_heads"]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> ModelConfig:
        """The inverse of `to_json`. Raises `UnsupportedModel` for fields it does not know."""
        fields = dict(fields)
        if "attention_scale" in fields:  # one for all layers
            fields["attention_scales"] = (fields.pop("attention_scale"),) * fields["n_layers"]
        unknown = sorted(set(fields) - set(cls.__dataclass_fields__))
        if unknown:
            raise UnsupportedModel(f"model configuration: unknown fields {', '.join(unknown)}.")
        try:
            return decoded(cls, fields, "model configuration")
        except FormatError as reason:
            raise UnsupportedModel(str(reason)) from reason


# Fields that files of older models do not have, and what they are then.
_FIELDS = ModelConfig.__dataclass_fields__
_NEWER = {
    name: _FIELDS[name].default for name in list(_FIELDS)[list(_FIELDS).index("n_kv_heads") :]
}
