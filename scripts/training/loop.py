"""Train one small model: AdamW, warm-up and cosine, repetitions first.

Heads that look for what followed last time form on repetitions, and the other tasks use them, so
the first steps hold many. The batch of a step depends on the seed and the step alone, and
checkpoints hold everything else, so a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from edgewise.model import ModelConfig
from edgewise.model.bundled import initial_weights
from training.corpus import LAST_LINES, LINES, WORD_LINES, Corpus, Mix
from training.network import Network


@dataclass(frozen=True)
class Plan:
    """One model to train."""

    name: str
    description: str
    seed: int
    config: ModelConfig
    steps: int
    rows: int = 48  # of n_ctx tokens, in a batch
    learning_rate: float = 3e-3
    warm_up: int = 100
    weight_decay: float = 0.05
    # Shares of documents, and of narrow ones among them: at first, and from `settled` on.
    repetitions: tuple[float, float] = (0.7, 0.2)
    narrow: tuple[float, float] = (0.8, 0.1)
    settled: int = 1200
    # Then again, from a smaller learning rate, with more of what is learned last.
    last_steps: int = 1500
    last_learning_rate: float = 1e-3
    last_repetitions: float = 0.4
    # And again, for seeds that know the gender of too few held-out names by then.
    word_rounds: int = 0

    @property
    def stages(self) -> list[tuple[int, float]]:
        """Steps and highest learning rate of each stage."""
        later = (self.last_steps, self.last_learning_rate)
        return [(self.steps, self.learning_rate), *[later] * (1 + self.word_rounds)]

    @property
    def total_steps(self) -> int:
        return sum(steps for steps, _ in self.stages)


def train(plan: Plan, corpus: Corpus, folder: Path, *, resume: bool) -> tuple[Network, float]:
    """The trained network, and the minutes of processor time that this took.

    Checkpoints go to `folder`.
    """
    network = Network(plan.config, initial_weights(plan.config, plan.seed))
    decaying = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": decaying, "weight_decay": plan.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
        fused=True,
    )
    checkpoint = folder / f"{plan.name}.pt"
    first, seconds = 0, 0.0
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        if state["words"] != list(corpus.words):
            raise SystemExit(f"{checkpoint} was trained on other words; start again.")
        first, seconds = state["step"], state["seconds"]
    network.train()
    started, saved = time.process_time() - seconds, time.perf_counter()
    total = plan.total_steps
    for step in range(first, total):
        loss = _step(plan, step, network, optimizer, corpus)
        now, spent = time.perf_counter(), time.process_time() - started
        if step % 200 == 0:
            print(f"{plan.name} step {step} loss {loss:.4f} {spent:.0f} s", flush=True)
        if now - saved > 120 or step + 1 == total:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"words": list(corpus.words), "step": step + 1, "seconds": spent}
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
            saved = now
    return network.eval(), (time.process_time() - started) / 60


def _step(
    plan: Plan, step: int, network: Network, optimizer: torch.optim.Optimizer, corpus: Corpus
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = _learning_rate(plan, step)
    batch = corpus.draw(np.random.default_rng([plan.seed, step]), plan.rows, _mix(plan, step))
    counts = batch["weights"] > 0
    final = network(batch["tokens"], batch["places"], batch["documents"])
    logits, weights = network.logits(final[counts]), batch["weights"][counts]
    losses = functional.cross_entropy(logits, batch["targets"][counts], reduction="none")
    loss = (losses * weights).sum() / weights.sum()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def _mix(plan: Plan, step: int) -> Mix:
    if step >= plan.steps + plan.last_steps:
        return Mix(plan.last_repetitions / 2, 0.0, WORD_LINES)
    if step >= plan.steps:
        return Mix(plan.last_repetitions, 0.0, LAST_LINES)
    settled = min(1.0, step / plan.settled)
    repetitions, narrow = (a + (b - a) * settled for a, b in (plan.repetitions, plan.narrow))
    return Mix(repetitions, narrow, LINES)


def _learning_rate(plan: Plan, step: int) -> float:
    """Linear warm-up, then a cosine to a fiftieth; the same again for each later stage."""
    stages = iter(plan.stages)
    length, peak = next(stages)
    while step >= length:
        step -= length
        length, peak = next(stages)
    if step < plan.warm_up:
        return peak * (step + 1) / plan.warm_up
    done = (step - plan.warm_up) / (length - plan.warm_up)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
