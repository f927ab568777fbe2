"""The page of a leaderboard: who stands where and how surely, where each is good, what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgewise.leaderboards import ABOUT_ABLATIONS, BASELINES, Cell, Estimate, Leaderboard, Standing
from edgewise.reporting.heatmap import Cell as Coloured
from edgewise.reporting.heatmap import heatmap
from edgewise.reporting.intervals import interval_chart
from edgewise.reporting.markup import Markup, el, join
from edgewise.reporting.page import document
from edgewise.reporting.tables import data_table, num
from edgewise.tables import count, number

_TITLE = "Methods against what the weights use"
_HOW = """
Compiled programs come with the edges that their weights can use. A method sees a problem (model,
prompts, metric, ablation) and nothing of these edges; its scores or circuits are compared with
them.
Average precision is the mean, over the true edges, of the share of true edges among all that stand
at least as high: 1 is a perfect order. If all edges tie it is the share of true edges, here
{chance} on average; a random order gets more than that on graphs this small. The pessimistic area
is the paper's, under (FPR, TPR) of every circuit that a method offers, with no credit between two;
ROC AUC is the usual one, in which chance is 0.5. Methods are ranked by average precision, because
the pessimistic area gives nothing for edges that tie, and so rewards an order that breaks ties by
chance.
A number is a mean over programs, each with the same weight, of the mean over its ablations and
seeds. Intervals hold 95 % of a bootstrap over programs, and seeds within them; a rank's interval is
that of the same draws, made for all methods at once. A gate has one prompt, whatever the seed.
"""
_LIMITS = """
No method can reach 1 under every ablation: the truth is what the weights can use, and an edge
whose sender writes the same on the other input carries the same when it is removed. Under
corrupted ablations that hides many true edges from all who test or differentiate. The metric is
l2, the squared distance from the model's own outputs, whose gradient is zero at the full model:
methods that use no other gradient (eap, atp-star, relp, hisp) refuse.
"""


def leaderboard_page(board: Leaderboard) -> str:
    """The whole HTML document."""
    sections = [
        _section("Standings", _standings(board), _chart(board)),
        _everywhere(board),
        _section("By ablation", _ablations(board)),
        _section("By program", _programs(board)),
        _section("What it costs", _costs(board)),
        _section("No answers", *_no_answers(board)),
        _section("How this is measured", *_how(board)),
        _section("Your own method", *_yours()),
    ]
    return document(
        _TITLE,
        join(
            el("h1", _TITLE),
            el("p", _about(board), class_="subtitle"),
            el("p", _verdict(board), class_="verdict"),
        ),
        [section for section in sections if section is not None],
    )


def _section(title: str, *content: Markup | None) -> Markup:
    return el("section", el("h3", title), *content)


def _about(board: Leaderboard) -> str:
    ablations = board.asked("ablation")
    return " · ".join(
        (
            count(len(board.asked("program")), "compiled program"),
            f"{count(len(ablations), 'ablation')} ({', '.join(ablations)})",
            count(len(board.asked("seed")), "seed") + " of prompts",
            count(board.n_problems, "problem"),
            count(len(board.standings), "method"),
        )
    )


def _verdict(board: Leaderboard) -> str:
    ranked = [row for row in board.standings if row.rank is not None]
    if not ranked:
        return "No method has run on every problem, so that none can be ranked."
    best, n = ranked[0], len(board.asked("program"))
    ap = best.areas["average_precision"]
    said = [
        f"{best.method} stands first: an average precision of {ap.in_words()}, "
        f"mean over {count(n, 'program')}."
    ]
    others = [r.method for r in ranked[1:] if r.rank_low == 1]
    if others:
        said.append(f"With other programs it could as well be {_or(others)}.")
    known = {row.method: row.areas["average_precision"].mean for row in ranked}
    base = [f"{name} gets {known[name]:.2f}" for name in BASELINES if name in known]
    if base:
        said.append(f"Of the baselines {' and '.join(base)}.")
    return " ".join(said)


def _or(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


# --- standings


def _standings(board: Leaderboard) -> Markup:
    columns = [("rank", "num"), ("method", ""), ("average precision", "num")]
    columns += [("over random", "num"), ("pessimistic AUC", "num"), ("ROC AUC", "num")]
    columns += [("programs", "num"), ("seeds", "num"), ("problems", "num")]
    return data_table(columns, [_row(row) for row in board.standings], style="board")


def _everywhere(board: Leaderboard) -> Markup | None:
    """Who has no rank, and a table in which they have one: of the problems that all ran on."""
    partly = [row.method for row in board.standings if row.rank is None]
    if not partly:
        return None
    common = board.common()
    text = (
        f"{', '.join(partly)} ran on fewer than the {board.n_problems} problems, so that their "
        "means above are over other problems than the others'. "
    )
    if not common.cells:
        return _section("Without a rank", el("p", text, class_="note"))
    text += f"Here all methods are compared on what all have run on: {_about(common)}."
    return _section("Where all have run", el("p", text, class_="note"), _standings(common))


def _row(row: Standing) -> Markup:
    return el(
        "tr",
        num(row.rank, row.rank_in_words),
        el("td", el("code", row.method)),
        _estimate(row.areas["average_precision"], strong=True),
        _estimate(row.over_random, sign=True),
        _estimate(row.areas["pessimistic_auc"]),
        _estimate(row.areas["roc_auc"]),
        num(row.n_programs, str(row.n_programs)),
        num(row.n_seeds, str(row.n_seeds)),
        num(row.n_problems, str(row.n_problems)),
        data_name=row.method,
        class_="baseline" if row.method in BASELINES else None,
    )


def _estimate(estimate: Estimate | None, *, strong: bool = False, sign: bool = False) -> Markup:
    """A cell: the mean, and its interval in grey."""
    if estimate is None:
        return num(None)
    text = _signed(estimate.mean, sign)
    ends = None
    if estimate.low is not None and estimate.high is not None:
        ends = f" {_signed(estimate.low, sign)} to {_signed(estimate.high, sign)}"
    return el(
        "td",
        el("strong", text) if strong else text,
        None if ends is None else el("span", ends, class_="faint"),
        class_="num",
        data_v=float(estimate.mean),
    )


def _signed(value: float, sign: bool) -> str:
    text = f"{value:+.2f}" if sign else f"{value:.2f}"
    return "0.00" if text in ("-0.00", "+0.00") else text.replace("-", "−")


def _chart(board: Leaderboard) -> Markup:
    rows = [(_labelled(row), row.areas["average_precision"]) for row in board.standings]
    lines = [(name, estimate.mean) for name, estimate in rows if name in BASELINES]
    return interval_chart("Average precision, mean over programs and 95 % interval", rows, lines)


def _labelled(row: Standing) -> str:
    """A method that has not run everywhere says on how many programs it has."""
    partly = f" ({count(row.n_programs, 'program')})"
    return row.method if row.rank is not None else row.method + partly


# --- where each is good


def _ablations(board: Leaderboard) -> Markup:
    ablations = board.asked("ablation")
    heads = [("method", "")]
    for name in ablations:
        heads += [(name, "num"), ("n", "num")]
    rows = [
        el(
            "tr",
            el("td", el("code", row.method)),
            *(cell for name in ablations for cell in _of_ablation(row.by_ablation.get(name))),
            data_name=row.method,
        )
        for row in board.standings
    ]
    about = "; ".join(f"{name}: {ABOUT_ABLATIONS[name]}" for name in ablations)
    note = f"Average precision, mean over n programs and {_seeds(board)}. {about}."
    return join(el("p", note, class_="note"), data_table(heads, rows, style="board"))


def _seeds(board: Leaderboard) -> str:
    several = len({row.n_seeds for row in board.standings}) > 1
    return ("up to " if several else "") + count(len(board.asked("seed")), "seed")


def _of_ablation(estimate: Estimate | None) -> list[Markup]:
    if estimate is None:
        return [num(None)] * 2
    return [_estimate(estimate), num(estimate.n_programs, str(estimate.n_programs))]


def _programs(board: Leaderboard) -> Markup:
    programs, answered = board.asked("program"), board.answered
    true = {cell.program: (cell.n_true, cell.n_edges) for cell in answered}

    def cell(row: Standing, program: str) -> Coloured:
        value = row.by_program.get(program)
        n = len({c.problem_id for c in answered if (c.method, c.program) == (row.method, program)})
        tip = f"{row.method} on {program}\naverage precision "
        tip += "–" if value is None else f"{value:.3f}, mean over {count(n, 'problem')}"
        tip += f"\n{true[program][0]:,} of {true[program][1]:,} edges are true"
        return Coloured(value, "–" if value is None else f"{value:.2f}", tip)

    grid = [[cell(row, program) for row in board.standings] for program in programs]
    methods = [row.method for row in board.standings]
    note = f"Average precision, mean over ablations and {_seeds(board)}; methods as above."
    names = [f"{name} ({true[name][0]}/{true[name][1]})" for name in programs]
    found = heatmap("Program (true edges/edges)", names, methods, grid, numbered=False)
    return el("div", el("p", note, class_="note"), found, class_="upright")


def _costs(board: Leaderboard) -> Markup:
    columns = [("method", ""), ("forward passes", "num"), ("backward passes", "num")]
    columns += [("removals", "num"), ("seconds", "num"), ("problems", "num"), ("settings", "")]
    rows = [
        el(
            "tr",
            el("td", el("code", row.method)),
            *(num(v, number(v)) for v in (row.forward_passes, row.backward_passes, row.removals)),
            num(row.seconds, number(row.seconds, 2)),
            num(row.n_problems, str(row.n_problems)),
            el("td", row.how or "defaults", class_="settings"),
            data_name=row.method,
        )
        for row in board.standings
    ]
    note = (
        "Median over the problems that were answered. A pass is over all prompts of a problem; the "
        "values that removed edges carry are there beforehand, for all. A removal is evaluated on "
        "its own and recomputes only what it changes. Seconds are those of the machine that this "
        "ran on, whatever else it did."
    )
    return join(el("p", note, class_="note"), data_table(columns, rows, style="board"))


# --- what is missing


def _no_answers(board: Leaderboard) -> list[Markup]:
    bad = Counter((c.method, c.status, c.why) for c in board.answered if c.status != "done")
    rows = [
        el("tr", el("td", el("code", m)), el("td", s), num(n, str(n)), el("td", _short(why)))
        for (m, s, why), n in bad.items()
    ]
    parts = []
    if rows:
        text = "A cell is one problem and seed. These count as an order in which all edges tie."
        columns = [("method", ""), ("", ""), ("cells", "num"), ("why", "")]
        parts += [el("p", text, class_="note"), data_table(columns, rows, style="board")]
    else:
        parts.append(el("p", "Every method answered on every problem it was asked.", class_="note"))
    if board.left_out:
        parts.append(_left_out(board.left_out))
    return parts


def _left_out(cells: Sequence[Cell]) -> Markup:
    places: dict[str, dict[str, None]] = {}
    for cell in cells:
        reason = "no effect to find" if cell.why.startswith("full model") else "no such prompts"
        places.setdefault(reason, {})[f"{cell.program} ({cell.ablation})"] = None
    said = "; ".join(f"{reason}: {', '.join(names)}" for reason, names in places.items())
    return el("p", f"Problems left out for all methods: {said}.", class_="note")


def _short(why: str) -> str:
    return why if len(why) <= 240 else f"{why[:239]}…"


# --- how to read it, and how to get on it


def _how(board: Leaderboard) -> list[Markup]:
    share = {cell.program: cell.n_true / cell.n_edges for cell in board.answered}
    chance = f"{sum(share.values()) / len(share):.2f}" if share else "–"
    return [
        el("p", " ".join(text.split()), class_="note")
        for text in (_HOW.format(chance=chance), _LIMITS)
    ]


def _yours() -> list[Markup]:
    code = (
        "# mine.py\nimport edgewise as ew\n\n\ndef find(problem):\n"
        '    scores = ew.eap_ig(problem, steps=10, points="midpoints").scores\n'
        '    return ew.EdgeScores(problem.graph, scores.values.abs(), "mine", "size of effect")\n'
    )
    command = "edgewise leaderboard --method mine:find --method usual --out mine"
    words = "A function that takes a problem, and returns EdgeScores, a Circuit or Circuits:"
    return [el("p", words, class_="note"), el("pre", f"{code}\n\n$ {command}")]
