"""How a circuit is selected from scores: shared by every method that scores edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgewise.errors import SettingError
from edgewise.settings.checks import check_choice, number, setting, share, whole

Select = Literal["top", "greedy"]
By = Literal["absolute", "signed"]

_DEFAULT_SHARE = 0.1


@dataclass(frozen=True)
class SelectionSettings:
    """How much to keep, and what. At most one of `edges`, `share`, `above`, `nodes` is given."""

    edges: int | None = setting("Keep this many edges.", default=None)
    share: float | None = setting(
        f"Keep this share of the edges ({_DEFAULT_SHARE} if nothing else is said).", default=None
    )
    above: float | None = setting("Keep edges that score at least this.", default=None)
    nodes: int | None = setting(
        "Keep this many heads and MLPs, by the sum of the scores of the edges out of them, and "
        "every edge between what is kept.",
        default=None,
    )
    select: Select = setting(
        "top: the best edges; greedy: the best that lead on to the output.", default="top"
    )
    by: By = setting(
        "Rank by absolute score (a circuit's opponents belong to it), or by signed score.",
        default="absolute",
    )

    def __post_init__(self) -> None:
        sizes = ("edges", "share", "above", "nodes")
        given = [name for name in sizes if getattr(self, name) is not None]
        if len(given) > 1:
            raise SettingError(f"{' and '.join(given)} are given; say how much to keep only once.")
        if not given:
            object.__setattr__(self, "share", _DEFAULT_SHARE)
        if self.edges is not None:
            object.__setattr__(self, "edges", whole("edges", self.edges, 0))
        if self.share is not None:
            object.__setattr__(self, "share", share("share", self.share))
        if self.above is not None:
            above = number(self.above)
            if above != above:
                raise SettingError(f"above is {self.above!r}; it must be a number.")
            object.__setattr__(self, "above", above)
        if self.nodes is not None:
            object.__setattr__(self, "nodes", whole("nodes", self.nodes, 0))
        check_choice("selection", self.select, get_args(Select))
        check_choice("ranking", self.by, get_args(By))
        if self.select == "greedy" and (self.above is not None or self.nodes is not None):
            raise SettingError("select 'greedy' grows to a number of edges; give edges or share.")
