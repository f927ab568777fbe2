"""A transformer as data: a configuration, named tensors, and a tokenizer if there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.data import Tokenizer
from edgewise.data.tokenizers import as_tokenizer
from edgewise.errors import SettingError
from edgewise.graph import Graph
from edgewise.model.blocks import Block, Norm, widened
from edgewise.model.config import NORMS, ModelConfig
from edgewise.model.lens import translated
from edgewise.model.proof import probed, prove_logits, proved_again
from edgewise.model.runtime import CleanReader, logits_of, run
from edgewise.model.weights import check_finite, check_weights, layers_in_turn, moved, part_of


@dataclass(frozen=True, eq=False)
class Model:
    """A transformer that Edgewise can run and take apart. Load one with `edgewise.load_model`.

    `weights` maps the names of `edgewise.model.weights.schema` to tensors; they may be views of
    another module's parameters. Nothing in Edgewise writes to them.
    """

    config: ModelConfig
    weights: Mapping[str, Tensor]
    name: str = "model"
    tokenizer: Tokenizer | None = None
    processing: str = "none"  # what was done to the published weights, for records
    proof: Mapping[str, Any] = field(
        default_factory=dict
    )  # what loading showed; see model/proof.py

    def __post_init__(self) -> None:
        check_weights(self.config, self.weights, self.name)
        object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))

    @classmethod
    def from_torch(
        cls,
        config: ModelConfig | Mapping[str, Any],
        state_dict: Mapping[str, Tensor],
        *,
        source: Callable[[Tensor], Tensor] | None = None,
        name: str = "model",
        tokenizer: Any = None,
    ) -> Model:
        """A transformer of your own, from its shape and its tensors.

        `state_dict` has the names of `edgewise.model.weights.schema` (TransformerLens's), or those
        of a nanoGPT checkpoint, whose `model_args` are then the config. With `source`, your module
        or a function from tokens [batch pos] to logits, the model proves itself equal to it.
        Tensors are shared, not copied. Raises `UnsupportedModel`, `ProofFailed`, and
        `ModelUnavailable` for tensors that hold NaN or infinity.
        """
        shape, weights = translated(config, state_dict)
        check_finite(weights, name)
        model = cls(shape, weights, name=name, tokenizer=as_tokenizer(tokenizer))
        return model if source is None else replace(model, proof=prove_logits(model, source))

    @cached_property
    def graph(self) -> Graph:
        """The graph of heads with split q/k/v and joined embeddings, without switches."""
        return Graph.of(self)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Its layers, ready to compute."""
        layers = range(self.config.n_layers)
        return tuple(Block(self.config, self.weights, layer) for layer in layers)

    @cached_property
    def final_norm(self) -> Norm:
        """The norm before the unembedding."""
        tensors = (self.weights.get(f"ln_final.{name}") for name in "wb")
        weight, bias = (None if tensor is None else widened(tensor) for tensor in tensors)
        return Norm(NORMS[self.config.norm], self.config.eps, weight, bias)

    @cached_property
    def dtype(self) -> torch.dtype:
        """The dtype of its weights."""
        return self.weights["embed.W_E"].dtype

    @cached_property
    def compute_dtype(self) -> torch.dtype:
        """What runs compute in: the weights' dtype, or float32 where they are of half precision.

        Each product casts its weights as they come: the model still takes half the memory.
        """
        return torch.promote_types(self.dtype, torch.float32)

    @cached_property
    def device(self) -> torch.device:
        """Where its embeddings lie, and every run's residual stream; see `spread`."""
        return self.weights["embed.W_E"].device

    @property
    def n_parameters(self) -> int:
        """How many numbers there are; tied embeddings are one matrix."""
        sizes = {
            (t.untyped_storage().data_ptr(), t.storage_offset(), t.numel()): t.numel()
            for t in self.weights.values()
        }
        return sum(sizes.values())

    def __call__(
        self, tokens: Int[Tensor, "batch pos"], real: Bool[Tensor, "batch pos"] | None = None
    ) -> Float[Tensor, "batch pos vocab"]:
        """Logits of an ordinary forward pass. `real` is False at padding (default: none)."""
        self.check_length(tokens.shape[1])
        tokens = tokens.to(self.device)
        mask = torch.ones_like(tokens, dtype=torch.bool) if real is None else real.to(self.device)
        final, _ = run(self, tokens, mask, graph=self.graph, reader=CleanReader())
        return logits_of(self, final)

    def check_length(self, n_positions: int) -> None:
        """Raise `SettingError` if prompts of this many tokens do not fit."""
        if n_positions > self.config.n_ctx:
            raise SettingError(
                f"prompts of {n_positions} tokens; {self.name} takes at most {self.config.n_ctx}."
            )

    def to(
        self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Model:
        """This model in another dtype or on another device; what shared memory still does.

        It proves itself again there. Raises `ProofFailed` where its logits come out differently.
        """
        return self._moved(moved(self.weights, dtype, lambda _: device))

    def spread(self, devices: Sequence[torch.device | str]) -> Model:
        """This model over several devices: neighbouring layers together, by their sizes.

        The first device holds the embeddings, the unembedding, and the residual streams: what the
        layers elsewhere read and write travels, weights do not. It proves itself again there.
        Raises `SettingError` if there are no devices, or more than layers, and `ProofFailed`.
        """
        if not 0 < len(devices) <= self.config.n_layers:
            raise SettingError(
                f"{len(devices)} devices for {self.config.n_layers} layers; give between one and "
                "as many as there are layers."
            )
        device_of = layers_in_turn(self.weights, [torch.device(device) for device in devices])
        return self._moved(moved(self.weights, None, lambda name: device_of[part_of(name)]))

    def _moved(self, weights: Mapping[str, Tensor]) -> Model:
        moved_model = replace(self, weights=weights)
        same = all(
            tensor.dtype == weights[name].dtype and tensor.device == weights[name].device
            for name, tensor in self.weights.items()
        )
        return moved_model if same else proved_again(moved_model, probed(self))

    @cached_property
    def is_spread(self) -> bool:
        """Whether its weights lie on more than one device."""
        return any(tensor.device != self.device for tensor in self.weights.values())

    def linearised(self) -> Model:
        """The same model with the backward pass of relevance propagation (see config.py)."""
        config = replace(
            self.config,
            norm=f"{self.config.norm}-linearised",
            activation=f"{self.config.activation}-linearised",
        )
        return replace(self, config=config)

    def __repr__(self) -> str:
        c = self.config
        millions = self.n_parameters / 1e6
        return (
            f"Model({self.name!r}: {c.n_layers} layers, {c.n_heads} heads, d_model {c.d_model}, "
            f"{millions:.3g}M parameters, {str(self.dtype).removeprefix('torch.')})"
        )
