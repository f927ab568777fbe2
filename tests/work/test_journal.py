"""A run that was stopped goes on to the run it would have been, from wherever it was stopped."""

import json
import resource
from contextlib import contextmanager

import pytest
import torch

import edgewise as ew
from edgewise.errors import FormatError, OutputError, SettingError
from edgewise.work.store import remove_unfinished, work_kept
from engine_problems import random_problem
from models import random_model, random_pairs

ALL_SWITCHES = {"switches": True, "split_embed": True}


def problem_of(graph_options=None, *, ablation="corrupted", seed=2, **config):
    """A problem of a hundred or so edges."""
    model = random_model(seed, **{"n_layers": 3, **config})
    graph = ew.Graph.of(model, **(graph_options or {}))
    return ew.Problem(model, random_pairs(model), "kl", ablation, graph=graph)


KINDS = {
    "incremental": (problem_of, {}),
    "plain": (problem_of, {"engine": "plain"}),
    "switches": (lambda: problem_of(ALL_SWITCHES), {}),
    "plain, switches": (lambda: problem_of(ALL_SWITCHES), {"engine": "plain"}),
    "zero, absolute, ascending": (
        lambda: problem_of({"split_qkv": False}, ablation="zero"),
        {"absolute": True, "head_order": "ascending"},
    ),
    "few edges stay": (problem_of, {"threshold": 0.04, "prune": True}),
    "reduced": (lambda: problem_of(dtype=torch.float32), {"precision": "reduced"}),
}


def stopped(problem, folder, after, *, by=KeyboardInterrupt, **settings):
    """A run in `folder` that ends with the decision number `after` of its own."""
    left = [after]

    def count_down(step):
        left[0] -= 1
        if left[0] == 0:
            raise by

    with pytest.raises(by):
        ew.discover(problem, journal=folder, on_progress=count_down, **settings)


def lines_of(folder):
    """The lines of decisions, after the header."""
    return (folder / "journal.jsonl").read_text().splitlines()[1:]


def rewrite(folder, change):
    """Pass the lines of a journal, its header first, through `change`."""
    lines = (folder / "journal.jsonl").read_bytes().split(b"\n")
    (folder / "journal.jsonl").write_bytes(b"\n".join(change(lines)))


def assert_same(again, whole):
    """The same circuit, scores and trace; deltas up to the order in which floats were summed."""
    assert again.circuit == whole.circuit
    assert again.settings == whole.settings
    assert again.cost.edge_tests == whole.cost.edge_tests
    assert again.cost.edges_skipped == whole.cost.edges_skipped
    if whole.settings["precision"] == "reduced":
        return  # estimates depend on what they are estimated beside
    assert [(d.edge, d.kept) for d in again.trace] == [(d.edge, d.kept) for d in whole.trace]
    exactly = whole.settings["engine"] == "plain"
    for ours, theirs in zip(again.trace, whole.trace, strict=True):
        assert ours == theirs or not exactly
        assert ours.delta == pytest.approx(theirs.delta, abs=1e-9)
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-9)
    assert torch.allclose(again.scores.values, whole.scores.values, atol=1e-9)
    assert again.margin == pytest.approx(whole.margin, abs=1e-9)


# --- going on


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_stopped_anywhere_goes_on_to_the_same_run(kind, tmp_path):
    """By Ctrl-C after every fifth decision (plain: 37th), the first and the last included."""
    make, settings = KINDS[kind]
    problem, settings = make(), {"threshold": 0.02, **settings}
    whole = ew.discover(problem, **settings)
    n = len(whole.trace)
    assert n > 40
    stride = 37 if settings.get("engine") == "plain" else 5
    for after in sorted({*range(1, n, stride), n - 1, n}):
        folder = tmp_path / f"at-{after}"
        stopped(problem, folder, after, **settings)
        assert len(lines_of(folder)) == after
        assert work_kept(folder) == ("1 decision" if after == 1 else f"{after} decisions")
        again = ew.discover(problem, journal=folder, **settings)
        assert again.cost.taken_over == after
        assert_same(again, whole)
        assert len(lines_of(folder)) == n, "the folder stays, for whoever saves the run"


@pytest.mark.parametrize("seed", range(24))
def test_a_run_stopped_again_and_again(seed, tmp_path):
    """Every metric, ablation and granularity, stopped every 17 decisions until it is done."""
    problem, settings = random_problem(seed)
    whole = ew.discover(problem, **settings)
    for _ in range(len(whole.trace) // 17):
        stopped(problem, tmp_path / "run", 17, **settings)
    again = ew.discover(problem, journal=tmp_path / "run", **settings)
    assert again.cost.taken_over == len(whole.trace) // 17 * 17
    assert_same(again, whole)


def test_a_decision_is_in_the_file_when_it_is_taken(tmp_path):
    """So that a killed process loses none but the one it was writing."""
    seen = []

    def look(step):
        seen.append(len(lines_of(tmp_path / "run")))

    run = ew.discover(problem_of(), threshold=0.02, journal=tmp_path / "run", on_progress=look)
    n = len(run.trace)
    assert seen == [*range(1, n + 1), n]


def test_a_finished_journal_is_replayed_without_a_test(tmp_path):
    """As when the run could not be saved."""
    problem = problem_of()
    run = ew.discover(problem, threshold=0.02, journal=tmp_path / "run")
    again = ew.discover(problem, threshold=0.02, journal=tmp_path / "run")
    assert again.trace == run.trace
    assert again.cost.taken_over == len(run.trace)
    assert again.cost.variants == 0 < run.cost.variants
    saved = ew.Run.load(again.save(tmp_path / "saved"))
    assert saved.cost.taken_over == len(run.trace)
    assert run.cost.taken_over == 0


# --- what the file may look like


def test_decisions_of_another_order_are_refused(tmp_path):
    problem, folder = problem_of(), tmp_path / "run"
    stopped(problem, folder, 10, threshold=0.02)
    third, fourth = (json.loads(line)["edge"] for line in lines_of(folder)[3:5])
    rewrite(folder, lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]])
    message = f"found {fourth} where this one decides {third}. Remove it to start anew."
    with pytest.raises(FormatError, match=message):
        ew.discover(problem, threshold=0.02, journal=folder)


def test_decisions_beyond_the_last_are_refused(tmp_path):
    problem, folder = problem_of(), tmp_path / "run"
    ew.discover(problem, threshold=0.02, journal=folder)
    rewrite(folder, lambda lines: [*lines[:-1], lines[1], b""])
    with pytest.raises(FormatError, match="run cannot be resumed: .* 1 too many"):
        ew.discover(problem, threshold=0.02, journal=folder)


# --- places


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("do not lose me")
    (tmp_path / "file").write_text("nor me")
    for place in ("thesis", "file"):
        for ask in (
            lambda place=place: ew.discover(problem_of(), threshold=0.02, journal=tmp_path / place),
            lambda place=place: work_kept(tmp_path / place),
        ):
            with pytest.raises(OutputError, match=f"{place} is not an unfinished run. Choose"):
                ask()
        remove_unfinished(tmp_path / place)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "do not lose me"
    assert (tmp_path / "file").read_text() == "nor me"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to .*: Not a directory"):
        ew.discover(problem_of(), threshold=0.02, journal=tmp_path / "file" / "run")
    problem, folder = problem_of(), tmp_path / "run"
    stopped(problem, folder, 10, threshold=0.02)
    (folder / "journal.jsonl").unlink()
    (folder / "journal.jsonl").mkdir()
    with pytest.raises(OutputError, match="cannot write .*journal.jsonl: it is a folder"):
        ew.discover(problem, threshold=0.02, journal=folder)


@contextmanager
def _largest_file(size):
    """As on a full disk: what is written beyond `size` bytes of a file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_loses_nothing(tmp_path):
    problem, folder = problem_of(), tmp_path / "run"
    with (
        _largest_file(3000),
        pytest.raises(OutputError, match="File too large. What was finished"),
    ):
        ew.discover(problem, threshold=0.02, journal=folder)
    assert (folder / "journal.jsonl").stat().st_size == 3000
    with pytest.warns(UserWarning, match="half a line"):
        again = ew.discover(problem, threshold=0.02, journal=folder)
    assert again.cost.taken_over > 10
    assert_same(again, ew.discover(problem, threshold=0.02))


def test_nothing_to_keep_leaves_no_folder(tmp_path):
    """A setting that only the method can refuse is not the start of a run."""
    problem = problem_of(ablation="zero")
    with pytest.raises(SettingError, match="prune drops nodes"):
        ew.discover(problem, threshold=0.02, prune=True, journal=tmp_path / "run")
    assert work_kept(tmp_path / "run") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n_lines", [None, 0, 1])
def test_a_folder_without_decisions_takes_any_work(n_lines, tmp_path):
    """As a process leaves it that is killed before its first decision."""
    problem, folder = problem_of(), tmp_path / "run"
    stopped(problem, folder, 1, threshold=0.02)
    if n_lines is None:
        (folder / "journal.jsonl").unlink()
    else:
        rewrite(folder, lambda lines: [*lines[:n_lines], b""])
    assert work_kept(folder) == ""
    again = ew.discover(problem, threshold=0.03, journal=folder)
    assert_same(again, ew.discover(problem, threshold=0.03))
    with pytest.raises(OutputError, match="threshold was 0.03, is 0.02"):
        ew.discover(problem, threshold=0.02, journal=folder)


def test_an_unfinished_run_can_be_removed(tmp_path):
    stopped(problem_of(), tmp_path / "run", 10, threshold=0.02)
    (tmp_path / "run" / "note.txt").write_text("mine")
    remove_unfinished(tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["note.txt"]
    stopped(problem_of(), tmp_path / "other", 10, threshold=0.02)
    remove_unfinished(str(tmp_path / "other"))
    remove_unfinished(tmp_path / "other")
    assert not (tmp_path / "other").exists()
