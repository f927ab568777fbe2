"""What varies, as points: the product of all values; and how long the rest of them will take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, TypeVar

from edgewise.errors import SettingError

P = TypeVar("P")


def values_of(value: Any) -> list[Any] | None:
    """The values of a list, range or array, as plain numbers; None for what is one value."""
    # A tensor or array of no dimension is one number, though it has the method of an iterable.
    if not isinstance(value, Iterable) or isinstance(value, str) or getattr(value, "ndim", 1) == 0:
        return None
    return value.tolist() if hasattr(value, "tolist") else list(value)


def combinations(axes: Mapping[str, Any], whose: str) -> Iterator[dict[str, Any]]:
    """Every combination, in the order given; an axis that is no list, range or array is one value.

    Raises `SettingError` for an axis without values, which it says to be of `whose`.

    >>> [*combinations({"seed": [0, 1], "metric": "kl"}, "the problem")]
    [{'seed': 0, 'metric': 'kl'}, {'seed': 1, 'metric': 'kl'}]
    """
    values = {}
    for name, value in axes.items():
        several = values_of(value)
        values[name] = [value] if several is None else several
        if not values[name]:
            raise SettingError(f"{name} of {whose} is empty; a sweep needs at least one value.")
    for choice in product(*values.values()):
        yield dict(zip(values, choice, strict=True))


def grouped(points: Iterable[P], key: Callable[[P], Hashable]) -> list[list[P]]:
    """Points of equal key together, in the order of the first of each."""
    groups: dict[Hashable, list[P]] = {}
    for point in points:
        groups.setdefault(key(point), []).append(point)
    return list(groups.values())


class Pace:
    """Seconds per point of the jobs finished so far; jobs of one kind take about as long."""

    def __init__(self) -> None:
        self._seconds: dict[Hashable, float] = defaultdict(float)
        self._points: dict[Hashable, int] = defaultdict(int)

    def add(self, kind: Hashable, n_points: int, seconds: float) -> None:
        """A job of so many points took this long."""
        self._seconds[kind] += seconds
        self._points[kind] += n_points

    def seconds_left(
        self, jobs: Sequence[tuple[Hashable, int]], n_processes: int = 1
    ) -> float | None:
        """What jobs, each with its kind and points, will take; None before the first has finished.

        A kind that none has finished of is taken to be like the others together.
        """
        if not self._points:
            return None
        overall = sum(self._seconds.values()) / sum(self._points.values())
        total = 0.0
        for kind, n_points in jobs:
            n_done = self._points.get(kind, 0)
            total += n_points * (self._seconds[kind] / n_done if n_done else overall)
        return total / n_processes


def duration(seconds: float) -> str:
    """A time for reading.

    >>> duration(8), duration(170), duration(9000)
    ('8 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
