"""The tests that set a circuit, or an edge of it, against random ones."""

from __future__ import annotations

from dataclasses import replace

from edgewise.circuit import Circuit
from edgewise.evaluation.circuit_bench import Bench
from edgewise.evaluation.hypothesis_results import EdgeTest, HypothesisTest, TestName
from edgewise.evaluation.proportions import corrected
from edgewise.evaluation.random_circuits import CircuitSampler
from edgewise.graph import Edge


def against_random(bench: Bench, quantile: float) -> list[HypothesisTest]:
    """Sufficiency and partial necessity, against the same random circuits."""
    from scipy.stats import binomtest

    sampler = CircuitSampler(bench.circuit.graph, bench.seed, 1)
    own, without = bench.far(bench.own), bench.far(bench.without)
    closer = worse = 0
    for _ in range(bench.n_random):
        other = sampler.paths(bench.circuit.n_edges)
        closer += own < bench.far(bench.losses(other))
        worse += without > bench.far(bench.losses(other.complement()))
    size = f"of {bench.circuit.n_edges} edges"
    counts: dict[TestName, tuple[int, str]] = {
        "sufficiency": (
            closer,
            f"the circuit is closer to the full model than a random circuit {size}",
        ),
        "partial necessity": (
            worse,
            f"removing the circuit moves the model further than removing a random one {size}",
        ),
    }
    return [
        HypothesisTest(
            name,
            f"{claim} with probability at most {quantile:g}",
            f"{claim} with probability above {quantile:g}",
            "share of the random circuits that are outdone",
            count / bench.n_random,
            float(binomtest(count, bench.n_random, quantile, alternative="greater").pvalue),
            bench.n_random,
            "random circuits",
            reject_is_good=True,
        )
        for name, (count, claim) in counts.items()
    ]


def minimality(
    bench: Bench, chosen: list[Edge], quantile: float
) -> tuple[list[EdgeTest], HypothesisTest]:
    """Each edge's effect in the circuit, among those of random edges added to it."""
    from scipy.stats import binomtest

    circuit, sampler = bench.circuit, CircuitSampler(bench.circuit.graph, bench.seed, 2)
    null = f"removing any edge matters more than removing a random one, for {quantile:g} of these"
    alternative = "some edge of the circuit matters no more than random ones"
    blank = HypothesisTest(
        "minimality",
        null,
        alternative,
        "smallest p-value of an edge",
        None,
        None,
        bench.n_random,
        "random circuits",
        reject_is_good=False,
    )
    random = []
    for _ in range(bench.n_random):
        drawn = sampler.inflated(circuit)
        if drawn is None or not chosen:
            why = "the circuit has every path" if chosen else "the circuit has no edges"
            return [], replace(blank, note=why)
        inflated, at = drawn
        keep = inflated.keep.clone()
        keep[at] = False
        pair = bench.losses(inflated), bench.losses(Circuit(circuit.graph, keep))
        random.append(abs(float(pair[1].mean() - pair[0].mean())))
    effects = [
        abs(float(bench.losses(circuit.without(edge)).mean() - bench.own.mean())) for edge in chosen
    ]
    larger = [sum(effect > other for other in random) for effect in effects]
    n = len(random)
    p_values = [float(binomtest(count, n, quantile, alternative="less").pvalue) for count in larger]
    adjusted = corrected(p_values, "holm")
    edges = [
        EdgeTest(edge, effect, count, n, p, both)
        for edge, effect, count, p, both in zip(
            chosen, effects, larger, p_values, adjusted, strict=True
        )
    ]
    return edges, replace(blank, statistic=min(p_values), p_value=min(adjusted))
