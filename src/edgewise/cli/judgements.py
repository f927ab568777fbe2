"""Stability, certificates and tests as the command line prints them."""

from __future__ import annotations

import edgewise as ew
from edgewise.cli import console

_ROWS = 40


def print_stability(found: ew.Stability) -> None:
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
    console.table(title, ("edge", "inclusion", interval, "kind", "in circuit"), rows)
    if len(found.table) > _ROWS:
        console.OUT.print(f"… and {len(found.table) - _ROWS} more")
    sizes = [replicate.n_edges for replicate in found.replicates]
    losses = [replicate.loss for replicate in found.replicates if replicate.loss is not None]
    console.OUT.print(
        f"\n{found.verdict}\n{found.core.n_edges} core, {found.contingent.n_edges} contingent, "
        f"{found.noise.n_edges} noise edges. Sizes {min(sizes)} to {max(sizes)}; losses "
        f"{console.number(min(losses))} to {console.number(max(losses))} ({found.split} prompts). "
        f"{found.n} replicates of {found.about['n_prompts']} prompts, seed {found.seed}."
    )


def print_certified(found: ew.Certified) -> None:
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
    console.table(title, ("edge", "votes", "decision", "withstands deletions"), rows)
    if len(found.table) > _ROWS:
        console.OUT.print(f"… and {len(found.table) - _ROWS} more")
    how = (
        "every subsample was used: this is sure"
        if found.exact
        else f"all of it with probability {found.level:g} over the draw of {found.n} subsamples"
    )
    console.OUT.print(
        f"\nWhichever 1 of the {found.n_prompts} prompts is deleted, "
        f"{found.kept(1).n_edges} edges stay kept and {found.removed(1).n_edges} stay removed; "
        f"about {found.abstained(1).n_edges} nothing is certified ({how}; seed {found.seed})."
    )


def print_tests(found: ew.HypothesisTests) -> None:
    """The five tests, and the edges that matter no more than random ones."""
    rows = [
        (
            test.name,
            console.number(test.statistic, 3),
            console.number(test.p_value, 3),
            console.number(test.adjusted, 3),
            f"{test.n} {test.n_of}",
            {True: "passed", False: "failed", None: "not tested"}[test.passed],
        )
        for test in found.tests
    ]
    title = f"{found.circuit.n_edges} of {found.circuit.graph.n_edges} edges, {found.split} prompts"
    columns = ("test", "statistic", "p", f"p, {found.correction}", "n", "verdict")
    console.table(title, columns, rows)
    for test in found.tests:
        console.OUT.print(f"{test.name}: {test.verdict}.")
    for test in found.tests:
        if test.note and test.passed is not None:
            console.OUT.print(f"Note on {test.name}: {test.note}")
    edges = found.superfluous.edges
    if edges:
        names = ", ".join(edge.name for edge in edges[:_ROWS])
        console.OUT.print(f"{len(edges)} edges matter no more than random ones: {names}")
    console.OUT.print(f"Error rate {found.alpha:g}, seed {found.seed}.")
