"""What heads do on a problem's prompts, told by where they look and what they write.

A rule of Wang et al. (2211.00593, section 3) in general form: a head has a role if it looks from
one named place of the prompt at another, and pushes the answer the way the role says. Where it
looks is its attention in a clean run, summed over the places looked at, averaged over the places
looked from and over prompts. What it writes is its direct effect: its output at the answer
positions, through the final norm (its denominator fixed) and the unembedding, on the logits of the
right answers minus those of the wrong ones. Heads may act through others; this does not see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.arguments import check_choice
from edgewise.data import NO_ANSWER, PromptPairs
from edgewise.errors import SettingError
from edgewise.evaluation.records import Record, written
from edgewise.graph import Node, Site
from edgewise.model import Model
from edgewise.model.positions import PromptPositions
from edgewise.model.runtime import CleanReader, run
from edgewise.patching import RecordingReader
from edgewise.problem import Problem
from edgewise.tables import Column, Table, count

Effect = Literal["raises", "lowers", "does not raise"]


@dataclass(frozen=True)
class Role:
    """A rule: a head that looks from `source` at `target`, both spans of the prompts.

    `source` None is every token but the first, `target` None the token before the one looked from.
    `effect` is what it must do to the logit difference directly; None: anything.
    """

    name: str
    source: str | None
    target: str | None
    effect: Effect | None = None

    def __str__(self) -> str:
        where = f"{self.source or 'each token'} → {self.target or 'the one before'}"
        return where if self.effect is None else f"{where}, {self.effect} the answer"

    def allows(self, effect: float | None, enough: float) -> bool:
        """Whether a head with this direct effect may have the role; None: not measured."""
        if self.effect is None or effect is None:
            return self.effect is None
        raises, lowers = effect >= enough, effect <= -enough
        return {"raises": raises, "lowers": lowers, "does not raise": not raises}[self.effect]


@dataclass(frozen=True)
class HeadRole:
    """The role of one head, and what it follows from."""

    head: str
    role: str
    attention: float  # the share of its attention that goes where the role says, 0 to 1
    effect: float | None  # its direct effect, in logits; None where no rule asks for it


@dataclass(frozen=True)
class HeadRoles(Record):
    """The heads that have a role, in the model's order."""

    heads: tuple[HeadRole, ...]
    roles: tuple[Role, ...]
    least_attention: float
    least_effect: float

    title = "Roles of heads"

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The names of the heads of each role that some head has."""
        named = {r.name: tuple(h.head for h in self.heads if h.role == r.name) for r in self.roles}
        return {name: heads for name, heads in named.items() if heads}

    @property
    def rule(self) -> str:
        """When a head is named, in a sentence or two."""
        rules = "; ".join(f"{r.name}: {r}" for r in self.roles if r.name in self.groups)
        text = f"at least {self.least_attention:.0%} of its attention goes where its role says"
        if any(role.effect for role in self.roles):
            text += (
                f", and it writes at least {self.least_effect:.0%} of the logit difference "
                "directly if it is to raise or lower the answer"
            )
        return f"A head is named if {text}. {rules}." if rules else f"A head is named if {text}."

    def sentences(self) -> tuple[str, ...]:
        """How many heads have a role, and by what rule."""
        return f"{count(len(self.heads), 'head')} of the circuit have a role.", self.rule

    def tables(self) -> tuple[Table, ...]:
        """The heads with their roles."""
        columns = (
            Column("head", "name"),
            Column("role"),
            Column("attention there", "share"),
            Column("direct effect", "number", "logits"),
        )
        rows = tuple((h.head, h.role, h.attention, h.effect) for h in self.heads)
        return (Table(self.title, columns, rows),)

    def to_json(self) -> dict[str, Any]:
        """Groups, rule and measurements, as a run keeps them."""
        return written({"groups": self.groups, "source": self.rule, "heads": self.heads})


def head_roles(
    problem: Problem,
    roles: Sequence[Role],
    *,
    nodes: Iterable[Node] | None = None,
    least_attention: float = 0.4,
    least_effect: float = 0.01,
) -> HeadRoles:
    """The role of each head (of those among `nodes`) by its behaviour on the clean prompts.

    A head that fits several rules gets the one that more of its attention obeys. `least_effect` is
    a share of the full model's mean logit difference. A head that fits none is left out. Raises
    `UnknownName` for a span that the prompts lack, `SettingError` where a rule asks for an effect
    and the prompts have no right or wrong answers.
    """
    spans = problem.pairs.spans or {}
    for role in roles:
        for name in (role.source, role.target):
            if name is not None:
                check_choice(f"span (of role {role.name!r})", name, spans)
        if role.effect and (problem.pairs.answers is None or problem.pairs.wrong is None):
            raise SettingError(
                f"the role {role.name!r} is about the logit difference, and the prompts lack "
                "right or wrong answers."
            )
    for what, share in (("least_attention", least_attention), ("least_effect", least_effect)):
        if not 0 < share <= 1:
            raise SettingError(f"{what} is {share!r}; it must be a share, above 0 and at most 1.")
    attention = _attention(problem, roles)
    effects = _direct_effects(problem) if any(role.effect for role in roles) else {}
    enough = least_effect * abs(sum(effects.values()))
    heads = [node for node in problem.model.graph.nodes if node.kind == "head"]
    results = []
    for node in heads if nodes is None else sorted(set(heads) & set(nodes), key=heads.index):
        effect = effects.get(node)
        fitting = [
            (attention[i, node.layer, node.head].item(), role.name)
            for i, role in enumerate(roles)
            if role.allows(effect, enough)
        ]
        most, name = max(fitting, key=lambda fit: fit[0], default=(0.0, ""))
        if name and most >= least_attention:
            results.append(HeadRole(node.name, name, most, effect))
    return HeadRoles(tuple(results), tuple(roles), least_attention, least_effect)


@torch.no_grad()
def _attention(problem: Problem, roles: Sequence[Role]) -> Float[Tensor, "role layer head"]:
    """The attention that obeys each role, per head: a mean over prompts, in float64."""
    model, config = problem.model, problem.model.config
    total = torch.zeros(len(roles), config.n_layers, config.n_heads, dtype=torch.float64)
    for pairs in problem.pairs.batches(problem.batch_size):
        tokens, real = pairs.clean.to(model.device), pairs.real.to(model.device)
        reader = RecordingReader(CleanReader())
        run(model, tokens, real, graph=model.graph, reader=reader)
        where = PromptPositions(model, real)
        weights = [_weights(role, pairs) for role in roles]
        for layer in range(config.n_layers):
            query, key = (reader.vectors[Site(layer, slot)] for slot in ("q", "k"))
            pattern = model.blocks[layer].patterns(query, key, where).double().cpu()
            for i, weight in enumerate(weights):
                total[i, layer] += torch.einsum("hbij,bij->h", pattern, weight)
    return total / len(problem.pairs)


def _weights(role: Role, pairs: PromptPairs) -> Float[Tensor, "batch pos pos"]:
    """Weights [batch, from, to] whose sum over a pattern is the attention of each prompt."""
    order = pairs.real.cumsum(dim=1)
    spans = pairs.spans or {}
    source = (pairs.real & (order > 1)) if role.source is None else spans[role.source]
    if role.target is None:
        at = pairs.real[:, :, None] & pairs.real[:, None, :]
        looked = at & (order[:, :, None] == order[:, None, :] + 1)
    else:
        looked = spans[role.target][:, None, :].expand(-1, source.shape[1], -1)
    share = source.double() / source.sum(dim=1, keepdim=True).clamp(min=1)
    return share[:, :, None] * looked


@torch.no_grad()
def _direct_effects(problem: Problem) -> dict[Node, float]:
    """Each sender's direct effect on the logit difference; their sum is all that senders say."""
    model, graph = problem.model, problem.model.graph
    total = torch.zeros(len(graph.senders), dtype=torch.float64)
    for pairs in problem.pairs.batches(problem.batch_size):
        tokens, real = pairs.clean.to(model.device), pairs.real.to(model.device)
        final, outputs = run(model, tokens, real, graph=graph, reader=CleanReader())
        answered = pairs.answer_at.to(model.device)
        along = _logit_difference(model, pairs)[:, None].expand_as(final)
        direction = model.linearised().final_norm.pullback(final, along[None])[0]
        weight = answered.double() / answered.sum(dim=1, keepdim=True)
        direction = direction * weight[..., None].to(direction)
        written = outputs.senders.dense()
        total += torch.einsum("sbpd,bpd->s", written, direction).double().cpu()
    effects = (total / len(problem.pairs)).tolist()
    return dict(zip(graph.senders, effects, strict=True))


def _logit_difference(model: Model, pairs: PromptPairs) -> Float[Tensor, "batch d_model"]:
    """What to look for behind the final norm: right answers, mean, minus wrong ones, mean."""
    assert pairs.answers is not None  # checked
    assert pairs.wrong is not None
    unembed = model.weights["unembed.W_U"].T.to(model.compute_dtype)

    def mean(ids: Tensor) -> Tensor:
        there: Bool[Tensor, "batch answer"] = (ids != NO_ANSWER).to(unembed.device)
        rows = unembed[ids.clamp(min=0).to(unembed.device)] * there[..., None]
        return rows.sum(dim=1) / there.sum(dim=1, keepdim=True)

    return mean(pairs.answers) - mean(pairs.wrong)
