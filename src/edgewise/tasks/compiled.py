"""Tasks of the compiled RASP programs, the paper's two among them, and of the logic gates.

Every program's metric is the squared difference from its own outputs, at every position after BOS.
The graph is the paper's: split embeddings (gates have one), switches. In a corrupted run the
position embeddings are permuted as well, or nothing could be learnt about them (spec section 2.2).
"""

from __future__ import annotations

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
    """Random legal inputs of varied length, with BOS; corrupted ones are others as long."""
    program = bundled_program(request.spec.model)
    generator = torch.Generator().manual_seed(request.seed)
    n = _DEFAULT_N if request.n is None else request.n
    _check_n(n)
    rows = _distinct_inputs(program, 2 * n, generator)
    n = min(n, (len(rows) + 1) // 2)
    corrupted = [_other_input(program, row, generator) for row in rows]
    halves = [
        PromptPairs.from_tokens(
            [_with_bos(program, row) for row in rows[part]],
            [_with_bos(program, row) for row in corrupted[part]],
            answer_positions=_after_bos(program, rows[part]),
            source=request.spec.name,
        )
        for part in (slice(0, n), slice(n, 2 * n))
        if rows[part]
    ]
    return _task(model, request, halves)


def make_reverse_task(model: Model, request: TaskRequest) -> Task:
    """The paper's six rows: BOS and a permutation of three tokens (spec 5.5)."""
    rows = torch.tensor([[3, *order] for order in permutations(range(3))])
    n = len(rows) if request.n is None else request.n
    _check_n(n)
    if n > len(rows):
        raise SettingError(f"asked for {n} prompts; {request.spec.name} has {len(rows)}.")
    generator = torch.Generator().manual_seed(request.seed)
    corrupted = rows[_derangement(len(rows), generator)]
    answer_at = torch.tensor([[False, True, True, True]]).expand(n, -1)
    pairs = PromptPairs.from_tokens(
        rows[:n], corrupted[:n], answer_positions=answer_at, source=request.spec.name
    )
    return _task(model, request, [pairs])


def make_xproportion_task(model: Model, request: TaskRequest) -> Task:
    """Strings of four symbols (spec 5.6): `legal` ids behind BOS, or the `paper`'s wrong ids.

    The paper encodes w, x, y, z as 0 to 3, which this model knows as BOS, padding, w and x, and
    gives no BOS; its metric skips the first position (spec section 0, item 10).
    """
    n = _DEFAULT_N if request.n is None else request.n
    _check_n(n)
    if 2 * n > 256:
        raise SettingError(f"asked for {n} prompts; there are 256 strings for two splits of them.")
    generator = torch.Generator().manual_seed(request.seed)
    codes = torch.randperm(256, generator=generator)[: 2 * n]
    symbols = torch.stack([codes // 4**i % 4 for i in (3, 2, 1, 0)], dim=1)
    if request.data == "paper":
        rows = symbols
    else:
        program = bundled_program(request.spec.model)
        rows = torch.tensor(program.inputs)[symbols]
        rows = torch.cat([torch.full((len(rows), 1), program.bos or 0), rows], dim=1)
    answer_at = torch.arange(rows.shape[1])[None] >= 1
    halves = []
    for part in (rows[:n], rows[n:]):
        # The paper permutes rows freely; fixed points would be pairs that say nothing.
        shuffle = torch.randperm if request.data == "paper" else _derangement
        corrupted = part[shuffle(n, generator=generator)]
        halves.append(
            PromptPairs.from_tokens(
                part, corrupted, answer_positions=answer_at.expand(n, -1), source=request.spec.name
            )
        )
    return _task(model, request, halves)


def make_gate_task(model: Model, request: TaskRequest) -> Task:
    """One prompt of one token; the gate's heads are both on (spec 5.7). Zero ablation only."""
    if request.n not in (None, 1):
        raise SettingError(f"asked for {request.n} prompts; {request.spec.name} has 1.")
    pairs = PromptPairs.from_tokens([[0]], source=request.spec.name)
    return _task(model, request, [pairs])


def _task(model: Model, request: TaskRequest, splits: list[PromptPairs]) -> Task:
    """The problems of a task's splits, and what is known of its circuit."""
    spec = request.spec
    if model.config != bundled_program(spec.model).config:
        raise ProblemError(
            spec.name,
            [f"it is a task of models shaped like {spec.model!r}, not {model!r}."],
        )
    graph = Graph.of(model, split_embed=model.config.adds_positions, switches=True)
    ablation = ablation_named(request.ablation or spec.ablation)
    if ablation.kind == "corrupted" and not isinstance(request.ablation, Ablation):
        ablation = _scrambled(splits)  # a Ablation of the user's own is taken as it is
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


def _scrambled(splits: list[PromptPairs]) -> Ablation:
    positions = max(pairs.n_positions for pairs in splits)
    generator = torch.Generator().manual_seed(_SCRAMBLE_SEED)
    order = torch.randperm(positions, generator=generator).tolist()
    return Ablation("corrupted", position_permutation=tuple(order))


def _check_n(n: int) -> None:
    if n < 1:
        raise SettingError(f"asked for {n} prompts; a task needs at least 1.")


def _derangement(n: int, generator: torch.Generator) -> Tensor:
    """A random order that leaves nothing in its place (rejection: about e tries)."""
    if n == 1:
        raise SettingError("corrupting by exchange of prompts needs at least 2 of them.")
    while True:
        order = torch.randperm(n, generator=generator)
        if not (order == torch.arange(n)).any():
            return order


def _distinct_inputs(program: Program, most: int, generator: torch.Generator) -> list[list[int]]:
    """Up to `most` different inputs of 2 to `max_length` tokens; fewer if the program has fewer."""
    seen: dict[tuple[int, ...], None] = {}  # a dict keeps the order of drawing
    for _ in range(20 * most):
        if len(seen) == most:
            break
        length = int(torch.randint(2, program.max_length + 1, (), generator=generator))
        seen[tuple(_random_tokens(program, length, generator))] = None
    return [list(row) for row in seen]


def _other_input(program: Program, row: list[int], generator: torch.Generator) -> list[int]:
    while True:
        other = _random_tokens(program, len(row), generator)
        if other != row:
            return other


def _random_tokens(program: Program, length: int, generator: torch.Generator) -> list[int]:
    if program.distinct:
        picks = torch.randperm(len(program.inputs), generator=generator)[:length]
    else:
        picks = torch.randint(len(program.inputs), (length,), generator=generator)
    return [program.inputs[i] for i in picks.tolist()]


def _with_bos(program: Program, row: list[int]) -> list[int]:
    return row if program.bos is None else [program.bos, *row]


def _after_bos(program: Program, rows: list[list[int]]) -> Tensor:
    start = 0 if program.bos is None else 1
    width = start + max(len(row) for row in rows)
    place = torch.arange(width)[None]
    ends = torch.tensor([start + len(row) for row in rows])[:, None]
    return (place >= start) & (place < ends)
