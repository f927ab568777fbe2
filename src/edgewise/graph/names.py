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
from functools import lru_cache
from typing import Literal, NamedTuple, NewType, cast

from edgewise.errors import UnknownName

NodeKind = Literal["input", "tok_embed", "pos_embed", "head", "kv", "attention", "mlp", "logits"]
Slot = Literal["q", "k", "v"]
SLOTS: tuple[Slot, ...] = ("q", "k", "v")

# Names of what lies in a layer; the others are called by their kind.
_PRINTED = {"head": "a{}.h{}", "kv": "a{}.kv{}", "attention": "a{}", "mlp": "m{}"}

_LAYER, _HEAD = "(?P<layer>[0-9]{1,6})", "(?P<head>[0-9]{1,6})"
_SLOT, _ALL = r"(?:\.(?P<slot>[qkvQKV]))?", r"(?:\[(?:COL|:)\])?"
# What is read, by kind: our spellings, AutoCircuit's (in capitals), and the hook names that the
# original ACDC code takes from TransformerLens. EAP-IG's are ours, but for `<q>` in place of `.q`.
_READ: tuple[tuple[NodeKind, str], ...] = (
    ("head", rf"[aA]?{_LAYER}\.[hH]?{_HEAD}{_SLOT}"),
    ("attention", rf"[aA]{_LAYER}{_SLOT}"),
    ("mlp", rf"(?:[mM]|MLP ){_LAYER}"),
    ("kv", rf"a{_LAYER}\.kv{_HEAD}(?:\.(?P<slot>[kv]))?"),
    ("input", rf"input|Resid Start|blocks\.0\.hook_resid_pre{_ALL}"),
    ("tok_embed", rf"tok_embed|hook_embed{_ALL}"),
    ("pos_embed", rf"pos_embed|hook_pos_embed{_ALL}"),
    ("logits", rf"logits|Resid End|blocks\.[0-9]+\.hook_resid_post{_ALL}"),
    ("mlp", rf"blocks\.{_LAYER}\.hook_mlp_(?:in|out){_ALL}"),
    (
        "head",
        rf"blocks\.{_LAYER}(?:\.attn)?\.hook_(?:result|(?P<slot>[qkv])(?:_input)?)"
        rf"\[(?:COL|:), (?:COL|:), {_HEAD}\]",
    ),
)
_GRAMMAR = tuple((kind, re.compile(pattern)) for kind, pattern in _READ)


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
        return _PRINTED.get(self.kind, self.kind).format(self.layer, self.head)

    @classmethod
    def parse(cls, text: str) -> Node:
        """The node named `text`, in our spelling or another project's."""
        port = _parsed(text)
        if port.slot is not None:
            raise UnknownName(f"{text!r} names a port, not a node: drop the {port.slot!r}.")
        return port.node

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
        return _parsed(text)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Edge:
    """A sender and a port that reads it.

    An edge from a head to one of its own ports is that port's *switch* ("direct computation" in the
    paper): kept, the head uses the vector it computes there; removed, the ablation run's vector.
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
        source, target = _parsed(left), _parsed(right)
        left_span, right_span = source.node.span, target.node.span
        if left_span is None and right_span is not None:
            source = replace(source, node=replace(source.node, span=right_span))
        if right_span is None and left_span is not None:
            target = replace(target, node=replace(target.node, span=left_span))
        if source.slot is None:
            return cls(Sender(source.node), target)
        # The original ACDC names a switch from the port's input hook to its vector.
        if target not in (source, Port(source.node)):
            raise UnknownName(
                f"{text!r}: only heads, MLPs and embeddings send; {source.name!r} is a port. "
                f"The switch of that port is '{source.name}->{source.node.name}'."
            )
        return source.switch

    def __str__(self) -> str:
        return self.name


class Site(NamedTuple):
    """Where a model reads, at any granularity: all heads' q (or k, v), an MLP, the output."""

    layer: int | None
    what: Literal["q", "k", "v", "mlp", "logits"]


def _at(span: str | None) -> str:
    return "" if span is None else f"@{span}"


@lru_cache(maxsize=1 << 16)  # files name each port many times
def _parsed(text: str) -> Port:
    """What `text` names; a node is a port without a slot."""
    name, at, span = text.strip().partition("@")
    if at and not span:
        raise UnknownName(f"{text!r} names no span behind its '@'. Write it like 'a3.h7.q@S2'.")
    spelled = re.sub("<([qkv])>$", r".\1", name.strip())
    for kind, pattern in _GRAMMAR:
        if match := pattern.fullmatch(spelled):
            parts = match.groupdict()
            layer, head = (int(n) if (n := parts.get(p)) else None for p in ("layer", "head"))
            slot = (parts.get("slot") or "").lower() or None
            return Port(Node(layer, kind, head, span or None), cast("Slot | None", slot))
    raise UnknownName(
        f"{text!r} is not a node or port name. Names look like 'input', 'a3.h7', 'm3', 'logits' "
        "and, for ports, 'a3.h7.q'."
    )
