"""What the numbers of an evaluation say, in sentences that need no other knowledge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgewise.evaluation.completeness import Completeness
from edgewise.evaluation.faithfulness import Faithfulness
from edgewise.evaluation.minimality import Minimality
from edgewise.evaluation.random_circuits import RandomBand

_PROMPTS = {"test": "held-out prompts", "discovery": "the prompts it was found on"}


def sentences(
    faith: Faithfulness,
    split: str,
    rest: Completeness | None,
    small: Minimality | None,
    bands: Sequence[RandomBand],
) -> tuple[str, ...]:
    """One sentence for each thing that was measured."""
    parts = [_faithful(faith, split), *(_beside_chance(faith, band) for band in bands)]
    parts += [] if rest is None else _complete(faith, rest)
    parts += [] if small is None else [_minimal(faith, small)]
    return tuple(parts)


def percent(share: float) -> str:
    """A share for reading: whole per cents, a decimal where that would say 0 or 100 wrongly."""
    rounded = f"{100 * share:.0f}"
    if rounded in ("0", "-0", "100") and abs(share - round(share)) > 5e-5:
        return f"{100 * share:.2g} %" if abs(share) < 0.5 else f"{100 * share:.2f} %"
    return f"{'0' if rounded == '-0' else rounded} %"


def _kept(faith: Faithfulness) -> str:
    if faith.normalized is None:
        both = f"the full model and the empty circuit {_number(faith.full)}"
        return f"has {faith.metric} {_number(faith.circuit)} {faith.unit} ({both})"
    return f"keeps {percent(faith.normalized)} of the effect"


def _faithful(faith: Faithfulness, split: str) -> str:
    n = len(faith.per_prompt)
    where = f"{n} {_PROMPTS[split]}" if split == "test" else f"{n} prompts"
    if split == "discovery":
        where = f"{_PROMPTS[split]} ({n})"
    return (
        f"The circuit ({faith.n_edges} of {faith.n_edges_total} edges) {_kept(faith)} on {where}."
    )


def _beside_chance(faith: Faithfulness, band: RandomBand) -> str:
    which = "random" if band.kind == "uniform" else "random connected"
    scaled = band.normalized
    about = f"{band.n} drawn, seed {band.seed}"
    if scaled is None:
        return f"A {which} circuit of its size has {_number(band.mean)} on average ({about})."
    good = band.as_good_as(faith.circuit)
    does = "none of them does" if good == 0 else f"{good} of them do"
    return (
        f"A {which} circuit of its size keeps {percent(scaled.mean().item())} on average; {does} "
        f"as well ({about})."
    )


def _complete(faith: Faithfulness, rest: Completeness) -> Iterator[str]:
    yield f"The rest of the model, without the circuit's edges, {_kept(rest.complement)}."
    worst = rest.worst
    if worst is not None:
        off = worst.incompleteness
        scale = abs(faith.full - faith.empty)
        size = f"{_number(off)} {faith.unit}"
        if faith.normalized is not None:
            size = f"{percent(off / scale)} of the effect"
        yield (
            f"With {len(worst.nodes)} of its nodes knocked out, circuit and model differ by up to "
            f"{size} ({len(rest.knock_outs)} sets tried, seed {rest.seed})."
        )


def _minimal(faith: Faithfulness, small: Minimality) -> str:
    n = small.circuit.n_edges
    if not n:
        return "The circuit has no edges to remove."
    parts = [f"{small.needed} of its {n} edges are needed"]
    if small.idle:
        parts.append(f"{small.idle} make no difference")
    if small.harmful:
        parts.append(f"{small.harmful} make it worse")
    return f"Removed one at a time, {', '.join(parts)}."


def _number(value: float) -> str:
    return f"{value:.3g}"
