"""Certified circuits: decisions about edges that no small change of the prompts can turn.

After *Certified Circuits* (Anani et al. 2026, arXiv 2602.22968), which votes over random deletions
of the data and abstains where the vote is close. There each item is deleted independently, and the
radius follows from randomised deletion smoothing; here subsamples have one size, which gives a
bound of its own, derived below. It is tight where only the vote is known.

**Setting.** A method turns any m of the prompts into a circuit. Let pi_S(e) be the probability that
the circuit of m prompts, drawn from the set S without replacement, has edge e. The *smoothed*
circuit of S keeps e if pi_S(e) > 1/2.

**Theorem.** Let S have N prompts, and let T come from S by deleting d of its prompts and adding a
others, N - d >= m. Put

    stays = C(N - d, m) / C(N, m)             the chance that m of S avoid the d deleted
    old   = C(N - d, m) / C(N - d + a, m)     the chance that m of T avoid the a added

If pi_S(e) >= p, then pi_T(e) >= old * max(0, (p - (1 - stays)) / stays).

*Proof.* Let R be the N - d prompts that S and T share. m prompts of S avoid the deleted ones with
probability `stays`, and are then a uniform draw from R, so
pi_S = stays * pi_R + (1 - stays) * x with 0 <= x <= 1; hence pi_R >= (pi_S - (1 - stays)) / stays.
Likewise pi_T = old * pi_R + (1 - old) * y with y >= 0. Put together.  QED
For edges that are *not* kept, the same holds of 1 - pi.

**Certificate.** e is certified at (d, a) if the bound is above 1/2, with p a lower confidence bound
for pi_S(e) (or for 1 - pi_S(e)) by Clopper and Pearson from the votes of `n` independent
subsamples, one-sided at (1 - level) / (2 * number of edges): with probability `level` over the
draw of subsamples, *all* certificates hold at once. If there are no more than `n` different
subsamples, each is used once: pi_S is then known and certificates hold for sure.

**Assumptions.** The method's circuit depends on the m prompts alone (its other settings and seeds
are fixed; means as an ablation are over these prompts). Prompts may be changed by an adversary who
sees everything but the subsamples drawn. Nothing is said of whether an edge is *true*.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from edgewise.arguments import chance, check_seed, whole
from edgewise.circuit import Circuit
from edgewise.documents import Chance, Count, Plain, decoded, imported, read_json, write_json
from edgewise.errors import FormatError, SettingError
from edgewise.evaluation.resampling import (
    About,
    Finder,
    Replicate,
    about,
    check_enough,
    replicated,
)
from edgewise.graph import Edge, Graph
from edgewise.methods import AnyMethod, OnProgress, ignore_progress, method_of
from edgewise.problem import Problem, check_is_problem

FORMAT, VERSION = "edgewise-certified", 2


def worst_vote(p: float, n_prompts: int, size: int, deleted: int, added: int = 0) -> float:
    """The theorem's lower bound for the vote after prompts were deleted and added.

    >>> worst_vote(0.9, n_prompts=20, size=5, deleted=1)  # 5 of 20 avoid one with chance 3/4
    0.866...
    """
    if n_prompts - deleted < size:
        return 0.0
    shared = math.comb(n_prompts - deleted, size)
    stays = shared / math.comb(n_prompts, size)
    old = shared / math.comb(n_prompts - deleted + added, size)
    return old * max(0.0, (p - (1 - stays)) / stays)


@dataclass(frozen=True)
class Vote:
    """How many subsamples have an edge, and what the smoothed decision about it withstands.

    `vote` is a lower confidence bound for the share that agrees with the decision. `deletions`:
    deleting up to that many prompts turns it not; -1: the vote itself is too close, and we abstain.
    """

    edge: Edge
    count: int
    n: int
    kept: bool
    vote: float
    deletions: int


@dataclass(frozen=True, eq=False)
class Certified:
    """The votes of subsamples, and the circuits that are certified by them."""

    about: Mapping[str, Any]
    method: str
    settings: Mapping[str, Any]
    seed: int
    size: int
    level: float
    exact: bool  # every subsample was used: nothing is left to chance
    n: int
    full: Circuit
    counts: Int[Tensor, "sender receiver"]

    @property
    def n_prompts(self) -> int:
        return int(self.about["n_prompts"])

    def of(self, edge: Edge | str) -> Vote:
        """One edge's vote. Raises `UnknownName`."""
        count = int(self.counts[self.full.graph.index(edge)])
        kept = 2 * count > self.n
        agree = count if kept else self.n - count
        found = Edge.parse(edge) if isinstance(edge, str) else edge
        p = self._bound(agree)
        return Vote(found, count, self.n, kept, p, self._deletions(p))

    def _bound(self, agree: int) -> float:
        if self.exact:
            return agree / self.n
        if not agree:
            return 0.0
        from scipy.special import betaincinv

        rate = (1 - self.level) / (2 * self.full.n_edges)
        return float(betaincinv(agree, self.n - agree + 1, rate))

    def _deletions(self, p: float) -> int:
        most = -1
        while worst_vote(p, self.n_prompts, self.size, most + 1) > 0.5:
            most += 1
        return most

    def withstands(self, edge: Edge | str, deleted: int, added: int = 0) -> bool:
        """Whether the decision about an edge is certified for so many prompts deleted and added."""
        p = self.of(edge).vote
        return worst_vote(p, self.n_prompts, self.size, deleted, added) > 0.5

    @property
    def table(self) -> tuple[Vote, ...]:
        """Every edge that any subsample has, most votes first."""
        found = [self.of(edge) for edge in self.full.graph.edges_of(self.counts > 0)]
        return tuple(sorted(found, key=lambda vote: -vote.count))

    def kept(self, deletions: int = 1) -> Circuit:
        """The edges certified to be kept whichever so many prompts are deleted."""
        edges = [v.edge for v in self.table if v.kept and v.deletions >= deletions]
        return Circuit.of(self.full.graph, edges)

    def removed(self, deletions: int = 1) -> Circuit:
        """The edges certified *not* to be kept whichever so many prompts are deleted."""
        edges = [self.of(edge) for edge in self.full.edges]
        chosen = [v.edge for v in edges if not v.kept and v.deletions >= deletions]
        return Circuit.of(self.full.graph, chosen)

    def abstained(self, deletions: int = 1) -> Circuit:
        """The edges about which nothing is certified for so many deletions."""
        return self.full - self.kept(deletions) - self.removed(deletions)

    def to_json(self) -> dict[str, Any]:
        """Everything, and the votes of every edge that any subsample has."""
        plain = ("method", "seed", "size", "level", "exact", "n")
        return {
            "format": FORMAT,
            "version": VERSION,
            **{name: getattr(self, name) for name in plain},
            "about": dict(self.about),
            "settings": dict(self.settings),
            "graph": self.full.graph.to_json(),
            "counts": [int(self.counts[self.full.graph.index(e)]) for e in self.full.edges],
            "edges": [{**asdict(vote), "edge": vote.edge.name} for vote in self.table],
        }

    @classmethod
    def from_json(cls, document: Any, *, source: str = "certified") -> Certified:
        """The result of `to_json`. Raises `FormatError`."""
        document = imported(document, source, FORMAT, VERSION)
        complaint = f"{source}: not a complete file of votes"
        found = decoded(_Document, document, complaint)
        graph = Graph.from_json(found.graph, source=f"{complaint}: graph")
        if len(found.counts) != graph.n_edges or max(found.counts) > found.n:
            raise FormatError(
                f"{complaint}: it must count at most {found.n:,} votes for each of "
                f"{graph.n_edges:,} edges."
            )
        if found.size >= found.about["n_prompts"]:
            raise FormatError(f"{complaint}: size {found.size:,} is not less than its prompts.")
        counts = torch.zeros(graph.exists.T.shape, dtype=torch.int64)
        counts[graph.exists.T] = torch.tensor(found.counts)
        fields = {k: v for k, v in vars(found).items() if k not in ("graph", "counts")}
        fields["about"] = document["about"]
        return cls(**fields, full=Circuit.full(graph), counts=counts.T)

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, all of it or nothing. Raises `OutputError`."""
        return write_json(self.to_json(), Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Certified:
        """Read it from a file. Raises `FormatError`."""
        return cls.from_json(read_json(Path(path), "certified"), source=str(path))


@dataclass(frozen=True)
class _Document:
    """What a file of votes holds."""

    about: About
    method: str
    settings: Plain
    seed: int
    size: Annotated[int, msgspec.Meta(ge=1)]
    level: Chance
    exact: bool
    n: Annotated[int, msgspec.Meta(ge=1)]
    graph: dict[str, Any]
    counts: list[Count]


def certify(
    problem: Problem,
    method: AnyMethod = "acdc",
    *,
    n: int = 200,
    size: int | None = None,
    level: float = 0.95,
    seed: int = 0,
    journal: str | Path | None = None,
    on_progress: OnProgress = ignore_progress,
    **settings: Any,
) -> Certified:
    """Which decisions of a method about edges no deletion of a few prompts can turn.

    Votes over `n` subsamples of `size` prompts (default: half of them). Smaller subsamples certify
    more deletions and find coarser circuits. Settings and `journal` as in `stability`. Raises as
    that does.

    >>> import edgewise as ew
    >>> found = certify(ew.load_task("tracr-reverse").problem, "acdc", threshold=0.01, size=3)
    >>> found.exact, found.kept(deletions=1).n_edges  # all 20 subsamples of 3 of 6 prompts
    (True, 15)
    """
    check_is_problem(problem, "certify")
    chosen = method_of(method)
    given = {name.removeprefix("method_"): value for name, value in settings.items()}
    resolved = chosen.resolve(given)
    check_enough(problem, "voting over subsamples")
    n, seed, level = whole("n", n, 1), check_seed(seed), chance("level", level)
    n_prompts = len(problem.pairs)
    size = n_prompts // 2 if size is None else whole("size", size, 1)
    if size >= n_prompts:
        raise SettingError(f"size is {size}; a subsample of {n_prompts} prompts must be smaller.")
    exact = math.comb(n_prompts, size) <= n
    every = list(itertools.combinations(range(n_prompts), size)) if exact else []
    finder, full = Finder(problem, chosen, on_progress), Circuit.full(problem.graph)

    def make(index: int) -> Replicate:
        if exact:
            rows = list(every[index])
        else:
            random = np.random.default_rng([seed, index])
            rows = sorted(random.choice(n_prompts, size, replace=False).tolist())
        return Replicate(index, {"rows": rows}, finder.circuit(resolved, rows))

    drawn = {"seed": seed, "size": size, "exact": exact}
    work = {**chosen.identity(problem, resolved), **drawn}
    path, n = None if journal is None else Path(journal), len(every) if exact else n
    replicates = replicated(range(n), make, work, full, path, on_progress)
    return Certified(
        about=about(problem),
        method=chosen.name,
        settings=asdict(resolved),
        seed=seed,
        size=size,
        level=level,
        exact=exact,
        n=n,
        full=full,
        counts=torch.stack([r.circuit.keep for r in replicates]).sum(dim=0),
    )
