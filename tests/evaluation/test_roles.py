"""Roles of heads: heads made to do one thing each, measured by loops, and the bundled model's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import edgewise as ew
from edgewise.errors import SettingError, UnknownName
from edgewise.evaluation import Role, head_roles
from edgewise.graph import Node, Site
from edgewise.model.runtime import CleanReader, logits_of, run
from edgewise.patching import RecordingReader
from edgewise.tasks import ROLES, groups_on, node_groups, published_circuit, published_groups
from models import SHAPES, random_model, random_pairs

IOI = ROLES["ioi"]
# Token 0 is the indirect object, 1 the subject; the rest stand between.
PROMPT = [5, 0, 6, 1, 7, 8, 1, 10, 9]
SPANS = {"IO": 1, "S1": 3, "S1+1": 4, "S2": 6, "END": 8}


def made_model(looks: list[dict[int, int] | None], writes: list[float], strong=40.0) -> ew.Model:
    """One layer of heads; head h looks from position p at looks[h][p], or at the one before.

    It copies the token it sees to the logits, times writes[h]. Everywhere else it looks at
    position 0; where `strong` is 0, everywhere evenly. Tokens and positions are unit vectors.
    """
    model = random_model(
        n_layers=1, n_heads=len(looks), d_model=21, d_head=21, d_vocab=12, d_vocab_out=12, n_ctx=9,
        norm="none", attention_only=True,
    )  # fmt: skip
    weights = {name: torch.zeros_like(tensor) for name, tensor in model.weights.items()}
    weights["embed.W_E"] = torch.eye(12, 21, dtype=torch.float64)
    weights["pos_embed.W_pos"] = torch.eye(21, dtype=torch.float64)[12:]
    weights["unembed.W_U"] = torch.eye(21, 12, dtype=torch.float64)
    for h, (targets, size) in enumerate(zip(looks, writes, strict=True)):
        for p in range(9):
            to = max(p - 1, 0) if targets is None else targets.get(p, 0)
            weights["blocks.0.attn.W_Q"][h, 12 + p, 12 + to] = strong
            weights["blocks.0.attn.W_K"][h, 12 + p, 12 + p] = strong
        weights["blocks.0.attn.W_V"][h, :12, :12] = torch.eye(12)
        weights["blocks.0.attn.W_O"][h, :12, :12] = size * torch.eye(12)
    return replace(model, weights=weights)


def ioi_problem(model: ew.Model, **fields) -> ew.Problem:
    corrupted = [5, 2, 6, 3, 7, 8, 4, 10, 9]
    answers = {"answers": [0, 0], "wrong": [1, 1], **fields}
    pairs = ew.PromptPairs.from_tokens([PROMPT] * 2, [corrupted] * 2, spans=SPANS, **answers)
    return ew.Problem(model, pairs, "logit-diff" if answers.get("wrong") else "kl")


def test_heads_made_for_a_role_have_it():
    looks = [{8: 1}, {8: 1}, {8: 6}, {8: 6}, {6: 4}, {6: 3}, {6: 1}, None, {8: 2, 6: 5}]
    model = made_model(looks, [1.0, -1.0, 1.0, -1.0, 0.1, 0.1, 0.1, 0.0, 1.0])
    found = head_roles(ioi_problem(model), IOI)
    # Head 2 copies the subject: it looks at S2 and lowers the answer, as S-inhibition may.
    # Head 8 looks nowhere that has a name.
    assert found.groups == {
        "name mover": ("a0.h0",),
        "negative name mover": ("a0.h1",),
        "S-inhibition": ("a0.h2",),
        "induction": ("a0.h4",),
        "duplicate token": ("a0.h5",),
        "previous token": ("a0.h7",),
        "name mover via S2": ("a0.h3",),
        "early name mover": ("a0.h6",),
    }
    assert found.tables()[0].rows[0] == ("a0.h0", "name mover", pytest.approx(1), pytest.approx(1))
    effects = {head.head: head.effect for head in found.heads}
    assert (effects["a0.h3"], effects["a0.h7"]) == (pytest.approx(1.0), 0.0)


def test_only_heads_among_the_nodes_and_above_the_threshold_have_a_role():
    model = made_model([{8: 1}, {8: 1}], [1.0, 0.5])
    nodes = [Node.parse("a0.h1"), Node.parse("input")]
    assert head_roles(ioi_problem(model), IOI, nodes=nodes).groups == {"name mover": ("a0.h1",)}
    even, looker = ioi_problem(made_model([None], [1.0], strong=0)), [Role("looker", "END", "IO")]
    assert head_roles(even, looker, least_attention=0.11).heads[0].attention == pytest.approx(1 / 9)
    assert head_roles(even, looker, least_attention=0.12).heads == ()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", ["left", "right"])
def test_attention_is_that_of_plain_loops(shape, padding):
    model = random_model(4, n_heads=3, **SHAPES[shape])
    spans = {"A": [[0, 1], [0], [2, 3]], "B": [[4], [2, 3], [6]]}
    pairs = random_pairs(model, 1, lengths=[6, 4, 7], spans=spans, padding=padding)
    problem = ew.Problem(model, pairs, "kl", batch_size=2)
    rows = [tokens[real] for tokens, real in zip(pairs.clean, pairs.real, strict=True)]
    for role in (Role("back", "B", "A"), Role("before", None, None), Role("from", "A", None)):
        found = head_roles(problem, [role], least_attention=1e-12)
        measured = {head.head: head.attention for head in found.heads}
        for node in (node for node in model.graph.nodes if node.kind == "head"):
            total = 0.0
            for i, row in enumerate(rows):
                pattern = _pattern(model, row, node)
                sources = range(1, len(row)) if role.source is None else spans[role.source][i]
                for p in sources:
                    targets = [p - 1] if role.target is None else spans[role.target][i]
                    total += sum(pattern[p][q] for q in targets if q >= 0) / len(sources) / 3
            assert measured.get(node.name, 0.0) == pytest.approx(total, abs=1e-9)


def _pattern(model: ew.Model, row: torch.Tensor, node: Node) -> list[list[float]]:
    reader, real = RecordingReader(CleanReader()), torch.ones(1, len(row), dtype=torch.bool)
    run(model, row[None], real, graph=model.graph, reader=reader)
    q, k = (reader.vectors[Site(node.layer, slot)][node.head, 0] for slot in ("q", "k"))
    rows = []
    for p in range(len(row)):
        last = p + 1 if model.config.causal else len(row)
        scores = q[p] @ k[:last].T * model.config.attention_scales[node.layer]
        rows.append(scores.softmax(0).tolist() + [0.0] * (len(row) - last))
    return rows


@pytest.mark.parametrize("shape", ["gpt2", "folded norm, exact gelu", "no norm, relu"])
def test_the_effect_is_what_removal_changes_with_the_norm_held(shape):
    model = random_model(2, **{**SHAPES[shape], "n_layers": 1})
    pairs = random_pairs(model, 3, n=3, spans={"A": 0, "END": -1})
    problem = ew.Problem(model, pairs, "logit-diff")
    heads = [
        head
        for effect in ("does not raise", "raises")
        for head in head_roles(
            problem, [Role("any", "END", "A", effect)], least_attention=1e-9
        ).heads
    ]
    assert {head.head for head in heads} == {"a0.h0", "a0.h1"}
    real = torch.ones(3, 6, dtype=torch.bool)
    final, outputs = run(model, pairs.clean, real, graph=model.graph, reader=CleanReader())
    x = final[:, -1]
    ids = torch.stack([pairs.answers[:, 0], pairs.wrong[:, 0]], dim=1)
    for head in heads:
        row = model.graph.row[Node.parse(head.head)]
        written = outputs.senders.dense([row])[0, :, -1]
        if model.config.norm == "none":
            change = logits_of(model, x) - logits_of(model, x - written)
        else:
            scale = (x.var(dim=-1, keepdim=True, unbiased=False) + model.config.eps).sqrt()
            normed = (written - written.mean(dim=-1, keepdim=True)) / scale
            change = normed * model.weights.get("ln_final.w", 1.0) @ model.weights["unembed.W_U"]
        right, wrong = change.gather(1, ids).unbind(1)
        assert head.effect == pytest.approx((right - wrong).mean().item(), rel=1e-9)


def test_refusals():
    model = made_model([{8: 1}], [1.0])
    with pytest.raises(UnknownName, match=r"span \(of role 'mover'\).*'I0'.*IO"):
        head_roles(ioi_problem(model), [Role("mover", "END", "I0")])
    with pytest.raises(SettingError, match="'mover' is about the logit difference"):
        head_roles(ioi_problem(model, wrong=None), [Role("mover", "END", "IO", "raises")])
    with pytest.raises(SettingError, match="least_attention is 0"):
        head_roles(ioi_problem(model), IOI, least_attention=0)


def test_the_bundled_models_circuit_carries_the_name_over_s2():
    """No head of it looks from END at IO: it is not GPT-2's circuit, and is not called so."""
    task = ew.load_task("ioi", n=40)
    circuit = ew.acdc(task.problem, threshold=0.1).circuit
    found = node_groups(task.problem, circuit)
    assert set(found["groups"]) == {"name mover via S2", "early name mover"}
    assert "a1.h1" in found["groups"]["name mover via S2"]
    assert "a0.h0" in found["groups"]["early name mover"]
    assert "at least 40% of its attention" in found["source"]
    assert node_groups(task.test, circuit)["groups"] == found["groups"]


def test_groups_are_published_for_one_model_and_known_for_some_tasks():
    graph = published_circuit("ioi").graph
    for name in ("gpt2", "openai-community/gpt2", "models/gpt2", "gpt2-small"):
        found = groups_on("ioi", name, graph)
        assert {k: tuple(v) for k, v in found["groups"].items()} == published_groups("ioi")
        assert "Wang" in found["source"]
    for name in ("EleutherAI/gpt-neo-125m", "small-lm", "gpt2-xl"):
        assert groups_on("ioi", name, graph) is None
    assert groups_on("ioi", "gpt2", ew.Graph.build(2, 2)) is None
    assert groups_on("pronouns", "gpt2", graph) is None
    pronouns, ioi = (ew.load_task(name, n=4).problem for name in ("pronouns", "ioi"))
    assert node_groups(pronouns, ew.Circuit.full(pronouns.graph)) is None
    layers = ew.Graph.of(ioi.model, split_heads=False)
    assert node_groups(ioi, ew.Circuit.full(layers)) is None
