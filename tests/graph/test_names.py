"""Names: what is printed parses back, other projects' spellings are read, the rest refused."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgewise.errors import EdgewiseError, UnknownName
from edgewise.graph import Edge, Node, Port
from models import GRAPHS, GROUPED, SPANNED, fixed


@fixed
@given(GRAPHS | SPANNED | GROUPED)
def test_every_name_of_a_graph_parses_back(graph):
    assert [Node.parse(node.name) for node in graph.nodes] == list(graph.nodes)
    assert [Port.parse(port.name) for port in graph.receivers] == list(graph.receivers)
    assert [Edge.parse(edge.name) for edge in graph.edges] == list(graph.edges)


def test_the_spellings_of_the_design():
    head, layer = Node(3, "head", 7), Node(3, "attention")
    assert [Port(head, slot).name for slot in "qkv"] == ["a3.h7.q", "a3.h7.k", "a3.h7.v"]
    assert [head.name, layer.name, Node(3, "mlp").name] == ["a3.h7", "a3", "m3"]
    assert Edge(Node(0, "head", 1), Port(head, "q")).name == "a0.h1->a3.h7.q"
    assert Edge.parse("a0.h1->a3.h7.q@S2").sender == Node(0, "head", 1, "S2")
    switch = Edge(head, Port(head, "q"))  # written in the direction the data flows
    assert switch.is_switch
    assert switch.name == "a3.h7.q->a3.h7"
    assert Edge.parse("a3.h7->a3.h7.q") == Edge.parse("a3.h7.q->a3.h7") == switch
    assert Edge.parse("a3.v->a3") == Edge(layer, Port(layer, "v"))
    assert Edge.parse("a3.h7->a3.h7").is_switch  # the joined port


THEIRS = {
    # AutoCircuit
    "A10.11": "a10.h11",
    "A9.9.K": "a9.h9.k",
    "MLP 11": "m11",
    "A9.9->A10.7.Q": "a9.h9->a10.h7.q",
    "Resid Start->MLP 0": "input->m0",
    "MLP 0->Resid End": "m0->logits",
    # EAP-IG, MIB
    "  a9.h9 ": "a9.h9",
    "a3.h7<v>": "a3.h7.v",
    "input->a3.h7<q>": "input->a3.h7.q",
    "a0.h1->a1.kv0<v>": "a0.h1->a1.kv0.v",
    # the original ACDC
    "blocks.9.attn.hook_result[:, :, 9]": "a9.h9",
    "blocks.9.attn.hook_result[COL, COL, 9]": "a9.h9",
    "blocks.10.hook_k_input[:, :, 11]": "a10.h11.k",
    "blocks.3.hook_mlp_out": "m3",
    "blocks.3.hook_mlp_in[:]": "m3",
    "blocks.0.hook_resid_pre[:]": "input",
    "blocks.11.hook_resid_post[COL]": "logits",
    "hook_embed[:]": "tok_embed",
    "hook_pos_embed[:]->blocks.0.hook_mlp_in[:]": "pos_embed->m0",
    "blocks.9.attn.hook_result[:, :, 9]->blocks.10.hook_v_input[:, :, 7]": "a9.h9->a10.h7.v",
    # its switches (DIRECT_COMPUTATION): the q-input of a head, then its q vector
    "blocks.9.hook_q_input[:, :, 9]->blocks.9.attn.hook_q[:, :, 9]": "a9.h9.q->a9.h9",
}


@pytest.mark.parametrize("theirs", THEIRS)
def test_names_of_other_projects(theirs):
    kind = Edge if "->" in theirs else Port
    assert kind.parse(theirs).name == THEIRS[theirs]


PORTS = "|a|m|a3.h7.z|a3.h7<z>|a3.h7<q|a3.h|h3.7|a-1.h2|a1.h2.q.k|m3.q|input.q|Logits|mlp 3"
PORTS += "|a1.kv0.q|blocks.9.hook_q_input|blocks.9.hook_z_input[:, :, 9]|a3.h7 extra|a3.h7\nm3"


@pytest.mark.parametrize("text", [*PORTS.split("|"), "a0.h1->", "->m1", "->", "a0.h1->x"])
def test_what_is_no_name_is_refused_and_good_ones_are_shown(text):
    with pytest.raises(UnknownName, match=r"is not a node or port name.*'a3\.h7'.*'a3\.h7\.q'"):
        (Edge if "->" in text else Port).parse(text)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Node, "a3.h7.q", r"names a port, not a node: drop the 'q'"),
        (Edge, "a0.h1", r"not an edge name\. Write it like"),
        (Edge, "a0.h1->m1->m2", r"not an edge name\. Write it like"),
        (Edge, "a0.h1.q->a3.h7.q", r"only heads, .* switch .* 'a0\.h1\.q->a0\.h1'"),
        (Edge, "a0.h1.q->a0.h1.k", r"only heads, .* switch"),
        (Edge, "blocks.1.attn.hook_q[:, :, 0]->m1", "only heads, .* send"),
        (Edge, "input->m0@", "no span behind its '@'"),
    ],
)
def test_a_name_of_another_kind_is_explained(kind, text, message):
    with pytest.raises(UnknownName, match=message):
        kind.parse(text)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text("am0123456789.hqkv<>-[]:, _blocksinputlgeMLP R", max_size=30) | st.text(max_size=12))
@example("m0->a1.h" + "9" * 5000)
def test_any_text_is_a_name_or_an_unknown_name(text):
    for kind in (Node, Port, Edge):
        try:
            thing = kind.parse(text)
        except EdgewiseError:
            continue
        assert kind.parse(thing.name) == thing
