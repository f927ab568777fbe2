"""Information flow routes (Ferrando & Voita 2024, arXiv 2403.00824), as scores of edges.

A receiver reads y = sum of what its senders write. How much of y does one sender z bring? The
proximity of z to y,

    proximity(z, y) = max(0, |y|_1 - |y - z|_1),

normalised over the senders of a receiver so that they sum to 1, at every position; the score is the
mean over prompts and positions (those of the edge's span, where spans are apart). One forward pass
on the clean prompts, no metric, no ablation.

Where we differ: the authors go backwards from the output and multiply or prune along the way; here
each edge has its local share, as in EAP-IG's package, and `select="greedy"` grows the circuit
backwards from the output. All ports of a layer read the same clean stream, so their shares are
equal; a head's switch, which is no part of a sum, scores 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import EdgeScores
from edgewise.methods.gradients import clean_run
from edgewise.methods.method_result import MethodResult
from edgewise.methods.session import QUIET, Session
from edgewise.methods.settings import SelectionSettings
from edgewise.problem import Problem


def information_flow(
    problem: Problem, settings: SelectionSettings, session: Session = QUIET
) -> MethodResult:
    """Each sender's share in what each port reads."""
    graph = problem.graph
    done = 0
    whole = graph.whole
    additive = whole.exists & ~whole.is_switch
    values = torch.zeros(len(graph.spans or [None]), *whole.exists.shape, dtype=torch.float64)
    counts = additive.sum(dim=0)  # senders come in the order of computation: the first n send
    for pairs in problem.pairs.batches(problem.batch_size):
        clean = clean_run(problem, pairs)
        senders = clean.senders.dense()
        spans = clean.spans.to(senders)
        weight = spans / spans.sum(dim=2, keepdim=True).clamp(min=1)  # a mean over real positions
        for n in counts.unique().tolist():
            columns = counts == n
            shares = torch.einsum("nbp,sbp->sn", _shares(senders[:n]), weight).double().cpu()
            values[:, :n, columns] += shares[:, :, None]
        done += len(pairs)
        session.tell(done, len(problem.pairs), "prompts")
    values = graph.of_spans((values / len(problem.pairs)).where(additive, 1.0))
    scores = EdgeScores(graph, values, "information-flow", "share in what the receiver reads")
    return MethodResult(settings.circuit(scores), scores)


def _shares(
    senders: Float[Tensor, "sender batch pos d_model"],
) -> Float[Tensor, "sender batch pos"]:
    """Each sender's share of their sum; none if nothing points the sum's way."""
    y = senders.sum(dim=0)
    size = y.abs().sum(dim=-1)
    near = torch.stack([(size - (y - z).abs().sum(dim=-1)).clamp(min=0) for z in senders])
    return near / near.sum(dim=0).clamp(min=torch.finfo(near.dtype).tiny)
