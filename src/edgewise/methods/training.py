"""The training loop that every method of learned masks shares.

    1. Draw every mask once (or several times, and take the mean of what follows).
    2. Run all prompts with these masks, for the gradient of the mean loss by the masks.
    3. From the masks to their parameters by the chain rule, and the penalty's gradient on top.
    4. One step of the optimiser.

Before the first step the gradient is taken with all masks at 1/2, and if it is zero there, at 0.9:
at 1/2 every relu of a deep model may be off. If both are zero, no mask could ever be learned, and
that is an error. The model's weights are never trained.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from edgewise.errors import FormatError, MetricError
from edgewise.methods.execution import prompts_alone
from edgewise.methods.masking import Masking
from edgewise.methods.session import Session
from edgewise.methods.settings import TrainingSettings

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
# Where the paper starts: sigmoid(theta) = p, stretched, is 0.9.
_P = (0.9 - GAMMA) / (ZETA - GAMMA)
INITIAL_THETA = math.log(_P / (1 - _P))
_EDGE = 1e-4  # u keeps this far from 0 and 1
_POINTS = 200  # of the integral behind a mean mask


class LearnedMasks(nn.Module, ABC):
    """Masks that are learned: their parameters, how they are drawn, what their size costs."""

    def __init__(self, theta: Float[Tensor, "mask"]) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)

    def optimiser(self, learning_rate: float) -> torch.optim.Optimizer:
        """Adam, constant rate."""
        return torch.optim.Adam([self.theta], lr=learning_rate)

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Float[Tensor, "mask"]:
        """One sample of every mask."""

    @abstractmethod
    def chance(self) -> Float[Tensor, "mask"]:
        """The probability that each mask is on."""

    @abstractmethod
    def penalty(self, step: int) -> Float[Tensor, ""]:
        """What their size costs in this step, counted from 0."""


def uniform(
    like: Float[Tensor, "mask"], generator: torch.Generator, edge: float = 0.0
) -> Float[Tensor, "mask"]:
    """Uniform numbers, drawn on the CPU so that a seed means the same on every device."""
    drawn = torch.rand(like.shape, generator=generator, dtype=torch.float64)
    return drawn.clamp(edge, 1 - edge).to(like)


class HardConcrete(LearnedMasks):
    """Hard concrete masks (Louizos et al. 2018, arXiv 1712.01312), as Subnetwork Probing has them.

    Numbers in [0, 1] that are often exactly 0 or 1, with a gradient. For u uniform in (0, 1),

        s = sigmoid((log u - log(1 - u) + theta) / beta)
        m = clip(s (zeta - gamma) + gamma, 0, 1)

    so that P(m > t) = sigmoid(theta - beta log((t - gamma) / (zeta - t))) for t in [0, 1).
    """

    def draw(self, generator: torch.Generator) -> Float[Tensor, "mask"]:
        """One sample of every mask; its gradient is the derivative at the same u."""
        u = uniform(self.theta, generator, _EDGE)
        s = torch.sigmoid((u.log() - (-u).log1p() + self.theta) / BETA)
        return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def chance(self) -> Float[Tensor, "mask"]:
        """P(m > 0) of every mask, what regularisers count."""
        return torch.sigmoid(self.theta - BETA * math.log(-GAMMA / ZETA))

    @torch.no_grad()
    def means(self) -> Float[Tensor, "mask"]:
        """E[m] = the integral of P(m > t) over t from 0 to 1, by midpoints, in float64."""
        t = (torch.arange(_POINTS, dtype=torch.float64) + 0.5) / _POINTS
        exact = self.theta.cpu().double()
        total = torch.zeros_like(exact)
        for shift in BETA * ((t - GAMMA) / (ZETA - t)).log():
            total += torch.sigmoid(exact - shift)
        return total / _POINTS


def train(
    masking: Masking,
    learned: LearnedMasks,
    settings: TrainingSettings,
    *,
    draws: int = 1,
    session: Session,
) -> torch.Generator:
    """Train the parameters of `learned` in place; the generator of draws, as training leaves it.

    Training resumes from a state that the session kept; the masks at the end are those of a run
    that was never stopped. Raises `MetricError`, `FormatError`.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    steps = settings.steps
    optimiser = learned.optimiser(settings.learning_rate)
    start = _restore(session, learned, optimiser, generator, steps)
    if start == 0:
        _check_reached(masking, learned)
    for step in range(start, steps):
        optimiser.zero_grad()
        total = 0.0
        with torch.enable_grad():
            learned.penalty(step).backward()
            for _ in range(draws):
                masks = learned.draw(generator)
                loss, gradient = _finite(masking, masks.detach(), f"in step {step + 1}")
                ((masks * gradient).sum() / draws).backward()
                total += loss
        optimiser.step()
        size = float(learned.chance().detach().sum())
        message = f"loss {total / draws:.4g}, {size:.1f} of {masking.n_masks} masks on"
        session.tell(step + 1, steps, message)
        session.save_state(_state(learned, optimiser, generator), {"step": step + 1})
    return generator


# --- errors


def _check_reached(masking: Masking, learned: LearnedMasks) -> None:
    """Raise `MetricError` unless some mask matters when all of them are at 1/2, or at 0.9."""
    for level in (0.5, 0.9):
        masks = torch.full_like(learned.theta, level)
        if _finite(masking, masks, "before the first step")[1].any():
            return
    raise MetricError(
        "no gradient reaches the masks: with every mask at 1/2 or at 0.9, metric "
        f"{masking.problem.metric.name!r} does not change with any of them. Check that it is "
        "differentiable and that removed edges carry something else than live ones."
    )


def _finite(
    masking: Masking, masks: Float[Tensor, "mask"], when: str
) -> tuple[float, Float[Tensor, "mask"]]:
    """Loss and gradient. Raises `MetricError`, naming mask and prompt, if a number is none."""
    loss, gradient = masking.loss_and_gradient(masks)
    bad = (~gradient.isfinite()).nonzero().flatten().tolist()
    if math.isfinite(loss) and not bad:
        return loss, gradient
    prompt = _first_not_finite(masking, masks)
    where = when if prompt is None else f"{when} on prompt {prompt}"
    what = f"the loss is {loss} {where}"
    if math.isfinite(loss):
        what = (
            f"the gradient is {gradient[bad[0]].item()} {where} for {len(bad)} of {len(gradient)} "
            f"masks ({masking.name(bad[0])})"
        )
    advice = "Check the prompts and the model's dtype, or lower the learning rate."
    raise MetricError(f"{what}. {advice}")


def _first_not_finite(masking: Masking, masks: Float[Tensor, "mask"]) -> int | None:
    """The first prompt whose own loss or gradient is not finite with these masks."""
    for number, alone in prompts_alone(masking.problem):
        loss, gradient = type(masking)(alone).loss_and_gradient(masks)
        if not (math.isfinite(loss) and gradient.isfinite().all()):
            return number
    return None


# --- the state that a stopped training resumes from


def _state(
    learned: LearnedMasks, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> dict[str, Tensor]:
    """All that the next step depends on."""
    tensors = {"generator": generator.get_state()}
    for name, parameter in learned.named_parameters():
        of_adam = {f"{name}.{key}": x for key, x in optimiser.state[parameter].items()}
        tensors |= {name: parameter.detach(), **of_adam}
    return tensors


def _restore(
    session: Session,
    learned: LearnedMasks,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    steps: int,
) -> int:
    """Take over what the session kept; how many steps have been made. Raises `FormatError`."""
    state = session.state()
    if state is None:
        return 0
    tensors, numbers = state
    step = numbers.get("step", 0)
    parameters = dict(learned.named_parameters())
    shapes = {name: tensors[name].shape for name in parameters if name in tensors}
    fits = shapes == {name: parameter.shape for name, parameter in parameters.items()}
    if not fits or not 0 < step <= steps or "generator" not in tensors:
        raise FormatError("the masks kept are not those of this work.")
    generator.set_state(tensors["generator"])
    for name, tensor in tensors.items():
        name, _, key = name.partition(".")
        if name in parameters and key:  # Adam counts its steps on the CPU, whatever the device
            value = tensor if key == "step" else tensor.to(parameters[name])
            optimiser.state[parameters[name]][key] = value
        elif name in parameters:
            parameters[name].data.copy_(tensor)
    return step
