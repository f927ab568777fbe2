"""Folders of version 1, recorded before the journals were one, are resumed."""

import shutil
from pathlib import Path

import pytest

import edgewise as ew

FOLDERS = Path(__file__).parents[1] / "golden" / "folders"


def test_a_stopped_run_is_gone_on_with(tmp_path):
    folder = tmp_path / "stopped"
    shutil.copytree(FOLDERS / "stopped-acdc", folder)
    n = len((folder / "trace.jsonl").read_text().splitlines())
    problem = ew.load_task("tracr-reverse").problem
    run = ew.discover(problem, "acdc", threshold=0.01, journal=folder)
    assert run.cost.taken_over == n > 10
    assert run.circuit == ew.discover(problem, "acdc", threshold=0.01).circuit
    assert sorted(path.name for path in folder.iterdir()) == ["journal.jsonl"]


@pytest.mark.parametrize(
    ("verb", "name", "more"),
    [("stability", "stability", {"core": 0.4}), ("certify", "certified", {"size": 2})],
)
def test_replicates_are_not_drawn_again(verb, name, more, tmp_path, monkeypatch):
    journal = shutil.copy(FOLDERS / f"{name}.jsonl", tmp_path / "journal")
    monkeypatch.setattr("edgewise.work.journal.Journal.add", None)
    problem = ew.load_task("tracr-xproportion").problem
    kept = getattr(ew, verb)(problem, "acdc", n=6, threshold=0.01, journal=journal, **more)
    assert len(kept.table) == 8


def test_a_sweep_is_added_to(tmp_path):
    shutil.copytree(FOLDERS / "sweep", tmp_path / "x")
    before = ew.Sweep.load(tmp_path / "x").rows
    over = {"task": "tracr-xproportion"}
    after = ew.sweep_grid({"random": {"edges": 3}}, over=over, out=tmp_path / "x").rows
    assert {row["key"] for row in before} < {row["key"] for row in after}
    assert len(after) == len(before) + 1
    assert not (tmp_path / "x" / "sweep.json").exists()
