"""Names: what is printed parses back, other projects' spellings are read, the rest refused."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgewise.errors import EdgewiseError, UnknownName
from edgewise.graph import SLOTS, Edge, Graph, Node, Port

fixed = settings(derandomize=True, deadline=None, max_examples=40)
FLAG = st.booleans()
GRAPHS = st.builds(Graph, st.integers(1, 3), st.integers(1, 3), *[FLAG] * 6)


# --- what is printed parses back


@fixed
@given(GRAPHS)
def test_every_name_of_a_graph_parses_back(graph):
    assert [Node.parse(node.name) for node in graph.nodes] == list(graph.nodes)
    assert [Port.parse(port.name) for port in graph.receivers] == list(graph.receivers)
    assert [Edge.parse(edge.name) for edge in graph.edges] == list(graph.edges)


def test_the_spellings_of_the_design():
    assert Node(3, "head", 7).name == "a3.h7"
    assert Node(3, "attention").name == "a3"
    assert Node(3, "mlp").name == "m3"
    assert [Port(Node(3, "head", 7), slot).name for slot in SLOTS] == [
        "a3.h7.q",
        "a3.h7.k",
        "a3.h7.v",
    ]
    assert Edge(Node(0, "head", 1), Port(Node(3, "head", 7), "q")).name == "a0.h1->a3.h7.q"


def test_a_switch_is_written_in_the_direction_the_data_flows():
    switch = Edge(Node(3, "head", 7), Port(Node(3, "head", 7), "q"))
    assert switch.is_switch
    assert switch.name == "a3.h7.q->a3.h7"
    assert Edge.parse("a3.h7->a3.h7.q") == Edge.parse("a3.h7.q->a3.h7") == switch
    assert Edge.parse("a3.v->a3") == Edge(Node(3, "attention"), Port(Node(3, "attention"), "v"))
    assert Edge.parse("a3.h7->a3.h7").is_switch  # the joined port


# --- other projects' spellings

NODES = [
    ("a9.h9", "a9.h9"),  # EAP-IG, MIB
    ("A9.9", "a9.h9"),  # AutoCircuit
    ("A10.11", "a10.h11"),
    ("MLP 3", "m3"),
    ("MLP 11", "m11"),
    ("Resid Start", "input"),
    ("Resid End", "logits"),
    ("blocks.9.attn.hook_result[:, :, 9]", "a9.h9"),  # the original ACDC
    ("blocks.9.attn.hook_result[COL, COL, 9]", "a9.h9"),
    ("blocks.3.hook_mlp_out", "m3"),
    ("blocks.3.hook_mlp_out[:]", "m3"),
    ("blocks.3.hook_mlp_in[:]", "m3"),
    ("blocks.0.hook_resid_pre[:]", "input"),
    ("blocks.11.hook_resid_post[:]", "logits"),
    ("hook_embed[:]", "tok_embed"),
    ("hook_pos_embed[:]", "pos_embed"),
    ("  a9.h9 ", "a9.h9"),
]
PORTS = [
    ("a3.h7<q>", "a3.h7.q"),
    ("a3.h7<k>", "a3.h7.k"),
    ("a3.h7<v>", "a3.h7.v"),
    ("A9.9.Q", "a9.h9.q"),
    ("A9.9.K", "a9.h9.k"),
    ("A9.9.V", "a9.h9.v"),
    ("blocks.9.hook_q_input[:, :, 9]", "a9.h9.q"),
    ("blocks.10.hook_k_input[:, :, 11]", "a10.h11.k"),
    ("blocks.0.hook_v_input[COL, COL, 0]", "a0.h0.v"),
]
EDGES = [
    ("input->a3.h7<q>", "input->a3.h7.q"),
    ("m0->logits", "m0->logits"),
    ("A9.9->A10.7.Q", "a9.h9->a10.h7.q"),
    ("MLP 0->Resid End", "m0->logits"),
    ("Resid Start->MLP 0", "input->m0"),
    (
        "blocks.9.attn.hook_result[:, :, 9]->blocks.10.hook_v_input[:, :, 7]",
        "a9.h9->a10.h7.v",
    ),
    ("hook_pos_embed[:]->blocks.0.hook_mlp_in[:]", "pos_embed->m0"),
]


@pytest.mark.parametrize(("theirs", "ours"), NODES)
def test_nodes_of_other_projects(theirs, ours):
    assert Node.parse(theirs).name == ours


@pytest.mark.parametrize(("theirs", "ours"), PORTS)
def test_ports_of_other_projects(theirs, ours):
    assert Port.parse(theirs).name == ours


@pytest.mark.parametrize(("theirs", "ours"), EDGES)
def test_edges_of_other_projects(theirs, ours):
    assert Edge.parse(theirs).name == ours


def test_the_original_acdc_writes_a_switch_between_two_hooks_of_one_port():
    """Spec 1.2, DIRECT_COMPUTATION: the q-input of a head, then its q vector."""
    theirs = "blocks.9.hook_q_input[:, :, 9]->blocks.9.attn.hook_q[:, :, 9]"
    assert Edge.parse(theirs).name == "a9.h9.q->a9.h9"


# --- what is refused, with advice

BAD_PORTS = [
    "",
    " ",
    "a",
    "m",
    "a3.h7.z",
    "a3.h7<z>",
    "a3.h7<q",
    "a3.h",
    "h3.7",
    "a-1.h2",
    "a1.h2.q.k",
    "m3.q",
    "input.q",
    "logits.v",
    "Logits",
    "mlp 3",
    "blocks.9.hook_q_input",
    "blocks.9.hook_z_input[:, :, 9]",
    "blocks.9.hook_mlp_mid",
    "a3.h7 extra",
    "a3.h7\nm3",
]


@pytest.mark.parametrize("text", BAD_PORTS)
def test_bad_names_are_refused_and_good_ones_shown(text):
    with pytest.raises(UnknownName, match=r"is not a node or port name.*'a3\.h7'.*'a3\.h7\.q'"):
        Port.parse(text)


def test_a_port_is_not_a_node():
    with pytest.raises(UnknownName, match=r"'a3\.h7\.q' names a port, not a node: drop the 'q'"):
        Node.parse("a3.h7.q")


@pytest.mark.parametrize("text", ["", "a0.h1", "a->b->c", "a0.h1->m1->m2", "a0.h1-m1"])
def test_an_edge_name_has_one_arrow(text):
    with pytest.raises(UnknownName, match=r"not an edge name\. Write it like 'a0\.h1->a3\.h7\.q'"):
        Edge.parse(text)


@pytest.mark.parametrize("text", ["a0.h1->", "->m1", "->", "a0.h1->x", "x->m1"])
def test_both_ends_of_an_edge_are_names(text):
    with pytest.raises(UnknownName, match="is not a node or port name"):
        Edge.parse(text)


@pytest.mark.parametrize("text", ["a0.h1.q->a3.h7.q", "a0.h1.q->m0", "a0.h1.q->a0.h1.k"])
def test_a_port_does_not_send(text):
    with pytest.raises(UnknownName, match=r"only heads, .* switch .* 'a0\.h1\.q->a0\.h1'"):
        Edge.parse(text)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text("am0123456789.hqkv<>-[]:, _blocksinputlgeMLP R", max_size=30) | st.text(max_size=12))
@example("a" + "9" * 5000)
@example("m0->a1.h" + "9" * 5000)
def test_any_text_is_a_name_or_an_unknown_name(text):
    for kind in (Node, Port, Edge):
        try:
            thing = kind.parse(text)
        except EdgewiseError:
            continue
        assert kind.parse(thing.name) == thing
