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

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.errors import FormatError, MetricError
from edgewise.methods.journal import Journal
from edgewise.metrics import AnswerRows
from edgewise.model.outputs import Outputs
from edgewise.model.runtime import Reader, logits_of, run
from edgewise.problem import Problem
from edgewise.progress import OnProgress, Progress


@runtime_checkable
class Masking(Protocol):
    """How masks act on a run."""

    @property
    def n_masks(self) -> int: ...

    def at(self, batch: int, masks: Float[Tensor, "mask"]) -> tuple[Reader, Outputs]:
        """What runs micro-batch number `batch` with these masks."""
        ...

    def name(self, mask: int) -> str:
        """What mask number `mask` is about."""
        ...


@runtime_checkable
class Learned(Protocol):
    """Masks that are learned: their parameters, how they are drawn, what their size costs."""

    @property
    def parameters(self) -> dict[str, Tensor]: ...

    def optimiser(self) -> torch.optim.Optimizer: ...

    def draw(self, generator: torch.Generator) -> Float[Tensor, "mask"]: ...

    def penalty(self, step: int) -> Float[Tensor, ""]: ...

    def size(self) -> float:
        """How many masks are expected to be on."""
        ...


def train(
    problem: Problem,
    masking: Masking,
    learned: Learned,
    *,
    steps: int,
    generator: torch.Generator,
    on_progress: OnProgress,
    journal: Journal,
    draws: int = 1,
) -> None:
    """Train the parameters of `learned` in place. Raises `MetricError`, `FormatError`.

    A journal that holds a state is gone on with; the masks at the end are those of a run that was
    never stopped.
    """
    optimiser = learned.optimiser()
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
        size = f"{learned.size():.1f} of {masking.n_masks} masks on"
        on_progress(Progress(step + 1, steps, f"loss {total / draws:.4g}, {size}"))
        journal.save_state(_state(learned, optimiser, generator), {"step": step + 1})


def loss_and_gradient(
    problem: Problem, masking: Masking, masks: Float[Tensor, "mask"]
) -> tuple[float, Float[Tensor, "mask"]]:
    """The mean loss over prompts with these masks, and its gradient. Raises `MetricError`."""
    leaf = masks.detach().clone().requires_grad_()
    total = 0.0
    for number in range(len(problem.evaluator(problem.graph).batches)):
        with torch.enable_grad():
            loss = masked_losses(problem, masking, number, leaf).sum() / len(problem.pairs)
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
    problem: Problem, masking: Masking, number: int, masks: Float[Tensor, "mask"]
) -> Float[Tensor, "batch"]:
    """The loss of each prompt of a micro-batch when the model runs with these masks."""
    n = len(problem.evaluator(problem.graph).batches[number].pairs)
    logits, rows = _answers(problem, masking, number, masks)
    return problem.metric.loss_sign * problem.metric.per_prompt(logits, rows, n)


def _answers(
    problem: Problem, masking: Masking, number: int, masks: Float[Tensor, "mask"]
) -> tuple[Float[Tensor, "row vocab"], AnswerRows]:
    """What the metric looks at when a micro-batch runs with these masks."""
    model, evaluator = problem.model, problem.evaluator(problem.graph)
    batch = evaluator.batches[number]
    tokens, real = batch.pairs.clean.to(model.device), batch.pairs.real.to(model.device)
    reader, outputs = masking.at(number, masks)
    final, _ = run(model, tokens, real, problem.graph, reader, outputs=outputs)
    evaluator.work.forward_passes += 1
    logits = logits_of(model, final[batch.pairs.answer_at.to(model.device)])
    rows = replace(batch.rows, clean_logits=batch.rows.clean_logits.clone())  # it may be written to
    return logits, rows


def _check_reached(problem: Problem, masking: Masking, learned: Learned) -> None:
    """Raise `MetricError` unless some mask matters when all of them are at 1/2, or at 0.9."""
    theta = next(iter(learned.parameters.values()))
    for level in (0.5, 0.9):
        masks = theta.new_full((masking.n_masks,), level)
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
    if loss - loss == 0 and not bad:
        return
    when = "before the first step" if step is None else f"in step {step + 1}"
    prompt = _culprit(problem, masking, masks)
    where = "" if prompt is None else f" on prompt {prompt}"
    advice = "Check the prompts and the model's dtype, or lower the learning rate."
    if loss - loss != 0:
        raise MetricError(f"the loss is {loss} {when}{where}. {advice}")
    raise MetricError(
        f"the gradient is {gradient[bad[0]].item()} {when}{where} for {len(bad)} of "
        f"{len(gradient)} masks ({masking.name(bad[0])}). {advice}"
    )


def _culprit(problem: Problem, masking: Masking, masks: Float[Tensor, "mask"]) -> int | None:
    """The first prompt whose own loss or gradient is not finite with these masks."""
    first = 0
    for number, batch in enumerate(problem.evaluator(problem.graph).batches):
        for i in range(len(batch.pairs)):
            leaf = masks.clone().requires_grad_()
            with torch.enable_grad():
                logits, rows = _answers(problem, masking, number, leaf)
                # Its rows alone: a gradient of 0 times another prompt's infinite slope is nan.
                own = rows.prompt == i
                alone = AnswerRows(
                    torch.zeros_like(rows.prompt[own]),
                    rows.clean_logits[own],
                    None if rows.answers is None else rows.answers[own],
                    None if rows.wrong is None else rows.wrong[own],
                )
                loss = problem.metric.per_prompt(logits[own], alone, 1).sum()
                (gradient,) = torch.autograd.grad(loss, leaf) if loss.requires_grad else (leaf,)
            if not (loss.isfinite() and gradient.isfinite().all()):
                return first + i
        first += len(batch.pairs)
    return None


def _state(
    learned: Learned, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> dict[str, Tensor]:
    """All that the next step depends on."""
    tensors = {"generator": generator.get_state()}
    for name, parameter in learned.parameters.items():
        tensors[name] = parameter.detach()
        for key, value in optimiser.state[parameter].items():
            tensors[f"{name}.{key}"] = value
    return tensors


def _restore(
    journal: Journal,
    learned: Learned,
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
    wanted = {name: parameter.shape for name, parameter in learned.parameters.items()}
    found = {name: tensors[name].shape for name in wanted if name in tensors}
    if wanted != found or not 0 < step <= steps or "generator" not in tensors:
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
    found = {
        key.removeprefix(f"{name}."): value
        for key, value in tensors.items()
        if key.startswith(f"{name}.")
    }
    # Adam counts its steps on the CPU, whatever the device.
    return {k: v if k == "step" else v.to(parameter) for k, v in found.items()}
