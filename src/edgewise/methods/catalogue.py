"""The discovery methods: a row each, with all that is known of a method outside its own file.

A row names the settings, says in words what the method needs, returns, costs and is for, and as
capabilities what others may count on. Command line, `ew.acdc(...)`-style functions, stub and docs
are made from rows; who wants to know what a method can do asks its row, never its name. To add a
method: a file like `eap.py`, and a row here. Nothing here imports torch: a method's file is
imported when it runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from edgewise import plugins
from edgewise.errors import SettingError, unknown_name
from edgewise.methods.settings import (
    ACDCSettings,
    BisectingACDCSettings,
    EAPIGSettings,
    EdgePruningSettings,
    HISPSettings,
    OrderedACDCSettings,
    RandomSettings,
    ScreenedACDCSettings,
    SelectionSettings,
    Settings,
    SPEdgesSettings,
    SPSettings,
    TestedACDCSettings,
    UGSSettings,
)

if TYPE_CHECKING:
    from edgewise.problem import Problem
    from edgewise.work.identity import Identity

AnyMethod: TypeAlias = "str | Method | Callable[..., Any]"


@dataclass(frozen=True, kw_only=True)
class Method:
    """A discovery method: what it is called with, returns and costs, when to use it, what it can.

    `home` is "file.function", of its function in this package; a user's own has `function` instead.
    `revision` is raised whenever the method's results change, so that no older ones are reused.
    """

    name: str
    summary: str
    paper: str
    needs: str
    returns: str = "a score per edge, and the circuit of the best"
    cost: str
    when: str
    settings: type[Settings] = SelectionSettings
    home: str = ""
    revision: int = 1
    function: Callable[..., Any] | None = None

    # --- capabilities
    additive: bool = False  # a score is a mean over prompts of what each prompt says by itself
    resumes: bool = False  # from a journal
    takes_order: bool = False  # HOME_in_steps tests heads in another order than ACDC's
    has_forecast: bool = False  # `forecast` knows what a run will take
    trains: bool = False  # learns masks; scores are signed, the least are surest to be removed
    baseline: bool = False  # for methods to beat
    variant: bool = False  # of a method that is in the catalogue too
    # Settings of which several values share work, and the home of the function that does it. Where
    # circuits are selected from scores, all that selects them shares the scores.
    shared: tuple[str, ...] = ()
    together: str = ""

    @property
    def function_name(self) -> str:
        """What the method's function is called, in its file and as `edgewise.NAME`."""
        return self.home.rpartition(".")[2]

    def load(self, home: str = "") -> Callable[..., Any]:
        """The method's function, or the one of another home."""
        if self.function is not None:
            return self.function
        file, _, name = (home or self.home).partition(".")
        return getattr(import_module(f"edgewise.methods.{file}"), name)

    @property
    def selects(self) -> bool:
        """Whether its circuit is selected from its scores, as its settings say."""
        return issubclass(self.settings, SelectionSettings)

    def shares_work(self, setting: str) -> bool:
        """Whether several values of this setting share work."""
        selecting = {field.name for field in fields(SelectionSettings)} if self.selects else set()
        return setting in self.shared or setting in selecting

    def resolve(self, given: dict[str, Any]) -> Any:
        """The settings object for keywords as given. Raises `SettingError`, `UnknownName`."""
        defaults = {field.name: field.default for field in fields(self.settings)}
        for name in given:
            if name not in defaults:
                raise unknown_name(f"setting of {self.name}", name, defaults)
        required = [name for name, default in defaults.items() if default is MISSING]
        missing = [name for name in required if name not in given]
        if missing:
            raise SettingError(f"method {self.name!r} needs {', '.join(missing)}.")
        return self.settings(**given)

    def identity(self, problem: Problem, settings: Any) -> Identity:
        """What decides what this method finds on a problem (see work/identity.py)."""
        from edgewise.work.identity import of_problem

        return {**of_problem(problem), **self.with_settings(settings)}

    def with_settings(self, settings: Any) -> Identity:
        """The method's part of what decides its results."""
        row = {"method": self.name, "revision": self.revision, "settings": asdict(settings)}
        if self.function is None:
            return row
        from edgewise.work.identity import of_function

        return {**row, "function": of_function(self.function)}


def list_methods() -> list[str]:
    """The names of all methods."""
    return list(METHODS)


def method_of(method: AnyMethod) -> Method:
    """The row of a method: by its name, or one of a user's own.

    A user's own is a function (problem) -> scores or circuit; it is given as it is, as
    "module:function", or by the name of an entry point. How a circuit is selected from its scores
    is set as for any method that scores edges. Raises `UnknownName`, with suggestions, and
    `SettingError` for what is no such function.
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str):
        kind = method if hasattr(method, "__qualname__") else type(method)
        name = f"{getattr(kind, '__module__', None) or 'own'}:{kind.__qualname__}"
        return _row_of_own(name, method, name)
    name = method.replace("_", "-").lower()
    if name in METHODS:
        return METHODS[name]
    if ":" in method:
        return _row_of_own(method, plugins.imported(method), method)
    offer = plugins.entry_point(plugins.METHODS, method)
    if offer is None:
        names, hint = plugins.offered(plugins.METHODS), "A function of your own is module:function."
        raise unknown_name("method", method, [*METHODS, *names], hint=hint)
    return _row_of_own(method, *offer)


def _row_of_own(name: str, function: Any, where: str) -> Method:
    """The row of a user's function, if it can be called with a problem. Raises `SettingError`."""
    try:
        inspect.signature(function).bind(object())
    except TypeError as reason:  # not callable, or with other arguments
        raise SettingError(
            f"method {where} cannot be called with a problem alone: {reason}. It must be a "
            "function (problem) -> EdgeScores or Circuit; give its other arguments defaults."
        ) from reason
    except ValueError:
        pass  # no signature to be had; the first call will tell
    return Method(
        name=name,
        summary="A function of your own.",
        paper="your own",
        needs="what the function needs",
        returns="what the function returns: a score per edge, or a circuit",
        cost="what the function does",
        when="trying a method that is not in the catalogue",
        function=function,
    )


_DECISIONS = "a circuit, a decision per tested edge, deltas as scores"
_TRAINED = "the circuit the masks leave, mean masks as scores"
_TRAINING = "per step a forward and a backward pass in which every port reads for itself"
_GRADIENT = "a metric with a gradient that is not zero at the clean run: not kl, not l2"
_ANY_GRADIENT = "a metric with a gradient"
_ROWS = (
    Method(
        name="acdc",
        summary="Remove edges one at a time, from the output backwards, as the loss allows.",
        paper="Conmy et al. 2023, arXiv 2304.14997",
        needs="any metric",
        returns=_DECISIONS,
        cost="one test per edge that is still read; only what the edge changes is recomputed",
        when="you want the paper's circuit, exactly, and a reason for every edge",
        settings=ACDCSettings,
        home="acdc.acdc",
        resumes=True,
        takes_order=True,
        has_forecast=True,
        shared=("threshold",),
        together="thresholds.acdc_thresholds",
    ),
    Method(
        name="eap",
        summary="Edge attribution patching: every edge's effect to first order.",
        paper="Syed et al. 2023, arXiv 2310.10348",
        needs=_GRADIENT,
        cost="two forward passes and one backward pass",
        when="a first look at a large model; not with kl or l2, whose gradient is zero there",
        home="eap.eap",
        additive=True,
    ),
    Method(
        name="eap-ig",
        summary="Edge attribution patching with integrated gradients.",
        paper="Hanna et al. 2024, arXiv 2403.17806",
        needs=_ANY_GRADIENT,
        cost="per step a forward and a backward pass, and two forward passes; over activations "
        "that for every layer",
        when="the best scores for their price, with any metric",
        settings=EAPIGSettings,
        home="eap.eap_ig",
        additive=True,
    ),
    Method(
        name="clean-corrupted",
        summary="Edge attribution patching, gradients at the clean and at the ablation input.",
        paper="Hanna et al. 2024, arXiv 2403.17806 (a baseline there)",
        needs=_ANY_GRADIENT,
        cost="four forward passes and two backward passes",
        when="eap with a metric whose gradient vanishes at the clean run, for twice its price",
        home="eap.clean_corrupted",
        additive=True,
    ),
    Method(
        name="exact",
        summary="Every edge removed alone from the full model.",
        paper="what the attribution methods approximate",
        needs="any metric",
        cost="one evaluation per edge, batched; only what the edge changes is recomputed",
        when="the truth about single edges, and a yardstick for attribution",
        home="exact.exact",
        additive=True,
    ),
    Method(
        name="atp-star",
        summary="eap, with the attention patterns that patched queries and keys really give.",
        paper="Kramár et al. 2024, arXiv 2403.00745",
        needs=f"{_GRADIENT}; a graph with split_qkv",
        cost="two forward passes and one backward pass; per layer and sender two projections",
        when="eap misses edges into saturated attention",
        home="atp.atp_star",
        additive=True,
    ),
    Method(
        name="relp",
        summary="eap through norms and activations that are held constant.",
        paper="RelP, arXiv 2508.21258",
        needs=_GRADIENT,
        cost="two forward passes and one backward pass",
        when="comparing attributions; see docs/methods.md for where it helps",
        home="relp.relp",
        additive=True,
    ),
    Method(
        name="information-flow",
        summary="Each sender's share in what a receiver reads.",
        paper="Ferrando & Voita 2024, arXiv 2403.00824",
        needs="clean prompts alone; metric and ablation play no part",
        cost="one forward pass",
        when="there is no metric and no corrupted prompt",
        home="information_flow.information_flow",
    ),
    Method(
        name="magnitude",
        summary="How much what a sender writes would change.",
        paper="a baseline",
        needs="an ablation; the metric plays no part",
        cost="two forward passes",
        when="showing what a method adds to it",
        home="baselines.magnitude",
        baseline=True,
    ),
    Method(
        name="random",
        summary="Random scores.",
        paper="a baseline",
        needs="nothing but the graph",
        cost="nothing",
        when="showing what chance gives",
        settings=RandomSettings,
        home="baselines.random_scores",
        baseline=True,
    ),
    Method(
        name="acdc-ordered",
        summary="ACDC that tests each receiver's least attributed edge first.",
        paper="a hybrid of Conmy et al. 2023 (arXiv 2304.14997) and attribution",
        needs="what the attribution needs",
        returns=_DECISIONS,
        cost="as acdc, and the attribution",
        when="acdc's answer should not depend on the numbering of heads",
        settings=OrderedACDCSettings,
        home="hybrids.acdc_ordered",
        resumes=True,
        variant=True,
    ),
    Method(
        name="acdc-screened",
        summary="ACDC on what is left without the least attributed edges.",
        paper="a hybrid of Conmy et al. 2023 (arXiv 2304.14997) and attribution",
        needs="what the attribution needs",
        returns=_DECISIONS,
        cost="the attribution, and a test per edge of the rest that is still read",
        when="a large model, and most edges surely do not matter",
        settings=ScreenedACDCSettings,
        home="hybrids.acdc_screened",
        resumes=True,
        variant=True,
    ),
    Method(
        name="acdc-bisect",
        summary="ACDC that removes groups of edges together.",
        paper="a variant of Conmy et al. 2023 (arXiv 2304.14997)",
        needs="any metric",
        returns="a circuit, a decision per edge, its group's delta as score",
        cost="O(kept * log n) tests",
        when="few edges matter and there are very many",
        settings=BisectingACDCSettings,
        home="hybrids.acdc_bisect",
        variant=True,
    ),
    Method(
        name="acdc-test",
        summary="ACDC that keeps or removes each edge by a sequential test over prompts.",
        paper="Conmy et al. 2023, arXiv 2304.14997, with tests in place of the threshold",
        needs="several prompts, better dozens",
        returns="a circuit, a decision with p-values per tested edge, mean deltas as scores",
        cost="one test per edge that is still read, on as many prompts as it takes",
        when="you want an error rate for every edge, and have dozens of prompts or more",
        settings=TestedACDCSettings,
        home="acdc_test.acdc_test",
        resumes=True,
        takes_order=True,
        variant=True,
    ),
    Method(
        name="sp",
        summary="Subnetwork Probing: learned masks on q, k, v vectors and MLPs.",
        paper="Cao et al. 2021, arXiv 2104.03514, as modified by Conmy et al. 2023",
        needs=_ANY_GRADIENT,
        returns=_TRAINED,
        cost="per step a forward and a backward pass",
        when="the paper's baseline, or which heads and MLPs matter together",
        settings=SPSettings,
        home="subnetwork_probing.sp",
        resumes=True,
        trains=True,
    ),
    Method(
        name="sp-edges",
        summary="Subnetwork Probing with a learned mask per edge.",
        paper="Cao et al. 2021, arXiv 2104.03514, on edges",
        needs=_ANY_GRADIENT,
        returns=_TRAINED,
        cost=_TRAINING,
        when="edges that work together, at a price you name per share of the graph",
        settings=SPEdgesSettings,
        home="subnetwork_probing.sp_edges",
        resumes=True,
        trains=True,
        variant=True,
    ),
    Method(
        name="hisp",
        summary="Rank q, k, v vectors and MLPs by their gradient, and keep the best.",
        paper="Michel et al. 2019, arXiv 1905.10650, as used by Conmy et al. 2023",
        needs=_GRADIENT,
        returns="the circuit of the best activations, their importance as scores",
        cost="two forward passes and one backward pass",
        when="the paper's baseline; not with kl or l2, whose gradient is zero there",
        settings=HISPSettings,
        home="hisp.hisp",
        shared=("activations", "activation_share"),
        together="hisp.hisp_together",
    ),
    Method(
        name="edge-pruning",
        summary="Learned edge masks, held to a sparsity that rises to what is asked.",
        paper="Bhaskar et al. 2024, arXiv 2406.16778",
        needs=_ANY_GRADIENT,
        returns="the circuit of the size asked for, learned log-odds as scores",
        cost=_TRAINING,
        when="the best circuit of a given size, and time for thousands of steps",
        settings=EdgePruningSettings,
        home="edge_pruning.edge_pruning",
        resumes=True,
        trains=True,
    ),
    Method(
        name="ugs",
        summary="Uniform gradient sampling: each edge's chance to be kept, learned.",
        paper="Li and Janson 2024, arXiv 2409.09951",
        needs=_ANY_GRADIENT,
        returns="the circuit of the edges more likely kept than not, chances as scores",
        cost="per draw, four a step, a forward and a backward pass as in edge-pruning",
        when="the best circuit at a given price per edge",
        settings=UGSSettings,
        home="edge_pruning.ugs",
        resumes=True,
        trains=True,
    ),
)
METHODS: dict[str, Method] = {row.name: row for row in _ROWS}
