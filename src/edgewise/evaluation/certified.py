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
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from edgewise.arguments import chance, check_seed, whole
from edgewise.circuit import Circuit
from edgewise.documents import Chance, Count, Plain
from edgewise.errors import FormatError, SettingError
from edgewise.evaluation.records import Record, SavedRecord
from edgewise.evaluation.replicates import AboutProblem, Finder, Replicate
from edgewise.graph import Edge, Graph
from edgewise.methods import AnyMethod
from edgewise.problem import Problem, check_is_problem
from edgewise.progress import OnProgress, ignore_progress
from edgewise.tables import Column, Table, count


def worst_vote(p: float, *, n_prompts: int, size: int, deleted: int, added: int = 0) -> float:
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
class Vote(Record):
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
class Certified(SavedRecord):
    """The votes of subsamples, and the circuits that are certified by them.

    `counts` are the votes of the graph's edges, in canonical order.
    """

    about: AboutProblem
    method: str
    settings: Plain
    seed: int
    size: Annotated[int, msgspec.Meta(ge=1)]
    level: Chance
    exact: bool  # every subsample was used: nothing is left to chance
    n: Annotated[int, msgspec.Meta(ge=1)]
    graph: Graph
    counts: tuple[Count, ...]

    FORMAT, VERSION = "edgewise-certified", 2
    _derived = ("sentences", "table")

    @cached_property
    def _votes(self) -> dict[Edge, Vote]:
        edges = zip(self.graph.edges, self.counts, strict=True)
        return {edge: self._vote(edge, n_with) for edge, n_with in edges}

    def _vote(self, edge: Edge, n_with: int) -> Vote:
        kept, deletions = 2 * n_with > self.n, -1
        p = self._bound(n_with if kept else self.n - n_with)
        while self._worst(p, deletions + 1) > 0.5:
            deletions += 1
        return Vote(edge, n_with, self.n, kept, p, deletions)

    def _bound(self, agree: int) -> float:
        if self.exact or not agree:
            return agree / self.n
        from scipy.special import betaincinv

        rate = (1 - self.level) / (2 * self.graph.n_edges)
        return float(betaincinv(agree, self.n - agree + 1, rate))

    def _worst(self, p: float, deleted: int, added: int = 0) -> float:
        sizes = {"n_prompts": self.about.n_prompts, "size": self.size}
        return worst_vote(p, **sizes, deleted=deleted, added=added)

    def of(self, edge: Edge | str) -> Vote:
        """One edge's vote. Raises `UnknownName`."""
        self.graph.index(edge)
        return self._votes[Edge.parse(edge) if isinstance(edge, str) else edge]

    def withstands(self, edge: Edge | str, deleted: int, added: int = 0) -> bool:
        """Whether the decision about an edge is certified for so many prompts deleted and added."""
        return self._worst(self.of(edge).vote, deleted, added) > 0.5

    @property
    def table(self) -> tuple[Vote, ...]:
        """The votes of every edge that any subsample has, most votes first."""
        votes = [vote for vote in self._votes.values() if vote.count]
        return tuple(sorted(votes, key=lambda vote: -vote.count))

    def kept(self, deletions: int = 1) -> Circuit:
        """The edges certified to be kept whichever so many prompts are deleted."""
        return self._certified(deletions, kept=True)

    def removed(self, deletions: int = 1) -> Circuit:
        """The edges certified *not* to be kept whichever so many prompts are deleted."""
        return self._certified(deletions, kept=False)

    def abstained(self, deletions: int = 1) -> Circuit:
        """The edges about which nothing is certified for so many deletions."""
        return Circuit.full(self.graph) - self.kept(deletions) - self.removed(deletions)

    def _certified(self, deletions: int, *, kept: bool) -> Circuit:
        votes = self._votes.items()
        edges = [edge for edge, v in votes if v.kept == kept and v.deletions >= deletions]
        return Circuit.of(self.graph, edges)

    @property
    def title(self) -> str:
        return f"Certified decisions of {self.method} on {self.about.source}"

    def sentences(self) -> tuple[str, ...]:
        """What one deleted prompt cannot turn."""
        how = (
            "every subsample was used: this is sure"
            if self.exact
            else f"all of it with probability {self.level:g} over the draw of {self.n} subsamples"
        )
        return (
            f"Whichever 1 of the {self.about.n_prompts:,} prompts is deleted, "
            f"{count(self.kept(1).n_edges, 'edge')} stay kept and {self.removed(1).n_edges:,} stay "
            f"removed; about {self.abstained(1).n_edges:,} nothing is certified ({how}; seed "
            f"{self.seed}).",
        )

    def tables(self) -> tuple[Table, ...]:
        """Edges by votes, and how many deleted prompts each decision withstands."""
        columns = (
            Column("edge", "name"),
            Column(f"votes of {self.n}", "count"),
            Column("decision"),
            Column("withstands deletions"),
        )
        rows = []
        for vote in self.table:
            withstands = "abstain" if vote.deletions < 0 else str(vote.deletions)
            decision = "kept" if vote.kept else "not kept"
            rows.append((vote.edge.name, vote.count, decision, withstands))
        title = f"Votes of subsamples of {count(self.size, 'prompt')}"
        return (Table(title, columns, tuple(rows)),)

    @classmethod
    def from_json(cls, document: Any, *, source: str = "certified") -> Certified:
        """The result of `to_json`. Raises `FormatError`, naming the field at fault."""
        result = super().from_json(document, source=source)
        n_edges, n = result.graph.n_edges, result.n
        if len(result.counts) != n_edges or max(result.counts) > n:
            raise FormatError(f"{source}: not at most {n:,} votes for each of {n_edges:,} edges.")
        if result.size >= result.about.n_prompts:
            raise FormatError(f"{source}: size {result.size:,} is not less than its prompts.")
        return result


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
    >>> result = certify(ew.load_task("tracr-reverse").problem, "acdc", threshold=0.01, size=3)
    >>> result.exact, result.kept(deletions=1).n_edges  # all 20 subsamples of 3 of 6 prompts
    (True, 15)
    """
    check_is_problem(problem, "certify")
    finder = Finder(problem, method, settings, on_progress)
    finder.check_enough("voting over subsamples")
    n, seed, level = whole("n", n, 1), check_seed(seed), chance("level", level)
    n_prompts = len(problem.pairs)
    size = n_prompts // 2 if size is None else whole("size", size, 1)
    if size >= n_prompts:
        raise SettingError(f"size is {size}; a subsample of {n_prompts} prompts must be smaller.")
    exact = math.comb(n_prompts, size) <= n
    subsamples = list(itertools.combinations(range(n_prompts), size)) if exact else []
    n = len(subsamples) if exact else n

    def make(index: int) -> Replicate:
        if exact:
            rows = list(subsamples[index])
        else:
            random = np.random.default_rng([seed, index])
            rows = sorted(random.choice(n_prompts, size, replace=False).tolist())
        return Replicate(index, {"rows": rows}, Replicate.edges_of(finder.circuit(rows)))

    draws = {"seed": seed, "size": size, "exact": exact}
    replicates = finder.replicates(n, make, drawn=draws, journal=journal)
    votes = Counter(edge for replicate in replicates for edge in replicate.edges)
    return Certified(
        **finder.about,
        seed=seed,
        size=size,
        level=level,
        exact=exact,
        n=n,
        graph=problem.graph,
        counts=tuple(votes[edge] for edge in range(problem.graph.n_edges)),
    )
