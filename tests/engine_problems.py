"""Problems that differ from their neighbours in every respect, for comparisons of engines."""

import pytest

import edgewise as ew
from edgewise.metrics import METRICS
from models import SHAPES, random_model, random_pairs

CAPS = {"attention_cap": 2.0, "logit_cap": 3.0}
# Norms over all heads, and what else the families have that bring them.
MIXED = {
    "gemma 2": {"post_norm": True, "norm": "rmsnorm-offset", "windows": (3, 0), **CAPS},
    "gemma 3": {"post_norm": True, "qk_norm": "head", "norm": "rmsnorm-offset", "gated": True},
    "olmo 2": {"post_norm": True, "qk_norm": "layer", "pre_norm": False, "norm": "rmsnorm"},
    "olmoe": {"qk_norm": "layer", "norm": "rmsnorm"},
    "parallel, both ways": {
        "post_norm": True, "qk_norm": "layer", "norm": "rmsnorm", "parallel": True, "causal": False,
    },
}  # fmt: skip
ABLATIONS = ("corrupted", "zero", "mean", "mean-positional")
_GRANULARITIES = (
    {},
    {"switches": True},
    {"split_qkv": False},
    {"split_qkv": False, "switches": True},
    {"split_heads": False},
    {"split_heads": False, "split_qkv": False, "switches": True},
    {"split_embed": True, "switches": True},
)
_MIXED_GRANULARITIES = (
    {},
    {"ungroup_heads": True, "switches": True},
    {"split_qkv": False, "switches": True},
    {"split_heads": False, "switches": True},
    {"split_heads": False, "split_qkv": False},
)
_SPANS = {"early": [[0, 1], [0], [0, 1]], "late": [[2, 3], [1, 2], [2, 3]]}


def random_problem(seed):
    """A problem of a seed, and an ACDC call for it."""

    def pick(choices, stride):
        return list(choices)[seed // stride % len(choices)]

    shape = SHAPES[pick(SHAPES, 1)]
    model = random_model(seed, **shape)
    options = pick(_GRANULARITIES, 2)
    if not model.config.adds_positions:
        options = {**options, "split_embed": False}
    lengths = pick(([6, 6, 6], [6, 3, 5], [4, 6, 2, 5]), 3)
    padding = pick(("right", "left"), 5)
    positions = pick((None, [0] * len(lengths), [[0, -1]] * len(lengths)), 7)
    pairs = random_pairs(model, seed, lengths=lengths, padding=padding, answer_positions=positions)
    metric = pick(METRICS, 1)
    problem = ew.Problem(
        model,
        pairs,
        metric,
        pick(ABLATIONS, 1),
        graph=ew.Graph.of(model, **options),
        batch_size=pick((None, 2), 11),
    )
    threshold = _scale(problem) * pick((0.001, 0.01, 0.05, 0.3), 3)
    order = pick(("descending", "ascending"), 2)
    return problem, {"threshold": threshold, "head_order": order, "absolute": seed % 13 == 0}


def mixed_problem(case, seed, **how):
    """A problem of a case, at the granularity, grouping, ablation and padding of a seed."""
    model = random_model(seed, n_heads=4, n_kv_heads=(2, 4, 1)[seed % 3], **MIXED[case])
    graph = {**_MIXED_GRANULARITIES[seed % len(_MIXED_GRANULARITIES)]}
    spans = _SPANS if seed % 4 == 3 else None
    if spans:
        graph["spans"] = tuple(spans)
    pairs = random_pairs(
        model, seed, lengths=[4, 3, 5], padding=("right", "left")[seed % 2], spans=spans
    )
    metric, ablation = ("kl", "logit-diff", "nll")[seed % 3], ABLATIONS[seed % 4]
    graph = ew.Graph.of(model, **graph)
    how = {"batch_size": (None, 2)[seed // 2 % 2], "graph": graph, "metric": metric, **how}
    return ew.Problem(model, pairs, ablation=ablation, **how)


def threshold_of(problem, seed):
    """One that some edges of a random model stay at."""
    return _scale(problem) * (0.001, 0.01, 0.05)[seed % 3]


def _scale(problem):
    full, empty = problem.baselines()
    return max(abs(full - empty), 0.1)


def decisions(run):
    """Which edges a run tested, in order, and which it kept."""
    return [(d.edge, d.kept) for d in run.trace]


def assert_same_trace(run, plain):
    """The same decisions and circuit; deltas and losses up to rounding."""
    assert decisions(run) == decisions(plain)
    assert run.circuit == plain.circuit
    assert run.cost.edges_skipped == plain.cost.edges_skipped
    for ours, theirs in zip(run.trace, plain.trace, strict=True):
        assert ours.delta == pytest.approx(theirs.delta, abs=1e-9)
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-9)


def check_against_plain(problem, **settings):
    """Both engines do the same; returns the circuit."""
    fast, slow = (ew.acdc(problem, engine=e, **settings) for e in ("incremental", "plain"))
    assert_same_trace(fast, slow)
    return fast.circuit
