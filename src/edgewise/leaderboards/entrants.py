"""Who takes part: our methods with the settings they run with, and functions of users."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from edgewise.errors import SettingError
from edgewise.methods import METHODS, Method, method_of
from edgewise.methods.execution import run_method, run_together
from edgewise.methods.settings import By
from edgewise.problem import Problem
from edgewise.work.identity import hashed, of_function

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
BASELINES = tuple(row.name for row in METHODS.values() if row.baseline)
# What takes part unless something else is asked for: all that need no training.
USUAL = (
    *(r.name for r in METHODS.values() if not (r.trains or r.variant or r.baseline)),
    *_VARIANTS,
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
        return _own(method_of(given), label)
    known = given.replace("_", "-").lower()
    if known in NAMES:
        if label in NAMES and label != known:
            raise SettingError(f"{known} cannot be called {label!r}: that is another method.")
        return _ours(known, label or known)
    return _own(method_of(given), label)


def _own(method: Method, label: str | None) -> Entrant:
    name, function = label or method.name, method.load()
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
    method = method_of(method_name)
    known = {field.name for field in fields(method.settings)}
    sweeps = "threshold" in known
    how = {"threshold": list(THRESHOLDS), **settings} if sweeps else settings

    def ask(problem: Problem, seed: int) -> Answer:
        more = {**settings, "seed": seed} if "seed" in known else settings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said once in a run's notes; here once per cell
            if sweeps:
                return _swept(problem, method, more)
            finding = run_method(method, problem, method.resolve(more))
        return Answer(finding.scores, finding.variants)

    least = {"threshold": THRESHOLDS[0]} if sweeps else {}
    resolved = method.with_settings(method.resolve({**settings, **least}))
    return Entrant(
        name=label,
        how=_in_words(how),
        identity=hashed([resolved, how]),
        ask=ask,
        by="signed" if method.trains else "absolute",  # log-odds: low ones are sure to go
    )


def _swept(problem: Problem, method: Method, settings: Mapping[str, Any]) -> Answer:
    """The circuits of every threshold; the removals of all of them."""
    each = [method.resolve({**settings, "threshold": t}) for t in THRESHOLDS]
    if method.shares_work("threshold"):
        results = run_together(method, problem, each)
        removals = max(result.variants for result in results)
    else:
        results = [run_method(method, problem, settings) for settings in each]
        removals = sum(result.variants for result in results)
    return Answer([result.circuit for result in results], removals)


def _in_words(settings: Mapping[str, Any]) -> str:
    words = []
    for name, value in settings.items():
        if name == "threshold":
            words.append(f"{len(value)} thresholds, {value[0]:g} to {value[-1]:g}")
        else:
            words.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(words)
