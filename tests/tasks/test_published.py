"""Published circuits: how many edges each rule of the papers gives (spec section 6)."""

import pytest

from edgewise.errors import UnknownName
from edgewise.graph import Graph
from edgewise.tasks import PUBLISHED, published_circuit, published_groups

COUNTS = {  # additive edges, switches
    "ioi": (963, 78),
    "greater-than": (235, 27),
    "docstring": (24, 13),
    "tracr-reverse": (11, 4),
    "tracr-xproportion": (7, 3),
}


def _count(edges, senders, receivers):
    """Edges from a node of one kind or list to a port of another kind or letter."""

    def is_in(node, wanted):
        return node.kind == wanted if isinstance(wanted, str) else node.name in wanted

    return sum(
        is_in(edge.sender, senders)
        and (
            edge.receiver.slot == receivers
            if receivers in ("q", "k", "v")
            else is_in(edge.receiver.node, receivers)
        )
        for edge in edges
        if not edge.is_switch
    )


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    circuit = published_circuit(name)
    n_switches = sum(edge.is_switch for edge in circuit.edges)
    assert (circuit.n_edges - n_switches, n_switches) == COUNTS[name]
    assert published_circuit(name.upper().replace("-", "_")) == circuit


def test_graphs_are_the_papers():
    assert published_circuit("ioi").graph == Graph.build(12, 12, switches=True)
    assert published_circuit("ioi").graph.n_edges == 32923
    assert published_circuit("docstring").graph.n_edges == 1377


def test_ioi_by_rule():
    edges = published_circuit("ioi").edges
    for letter, from_heads, from_embedding in (("q", 52, 9), ("k", 36, 18), ("v", 36, 18)):
        assert _count(edges, "head", letter) == from_heads
        assert _count(edges, "input", letter) == from_embedding
        assert _count(edges, "mlp", letter) == 189
    assert _count(edges, "input", "mlp") == 12
    assert _count(edges, "mlp", "mlp") == 66
    assert _count(edges, "mlp", "logits") == 12
    assert _count(edges, "head", "mlp") == 123
    assert _count(edges, "head", "logits") == 13
    assert _count(edges, "input", "logits") == 1
    assert _count(edges, "mlp", "mlp") + 12 + 12 + 3 * 189 + 123 == 780


def test_ioi_between_groups():
    groups, edges = published_groups("ioi"), published_circuit("ioi").edges
    movers = [*groups["name mover"], *groups["backup name mover"], *groups["negative name mover"]]
    assert _count(edges, groups["previous token"], groups["induction"]) == 2 * 8
    assert _count(edges, groups["induction"], groups["S-inhibition"]) == 2 * 16
    assert _count(edges, groups["duplicate token"], groups["S-inhibition"]) == 2 * 12
    assert _count(edges, groups["S-inhibition"], movers) == 52
    assert _count(edges, movers, "logits") == 13
    assert _count(edges, "input", groups["induction"]) == 0


def test_greater_than_by_rule():
    groups, edges = published_groups("greater-than"), published_circuit("greater-than").edges
    early = [*groups["early head"], *groups["early head, to MLPs"]]
    middle = groups["middle head"]
    assert _count(edges, "input", "head") == 9
    assert _count(edges, "input", groups["early MLP"]) == 4
    assert _count(edges, groups["early head, to MLPs"], groups["early MLP"]) == 4
    assert _count(edges, early, middle) == 54
    assert _count(edges, groups["early MLP"], "k") == _count(edges, groups["early MLP"], "v") == 24
    assert _count(edges, "mlp", "q") == 41
    assert _count(edges, middle, "mlp") == 23
    assert _count(edges, "mlp", "mlp") == 42
    assert _count(edges, middle, "logits") == 6
    assert _count(edges, groups["late MLP"], "logits") == 4
    assert _count(edges, "input", "logits") == 0


def test_docstring_edge_by_edge():
    movers = ("a3.h0", "a3.h6")
    expected = {f"{m}->logits" for m in movers} | {f"a1.h4->{m}.q" for m in movers}
    expected |= {f"{s}->{m}.k" for m in movers for s in ("a2.h0", "a1.h2")}
    expected |= {f"{s}->{m}.v" for m in movers for s in ("input", "a0.h5")}
    for port in ("a2.h0.q", "a2.h0.k", "a1.h2.q", "a1.h2.k", "a1.h4.v"):
        expected |= {f"input->{port}", f"a0.h5->{port}"}
    expected |= {"a1.h4->a2.h0.v", "input->a0.h5.v"}
    edges = published_circuit("docstring").edges
    assert {edge.name for edge in edges if not edge.is_switch} == expected
    assert {edge.receiver.name for edge in edges if edge.is_switch} == {
        *(f"{head}.{letter}" for head in (*movers, "a2.h0") for letter in "qkv"),
        *("a1.h2.q", "a1.h2.k", "a1.h4.v", "a0.h5.v"),
    }


@pytest.mark.parametrize("name", ["ioi", "greater-than", "docstring"])
def test_groups_hold_every_node_once(name):
    named = [node for nodes in published_groups(name).values() for node in nodes]
    assert len(set(named)) == len(named)
    in_circuit = {node.name for node in published_circuit(name).nodes}
    assert set(named) == in_circuit - {"input", "logits"}


def test_programs_have_no_groups_and_unknown_tasks_are_refused():
    for name in set(PUBLISHED) - {"ioi", "greater-than", "docstring"}:
        assert published_groups(name) == {}
    for ask in (published_circuit, published_groups):
        with pytest.raises(UnknownName, match="no published circuit named 'induction'"):
            ask("induction")
