"""Who takes part: our methods with the settings they run with, and functions of users."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from edgewise.errors import SettingError, unknown_name
from edgewise.identity import hashed, of_function
from edgewise.leaderboards.own import OwnMethod, check_function, own_method, own_names
from edgewise.methods import (
    METHODS,
    NO_JOURNAL,
    MethodResult,
    found_together,
    ignore_progress,
    method_named,
)
from edgewise.problem import Problem
from edgewise.settings.selection import By

THRESHOLDS = tuple(10.0**power for power in range(-5, 1))  # of methods that have one
# Of the methods that train: 1,000 steps each, the same for every program.
TRAINED: dict[str, dict[str, Any]] = {
    "sp": {"regularisation": 0.05, "steps": 1000, "learning_rate": 0.01},
    "sp-edges": {"regularisation": 0.05, "steps": 1000, "learning_rate": 0.003},
    "edge-pruning": {"sparsity": 0.85, "steps": 1000},
    # Of one edge, where the others' is of the whole graph: the circuit must not cost more than it
    # is worth (tracr-reverse: 21 edges, and a loss of 0.33 without any).
    "ugs": {"regularisation": 0.001, "steps": 1000},
}
_VARIANTS = {"eap-ig-activations": ("eap-ig", {"over": "activations"})}
BASELINES = ("random", "magnitude")
# What takes part unless something else is asked for: all that need no training.
USUAL = (
    "acdc",
    "exact",
    "eap",
    "eap-ig",
    "eap-ig-activations",
    "clean-corrupted",
    "atp-star",
    "relp",
    "information-flow",
    "hisp",
    *BASELINES,
)
GROUPS = {"usual": USUAL, "trained": tuple(TRAINED)}  # names for several methods
NAMES = (*METHODS, *_VARIANTS)

Given = str | Callable[..., Any]


@dataclass(frozen=True)
class Answer:
    """What was answered: EdgeScores, a Circuit or Circuits if all is well; and removals tested."""

    value: Any
    removals: int = 0


@dataclass(frozen=True, eq=False)
class Entrant:
    """One who takes part: asked with (problem, seed). `identity` hashes what decides its answers.

    `by`: how its scores rank edges. `how`: its settings, in words.
    """

    name: str
    how: str
    identity: str
    ask: Callable[[Problem, int], Answer]
    by: By = "signed"
    own: bool = False


def entrants(
    given: Given | Iterable[Given] | Mapping[str, Given] | None, *, baselines: bool = True
) -> tuple[Entrant, ...]:
    """Those who were named, and the baselines behind them. Raises `UnknownName`, `SettingError`."""
    if isinstance(given, str) or callable(given):
        given = [given]
    if given is None:
        given = USUAL
    named = list(given.items()) if isinstance(given, Mapping) else _expanded(given)
    found: dict[str, Entrant] = {}
    for label, one in named:
        entrant = _entrant(one, label)
        if entrant.name in found:
            raise SettingError(f"two methods are called {entrant.name!r}; give one another name.")
        found[entrant.name] = entrant
    if not found:
        raise SettingError("a leaderboard needs at least one method.")
    if baselines:
        for name in BASELINES:
            found.setdefault(name, _entrant(name, None))
    return tuple(found.values())


def _expanded(given: Iterable[Given]) -> list[tuple[str | None, Given]]:
    """The methods, with those of a group in its place, each of ours once."""
    each: dict[Given, None] = {}
    for one in given:
        if isinstance(one, str) and one in GROUPS:
            each.update(dict.fromkeys(GROUPS[one]))
        else:
            each[one] = None
    return [(None, one) for one in each]


def _entrant(given: Given, label: str | None) -> Entrant:
    if not isinstance(given, str):
        kind = given if hasattr(given, "__qualname__") else type(given)
        name = label or f"{getattr(kind, '__module__', None) or 'own'}:{kind.__qualname__}"
        return _own(check_function(given, name), name)
    known = given.replace("_", "-").lower()
    if known in NAMES:
        if label in NAMES and label != known:
            raise SettingError(f"{known} cannot be called {label!r}: that is another method.")
        return _ours(known, label or known)
    function = own_method(given)
    if function is None:
        hint = "A function of your own is module:function."
        raise unknown_name("method", given, [*NAMES, *GROUPS, *own_names()], hint=hint)
    return _own(function, label or given)


def _own(function: OwnMethod, name: str) -> Entrant:
    if name in NAMES:
        raise SettingError(f"{name!r} is one of Edgewise's own methods; call yours otherwise.")
    return Entrant(
        name=name,
        how="own method",
        identity=of_function(function),
        ask=lambda problem, _: Answer(function(problem)),
        own=True,
    )


def _ours(name: str, label: str) -> Entrant:
    method_name, settings = _VARIANTS.get(name, (name, TRAINED.get(name, {})))
    method = method_named(method_name)
    known = {field.name for field in fields(method.settings)}
    sweeps = "threshold" in known
    how = {"threshold": list(THRESHOLDS), **settings} if sweeps else settings

    def ask(problem: Problem, seed: int) -> Answer:
        more = {**settings, "seed": seed} if "seed" in known else settings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said once in a run's notes; here once per cell
            if sweeps:
                return _swept(problem, method_name, more)
            finding = method.function(problem, method.resolve(more), ignore_progress, NO_JOURNAL)
        return Answer(finding.scores, finding.variants)

    least = {"threshold": THRESHOLDS[0]} if sweeps else {}
    resolved = method.with_settings(method.resolve({**settings, **least}))
    return Entrant(
        name=label,
        how=_in_words(how),
        identity=hashed([resolved, how]),
        ask=ask,
        by="signed" if method_name in TRAINED else "absolute",  # log-odds: low ones are sure to go
    )


def _swept(problem: Problem, name: str, settings: Mapping[str, Any]) -> Answer:
    """The circuits of every threshold; the removals of all of them."""
    method = method_named(name)
    every = [method.resolve({**settings, "threshold": t}) for t in THRESHOLDS]
    if name == "acdc":
        found = found_together(problem, method, every)
        return Answer([one.circuit for one in found], max(one.variants for one in found))
    findings: list[MethodResult] = [
        method.function(problem, each, ignore_progress, NO_JOURNAL) for each in every
    ]
    return Answer([one.circuit for one in findings], sum(one.variants for one in findings))


def _in_words(settings: Mapping[str, Any]) -> str:
    words = []
    for name, value in settings.items():
        if name == "threshold":
            words.append(f"{len(value)} thresholds, {value[0]:g} to {value[-1]:g}")
        else:
            words.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(words)
