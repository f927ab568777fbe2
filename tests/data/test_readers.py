"""What is read from disk is typed when it is read: a result, or one error that names the field."""

import json
import random
import shutil
import time
import warnings
from contextlib import suppress
from dataclasses import asdict

import pytest

import edgewise as ew
from edgewise.documents import decoded
from edgewise.errors import FormatError
from edgewise.methods import METHODS
from edgewise.work.journal import line_of
from fuzz import mutant, unanswered


def saved_run(folder):
    task = ew.load_task("tracr-reverse")
    run = ew.acdc_test(task.problem, threshold=0.01)
    measured = {
        "evaluation": ew.evaluate(task.test, run, random=2, knock_outs=1).to_json(),
        "recovery": ew.recovery(run, task.published).to_json(),
        "groups": {"groups": {"mine": ["m0"]}, "source": "me", "heads": [{"head": "a0.h0"}]},
    }
    run.with_(measurements=measured, request={"task": "tracr-reverse"}).save(folder)


def saved_sweep(folder):
    methods = {"eap-ig": {"edges": [5, 15]}, "random": {"edges": 3}}
    ew.sweep_grid(methods, over={"task": "tracr-reverse"}, out=folder)


def saved_stability(folder):
    problem = ew.load_task("tracr-reverse").problem
    folder.mkdir()
    ew.stability(problem, "eap-ig", edges=5, n=20).save(folder / "stability.json")


def saved_certified(folder):
    problem = ew.load_task("tracr-reverse").problem
    folder.mkdir()
    ew.certify(problem, "eap-ig", edges=5, n=20, size=3).save(folder / "certified.json")


def saved_leaderboard(folder):
    ew.leaderboard(["eap-ig"], programs=["tracr-reverse"], ablations=["zero"], seeds=1, out=folder)


def reported(result, folder):
    ew.report(result, folder / "report.html")
    return result


def read_sweep(folder):
    sweep = reported(ew.Sweep.load(folder), folder)
    [sweep.circuit(row) for row in sweep.done]


def read_certified(folder):
    certified = ew.Certified.load(folder / "certified.json")
    certified.kept(1), certified.table


KINDS = {
    "run": (saved_run, lambda f: reported(ew.Run.load(f), f)),
    "sweep": (saved_sweep, read_sweep),
    "stability": (saved_stability, lambda f: reported(ew.Stability.load(f / "stability.json"), f)),
    "certified": (saved_certified, read_certified),
    "leaderboard": (saved_leaderboard, lambda f: reported(ew.Leaderboard.load(f), f)),
}
READ = (".json", ".jsonl", ".safetensors")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    place = tmp_path_factory.mktemp("saved")

    def save(kind):
        if not (place / kind).exists():
            KINDS[kind][0](place / kind)
        return place / kind

    return save


def resealed(journal: bytes) -> bytes:
    """The journal with checksums that fit, so that what reads its records is tried as well."""
    lines = []
    for line in journal.splitlines(keepends=True):
        with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            record = json.loads(line)
            del record["crc32"]
            line = line_of(record)
        lines.append(line)
    return b"".join(lines)


def assert_folders_answer(valid, read, folder, *, n: int, seed: int) -> None:
    """Change one file of a folder that is read, again and again."""
    draw, complaints = random.Random(seed), []
    shutil.copytree(valid, folder)
    files = sorted(p.relative_to(valid) for p in valid.rglob("*") if p.suffix in READ)
    for i in range(n):
        file = draw.choice(files)
        content = (valid / file).read_bytes()
        kind, changed = mutant(content, draw)
        if file.name == "journal.jsonl":
            changed = resealed(changed)
        (folder / file).write_bytes(changed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* its work done again")
            complaint = unanswered(lambda: read(folder))
        if complaint:
            complaints.append(f"mutant {i} of {file} ({kind}, {changed[:300]!r}): {complaint}")
        (folder / file).write_bytes(content)
    assert not complaints, f"{len(complaints)} of {n}\n" + "\n".join(complaints[:5])


@pytest.mark.parametrize("n", [200, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_answered(kind, n, saved, tmp_path):
    KINDS[kind][1](saved(kind))
    assert_folders_answer(saved(kind), KINDS[kind][1], tmp_path / "mutant", n=n, seed=n)


FAULTS = {
    "settings": (("settings", "fast"), r"settings: expected 'object', got 'str'"),
    "a setting": (("settings", {"threshold": "0.1"}), r"settings: threshold: expected 'float"),
    "a cost": (("cost", {"seconds": 1}), "cost: object missing required field 'forward_passes'"),
    "a unit": (("problem.unit", float("inf")), r"problem\.unit: expected 'str', got 'float'"),
    "a count": (("cost.backward_passes", "1e400"), r"cost\.backward_passes: expected 'int'"),
    "not finite": (("margin", float("nan")), "margin: expected a finite number"),
    "a measurement": (
        ("measurements.recovery.points", [{"n_edges": 1}]),
        r"measurements\.recovery\.points\[0\]: object missing required field 'edges'",
    ),
    "half a character": (("method", "\ud800"), "not a run file"),
    "a large number": (("cost.edge_tests", 10**30), "31 digits, is too large"),
    "deep": (("environment", json.loads("[" * 90 + "]" * 90)), "nested more than 64 deep"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_field_of_a_run_is_named(fault, saved, tmp_path):
    (place, value), message = FAULTS[fault]
    folder = shutil.copytree(saved("run"), tmp_path / "run")
    document = holder = json.loads((folder / "run.json").read_text())
    *parents, name = place.split(".")
    for parent in parents:
        holder = holder[parent]
    holder[name] = value
    (folder / "run.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match=rf"(?s)run\.json.*{message}"):
        ew.Run.load(folder)


def test_a_request_is_typed_when_it_is_asked_again(saved, tmp_path):
    from edgewise.cli.problems import of_run

    run = ew.Run.load(saved("run")).with_(request={"seed": "three"})
    with pytest.raises(FormatError, match=r"run\.json: request: seed: expected 'int"):
        of_run(run, allow_code=False)


@pytest.mark.parametrize("method", METHODS)
def test_settings_of_every_method_are_read_back(method):
    needed = {"threshold": 0.1, "regularisation": 0.1, "sparsity": 0.5}
    names = METHODS[method].settings.__dataclass_fields__
    resolved = METHODS[method].resolve({k: v for k, v in needed.items() if k in names})
    again = decoded(METHODS[method].settings, json.loads(json.dumps(asdict(resolved))), method)
    assert again == resolved


@pytest.mark.parametrize("load", [ew.Run.load, ew.Circuit.load, ew.EdgeScores.load, ew.Sweep.load])
def test_what_is_no_file(load, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "closed").mkdir()
    for path in (tmp_path / "closed", tmp_path / "empty", "/dev/zero", tmp_path / "x\0y"):
        with pytest.raises(FormatError):
            load(path)


def test_a_giant_graph_costs_nothing(saved, tmp_path):
    document = json.loads((saved("certified") / "certified.json").read_text())
    for layers in (2**62, 10**7, 3400):
        document["graph"]["n_layers"] = layers
        with pytest.raises(FormatError, match="too large to be worked on|votes for each"):
            ew.Certified.from_json(document)
    document = json.loads((saved("stability") / "stability.json").read_text())
    document["circuit"]["graph"] |= {"n_layers": 2500}
    started = time.process_time()
    assert len(ew.Stability.from_json(document).replicates) == len(document["replicates"])
    assert time.process_time() - started < 20  # a mask of every replicate would take minutes
