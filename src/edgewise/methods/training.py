"""The training loop that every method of learned masks shares.

    1. Draw every mask once (or several times, and take the mean of what follows).
    2. Run all prompts, micro-batch by micro-batch, with these masks. The gradient of the mean loss
       with respect to the masks adds up; nothing else is kept between micro-batches.
    3. From the masks to their parameters by the chain rule, and the penalty's gradient on top.
    4. One step of the optimiser.

Before the first step the gradient is taken with all masks at 1/2, and if it is zero there, at 0.9:
at 1/2 every relu of a deep model may be off. If both are zero, no mask could ever be learned, and
that is an error. The model's weights are never trained.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.errors import FormatError, MetricError
from edgewise.methods.execution import prompts_alone
from edgewise.methods.run_journal import RunJournal
from edgewise.methods.settings import TrainingSettings
from edgewise.model.outputs import Outputs
from edgewise.model.runtime import Reader, logits_of, run
from edgewise.problem import Problem
from edgewise.progress import OnProgress, Progress


@runtime_checkable
class Masking(Protocol):
    """How masks act on a run."""

    n_masks: int

    def __init__(self, problem: Problem) -> None: ...

    def at(self, batch: int, masks: Float[Tensor, "mask"]) -> tuple[Reader, Outputs]:
        """What runs micro-batch number `batch` with these masks."""
        ...

    def name(self, mask: int) -> str:
        """What mask number `mask` is about."""
        ...


class LearnedMasks(ABC):
    """Masks that are learned: their parameters, how they are drawn, what their size costs."""

    def __init__(self, theta: Float[Tensor, "mask"]) -> None:
        self.theta = theta

    @property
    def parameters(self) -> dict[str, Tensor]:
        """What is trained, by name."""
        return {"theta": self.theta}

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


def parameters_at(problem: Problem, n: int, start: float) -> Float[Tensor, "mask"]:
    """Parameters of n masks, all at `start`, where and as exactly as the model computes."""
    dtype = torch.promote_types(problem.model.dtype, torch.float32)
    return torch.full((n,), start, dtype=dtype, device=problem.model.device).requires_grad_()


def uniform(
    like: Float[Tensor, "mask"], generator: torch.Generator, edge: float = 0.0
) -> Float[Tensor, "mask"]:
    """Uniform numbers, drawn on the CPU so that a seed means the same on every device."""
    drawn = torch.rand(like.shape, generator=generator, dtype=torch.float64)
    return drawn.clamp(edge, 1 - edge).to(like)


def train(
    problem: Problem,
    masking: Masking,
    learned: LearnedMasks,
    *,
    settings: TrainingSettings,
    on_progress: OnProgress,
    journal: RunJournal,
    draws: int = 1,
) -> torch.Generator:
    """Train the parameters of `learned` in place; the generator of draws, as training leaves it.

    Training resumes from a state that the journal holds; the masks at the end are those of a run
    that was never stopped. Raises `MetricError`, `FormatError`.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    steps, optimiser = settings.steps, learned.optimiser(settings.learning_rate)
    start = _restore(journal, learned, optimiser, generator, steps)
    if start == 0:
        _check_reached(problem, masking, learned)
    for step in range(start, steps):
        optimiser.zero_grad()
        total = 0.0
        with torch.enable_grad():
            learned.penalty(step).backward()
            for _ in range(draws):
                masks = learned.draw(generator)
                loss, gradient = loss_and_gradient(problem, masking, masks.detach())
                _check_finite(problem, masking, masks.detach(), loss, gradient, step)
                ((masks * gradient).sum() / draws).backward()
                total += loss
        optimiser.step()
        size = float(learned.chance().detach().sum())
        message = f"loss {total / draws:.4g}, {size:.1f} of {masking.n_masks} masks on"
        on_progress(Progress(step + 1, steps, message))
        journal.save_state(_state(learned, optimiser, generator), {"step": step + 1})
    return generator


def loss_and_gradient(
    problem: Problem, masking: Masking, masks: Float[Tensor, "mask"]
) -> tuple[float, Float[Tensor, "mask"]]:
    """The mean loss over prompts with these masks, and its gradient. Raises `MetricError`."""
    leaf = masks.detach().clone().requires_grad_()
    total = 0.0
    for number in range(len(problem.evaluator(problem.graph).batches)):
        with torch.enable_grad():
            loss = masked_losses(problem, masking, leaf, batch=number).sum() / len(problem.pairs)
            if not loss.requires_grad:
                raise MetricError(
                    f"no gradient reaches the masks: metric {problem.metric.name!r} has none. Use "
                    "kl, logit-diff, prob-diff, nll or l2, or a method without gradients: acdc, "
                    "exact."
                )
            loss.backward()
        total += loss.item()
        problem.evaluator(problem.graph).work.backward_passes += 1
    assert leaf.grad is not None  # the loss requires grad, and the masks are all that does
    return total, leaf.grad


def masked_losses(
    problem: Problem, masking: Masking, masks: Float[Tensor, "mask"], *, batch: int
) -> Float[Tensor, "batch"]:
    """The loss of each prompt of micro-batch number `batch`, run with these masks."""
    model, evaluator = problem.model, problem.evaluator(problem.graph)
    pairs, rows = evaluator.batches[batch].pairs, evaluator.batches[batch].rows
    tokens, real = pairs.clean.to(model.device), pairs.real.to(model.device)
    reader, outputs = masking.at(batch, masks)
    final, _ = run(model, tokens, real, graph=problem.graph, reader=reader, outputs=outputs)
    evaluator.work.forward_passes += 1
    logits = logits_of(model, final[pairs.answer_at.to(model.device)])
    rows = replace(rows, clean_logits=rows.clean_logits.clone())  # it may be written to
    return problem.metric.loss_sign * problem.metric.per_prompt(logits, rows, len(pairs))


def _check_reached(problem: Problem, masking: Masking, learned: LearnedMasks) -> None:
    """Raise `MetricError` unless some mask matters when all of them are at 1/2, or at 0.9."""
    for level in (0.5, 0.9):
        masks = learned.theta.detach().new_full((masking.n_masks,), level)
        loss, gradient = loss_and_gradient(problem, masking, masks)
        _check_finite(problem, masking, masks, loss, gradient, None)
        if gradient.any():
            return
    raise MetricError(
        "no gradient reaches the masks: with every mask at 1/2 or at 0.9, metric "
        f"{problem.metric.name!r} does not change with any of them. Check that it is "
        "differentiable and that removed edges carry something else than live ones."
    )


def _check_finite(
    problem: Problem,
    masking: Masking,
    masks: Float[Tensor, "mask"],
    loss: float,
    gradient: Float[Tensor, "mask"],
    step: int | None,
) -> None:
    """Raise `MetricError`, naming the step, the mask and the prompt, if a number is none."""
    bad = (~gradient.isfinite()).nonzero().flatten().tolist()
    if math.isfinite(loss) and not bad:
        return
    when = "before the first step" if step is None else f"in step {step + 1}"
    prompt = _first_not_finite(problem, masking, masks)
    where = "" if prompt is None else f" on prompt {prompt}"
    advice = "Check the prompts and the model's dtype, or lower the learning rate."
    if not math.isfinite(loss):
        raise MetricError(f"the loss is {loss} {when}{where}. {advice}")
    raise MetricError(
        f"the gradient is {gradient[bad[0]].item()} {when}{where} for {len(bad)} of "
        f"{len(gradient)} masks ({masking.name(bad[0])}). {advice}"
    )


def _first_not_finite(
    problem: Problem, masking: Masking, masks: Float[Tensor, "mask"]
) -> int | None:
    """The first prompt whose own loss or gradient is not finite with these masks."""
    for number, alone in prompts_alone(problem):
        loss, gradient = loss_and_gradient(alone, type(masking)(alone), masks)
        if not (math.isfinite(loss) and gradient.isfinite().all()):
            return number
    return None


def _state(
    learned: LearnedMasks, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> dict[str, Tensor]:
    """All that the next step depends on."""
    tensors = {"generator": generator.get_state()}
    for name, parameter in learned.parameters.items():
        tensors[name] = parameter.detach()
        for key, value in optimiser.state[parameter].items():
            tensors[f"{name}.{key}"] = value
    return tensors


def _restore(
    journal: RunJournal,
    learned: LearnedMasks,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    steps: int,
) -> int:
    """Take over what the journal holds; how many steps have been made. Raises `FormatError`."""
    kept = journal.state()
    if kept is None:
        return 0
    tensors, numbers = kept
    step = numbers.get("step", 0)
    shapes = {name: parameter.shape for name, parameter in learned.parameters.items()}
    kept_shapes = {name: tensors[name].shape for name in shapes if name in tensors}
    if shapes != kept_shapes or not 0 < step <= steps or "generator" not in tensors:
        raise FormatError("the masks kept are not those of this work.")
    generator.set_state(tensors["generator"])
    for name, parameter in learned.parameters.items():
        with torch.no_grad():
            parameter.copy_(tensors[name])
        optimiser.state[parameter] = _optimiser_state(tensors, name, parameter)
    return step


def _optimiser_state(
    tensors: Mapping[str, Tensor], name: str, parameter: Tensor
) -> dict[str, Tensor]:
    own = {key.partition(".")[2]: t for key, t in tensors.items() if key.startswith(f"{name}.")}
    # Adam counts its steps on the CPU, whatever the device.
    return {key: t if key == "step" else t.to(parameter) for key, t in own.items()}
