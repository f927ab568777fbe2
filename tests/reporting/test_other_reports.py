"""Pages about stability, hypothesis tests and sweeps: what they say, and that they need nothing."""

import pytest

import edgewise as ew


@pytest.fixture(scope="module")
def task():
    return ew.load_task("tracr-xproportion")


def written(found, tmp_path) -> str:
    page = ew.report(found, tmp_path / "page.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert "https://" not in page
    return page


def test_stability(task, tmp_path):
    found = ew.stability(task.problem, "acdc", threshold=0.01, n=16, test=task.test)
    page = written(found, tmp_path)
    first = found.sentences()[0]
    assert first.replace("'", "&#x27;") in page or first in page
    for one in found.table:
        assert one.edge.name.replace(">", "&gt;") in page
    assert "16, seed 0" in page
    assert "held-out prompts" in page
    with pytest.raises(ew.errors.SettingError, match="groups are for runs"):
        ew.report(found, tmp_path / "page.html", groups={})


def test_hypothesis_tests(task, tmp_path):
    found = ew.hypothesis_tests(task.test, task.truth, n_random=20, split="held-out")
    page = written(found, tmp_path)
    for test in found.tests:
        assert f">{test.name}</td>" in page
    assert "on the held-out prompts" in page
    assert all(test.edge.replace(">", "&gt;") in page for test in found.edges)


def test_a_sweep(tmp_path):
    methods = {"acdc": {"threshold": [0.01, 0.1]}, "eap-ig": {"edges": [5, 15]}}
    found = ew.sweep_grid(methods, over={"task": "tracr-reverse"}, out=tmp_path / "sweep")
    page = written(found, tmp_path)
    assert "A sweep of 4 points" in page
    assert page.count("<circle") >= 4
    assert ">threshold</th>" in page
    assert ">precision</th>" not in page  # nothing varied it


def test_a_run_shows_and_reports_itself(task, tmp_path, capsys):
    run = ew.acdc(task.problem, threshold=0.01)
    run.show()
    shown = capsys.readouterr().out
    assert all(edge.name in shown for edge in run.circuit.edges)
    assert f"{run.circuit.n_edges} of {run.circuit.graph.n_edges} edges are kept" in shown
    first, second = run.report(tmp_path / "1.html"), ew.report(run, tmp_path / "2.html")
    assert first.read_bytes() == second.read_bytes()
