"""`discover` with a name and types for each method: `ew.eap(problem, share=0.05)`.

What the settings mean and their defaults are in the settings class, and how a method works in its
file. Here are the names; `edgewise.record.keywords` has the types, and `help(ew.eap)` shows the
signature that is made of the settings class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, Unpack, get_type_hints

from edgewise.methods import ignore_progress
from edgewise.problem import Problem
from edgewise.record import keywords as kw
from edgewise.record.discover import discover
from edgewise.record.run import Run
from edgewise.settings import SETTINGS

_Function = TypeVar("_Function", bound=Callable[..., Run])


def _signed(method: str) -> Callable[[_Function], _Function]:
    """Show the method's settings and their defaults as the signature of the function below."""

    def sign(function: _Function) -> _Function:
        hints, by_name = get_type_hints(SETTINGS[method]), inspect.Parameter.KEYWORD_ONLY
        settings = [
            inspect.Parameter(
                f.name,
                by_name,
                default=inspect.Parameter.empty if f.default is MISSING else f.default,
                annotation=hints[f.name],
            )
            for f in fields(SETTINGS[method])
        ]
        common = get_type_hints(kw.Common)
        shown = [
            inspect.Parameter(
                "problem", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Problem
            ),
            *sorted(settings, key=lambda p: p.default is not inspect.Parameter.empty),
            inspect.Parameter(
                "on_progress", by_name, default=ignore_progress, annotation=common["on_progress"]
            ),
            inspect.Parameter("journal", by_name, default=None, annotation=common["journal"]),
        ]
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            shown, return_annotation=Run
        )
        return function

    return sign


def _run(problem: Problem, method: str, keywords: Mapping[str, Any]) -> Run:
    return discover(problem, method, **keywords)


# --- ACDC


@_signed("acdc")
def acdc(problem: Problem, **keywords: Unpack[kw.ACDCKeywords]) -> Run:
    """Automatic Circuit DisCovery, exactly as in the paper; see `edgewise.methods.acdc`.

    `threshold` is the paper's tau, in the unit of the problem's loss. `head_order` is the order of
    *sending* heads within a layer. `absolute` compares the size of a change instead of its rise.
    `prune` drops dangling nodes at the end. `engine="plain"` tests every edge from scratch, and
    `verify` does so beside the fast way; neither changes a decision. `precision="reduced"`
    estimates deltas by bfloat16 products and takes close decisions in full (kl and logit-diff).
    `journal` is a folder from which a run that was stopped goes on; see `discover`.
    Conmy et al. 2023, arXiv 2304.14997.
    """
    return _run(problem, "acdc", keywords)


@_signed("acdc-ordered")
def acdc_ordered(problem: Problem, **keywords: Unpack[kw.OrderedACDCKeywords]) -> Run:
    """ACDC that tests each receiver's least attributed edge first.

    A hybrid of Conmy et al. 2023 (arXiv 2304.14997) and attribution; see
    `edgewise.methods.hybrids`.
    """
    return _run(problem, "acdc-ordered", keywords)


@_signed("acdc-screened")
def acdc_screened(problem: Problem, **keywords: Unpack[kw.ScreenedACDCKeywords]) -> Run:
    """ACDC on what is left when a share of the edges, the least attributed, goes untested.

    A hybrid of Conmy et al. 2023 (arXiv 2304.14997) and attribution; see
    `edgewise.methods.hybrids`.
    """
    return _run(problem, "acdc-screened", keywords)


@_signed("acdc-bisect")
def acdc_bisect(problem: Problem, **keywords: Unpack[kw.ACDCKeywords]) -> Run:
    """ACDC that removes groups of edges together, and splits the group where that is too much.

    A variant of Conmy et al. 2023 (arXiv 2304.14997); see `edgewise.methods.hybrids`.
    """
    return _run(problem, "acdc-bisect", keywords)


@_signed("acdc-test")
def acdc_test(problem: Problem, **keywords: Unpack[kw.TestedACDCKeywords]) -> Run:
    """ACDC that keeps or removes each edge by a sequential test over prompts.

    `error_rate` is the chance, at most, that an edge is shown to be on the wrong side of
    `threshold`; `run.trace` has each decision's p-values and interval. A variant of Conmy et al.
    2023 (arXiv 2304.14997); see `edgewise.methods.acdc_test`.
    """
    return _run(problem, "acdc-test", keywords)


# --- scores of edges


@_signed("eap")
def eap(problem: Problem, **keywords: Unpack[kw.SelectionKeywords]) -> Run:
    """Edge attribution patching: every edge's effect to first order; see `edgewise.methods.eap`.

    Syed et al. 2023, arXiv 2310.10348.
    """
    return _run(problem, "eap", keywords)


@_signed("eap-ig")
def eap_ig(problem: Problem, **keywords: Unpack[kw.EAPIGKeywords]) -> Run:
    """Edge attribution patching with integrated gradients; see `edgewise.methods.eap`.

    Hanna et al. 2024, arXiv 2403.17806.
    """
    return _run(problem, "eap-ig", keywords)


@_signed("clean-corrupted")
def clean_corrupted(problem: Problem, **keywords: Unpack[kw.SelectionKeywords]) -> Run:
    """EAP by the gradients at the clean and the ablation input; see `edgewise.methods.eap`.

    Hanna et al. 2024, arXiv 2403.17806 (a baseline there).
    """
    return _run(problem, "clean-corrupted", keywords)


@_signed("exact")
def exact(problem: Problem, **keywords: Unpack[kw.SelectionKeywords]) -> Run:
    """Every edge removed alone from the full model; see `edgewise.methods.exact`.

    It is what the attribution methods approximate.
    """
    return _run(problem, "exact", keywords)


@_signed("atp-star")
def atp_star(problem: Problem, **keywords: Unpack[kw.SelectionKeywords]) -> Run:
    """EAP with the patterns that patched queries and keys give; see `edgewise.methods.atp`.

    Kramár et al. 2024, arXiv 2403.00745.
    """
    return _run(problem, "atp-star", keywords)


@_signed("relp")
def relp(problem: Problem, **keywords: Unpack[kw.SelectionKeywords]) -> Run:
    """EAP through norms and activations held constant; see `edgewise.methods.relp`.

    RelP, arXiv 2508.21258.
    """
    return _run(problem, "relp", keywords)


@_signed("information-flow")
def information_flow(problem: Problem, **keywords: Unpack[kw.SelectionKeywords]) -> Run:
    """Each sender's share in what a port reads; see `edgewise.methods.information_flow`.

    Ferrando & Voita 2024, arXiv 2403.00824.
    """
    return _run(problem, "information-flow", keywords)


@_signed("magnitude")
def magnitude(problem: Problem, **keywords: Unpack[kw.SelectionKeywords]) -> Run:
    """A baseline: how much what a sender writes would change.

    See `edgewise.methods.baselines`.
    """
    return _run(problem, "magnitude", keywords)


@_signed("random")
def random_scores(problem: Problem, **keywords: Unpack[kw.RandomKeywords]) -> Run:
    """A baseline: scores drawn at random. The method's name is "random".

    See `edgewise.methods.baselines`.
    """
    return _run(problem, "random", keywords)


# --- masks


@_signed("sp")
def sp(problem: Problem, **keywords: Unpack[kw.SPKeywords]) -> Run:
    """Subnetwork Probing: learned masks on q, k, v vectors and MLP outputs.

    `regularisation` is the paper's lambda; `ew.sweep` takes several. Cao et al. 2021
    (arXiv 2104.03514), as modified by Conmy et al. 2023; see
    `edgewise.methods.subnetwork_probing`.
    """
    return _run(problem, "sp", keywords)


@_signed("sp-edges")
def sp_edges(problem: Problem, **keywords: Unpack[kw.SPEdgesKeywords]) -> Run:
    """Subnetwork Probing with a learned mask per edge.

    Cao et al. 2021 (arXiv 2104.03514), on edges; see `edgewise.methods.subnetwork_probing`.
    """
    return _run(problem, "sp-edges", keywords)


@_signed("hisp")
def hisp(problem: Problem, **keywords: Unpack[kw.HISPKeywords]) -> Run:
    """Rank q, k, v vectors and MLPs by their gradient, and keep the best; `ew.sweep` keeps every k.

    Michel et al. 2019 (arXiv 1905.10650), as used by Conmy et al. 2023; see
    `edgewise.methods.hisp`.
    """
    return _run(problem, "hisp", keywords)


@_signed("edge-pruning")
def edge_pruning(problem: Problem, **keywords: Unpack[kw.EdgePruningKeywords]) -> Run:
    """Learned edge masks, held to a sparsity that rises to what is asked.

    Bhaskar et al. 2024, arXiv 2406.16778; see `edgewise.methods.edge_pruning`.
    """
    return _run(problem, "edge-pruning", keywords)


@_signed("ugs")
def ugs(problem: Problem, **keywords: Unpack[kw.UGSKeywords]) -> Run:
    """Uniform gradient sampling: each edge's chance to be kept, learned.

    Li and Janson 2024, arXiv 2409.09951; see `edgewise.methods.edge_pruning`.
    """
    return _run(problem, "ugs", keywords)
