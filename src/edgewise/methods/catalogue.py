"""The discovery methods by name. To add one: a file like acdc.py, and an entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, asdict, dataclass, fields
from typing import Any

from edgewise.errors import SettingError, unknown_name
from edgewise.identity import Identity, of_problem, plain
from edgewise.methods.acdc import acdc
from edgewise.methods.acdc_test import acdc_test
from edgewise.methods.atp import atp_star
from edgewise.methods.baselines import magnitude, random
from edgewise.methods.eap import clean_corrupted, eap, eap_ig
from edgewise.methods.edge_pruning import edge_pruning, ugs
from edgewise.methods.exact import exact
from edgewise.methods.hisp import hisp
from edgewise.methods.hybrids import acdc_bisect, acdc_ordered, acdc_screened
from edgewise.methods.information_flow import information_flow
from edgewise.methods.journal import Journal
from edgewise.methods.method_result import MethodResult, OnProgress
from edgewise.methods.not_finite import naming_prompt
from edgewise.methods.relp import relp
from edgewise.methods.subnetwork_probing import sp, sp_edges
from edgewise.problem import Problem
from edgewise.settings import SETTINGS


@dataclass(frozen=True)
class Method:
    """A discovery method: what it is called with, returns and costs, and when to use it.

    `revision` is raised whenever the method's results change, so that no older ones are reused.
    """

    name: str
    summary: str
    paper: str
    returns: str
    cost: str
    when: str
    settings: type[Any]
    function: Callable[[Problem, Any, OnProgress, Journal], MethodResult]
    revision: int = 1

    def identity(self, problem: Problem, settings: Any) -> Identity:
        """What decides what this method finds on a problem (see edgewise.identity)."""
        return {**of_problem(problem), **self.with_settings(settings)}

    def with_settings(self, settings: Any) -> Identity:
        """The method's part of what decides its results."""
        asked = {"method": self.name, "revision": self.revision, "settings": asdict(settings)}
        return plain(asked)

    def resolve(self, given: dict[str, Any]) -> Any:
        """The settings object for keywords as given. Raises `SettingError`, `UnknownName`."""
        known = {field.name: field for field in fields(self.settings)}
        for name in given:
            if name not in known:
                raise unknown_name(f"setting of {self.name}", name, known)
        missing = [name for name, field in known.items() if _required(field) and name not in given]
        if missing:
            raise SettingError(f"method {self.name!r} needs {', '.join(missing)}.")
        return self.settings(**given)


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="acdc",
            summary="Remove edges one at a time, from the output backwards, as the loss allows.",
            paper="Conmy et al. 2023, arXiv 2304.14997",
            returns="a circuit, a decision per tested edge, deltas as scores",
            cost="one test per edge that is still read; only what the edge changes is recomputed",
            when="you want the paper's circuit, exactly, and a reason for every edge",
            settings=SETTINGS["acdc"],
            function=acdc,
        ),
        Method(
            name="eap",
            summary="Edge attribution patching: every edge's effect to first order.",
            paper="Syed et al. 2023, arXiv 2310.10348",
            returns="a score per edge, and the circuit of the best",
            cost="two forward passes and one backward pass",
            when="a first look at a large model; not with kl or l2, whose gradient is zero there",
            settings=SETTINGS["eap"],
            function=naming_prompt(eap),
        ),
        Method(
            name="eap-ig",
            summary="Edge attribution patching with integrated gradients.",
            paper="Hanna et al. 2024, arXiv 2403.17806",
            returns="a score per edge, and the circuit of the best",
            cost="per step a forward and a backward pass, and two forward passes; over activations "
            "that for every layer",
            when="the best scores for their price, with any metric",
            settings=SETTINGS["eap-ig"],
            function=naming_prompt(eap_ig),
        ),
        Method(
            name="clean-corrupted",
            summary="Edge attribution patching, gradients at the clean and at the ablation input.",
            paper="Hanna et al. 2024, arXiv 2403.17806 (a baseline there)",
            returns="a score per edge, and the circuit of the best",
            cost="four forward passes and two backward passes",
            when="eap with a metric whose gradient vanishes at the clean run, for twice its price",
            settings=SETTINGS["clean-corrupted"],
            function=naming_prompt(clean_corrupted),
        ),
        Method(
            name="exact",
            summary="Every edge removed alone from the full model.",
            paper="what the attribution methods approximate",
            returns="a score per edge, and the circuit of the best",
            cost="one evaluation per edge, batched; only what the edge changes is recomputed",
            when="the truth about single edges, and a yardstick for attribution",
            settings=SETTINGS["exact"],
            function=naming_prompt(exact),
        ),
        Method(
            name="atp-star",
            summary="eap, with the attention patterns that patched queries and keys really give.",
            paper="Kramár et al. 2024, arXiv 2403.00745",
            returns="a score per edge, and the circuit of the best",
            cost="two forward passes and one backward pass; per layer and sender two projections",
            when="eap misses edges into saturated attention",
            settings=SETTINGS["atp-star"],
            function=naming_prompt(atp_star),
        ),
        Method(
            name="relp",
            summary="eap through norms and activations that are held constant.",
            paper="RelP, arXiv 2508.21258",
            returns="a score per edge, and the circuit of the best",
            cost="two forward passes and one backward pass",
            when="comparing attributions; see docs/methods.md for where it helps",
            settings=SETTINGS["relp"],
            function=naming_prompt(relp),
        ),
        Method(
            name="information-flow",
            summary="Each sender's share in what a receiver reads.",
            paper="Ferrando & Voita 2024, arXiv 2403.00824",
            returns="a score per edge, and the circuit of the best",
            cost="one forward pass",
            when="there is no metric and no corrupted prompt",
            settings=SETTINGS["information-flow"],
            function=naming_prompt(information_flow),
        ),
        Method(
            name="magnitude",
            summary="How much what a sender writes would change.",
            paper="a baseline",
            returns="a score per edge, and the circuit of the best",
            cost="two forward passes",
            when="showing what a method adds to it",
            settings=SETTINGS["magnitude"],
            function=naming_prompt(magnitude),
        ),
        Method(
            name="random",
            summary="Random scores.",
            paper="a baseline",
            returns="a score per edge, and the circuit of the best",
            cost="nothing",
            when="showing what chance gives",
            settings=SETTINGS["random"],
            function=random,
        ),
        Method(
            name="acdc-ordered",
            summary="ACDC that tests each receiver's least attributed edge first.",
            paper="a hybrid of Conmy et al. 2023 and attribution",
            returns="a circuit, a decision per tested edge, deltas as scores",
            cost="as acdc, and the attribution",
            when="acdc's answer should not depend on the numbering of heads",
            settings=SETTINGS["acdc-ordered"],
            function=acdc_ordered,
        ),
        Method(
            name="acdc-screened",
            summary="ACDC on what is left without the least attributed edges.",
            paper="a hybrid of Conmy et al. 2023 and attribution",
            returns="a circuit, a decision per tested edge, deltas as scores",
            cost="the attribution, and a test per edge of the rest that is still read",
            when="a large model, and most edges surely do not matter",
            settings=SETTINGS["acdc-screened"],
            function=acdc_screened,
        ),
        Method(
            name="acdc-bisect",
            summary="ACDC that removes groups of edges together.",
            paper="a variant of Conmy et al. 2023",
            returns="a circuit, a decision per edge, its group's delta as score",
            cost="O(kept * log n) tests",
            when="few edges matter and there are very many",
            settings=SETTINGS["acdc-bisect"],
            function=acdc_bisect,
        ),
        Method(
            name="acdc-test",
            summary="ACDC that keeps or removes each edge by a sequential test over prompts.",
            paper="Conmy et al. 2023, arXiv 2304.14997, with tests in place of the threshold",
            returns="a circuit, a decision with p-values per tested edge, mean deltas as scores",
            cost="one test per edge that is still read, on as many prompts as it takes",
            when="you want an error rate for every edge, and have dozens of prompts or more",
            settings=SETTINGS["acdc-test"],
            function=acdc_test,
        ),
        Method(
            name="sp",
            summary="Subnetwork Probing: learned masks on q, k, v vectors and MLPs.",
            paper="Cao et al. 2021, arXiv 2104.03514, as modified by Conmy et al. 2023",
            returns="the circuit the masks leave, mean masks as scores",
            cost="per step a forward and a backward pass",
            when="the paper's baseline, or which heads and MLPs matter together",
            settings=SETTINGS["sp"],
            function=sp,
        ),
        Method(
            name="sp-edges",
            summary="Subnetwork Probing with a learned mask per edge.",
            paper="Cao et al. 2021, arXiv 2104.03514, on edges",
            returns="the circuit the masks leave, mean masks as scores",
            cost="per step a forward and a backward pass in which every port reads for itself",
            when="edges that work together, at a price you name per share of the graph",
            settings=SETTINGS["sp-edges"],
            function=sp_edges,
        ),
        Method(
            name="hisp",
            summary="Rank q, k, v vectors and MLPs by their gradient, and keep the best.",
            paper="Michel et al. 2019, arXiv 1905.10650, as used by Conmy et al. 2023",
            returns="the circuit of the best units, their importance as scores",
            cost="two forward passes and one backward pass",
            when="the paper's baseline; not with kl or l2, whose gradient is zero there",
            settings=SETTINGS["hisp"],
            function=hisp,
        ),
        Method(
            name="edge-pruning",
            summary="Learned edge masks, held to a sparsity that rises to what is asked.",
            paper="Bhaskar et al. 2024, arXiv 2406.16778",
            returns="the circuit of the size asked for, learned log-odds as scores",
            cost="per step a forward and a backward pass in which every port reads for itself",
            when="the best circuit of a given size, and time for thousands of steps",
            settings=SETTINGS["edge-pruning"],
            function=edge_pruning,
        ),
        Method(
            name="ugs",
            summary="Uniform gradient sampling: each edge's chance to be kept, learned.",
            paper="Li and Janson 2024, arXiv 2409.09951",
            returns="the circuit of the edges more likely kept than not, chances as scores",
            cost="per draw, four a step, a forward and a backward pass as in edge-pruning",
            when="the best circuit at a given price per edge",
            settings=SETTINGS["ugs"],
            function=ugs,
        ),
    )
}


def method_named(name: str) -> Method:
    """The method of a name. Raises `UnknownName`, with suggestions."""
    known = name.replace("_", "-").lower()
    if known not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[known]
