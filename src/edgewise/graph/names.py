"""Names of nodes, ports and edges: one spelling is printed, the field's other spellings are read.

node   input  tok_embed  pos_embed  a3.h7 (head)  a3 (whole attention layer)  m3  logits
       a3.kv1 (key/value head of grouped-query attention: it reads for a group of heads)
port   a3.h7.q  a3.h7.k  a3.h7.v  a3.h7 (joined)  a3.q …  a3.kv1.k  a3.kv1.v  m3  logits
edge   a0.h1->a3.h7.q  a0.h1->a3.kv1.k
switch a3.h7.q->a3.h7    the paper's "direct computation" edge: is the port's own vector live?

At the granularity of named spans of positions a name ends with its span: a3.h7@S2, a3.h7.q@S2 and,
because the residual stream does not leave its position, once for both ends: a0.h1->a3.h7.q@S2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, NewType

from edgewise.errors import UnknownName

NodeKind = Literal["input", "tok_embed", "pos_embed", "head", "kv", "attention", "mlp", "logits"]
Slot = Literal["q", "k", "v"]
SLOTS: tuple[Slot, ...] = ("q", "k", "v")
# Names of what lies in a layer; the others are called by their kind.
_PARTS: dict[NodeKind, str] = {
    "head": "a{layer}.h{head}",
    "kv": "a{layer}.kv{head}",
    "attention": "a{layer}",
    "mlp": "m{layer}",
}


@dataclass(frozen=True)
class Node:
    """Something that computes: the embedding(s), a head or attention layer, an MLP, the output.

    `layer` is None for embeddings and logits; `head` is None for everything but heads. A "kv" node
    reads keys and values for a group of query heads and writes nothing itself. `span` is the named
    span of positions at which it is meant; None for all positions together.
    """

    layer: int | None
    kind: NodeKind
    head: int | None = None
    span: str | None = None

    @property
    def name(self) -> str:
        return self.part + _at(self.span)

    @property
    def part(self) -> str:
        """The name without the span."""
        return _PARTS.get(self.kind, self.kind).format(layer=self.layer, head=self.head)

    @classmethod
    def parse(cls, text: str) -> Node:
        """The node named `text`, in our spelling or one of `_FOREIGN_NODES`."""
        node, slot = _parse(text)
        if slot is not None:
            raise UnknownName(f"{text!r} names a port, not a node: drop the {slot!r}.")
        return node

    def __str__(self) -> str:
        return self.name


# A node that writes to the residual stream. Nodes of circuits and ports need not: a key/value head
# writes nothing (`Graph.group` has the heads that do), nor does the output.
Sender = NewType("Sender", Node)


@dataclass(frozen=True)
class Port:
    """Where a node reads the residual stream; `slot` is q, k or v for heads that read thrice."""

    node: Node
    slot: Slot | None = None

    @property
    def name(self) -> str:
        return self.part + _at(self.node.span)

    @property
    def part(self) -> str:
        """The name without the span."""
        return self.node.part if self.slot is None else f"{self.node.part}.{self.slot}"

    @property
    def switch(self) -> Edge:
        """Its switch: the edge from its own node, in graphs that have switches."""
        return Edge(Sender(self.node), self)

    @classmethod
    def parse(cls, text: str) -> Port:
        """The port named `text`; also `a3.h7<q>` (EAP-IG) and the original ACDC's hook names."""
        node, slot = _parse(text)
        return cls(node, slot)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Edge:
    """A sender and a port that reads it.

    An edge from a head to one of its own ports is that port's *switch* (spec "direct computation"):
    kept, the head uses the vector it computes there; removed, it uses the ablation run's vector.
    """

    sender: Sender
    receiver: Port

    @property
    def is_switch(self) -> bool:
        return self.sender == self.receiver.node

    @property
    def name(self) -> str:
        if self.is_switch:  # written in the direction the data flows: port, then head
            return f"{self.receiver.part}->{self.sender.name}"
        return f"{self.sender.part}->{self.receiver.name}"

    @classmethod
    def parse(cls, text: str) -> Edge:
        """The edge named `text`: two names joined by `->`, each in any spelling we read.

        The span of one end is that of the other, unless it has its own.
        """
        left, arrow, right = text.partition("->")
        if not arrow or "->" in right:
            raise UnknownName(f"{text!r} is not an edge name. Write it like 'a0.h1->a3.h7.q'.")
        if _ACDC_VECTOR.fullmatch(left.strip()):
            raise UnknownName(
                f"{text!r} is a placeholder edge of the original ACDC code, which always exists. "
                "Its switch edges run from 'hook_q_input' to 'hook_q'."
            )
        source, target = Port.parse(left), Port.parse(right)
        left_span, right_span = source.node.span, target.node.span
        source = _at_span(source, left_span or right_span)
        target = _at_span(target, right_span or left_span)
        if source.slot is not None:
            # The original ACDC names a switch from the port's input hook to its vector.
            if source != target and (source.node != target.node or target.slot is not None):
                raise UnknownName(
                    f"{text!r}: only heads, MLPs and embeddings send; {source.name!r} is a port. "
                    f"The switch of that port is '{source.name}->{source.node.name}'."
                )
            return source.switch
        return cls(Sender(source.node), target)

    def __str__(self) -> str:
        return self.name


class Site(NamedTuple):
    """Where a model reads, at any granularity: all heads' q (or k, v), an MLP, the output."""

    layer: int | None
    what: Literal["q", "k", "v", "mlp", "logits"]

    @property
    def slot(self) -> Slot | None:
        """Which of a head's ports; None for all else."""
        return self.what if self.what in ("q", "k", "v") else None


_HEAD = r"[aA]?(?P<layer>[0-9]{1,6})\.[hH]?(?P<head>[0-9]{1,6})"
_SLOT = r"(?:\.(?P<slot>[qkvQKV])|<(?P<angle>[qkv])>)?"
_KV = re.compile(
    r"a(?P<layer>[0-9]{1,6})\.kv(?P<head>[0-9]{1,6})(?:\.(?P<slot>[kv])|<(?P<angle>[kv])>)?"
)
_OURS = re.compile(rf"(?:{_HEAD}|[aA](?P<attention>[0-9]{{1,6}})){_SLOT}")
_MLP = re.compile(r"(?:[mM]|MLP )(?P<layer>[0-9]{1,6})")
_WORDS: dict[str, NodeKind] = {
    "input": "input",
    "tok_embed": "tok_embed",
    "pos_embed": "pos_embed",
    "logits": "logits",
    # AutoCircuit
    "Resid Start": "input",
    "Resid End": "logits",
    # the original ACDC code (hook names of TransformerLens)
    "blocks.0.hook_resid_pre": "input",
    "hook_embed": "tok_embed",
    "hook_pos_embed": "pos_embed",
}
_ACDC_HEAD = re.compile(
    r"blocks\.(?P<layer>[0-9]{1,6})(?:\.attn)?\.hook_(?P<what>result|[qkv]|[qkv]_input)"
    r"\[(?:COL|:), (?:COL|:), (?P<head>[0-9]{1,6})\]"
)
_ACDC_VECTOR = re.compile(r"blocks\.[0-9]+\.attn\.hook_[qkv]\[.*\]")
_ACDC_MLP = re.compile(r"blocks\.(?P<layer>[0-9]{1,6})\.hook_mlp_(?:in|out)(?:\[(?:COL|:)\])?")
_ACDC_OUTPUT = re.compile(r"blocks\.\d+\.hook_resid_post(?:\[(?:COL|:)\])?")


def _at(span: str | None) -> str:
    return "" if span is None else f"@{span}"


def _at_span(port: Port, span: str | None) -> Port:
    return replace(port, node=replace(port.node, span=span))


def _parse(text: str) -> tuple[Node, Slot | None]:
    name, at, span = text.strip().partition("@")
    if at and not span:
        raise UnknownName(f"{text!r} names no span behind its '@'. Write it like 'a3.h7.q@S2'.")
    node, slot = _parse_part(name.strip())
    return (replace(node, span=span) if at else node), slot


def _parse_part(text: str) -> tuple[Node, Slot | None]:
    if kind := _WORDS.get(text.removesuffix("[:]").removesuffix("[COL]")):
        return Node(None, kind), None
    if match := _KV.fullmatch(text):
        slot = _slot(match["slot"] or match["angle"])
        return Node(int(match["layer"]), "kv", int(match["head"])), slot
    if match := _OURS.fullmatch(text):
        slot = _slot(match["slot"] or match["angle"])
        if match["attention"] is not None:
            return Node(int(match["attention"]), "attention"), slot
        return Node(int(match["layer"]), "head", int(match["head"])), slot
    if match := _MLP.fullmatch(text) or _ACDC_MLP.fullmatch(text):
        return Node(int(match["layer"]), "mlp"), None
    if match := _ACDC_HEAD.fullmatch(text):
        what = match["what"]
        slot = None if what == "result" else _slot(what[0])
        return Node(int(match["layer"]), "head", int(match["head"])), slot
    if _ACDC_OUTPUT.fullmatch(text):
        return Node(None, "logits"), None
    raise UnknownName(
        f"{text!r} is not a node or port name. Names look like 'input', 'a3.h7', 'm3', 'logits' "
        "and, for ports, 'a3.h7.q'."
    )


def _slot(letter: str | None) -> Slot | None:
    slots: dict[str | None, Slot] = {slot: slot for slot in SLOTS}
    return slots.get(letter and letter.lower())
