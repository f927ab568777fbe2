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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgewise.arguments import chance, check_seed, positive, share, whole
from edgewise.circuit import Circuit
from edgewise.documents import Chance, Finite, Plain
from edgewise.errors import SettingError
from edgewise.evaluation.inference import Interval, JaccardSpread, proportion_interval
from edgewise.evaluation.records import Record, SavedRecord
from edgewise.evaluation.replicates import (
    AboutProblem,
    Finder,
    Over,
    Replicate,
    check_edges,
    checked_over,
    varied,
)
from edgewise.graph import Edge
from edgewise.methods import AnyMethod
from edgewise.problem import Problem, check_is_problem
from edgewise.progress import OnProgress, ignore_progress
from edgewise.tables import Cell, Chart, Column, Mark, Series, Table, count, facts, number, plain
from edgewise.work.identity import of_problem


@dataclass(frozen=True)
class Inclusion(Record):
    """How many of the replicates have an edge, and where its probability lies."""

    edge: Edge
    count: int
    n: int
    low: float
    high: float
    kind: str  # "core", "contingent", "noise"
    in_circuit: bool  # of all prompts, with the settings as asked

    _derived = ("share",)

    @property
    def share(self) -> float:
        return self.count / self.n


@dataclass(frozen=True, eq=False)
class Stability(SavedRecord):
    """Circuits of replicates, what they share, and the circuit found without any variation.

    Losses of replicates are on the prompts of `split`: "discovery" (the problem's own), "held-out".
    """

    about: AboutProblem
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
    circuit: Circuit
    replicates: Annotated[tuple[Replicate, ...], msgspec.Meta(min_length=2)]

    FORMAT, VERSION = "edgewise-stability", 2
    _derived = ("n", "sentences", "jaccard", "table")

    @property
    def n(self) -> int:
        """How many replicates there are."""
        return len(self.replicates)

    @property
    def inclusion(self) -> Float[Tensor, "sender receiver"]:
        """The share of the replicates that have each edge."""
        return self._counts.double() / self.n

    @cached_property
    def _counts(self) -> Int[Tensor, "sender receiver"]:
        graph = self.circuit.graph
        of_edges = torch.zeros(graph.n_edges, dtype=torch.int64)
        for replicate in self.replicates:
            of_edges[list(replicate.edges)] += 1
        counts = torch.zeros_like(graph.exists, dtype=torch.int64)
        counts.T[graph.exists.T] = of_edges
        return counts

    def of(self, edge: Edge | str) -> Inclusion:
        """One edge's inclusion; `kind` is "absent" if no replicate has it. Raises `UnknownName`."""
        index = self.circuit.graph.index(edge)
        parsed = Edge.parse(edge) if isinstance(edge, str) else edge
        n_with, in_circuit = int(self._counts[index]), bool(self.circuit.keep[index])
        low, high = proportion_interval(n_with, self.n, self.level, kind=self.interval)
        kind = "core" if low >= self.core_at else "contingent"
        kind = "noise" if high <= self.noise_at else kind
        kind = kind if n_with else "absent"
        return Inclusion(parsed, n_with, self.n, low, high, kind, in_circuit)

    @cached_property
    def table(self) -> tuple[Inclusion, ...]:
        """Every edge of any replicate or of the circuit, most often included first."""
        edges = self.circuit.graph.edges_of((self._counts > 0) | self.circuit.keep)
        return tuple(sorted(map(self.of, edges), key=lambda inclusion: -inclusion.count))

    def _of_kind(self, kind: str) -> Circuit:
        edges = [row.edge for row in self.table if row.kind == kind]
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
        return JaccardSpread.of([r.edges for r in self.replicates], self.level)

    @property
    def title(self) -> str:
        return f"Stability of {self.method} on {self.about.source}"

    def sentences(self) -> tuple[str, ...]:
        """How much of the circuit is core, and how far replicates agree."""
        core, agree = (self.core & self.circuit).n_edges, self.jaccard
        parts = ((self.core, "core"), (self.contingent, "contingent"), (self.noise, "noise"))
        kinds = ", ".join(f"{part.n_edges:,} {name}" for part, name in parts)
        sizes = [replicate.n_edges for replicate in self.replicates]
        between = f"{min(sizes):,} to {max(sizes):,} edges"
        losses = [replicate.loss for replicate in self.replicates if replicate.loss is not None]
        if losses:
            between += f" and losses of {number(min(losses))} to {number(max(losses))}"
        return (
            f"{core:,} of the circuit's {count(self.circuit.n_edges, 'edge')} are core (inclusion "
            f"of at least {self.core_at:g}); over {' and '.join(self.over)}, {self.n} replicates: "
            f"Jaccard {agree.mean:.2f} ({agree.low:.2f} to {agree.high:.2f}).",
            f"Of the edges that any replicate has, {kinds} edges.",
            f"Replicates have {between} on the {self.split} prompts.",
        )

    def tables(self) -> tuple[Table, ...]:
        """What was varied, and every edge by its inclusion."""
        about: dict[str, Cell] = {
            "problem": self.about.in_words,
            "settings": plain(self.settings),
            "varied": plain(self.over),
            "replicates": f"{self.n:,}, seed {self.seed}",
            "core": f"inclusion shown to be at least {self.core_at:g}",
            "noise": f"inclusion shown to be at most {self.noise_at:g}",
        }
        columns = (
            Column("edge", "name"),
            Column("inclusion", "estimate", "share"),
            Column("kind"),
            Column("in the circuit", "flag"),
        )
        rows = [(i.edge.name, (i.share, i.low, i.high), i.kind, i.in_circuit) for i in self.table]
        note = (
            f"Inclusion: the share of {self.n:,} replicates that have the edge, with its "
            f"{100 * self.level:g} % interval ({self.interval}). In the circuit: whether the "
            "circuit found without variation has it."
        )
        return facts("How it was measured", about), Table("Edges", columns, tuple(rows), (note,))

    def charts(self) -> tuple[Chart, ...]:
        """Size and loss of the replicates."""
        marks = [
            Mark(r.n_edges, r.loss, f"replicate {r.index}: {count(r.n_edges, 'edge')}")
            for r in self.replicates
            if r.loss is not None
        ]
        chart = Chart(
            "Size and loss",
            Column("edges", "count"),
            Column("loss", "number", self.about.unit),
            (Series("replicates", tuple(marks)),),
            caption=f"A dot is the circuit of a replicate; losses are on the {self.split} prompts.",
        )
        return (chart,) if marks else ()

    @classmethod
    def from_json(cls, document: Any, *, source: str = "stability") -> Stability:
        """The result of `to_json`. Raises `FormatError`, naming the field at fault."""
        result = super().from_json(document, source=source)
        check_edges(result.replicates, result.circuit.graph, source)
        return result


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

    The method's settings are keywords; give one of a name that is taken here as `method_seed`.
    Losses are on `test`, if given. `journal` is a file that keeps replicates; the same call goes
    on from there. Raises `UnknownName`, `SettingError`, `MetricError`, `OutputError`.

    >>> import edgewise as ew
    >>> problem = ew.load_task("tracr-xproportion").problem
    >>> result = stability(problem, "acdc", threshold=0.01, n=20)
    >>> result.core.n_edges
    8
    """
    check_is_problem(problem, "stability")
    finder, measured = Finder(problem, method, settings, on_progress), test or problem
    n, seed, varying = whole("n", n, 2), check_seed(seed), checked_over(over, finder)
    core, noise, level = share("core", core), share("noise", noise), chance("level", level)
    if positive("spread", spread, "a factor") < 1 or noise >= core:
        raise SettingError(f"spread must be at least 1, and noise ({noise}) below core ({core}).")
    _check_core_can_be(n, core, level, interval)

    def make(index: int) -> Replicate:
        drawn, circuit = varied(finder, varying, spread=spread, seed=seed, index=index)
        return Replicate(index, drawn, Replicate.edges_of(circuit), measured.loss(circuit))

    circuit = finder.circuit()  # what it refuses, it refuses now
    draws = {"over": list(varying), "seed": seed, "spread": spread, "test": of_problem(measured)}
    replicates = finder.replicates(n, make, drawn=draws, journal=journal)
    return Stability(
        **finder.about,
        over=varying,
        seed=seed,
        spread=spread,
        level=level,
        interval=interval,
        core_at=core,
        noise_at=noise,
        split="discovery" if measured.pairs.sha256 == problem.pairs.sha256 else "held-out",
        circuit=circuit,
        replicates=tuple(replicates),
    )


def _check_core_can_be(n: int, core: float, level: float, interval: Interval) -> None:
    """Refuse so few replicates that an edge in all of them would not be core."""
    low, _ = proportion_interval(n, n, level, kind=interval)
    if low >= core:
        return
    # Wilson's low end for n of n is n / (n + z²); the other interval is a little wider.
    enough = math.ceil(core / (1 - core) * (n / low - n)) if core < 1 else 0
    more = f"Ask for some {enough}, or a lower core" if enough else "Ask for a lower core"
    raise SettingError(
        f"with n={n} replicates even an edge that all of them have is only shown to have an "
        f"inclusion of {low:.2f}, below core={core:g}. {more}."
    )
