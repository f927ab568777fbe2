"""A sweep is its runs one by one: what they share is done once, and what is kept stays."""

import json

import numpy as np
import pytest
import torch
from disks import full_disk, largest_file

import edgewise as ew
from edgewise.errors import FormatError, OutputError
from edgewise.points import Computer, Point
from edgewise.sweep_folder import COLUMNS, VOLATILE, PointResult
from edgewise.sweeps import Schedule, sweep_grid
from edgewise.work.executors import processes_that_fit
from edgewise.work.identity import of_model
from models import random_model, random_pairs

OVER = {"task": ["tracr-xproportion", "or-gate"], "ablation": ["zero", "mean"]}
METHODS = {
    "acdc": {"threshold": [0.01, 0.1]},
    "eap-ig": {"edges": [4, 8], "steps": 1},
    "random": {"seed": range(2), "edges": 5},
}
XPROPORTION, OR_GATE = {"task": "tracr-xproportion"}, {"task": "or-gate"}


def small_problem():
    model = random_model()
    return ew.Problem(model, random_pairs(model), "logit-diff", "corrupted")


# --- several values of settings


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("acdc", {"head_order": ["ascending", "descending"], "threshold": [0.3, 0.01]}),
        ("eap", {"edges": [0, 5, 46, 5]}),
        ("eap-ig", {"share": (0.5, 0.1), "steps": 2, "select": "greedy"}),
        ("relp", {"nodes": range(4)}),
        ("random", {"seed": range(2), "edges": [3, 5]}),
        ("hisp", {"activations": [14, 0, 3], "reading": "code"}),
        ("hisp", {"activation_share": np.linspace(0, 1, 4)}),
        ("acdc-ordered", {"threshold": [0.1, 0.01]}),
        ("sp", {"regularisation": torch.tensor([0.5, 10.0]), "steps": 3}),
        ("ugs", {"seed": [0, 1], "regularisation": 0.1, "steps": 3}),
    ],
)
def test_a_sweep_is_its_runs_one_by_one(method, settings):
    problem = small_problem()
    values = [
        [(name, getattr(value, "item", lambda v=value: v)()) for value in axis]
        if not isinstance(axis, str | int | float)
        else [(name, axis)]
        for name, axis in settings.items()
    ]
    choices = [{}]
    for axis in values:
        choices = [{**choice, name: value} for choice in choices for name, value in axis]
    runs = ew.sweep(problem, method, **settings)
    for run, choice in zip(runs, choices, strict=True):
        alone = ew.discover(problem, method, **choice)
        assert run.circuit == alone.circuit
        torch.testing.assert_close(run.scores.values, alone.scores.values)
        for name in ("settings", "settings_given", "notes"):
            assert getattr(run, name) == getattr(alone, name), name
        ours, theirs = (r.measurements["faithfulness"]["circuit"] for r in (run, alone))
        assert ours == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("method", "settings", "passes"),
    [
        ("eap-ig", {"edges": [3, 6, 9], "steps": 3}, 3),
        ("hisp", {"activations": range(9)}, 1),
        ("sp", {"regularisation": [0.1, 1], "steps": 3}, 4),  # one: do gradients reach the masks?
    ],
)
def test_shared_work_is_done_once_and_each_training_by_itself(method, settings, passes):
    runs = ew.sweep(small_problem(), method, **settings)
    assert {run.cost.backward_passes for run in runs} == {passes}


def test_progress_says_which_value_it_is_about():
    seen = []
    settings = {"regularisation": [0.1, 1], "steps": 2, "on_progress": seen.append}
    ew.sweep(small_problem(), "sp", **settings)
    about = [(step.done, step.message.partition(":")[0]) for step in seen]
    assert about == [(n, f"regularisation {value}") for value in (0.1, 1.0) for n in (1, 2)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"edges": []}, "edges of eap is empty"),
        ({"edges": [3, -1]}, "edges is -1"),
        ({"edge": [3]}, "Did you mean 'edges'"),
    ],
)
def test_what_is_no_sweep_is_refused_before_anything_runs(settings, message):
    seen = []
    with pytest.raises(ew.EdgewiseError, match=message):
        ew.sweep(small_problem(), "eap", on_progress=seen.append, **settings)
    assert not seen


# --- what a point is


def lasting(sweep):
    """The table without what differs between two times that it is computed."""
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in sweep.rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return ew.sweep_grid(METHODS, over=OVER, out=tmp_path_factory.mktemp("whole") / "x")


def test_every_point_is_what_discover_finds(whole):
    assert len(whole.rows) == 4 * 6 == len(whole.done)
    for row in whole.rows:
        task = ew.load_task(row["task"], ablation=row["ablation"])
        settings = {
            name.removeprefix("setting_"): value
            for name, value in row.items()
            if name.startswith("setting_") and value is not None
        }
        run = ew.discover(task.problem, row["method"], **settings)
        evaluated = ew.faithfulness(task.test, run.circuit)
        expected = {
            "n_edges": run.circuit.n_edges,
            "model_sha256": of_model(task.problem.model)["weights"],
            "discovery_sha256": task.problem.pairs.sha256,
            "evaluation_split": "discovery" if task.test is task.problem else "held-out",
            "evaluation_n": len(task.test.pairs),
            "evaluation_metric": pytest.approx(evaluated.circuit, abs=1e-12),
            "evaluation_faithfulness": pytest.approx(evaluated.normalized),
            "published_edge_tpr": ew.recovery(run, task.published).edges.tpr,
            "truth_node_fpr": ew.recovery(run, task.truth).nodes.fpr,
        }
        assert {name: row[name] for name in expected} == expected
        assert whole.circuit(row) == run.circuit


def test_points_found_apart_and_in_another_order_are_the_same_table(whole, tmp_path):
    other = {name: METHODS[name] for name in reversed(METHODS)}
    over = {"ablation": ["mean", "zero"], "task": OVER["task"][::-1]}
    apart = sweep_grid(other, over=over, out=tmp_path / "x", apart=True)
    assert {row["points_sharing_cost"] for row in apart.rows} == {1}
    for ours, theirs in zip(lasting(apart), lasting(whole), strict=True):
        for name, value in ours.items():
            if isinstance(value, float):  # sums in another order
                assert value == pytest.approx(theirs[name], rel=1e-5, abs=1e-9), name
            else:
                assert value == theirs[name], name


def test_a_key_is_of_the_content_not_of_names(tmp_path):
    """Defaults that are said are no other points; other prompts, weights, settings are."""

    def key(method="eap", over=None, **settings):
        over = {"task": "and-gate", **(over or {})}
        (key,) = sweep_grid({method: {"edges": 3, **settings}}, over=over, out=tmp_path / "x").keys
        return key

    first = key()
    assert key(over={"seed": 0, "ablation": "zero", "metric": "l2"}, by="absolute") == first
    others = [key(over=o) for o in (OR_GATE, {"ablation": "mean"}, {"metric": "nll"})]
    assert len({first, *others, key(edges=4), key("eap-ig")}) == 6
    assert len(ew.Sweep.load(tmp_path / "x").rows) == 6


# --- stopped and resumed


class Stop(BaseException):
    """As a kill: nothing handles it."""


@pytest.mark.parametrize("after", [1, 6])
def test_a_stopped_sweep_resumes_to_the_same_table(whole, tmp_path, monkeypatch, after):
    """Whatever is in the journal is never computed again."""
    computed, real, folder = [], Computer.__call__, tmp_path / "x"

    def counted(self, job):
        if len(computed) == after:
            raise Stop
        computed.append(len(job))
        return real(self, job)

    with monkeypatch.context() as patch:
        patch.setattr(Computer, "__call__", counted)
        with pytest.raises(Stop):
            sweep_grid(METHODS, over=OVER, out=folder)
    half = (folder / "journal.jsonl").read_bytes()
    assert half.count(b"\n") - 1 == sum(computed)
    assert len((folder / "points.jsonl").read_text().splitlines()) == sum(computed)
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"key": "torn')
    (folder / "circuits" / ".0123.json.abcd").write_text("half")
    assert len(ew.Sweep.load(folder).rows) == sum(computed)
    with pytest.warns(UserWarning, match="journal.jsonl ends in half a line"):
        again = sweep_grid(METHODS, over=OVER, out=folder)
    assert lasting(again) == lasting(whole)
    journal = (folder / "journal.jsonl").read_bytes()
    assert journal.startswith(half)
    assert journal.count(b"\n") - 1 == len(whole.rows)
    assert not list((folder / "circuits").glob(".*"))
    assert not (folder / "unfinished").exists()


def test_another_grid_in_the_same_folder_adds_what_is_new(tmp_path, monkeypatch):
    sweep_grid({"acdc": {"threshold": [0.1]}}, over=XPROPORTION, out=tmp_path)
    both = sweep_grid({"acdc": {"threshold": [0.1, 0.2]}}, over=XPROPORTION, out=tmp_path)
    assert [row["setting_threshold"] for row in both.rows] == [0.1, 0.2]
    assert [row["points_sharing_cost"] for row in both.rows] == [1, 1]
    monkeypatch.setattr(Computer, "__call__", lambda *_: pytest.fail("computed again"))
    less = sweep_grid({"acdc": {"threshold": [0.2]}}, over=XPROPORTION, out=tmp_path)
    assert (len(less.keys), less.rows) == (1, both.rows)


def test_a_point_computed_alone_resumes_from_its_last_decision(tmp_path):
    def stopping(step):
        if step.message.endswith("(threshold 0.01): 40/106 "):
            raise Stop

    methods, over = {"acdc": {"threshold": 0.01}}, {"task": "tracr-reverse"}
    with pytest.raises(Stop):
        sweep_grid(methods, over=over, out=tmp_path / "x", on_progress=stopping)
    (row,) = sweep_grid(methods, over=over, out=tmp_path / "x").rows
    assert 0 < row["taken_over"] < row["edge_tests"]
    (straight,) = sweep_grid(methods, over=over, out=tmp_path / "y").rows
    assert row["circuit_id"] == straight["circuit_id"]
    assert not (tmp_path / "x" / "unfinished").exists()


# --- points that fail, and places that do


def test_a_point_that_fails_stops_no_other_and_is_tried_again_when_asked(tmp_path, monkeypatch):
    methods = {"exact": {"edges": [3, 500]}, "acdc": {"threshold": 0.1, "prune": [True, False]}}
    over = {**OR_GATE, "ablation": "zero", "metric": ["l2", "logit-diff"]}
    found = sweep_grid(methods, over=over, out=tmp_path)
    assert (len(found.done), len(found.failed)) == (2, 6)
    errors = " ".join(row["error"] for row in found.failed)
    for reason in ("asked for 500 edges", "prune drops nodes", "needs answers"):
        assert reason in errors
    assert {row["error_kind"] for row in found.failed} == {"SettingError", "ProblemError"}
    with pytest.raises(ew.EdgewiseError, match="has no circuit: .*asked for 500"):
        found.circuit(next(row for row in found.failed if "500 edges" in row["error"]))
    tried = []
    monkeypatch.setattr(Computer, "__call__", lambda self, job: tried.extend(job) or [])
    sweep_grid(methods, over=over, out=tmp_path)
    assert not tried
    sweep_grid(methods, over=over, out=tmp_path, retry_failed=True)
    assert len(tried) == 6


def test_running_out_of_memory_is_a_failed_point(tmp_path, monkeypatch):
    def full(*_, **__):
        raise MemoryError("cannot allocate 10 TiB")

    with monkeypatch.context() as patch:
        patch.setattr("edgewise.points.discover_together", full)
        found = sweep_grid({"random": {}}, over=OR_GATE, out=tmp_path)
    assert found.failed[0]["error"].startswith("MemoryError: cannot allocate 10 TiB (in ")
    again = sweep_grid({"random": {}}, over=OR_GATE, out=tmp_path, retry_failed=True)
    assert [row["status"] for row in again.rows] == ["done"]


@pytest.mark.parametrize(
    ("methods", "over", "message"),
    [
        ({}, OR_GATE, "a sweep needs methods with their settings"),
        ({"acdc": {"threshold": [0.1, -1]}}, OR_GATE, "threshold is -1"),
        ({"acdc": {}}, OR_GATE, "method 'acdc' needs threshold"),
        ({"acdc": {"edges": 3}}, OR_GATE, "no setting of acdc named 'edges'"),
        ({"eap": {"edges": 3}}, {}, "say what to work on"),
        ({"eap": {"edges": 3}}, {**OR_GATE, "n_edges": 3}, "'n_edges' is a column"),
        ({"eap": {"edges": 3}}, {"task": object()}, "a sweep keeps text, numbers"),
    ],
)
def test_what_is_no_grid(tmp_path, methods, over, message):
    with pytest.raises(ew.EdgewiseError, match=message):
        sweep_grid(methods, over=over, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(OutputError, match=r"not the folder of a sweep: it holds thesis\.tex"):
        sweep_grid({"random": {}}, over=OR_GATE, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(FormatError, match=r"it has no journal\.jsonl"):
        ew.Sweep.load(tmp_path)


def test_a_disk_that_fills_up_loses_nothing(whole, tmp_path):
    with largest_file(20_001), pytest.raises(OutputError, match="File too large.*kept"):
        sweep_grid(METHODS, over=OVER, out=tmp_path)
    assert len(ew.Sweep.load(tmp_path).rows) < len(whole.rows)
    with pytest.warns(UserWarning, match="half a line"):
        again = sweep_grid(METHODS, over=OVER, out=tmp_path)
    assert lasting(again) == lasting(whole)


def test_tables_that_do_not_fit_leave_the_old_ones(tmp_path, monkeypatch):
    methods = {"random": {"edges": 3}}
    sweep_grid(methods, over=OR_GATE, out=tmp_path)
    old = {p.name: p.read_bytes() for p in tmp_path.glob("points.*")}
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full_disk)
        with pytest.raises(OutputError, match="cannot write .*: No space left on device"):
            sweep_grid({"random": {"edges": [4]}}, over=OR_GATE, out=tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.glob("points.*")} == old
    assert not list(tmp_path.glob(".points*"))
    assert len(sweep_grid(methods, over=OR_GATE, out=tmp_path).rows) == 1


# --- how long, and how many at a time


def job(method, n=1):
    return (Point({}, method, None, (), row={"task": "ioi"}),) * n


def test_time_left_is_of_the_points_that_are_finished():
    jobs = [job("acdc"), job("acdc", n=2), job("eap")]
    schedule = Schedule(jobs)
    assert schedule.seconds_left() is None
    schedule.finished(jobs[0], [], 60.0)
    assert schedule.seconds_left() == 60 * 3
    schedule.finished(jobs[2], [], 2.0)
    assert schedule.seconds_left() == 60 * 2
    assert schedule.seconds_left(2) == 60


def test_processes_fit_into_memory(monkeypatch):
    monkeypatch.setattr("edgewise.work.executors.n_cores", lambda: 8)
    monkeypatch.setattr("edgewise.work.executors.free_memory_bytes", lambda: 10 * 2**30)
    cases = {(2**31, 100): 4, (2**31, 3): 3, (2**20, 100): 8, (2**40, 100): 1}
    assert {case: processes_that_fit(*case) for case in cases} == cases

    def after_one(seconds, device="cpu", **more):
        schedule = Schedule([job("acdc")] * 9, **more)
        row = {"peak_memory_bytes": 2**30, "device": device}
        schedule.finished(job("acdc"), [PointResult(row)], seconds)
        return schedule.n_processes()

    assert after_one(100.0, workers=None) == 8
    assert after_one(1.0, workers=None) == 1  # not worth it
    assert after_one(100.0, "cuda", workers=None) == 1  # a GPU is not shared
    assert after_one(1.0, workers=3) == 3


# --- reading it


def test_parquet_has_types_and_units(whole):
    from pyarrow import parquet

    schema = parquet.read_schema(whole.folder / "points.parquet")
    kinds = {str: "string", int: "int64", float: "double", bool: "bool"}
    for column in COLUMNS:
        field = schema.field(column.name)
        assert str(field.type) == kinds[column.kind]
        assert (field.metadata or {}).get(b"unit", b"").decode() == column.unit
    assert str(schema.field("setting_edges").type) == "int64"
    assert str(schema.field("setting_prune").type) == "bool"
    for line in (whole.folder / "points.jsonl").read_text().splitlines():
        assert list(json.loads(line)) == schema.names
