"""The reproduction: its numbers are those of direct calls, it goes on after a stop, its page and
files hold them."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import edgewise as ew
from commands import edgewise, ok
from edgewise.errors import FormatError, ModelUnavailable, OutputError, SettingError, UnknownName
from edgewise.recipes import Experiment, Measured, Reproduced, reproduce
from edgewise.recipes.paper import experiments, paper, published_areas, subjects
from edgewise.recipes.reproduction import perform, work_through
from edgewise.reporting import report
from edgewise.work.journal import line_of

QUICK = paper().scales["quick"]
TINY = replace(QUICK, n=4, thresholds=2, penalties=2, hisp_circuits=3, sp_steps=2, programs=2)
GATE = {"offline": True, "quick": True, "only": ["or-gate"]}


def _grid(scale, **how):
    return [e for s in subjects(scale, **how) for e in experiments(scale, s)]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The programs and a gate, as `reproduce` has them, but little training and chance."""
    grid = [
        experiment
        for experiment in _grid(QUICK, hub=False)
        if experiment.subject.is_program and not experiment.reset
        if experiment.method in ("acdc", "hisp") or experiment.subject.task == "or-gate"
    ]
    return work_through(grid, tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """One language task on the bundled model, tiny, without training."""
    chosen = {
        ("acdc", "prob-diff", "corrupted", False),
        ("random", "kl", "corrupted", False),
        ("hisp", "kl", "zero", False),
        ("hisp", "kl", "zero", True),
    }
    grid = [
        e
        for e in _grid(TINY, hub=False)
        if e.subject.task == "greater-than" and (e.method, e.metric, e.ablation, e.reset) in chosen
    ]
    return work_through(grid, tmp_path_factory.mktemp("language"))


def _problem(results, task, metric, ablation):
    names = {(p.subject.task, p.metric, p.ablation): p for p in results.problems()}
    return names[task, metric, ablation]


# --- the numbers


@pytest.mark.parametrize("ablation", ["corrupted", "zero"])
@pytest.mark.parametrize("task", ["tracr-reverse", "tracr-xproportion"])
def test_areas_of_programs_are_the_published_ones(programs, task, ablation):
    """HISP's to the digit: all its scores tie there, so the order of units decides (spec 0.4)."""
    areas = {(a.task, a.method, a.ablation): a for a in programs.areas()}
    for method in ("hisp", "acdc") if ablation == "zero" else ("hisp",):
        area = areas[task, method, ablation]
        assert round(area.ours.edge_auc, 3) == area.edge_auc
        assert round(area.ours.node_auc, 3) == area.node_auc
        assert (area.why_not == "") is (method == "acdc")


def test_areas_are_those_of_direct_calls(programs):
    task = ew.load_task("tracr-xproportion", ablation="corrupted", data="paper")
    thresholds = [1e-5, 1e-3, 1e-1]
    runs = [ew.acdc(task.problem, threshold=tau) for tau in thresholds]
    direct = ew.recovery(runs, task.published, nodes="paper")
    problem = _problem(programs, "tracr-xproportion", "l2", "corrupted")
    ours, points = programs.area(problem, method="acdc"), programs.points(problem, method="acdc")
    assert [point.value for point in points] == thresholds
    assert (ours.edge_auc, ours.node_auc, ours.n_circuits) == (direct.edge_auc, direct.node_auc, 3)
    assert points[-1].kept == tuple(edge.name for edge in runs[-1].circuit.edges)
    assert points[-1].test["l2"] == task.test.value(runs[-1].circuit)
    assert points[-1].truth == ew.recovery(runs[-1], task.truth).edges


def test_a_language_task_is_measured_on_held_out_prompts_by_both_metrics(language):
    problem = _problem(language, "greater-than", "prob-diff", "corrupted")
    about = language.about(problem)
    assert (about.held_out, about.n, about.n_test) == (True, 4, 4)
    model = ew.load_model("small-lm")
    graph = ew.Graph.of(model, switches=True)
    task = ew.load_task("greater-than", model, n=4)
    test = task.test.with_(graph=graph)
    for point in language.points(problem, method="acdc"):
        run = ew.acdc(
            task.problem.with_(graph=graph), threshold=point.value, head_order="ascending"
        )
        assert point.n_edges == run.circuit.n_edges
        measures = {m: test.with_(metric=m).value(run.circuit) for m in ("kl", "prob-diff")}
        assert point.test == pytest.approx(measures, abs=1e-6)
    assert language.area(problem, method="acdc") is None  # none is published
    chance = language.points(problem, method="random")
    assert {p.n_edges for p in chance} == {round(p.value * about.n_edges) or 1 for p in chance}


def test_the_reset_network_is_compared_with_the_trained_one(language):
    problem = _problem(language, "greater-than", "kl", "zero")
    (record,) = [r for r in language.cells if r.cell.reset]
    full, _ = record.about.baselines["kl"]
    assert full > 0.1  # the trained model has 0
    assert language.about(problem).baselines["kl"][0] == pytest.approx(0, abs=1e-6)
    whole = max(record.points, key=lambda point: point.n_edges)
    assert whole.test["kl"] == pytest.approx(full, abs=1e-6)
    (chart,) = [c for c in language.charts() if "found with kl, zero" in c.title]
    assert [s.name for s in chart.series] == ["HISP", "HISP, reset network"]


def test_the_fewest_edges_that_suffice(language):
    (record, *_) = [r for r in language.cells if r.cell.method == "hisp" and not r.cell.reset]
    points = tuple(Measured(0.0, n, {"kl": kl}) for n, kl in ((5, 2.0), (9, 0.1), (7, 0.15)))
    about = replace(record.about, baselines={"kl": (0.0, 2.0)})
    results = Reproduced((replace(record, points=points, about=about),))
    assert results.sufficient(record.cell.problem) == {"hisp": 7}  # nothing else was run
    assert results.sufficient(record.cell.problem, share=0.99) == {"hisp": None}


def test_a_single_circuit_of_the_paper_stands_beside_what_it_says(tmp_path):
    """On the paper's own model; the bundled one has heads of the same numbers, which will do."""
    (subject,) = [s for s in subjects(TINY, hub=False) if s.task == "docstring"]
    how = ("kl", "corrupted", "acdc", (0.095,), (("head_order", "ascending"),))
    experiment = Experiment(subject, *how, highlight="Table 4")
    results = work_through([experiment], tmp_path)
    (point,) = results.cells[0].points
    senders = {edge.split("->")[0] for edge in point.kept}
    for nodes in point.groups.values():
        assert all(any(end.startswith(node) for end in senders) for node in nodes)
    tables = {table.title: table.cells() for table in results.tables()}
    rows = tables["Single circuits of docstring"]
    assert [str(point.n_edges) in row for row in rows] == [False, True, False, False]
    assert "34 edges, KL 1.2, logit margin −1.7" in rows[1]
    assert "needs the paper's own model" in str(tables["Single circuits of greater-than"])
    assert not results.points(experiment.problem, method="acdc")  # no part of a series


# --- the grid and the published tables


def test_the_grid_and_the_tables_are_the_papers():
    whole = _grid(paper().scales["paper"], hub=True)
    assert len(set(whole)) == len(whole)

    def values(task, method, metric):
        return [
            value
            for e in whole
            if (e.subject.task, e.method, e.metric, e.ablation) == (task, method, metric, "zero")
            if not (e.reset or e.highlight) and (e.subject.is_program or not e.subject.bundled)
            for value in e.values
        ]

    assert values("ioi", "acdc", "kl")[::30] == [1e-6, 1.0]
    sizes = {("ioi", "acdc"): 31, ("ioi", "sp"): 32, ("greater-than", "acdc"): 31}
    assert {key: len(values(*key, "kl")) for key in sizes} == sizes
    assert [len(values("tracr-reverse", m, "l2")) for m in ("acdc", "sp")] == [21, 11]
    for scale in paper().scales.values():
        assert all(e.subject.bundled for e in _grid(scale, hub=False))
    entries = {(a.task, a.metric, a.ablation, a.method): a.why_not for a in published_areas()}
    assert len(published_areas()) == len(entries) == 48
    assert entries["docstring", "kl", "corrupted", "acdc"] == ""
    assert all(why for (*_, method), why in entries.items() if method == "hisp")


def test_a_model_on_disk_stands_for_the_papers(tmp_path):
    models = {"ioi": "no/folder"}
    own = [s for s in subjects(QUICK, hub=False, models=models) if not s.bundled]
    assert [(s.task, s.model, s.processing) for s in own] == [
        ("ioi", "no/folder", "transformer-lens")
    ]
    how = {"offline": True, "quick": True, "only": ["ioi"], "minutes": 1e-9}
    results = reproduce(tmp_path, models=models, **how)
    assert not results.cells
    assert "random on ioi on no/folder, kl, zero" in results.left
    assert "not begun in the time given" in (tmp_path / "reproduce.html").read_text()


# --- stopping and going on


def _timeless(results):
    return [replace(record, seconds=0.0, cpu_seconds=0.0) for record in results.cells]


def test_a_stopped_run_goes_on_and_computes_nothing_twice(tmp_path, monkeypatch):
    how = {**GATE, "methods": ["acdc"]}
    whole = reproduce(tmp_path / "whole", **how)
    done = []

    def counted(experiment, on_progress):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(experiment)
        return perform(experiment, on_progress)

    monkeypatch.setattr("edgewise.recipes.reproduction.perform", counted)
    with pytest.raises(KeyboardInterrupt):
        reproduce(tmp_path / "stopped", **how)
    monkeypatch.setattr("edgewise.recipes.reproduction.perform", perform)
    steps = []
    again = reproduce(tmp_path / "stopped", **how, on_progress=steps.append)
    assert _timeless(again) == _timeless(whole)
    assert steps[-1].done == steps[-1].total < sum(r.cell.effort for r in whole.cells)
    steps.clear()
    reproduce(tmp_path / "stopped", **how, on_progress=steps.append)
    assert [step.total for step in steps] == [0]


def test_a_model_that_cannot_be_had_is_left_out_with_the_reason(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ModelUnavailable("gpt2 is not on disk, and the hub cannot be reached.")

    monkeypatch.setattr("edgewise.recipes.reproduction._model", refuse)
    results = reproduce(tmp_path, quick=True, only=["greater-than"])
    assert set(results.refused) == {"greater-than on small-lm", "greater-than on gpt2"}
    (area, *_) = [a for a in results.areas() if a.task == "greater-than"]
    assert "hub cannot be reached" in area.missing
    assert any("greater-than on gpt2: not here" in text for text in results.sentences())


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"only": ["ioy"]}, UnknownName, "no task of the paper named 'ioy'. Did you mean 'ioi'"),
        ({"models": {"sport": "x"}}, UnknownName, "no language task of the paper named 'sport'"),
        ({"methods": ["eap"]}, UnknownName, "no method of the paper named 'eap'"),
        ({"minutes": 0}, SettingError, "minutes is 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(tmp_path, wrong, error, match):
    with pytest.raises(error, match=re.escape(match)):
        reproduce(tmp_path / "out", offline=True, **wrong)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make"):
        reproduce(tmp_path / "file", offline=True)


def test_other_work_is_done_again(tmp_path):
    whole = reproduce(tmp_path, **GATE, methods=["hisp"])
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    record = json.loads(lines[1])
    del record["crc32"]
    record["work"]["revision"] += 1
    journal.write_bytes(b"".join([lines[0], line_of(record), *lines[2:]]))
    with pytest.warns(UserWarning, match="hisp on or-gate, l2, zero of other work: revision was 2"):
        again = reproduce(tmp_path, **GATE, methods=["hisp"])
    assert _timeless(again) == _timeless(whole)
    assert len(journal.read_bytes().splitlines()) == len(lines) + 1


# --- the page and the data


def test_the_page_stands_alone_and_says_its_numbers(programs, language, tmp_path):
    both = Reproduced((*programs.cells, *language.cells))
    text = report(both, tmp_path / "page.html").read_text()
    assert "nan" not in re.findall(r">([^<]*)<", text)
    for area in programs.areas():
        if area.ours:
            assert f">{area.ours.edge_auc:.3g}<" in text
    assert "tok_embed-&gt;a0.h0.q" in text  # why ACDC does not find all that the weights can use
    assert "greater-than on small-lm: found with prob-diff" in text


def test_the_committed_page_and_data_belong_together():
    folder = Path(__file__).parents[2] / "docs" / "reproduce"
    results = Reproduced.load(folder / "reproduce.json")
    assert not results.left
    text = (folder / "reproduce.html").read_text()
    words = (folder.parent / "reproduce.md").read_text()
    assert sum(area.ours is not None for area in results.areas()) == 12
    for area in results.areas():
        if area.ours:
            pairs = [(area.ours.edge_auc, area.edge_auc), (area.ours.node_auc, area.node_auc)]
            numbers = " | ".join(f"{number:.3f}" for pair in pairs for number in pair)
            assert f"{area.ours.edge_auc:.3g}" in text
            assert f"| {area.task} | {area.ablation} | {area.method} | {numbers} |" in words
    assert all(sentence in text for sentence in results.sentences())
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) < 1_500_000


def test_the_data_read_back(programs, tmp_path):
    data, points = programs.write(tmp_path)
    again = Reproduced.load(data)
    assert again.cells == programs.cells
    assert again.tables() == programs.tables()
    rows = list(csv.DictReader(points.read_text().splitlines()))
    assert len(rows) == sum(len(record.points) for record in again.cells)
    assert all(0 <= float(row["edges_tpr"]) <= 1 for row in rows)
    broken = json.loads(data.read_text())
    broken["cells"][0]["points"][0]["n_edges"] = "3"
    data.write_text(json.dumps(broken))
    with pytest.raises(FormatError, match=r"cells\[0\].points\[0\].n_edges: expected 'int'"):
        Reproduced.load(data)


def test_the_command(tmp_path, capsys, monkeypatch):
    command = ("reproduce", "--offline", "--quick", "--only", "or-gate", "--method", "hisp")
    command = (*command, "--out", tmp_path / "out")
    document = json.loads(ok(capsys, *command, "--json"))
    assert document["files"]["page"] == str(tmp_path / "out" / "reproduce.html")
    assert len(document["areas"]) == 48

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("edgewise.recipes.reproduce", interrupt)
    code, _, err = edgewise(capsys, *command)
    assert (code, "run the same command again to resume" in err) == (130, True)


@pytest.mark.network
def test_the_papers_model_from_a_hub(tmp_path):
    results = reproduce(tmp_path, quick=True, only=["greater-than"], methods=["hisp"])
    assert any(not record.cell.subject.bundled for record in results.cells)
