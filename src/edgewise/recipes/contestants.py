"""Who takes part in a leaderboard: our methods with their settings, and functions of users."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from edgewise.errors import SettingError
from edgewise.methods import METHODS, Method, method_of
from edgewise.methods.execution import run_method, run_together
from edgewise.methods.settings import By
from edgewise.problem import Problem
from edgewise.recipes.paper import package_text
from edgewise.work.identity import hashed, of_function

THRESHOLDS = tuple(10.0**power for power in range(-5, 1))  # of methods that have one
_TOML = tomllib.loads(package_text("leaderboard.toml"))
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
            range_ = f"{THRESHOLDS[0]:g} to {THRESHOLDS[-1]:g}"
            words.insert(0, f"{len(THRESHOLDS)} thresholds, {range_}")
        return ", ".join(words)

    def answer(self, problem: Problem, seed: int) -> tuple[Any, int]:
        """EdgeScores, a Circuit or Circuits if all is well; and how many removals were tested."""
        method = self.method
        if method.function is not None:
            return method.function(problem), 0
        settings = dict(self.settings)
        if _has_setting(method, "seed"):
            settings["seed"] = seed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said once in a run's notes; here once per problem
            if not _has_setting(method, "threshold"):
                result = run_method(method, problem, method.resolve(settings))
                return result.scores, result.variants
            choices = [method.resolve({**settings, "threshold": tau}) for tau in THRESHOLDS]
            if method.shares_work("threshold"):
                results = run_together(method, problem, choices)
                removals = max(result.variants for result in results)
            else:
                results = [run_method(method, problem, choice) for choice in choices]
                removals = sum(result.variants for result in results)
        return [result.circuit for result in results], removals


def contestants(
    methods: AnyContestant | Iterable[AnyContestant] | Mapping[str, AnyContestant] | None,
) -> tuple[Contestant, ...]:
    """Those who are named, then the baselines. Raises `UnknownName`, `SettingError`."""
    if isinstance(methods, str) or callable(methods):
        methods = [methods]
    if isinstance(methods, Mapping):
        named = list(methods.items())
    else:  # a group stands for its methods
        members = [
            member
            for method in (["usual"] if methods is None else methods)
            for member in (GROUPS.get(method, (method,)) if isinstance(method, str) else (method,))
        ]
        named = [("", method) for method in dict.fromkeys(members)]
    chosen: dict[str, Contestant] = {}
    for label, method in named:
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
    known = method.replace("_", "-").lower() if isinstance(method, str) else None
    if known not in NAMES:
        row = method_of(method)
        name = label or row.name
        if name in NAMES:
            raise SettingError(f"{name!r} is one of Edgewise's own methods; call yours otherwise.")
        return Contestant(name, row, of_function(row.load()))
    if label in NAMES and label != known:
        raise SettingError(f"{known} cannot be called {label!r}: that is another method.")
    own_name, settings = _VARIANTS.get(known, (known, TRAINED.get(known, {})))
    row = method_of(own_name)
    taus = {"threshold": list(THRESHOLDS)} if _has_setting(row, "threshold") else {}
    first = {name: values[0] for name, values in taus.items()}
    resolved = row.with_settings(row.resolve({**settings, **first}))
    return Contestant(label or known, row, hashed([resolved, {**taus, **settings}]), settings)


def _has_setting(method: Method, name: str) -> bool:
    return name in {field.name for field in fields(method.settings)}
