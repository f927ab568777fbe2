"""The leaderboard: areas by hand, own methods, resume, intervals, the page, the command."""

import json
import math
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

import edgewise as ew
from edgewise.cli.main import main
from edgewise.errors import FormatError, OutputError, SettingError, UnknownName
from edgewise.leaderboards import AREAS, NAMES, TRAINED, USUAL
from edgewise.leaderboards.cell import Cell
from edgewise.leaderboards.entrants import entrants
from edgewise.leaderboards.judging import judged, tied
from edgewise.leaderboards.problems import Posed, posed
from edgewise.leaderboards.standings import standings
from edgewise.reporting.leaderboard import leaderboard_page
from models import random_model, random_pairs

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
    return ew.leaderboard({"mine": by_circuits, "acdc": "acdc", "exact": "exact"}, **TINY)


# --- areas


def _truth():
    task = ew.load_task("tracr-reverse")
    return task.problem, task.truth


def test_the_truth_itself_gets_everything():
    _, truth = _truth()
    scores = ew.EdgeScores(truth.graph, truth.keep.double(), "truth", "is true")
    for answer in (truth, [truth], [truth, ew.Circuit.full(truth.graph)], scores):
        areas = judged(answer, truth)
        assert [getattr(areas, name) for name in AREAS] == pytest.approx([1, 1, 1])
    assert judged(scores, truth).n_circuits is None
    assert judged([truth], truth).n_circuits == 1


def test_ties_say_nothing_whoever_makes_them():
    _, truth = _truth()
    flat = ew.EdgeScores(truth.graph, torch.zeros_like(truth.keep).double(), "flat", "nothing")
    for answer in (flat, ew.Circuit.full(truth.graph), ew.Circuit.empty(truth.graph)):
        areas = judged(answer, truth)
        for name in AREAS:
            assert getattr(areas, name) == pytest.approx(getattr(tied(truth), name))


def test_scores_are_judged_at_every_cut_of_their_order():
    """As the paper's area of the circuits of all sizes, where no two scores are equal."""
    problem, truth = _truth()
    scores = ew.random_scores(problem, seed=3).scores
    circuits = [scores.top(n) for n in range(truth.graph.n_edges + 1)]
    whole, each = judged(scores, truth), judged(circuits, truth)
    for name in AREAS:
        assert getattr(whole, name) == pytest.approx(getattr(each, name))
    negated = ew.EdgeScores(truth.graph, -scores.values, "negated", "")
    assert judged(negated, truth, by="absolute") == whole
    assert judged(negated, truth).roc_auc == pytest.approx(1 - whole.roc_auc)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "returned a NoneType; return EdgeScores"),
        ([], "an empty list"),
        ([1], "a list with a int in it"),
        ("run", r"returned a Run; .*`.scores`"),
        ("other graph", "its answer is on a graph of"),
    ],
)
def test_what_is_no_answer(answer, words):
    problem, truth = _truth()
    if answer == "run":
        answer = ew.random_scores(problem)
    elif answer == "other graph":
        answer = ew.load_task("or-gate").truth
    with pytest.raises(SettingError, match=words):
        judged(answer, truth)


# --- who takes part


def test_names_are_known_or_refused():
    assert [e.name for e in entrants(["usual"])] == list(USUAL)
    assert {e.name for e in entrants(["trained"])} == {*TRAINED, "random", "magnitude"}
    assert set(USUAL) <= set(NAMES)
    assert [e.name for e in entrants(["EAP_IG"])] == ["eap-ig", "magnitude", "random"]
    with pytest.raises(UnknownName, match="Did you mean 'acdc'.*module:function"):
        entrants(["acdx"])
    with pytest.raises(SettingError, match="one of Edgewise's own"):
        entrants({"acdc": perfect})
    with pytest.raises(SettingError, match="exact cannot be called 'acdc'"):
        entrants({"acdc": "exact"})
    assert entrants(perfect)[0].name.endswith(":perfect")
    with pytest.raises(SettingError, match="at least one method"):
        entrants([])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no.such.module:f", "ModuleNotFoundError"),
        ("mine:other", "there is no 'other' in mine. It has find, needs_two."),
        ("mine.py:find", "name the module, not its file: mine:find"),
        ("mine:number", "is a int; it must be a function"),
        ("mine:needs_two", "cannot be called with a problem alone: .*'k'"),
    ],
)
def test_own_methods_that_are_none(name, words, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("number = 1\ndef find(p): ...\ndef needs_two(p, k): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with pytest.raises(SettingError, match=words):
        ew.leaderboard([name], **TINY)


def test_an_entry_point_is_a_method(monkeypatch):
    from importlib.metadata import EntryPoint

    point = EntryPoint("theirs", f"{__name__}:by_circuits", "edgewise.methods")
    monkeypatch.setattr("edgewise.methods.own.entry_points", lambda group: [point])
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    assert entrants(["theirs"])[0].own
    broken = EntryPoint("theirs", "no_such_module_at_all:f", "edgewise.methods")
    monkeypatch.setattr("edgewise.methods.own.entry_points", lambda group: [broken])
    with pytest.raises(SettingError, match=r"entry point no_such_module_at_all:f .*ModuleNotFound"):
        entrants(["theirs"])


@pytest.mark.parametrize("function", [lambda problem: None, lambda problem: 1 / 0])
def test_a_wrong_function_is_refused_before_anything_else_runs(function, tmp_path):
    with pytest.raises(SettingError, match=r"method wrong, asked about or-gate \(zero ablation\)"):
        ew.leaderboard({"wrong": function, "exact": "exact"}, out=tmp_path / "board", **TINY)
    (line,) = (tmp_path / "board" / "journal.jsonl").read_text().splitlines()  # the header
    assert json.loads(line)["format"] == "edgewise-leaderboard-journal"


def test_a_function_that_fails_later_counts_as_a_tie():
    board = ew.leaderboard({"later": fails_later}, **TINY)
    cell = next(c for c in board.answered if c.method == "later" and c.status == "failed")
    where = "in fails_later, test_leaderboard.py, line "
    assert cell.why.startswith(f"ZeroDivisionError: no effect ({where}")
    assert cell.average_precision == pytest.approx(cell.n_true / cell.n_edges)
    assert next(r for r in board.standings if r.method == "later").n_failed == 1


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


def test_areas_are_those_of_the_functions_that_users_call(board):
    task = ew.load_task("tracr-reverse")
    at = {c.method: c for c in board.answered if c.program == "tracr-reverse"}
    ours = ew.score_recovery(ew.exact(task.problem), task.truth)
    assert at["exact"].average_precision == pytest.approx(ours.average_precision)
    assert at["exact"].roc_auc == pytest.approx(ours.roc_auc)
    runs = ew.acdc_sweep(task.problem, [10.0**power for power in range(-5, 1)])
    assert at["acdc"].pessimistic_auc == pytest.approx(ew.recovery(runs, task.truth).edge_auc)
    assert at["mine"].n_circuits == 3
    assert at["exact"].removals == task.truth.graph.n_edges
    assert at["exact"].n_prompts == 6


def test_a_standing_is_the_mean_over_programs(board):
    for row in board.standings:
        values = [c.average_precision for c in board.answered if c.method == row.method]
        estimate = row.areas["average_precision"]
        assert estimate.mean == pytest.approx(sum(values) / 2)
        assert min(values) - 1e-12 <= estimate.low <= estimate.mean <= estimate.high
        assert row.rank_low <= row.rank <= row.rank_high
        assert (row.n_programs, row.n_problems) == (2, 2)
    assert [r.rank for r in board.standings] == sorted(r.rank for r in board.standings)


def _cell(method, program, value, **more):
    places = {"ablation": "zero", "seed": 0, **more}
    own = dict.fromkeys(AREAS, value)
    where = f"{program}{sorted(places.items())}"
    return Cell(program, **places, status="done", method=method, problem_id=where, **own)


def test_programs_have_one_weight_however_many_ablations_they_have():
    cells = [
        _cell("a", "p", 1.0),
        _cell("a", "q", 0.0),
        _cell("a", "q", 0.5, ablation="mean"),
        _cell("a", "q", 0.4, ablation="mean", seed=1),
    ]
    (row,) = standings(cells)
    assert row.areas["average_precision"].mean == pytest.approx((1 + (0.25 + 0.4) / 2) / 2)
    assert row.by_ablation["mean"].mean == pytest.approx(0.45)
    assert row.by_ablation["mean"].n_programs == 1
    assert row.by_ablation["mean"].low is None


def test_intervals_cover_the_mean_of_the_population():
    """Programs drawn from one population: its mean lies in about 95 % of the intervals."""
    generator, hits, n = torch.Generator().manual_seed(0), 0, 60
    for _ in range(n):
        values = torch.rand(20, generator=generator).tolist()
        (row,) = standings([_cell("a", str(i), v) for i, v in enumerate(values)])
        estimate = row.areas["average_precision"]
        hits += estimate.low <= 0.5 <= estimate.high
    assert hits >= 0.85 * n


def test_ranks_are_shared_by_ties_and_sure_where_one_is_always_better():
    scores = {"best": 0.9, "tie": 0.5, "same": 0.5, "worst": 0.1}
    cells = [_cell(m, f"p{i}", v + 0.01 * i) for m, v in scores.items() for i in range(5)]
    ranks = {r.method: (r.rank, r.rank_low, r.rank_high) for r in standings(cells)}
    assert ranks == {"best": (1, 1, 1), "same": (2, 2, 2), "tie": (2, 2, 2), "worst": (4, 4, 4)}


def test_a_method_that_has_not_run_everywhere_has_no_rank(board):
    cells = [c for c in board.cells if (c.method, c.program) != ("acdc", "or-gate")]
    part = ew.Leaderboard(tuple(cells))
    assert [r.method for r in part.standings if r.rank is None] == ["acdc"]
    assert {c.program for c in part.common().cells} == {"tracr-reverse"}
    assert all(r.rank for r in part.common().standings)
    assert "Where all have run" in leaderboard_page(part)


def test_problems_without_an_effect_are_left_out():
    left = posed("or-gate", "mean", 0)
    assert isinstance(left, Cell)
    assert left.status == "left out"
    assert "needs corrupted prompts" in posed("or-gate", "corrupted", 0).why
    found = posed("tracr-reverse", "corrupted-tokens", 0)
    assert isinstance(found, Posed)
    assert found.problem.ablation.position_permutation is None
    other = posed("tracr-reverse", "corrupted", 0)
    assert other.problem.ablation.position_permutation is not None
    assert len({found.problem_id, other.problem_id}) == 2


def test_relp_says_what_its_passes_cost():
    model = random_model(1)
    cost = ew.relp(ew.Problem(model, random_pairs(model), "logit-diff")).cost
    assert cost.forward_passes >= 1
    assert cost.backward_passes == 1


# --- on disk


def test_it_goes_on_where_it_stopped(tmp_path):
    def stops(step):
        if step.done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ew.leaderboard({"perfect": perfect}, out=tmp_path, on_progress=stops, **TINY)
    asked = perfect.calls
    part = ew.Leaderboard.load(tmp_path)
    journal = tmp_path / "journal.jsonl"
    with journal.open("a") as file:
        file.write('{"program": "half')  # as a kill leaves it
    with pytest.warns(UserWarning, match="journal.jsonl ends in half a line"):
        whole = ew.leaderboard({"perfect": perfect}, out=tmp_path, **TINY)
    assert len(part.cells) < len(whole.cells) == 6
    assert set(part.cells) <= set(whole.cells)  # times included: taken over, not computed again
    again = ew.leaderboard({"perfect": perfect}, out=tmp_path, **TINY)
    assert again.cells == whole.cells
    assert perfect.calls - asked <= 1
    assert ew.Leaderboard.load(tmp_path).cells == whole.cells
    saved = json.loads((tmp_path / "leaderboard.json").read_text())
    assert [row["method"] for row in saved["standings"]] == [r.method for r in whole.standings]
    assert ew.Leaderboard.from_json(saved).cells == whole.cells
    with pytest.raises(FormatError, match="a broken cell"):
        ew.Leaderboard.from_json({**saved, "columns": ["program"]})
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == 7
    assert not math.isnan(saved["standings"][0]["areas"]["roc_auc"]["mean"])


def test_another_call_adds_and_a_changed_method_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, out = tmp_path / "changing.py", tmp_path / "board"
    text = "import edgewise as ew\ndef find(problem):\n    return ew.Circuit.{}(problem.graph)\n"
    areas = []
    for which in ("full", "empty", "empty"):
        source.write_text(text.format(which))
        monkeypatch.delitem(sys.modules, "changing", raising=False)
        changed = which == "empty" and len(areas) == 1
        told = pytest.warns(UserWarning, match="cells of changing:find from before they changed")
        with told if changed else nullcontext():
            board = ew.leaderboard(["changing:find"], out=out, **TINY)
        areas.append(len((out / "journal.jsonl").read_text().splitlines()))
        assert len(board.answered) == 6
    assert areas == [7, 9, 9]  # header and 2 x 3, then 2 again, then none
    board = ew.leaderboard(["exact"], out=out, **TINY)
    assert {c.method for c in board.answered} == {"changing:find", "exact", "random", "magnitude"}


def test_folders_that_hold_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"it holds thesis\.txt"):
        ew.leaderboard(["exact"], out=tmp_path, **TINY)
    with pytest.raises(FormatError, match="not the folder of a leaderboard"):
        ew.Leaderboard.load(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    header = {"format": "edgewise-leaderboard-journal", "version": 1, "edgewise": "0.0.0"}
    (other / "journal.jsonl").write_text(json.dumps(header) + '\n{"program": 3}\n')
    with pytest.raises(FormatError, match="not a finished cell"):
        ew.leaderboard(["exact"], out=other, **TINY)


# --- the page and the command


def test_the_page_needs_nothing_else(board, tmp_path):
    page = ew.report(board, tmp_path / "page.html").read_text()
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert page.count("<h3>") == 7
    for row in board.standings:
        assert f"<code>{row.method}</code>" in page
    assert "2 compiled programs · 1 ablation (zero) · 1 seed of prompts · 2 problems" in page
    assert leaderboard_page(board) == page
    with pytest.raises(SettingError, match="groups are for runs"):
        ew.report(board, tmp_path / "page.html", groups={"a": ["a0.h0"]})


def test_the_table_has_a_line_for_each_method(board):
    lines = board.table().splitlines()
    assert len(lines) == 2 + len(board.standings)
    assert "`exact`" in board.table()
    assert repr(board) == "Leaderboard(5 methods on 2 problems)"


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(
        "import edgewise as ew\ndef find(problem):\n"
        "    assert problem.origin['task'] != 'tracr-reverse', 'not this one'\n"
        "    return ew.Circuit.full(problem.graph)\n"
    )
    monkeypatch.delitem(sys.modules, "own", raising=False)
    command = ["leaderboard", "--method", "own:find,exact", "--quick", "--program"]
    with pytest.raises(SystemExit) as stop:
        main([*command, "or-gate,tracr-reverse", "--ablation", "zero", "--out", "b"])
    assert stop.value.code == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "own:find fails on 1 of 2 problems: AssertionError: not this one" in said
    assert Path("b/leaderboard.html").exists()
    with pytest.raises(SystemExit) as stop:
        main([*command, "or-gate", "--ablation", "zero", "--out", "b", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["n_failed"] == 1  # what the folder holds
    assert Path(document["files"][0]).name == "leaderboard.html"
    with pytest.raises(SystemExit) as stop:
        main(["leaderboard", "--method", "own:nothing", "--out", "c"])
    assert stop.value.code == 2
    assert not Path("c").exists()


def test_the_committed_page_is_that_of_the_committed_numbers():
    root = Path(__file__).parents[2]
    results = json.loads((root / "benchmarks" / "results" / "leaderboard.json").read_text())
    board = ew.Leaderboard.from_json(results)
    page = (root / "docs" / "leaderboard.html").read_text()
    assert len(page) < 1_000_000
    assert set(USUAL) | set(TRAINED) <= {row.method for row in board.standings}
    standings = leaderboard_page(board).partition("<h3>Standings</h3>")[2].partition("<figure>")[0]
    assert len(standings) > 1_000
    assert standings in page
    text = (root / "docs" / "leaderboard.md").read_text()
    assert all(line in text for line in board.table().splitlines())
