"""A trial of the leaderboard: a method on a program, against the edges that its weights can use.

Methods are ours with their settings, and functions of users. Scores are an order of edges, highest
first, ties together, and every place to cut it is a circuit. Circuits are taken as they are; where
an order is needed, an edge comes before another if more of them keep it. An area is 1 for a perfect
order.
"""

from __future__ import annotations

import time
import tomllib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from typing import Any, Literal

import torch

from edgewise.circuit import Circuit, EdgeScores
from edgewise.documents import Finite
from edgewise.errors import EdgewiseError, FormatError, OutputError, SettingError, quoted
from edgewise.evaluation import pessimistic_auc, recovery, score_recovery
from edgewise.evaluation.records import Record
from edgewise.methods import METHODS, Method, method_of
from edgewise.methods.execution import check_answer, run_method, run_together
from edgewise.methods.settings import By
from edgewise.model import PROGRAMS
from edgewise.patching import Ablation
from edgewise.plugins import explained
from edgewise.points import content_of, named_task
from edgewise.problem import Problem
from edgewise.tasks import Task
from edgewise.work.identity import hashed, of_function

THRESHOLDS = tuple(10.0**power for power in range(-5, 1))  # of methods that have one
_TOML = tomllib.loads((files("edgewise.recipes") / "leaderboard.toml").read_text("utf-8"))
TRAINED: dict[str, dict[str, Any]] = _TOML["trained"]  # with their settings
ABOUT_ABLATIONS: dict[str, str] = _TOML["ablations"]
NOTES: dict[str, str] = _TOML["notes"]  # on tables
_VARIANTS = {"eap-ig-activations": ("eap-ig", {"over": "activations"})}
BASELINES = tuple(row.name for row in METHODS.values() if row.baseline)
# What takes part by default: all that need no training.
USUAL = (
    *(r.name for r in METHODS.values() if not (r.trains or r.variant or r.baseline)),
    *_VARIANTS,
    *BASELINES,
)
GROUPS = {"usual": USUAL, "trained": tuple(TRAINED)}  # names for several methods
NAMES = (*METHODS, *_VARIANTS)

# The first is what methods are ranked by: it says how much of what stands high is true. The paper's
# area credits nothing between two circuits, so that an order which breaks ties by chance gains.
AREAS = ("average_precision", "pessimistic_auc", "roc_auc")
# What an edge outside the circuit carries. Two corruptions: as the paper corrupts programs, and
# tokens alone.
ABLATIONS: dict[str, str | Ablation] = {
    "zero": "zero",
    "mean": "mean",
    "corrupted": "corrupted",
    "corrupted-tokens": Ablation("corrupted"),
}
_NO_EFFECT = 1e-9  # between full model and empty circuit, in the metric's unit (l2)
_RETURN = "EdgeScores, a Circuit, or a list of Circuits, all on problem.graph"

AnyContestant = str | Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Contestant:
    """A method with its settings. `identity` hashes what decides its answers.

    A method with a threshold answers with the circuits of all `THRESHOLDS`.
    """

    name: str
    method: Method
    identity: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether it is a function of the user's."""
        return self.method.function is not None

    @property
    def by(self) -> By:
        """How its scores rank edges; the log-odds of trained masks are low where an edge goes."""
        return "signed" if self.is_own or self.method.trains else "absolute"

    @property
    def how(self) -> str:
        """Its settings, in words."""
        if self.is_own:
            return "own method"
        words = [f"{name.replace('_', ' ')} {value}" for name, value in self.settings.items()]
        if _has_setting(self.method, "threshold"):
            ends = f"{THRESHOLDS[0]:g} to {THRESHOLDS[-1]:g}"
            words.insert(0, f"{len(THRESHOLDS)} thresholds, {ends}")
        return ", ".join(words)

    def answer(self, problem: Problem, seed: int) -> tuple[Any, int]:
        """EdgeScores, a Circuit or Circuits if all is well; and how many removals were tested."""
        method, settings = self.method, dict(self.settings)
        if method.function is not None:
            return method.function(problem), 0
        if _has_setting(method, "seed"):
            settings["seed"] = seed
        swept = _has_setting(method, "threshold")
        taus = [{"threshold": tau} for tau in THRESHOLDS] if swept else [{}]
        choices = [method.resolve({**settings, **tau}) for tau in taus]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said once in a run's notes; here once per problem
            if swept and method.shares_work("threshold"):
                results = run_together(method, problem, choices)
                removals = max(result.variants for result in results)
            else:
                results = [run_method(method, problem, choice) for choice in choices]
                removals = sum(result.variants for result in results)
        answer = [result.circuit for result in results] if swept else results[0].scores
        return answer, removals


def contestants(
    methods: AnyContestant | Iterable[AnyContestant] | Mapping[str, AnyContestant] | None,
) -> tuple[Contestant, ...]:
    """Those who are named, then the baselines. Raises `UnknownName`, `SettingError`."""
    if isinstance(methods, Mapping):
        labelled = list(methods.items())
    else:
        single = isinstance(methods, str) or callable(methods)
        listed: Any = [methods] if single else GROUPS["usual"] if methods is None else methods
        members = [m for name in listed for m in (GROUPS.get(name) or (name,))]
        labelled = [("", method) for method in dict.fromkeys(members)]
    chosen: dict[str, Contestant] = {}
    for label, method in labelled:
        contestant = _contestant(method, label)
        if contestant.name in chosen:
            raise SettingError(f"two methods are called {contestant.name!r}; rename one.")
        chosen[contestant.name] = contestant
    if not chosen:
        raise SettingError("a leaderboard needs at least one method.")
    for name in BASELINES:
        chosen.setdefault(name, _contestant(name, ""))
    return tuple(chosen.values())


def _contestant(method: AnyContestant, label: str) -> Contestant:
    name = method.replace("_", "-").lower() if isinstance(method, str) else ""
    if name not in NAMES:
        row = method_of(method)
        if (label or row.name) in NAMES:
            raise SettingError(f"{label or row.name!r} is one of Edgewise's own; rename yours.")
        return Contestant(label or row.name, row, of_function(row.load()))
    if label in NAMES and label != name:
        raise SettingError(f"{name} cannot be called {label!r}: that is another method.")
    own_name, settings = _VARIANTS.get(name, (name, TRAINED.get(name, {})))
    row = method_of(own_name)
    taus = {"threshold": list(THRESHOLDS)} if _has_setting(row, "threshold") else {}
    first = {setting: values[0] for setting, values in taus.items()}
    resolved = row.with_settings(row.resolve({**settings, **first}))
    return Contestant(label or name, row, hashed([resolved, {**taus, **settings}]), settings)


def _has_setting(method: Method, name: str) -> bool:
    return name in {field.name for field in fields(method.settings)}


# --- trials


@dataclass(frozen=True)
class Trial(Record):
    """One method on one problem, against the structural truth.

    `status`: done; refused, the method told with an error of Edgewise's why it has no answer;
    failed, it raised something else or returned what is no answer. The areas of the latter two are
    those of an order in which all edges tie. A problem that is not there, or has no effect, is
    left out: it has no method and no areas.
    `problem_id` and `method_id` are hashes of all that the answer depends on.
    """

    program: str
    ablation: str
    seed: int
    status: Literal["done", "refused", "failed", "left out"]
    method: str = ""
    how: str = ""  # the method's settings
    why: str = ""
    problem_id: str = ""
    method_id: str = ""
    n_prompts: int = 0
    n_edges: int = 0
    n_true: int = 0
    average_precision: Finite | None = None
    pessimistic_auc: Finite | None = None
    roc_auc: Finite | None = None
    n_circuits: int | None = None  # None for scores
    forward_passes: int = 0
    backward_passes: int = 0
    removals: int = 0  # evaluated on their own, each less than a forward pass
    seconds: Finite = 0.0

    @property
    def problem(self) -> tuple[str, str, int]:
        """Program, ablation, seed."""
        return self.program, self.ablation, self.seed

    @property
    def point(self) -> tuple[str, str, int, str]:
        """Its point of the grid: program, ablation, seed, method."""
        return *self.problem, self.method

    @property
    def ids(self) -> tuple[str, str]:
        """What decides the answer: a trial of others is run again."""
        return self.method_id, self.problem_id

    @classmethod
    def from_json(cls, document: Any, *, source: str = "trial") -> Trial:
        """The trial of `to_json`. Raises `FormatError`, also if its values do not go together."""
        trial = super().from_json(document, source=source)
        for name, known in (("program", PROGRAMS), ("ablation", ABLATIONS)):
            value = getattr(trial, name)
            if value not in known:
                raise FormatError(f"{source}: {name} is {quoted(value)}, which is not one.")
        if trial.method and (trial.n_edges < 1 or None in [getattr(trial, a) for a in AREAS]):
            raise FormatError(f"{source}: a method's cell needs n_edges, {', '.join(AREAS)}.")
        return trial


def benchmark_problem(program: str, ablation: str, seed: int) -> tuple[Task | None, Trial]:
    """A problem with its truth, and what all trials on it have in common.

    Without a problem that is there and has an effect to find, the trial says why.
    """
    trial = Trial(program, ablation, seed, "left out")
    try:
        task = named_task(program, seed=seed, ablation=ABLATIONS[ablation])
        full, empty = task.problem.baselines()
    except EdgewiseError as reason:  # such as a gate's corrupted prompts, which it has not
        return None, replace(trial, why=str(reason))
    if abs(full - empty) <= _NO_EFFECT:
        why = "full model and empty circuit give the same: there is nothing to find."
        return None, replace(trial, why=why)
    assert task.truth is not None, "bundled programs have one"
    return task, replace(
        trial,
        problem_id=hashed(content_of(task)),
        n_prompts=len(task.problem.pairs),
        n_edges=task.truth.graph.n_edges,
        n_true=task.truth.n_edges,
    )


def tried(contestant: Contestant, task: Task, trial: Trial) -> tuple[Trial, Exception | None]:
    """A trial, done: the method is handed the problem and nothing of the truth.

    Beside it: what was wrong with the answer. Raises `OutputError`.
    """
    assert task.truth is not None, "benchmark problems have one"
    problem = task.problem.with_()  # without what a method before left in it
    problem.baselines()
    before, start = problem.passes(), time.perf_counter()
    answer, removals, wrong = None, 0, None
    try:
        answer, removals = contestant.answer(problem, trial.seed)
    except OutputError:
        raise
    except Exception as reason:
        wrong = reason
    seconds = time.perf_counter() - start
    forward, backward = (b - a for a, b in zip(before, problem.passes(), strict=True))
    areas = tied_areas(task.truth)
    if wrong is None:
        try:
            areas = areas_of(answer, task.truth, by=contestant.by)
        except EdgewiseError as reason:
            wrong = reason
    status: Literal["done", "refused", "failed"] = "done"
    if wrong is not None:
        is_refusal = isinstance(wrong, EdgewiseError) and not contestant.is_own
        status = "refused" if is_refusal else "failed"
    finished = replace(
        trial,
        status=status,
        how=contestant.how,
        why="" if wrong is None else explained(wrong),
        forward_passes=forward,
        backward_passes=backward,
        removals=removals,
        seconds=seconds,
        **areas,
    )
    return finished, wrong


def areas_of(answer: Any, truth: Circuit, *, by: By = "signed") -> dict[str, Any]:
    """`AREAS` of an answer, and `n_circuits`: how many it has, None for scores.

    Average precision and ROC AUC are scikit-learn's. `by` is how scores rank. Raises
    `SettingError` for what is no answer.
    """
    items = answer if isinstance(answer, list | tuple) else [answer]
    if not items:
        raise SettingError(f"it returned an empty {type(answer).__name__}; return {_RETURN}.")
    for item in items:
        check_answer(item, truth.graph, "it", wanted=_RETURN)
    if isinstance(answer, EdgeScores):
        order, area, n_circuits = answer, pessimistic_auc(_cuts(answer, truth, by)), None
    elif all(isinstance(item, Circuit) for item in items):
        votes = torch.stack([circuit.keep for circuit in items]).double().sum(dim=0)
        order, by = EdgeScores(truth.graph, votes, "circuits", "circuits that keep it"), "signed"
        area, n_circuits = recovery(items, truth).edge_auc, len(items)
    else:
        raise SettingError(f"it returned a list with EdgeScores in it; return {_RETURN}.")
    known = score_recovery(order, truth, by=by)
    return _areas(known.average_precision, area, known.roc_auc, n_circuits)


def tied_areas(truth: Circuit) -> dict[str, Any]:
    """What an order gets in which all edges tie: it knows nothing."""
    return _areas(truth.n_edges / truth.graph.n_edges, 0.0, 0.5, None)


def _areas(precision: float, pessimistic: float, roc: float, n: int | None) -> dict[str, Any]:
    return dict(zip((*AREAS, "n_circuits"), (precision, pessimistic, roc, n), strict=True))


def _cuts(scores: EdgeScores, truth: Circuit, by: By) -> list[tuple[float, float]]:
    """(FPR, TPR) at every place to cut the order; also those on a straight line of the curve."""
    from sklearn.metrics import roc_curve  # slow to import

    values = scores.values[truth.graph.exists]
    ranks = (values.abs() if by == "absolute" else values).numpy()
    fpr, tpr, _ = roc_curve(truth.keep[truth.graph.exists].numpy(), ranks, drop_intermediate=False)
    return list(zip(fpr.tolist(), tpr.tolist(), strict=True))
