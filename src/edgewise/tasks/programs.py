"""Tasks of the compiled RASP programs, the paper's two among them, and of the logic gates.

Every program's metric is the squared difference from its own outputs, at every position after BOS.
The graph is the paper's: split embeddings (gates have one), switches. In a corrupted run the
position embeddings are permuted as well, or nothing could be learnt about them (spec section 2.2).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import torch
from torch import Tensor

from edgewise.data import PromptPairs
from edgewise.errors import ProblemError, SettingError
from edgewise.graph import Graph
from edgewise.model import Model
from edgewise.model.bundled import Program, bundled_program
from edgewise.patching import Ablation, ablation_named
from edgewise.tasks.published import PUBLISHED, published_circuit
from edgewise.tasks.task import Task, TaskRequest, task_of
from edgewise.tasks.truth import structural_truth

_DEFAULT_N = 50
_SCRAMBLE_SEED = 49  # the paper's; for four positions it gives (2, 3, 0, 1)


def make_program_task(model: Model, request: TaskRequest) -> Task:
    """The problems of a program's splits, and what is known of its circuit."""
    spec = request.spec
    splits = _DRAWN.get(spec.name, _random_inputs)(request)
    if model.config != bundled_program(spec.model).config:
        raise ProblemError(
            spec.name, [f"it is a task of models shaped like {spec.model!r}, not {model!r}."]
        )
    graph = Graph.of(model, split_embed=model.config.adds_positions, switches=True)
    ablation = ablation_named(request.ablation or spec.ablation)
    if ablation.kind == "corrupted" and not isinstance(request.ablation, Ablation):
        n_positions = max(pairs.n_positions for pairs in splits)  # an `Ablation` is taken as it is
        order = torch.randperm(n_positions, generator=_generator(_SCRAMBLE_SEED))
        ablation = Ablation("corrupted", position_permutation=tuple(order.tolist()))
    published = published_circuit(spec.name) if spec.name in PUBLISHED else None
    truth = published if spec.model.endswith("-gate") else structural_truth(model, graph)
    return task_of(
        model,
        request,
        splits,
        origin={"data": request.data, "n": len(splits[0])},
        graph=graph,
        ablation=ablation,
        published=published if published is not None and published.graph == graph else None,
        truth=truth if truth is not None and truth.graph == graph else None,
    )


def _reverse(request: TaskRequest) -> list[PromptPairs]:
    """The paper's six rows: BOS and a permutation of three tokens (spec 5.5)."""
    rows = torch.tensor([[3, *order] for order in permutations(range(3))])
    n = _size(request, len(rows), len(rows))
    corrupted = rows[_derangement(len(rows), _generator(request.seed))]
    return [_pairs(request, rows[:n], corrupted[:n])]


def _xproportion(request: TaskRequest) -> list[PromptPairs]:
    """Strings of four symbols (spec 5.6): `legal` ids behind BOS, or the `paper`'s wrong ids.

    The paper encodes w, x, y, z as 0 to 3, which this model knows as BOS, padding, w and x, and
    gives no BOS; its metric skips the first position (spec section 0, item 10).
    """
    n, generator = _size(request, _DEFAULT_N, 128), _generator(request.seed)
    codes = torch.randperm(256, generator=generator)[: 2 * n]
    rows = torch.stack([codes // 4**i % 4 for i in (3, 2, 1, 0)], dim=1)
    # The paper permutes rows freely; fixed points would be pairs that say nothing.
    shuffle: Callable[..., Tensor] = torch.randperm
    if request.data != "paper":
        program, shuffle = bundled_program(request.spec.model), _derangement
        rows = torch.tensor(program.inputs)[rows]
        rows = torch.cat([torch.full((len(rows), 1), program.bos or 0), rows], dim=1)
    halves = rows[:n], rows[n:]
    return [_pairs(request, half, half[shuffle(n, generator=generator)]) for half in halves]


def _gate(request: TaskRequest) -> list[PromptPairs]:
    """One prompt of one token; the gate's heads are both on (spec 5.7). Zero ablation only."""
    _size(request, 1, 1)
    return [PromptPairs.from_tokens([[0]], source=request.spec.name)]


def _random_inputs(request: TaskRequest) -> list[PromptPairs]:
    """Random legal inputs of varied length, with BOS; corrupted ones are others as long.

    All inputs differ; of a program that has few, there are fewer.
    """
    program = bundled_program(request.spec.model)
    n, generator = _size(request, _DEFAULT_N), _generator(request.seed)
    drawn: dict[tuple[int, ...], None] = {}  # a dict keeps the order of drawing
    for _ in range(40 * n):
        if len(drawn) == 2 * n:
            break
        length = int(torch.randint(2, program.max_length + 1, (), generator=generator))
        drawn[_random_tokens(program, length, generator)] = None
    rows, corrupted = list(drawn), []
    for row in rows:
        other = row
        while other == row:
            other = _random_tokens(program, len(row), generator)
        corrupted.append(other)
    bos = () if program.bos is None else (program.bos,)
    n = min(n, (len(rows) + 1) // 2)
    return [
        PromptPairs.from_tokens(
            [[*bos, *row] for row in rows[part]],
            [[*bos, *row] for row in corrupted[part]],
            answer_positions=[[len(bos) + i for i in range(len(row))] for row in rows[part]],
            source=request.spec.name,
        )
        for part in (slice(0, n), slice(n, 2 * n))
        if rows[part]
    ]


_DRAWN = {
    "tracr-reverse": _reverse,
    "tracr-xproportion": _xproportion,
    "or-gate": _gate,
    "and-gate": _gate,
}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _size(request: TaskRequest, default: int, most: int | None = None) -> int:
    """How many prompts a split has. Raises `SettingError`."""
    n = default if request.n is None else request.n
    if n < 1:
        raise SettingError(f"asked for {n} prompts; a task needs at least 1.")
    if most is not None and n > most:
        raise SettingError(f"asked for {n} prompts; {request.spec.name} has {most}.")
    return n


def _pairs(request: TaskRequest, rows: Tensor, corrupted: Tensor) -> PromptPairs:
    """Prompts of equal length, answered everywhere but at the first position."""
    answer_at = (torch.arange(rows.shape[1]) >= 1).expand(len(rows), -1)
    return PromptPairs.from_tokens(
        rows, corrupted, answer_positions=answer_at, source=request.spec.name
    )


def _derangement(n: int, generator: torch.Generator) -> Tensor:
    """A random order that leaves nothing in its place (rejection: about e tries)."""
    if n == 1:
        raise SettingError("corrupting by exchange of prompts needs at least 2 of them.")
    while True:
        order = torch.randperm(n, generator=generator)
        if not (order == torch.arange(n)).any():
            return order


def _random_tokens(program: Program, length: int, generator: torch.Generator) -> tuple[int, ...]:
    if program.distinct:
        picks = torch.randperm(len(program.inputs), generator=generator)[:length]
    else:
        picks = torch.randint(len(program.inputs), (length,), generator=generator)
    return tuple(program.inputs[i] for i in picks.tolist())
