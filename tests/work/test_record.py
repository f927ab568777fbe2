"""Run folders: complete, read back as written, never half written, never overwritten."""

import json
import subprocess
import sys

import pytest
import torch

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


def test_saving_again_gives_the_same_bytes(run, tmp_path):
    one, two = run.save(tmp_path / "one"), run.save(tmp_path / "two")
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes()


def test_a_folder_that_holds_a_run_is_left_alone(run, tmp_path):
    folder = run.save(tmp_path / "run")
    before = (folder / "run.json").read_bytes()
    with pytest.raises(OutputError, match="already holds a run. Choose another folder"):
        run.save(folder)
    assert (folder / "run.json").read_bytes() == before


def test_other_folders_that_cannot_be_used(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("do not lose me")
    with pytest.raises(OutputError, match="is not empty"):
        run.save(tmp_path / "full")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        run.save(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot write to .*(Not a directory|exists)"):
        check_output_folder(tmp_path / "file" / "run")
    (tmp_path / "empty").mkdir()
    run.save(tmp_path / "empty")


def test_a_place_that_cannot_be_written_is_found_before_work(monkeypatch, tmp_path):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(OutputError, match="cannot write to .*: No space left on device"):
        check_output_folder(tmp_path / "run")


@pytest.mark.parametrize("what", ["pathlib.Path.replace", "pathlib.Path.write_bytes", "json.dumps"])
def test_a_write_that_breaks_off_leaves_nothing(what, run, monkeypatch, tmp_path):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(what, full)
    with pytest.raises(
        OutputError, match="cannot write the run to .*/run: No space left on device"
    ):
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
    assert run.request["task"] == "tracr-xproportion"
    assert (run.request["n"], run.request["seed"], run.request["data"]) == (50, 0, "paper")


BREAKAGES = {
    "no run.json": (lambda f: (f / "run.json").unlink(), "cannot read the run file"),
    "broken run.json": (lambda f: (f / "run.json").write_text("{"), "broken JSON"),
    "a list": (lambda f: (f / "run.json").write_text("[]"), "does not say its format"),
    "newer": (lambda f: _edit(f, version=99), "up to version 2. Upgrade Edgewise"),
    "another kind": (
        lambda f: _edit(f, format="edgewise-circuit"),
        "expected a 'edgewise-run'",
    ),
    "incomplete": (lambda f: _edit(f, cost=None), "not a complete run folder"),
    "no circuit": (lambda f: (f / "circuit.json").unlink(), "cannot read the circuit file"),
    "another circuit": (lambda f: _other_circuit(f), "One of them was changed"),
    "a trace of nonsense": (lambda f: (f / "trace.jsonl").write_text("null\n"), "line 1"),
    "no scores": (lambda f: (f / "scores.safetensors").unlink(), "cannot read the scores"),
    "broken scores": (lambda f: (f / "scores.safetensors").write_text("x"), "not a scores file"),
    "no trace": (lambda f: (f / "trace.jsonl").unlink(), "cannot read the trace file"),
    "broken trace": (lambda f: (f / "trace.jsonl").write_text("{}\n"), "trace.jsonl, line 1"),
}


def _other_circuit(folder):
    ew.Circuit.empty(ew.Circuit.load(folder / "circuit.json").graph).save(folder / "circuit.json")


def _edit(folder, **changes):
    document = json.loads((folder / "run.json").read_text())
    for key, value in changes.items():
        if value is None:
            del document[key]
        else:
            document[key] = value
    (folder / "run.json").write_text(json.dumps(document))


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_broken_folders_are_refused_with_the_reason(breakage, run, tmp_path):
    folder = run.save(tmp_path / "run")
    breaks, message = BREAKAGES[breakage]
    breaks(folder)
    with pytest.raises(FormatError, match=message):
        ew.Run.load(folder)
