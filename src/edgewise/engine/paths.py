"""Which removals are evaluated together: a path that the sequential algorithm may take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple


@dataclass(frozen=True)
class Path:
    """Removals of candidates into one receiver: one variant for each candidate of a window.

    Variant i removes what is `gone` already, candidate `start + i`, and of the window's earlier
    candidates those expected to go: `goes`.
    """

    gone: tuple[int, ...]
    start: int
    goes: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.goes)

    @property
    def window(self) -> slice:
        return slice(self.start, self.start + len(self))

    def variant(self, i: int) -> Path:
        """Variant i alone."""
        going = [self.start + j for j in range(i) if self.goes[j]]
        return Path.one((*self.gone, *going), self.start + i)

    def before(self, i: int) -> int | None:
        """The variant that is the state before variant i's own removal; None: only `gone` is."""
        return max((j for j in range(i) if self.goes[j]), default=None)

    def halves(self) -> tuple[Path, Path]:
        """The same variants in two parts."""
        half = len(self) // 2
        going = [self.start + i for i in range(half) if self.goes[i]]
        rest = Path((*self.gone, *going), self.start + half, self.goes[half:])
        return replace(self, goes=self.goes[:half]), rest

    @classmethod
    def one(cls, gone: tuple[int, ...], index: int) -> Path:
        """A single variant: what is gone, and one candidate."""
        return cls(gone, index, (True,))


class Estimate(NamedTuple):
    """A loss, and how far from it the exact one may be."""

    loss: float
    noise: float = 0.0
