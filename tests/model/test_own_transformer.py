"""The example of one's own transformer finds what is known of induction and modular addition."""

import sys
from pathlib import Path

import pytest
import torch

import edgewise as ew

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import own_transformer as example
from toy_transformer import Transformer


def test_induction_is_a_previous_token_head_that_writes_an_induction_heads_key(tmp_path):
    induction = example.induction(0, steps=250, n=20)
    assert all(induction.checks.values()), induction.checks
    run = induction.runs[0]
    groups = run.measurements["groups"]["groups"]
    before, after = groups["previous token"], groups["induction"]
    assert {head[:2] for head in before} == {"a0"}
    assert {head[:2] for head in after} == {"a1"}
    edges = {edge.name for edge in run.circuit.edges}
    joints = {name for name in edges if name.startswith("a0")}
    assert joints
    assert joints <= {f"{sender}->{receiver}.k" for sender in before for receiver in after}
    # The other edges lead there and away: nothing else is kept.
    outer = {f"input->{head}.v" for head in before} | {f"{head}->logits" for head in after}
    assert edges - joints <= outer
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
    frequencies = list(range(1, example.PRIME // 2 + 1))
    answers = module(example.asked(sums))[:, -1].argmax(dim=-1)
    right = (answers == sums.sum(dim=1) % example.PRIME).double().mean().item()
    assert example.addition_accuracy(module, sums, frequencies, True) == pytest.approx(right)


@pytest.mark.slow
def test_modular_addition_goes_through_values_and_the_mlp_with_few_frequencies():
    result = example.modular_addition(0)
    assert all(result.checks.values()), result.checks
