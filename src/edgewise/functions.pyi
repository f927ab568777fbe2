"""A function for each discovery method. Written by scripts/write_stub.py."""

from pathlib import Path
from typing import Literal

from edgewise.problem import Problem
from edgewise.progress import OnProgress
from edgewise.run import Run

__all__ = [
    "acdc",
    "acdc_bisect",
    "acdc_ordered",
    "acdc_screened",
    "acdc_test",
    "atp_star",
    "clean_corrupted",
    "eap",
    "eap_ig",
    "edge_pruning",
    "exact",
    "hisp",
    "information_flow",
    "magnitude",
    "random_scores",
    "relp",
    "sp",
    "sp_edges",
    "ugs",
]

def acdc(
    problem: Problem,
    *,
    threshold: float,
    head_order: Literal["descending", "ascending"] = "descending",
    absolute: bool = False,
    prune: bool = False,
    engine: Literal["incremental", "plain"] = "incremental",
    precision: Literal["full", "reduced"] = "full",
    verify: bool = False,
    on_progress: OnProgress = ...,
    journal: str | Path | None = None,
) -> Run:
    """Remove edges one at a time, from the output backwards, as the loss allows.

    Paper: Conmy et al. 2023, arXiv 2304.14997; how it works is in `edgewise.methods.acdc`.
    Returns: a run with a circuit, a decision per tested edge, deltas as scores.
    Needs: any metric.
    Costs: one test per edge that is still read; only what the edge changes is recomputed.
    When: you want the paper's circuit, exactly, and a reason for every edge.

    `threshold`: Remove an edge if the loss rises by less than this (the paper's τ).
    `head_order`: Order of sending heads within a layer: descending or ascending.
    `absolute`: Compare the size of the change, not the rise: keep edges whose removal helps
        much.
    `prune`: Drop nodes that connect no input to the output (corrupted ablation only).
    `engine`: How edges are tested: incremental (fast) or plain; the decisions are the same.
    `precision`: full, or reduced: kl by bfloat16 products, close decisions in full.
    `verify`: Take every decision from scratch as well, and stop if one differs (slow).
    `journal`: A folder from which a stopped run resumes; see `discover`.
    """

def eap(
    problem: Problem,
    *,
    edges: int | None = None,
    share: float | None = None,
    above: float | None = None,
    nodes: int | None = None,
    select: Literal["top", "greedy"] = "top",
    by: Literal["absolute", "signed"] = "absolute",
    on_progress: OnProgress = ...,
) -> Run:
    """Edge attribution patching: every edge's effect to first order.

    Paper: Syed et al. 2023, arXiv 2310.10348; how it works is in `edgewise.methods.eap`.
    Returns: a run with a score per edge, and the circuit of the best.
    Needs: a metric with a gradient that is not zero at the clean run: not kl, not l2.
    Costs: two forward passes and one backward pass.
    When: a first look at a large model; not with kl or l2, whose gradient is zero there.

    `edges`: Keep this many edges.
    `share`: Keep this share of the edges (0.1 if nothing else is said).
    `above`: Keep edges that score at least this.
    `nodes`: Keep this many heads and MLPs, by the sum of the scores of the edges out of them,
        and every edge between what is kept.
    `select`: top: the best edges; greedy: the best that lead on to the output.
    `by`: Rank by absolute score (a circuit's opponents belong to it), or by signed score.
    """

def eap_ig(
    problem: Problem,
    *,
    edges: int | None = None,
    share: float | None = None,
    above: float | None = None,
    nodes: int | None = None,
    select: Literal["top", "greedy"] = "top",
    by: Literal["absolute", "signed"] = "absolute",
    steps: int = 5,
    over: Literal["inputs", "activations"] = "inputs",
    points: Literal["left", "midpoints"] = "left",
    on_progress: OnProgress = ...,
) -> Run:
    """Edge attribution patching with integrated gradients.

    Paper: Hanna et al. 2024, arXiv 2403.17806; how it works is in `edgewise.methods.eap`.
    Returns: a run with a score per edge, and the circuit of the best.
    Needs: a metric with a gradient.
    Costs: per step a forward and a backward pass, and two forward passes; over activations that
        for every layer.
    When: the best scores for their price, with any metric.

    `edges`: Keep this many edges.
    `share`: Keep this share of the edges (0.1 if nothing else is said).
    `above`: Keep edges that score at least this.
    `nodes`: Keep this many heads and MLPs, by the sum of the scores of the edges out of them,
        and every edge between what is kept.
    `select`: top: the best edges; greedy: the best that lead on to the output.
    `by`: Rank by absolute score (a circuit's opponents belong to it), or by signed score.
    `steps`: Points on the way from the ablation to the clean input.
    `over`: What is interpolated: the input embeddings, or one layer's outputs after the other.
    `points`: left: k/steps for k = 0 … steps-1, as published; midpoints: (k + 1/2)/steps,
        closer to the integral.
    """

def clean_corrupted(
    problem: Problem,
    *,
    edges: int | None = None,
    share: float | None = None,
    above: float | None = None,
    nodes: int | None = None,
    select: Literal["top", "greedy"] = "top",
    by: Literal["absolute", "signed"] = "absolute",
    on_progress: OnProgress = ...,
) -> Run:
    """Edge attribution patching, gradients at the clean and at the ablation input.

    Paper: Hanna et al. 2024, arXiv 2403.17806 (a baseline there); how it works is in
        `edgewise.methods.eap`.
    Returns: a run with a score per edge, and the circuit of the best.
    Needs: a metric with a gradient.
    Costs: four forward passes and two backward passes.
    When: eap with a metric whose gradient vanishes at the clean run, for twice its price.

    `edges`: Keep this many edges.
    `share`: Keep this share of the edges (0.1 if nothing else is said).
    `above`: Keep edges that score at least this.
    `nodes`: Keep this many heads and MLPs, by the sum of the scores of the edges out of them,
        and every edge between what is kept.
    `select`: top: the best edges; greedy: the best that lead on to the output.
    `by`: Rank by absolute score (a circuit's opponents belong to it), or by signed score.
    """

def exact(
    problem: Problem,
    *,
    edges: int | None = None,
    share: float | None = None,
    above: float | None = None,
    nodes: int | None = None,
    select: Literal["top", "greedy"] = "top",
    by: Literal["absolute", "signed"] = "absolute",
    on_progress: OnProgress = ...,
) -> Run:
    """Every edge removed alone from the full model.

    Paper: what the attribution methods approximate; how it works is in
        `edgewise.methods.exact`.
    Returns: a run with a score per edge, and the circuit of the best.
    Needs: any metric.
    Costs: one evaluation per edge, batched; only what the edge changes is recomputed.
    When: the truth about single edges, and a yardstick for attribution.

    `edges`: Keep this many edges.
    `share`: Keep this share of the edges (0.1 if nothing else is said).
    `above`: Keep edges that score at least this.
    `nodes`: Keep this many heads and MLPs, by the sum of the scores of the edges out of them,
        and every edge between what is kept.
    `select`: top: the best edges; greedy: the best that lead on to the output.
    `by`: Rank by absolute score (a circuit's opponents belong to it), or by signed score.
    """

def atp_star(
    problem: Problem,
    *,
    edges: int | None = None,
    share: float | None = None,
    above: float | None = None,
    nodes: int | None = None,
    select: Literal["top", "greedy"] = "top",
    by: Literal["absolute", "signed"] = "absolute",
    on_progress: OnProgress = ...,
) -> Run:
    """eap, with the attention patterns that patched queries and keys really give.

    Paper: Kramár et al. 2024, arXiv 2403.00745; how it works is in `edgewise.methods.atp`.
    Returns: a run with a score per edge, and the circuit of the best.
    Needs: a metric with a gradient that is not zero at the clean run: not kl, not l2; a graph
        with split_qkv.
    Costs: two forward passes and one backward pass; per layer and sender two projections.
    When: eap misses edges into saturated attention.

    `edges`: Keep this many edges.
    `share`: Keep this share of the edges (0.1 if nothing else is said).
    `above`: Keep edges that score at least this.
    `nodes`: Keep this many heads and MLPs, by the sum of the scores of the edges out of them,
        and every edge between what is kept.
    `select`: top: the best edges; greedy: the best that lead on to the output.
    `by`: Rank by absolute score (a circuit's opponents belong to it), or by signed score.
    """

def relp(
    problem: Problem,
    *,
    edges: int | None = None,
    share: float | None = None,
    above: float | None = None,
    nodes: int | None = None,
    select: Literal["top", "greedy"] = "top",
    by: Literal["absolute", "signed"] = "absolute",
    on_progress: OnProgress = ...,
) -> Run:
    """eap through norms and activations that are held constant.

    Paper: RelP, arXiv 2508.21258; how it works is in `edgewise.methods.eap`.
    Returns: a run with a score per edge, and the circuit of the best.
    Needs: a metric with a gradient that is not zero at the clean run: not kl, not l2.
    Costs: two forward passes and one backward pass.
    When: comparing attributions; see docs/methods.md for where it helps.

    `edges`: Keep this many edges.
    `share`: Keep this share of the edges (0.1 if nothing else is said).
    `above`: Keep edges that score at least this.
    `nodes`: Keep this many heads and MLPs, by the sum of the scores of the edges out of them,
        and every edge between what is kept.
    `select`: top: the best edges; greedy: the best that lead on to the output.
    `by`: Rank by absolute score (a circuit's opponents belong to it), or by signed score.
    """

def information_flow(
    problem: Problem,
    *,
    edges: int | None = None,
    share: float | None = None,
    above: float | None = None,
    nodes: int | None = None,
    select: Literal["top", "greedy"] = "top",
    by: Literal["absolute", "signed"] = "absolute",
    on_progress: OnProgress = ...,
) -> Run:
    """Each sender's share in what a receiver reads.

    Paper: Ferrando & Voita 2024, arXiv 2403.00824; how it works is in
        `edgewise.methods.information_flow`.
    Returns: a run with a score per edge, and the circuit of the best.
    Needs: clean prompts alone; metric and ablation play no part.
    Costs: one forward pass.
    When: there is no metric and no corrupted prompt.

    `edges`: Keep this many edges.
    `share`: Keep this share of the edges (0.1 if nothing else is said).
    `above`: Keep edges that score at least this.
    `nodes`: Keep this many heads and MLPs, by the sum of the scores of the edges out of them,
        and every edge between what is kept.
    `select`: top: the best edges; greedy: the best that lead on to the output.
    `by`: Rank by absolute score (a circuit's opponents belong to it), or by signed score.
    """

def magnitude(
    problem: Problem,
    *,
    edges: int | None = None,
    share: float | None = None,
    above: float | None = None,
    nodes: int | None = None,
    select: Literal["top", "greedy"] = "top",
    by: Literal["absolute", "signed"] = "absolute",
    on_progress: OnProgress = ...,
) -> Run:
    """How much what a sender writes would change.

    Paper: a baseline; how it works is in `edgewise.methods.baselines`.
    Returns: a run with a score per edge, and the circuit of the best.
    Needs: an ablation; the metric plays no part.
    Costs: two forward passes.
    When: showing what a method adds to it.

    `edges`: Keep this many edges.
    `share`: Keep this share of the edges (0.1 if nothing else is said).
    `above`: Keep edges that score at least this.
    `nodes`: Keep this many heads and MLPs, by the sum of the scores of the edges out of them,
        and every edge between what is kept.
    `select`: top: the best edges; greedy: the best that lead on to the output.
    `by`: Rank by absolute score (a circuit's opponents belong to it), or by signed score.
    """

def random_scores(
    problem: Problem,
    *,
    edges: int | None = None,
    share: float | None = None,
    above: float | None = None,
    nodes: int | None = None,
    select: Literal["top", "greedy"] = "top",
    by: Literal["absolute", "signed"] = "absolute",
    seed: int = 0,
    on_progress: OnProgress = ...,
) -> Run:
    """Random scores.

    Paper: a baseline; how it works is in `edgewise.methods.baselines`.
    Returns: a run with a score per edge, and the circuit of the best.
    Needs: nothing but the graph.
    Costs: nothing.
    When: showing what chance gives.

    `edges`: Keep this many edges.
    `share`: Keep this share of the edges (0.1 if nothing else is said).
    `above`: Keep edges that score at least this.
    `nodes`: Keep this many heads and MLPs, by the sum of the scores of the edges out of them,
        and every edge between what is kept.
    `select`: top: the best edges; greedy: the best that lead on to the output.
    `by`: Rank by absolute score (a circuit's opponents belong to it), or by signed score.
    `seed`: Seed of everything drawn at random.
    """

def acdc_ordered(
    problem: Problem,
    *,
    threshold: float,
    head_order: Literal["descending", "ascending"] = "descending",
    absolute: bool = False,
    prune: bool = False,
    engine: Literal["incremental", "plain"] = "incremental",
    precision: Literal["full", "reduced"] = "full",
    verify: bool = False,
    attribution: Literal["eap-ig", "eap", "clean-corrupted", "exact", "atp-star"] = "eap-ig",
    on_progress: OnProgress = ...,
    journal: str | Path | None = None,
) -> Run:
    """ACDC that tests each receiver's least attributed edge first.

    Paper: a hybrid of Conmy et al. 2023 (arXiv 2304.14997) and attribution; how it works is in
        `edgewise.methods.hybrids`.
    Returns: a run with a circuit, a decision per tested edge, deltas as scores.
    Needs: what the attribution needs.
    Costs: as acdc, and the attribution.
    When: acdc's answer should not depend on the numbering of heads.

    `threshold`: Remove an edge if the loss rises by less than this (the paper's τ).
    `head_order`: Order of sending heads within a layer: descending or ascending.
    `absolute`: Compare the size of the change, not the rise: keep edges whose removal helps
        much.
    `prune`: Drop nodes that connect no input to the output (corrupted ablation only).
    `engine`: How edges are tested: incremental (fast) or plain; the decisions are the same.
    `precision`: full, or reduced: kl by bfloat16 products, close decisions in full.
    `verify`: Take every decision from scratch as well, and stop if one differs (slow).
    `attribution`: The method whose scores say which edges matter least.
    `journal`: A folder from which a stopped run resumes; see `discover`.
    """

def acdc_screened(
    problem: Problem,
    *,
    threshold: float,
    head_order: Literal["descending", "ascending"] = "descending",
    absolute: bool = False,
    prune: bool = False,
    engine: Literal["incremental", "plain"] = "incremental",
    precision: Literal["full", "reduced"] = "full",
    verify: bool = False,
    attribution: Literal["eap-ig", "eap", "clean-corrupted", "exact", "atp-star"] = "eap-ig",
    screen: float = 0.8,
    on_progress: OnProgress = ...,
    journal: str | Path | None = None,
) -> Run:
    """ACDC on what is left without the least attributed edges.

    Paper: a hybrid of Conmy et al. 2023 (arXiv 2304.14997) and attribution; how it works is in
        `edgewise.methods.hybrids`.
    Returns: a run with a circuit, a decision per tested edge, deltas as scores.
    Needs: what the attribution needs.
    Costs: the attribution, and a test per edge of the rest that is still read.
    When: a large model, and most edges surely do not matter.

    `threshold`: Remove an edge if the loss rises by less than this (the paper's τ).
    `head_order`: Order of sending heads within a layer: descending or ascending.
    `absolute`: Compare the size of the change, not the rise: keep edges whose removal helps
        much.
    `prune`: Drop nodes that connect no input to the output (corrupted ablation only).
    `engine`: How edges are tested: incremental (fast) or plain; the decisions are the same.
    `precision`: full, or reduced: kl by bfloat16 products, close decisions in full.
    `verify`: Take every decision from scratch as well, and stop if one differs (slow).
    `attribution`: The method whose scores say which edges matter least.
    `screen`: Share of the edges, the least attributed, removed without a test.
    `journal`: A folder from which a stopped run resumes; see `discover`.
    """

def acdc_bisect(
    problem: Problem,
    *,
    threshold: float,
    head_order: Literal["descending", "ascending"] = "descending",
    absolute: bool = False,
    prune: bool = False,
    on_progress: OnProgress = ...,
) -> Run:
    """ACDC that removes groups of edges together.

    Paper: a variant of Conmy et al. 2023 (arXiv 2304.14997); how it works is in
        `edgewise.methods.hybrids`.
    Returns: a run with a circuit, a decision per edge, its group's delta as score.
    Needs: any metric.
    Costs: O(kept * log n) tests.
    When: few edges matter and there are very many.

    `threshold`: Remove an edge if the loss rises by less than this (the paper's τ).
    `head_order`: Order of sending heads within a layer: descending or ascending.
    `absolute`: Compare the size of the change, not the rise: keep edges whose removal helps
        much.
    `prune`: Drop nodes that connect no input to the output (corrupted ablation only).
    """

def acdc_test(
    problem: Problem,
    *,
    threshold: float = 0.0,
    error_rate: float = 0.05,
    control: Literal["edge", "circuit"] = "edge",
    test: Literal["t", "betting"] = "t",
    bound: float | None = None,
    first: int = 16,
    undecided: Literal["remove", "keep"] = "remove",
    head_order: Literal["descending", "ascending"] = "descending",
    seed: int = 0,
    on_progress: OnProgress = ...,
    journal: str | Path | None = None,
) -> Run:
    """ACDC that keeps or removes each edge by a sequential test over prompts.

    Paper: Conmy et al. 2023, arXiv 2304.14997, with tests in place of the threshold; how it
        works is in `edgewise.methods.acdc_test`.
    Returns: a run with a circuit, a decision with p-values per tested edge, mean deltas as
        scores.
    Needs: several prompts, better dozens.
    Costs: one test per edge that is still read, on as many prompts as it takes.
    When: you want an error rate for every edge, and have dozens of prompts or more.

    `threshold`: The mean rise of the loss that a test compares with: keep edges shown to be
        above.
    `error_rate`: The chance, at most, that an edge is shown to be on the wrong side of the
        threshold.
    `control`: edge: the error rate is each edge's; circuit: of any error among all edges
        (Bonferroni).
    `test`: t: Student's t at each look, the error rate spent over looks; betting: valid without
        normality, for rises of at most --bound.
    `bound`: betting: no prompt's loss rises or falls by more than this when an edge goes.
    `first`: Prompts in the first look at an edge; each later look doubles them.
    `undecided`: What becomes of an edge that all prompts leave undecided: remove or keep.
    `head_order`: Order of sending heads within a layer: descending or ascending.
    `seed`: Seed of the order in which prompts are looked at.
    `journal`: A folder from which a stopped run resumes; see `discover`.
    """

def sp(
    problem: Problem,
    *,
    steps: int = 3000,
    learning_rate: float = 0.001,
    seed: int = 0,
    regularisation: float,
    binarise: Literal["stochastic", "threshold"] = "threshold",
    dead_mlp_masks: bool = False,
    on_progress: OnProgress = ...,
    journal: str | Path | None = None,
) -> Run:
    """Subnetwork Probing: learned masks on q, k, v vectors and MLPs.

    Paper: Cao et al. 2021, arXiv 2104.03514, as modified by Conmy et al. 2023; how it works is
        in `edgewise.methods.subnetwork_probing`.
    Returns: a run with the circuit the masks leave, mean masks as scores.
    Needs: a metric with a gradient.
    Costs: per step a forward and a backward pass.
    When: the paper's baseline, or which heads and MLPs matter together.

    `steps`: Training steps, each on all prompts.
    `learning_rate`: Adam's, constant.
    `seed`: Seed of the masks that are drawn.
    `regularisation`: The weight of the masks' size beside the loss (λ).
    `binarise`: threshold: keep what has a mean mask of at least 1/2; stochastic: draw once more
        and keep what is drawn as at least 1/2 (the paper).
    `dead_mlp_masks`: Weigh q, k and v as in the paper's attention-only runs, whose MLP masks do
        nothing but take a quarter of the regulariser.
    `journal`: A folder from which a stopped run resumes; see `discover`.
    """

def sp_edges(
    problem: Problem,
    *,
    steps: int = 3000,
    learning_rate: float = 0.001,
    seed: int = 0,
    regularisation: float,
    binarise: Literal["stochastic", "threshold"] = "threshold",
    on_progress: OnProgress = ...,
    journal: str | Path | None = None,
) -> Run:
    """Subnetwork Probing with a learned mask per edge.

    Paper: Cao et al. 2021, arXiv 2104.03514, on edges; how it works is in
        `edgewise.methods.subnetwork_probing`.
    Returns: a run with the circuit the masks leave, mean masks as scores.
    Needs: a metric with a gradient.
    Costs: per step a forward and a backward pass in which every port reads for itself.
    When: edges that work together, at a price you name per share of the graph.

    `steps`: Training steps, each on all prompts.
    `learning_rate`: Adam's, constant.
    `seed`: Seed of the masks that are drawn.
    `regularisation`: The weight of the masks' size beside the loss (λ).
    `binarise`: threshold: keep what has a mean mask of at least 1/2; stochastic: draw once more
        and keep what is drawn as at least 1/2 (the paper).
    `journal`: A folder from which a stopped run resumes; see `discover`.
    """

def hisp(
    problem: Problem,
    *,
    activations: int | None = None,
    activation_share: float | None = None,
    reading: Literal["paper", "code"] = "paper",
    normalise: bool = True,
    allow_zero_gradient: bool = False,
    on_progress: OnProgress = ...,
) -> Run:
    """Rank q, k, v vectors and MLPs by their gradient, and keep the best.

    Paper: Michel et al. 2019, arXiv 1905.10650, as used by Conmy et al. 2023; how it works is
        in `edgewise.methods.hisp`.
    Returns: a run with the circuit of the best activations, their importance as scores.
    Needs: a metric with a gradient that is not zero at the clean run: not kl, not l2.
    Costs: two forward passes and one backward pass.
    When: the paper's baseline; not with kl or l2, whose gradient is zero there.

    `activations`: Keep this many q, k, v vectors and MLPs.
    `activation_share`: Keep this share of the q, k, v vectors and MLPs (0.1 if nothing else is
        said).
    `reading`: paper: clean minus ablation times gradient, as its equation 4 says; code: clean
        times gradient, as was run.
    `normalise`: Divide scores by their layer's L2 norm.
    `allow_zero_gradient`: Rank where the metric's gradient is zero. Reproduces the paper's l2
        runs (exact zeros); with kl the order is rounding noise, here as there, and differs from
        the paper's.
    """

def edge_pruning(
    problem: Problem,
    *,
    steps: int = 3000,
    learning_rate: float = 0.01,
    seed: int = 0,
    sparsity: float,
    warm_up: float = 0.8,
    multiplier_rate: float = 0.01,
    on_progress: OnProgress = ...,
    journal: str | Path | None = None,
) -> Run:
    """Learned edge masks, held to a sparsity that rises to what is asked.

    Paper: Bhaskar et al. 2024, arXiv 2406.16778; how it works is in
        `edgewise.methods.edge_pruning`.
    Returns: a run with the circuit of the size asked for, learned log-odds as scores.
    Needs: a metric with a gradient.
    Costs: per step a forward and a backward pass in which every port reads for itself.
    When: the best circuit of a given size, and time for thousands of steps.

    `steps`: Training steps, each on all prompts.
    `learning_rate`: Adam's, constant.
    `seed`: Seed of the masks that are drawn.
    `sparsity`: The share of edges to remove.
    `warm_up`: The share of the steps in which the target rises from 0 to `sparsity`.
    `multiplier_rate`: The learning rate of the Lagrange multipliers.
    `journal`: A folder from which a stopped run resumes; see `discover`.
    """

def ugs(
    problem: Problem,
    *,
    steps: int = 1000,
    learning_rate: float = 0.01,
    seed: int = 0,
    regularisation: float,
    draws: int = 4,
    start: float = 0.98,
    on_progress: OnProgress = ...,
    journal: str | Path | None = None,
) -> Run:
    """Uniform gradient sampling: each edge's chance to be kept, learned.

    Paper: Li and Janson 2024, arXiv 2409.09951; how it works is in
        `edgewise.methods.edge_pruning`.
    Returns: a run with the circuit of the edges more likely kept than not, chances as scores.
    Needs: a metric with a gradient.
    Costs: per draw, four a step, a forward and a backward pass as in edge-pruning.
    When: the best circuit at a given price per edge.

    `steps`: Training steps, each of `draws` draws on all prompts.
    `learning_rate`: Adam's, constant.
    `seed`: Seed of the masks that are drawn.
    `regularisation`: What an edge costs, in the loss's unit (λ).
    `draws`: Independent draws of all masks in a step.
    `start`: The chance that an edge is kept, before training.
    `journal`: A folder from which a stopped run resumes; see `discover`.
    """
