"""What was stopped goes on to what it would have been; no changed line is taken for a record."""

import json
import random
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from disks import largest_file

import edgewise as ew
from edgewise.errors import FormatError, OutputError, SettingError
from edgewise.work import journal as journal_module
from edgewise.work.journal import Journal, JournalFormat, read_journal
from edgewise.work.store import remove_unfinished, work_kept
from engine_problems import random_problem
from models import random_model, random_pairs

# --- a file of records

LOOSE = JournalFormat("edgewise-test", holds="a test")
ORDERED = JournalFormat("edgewise-test", holds="a test", ordered=True)
WORK = {"identity": 1, "weights": "0123456789abcdef", "method": "acdc"}
OTHER_WORK = {**WORK, "method": "sp"}
both_kinds = pytest.mark.parametrize("kind", [LOOSE, ORDERED])


def records_of(seed, n=9):
    """Records like those of a run, a sweep or a stability: names, numbers, lists, nothing."""
    draw = random.Random(seed)
    return [
        {
            "index": index,
            "edge": f"a{draw.randrange(9)}.h{draw.randrange(9)}->logits",
            "delta": draw.gauss(0, 1),
            "kept": draw.random() < 0.5,
            "edges": [draw.randrange(99) for _ in range(draw.randrange(4))],
            "why": draw.choice(["", 'é \\ "quoted"', None]),
        }
        for index in range(n)
    ]


def written(path, kind, records, work=WORK):
    with Journal(path, kind, work) as journal:
        for record in records:
            journal.add(record)
    return path.read_bytes()


@both_kinds
def test_records_come_back_and_are_added_to(kind, tmp_path):
    records = records_of(0)
    before = written(tmp_path / "j", kind, records[:5])
    assert written(tmp_path / "j", kind, records[5:]).startswith(before)
    assert read_journal(tmp_path / "j", kind).records == records
    assert written(tmp_path / "j", kind, []).count(b"\n") == len(records) + 1


@both_kinds
def test_a_flipped_bit_anywhere_is_found(kind, tmp_path):
    """In 250 journals of each kind: it is said or refused, and no record is another one."""
    draw, path = random.Random(1), tmp_path / "j"
    for seed in range(250):
        path.unlink(missing_ok=True)
        records = records_of(seed, n=4)
        text = bytearray(written(path, kind, records))
        text[draw.randrange(len(text))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(text))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                with Journal(path, kind, WORK) as journal:
                    kept = journal.records
            except FormatError:
                continue
        assert any("its work done again" in str(warning.message) for warning in told)
        assert len(kept) < len(records)
        assert kept == (records[: len(kept)] if kind.ordered else [r for r in records if r in kept])


@both_kinds
def test_what_was_changed_is_left_out_and_the_file_is_whole_again(kind, tmp_path):
    records, path = records_of(2), tmp_path / "j"
    lines = written(path, kind, records).splitlines(keepends=True)
    changed = b"".join([*lines[:3], b"#" + lines[3][1:], *lines[4:]])
    path.write_bytes(changed)
    with pytest.warns(UserWarning, match=r"changed after it was written: line 4\."):
        journal = Journal(path, kind, WORK)
    with journal:
        kept = records[:2] if kind.ordered else [*records[:2], *records[3:]]
        assert journal.records == kept
        journal.add(records[2])
    assert (tmp_path / "j.damaged").read_bytes() == changed
    assert read_journal(path, kind).records[:-1] == kept


def test_other_work_is_refused_and_left_as_it_is(tmp_path):
    before = written(tmp_path / "j", LOOSE, records_of(3))
    with pytest.raises(OutputError, match="holds a test of other work: method was 'acdc', is 'sp'"):
        Journal(tmp_path / "j", LOOSE, OTHER_WORK)
    with pytest.raises(FormatError, match="expected a 'edgewise-other' file"):
        Journal(tmp_path / "j", JournalFormat("edgewise-other", holds="another"), WORK)
    assert (tmp_path / "j").read_bytes() == before


def test_a_journal_without_records_takes_any_work_unless_it_is_begun(tmp_path):
    written(tmp_path / "j", LOOSE, [])
    with pytest.raises(OutputError, match="other work"):
        Journal(tmp_path / "j", LOOSE, OTHER_WORK, is_begun=True)
    assert json.loads(written(tmp_path / "j", LOOSE, [], OTHER_WORK))["work"] == OTHER_WORK


def test_half_a_line_is_dropped_when_more_is_added(tmp_path):
    """Who reads it meanwhile may meet a line that is being written: that is no fault."""
    records, path = records_of(4), tmp_path / "j"
    path.write_bytes(written(path, LOOSE, records)[:-9])
    assert read_journal(path, LOOSE).records == records[:-1]
    with pytest.warns(UserWarning, match="j ends in half a line, .* its work done again"):
        written(path, LOOSE, records[-1:])
    assert read_journal(path, LOOSE).records == records


def test_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "PATIENCE_SECONDS", 0.0)
    with Journal(tmp_path / "j", LOOSE, WORK):
        with pytest.raises(OutputError, match="j is in use: another process is at work on it"):
            Journal(tmp_path / "j", LOOSE, WORK)
        read_journal(tmp_path / "j", LOOSE)  # reading is free
    Journal(tmp_path / "j", LOOSE, WORK).close()


# --- a run that is stopped


def problem_of(graph_options=None, *, ablation="corrupted", **config):
    """A problem of a hundred or so edges."""
    model = random_model(2, **{"n_layers": 3, **config})
    graph = ew.Graph.of(model, **(graph_options or {}))
    return ew.Problem(model, random_pairs(model), "kl", ablation, graph=graph)


ALL_SWITCHES = {"switches": True, "split_embed": True}
KINDS = {
    "incremental": ({}, {}),
    "plain, switches": ({"graph_options": ALL_SWITCHES}, {"engine": "plain"}),
    "zero, absolute, ascending": (
        {"graph_options": {"split_qkv": False}, "ablation": "zero"},
        {"absolute": True, "head_order": "ascending"},
    ),
    "few edges stay": ({}, {"threshold": 0.04, "prune": True}),
    "reduced": ({"dtype": torch.float32}, {"precision": "reduced"}),
}


def stopped(problem, folder, after, **settings):
    """A run in `folder` that ends with the decision number `after` of its own."""
    left = iter(range(after - 1, -1, -1))

    def count_down(step):
        if next(left) == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
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
    for count in ("edge_tests", "edges_skipped"):
        assert getattr(again.cost, count) == getattr(whole.cost, count)
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_stopped_anywhere_goes_on_to_the_same_run(kind, tmp_path):
    """Every decision is in the file when it is taken, so that a kill loses none but the next."""
    options, settings = KINDS[kind]
    problem, settings = problem_of(**options), {"threshold": 0.02, **settings}
    whole = ew.discover(problem, **settings)
    n = len(whole.trace)
    assert n > 40
    stride = 37 if settings.get("engine") == "plain" else 9
    for after in sorted({*range(1, n, stride), n - 1, n}):
        folder = tmp_path / f"at-{after}"
        stopped(problem, folder, after, **settings)
        assert len(lines_of(folder)) == after
        assert work_kept(folder) == ("1 decision" if after == 1 else f"{after} decisions")
        again = ew.discover(problem, journal=folder, **settings)
        assert again.cost.taken_over == after
        assert_same(again, whole)
        assert len(lines_of(folder)) == n, "the folder stays, for whoever saves the run"
    if kind != "reduced":  # whose estimates are made again where they were not certain
        assert again.cost.variants == 0 < whole.cost.variants, "nothing was tested again"


@pytest.mark.parametrize("seed", range(16))
def test_a_run_stopped_again_and_again(seed, tmp_path):
    """Every metric, ablation and granularity, stopped every 17 decisions until it is done."""
    problem, settings = random_problem(seed)
    whole = ew.discover(problem, **settings)
    for _ in range(len(whole.trace) // 17):
        stopped(problem, tmp_path / "run", 17, **settings)
    again = ew.discover(problem, journal=tmp_path / "run", **settings)
    assert again.cost.taken_over == len(whole.trace) // 17 * 17
    assert_same(again, whole)


def test_decisions_of_another_order_or_beyond_the_last_are_refused(tmp_path):
    problem, folder = problem_of(), tmp_path / "run"
    ew.discover(problem, threshold=0.02, journal=folder)
    whole = (folder / "journal.jsonl").read_bytes()
    third, fourth = (json.loads(line)["edge"] for line in lines_of(folder)[3:5])
    changes = {
        f"found {fourth} where this one decides {third}. Remove it to start anew": (
            lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]]
        ),
        "run cannot be resumed: .* 1 too many": lambda lines: [*lines[:-1], lines[1], b""],
    }
    for message, change in changes.items():
        rewrite(folder, change)
        with pytest.raises(FormatError, match=message):
            ew.discover(problem, threshold=0.02, journal=folder)
        (folder / "journal.jsonl").write_bytes(whole)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("do not lose me")
    (tmp_path / "file").write_text("nor me")
    for name in ("thesis", "file"):
        refused = pytest.raises(OutputError, match=f"{name} is not an unfinished run. Choose")
        with refused:
            ew.discover(problem_of(), threshold=0.02, journal=tmp_path / name)
        with refused:
            work_kept(tmp_path / name)
        remove_unfinished(tmp_path / name)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "do not lose me"
    with pytest.raises(OutputError, match="cannot write to .*: Not a directory"):
        ew.discover(problem_of(), threshold=0.02, journal=tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "nor me"


def test_a_disk_that_fills_up_loses_nothing(tmp_path):
    problem, folder = problem_of(), tmp_path / "run"
    with largest_file(3000), pytest.raises(OutputError, match="File too large. What was finished"):
        ew.discover(problem, threshold=0.02, journal=folder)
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
    rewrite(folder, lambda lines: [*lines[: n_lines or 0], b""])
    if n_lines is None:
        (folder / "journal.jsonl").unlink()
    assert work_kept(folder) == ""
    ew.discover(problem, threshold=0.03, journal=folder)
    with pytest.raises(OutputError, match="threshold was 0.03, is 0.02"):
        ew.discover(problem, threshold=0.02, journal=folder)
    (folder / "note.txt").write_text("mine")
    remove_unfinished(str(folder))
    assert [path.name for path in folder.iterdir()] == ["note.txt"]


# --- folders of version 1, recorded before the journals were one

FOLDERS = Path(__file__).parents[1] / "golden" / "folders"


def test_a_stopped_run_of_version_1_is_resumed(tmp_path):
    folder = shutil.copytree(FOLDERS / "stopped-acdc", tmp_path / "stopped")
    n = len((folder / "trace.jsonl").read_text().splitlines())
    problem = ew.load_task("tracr-reverse").problem
    run = ew.discover(problem, "acdc", threshold=0.01, journal=folder)
    assert run.cost.taken_over == n > 10
    assert run.circuit == ew.discover(problem, "acdc", threshold=0.01).circuit
    assert [path.name for path in folder.iterdir()] == ["journal.jsonl"]


@pytest.mark.parametrize(
    ("verb", "name", "more"),
    [("stability", "stability", {"core": 0.4}), ("certify", "certified", {"size": 2})],
)
def test_replicates_of_version_1_are_not_drawn_again(verb, name, more, tmp_path, monkeypatch):
    journal = shutil.copy(FOLDERS / f"{name}.jsonl", tmp_path / "journal")
    monkeypatch.setattr("edgewise.work.journal.Journal.add", None)
    problem = ew.load_task("tracr-xproportion").problem
    kept = getattr(ew, verb)(problem, "acdc", n=6, threshold=0.01, journal=journal, **more)
    assert len(kept.table) == 8


def test_a_sweep_of_version_1_is_added_to(tmp_path):
    folder = shutil.copytree(FOLDERS / "sweep", tmp_path / "x")
    before = {row["key"] for row in ew.Sweep.load(folder).rows}
    over = {"task": "tracr-xproportion"}
    after = {r["key"] for r in ew.sweep_grid({"random": {"edges": 3}}, over=over, out=folder).rows}
    assert before < after
    assert len(after) == len(before) + 1
    assert not (folder / "sweep.json").exists()
