"""Ablations: the values that removed edges carry.

corrupted        what each sender wrote in a clean run on the corrupted prompts (interchange)
zero             nothing: every sender's contribution is zero; constant biases stay
mean             each sender's mean over all real positions of a prompt set
mean-positional  its mean at each position, counted from a prompt's first token

A mean is taken over the problem's clean prompts, or over `prompts` if given. For a removed *switch*
(q, k or v vector) every kind means the same: the vector computed when all its head's ports read
their ablation input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from edgewise.data import PromptPairs
from edgewise.errors import SettingError, unknown_name
from edgewise.model.model import Model
from edgewise.model.outputs import SenderOutputs

AblationKind = Literal["corrupted", "zero", "mean", "mean-positional"]
ABLATION_KINDS: tuple[AblationKind, ...] = get_args(AblationKind)


@dataclass(frozen=True)
class Ablation:
    """What removed edges carry; `Ablation("zero")` and the string "zero" mean the same.

    `prompts`: take means over the clean side of these pairs instead of the problem's own.
    `position_permutation` (corrupted only): position p of the corrupted run gets the embedding of
    position `position_permutation[p]`, which the paper does for compiled programs.
    """

    kind: AblationKind
    prompts: PromptPairs | None = None
    position_permutation: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in ABLATION_KINDS:
            raise unknown_name("ablation", self.kind, ABLATION_KINDS)
        if self.prompts is not None and not self.kind.startswith("mean"):
            raise SettingError(f"ablation {self.kind!r} takes no prompts; only means do.")
        if self.position_permutation is None:
            return
        order = tuple(int(position) for position in self.position_permutation)
        object.__setattr__(self, "position_permutation", order)
        if self.kind != "corrupted":
            raise SettingError(f"ablation {self.kind!r} takes no position_permutation.")
        if sorted(order) != list(range(len(order))):
            raise SettingError(f"position_permutation {order} is not a permutation.")

    def over(self, pairs: PromptPairs) -> Ablation:
        """The same, whatever prompts it is used with: a mean is one over `pairs`, unless it is
        over prompts of its own already.
        """
        if not self.kind.startswith("mean") or self.prompts is not None:
            return self
        return replace(self, prompts=pairs)

    def to_json(self) -> dict[str, Any]:
        """A description for records; prompts by their content hash."""
        order = self.position_permutation
        return {
            "kind": self.kind,
            "prompts": None if self.prompts is None else self.prompts.sha256,
            "position_permutation": order and list(order),
        }


def ablation_named(ablation: str | Ablation) -> Ablation:
    """The ablation of a kind's name, or the ablation itself. Raises `UnknownName`."""
    if isinstance(ablation, Ablation):
        return ablation
    kind = ablation.replace("_", "-").lower()
    for known in ABLATION_KINDS:
        if kind == known:
            return Ablation(known)
    raise unknown_name("ablation", ablation, ABLATION_KINDS)


def means_over(
    batches: Sequence[PromptPairs],
    outputs_of: Callable[[PromptPairs], SenderOutputs],
    *,
    positional: bool,
    model: Model,
) -> SenderOutputs:
    """The mean of what a run has, over real positions or at each position in a prompt.

    Each part is [sender 1 position width]; there is one position unless `positional`.
    """
    n_positions = max(int(batch.lengths.max()) for batch in batches) if positional else 1
    exact = torch.float32 if model.device.type == "mps" else torch.float64  # mps has no float64
    sums: SenderOutputs | None = None
    counts = torch.zeros(n_positions, dtype=exact, device=model.device)
    for batch in batches:
        real = batch.real.to(model.device)
        position = (real.cumsum(dim=1) - 1)[real]
        if not positional:
            position = torch.zeros_like(position)
        counts += torch.bincount(position, minlength=n_positions)
        batch_sums = outputs_of(batch).mapped(partial(_summed, real, position, n_positions, exact))
        sums = batch_sums if sums is None else sums.plus(batch_sums)
    assert sums is not None  # there is a prompt
    return sums.mapped(lambda x: (x / counts[:, None]).to(model.compute_dtype))


def means_at_positions(means: SenderOutputs, real: Bool[Tensor, "batch pos"]) -> SenderOutputs:
    """The means of each position in a prompt, where prompts have it."""
    # Padding takes some position's mean; nothing reads it.
    position = (real.cumsum(dim=1) - 1).clamp(min=0)
    return means.mapped(lambda x: x[:, 0][:, position.clamp(max=x.shape[2] - 1)])


def _summed(
    real: Tensor, position: Tensor, n_positions: int, exact: torch.dtype, x: Tensor
) -> Tensor:
    """[sender batch pos width], summed over each position: [sender 1 position width]."""
    sums = torch.zeros(len(x), n_positions, x.shape[-1], dtype=exact, device=x.device)
    return sums.index_add_(1, position, x[:, real].to(exact))[:, None]
