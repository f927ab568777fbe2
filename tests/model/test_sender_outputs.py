"""What senders wrote, kept small, is what they wrote."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import edgewise as ew
from edgewise.model.outputs import Heads, SenderOutputs
from edgewise.model.runtime import CleanReader, run
from models import SHAPES, random_model, random_pairs


def random_outputs(seed, options, shape="gpt2"):
    """What all senders write on a random model's prompts, and its graph."""
    model = random_model(seed, **SHAPES[shape])
    graph = ew.Graph.of(model, **options)
    pairs = random_pairs(model, seed)
    with torch.no_grad():
        _, outputs = run(model, pairs.clean, pairs.real, graph=graph, reader=CleanReader())
    return outputs.senders, graph


def apart(senders):
    """Every sender by the definition: heads times their slice of the output projection."""
    rows = []
    for part in senders.parts:
        if not isinstance(part, Heads):
            rows += list(part)
            continue
        heads = [z @ w for z, w in zip(part.z, part.weight, strict=True)]
        rows += heads if part.apart else [sum(heads)]
    return torch.stack(rows)


@pytest.mark.parametrize("options", [{}, {"split_heads": False}, {"split_embed": True}])
@settings(derandomize=True, deadline=None, max_examples=40)
@given(seed=st.integers(0, 5), data=st.data())
def test_any_rows_in_any_order(options, seed, data):
    senders, graph = random_outputs(seed, options)
    dense = apart(senders)
    assert len(senders) == len(graph.senders) == len(dense)
    rows = data.draw(
        st.lists(st.integers(0, len(senders) - 1), min_size=1, unique=True), label="rows"
    )
    torch.testing.assert_close(senders.dense(rows), dense[rows])
    torch.testing.assert_close(senders.total(rows), dense[rows].sum(dim=0))
    out = torch.full_like(dense[rows], torch.nan)
    with torch.no_grad():
        torch.testing.assert_close(senders.dense(rows), dense[rows])
        senders.into(out, rows)
    torch.testing.assert_close(out, dense[rows])


@pytest.mark.parametrize("options", [{}, {"split_heads": False}])
def test_sums_and_differences_are_those_of_every_sender(options):
    one, _ = random_outputs(0, options)
    other = one.mapped(lambda x: 3 * x)
    torch.testing.assert_close(other.minus(one).dense(), 2 * apart(one))
    torch.testing.assert_close(other.plus(one).dense(), 4 * apart(one))
    torch.testing.assert_close(one.minus(None).dense(), apart(one))
    mean = one.mapped(lambda x: x.mean(dim=(1, 2), keepdim=True))
    torch.testing.assert_close(one.minus(mean).dense(), apart(one) - apart(mean))
    mixed = SenderOutputs(apart(mean).split([len(part) for part in mean.parts]))
    torch.testing.assert_close(one.minus(mixed).dense(), apart(one) - apart(mean))


def test_heads_take_d_head_numbers_each():
    senders, graph = random_outputs(0, {})
    heads = [part for part in senders.parts if isinstance(part, Heads)]
    assert len(heads) == graph.n_layers
    assert all(part.z.shape[-1] == 4 for part in heads)  # d_model is 8
