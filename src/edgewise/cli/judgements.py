"""Stability, certificates and tests as the command line prints them."""

from __future__ import annotations

from pathlib import Path

from edgewise.cli import show
from edgewise.evaluation import Certified, HypothesisTests, Stability

_ROWS = 40


def print_stability(found: Stability, *files: Path | None) -> None:
    """Edges by inclusion, and what that comes to."""
    rows = [
        (
            row.edge.name,
            f"{row.share:.2f}",
            f"{row.low:.2f} to {row.high:.2f}",
            row.kind,
            "yes" if row.in_circuit else "",
        )
        for row in found.table[:_ROWS]
    ]
    title = f"{found.about['source']}, {found.method}: inclusion over {', '.join(found.over)}"
    interval = f"{100 * found.level:g} % interval"
    show.table(title, ("edge", "inclusion", interval, "kind", "in circuit"), rows)
    if len(found.table) > _ROWS:
        show.OUT.print(f"… and {len(found.table) - _ROWS} more")
    sizes = [replicate.n_edges for replicate in found.replicates]
    losses = [replicate.loss for replicate in found.replicates if replicate.loss is not None]
    show.OUT.print(
        f"\n{found.verdict}\n{found.core.n_edges} core, {found.contingent.n_edges} contingent, "
        f"{found.noise.n_edges} noise edges. Sizes {min(sizes)} to {max(sizes)}; losses "
        f"{show.number(min(losses))} to {show.number(max(losses))} ({found.split} prompts). "
        f"{found.n} replicates of {found.about['n_prompts']} prompts, seed {found.seed}."
    )
    show.wrote(*files)


def print_certified(found: Certified, *files: Path | None) -> None:
    """Edges by votes, and how many deleted prompts each decision withstands."""
    rows = [
        (
            row.edge.name,
            f"{row.count}/{row.n}",
            "kept" if row.kept else "not kept",
            "abstain" if row.deletions < 0 else row.deletions,
        )
        for row in found.table[:_ROWS]
    ]
    title = f"{found.about['source']}, {found.method}: votes of subsamples of {found.size} prompts"
    show.table(title, ("edge", "votes", "decision", "withstands deletions"), rows)
    if len(found.table) > _ROWS:
        show.OUT.print(f"… and {len(found.table) - _ROWS} more")
    how = (
        "every subsample was used: this is sure"
        if found.exact
        else f"all of it with probability {found.level:g} over the draw of {found.n} subsamples"
    )
    show.OUT.print(
        f"\nWhichever 1 of the {found.n_prompts} prompts is deleted, "
        f"{found.kept(1).n_edges} edges stay kept and {found.removed(1).n_edges} stay removed; "
        f"about {found.abstained(1).n_edges} nothing is certified ({how}; seed {found.seed})."
    )
    show.wrote(*files)


def print_tests(found: HypothesisTests, *files: Path | None) -> None:
    """The five tests, and the edges that matter no more than random ones."""
    rows = [
        (
            test.name,
            show.number(test.statistic, 3),
            show.number(test.p_value, 3),
            show.number(test.adjusted, 3),
            f"{test.n} {test.n_of}",
            {True: "passed", False: "failed", None: "not tested"}[test.passed],
        )
        for test in found.tests
    ]
    title = f"{found.circuit.n_edges} of {found.circuit.graph.n_edges} edges, {found.split} prompts"
    columns = ("test", "statistic", "p", f"p, {found.correction}", "n", "verdict")
    show.table(title, columns, rows)
    for test in found.tests:
        show.OUT.print(f"{test.name}: {test.verdict}.")
    for test in found.tests:
        if test.note and test.passed is not None:
            show.OUT.print(f"Note on {test.name}: {test.note}")
    edges = found.superfluous.edges
    if edges:
        names = ", ".join(edge.name for edge in edges[:_ROWS])
        show.OUT.print(f"{len(edges)} edges matter no more than random ones: {names}")
    show.OUT.print(f"Error rate {found.alpha:g}, seed {found.seed}.")
    show.wrote(*files)
