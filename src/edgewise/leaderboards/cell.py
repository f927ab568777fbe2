"""A cell of a leaderboard: what one method got on one problem; and problems that say nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from edgewise.documents import Finite, decoded
from edgewise.errors import FormatError, shortened
from edgewise.model import PROGRAMS

Status = Literal["done", "refused", "failed", "left out"]
# The first is what methods are ranked by: it says how much of what stands high is true. The paper's
# area credits nothing between two circuits, so that an order which breaks ties by chance gains.
AREAS = ("average_precision", "pessimistic_auc", "roc_auc")


@dataclass(frozen=True)
class Cell:
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
    status: Status
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
    def place(self) -> tuple[str, str, int, str]:
        """Where it stands: program, ablation, seed, method."""
        return self.program, self.ablation, self.seed, self.method

    @property
    def problem(self) -> tuple[str, str, int]:
        """Program, ablation, seed."""
        return self.program, self.ablation, self.seed

    def to_json(self) -> dict[str, Any]:
        """Every column, by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Any, source: str) -> Cell:
        """The cell of `to_json`. Raises `FormatError`, naming `source` and the field."""
        from edgewise.leaderboards.problems import ABLATIONS  # problems.py makes cells

        cell = decoded(cls, row, source)
        for name, value, known in (
            ("program", cell.program, PROGRAMS),
            ("ablation", cell.ablation, ABLATIONS),
        ):
            if value not in known:
                raise FormatError(
                    f"{source}: {name} is {shortened(repr(value))}, which is not one."
                )
        if cell.method and (cell.n_edges < 1 or None in [getattr(cell, a) for a in AREAS]):
            raise FormatError(f"{source}: a method's cell needs n_edges, {', '.join(AREAS)}.")
        return cell


COLUMNS = tuple(field.name for field in fields(Cell))
