"""The leaderboard: areas by hand, own methods, resume, intervals, the page, the command."""

import json
import sys
from contextlib import nullcontext
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

import edgewise as ew
from commands import edgewise
from edgewise.errors import FormatError, OutputError, SettingError, UnknownName
from edgewise.recipes import AREAS, NAMES, TRAINED, USUAL, Trial
from edgewise.recipes.leaderboard_rows import leaderboard_rows
from edgewise.recipes.trials import areas_of, benchmark_problem, contestants, tied_areas
from edgewise.tables import number

TINY = {"programs": ["or-gate", "tracr-reverse"], "ablations": ["zero"], "seeds": 1}


def perfect(problem):
    """What no method may do: look the answer up."""
    perfect.calls += 1  # a global would be a part of the method
    return ew.load_task(problem.origin["task"], problem.model).truth


perfect.calls = 0


def by_circuits(problem):
    scores = ew.exact(problem).scores
    return [scores.top(n, absolute=True) for n in (2, 5, 10)]


def fails_later(problem):
    if problem.origin["task"] != "or-gate":
        raise ZeroDivisionError("no effect")
    return ew.Circuit.full(problem.graph)


@pytest.fixture(scope="module")
def board():
    methods = {"mine": by_circuits, "later": fails_later, "acdc": "acdc", "exact": "exact"}
    return ew.leaderboard(methods, **TINY)


@pytest.fixture(scope="module")
def reverse():
    task = ew.load_task("tracr-reverse")
    return task.problem, task.truth


# --- areas


def test_the_truth_itself_gets_everything_and_ties_say_nothing(reverse):
    _, truth = reverse
    full, empty = ew.Circuit.full(truth.graph), ew.Circuit.empty(truth.graph)
    scores = ew.EdgeScores(truth.graph, truth.keep.double(), "truth", "is true")
    whole = dict.fromkeys(AREAS, 1)
    for answer, n in ((truth, 1), ([truth], 1), ([truth, full], 2), (scores, None)):
        assert areas_of(answer, truth) == pytest.approx({**whole, "n_circuits": n})
    flat = ew.EdgeScores(truth.graph, torch.zeros_like(scores.values), "flat", "nothing")
    for answer in (flat, full, empty):
        areas = {**areas_of(answer, truth), "n_circuits": None}
        assert areas == pytest.approx(tied_areas(truth))


def test_scores_count_at_every_cut_of_their_order(reverse):
    """As the paper's area of the circuits of all sizes, where no two scores are equal."""
    problem, truth = reverse
    scores = ew.random_scores(problem, seed=3).scores
    whole = areas_of(scores, truth)
    cut = areas_of([scores.top(n) for n in range(truth.graph.n_edges + 1)], truth)
    assert {**cut, "n_circuits": None} == pytest.approx(whole)
    negated = ew.EdgeScores(truth.graph, -scores.values, "negated", "")
    assert areas_of(negated, truth, by="absolute") == whole
    assert areas_of(negated, truth)["roc_auc"] == pytest.approx(1 - whole["roc_auc"])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda problem: None, "returned a NoneType; return EdgeScores"),
        (lambda problem: [], "an empty list"),
        (lambda problem: [ew.random_scores(problem).scores], "a list with EdgeScores in it"),
        (lambda problem: ew.random_scores(problem), r"returned a Run; .*`.scores`"),
        (lambda problem: ew.load_task("or-gate").truth, "it answers on a graph of"),
    ],
)
def test_what_is_no_answer(answer, words, reverse):
    problem, truth = reverse
    with pytest.raises(SettingError, match=words):
        areas_of(answer(problem), truth)


# --- who takes part


def test_names_stand_for_methods():
    assert [c.name for c in contestants(["usual"])] == [c.name for c in contestants(None)]
    assert [c.name for c in contestants(None)] == list(USUAL)
    assert {c.name for c in contestants(["trained"])} == {*TRAINED, "random", "magnitude"}
    assert set(USUAL) <= set(NAMES)
    assert {c.name for c in contestants(["EAP_IG"])} == {"eap-ig", "random", "magnitude"}
    assert contestants(perfect)[0].name.endswith(":perfect")


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (["acdx"], "Did you mean 'acdc'.*module:function"),
        ({"acdc": perfect}, "one of Edgewise's own"),
        ({"acdc": "exact"}, "exact cannot be called 'acdc'"),
        (["exact", "EXACT"], "two methods are called 'exact'"),
        ([], "at least one method"),
        (["no.such.module:f"], "ModuleNotFoundError"),
        (["mine:other"], "there is no 'other' in mine. It has find, needs_two."),
        (["mine.py:find"], "name the module, not its file: mine:find"),
        (["mine:number"], "is not a callable object. It must be a function"),
        (["mine:needs_two"], "cannot be called with a problem alone: .*'k'"),
    ],
)
def test_what_is_no_method(methods, words, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("number = 1\ndef find(p): ...\ndef needs_two(p, k): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with pytest.raises((SettingError, UnknownName), match=words):
        ew.leaderboard(methods, **TINY)


def test_an_entry_point_is_a_method(monkeypatch):
    point = EntryPoint("theirs", f"{__name__}:by_circuits", "edgewise.methods")
    monkeypatch.setattr("edgewise.plugins.entry_points", lambda group: [point])
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    assert contestants(["theirs"])[0].is_own


@pytest.mark.parametrize("function", [lambda problem: None, lambda problem: 1 / 0])
def test_a_wrong_function_is_refused_before_anything_else_runs(function, tmp_path):
    with pytest.raises(SettingError, match=r"method wrong, tried on or-gate \(zero ablation\)"):
        ew.leaderboard({"wrong": function, "exact": "exact"}, out=tmp_path / "board", **TINY)
    assert len((tmp_path / "board" / "journal.jsonl").read_text().splitlines()) == 1  # the header


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"programs": ["tracr-revers"]}, "Did you mean 'tracr-reverse'"),
        ({"ablations": ["zeros"]}, "Did you mean 'zero'"),
        ({"seeds": 0}, "pass how many"),
        ({"seeds": [-1]}, "seed is -1"),
        ({"programs": []}, "name one"),
        ({"ablations": ["corrupted"], "programs": ["or-gate"]}, "has an effect to find"),
    ],
)
def test_problems_that_there_are_not(wrong, words):
    with pytest.raises((UnknownName, SettingError), match=words):
        ew.leaderboard({"mine": perfect}, **{**TINY, **wrong})


# --- the numbers


def test_areas_are_those_of_the_functions_that_users_call(board, reverse):
    problem, truth = reverse
    at = {t.method: t for t in board.answered if t.program == "tracr-reverse"}
    ours = ew.score_recovery(ew.exact(problem), truth)
    assert at["exact"].average_precision == pytest.approx(ours.average_precision)
    assert at["exact"].roc_auc == pytest.approx(ours.roc_auc)
    runs = ew.sweep(problem, "acdc", threshold=[10.0**power for power in range(-5, 1)])
    assert at["acdc"].pessimistic_auc == pytest.approx(ew.recovery(runs, truth).edge_auc)
    assert at["mine"].n_circuits == 3
    assert (at["exact"].removals, at["exact"].n_prompts) == (truth.graph.n_edges, 6)


def test_a_function_that_fails_later_counts_as_a_tie(board):
    (trial,) = [t for t in board.answered if t.status == "failed"]
    where = "in fails_later, test_leaderboard.py, line "
    assert trial.why.startswith(f"ZeroDivisionError: no effect ({where}")
    assert trial.average_precision == pytest.approx(trial.n_true / trial.n_edges)
    assert {row.method: row.n_failed for row in board.rows if row.n_failed} == {"later": 1}


def _trial(method, program, value, **more):
    point = {"ablation": "zero", "seed": 0, **more}
    own = dict.fromkeys(AREAS, value)
    where = f"{program}{sorted(point.items())}"
    return Trial(program, **point, status="done", method=method, problem_id=where, **own)


def test_programs_have_one_weight_however_many_ablations_they_have():
    trials = [
        _trial("a", "p", 1.0),
        _trial("a", "q", 0.0),
        _trial("a", "q", 0.5, ablation="mean"),
        _trial("a", "q", 0.4, ablation="mean", seed=1),
    ]
    (row,) = leaderboard_rows(trials)
    assert row.average_precision.mean == pytest.approx((1 + (0.25 + 0.4) / 2) / 2)
    assert row.by_program == pytest.approx({"p": 1.0, "q": 0.325})
    mean = row.by_ablation["mean"]
    assert (mean.mean, mean.n_programs, mean.low) == (pytest.approx(0.45), 1, None)


def test_intervals_cover_the_mean_of_the_population():
    """Programs drawn from one population: its mean lies in about 95 % of the intervals."""
    generator, hits, n = torch.Generator().manual_seed(0), 0, 60
    for _ in range(n):
        values = torch.rand(20, generator=generator).tolist()
        (row,) = leaderboard_rows([_trial("a", str(i), v) for i, v in enumerate(values)])
        hits += row.average_precision.low <= 0.5 <= row.average_precision.high
    assert hits >= 0.85 * n


def test_ranks_are_shared_by_ties_and_sure_where_one_is_always_better():
    scores = {"best": 0.9, "tie": 0.5, "random": 0.5, "worst": 0.1}
    trials = [_trial(m, f"p{i}", v + 0.01 * i) for m, v in scores.items() for i in range(5)]
    rows = {row.method: row for row in leaderboard_rows(trials)}
    ranks = {method: row.rank_cell for method, row in rows.items()}
    assert ranks == {"best": (1, 1, 1), "random": (2, 2, 2), "tie": (2, 2, 2), "worst": (4, 4, 4)}
    assert rows["best"].over_random.cell == (0.4, 0.4, 0.4)
    assert rows["random"].over_random is None


def test_a_method_that_has_not_run_everywhere_has_no_rank(board):
    trials = [t for t in board.trials if (t.method, t.program) != ("acdc", "or-gate")]
    part = ew.Leaderboard(tuple(trials))
    assert [r.method for r in part.rows if r.rank is None] == ["acdc"]
    assert part.common().values("program") == ["tracr-reverse"]
    assert all(r.rank for r in part.common().rows)
    assert "Where all have run" in [table.title for table in part.tables()]


def test_problems_without_an_effect_are_left_out():
    left = {key: benchmark_problem("or-gate", key, 0)[1] for key in ("mean", "corrupted")}
    assert {trial.status for trial in left.values()} == {"left out"}
    assert "nothing to find" in left["mean"].why
    assert "needs corrupted prompts" in left["corrupted"].why
    tokens, trial = benchmark_problem("tracr-reverse", "corrupted-tokens", 0)
    permuted, other = benchmark_problem("tracr-reverse", "corrupted", 0)
    assert tokens.problem.ablation.position_permutation is None
    assert permuted.problem.ablation.position_permutation is not None
    assert trial.problem_id != other.problem_id


# --- on disk


def test_it_goes_on_where_it_stopped(tmp_path):
    def stops(step):
        if step.done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ew.leaderboard({"perfect": perfect}, out=tmp_path, on_progress=stops, **TINY)
    calls = perfect.calls
    part = ew.Leaderboard.load(tmp_path)
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"program": "half')  # as a kill leaves it
    with pytest.warns(UserWarning, match="journal.jsonl ends in half a line"):
        whole = ew.leaderboard({"perfect": perfect}, out=tmp_path, **TINY)
    assert len(part.trials) < len(whole.trials) == 6
    assert set(part.trials) <= set(whole.trials)  # times included: taken over, not run again
    again = ew.leaderboard({"perfect": perfect}, out=tmp_path, **TINY)
    assert again.trials == whole.trials == ew.Leaderboard.load(tmp_path).trials
    assert perfect.calls - calls <= 1
    saved = json.loads((tmp_path / "leaderboard.json").read_text())
    assert ew.Leaderboard.from_json(saved).to_json() == saved
    with pytest.raises(FormatError, match="a broken cell"):
        ew.Leaderboard.from_json({**saved, "columns": ["program"]})
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == 7


def test_another_call_adds_and_a_changed_method_runs_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, out = tmp_path / "changing.py", tmp_path / "board"
    text = "import edgewise as ew\ndef find(problem):\n    return ew.Circuit.{}(problem.graph)\n"
    lines = []
    for which in ("full", "empty", "empty"):
        source.write_text(text.format(which))
        monkeypatch.delitem(sys.modules, "changing", raising=False)
        changed = which == "empty" and len(lines) == 1
        told = pytest.warns(UserWarning, match="trials of changing:find from before they changed")
        with told if changed else nullcontext():
            board = ew.leaderboard(["changing:find"], out=out, **TINY)
        lines.append(len((out / "journal.jsonl").read_text().splitlines()))
        assert len(board.answered) == 6
    assert lines == [7, 9, 9]  # header and 2 x 3, then 2 again, then none
    board = ew.leaderboard(["exact"], out=out, **TINY)
    assert {t.method for t in board.answered} == {"changing:find", "exact", "random", "magnitude"}


def test_folders_that_hold_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"it holds thesis\.txt"):
        ew.leaderboard(["exact"], out=tmp_path, **TINY)
    with pytest.raises(FormatError, match="not the folder of a leaderboard"):
        ew.Leaderboard.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"program": 3}, "program: expected"),
        ({"program": "nine"}, "'nine', which is not one"),
        ({}, "needs n_edges"),
    ],
)
def test_a_broken_trial_is_refused(change, words, tmp_path):
    trial = {**_trial("a", "or-gate", 1.0).to_json(), **change}
    header = {"format": "edgewise-leaderboard-journal", "version": 1, "edgewise": "0.0.0"}
    (tmp_path / "journal.jsonl").write_text(f"{json.dumps(header)}\n{json.dumps(trial)}\n")
    with pytest.raises(FormatError, match=f"not a finished trial: .*{words}"):
        ew.leaderboard(["exact"], out=tmp_path, **TINY)


# --- the page and the command


def test_the_page_and_the_tables_say_all(board, tmp_path):
    page = ew.report(board, tmp_path / "page.html").read_text()
    assert all(f"<code>{row.method}</code>" in page for row in board.rows)
    assert "2 compiled programs, 1 ablation (zero), 1 seed of prompts, 2 problems" in page
    assert [len(table.rows) for table in board.tables()] == [6, 6, 6, 2, 6, 1]
    assert repr(board) == "Leaderboard(6 methods on 2 problems)"


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(
        "import edgewise as ew\ndef find(problem):\n"
        "    assert problem.origin['task'] != 'tracr-reverse', 'not this one'\n"
        "    return ew.Circuit.full(problem.graph)\n"
    )
    monkeypatch.delitem(sys.modules, "own", raising=False)
    command = ("leaderboard", "--quick", "--ablation", "zero", "--out", "b", "--method")
    programs = ("--program", "or-gate,tracr-reverse")
    code, out, _ = edgewise(capsys, *command, "own:find,exact", *programs)
    assert code == 1
    words = "own:find fails on 1 of 2 problems: AssertionError: not this one"
    assert words in " ".join(out.split())
    code, out, _ = edgewise(capsys, *command, "exact", "--program", "or-gate", "--json")
    document = json.loads(out)
    assert (code, document["n_failed"]) == (1, 1)  # what the folder holds
    assert all(Path(file).exists() for file in document["files"])
    assert Path(document["files"][0]).name == "leaderboard.html"


def test_the_committed_page_is_that_of_the_committed_numbers():
    root = Path(__file__).parents[2]
    results = json.loads((root / "benchmarks" / "results" / "leaderboard.json").read_text())
    board = ew.Leaderboard.from_json(results)
    page = (root / "docs" / "leaderboard.html").read_text()
    assert len(page) < 1_000_000
    assert set(USUAL) | set(TRAINED) <= {row.method for row in board.rows}
    assert results["standings"][0]["areas"] == board.to_json()["standings"][0]["areas"]
    assert all(sentence in page for sentence in board.sentences()[:2])
    text = (root / "docs" / "leaderboard.md").read_text()
    for row in board.rows:
        mean = row.average_precision
        assert row.method in page
        assert number(round(mean.mean, 3)) in page
        assert f"| `{row.method}` | {mean.mean:.3f} ({mean.low:.3f}–{mean.high:.3f}) |" in text
