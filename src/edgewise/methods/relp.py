"""Relevance patching: attribution patching with a gentler backward pass (RelP, arXiv 2508.21258).

EAP's gradient goes through norms and activation functions as they bend at the clean run. RelP goes
through them as layer-wise relevance propagation does:

- norms: the denominator is a constant (LN rule);
- activation functions: f(x) = x * (f(x)/x) with the ratio a constant (identity rule).

Everything else, and the scores made of it, are EAP's. Forward values do not change.

Where we differ: the authors also take attention patterns as constants, which leaves queries and
keys without relevance; here the softmax keeps its gradient, so that edges into them have scores.
What it is worth beside EAP is in docs/methods.md.
"""

from __future__ import annotations

from dataclasses import replace

from edgewise.methods.eap import eap
from edgewise.methods.method_result import MethodResult
from edgewise.methods.settings import SelectionSettings
from edgewise.problem import Problem
from edgewise.progress import OnProgress, ignore_progress


def relp(
    problem: Problem,
    settings: SelectionSettings,
    on_progress: OnProgress = ignore_progress,
) -> MethodResult:
    """Scores of the linearised backward pass. Raises `MetricError`."""
    linear = problem.with_(model=problem.model.linearised())
    result = eap(linear, SelectionSettings(), on_progress, method="relp")
    work = problem.evaluator(problem.graph).work  # what the other model cost was for this problem
    forward, backward = linear.passes()
    work.forward_passes += forward
    work.backward_passes += backward
    return replace(result, circuit=settings.circuit(result.scores))
