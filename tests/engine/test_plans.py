"""Changes travel by layers: the heads of one that are alike are computed together."""

import torch

import edgewise as ew
from edgewise.engine.batch import LiveBatch
from models import random_model, random_pairs


def batch_in_front_of(problem, layer):
    """A batch of a full circuit when the ports of a layer are visited, and one of these."""
    graph = problem.graph
    batch = LiveBatch(problem.model, graph, problem.metric, problem.evaluator(graph).batches[0])
    for node in reversed(graph.nodes):
        if node.layer is not None and node.layer >= layer:
            batch.enter(node, graph.exists)
    return batch, graph.column(ew.Port.parse(f"a{layer}.h0.v"))


def test_a_step_for_each_kind_of_a_layer():
    model = random_model(n_layers=3, n_heads=4)
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    with torch.no_grad():
        batch, column = batch_in_front_of(problem, 0)
        plan = batch._plan_from(column)
    # Layer 0: the head and the MLP. Of layers 1 and 2: all heads in one step, and the MLP. In the
    # last layer heads are needed where answers are read, so that is all there is to it as well.
    assert len(plan._steps) == 6


def test_a_plan_in_parts_is_the_plan(monkeypatch):
    """What goes through together is bounded in memory; how much does not matter."""
    model = random_model(n_layers=3, n_heads=4)
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    with torch.no_grad():
        batch, column = batch_in_front_of(problem, 1)
        places = len(batch._live.positions[column])
        change = torch.randn(1, 7, len(problem.pairs), places, 8, dtype=torch.float64)
        whole = batch._plan_from(column).run(change, None)
        monkeypatch.setattr("edgewise.engine.plans.step_bytes", lambda device: 1)
        torch.testing.assert_close(batch._plan_from(column).run(change, None), whole)
