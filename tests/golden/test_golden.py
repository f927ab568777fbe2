"""What was found and judged before is found and judged now: `pytest tests/golden` replays it.

`pytest tests/golden -m "slow or not slow"` replays all problems, not only the quick ones. The
answers were recorded by `record.py`; `adapter.py` is all that knows the library's names.
"""

import json

import adapter
import pytest
import replay

from problems import PROBLEMS


def _marked(name: str) -> object:
    slow = [] if PROBLEMS[name].get("quick") else [pytest.mark.slow]
    return pytest.param(name, marks=slow)


@pytest.mark.parametrize("name", [_marked(name) for name in PROBLEMS])
def test_nothing_moved(name):
    found = replay.differences(replay.recorded(name), replay.answers(name))
    assert not found, f"{len(found)} differences on {name}:\n" + "\n".join(found[:20])


def test_every_problem_is_recorded():
    assert {path.stem for path in replay.ANSWERS.glob("*.json")} == set(PROBLEMS)


def test_everything_in_the_catalogue_is_covered():
    specs = PROBLEMS.values()
    ablations = {spec["ablation"] for spec in specs if isinstance(spec["ablation"], str)}
    covered = {
        "methods": {method for spec in specs for method, _ in spec["find"]},
        "metrics": {spec["metric"] for spec in specs},
        "ablations": ablations,
    }
    assert covered == adapter.catalogue()


def test_a_difference_is_seen():
    expected = {"method": "acdc", "circuit": [1, 2], "scores": [0.5, 2000.0]}
    assert not replay.differences(expected, {**expected, "scores": [0.5 + 1e-13, 2000.0 + 1e-10]})
    assert replay.differences(expected, {**expected, "scores": [0.5 + 1e-11, 2000.0]})
    assert replay.differences(expected, {**expected, "circuit": [1]})
    assert not replay.differences({"method": "sp", "x": 0.5}, {"method": "sp", "x": 0.5 + 1e-7})


def test_old_files_are_read():
    expected = json.loads(replay.FOLDERS.read_text())
    assert not replay.differences(expected, replay.folders())
