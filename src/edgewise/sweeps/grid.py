"""What a sweep is asked: problems times methods with their settings, as points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Any

from edgewise.errors import SettingError
from edgewise.methods import method_of
from edgewise.sweeps.together import several

_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Point:
    """One circuit to find: the problem as asked, the method, its settings as used.

    `given` names the settings that were given; the others have their defaults.
    """

    problem: Mapping[str, Any]
    method: str
    settings: Any
    given: tuple[str, ...]

    @property
    def label(self) -> str:
        """For progress: the method, what it works on, the settings that were given."""
        about = ", ".join(f"{k} {v}" for k, v in self.problem.items() if v is not None)
        how = ", ".join(f"{name} {getattr(self.settings, name)}" for name in self.given)
        return f"{self.method} on {about}" + (f" ({how})" if how else "")

    @property
    def apart_from_shared(self) -> tuple[Any, ...]:
        """Equal for points whose circuits are found together, with the work they share done once.

        ACDC's points that differ in their threshold, an attribution's that differ in how the
        circuit is selected, HISP's that differ in how many activations they keep.
        """
        own, method = asdict(self.settings), method_of(self.method)
        kept = {name: value for name, value in own.items() if not method.shares_work(name)}
        return tuple(self.problem.items()), self.method, tuple(kept.items())


def grid(over: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]]) -> list[Point]:
    """Every problem with every method in every combination of its settings, in the order given.

    A value that is a list, tuple, range or array is several values; all else is one. Raises
    `SettingError` and `UnknownName` for settings that a method refuses, before anything is loaded.

    >>> points = grid({"task": "ioi", "seed": [0, 1]}, {"acdc": {"threshold": [0.01, 0.1]}})
    >>> [(p.problem["seed"], p.settings.threshold) for p in points]
    [(0, 0.01), (0, 0.1), (1, 0.01), (1, 0.1)]
    """
    if not isinstance(methods, Mapping) or not methods:
        raise SettingError(
            "a sweep needs methods with their settings: {'acdc': {'threshold': [0.01, 0.1]}}."
        )
    found = []
    settings = [setting for name, given in methods.items() for setting in _settings(name, given)]
    for problem in _combinations(over, "the problem"):
        found += [Point(problem, *setting) for setting in settings]
    return found


def _settings(name: str, given: Mapping[str, Any]) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    method = method_of(name)
    if not isinstance(given, Mapping):
        raise SettingError(
            f"the settings of {name} are {given!r:.60}; pass names with one or several values."
        )
    for choice in _combinations(given, name):
        try:
            yield method.name, method.resolve(choice), tuple(choice)
        except SettingError as reason:
            reason.add_note(
                f"(In the point {choice}. Values that do not go together are two sweeps into one "
                "folder.)"
            )
            raise


def _combinations(values: Mapping[str, Any], whose: str) -> Iterator[dict[str, Any]]:
    each: dict[str, Sequence[Any]] = {}
    for name, value in values.items():
        found = several(value)
        each[name] = [value] if found is None else found
        if not each[name]:
            raise SettingError(f"{name} of {whose} is empty; a sweep needs at least one value.")
        for one in each[name]:
            if not isinstance(one, _PLAIN):
                raise SettingError(
                    f"{name} of {whose} is {one!r:.60}; a sweep keeps text, numbers, true and "
                    "false on disk. For models and prompts in memory use edgewise.sweep, or a "
                    "`load` function that takes their names."
                )
    for row in product(*each.values()):
        yield dict(zip(each, row, strict=True))


def setting_names(methods: Iterable[str]) -> list[str]:
    """The settings of any of these methods, in their order. Raises `UnknownName`."""
    names = [f.name for name in methods for f in fields(method_of(name).settings)]
    return list(dict.fromkeys(names))
