"""Position-level circuits where the answer is known: a compiled program, and learned IOI."""

import json

import pytest
import torch

import edgewise as ew
from commands import ok, refused


def test_the_two_roles_of_a_compiled_head_are_told_apart():
    """tracr-reverse on three letters, asked for the first: it is the third letter of the prompt.

    At p1 the last head asks (length less index, computed there); at p3 it is asked.
    """
    task = ew.load_task("tracr-reverse")
    rows, corrupted = task.problem.pairs.clean, task.problem.pairs.corrupted
    answer = torch.zeros_like(rows, dtype=torch.bool)
    answer[:, 1] = True
    spans = {"bos": 0, "p1": 1, "p2": 2, "p3": 3}
    pairs = ew.PromptPairs.from_tokens(rows, corrupted, answer_positions=answer, spans=spans)
    graph = ew.Graph.of(task.problem.model, spans=pairs, split_embed=True)
    problem = ew.Problem(task.problem.model, pairs, "l2", "zero", graph=graph)
    circuit = ew.acdc(problem, threshold=1e-3).circuit
    assert {edge.name for edge in circuit.edges} == {
        "tok_embed->m0@p1",
        "m0->m1@p1",
        "m1->m2@p1",
        "m2->a3.h0.q@p1",
        "pos_embed->a3.h0.k@p3",
        "tok_embed->a3.h0.v@p3",
        "a3.h0->logits@p1",
    }
    together = ew.acdc(problem.with_(graph=graph.whole), threshold=1e-3).circuit
    assert {e.name.partition("@")[0] for e in circuit.edges} < {e.name for e in together.edges}


@pytest.fixture(scope="module")
def ioi() -> ew.Run:
    task = ew.load_task("ioi", ew.load_model("small-lm"), n=16)
    graph = ew.Graph.of(task.problem.model, spans=task.problem.pairs)
    run = ew.acdc(task.problem.with_(graph=graph), threshold=0.05)
    assert ew.faithfulness(task.test.with_(graph=graph), run.circuit).normalized > 0.8
    return run


def test_ioi_names_s2_and_end(ioi):
    """As Wang et al. (2022) found in GPT-2: names repeated are seen at S2, the answer is at END."""
    assert ioi.circuit.n_edges < 0.01 * ioi.circuit.graph.n_edges
    into = {edge.receiver for edge in ioi.circuit.edges}
    spans = {port.node.span for port in into}
    assert {"IO", "S1", "S2", "END"} <= spans
    assert not spans & {"place", "object"}
    # Duplicate-token heads ask at S2 and find S1; what they find is read from S2 and used at END.
    asking = {port.node.head for port in into if port.slot == "q" and port.node.span == "S2"}
    found = {port.node.head for port in into if port.slot == "k" and port.node.span == "S1"}
    assert asking & found
    assert any(p.slot == "v" and p.node.span == "S2" and p.node.layer == 1 for p in into)
    assert {p.node.span for p in into if p.node.kind == "logits"} == {"END"}


def test_runs_with_spans_are_saved_reported_and_compared(ioi, tmp_path):
    again = ew.Run.load(ioi.save(tmp_path / "run"))
    assert again.circuit == ioi.circuit
    assert [d.edge for d in again.trace] == [d.edge for d in ioi.trace]
    together = ew.Circuit.full(ioi.circuit.graph.whole)
    assert ew.compare([ioi.circuit, together]).graph == together.graph
    page = ew.report([ioi], tmp_path / "report.html").read_text()
    for span in ("IO", "S1", "S2", "END"):
        assert f">at {span}</text>" in page
    assert ">at place</text>" not in page
    assert "carries what it reads at S2 to END" in page


def test_the_command_line(tmp_path, capsys):
    out = tmp_path / "run"
    about = ["--task", "greater-than", "--model", "small-lm", "--n", "8"]
    method = ["--method", "eap-ig", "--edges", "30", "--metric", "prob-diff"]
    ok(capsys, "discover", *about, "--spans", "all", *method, "--out", out)
    run = ew.Run.load(out)
    assert (run.circuit.graph.spans[-1], run.circuit.n_edges) == ("rest", 30)
    assert json.loads(ok(capsys, "evaluate", out, "--json"))
    line = refused(capsys, "discover", *about, "--spans", "nowhere", *method)
    assert "a span 'nowhere'" in line
