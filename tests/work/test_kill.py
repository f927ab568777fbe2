"""Killed again and again, everything that resumes ends as if nothing had stopped it."""

import json
import multiprocessing
import random
import signal
import time

import pytest
import torch

import edgewise as ew
from edgewise.recipes import reproduce
from edgewise.sweep_folder import VOLATILE

KILLS = 13  # of each kind


def discovered(folder):
    problem = ew.load_task("tracr-reverse").problem
    run = ew.discover(problem, threshold=0.003, journal=folder / "j", engine="plain")
    return [decision.to_json() for decision in run.trace], run.circuit.id


def swept(folder):
    methods = {"acdc": {"threshold": [0.003, 0.3]}, "random": {"edges": 9, "seed": [0, 1]}}
    over = {"task": "tracr-reverse", "ablation": ["zero", "corrupted"]}
    found = ew.sweep_grid(methods, over=over, out=folder / "x", apart=True)
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in found.rows]


def resampled(folder):
    problem = ew.load_task("tracr-reverse").problem
    asked = {"n": 8, "core": 0.4, "threshold": 0.01}
    return ew.stability(problem, journal=folder / "journal", **asked).to_json()


def reproduced(folder):
    asked = {"only": ["tracr-xproportion"], "methods": ["hisp"]}
    results = reproduce(folder / "r", offline=True, quick=True, **asked)
    areas = [(a.task, a.metric, a.ablation, a.edge_auc, a.node_auc) for a in results.areas()]
    return areas, [(cell.cell, cell.points) for cell in results.cells]


KINDS = [discovered, swept, resampled, reproduced]


def journals(folder):
    """The whole lines of every journal."""
    files = (f for f in folder.rglob("journal*") if f.is_file())
    kept = {file: file.read_bytes() for file in files}
    return {file: text[: text.rfind(b"\n") + 1] for file, text in kept.items()}


def killed_after(work, folder, seconds):
    """Whether the work, in a process of its own, was killed that long after it began."""
    child = multiprocessing.get_context("fork").Process(target=work, args=(folder,))
    child.start()
    child.join(seconds)
    was_at_work = child.exitcode is None
    child.kill()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return was_at_work


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* ends in half a line")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("work", KINDS)
def test_killed_again_and_again(work, tmp_path):
    torch.set_num_threads(1)
    (tmp_path / "whole").mkdir()
    start = time.monotonic()
    whole = work(tmp_path / "whole")
    seconds, chance, n_kills = time.monotonic() - start, random.Random(0), 0
    for number in range(4 * KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        before = {}
        while n_kills < KILLS and killed_after(work, folder, chance.uniform(0, seconds / 2)):
            now = journals(folder)
            for file, text in before.items():  # an unfinished point is gone when it is finished
                assert now.get(file, text).startswith(text), file
            n_kills, before = n_kills + 1, now
        assert work(folder) == whole
        for text in journals(folder).values():
            _, *records = map(json.loads, text.splitlines())
            what = ("edge", "key", "index", "cell")
            names = [json.dumps([record.get(name) for name in what]) for record in records]
            assert len(set(names)) == len(names), "a record was made twice"
        if n_kills == KILLS:
            break
    assert n_kills == KILLS
