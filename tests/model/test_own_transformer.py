"""The example of one's own transformer finds what is known of induction and modular addition."""

import sys
from pathlib import Path

import pytest
import torch

import edgewise as ew

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import own_transformer as example
from toy_transformer import Transformer


@pytest.fixture(scope="module")
def induction():
    return example.induction(0, steps=250, n=20)


def test_induction_is_a_previous_token_head_that_writes_an_induction_heads_key(induction):
    assert all(induction.checks.values()), induction.checks
    run = induction.runs[0]
    groups = run.measurements["groups"]["groups"]
    before, after = groups["previous token"], groups["induction"]
    assert {head[:2] for head in before} == {"a0"}
    assert {head[:2] for head in after} == {"a1"}
    edges = [edge.name for edge in run.circuit.edges]
    joints = [name for name in edges if name.startswith("a0")]
    assert joints
    for name in joints:
        sender, receiver = name.split("->")
        assert sender in before
        assert receiver.removesuffix(".k") in after
    # The other edges lead there and away: nothing else is kept.
    rest = set(edges) - set(joints)
    assert rest <= {f"input->{p}.v" for p in before} | {f"{i}->logits" for i in after}


def test_the_attention_of_the_heads_is_that_of_the_module(induction):
    """The patterns by which heads are named, computed by hand from the plain module."""
    module = induction.module
    pairs = example.induction_pairs(40, seed=1)
    x = module.words(pairs.clean) + module.places.weight[: pairs.clean.shape[1]]
    measured = {h["head"]: h for h in induction.runs[0].measurements["groups"]["heads"]}
    rows = torch.arange(len(pairs))
    a, b, end = (pairs.spans[name].double().argmax(dim=1) for name in ("A", "B", "end"))
    for i, layer in enumerate(module.layers):
        q, k, _ = (
            part.unflatten(-1, (2, -1)).transpose(1, 2)
            for part in layer.qkv(layer.norm1(x)).chunk(3, dim=-1)
        )
        later = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        scores = (q @ k.mT / 4).masked_fill(later, -torch.inf).softmax(dim=-1)
        source, target = ((b, a), (end, b))[i]
        for head, seen in enumerate(scores[rows, :, source, target].mean(dim=0).tolist()):
            if f"a{i}.h{head}" in measured:
                assert measured[f"a{i}.h{head}"]["attention"] == pytest.approx(seen, rel=1e-4)
        x = layer(x)


def test_the_report_shows_the_groups(induction, tmp_path):
    page = ew.report(induction.runs, tmp_path / "own.html").read_text()
    assert "previous token (2)" in page
    assert "induction (2)" in page


def test_a_module_with_mlps_is_mapped_and_proven():
    torch.manual_seed(0)
    module = Transformer(7, 5, width=8, heads=2, hidden=[12, 12])
    model = example.as_edgewise(module, "mine")
    assert model.proof["relative_errors"]["logits"] < 1e-5
    assert model.weights["embed.W_E"].data_ptr() == module.words.weight.data_ptr()


def test_cutting_no_frequency_changes_nothing():
    torch.manual_seed(0)
    module = Transformer(example.PRIME + 1, 3, width=8, heads=2, hidden=[12])
    sums = torch.cartesian_prod(torch.arange(example.PRIME), torch.arange(4))
    every = list(range(1, example.PRIME // 2 + 1))
    answers = module(example.asked(sums))[:, -1].argmax(dim=-1)
    right = (answers == sums.sum(dim=1) % example.PRIME).double().mean().item()
    assert example.addition_accuracy(module, sums, every, True) == pytest.approx(right)


@pytest.mark.slow
def test_modular_addition_goes_through_values_and_the_mlp_with_few_frequencies():
    found = example.modular_addition(0)
    assert all(found.checks.values()), found.checks
