"""How stable a circuit is: what a method finds when prompts, order, threshold or seed change.

    1. Draw n replicates of what is varied: prompts with replacement (the bootstrap), heads in
       random order, the threshold times a random factor within `spread`, seeds.
    2. Find a circuit in each.
    3. An edge's inclusion is the share of the replicates whose circuit has it, with a confidence
       interval for what it would be with endlessly many replicates.
    4. An edge is core if that interval lies at or above `core`, noise if at or below `noise` (and
       some replicate has it), contingent if neither is shown.

The intervals are about the draw of replicates, not about the truth: a method that is wrong in the
same way every time has a stable circuit. docs/stability.md has how often edges of an inclusion are
true in compiled programs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.arguments import chance, check_seed, positive, share, whole
from edgewise.circuit import Circuit
from edgewise.documents import Chance, Finite, Plain, decoded, imported, read_json, write_json
from edgewise.errors import SettingError
from edgewise.evaluation.jaccard_spread import JaccardSpread
from edgewise.evaluation.proportions import Interval, proportion_interval
from edgewise.evaluation.resampling import (
    About,
    Finder,
    Replicate,
    ReplicateLine,
    about,
    check_enough,
    circuits_of,
    places_of,
    replicated,
)
from edgewise.evaluation.variation import Over, checked_over, varied
from edgewise.graph import Edge
from edgewise.methods import AnyMethod, OnProgress, ignore_progress, method_of
from edgewise.problem import Problem, check_is_problem
from edgewise.work.identity import of_problem

FORMAT, VERSION = "edgewise-stability", 2


@dataclass(frozen=True)
class Inclusion:
    """How many of the replicates have an edge, and where its probability lies."""

    edge: Edge
    count: int
    n: int
    low: float
    high: float
    kind: str  # "core", "contingent", "noise"
    in_circuit: bool  # of all prompts, with the settings as asked

    @property
    def share(self) -> float:
        return self.count / self.n


@dataclass(frozen=True, eq=False)
class Stability:
    """Circuits of replicates, what they share, and the circuit found without any variation.

    Losses of replicates are on the prompts of `split`: "discovery" (the problem's own), "held-out".
    """

    about: Mapping[str, Any]
    method: str
    settings: Mapping[str, Any]
    over: tuple[Over, ...]
    seed: int
    spread: float
    level: float
    interval: Interval
    core_at: float
    noise_at: float
    split: str
    circuit: Circuit
    replicates: tuple[Replicate, ...]

    @property
    def n(self) -> int:
        """How many replicates there are."""
        return len(self.replicates)

    @property
    def inclusion(self) -> Float[Tensor, "sender receiver"]:
        """The share of the replicates that have each edge."""
        return self._counts.double() / self.n

    @cached_property
    def _counts(self) -> Tensor:
        return torch.stack([r.circuit.keep for r in self.replicates]).sum(dim=0)

    def of(self, edge: Edge | str) -> Inclusion:
        """One edge's inclusion; `kind` is "absent" if no replicate has it. Raises `UnknownName`."""
        graph = self.circuit.graph
        at = graph.index(edge)
        found = Edge.parse(edge) if isinstance(edge, str) else edge
        count = int(self._counts[at])
        low, high = proportion_interval(count, self.n, self.level, self.interval)
        kind = "absent"
        if count:
            kind = "core" if low >= self.core_at else "contingent"
            kind = "noise" if high <= self.noise_at else kind
        return Inclusion(found, count, self.n, low, high, kind, bool(self.circuit.keep[at]))

    @cached_property
    def table(self) -> tuple[Inclusion, ...]:
        """Every edge of any replicate or of the circuit, most often included first."""
        graph = self.circuit.graph
        edges = graph.edges_of((self._counts > 0) | self.circuit.keep)
        return tuple(sorted((self.of(edge) for edge in edges), key=lambda found: -found.count))

    def _of_kind(self, kind: str) -> Circuit:
        edges = [found.edge for found in self.table if found.kind == kind]
        return Circuit.of(self.circuit.graph, edges)

    @property
    def core(self) -> Circuit:
        """The edges whose inclusion is shown to be at least `core_at`."""
        return self._of_kind("core")

    @property
    def contingent(self) -> Circuit:
        """The edges that are neither core nor noise."""
        return self._of_kind("contingent")

    @property
    def noise(self) -> Circuit:
        """The edges of some replicate whose inclusion is shown to be at most `noise_at`."""
        return self._of_kind("noise")

    @cached_property
    def jaccard(self) -> JaccardSpread:
        """How far the replicates' circuits agree with each other, two by two."""
        return JaccardSpread.of([r.circuit for r in self.replicates], self.level)

    @property
    def verdict(self) -> str:
        """One sentence for readers."""
        core = (self.core & self.circuit).n_edges
        agree = self.jaccard
        return (
            f"{core} of the circuit's {self.circuit.n_edges} edges are core (inclusion of at least "
            f"{self.core_at:g}); over {' and '.join(self.over)}, {self.n} replicates: Jaccard "
            f"{agree.mean:.2f} ({agree.low:.2f} to {agree.high:.2f})."
        )

    # --- files

    def to_json(self) -> dict[str, Any]:
        """Everything, and what follows from it in `summary`."""
        places = places_of(Circuit.full(self.circuit.graph))
        plain = ("method", "seed", "spread", "level", "interval", "core_at", "noise_at", "split")
        return {
            "format": FORMAT,
            "version": VERSION,
            **{name: getattr(self, name) for name in plain},
            "about": dict(self.about),
            "settings": dict(self.settings),
            "over": list(self.over),
            "n": self.n,
            "circuit": self.circuit.to_json(),
            "replicates": [r.to_json(places) for r in self.replicates],
            "summary": {
                "verdict": self.verdict,
                "jaccard": asdict(self.jaccard),
                "edges": [
                    {**asdict(found), "edge": found.edge.name, "share": found.share}
                    for found in self.table
                ],
            },
        }

    @classmethod
    def from_json(cls, document: Any, *, source: str = "stability") -> Stability:
        """The result of `to_json`. Raises `FormatError`, naming the field at fault."""
        document = imported(document, source, FORMAT, VERSION)
        complaint = f"{source}: not a complete stability file"
        found = decoded(_Document, document, complaint)
        circuit = Circuit.from_json(document["circuit"], source=f"{source}: circuit")
        circuits = circuits_of(circuit.graph, [r.edges for r in found.replicates], complaint)
        replicates = [
            Replicate(r.index, r.drawn, each, r.loss)
            for r, each in zip(found.replicates, circuits, strict=True)
        ]
        about = document["about"]  # all that it says
        fields = {**vars(found), "about": about, "circuit": circuit}
        return cls(**fields | {"replicates": tuple(replicates)})

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, all of it or nothing. Raises `OutputError`."""
        return write_json(self.to_json(), Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Stability:
        """Read it from a file. Raises `FormatError`."""
        return cls.from_json(read_json(Path(path), "stability"), source=str(path))


@dataclass(frozen=True)
class _Document:
    """What a stability file holds; the circuit is read on its own."""

    about: About
    method: str
    settings: Plain
    over: tuple[Over, ...]
    seed: int
    spread: Finite
    level: Chance
    interval: Interval
    core_at: Finite
    noise_at: Finite
    split: str
    circuit: dict[str, Any]
    replicates: Annotated[list[ReplicateLine], msgspec.Meta(min_length=2)]


def stability(
    problem: Problem,
    method: AnyMethod = "acdc",
    *,
    n: int = 50,
    over: str | Sequence[str] = "prompts",
    seed: int = 0,
    spread: float = 2.0,
    core: float = 0.8,
    noise: float = 0.2,
    level: float = 0.95,
    interval: Interval = "wilson",
    test: Problem | None = None,
    journal: str | Path | None = None,
    on_progress: OnProgress = ignore_progress,
    **settings: Any,
) -> Stability:
    """How stable a method's circuit is over `over`: prompts, head-order, threshold, seed.

    The method's settings are keywords, but for those that have this function's names: give such a
    one as `method_seed` (as on the command line). Losses of the replicates are on `test`, if given.
    `journal` is a file that keeps replicates as they are found; the same call goes on from there.
    Raises `UnknownName`, `SettingError`, `MetricError`, `OutputError`, `ModelChanged`.

    >>> import edgewise as ew
    >>> problem = ew.load_task("tracr-xproportion").problem
    >>> found = stability(problem, "acdc", threshold=0.01, n=20)
    >>> found.core.n_edges
    8
    """
    check_is_problem(problem, "stability")
    chosen = method_of(method)
    given = {name.removeprefix("method_"): value for name, value in settings.items()}
    resolved = chosen.resolve(given)
    n, seed, varying = (
        whole("n", n, 2),
        check_seed(seed),
        checked_over(over, chosen, resolved),
    )
    core, noise, level = share("core", core), share("noise", noise), chance("level", level)
    if positive("spread", spread, "a factor") < 1 or noise >= core:
        raise SettingError(f"spread must be at least 1, and noise ({noise}) below core ({core}).")
    _check_core_can_be(n, core, level, interval)
    if "prompts" in varying:
        check_enough(problem, "resampling prompts")
    finder, judged = Finder(problem, chosen, on_progress), test or problem
    work = {
        **chosen.identity(problem, resolved),
        **{"over": list(varying), "seed": seed, "spread": spread},
        "test": of_problem(judged),
    }

    def make(index: int) -> Replicate:
        changed, rows, plan, drawn = varied(problem, resolved, varying, spread, seed, index)
        found = finder.circuit(changed, rows, plan)
        return Replicate(index, drawn, found, judged.loss(found))

    circuit = finder.circuit(resolved)  # what it refuses, it refuses now
    path, full = None if journal is None else Path(journal), Circuit.full(problem.graph)
    replicates = replicated(range(n), make, work, full, path, on_progress)
    return Stability(
        about=about(problem),
        method=chosen.name,
        settings=asdict(resolved),
        over=varying,
        seed=seed,
        spread=spread,
        level=level,
        interval=interval,
        core_at=core,
        noise_at=noise,
        split="discovery" if judged.pairs.sha256 == problem.pairs.sha256 else "held-out",
        circuit=circuit,
        replicates=tuple(replicates),
    )


def _check_core_can_be(n: int, core: float, level: float, interval: Interval) -> None:
    """Refuse so few replicates that an edge in all of them would not be core."""
    low, _ = proportion_interval(n, n, level, interval)
    if low >= core:
        return
    enough = n
    while enough < 100_000 and proportion_interval(enough, enough, level, interval)[0] < core:
        enough = math.ceil(1.1 * enough)
    raise SettingError(
        f"with n={n} replicates even an edge that all of them have is only shown to have an "
        f"inclusion of {low:.2f}, below core={core:g}. Ask for some {enough}, or a lower core."
    )
