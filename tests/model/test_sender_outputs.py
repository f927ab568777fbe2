"""What senders wrote, kept small, is what they wrote."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import edgewise as ew
from edgewise.model.outputs import Heads, SenderOutputs
from edgewise.model.runtime import CleanReader, run
from models import random_model, random_pairs


def random_outputs(options):
    """What all senders write on a random model's prompts, and each by the definition."""
    model = random_model()
    graph, pairs = ew.Graph.of(model, **options), random_pairs(model)
    with torch.no_grad():
        _, outputs = run(model, pairs.clean, pairs.real, graph=graph, reader=CleanReader())
    rows = []
    for part in outputs.senders.parts:
        if not isinstance(part, Heads):
            rows += list(part)
            continue
        assert part.z.shape[-1] == 4, "a head is kept in d_head numbers; d_model is 8"
        heads = [z @ w for z, w in zip(part.z, part.weight, strict=True)]
        rows += heads if part.apart else [sum(heads)]
    assert len(outputs.senders) == len(graph.senders) == len(rows)
    return outputs.senders, torch.stack(rows)


@pytest.mark.parametrize("options", [{}, {"split_heads": False}, {"split_embed": True}])
@settings(derandomize=True, deadline=None, max_examples=20)
@given(data=st.data())
def test_any_rows_in_any_order(options, data):
    senders, dense = random_outputs(options)
    index = st.integers(0, len(senders) - 1)
    rows = data.draw(st.lists(index, min_size=1, unique=True), label="rows")
    torch.testing.assert_close(senders.dense(rows), dense[rows])
    torch.testing.assert_close(senders.total(rows), dense[rows].sum(dim=0))
    with torch.no_grad():
        torch.testing.assert_close(senders.dense(rows), dense[rows])


@pytest.mark.parametrize("options", [{}, {"split_heads": False}])
def test_sums_and_differences_are_those_of_every_sender(options):
    senders, dense = random_outputs(options)
    triple = senders.mapped(lambda x: 3 * x)
    torch.testing.assert_close(triple.minus(senders).dense(), 2 * dense)
    torch.testing.assert_close(triple.plus(senders).dense(), 4 * dense)
    assert senders.minus(None) is senders
    mean = senders.mapped(lambda x: x.mean(dim=(1, 2), keepdim=True))
    torch.testing.assert_close(senders.minus(mean).dense(), dense - mean.dense())
    plain = SenderOutputs(mean.dense().split([len(part) for part in mean.parts]))
    torch.testing.assert_close(senders.minus(plain).dense(), dense - mean.dense())
