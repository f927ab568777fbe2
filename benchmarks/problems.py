"""The problems that benchmarks share: random models of any shape, on random prompt pairs.

Also how to pick a threshold for them, how to run them for a while only, and memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

import edgewise as ew
from edgewise.methods import METHODS, Progress
from edgewise.methods.method_result import Decision
from edgewise.methods.session import Session
from edgewise.work.store import peak_memory_bytes

_MODEL_SCALE, _UNEMBED_SCALE = 6, 5  # of GPT-2's initial weights, at d_model 768


@dataclass(frozen=True)
class Shape:
    """A GPT-2 of any size and how many prompts it gets; as it stands, GPT-2 small."""

    layers: int = 12
    heads: int = 12
    d_model: int = 768
    vocab: int = 50257
    prompts: int = 10
    tokens: int = 15
    mlps: bool = True
    dtype: str = "float32"
    device: str = "cpu"


TINY = Shape(layers=2, heads=2, d_model=32, vocab=200, prompts=3, tokens=8)


def make_problem(shape: Shape, model: ew.Model | None = None) -> ew.Problem:
    """KL from random prompts on a model of this shape, two tokens of each changed in its twin."""
    model = make_model(shape) if model is None else model
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(shape.vocab, (shape.prompts, shape.tokens), generator=generator)
    corrupted = clean.clone()
    for position in (shape.tokens // 5, 3 * shape.tokens // 5):
        corrupted[:, position] = torch.randint(shape.vocab, (shape.prompts,), generator=generator)
    return ew.Problem(model, ew.PromptPairs.from_tokens(clean, corrupted), "kl", "corrupted")


def make_model(shape: Shape) -> ew.Model:
    """Random weights whose blocks and unembedding matter as much as a trained model's.

    Drawn on the CPU in float32, so that a shape means one model everywhere. Narrower models get
    larger weights: a product's output is as large whatever `d_model` is.
    """
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=shape.layers,
        n_head=shape.heads,
        n_embd=shape.d_model,
        vocab_size=shape.vocab,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=False,
    )
    module = transformers.GPT2LMHeadModel(config).eval()
    scaled_weights(module, ".h.", shape.d_model)
    model = ew.load_model(module)
    if not shape.mlps:
        left = {k: w for k, w in model.weights.items() if ".mlp." not in k and ".ln2" not in k}
        model = ew.Model(replace(model.config, attention_only=True), left, name="attention-only")
    return model.to(dtype=getattr(torch, shape.dtype), device=shape.device)


def scaled_weights(module: torch.nn.Module, block: str, d_model: int) -> None:
    """Make the initial weights of blocks (`block` is in their names) and unembedding larger."""
    gain = (768 / d_model) ** 0.5
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1 and block in name:
                parameter.mul_(_MODEL_SCALE * gain)
        module.get_parameter("lm_head.weight").mul_(_UNEMBED_SCALE * gain)


def held_at_most() -> int:
    """The most bytes this process has held so far.

    Not `getrusage`: on Linux that also counts what the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_memory_bytes(torch.device("cpu"))
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def log_spaced(low: float, high: float, n: int) -> list[float]:
    """n numbers from low to high, each the same factor above the one before."""
    return [low * (high / low) ** (i / (n - 1)) for i in range(n)]


def pick_threshold(
    problem: ew.Problem, share: float, thresholds: Sequence[float]
) -> tuple[float, float]:
    """The threshold that keeps about this share of all edges, and the share it keeps."""
    kept = {
        run.settings["threshold"]: run.circuit.n_edges / problem.graph.n_edges
        for run in ew.sweep(problem, threshold=thresholds)
    }
    best = min(kept, key=lambda t: abs(math.log(max(kept[t], 1e-9) / share)))
    return best, kept[best]


class TimeUp(Exception):
    """A run has got as far as it was wanted to."""


class Watch(Session):
    """A session that notes when each decision was taken, and stops the run after a while.

    `earlier` decisions are taken over without a test: that is how a sample starts deep in a run.
    """

    def __init__(
        self,
        *,
        seconds: float = math.inf,
        most: float = math.inf,
        earlier: Sequence[Decision] = (),
    ) -> None:
        super().__init__(self._note)
        self.taken: list[Decision] = []
        self.at: list[float] = []  # time.perf_counter() of each
        self.done: list[int] = []  # edges decided by then, those skipped included
        self.finished = False
        self._earlier, self._most = tuple(earlier), most
        self._end = time.perf_counter() + seconds

    def decisions(self, graph: ew.Graph) -> tuple[Decision, ...]:
        return self._earlier

    def keep(self, decision: Decision) -> None:
        self.taken.append(decision)
        self.at.append(time.perf_counter())
        if len(self.taken) >= self._most or self.at[-1] >= self._end:
            raise TimeUp

    def run(self, problem: ew.Problem, **settings: Any) -> Watch:
        """Run ACDC under this watch."""
        method = METHODS["acdc"]
        try:
            method.load()(problem, method.resolve(settings), session=self)
            self.finished = True
        except TimeUp:
            pass
        return self

    def _note(self, progress: Progress) -> None:
        self.done.append(progress.done)
