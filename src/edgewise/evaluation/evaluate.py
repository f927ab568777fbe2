"""One call that evaluates a circuit: how faithful, how complete, how minimal, beside what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from edgewise.arguments import check_choice, whole
from edgewise.circuit import Found
from edgewise.documents import Count
from edgewise.errors import SettingError
from edgewise.evaluation.completeness import Completeness, completeness
from edgewise.evaluation.faithfulness import Faithfulness, faithfulness
from edgewise.evaluation.minimality import Minimality, minimality
from edgewise.evaluation.random_circuits import RandomBand, RandomKind, bands_table, random_band
from edgewise.evaluation.records import Record
from edgewise.problem import Problem, problem_and_circuit
from edgewise.progress import OnProgress, ignore_progress
from edgewise.tables import Chart, Table, count

# Whether the circuit was found on these prompts, on others, or whether nobody said.
Split = Literal["test", "discovery", "given"]


@dataclass(frozen=True, eq=False)
class Evaluation(Record):
    """How good a circuit is on one set of prompts. Parts that were left out are None.

    `split`: "test" for prompts that discovery has not seen, "discovery" for its own, "given" where
    nobody said. `seed` is that of the random circuits and knock-outs.
    """

    model: str
    target: str | None  # the model that the metric compares with, if it is another one
    split: Split
    source: str  # of the prompts
    n_prompts: Count
    pairs_sha256: str
    ablation: str
    seed: int
    circuit_id: str
    faithfulness: Faithfulness
    completeness: Completeness | None
    minimality: Minimality | None
    random: tuple[RandomBand, ...]

    _derived = ("sentences",)

    def __repr__(self) -> str:
        return f"Evaluation({' '.join(self.sentences())})"

    @property
    def title(self) -> str:
        faith, split = self.faithfulness, "" if self.split == "given" else f"{self.split} "
        return (
            f"{faith.n_edges:,} of {faith.n_edges_total:,} edges, on {self.n_prompts:,} {split}"
            f"prompts of {self.source}, {self.ablation} ablation"
        )

    @property
    def _rest(self) -> list[Completeness | Minimality]:
        return [part for part in (self.completeness, self.minimality) if part is not None]

    def sentences(self) -> tuple[str, ...]:
        """What the numbers say: a sentence or two for each thing that was measured."""
        n, faith = self.n_prompts, self.faithfulness
        prompts = {
            "test": f"{n:,} held-out prompts",
            "discovery": f"the prompts it was found on ({n:,})",
            "given": count(n, "prompt"),
        }
        sentences = [*faith.sentences(prompts[self.split])]
        sentences += [band.sentence_beside(faith.circuit) for band in self.random]
        return *sentences, *(sentence for part in self._rest for sentence in part.sentences())

    def tables(self) -> tuple[Table, ...]:
        """A table or two of each part."""
        bands = [bands_table(self.random)] if self.random else []
        rest = (table for part in self._rest for table in part.tables())
        return *self.faithfulness.tables(), *bands, *rest

    def charts(self) -> tuple[Chart, ...]:
        """The metric of every prompt."""
        return self.faithfulness.charts()


def evaluate(
    problem: Problem,
    circuit: Found,
    *,
    split: Split = "given",
    random: int = 20,
    kinds: Sequence[RandomKind] = ("uniform", "connected"),
    knock_outs: int = 10,
    greedy: int = 0,
    groups: Mapping[str, Sequence[str]] | None = None,
    minimal: bool = True,
    seed: int = 0,
    on_progress: OnProgress = ignore_progress,
) -> Evaluation:
    """How good a circuit, or a run's, is on a problem, best one of held-out prompts: `task.test`.

    `random` circuits of its size are drawn for each of `kinds` (connected ones only if there can be
    any of this size); `knock_outs` sets of its nodes at random, one grown to `greedy` nodes, and
    `groups` are knocked out in circuit and model; `minimal` removes each edge alone. 0, or False,
    leaves a part out. `split` says what the prompts are, for the record. Costs some
    4 + 2 · knock_outs + kinds · random forward passes, and the removals of the edges.
    Raises `SettingError`, `UnknownName`, `MetricError`.

    >>> import edgewise as ew
    >>> task = ew.load_task("tracr-reverse")
    >>> print(evaluate(task.test, task.published, random=5).sentences()[0])
    The circuit (15 of 106 edges) keeps 100 % of the effect on 6 prompts.
    """
    circuit = problem_and_circuit(problem, circuit, "evaluate")
    check_choice("split", split, get_args(Split))
    for kind in kinds:
        check_choice("kind of random circuit", kind, get_args(RandomKind))
    random, knock_outs = whole("random", random, 0), whole("knock_outs", knock_outs, 0)
    bands = list[RandomBand]()
    for kind in kinds if random else ():
        how: dict[str, Any] = {"kind": kind, "seed": seed, "on_progress": on_progress}
        try:
            bands.append(random_band(problem, circuit, n=random, **how))
        except SettingError:
            if kind != "connected":  # of few edges none may be
                raise
    how = {"greedy": greedy, "groups": groups, "seed": seed, "on_progress": on_progress}
    rest = completeness(problem, circuit, random=knock_outs, **how)
    return Evaluation(
        model=problem.model.name,
        target=None if problem.target is None else problem.target.name,
        split=split,
        source=problem.pairs.source,
        n_prompts=len(problem.pairs),
        pairs_sha256=problem.pairs.sha256,
        ablation=problem.ablation.kind,
        seed=seed,
        circuit_id=circuit.id,
        faithfulness=faithfulness(problem, circuit),
        completeness=rest,
        minimality=minimality(problem, circuit, on_progress=on_progress) if minimal else None,
        random=tuple(bands),
    )
