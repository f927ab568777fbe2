"""Run folders: complete, read back as written, never half written, never overwritten."""

import json
import subprocess
import sys

import pytest
import torch
from disks import full_disk

import edgewise as ew
from edgewise.errors import FormatError, OutputError
from edgewise.run import check_output_folder


@pytest.fixture(scope="module")
def run():
    task = ew.load_task("tracr-xproportion", data="paper")
    return ew.acdc(task.problem, threshold=0.01).with_(request={"task": task.name})


def test_a_run_says_everything(run):
    assert run.settings == {
        "threshold": 0.01, "head_order": "descending", "absolute": False, "prune": False,
        "engine": "incremental", "precision": "full", "verify": False,
    }  # fmt: skip
    assert run.cost.edge_tests == len(run.trace)
    assert run.cost.edge_tests + run.cost.edges_skipped == run.circuit.graph.n_edges
    assert run.cost.variants >= run.cost.edge_tests
    assert run.cost.forward_passes >= 2
    assert run.cost.seconds > 0
    assert run.cost.peak_memory_bytes > 1e6
    assert {"edgewise", "torch", "python", "device", "dtype", "threads"} <= set(run.environment)
    assert run.problem.ablation["kind"] == "zero"
    assert run.problem.metric == "l2"
    assert run.margin > 0
    assert run.measurements["faithfulness"]["n_edges"] == 10
    for decision in run.trace:
        assert run.scores.of(decision.edge) == decision.delta


def test_round_trip(run, tmp_path):
    folder = run.save(tmp_path / "deep" / "run")
    again = ew.Run.load(folder)
    assert again.circuit == run.circuit
    assert again.trace == run.trace
    assert again.scores.values.equal(run.scores.values)
    for name in ("method", "settings", "cost", "started", "margin", "environment", "request"):
        assert getattr(again, name) == getattr(run, name), name
    assert json.dumps(again.measurements) == json.dumps(dict(run.measurements))
    assert again.problem == run.problem
    assert sorted(p.name for p in folder.iterdir()) == [
        "circuit.json", "run.json", "scores.safetensors", "trace.jsonl"
    ]  # fmt: skip
    assert [p.name for p in folder.parent.iterdir()] == ["run"], "nothing temporary is left"
    assert ew.Circuit.load(folder / "circuit.json") == run.circuit


def test_folders_of_others_are_left_alone(run, tmp_path):
    folder = run.save(tmp_path / "run")
    before = (folder / "run.json").read_bytes()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("do not lose me")
    (tmp_path / "file").write_text("")
    refused = {
        "run": "already holds a run. Choose another folder",
        "full": "is not empty",
        "file": "is a file",
        "file/run": "cannot write to .*(Not a directory|exists)",
    }
    for name, message in refused.items():
        with pytest.raises(OutputError, match=message):
            run.save(tmp_path / name)
    assert (folder / "run.json").read_bytes() == before
    assert (tmp_path / "full" / "thesis.tex").read_text() == "do not lose me"
    (tmp_path / "empty").mkdir()
    run.save(tmp_path / "empty")
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / "empty" / file.name).read_bytes()


def test_a_place_that_cannot_be_written_is_found_before_work(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.TemporaryFile", full_disk)
    with pytest.raises(OutputError, match="cannot write to .*: No space left on device"):
        check_output_folder(tmp_path / "run")


@pytest.mark.parametrize("what", ["pathlib.Path.replace", "pathlib.Path.write_bytes", "json.dumps"])
def test_a_write_that_breaks_off_leaves_nothing(what, run, monkeypatch, tmp_path):
    monkeypatch.setattr(what, full_disk)
    with pytest.raises(OutputError, match="cannot write the run to .*/run: No space left"):
        run.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_numpy_and_torch_are_plain_numbers_in_a_record():
    """In a process of its own: the tests' type checks want plain floats."""
    code = (
        "import json, numpy, torch\n"
        "from edgewise.methods.settings import ACDCSettings\n"
        "for number in (numpy.float32(0.5), torch.tensor(0.5), 1):\n"
        "    print(type(ACDCSettings(threshold=number).threshold).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["float"] * 3, done.stderr


def test_a_metric_that_fails_on_the_empty_circuit_fails_before_the_work():
    calls = []

    def fails_when_empty(logits, rows):
        calls.append(0)
        return torch.where((logits == logits[:, :1]).all(), torch.nan, logits[:, 0])

    problem = ew.load_task("tracr-reverse").problem.with_(metric=fails_when_empty)
    with pytest.raises(ew.EdgewiseError, match="is nan"):
        ew.acdc(problem, threshold=0.1)
    assert len(calls) <= 4, "twice to see that it repeats, then full and empty"


def test_a_run_made_in_python_can_be_made_again(run):
    asked = {"task": "tracr-xproportion", "n": 50, "seed": 0, "data": "paper"}
    assert asked.items() <= run.request.items()


def _edited(folder, **changes):
    document = json.loads((folder / "run.json").read_text()) | changes
    document = {name: value for name, value in document.items() if value is not None}
    (folder / "run.json").write_text(json.dumps(document))


def _of_another_circuit(folder):
    ew.Circuit.empty(ew.Circuit.load(folder / "circuit.json").graph).save(folder / "circuit.json")


BREAKAGES = {
    "broken JSON": lambda folder: (folder / "run.json").write_text("{"),
    "does not say its format": lambda folder: (folder / "run.json").write_text("[]"),
    "up to version 2. Upgrade Edgewise": lambda folder: _edited(folder, version=99),
    "expected a 'edgewise-run'": lambda folder: _edited(folder, format="edgewise-circuit"),
    "not a complete run folder": lambda folder: _edited(folder, cost=None),
    "One of them was changed": _of_another_circuit,
    "trace.jsonl, line 1": lambda folder: (folder / "trace.jsonl").write_text("{}\n"),
    "not a scores file": lambda folder: (folder / "scores.safetensors").write_text("x"),
    **{
        f"cannot read the {file.partition('.')[0]} file": (
            lambda folder, file=file: (folder / file).unlink()
        )
        for file in ("run.json", "circuit.json", "trace.jsonl", "scores.safetensors")
    },
}


@pytest.mark.parametrize("message", BREAKAGES)
def test_broken_folders_are_refused_with_the_reason(message, run, tmp_path):
    folder = run.save(tmp_path / "run")
    BREAKAGES[message](folder)
    with pytest.raises(FormatError, match=message):
        ew.Run.load(folder)
