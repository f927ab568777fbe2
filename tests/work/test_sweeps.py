"""A sweep is its points: each what `discover` finds, kept once, whatever stops it."""

import errno
import json
import os
import resource
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

import edgewise as ew
from edgewise.errors import FormatError, OutputError
from edgewise.sweeps import COLUMNS, VOLATILE, sweep_grid
from edgewise.sweeps import sweep as sweep_module
from edgewise.sweeps.points import Computer
from edgewise.work.executors import processes_that_fit
from edgewise.work.grid import Pace
from edgewise.work.identity import of_model

OVER = {"task": ["tracr-xproportion", "or-gate"], "ablation": ["zero", "mean"]}
METHODS = {
    "acdc": {"threshold": [0.01, 0.1]},
    "eap-ig": {"edges": [4, 8], "steps": 1},
    "random": {"seed": range(2), "edges": 5},
}


def lasting(sweep):
    """The table without what differs between two times that it is computed."""
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in sweep.rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return ew.sweep_grid(METHODS, over=OVER, out=tmp_path_factory.mktemp("whole") / "x")


# --- what a point is


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
        assert whole.circuit(row) == run.circuit
        assert row["n_edges"] == run.circuit.n_edges
        assert row["model_sha256"] == of_model(task.problem.model)["weights"]
        assert row["discovery_sha256"] == task.problem.pairs.sha256
        held_out = task.test is not task.problem
        assert row["evaluation_split"] == ("held-out" if held_out else "discovery")
        assert row["evaluation_n"] == len(task.test.pairs)
        judged = ew.faithfulness(task.test, run.circuit)
        assert row["evaluation_metric"] == pytest.approx(judged.circuit, abs=1e-12)
        assert row["evaluation_faithfulness"] == pytest.approx(judged.normalized)
        assert row["published_edge_tpr"] == ew.recovery(run, task.published).edges.tpr
        assert row["truth_node_fpr"] == ew.recovery(run, task.truth).nodes.fpr


def test_apart_finds_the_same(whole, tmp_path):
    apart = sweep_grid(METHODS, over=OVER, out=tmp_path / "x", apart=True)
    assert {row["points_sharing_cost"] for row in apart.rows} == {1}
    for ours, theirs in zip(lasting(apart), lasting(whole), strict=True):
        for name, value in ours.items():
            if isinstance(value, float):  # sums in another order
                assert value == pytest.approx(theirs[name], rel=1e-5, abs=1e-9), name
            else:
                assert value == theirs[name], name


def test_the_order_of_the_table_is_not_that_of_the_work(whole, tmp_path):
    other = {name: METHODS[name] for name in reversed(METHODS)}
    over = {"ablation": ["mean", "zero"], "task": OVER["task"][::-1]}
    assert lasting(sweep_grid(other, over=over, out=tmp_path / "x")) == lasting(whole)


def test_a_key_is_of_the_content_not_of_names(tmp_path):
    """Defaults that are said are no other points; other prompts, weights, settings are."""
    first = sweep_grid({"eap": {"edges": 3}}, over={"task": "and-gate"}, out=tmp_path / "x")
    said = {"task": "and-gate", "seed": 0, "ablation": "zero", "metric": "l2"}
    again = sweep_grid({"eap": {"edges": 3, "by": "absolute"}}, over=said, out=tmp_path / "x")
    assert again.keys == first.keys
    others = [
        ({"eap": {"edges": 3}}, {"task": "or-gate"}),
        ({"eap": {"edges": 3}}, {"task": "and-gate", "ablation": "mean"}),
        ({"eap": {"edges": 3}}, {"task": "and-gate", "metric": "nll"}),
        ({"eap": {"edges": 4}}, {"task": "and-gate"}),
        ({"eap-ig": {"edges": 3}}, {"task": "and-gate"}),
    ]
    keys = [sweep_grid(m, over=o, out=tmp_path / "x").keys for m, o in others]
    assert len({first.keys, *keys}) == 6
    assert len(ew.Sweep.load(tmp_path / "x").rows) == 6


# --- stopped and resumed


class Stop(BaseException):
    """As a kill: nothing handles it."""


@pytest.mark.parametrize("after", [1, 6])
def test_stopped_and_gone_on_with(whole, tmp_path, monkeypatch, after):
    """Whatever is in the journal is never computed again, and the table is the same."""
    computed, real = [], Computer.results

    def counted(self, job, *more):
        if len(computed) == after:
            raise Stop
        computed.append([point.key for point in job.points])
        return real(self, job, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Computer, "results", counted)
        with pytest.raises(Stop):
            sweep_grid(METHODS, over=OVER, out=tmp_path / "x")
    half = (tmp_path / "x" / "journal.jsonl").read_bytes()
    assert half.count(b"\n") - 1 == sum(map(len, computed))
    assert len((tmp_path / "x" / "points.jsonl").read_text().splitlines()) == half.count(b"\n") - 1
    with (tmp_path / "x" / "journal.jsonl").open("ab") as file:
        file.write(b'{"key": "torn')
    (tmp_path / "x" / "circuits" / ".0123.json.abcd").write_text("half")
    assert len(ew.Sweep.load(tmp_path / "x").rows) == half.count(b"\n") - 1
    with pytest.warns(UserWarning, match="journal.jsonl ends in half a line"):
        again = sweep_grid(METHODS, over=OVER, out=tmp_path / "x")
    assert lasting(again) == lasting(whole)
    journal = (tmp_path / "x" / "journal.jsonl").read_bytes()
    assert journal.startswith(half)
    assert journal.count(b"\n") - 1 == len(whole.rows)
    assert not list((tmp_path / "x" / "circuits").glob(".*"))
    assert not (tmp_path / "x" / "unfinished").exists()


def test_nothing_is_computed_twice(whole, monkeypatch):
    monkeypatch.setattr(Computer, "results", lambda *_: pytest.fail("computed again"))
    again = sweep_grid(METHODS, over=OVER, out=whole.folder)
    assert again.rows == whole.rows


def test_another_grid_in_the_same_folder_is_the_union(tmp_path):
    over = {"task": "tracr-xproportion"}
    sweep_grid({"acdc": {"threshold": [0.1]}}, over=over, out=tmp_path)
    both = sweep_grid({"acdc": {"threshold": [0.1, 0.2]}}, over=over, out=tmp_path)
    assert [row["setting_threshold"] for row in both.rows] == [0.1, 0.2]
    assert [row["points_sharing_cost"] for row in both.rows] == [1, 1]
    less = sweep_grid({"acdc": {"threshold": [0.2]}}, over=over, out=tmp_path)
    assert (len(less.keys), len(less.rows)) == (1, 2)


def test_a_point_computed_alone_goes_on_from_its_last_decision(tmp_path, monkeypatch):
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


# --- points that fail


def test_a_point_that_fails_stops_no_other_and_is_tried_again_when_asked(tmp_path, monkeypatch):
    methods = {"exact": {"edges": [3, 500]}, "acdc": {"threshold": 0.1, "prune": [True, False]}}
    over = {"task": "or-gate", "ablation": "zero", "metric": ["l2", "logit-diff"]}
    found = sweep_grid(methods, over=over, out=tmp_path)
    assert (len(found.done), len(found.failed)) == (2, 6)
    errors = {row["error"] for row in found.failed}
    assert any("asked for 500 edges" in error for error in errors)
    assert any("prune drops nodes" in error for error in errors)
    assert any("needs answers" in error for error in errors)
    assert {row["error_kind"] for row in found.failed} == {"SettingError", "ProblemError"}
    with pytest.raises(ew.EdgewiseError, match="has no circuit: .*asked for 500"):
        found.circuit(next(row for row in found.failed if "500 edges" in row["error"]))
    tried = []
    monkeypatch.setattr(Computer, "results", lambda self, job, *_: tried.extend(job.points) or [])
    sweep_grid(methods, over=over, out=tmp_path)
    assert not tried
    sweep_grid(methods, over=over, out=tmp_path, retry_failed=True)
    assert len(tried) == 6


def test_running_out_of_memory_is_a_failed_point(tmp_path, monkeypatch):
    def full(*_, **__):
        raise MemoryError("cannot allocate 10 TiB")

    with monkeypatch.context() as patch:
        patch.setattr("edgewise.sweeps.points.discover", full)
        found = sweep_grid({"random": {}}, over={"task": "or-gate"}, out=tmp_path)
    assert found.failed[0]["error"].startswith("MemoryError: cannot allocate 10 TiB (in ")
    again = sweep_grid({"random": {}}, over={"task": "or-gate"}, out=tmp_path, retry_failed=True)
    assert [row["status"] for row in again.rows] == ["done"]
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 3  # the header first


# --- what is refused


@pytest.mark.parametrize(
    ("methods", "over", "message"),
    [
        ({}, {"task": "or-gate"}, "a sweep needs methods with their settings"),
        ({"acdc": {"threshold": [0.1, -1]}}, {"task": "or-gate"}, "threshold is -1"),
        ({"acdc": {}}, {"task": "or-gate"}, "method 'acdc' needs threshold"),
        ({"acdc": {"edges": 3}}, {"task": "or-gate"}, "no setting of acdc named 'edges'"),
        ({"eap": {"edges": []}}, {"task": "or-gate"}, "edges of eap is empty"),
        ({"eap": {"edges": 3}}, {}, "say what to work on"),
        ({"eap": {"edges": 3}}, {"task": "or-gate", "n_edges": 3}, "'n_edges' is a column"),
        ({"eap": {"edges": 3}}, {"task": object()}, "a sweep keeps text, numbers"),
    ],
)
def test_what_is_no_sweep(tmp_path, methods, over, message):
    with pytest.raises(ew.EdgewiseError, match=message):
        sweep_grid(methods, over=over, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(OutputError, match=r"not the folder of a sweep: it holds thesis\.tex"):
        sweep_grid({"random": {}}, over={"task": "or-gate"}, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(FormatError, match=r"it has no journal\.jsonl"):
        ew.Sweep.load(tmp_path)


@contextmanager
def _largest_file(size):
    """As on a full disk: what is written beyond `size` bytes of a file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_loses_nothing(whole, tmp_path):
    with _largest_file(20_001), pytest.raises(OutputError, match="File too large.*kept") as stop:
        sweep_grid(METHODS, over=OVER, out=tmp_path)
    kept = len(ew.Sweep.load(tmp_path).rows)
    assert "\n" not in str(stop.value)
    assert kept < len(whole.rows)
    with pytest.warns(UserWarning, match="half a line"):
        again = sweep_grid(METHODS, over=OVER, out=tmp_path)
    assert lasting(again) == lasting(whole)


def test_tables_that_do_not_fit_leave_the_old_ones(tmp_path, monkeypatch):
    methods, over = {"random": {"edges": 3}}, {"task": "or-gate"}
    sweep_grid(methods, over=over, out=tmp_path)
    old = {p.name: p.read_bytes() for p in tmp_path.glob("points.*")}

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(OutputError, match="cannot write .*: No space left on device"):
            sweep_grid({"random": {"edges": [4]}}, over=over, out=tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.glob("points.*")} == old
    assert not list(tmp_path.glob(".points*"))
    assert len(sweep_grid(methods, over=over, out=tmp_path).rows) == 1


@contextmanager
def _as_no_superuser():
    """A superuser may write everywhere; anyone else is left as they are."""
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_cannot_be_written():
    methods, over = {"random": {}}, {"task": "or-gate"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweep = sweep_grid(methods, over=over, out=folder / "x")
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for path in (folder, folder / "x"):
            path.chmod(0o555)
        for out in (folder / "x", folder / "y"):
            with (
                _as_no_superuser(),
                pytest.raises(OutputError, match="^cannot write to .*: Permission denied.$"),
            ):
                sweep_grid(methods, over=over, out=out)
        for path in (folder, folder / "x"):
            path.chmod(0o755)
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
        assert ew.Sweep.load(folder / "x").rows == sweep.rows


# --- how long, and how many at a time


def test_time_left_is_of_the_points_that_are_finished():
    pace, jobs = Pace(), [("acdc", 1), ("acdc", 1), ("eap", 1)]
    assert pace.seconds_left(jobs) is None
    pace.add("acdc", 1, 60.0)
    assert pace.seconds_left(jobs[1:]) == 120
    pace.add("eap", 1, 2.0)
    assert pace.seconds_left(jobs) == 60 + 60 + 2
    assert pace.seconds_left(jobs, 2) == 61


def test_processes_fit_into_memory(monkeypatch):
    monkeypatch.setattr("edgewise.work.executors.n_cores", lambda: 8)
    monkeypatch.setattr("edgewise.work.executors.free_memory_bytes", lambda: 10 * 2**30)
    assert processes_that_fit(2 * 2**30, 100) == 4
    assert processes_that_fit(2 * 2**30, 3) == 3
    assert processes_that_fit(2**20, 100) == 8
    assert processes_that_fit(2**40, 100) == 1
    assert sweep_module._n_processes(None, 9, left=10.0, peak=1) == 1  # not worth it
    assert sweep_module._n_processes(None, 9, left=1000.0, peak=2**62) == 1  # a GPU is not shared
    assert sweep_module._n_processes(3, 2, left=None, peak=0) == 2


# --- reading it


def test_everyone_reads_the_tables(whole):
    duckdb, pandas, polars = map(pytest.importorskip, ("duckdb", "pandas", "polars"))
    lines, parquet = (whole.folder / f"points.{end}" for end in ("jsonl", "parquet"))
    names = [column.name for column in COLUMNS]
    expected = [row["n_edges"] for row in whole.rows]
    thresholds = [row["setting_threshold"] for row in whole.rows]
    frames = [
        pandas.read_parquet(parquet),
        pandas.read_json(lines, lines=True),
        polars.read_parquet(parquet),
        polars.read_ndjson(lines, infer_schema_length=None),
        duckdb.sql(f"select * from '{parquet}'").pl(),
        duckdb.sql(f"select * from '{lines}'").pl(),
    ]
    for frame in frames:
        assert set(names) <= set(frame.columns)
        assert list(frame["n_edges"]) == expected
        read = [None if t != t else t for t in frame["setting_threshold"]]
        assert read == thresholds
    query = f"select max(evaluation_faithfulness) from '{parquet}' where method = 'acdc'"
    ((best,),) = duckdb.sql(query).fetchall()
    assert best == pytest.approx(1)


def test_parquet_has_types_and_units(whole):
    from pyarrow import parquet

    schema = parquet.read_schema(whole.folder / "points.parquet")
    for column in COLUMNS:
        field = schema.field(column.name)
        kind = {str: "string", int: "int64", float: "double", bool: "bool"}[column.kind]
        assert str(field.type) == kind
        assert (field.metadata or {}).get(b"unit", b"").decode() == column.unit
    assert str(schema.field("setting_edges").type) == "int64"
    assert str(schema.field("setting_prune").type) == "bool"
    for line in (whole.folder / "points.jsonl").read_text().splitlines():
        assert list(json.loads(line)) == schema.names
