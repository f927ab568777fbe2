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
MOVERS = "name mover+backup name mover+negative name mover"
EARLY = "early head+early head, to MLPs"
# How many edges go from nodes of a kind, or of groups, to others or to a port's letter.
RULES = {
    "ioi": {
        **{("head", letter): n for letter, n in zip("qkv", (52, 36, 36), strict=True)},
        **{("input", letter): n for letter, n in zip("qkv", (9, 18, 18), strict=True)},
        **{("mlp", letter): 189 for letter in "qkv"},
        ("input", "mlp"): 12,
        ("mlp", "mlp"): 66,
        ("mlp", "logits"): 12,
        ("head", "mlp"): 123,
        ("head", "logits"): 13,
        ("input", "logits"): 1,
        ("previous token", "induction"): 2 * 8,
        ("induction", "S-inhibition"): 2 * 16,
        ("duplicate token", "S-inhibition"): 2 * 12,
        ("S-inhibition", MOVERS): 52,
        (MOVERS, "logits"): 13,
        ("input", "induction"): 0,
    },
    "greater-than": {
        ("input", "head"): 9,
        ("input", "early MLP"): 4,
        ("early head, to MLPs", "early MLP"): 4,
        (EARLY, "middle head"): 54,
        ("early MLP", "k"): 24,
        ("early MLP", "v"): 24,
        ("mlp", "q"): 41,
        ("middle head", "mlp"): 23,
        ("mlp", "mlp"): 42,
        ("middle head", "logits"): 6,
        ("late MLP", "logits"): 4,
        ("input", "logits"): 0,
    },
}


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


@pytest.mark.parametrize("name", RULES)
def test_edges_by_rule(name):
    groups = published_groups(name)

    def is_of(node, words):
        names = {member for group in words.split("+") for member in groups.get(group, ())}
        return node.name in names if names else node.kind == words

    edges = [edge for edge in published_circuit(name).edges if not edge.is_switch]
    for (senders, receivers), n in RULES[name].items():
        chosen = [edge.receiver for edge in edges if is_of(edge.sender, senders)]
        if receivers in ("q", "k", "v"):
            assert sum(port.slot == receivers for port in chosen) == n
        else:
            assert sum(is_of(port.node, receivers) for port in chosen) == n


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


@pytest.mark.parametrize("name", PUBLISHED)
def test_groups_hold_every_node_once(name):
    """Those of the papers; circuits of programs have none."""
    named = [node for nodes in published_groups(name).values() for node in nodes]
    assert len(set(named)) == len(named)
    in_circuit = {node.name for node in published_circuit(name).nodes} - {"input", "logits"}
    assert set(named) == (in_circuit if "tracr" not in name and "gate" not in name else set())


@pytest.mark.parametrize("of_task", [published_circuit, published_groups])
def test_unknown_tasks_are_refused(of_task):
    with pytest.raises(UnknownName, match="no published circuit named 'induction'"):
        of_task("induction")
