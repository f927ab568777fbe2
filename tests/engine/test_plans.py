"""Changes travel by layers: the heads of one that are alike are computed together."""

import torch

import edgewise as ew
from edgewise.engine.batch import MicroBatch
from edgewise.methods.steps import receiver_steps
from models import random_model, random_pairs


def plan_into(port):
    """The plan of the edges into a port of a full circuit, and the port's positions."""
    model = random_model(n_layers=3, n_heads=4)
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    graph = problem.graph
    first = problem.evaluator(graph).batches[0]
    batch = MicroBatch(model, graph, problem.metric, batch=first)
    for step in receiver_steps(graph):
        batch.activate(step.receiver.node, graph.exists)
        if step.receiver.name == port:
            break
    plan = batch._prepared(step).plan
    return plan, len(batch), len(batch._active.positions[graph.column[step.receiver]])


@torch.no_grad()
def test_a_step_for_each_kind_of_a_layer():
    # Layer 0: the head and the MLP. Of layers 1 and 2: all heads in one step, and the MLP. In the
    # last layer heads are needed where answers are read, so that is all there is to it as well.
    assert len(plan_into("a0.h0.v")[0]._steps) == 6


@torch.no_grad()
def test_a_plan_in_parts_is_the_plan(monkeypatch):
    """What goes through together is bounded in memory; how much does not matter."""
    plan, n_prompts, n_positions = plan_into("a1.h0.v")
    change = torch.randn(1, 7, n_prompts, n_positions, 8, dtype=torch.float64)
    whole = plan.run(change)
    monkeypatch.setattr("edgewise.engine.plans.step_bytes", lambda device: 1)
    torch.testing.assert_close(plan.run(change), whole)
