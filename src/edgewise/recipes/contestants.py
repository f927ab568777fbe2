"""Who takes part in a leaderboard: our methods with their settings, and functions of users."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from typing import Any

from edgewise.errors import SettingError
from edgewise.methods import METHODS, Method, method_of
from edgewise.methods.execution import run_method, run_together
from edgewise.methods.settings import By
from edgewise.problem import Problem
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
