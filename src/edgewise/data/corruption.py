"""Corrupted prompts made from clean ones, when there are none: swap, shuffle, or random tokens.

Each keeps a prompt's length in tokens, or says which do not, as ablated values are taken position
by position. A corruption should break the behaviour and leave everything else as it was: swapping
two names does that best, random tokens worst.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool
from torch import Tensor

from edgewise.arguments import check_seed
from edgewise.data.pairs import PromptPairs
from edgewise.data.texts import occurrences
from edgewise.data.tokenizers import Tokenizer
from edgewise.errors import Fault, ProblemError, SettingError, unknown_name

Prompt = TypeVar("Prompt")
CORRUPTIONS = ("shuffle", "random")


def swap_entities(
    prompts: Sequence[str], entities: Sequence[tuple[str, str]] | tuple[str, str]
) -> list[str]:
    """Prompts in which two words change places, everywhere.

    `entities` is a pair for all prompts, or one for each. Words are whole words ("Ann" is not part
    of "Anna"); in scripts without spaces between words, wherever they stand. Raises `ProblemError`
    where one of them is missing.

    >>> swap_entities(["Ann and Bob met. Bob left"], ("Ann", "Bob"))
    ['Bob and Ann met. Ann left']
    """

    def swap(text: str, pair: tuple[str, str]) -> tuple[str, set[str]]:
        parts, at, present = [], 0, set()
        for start, stop, which in occurrences(text, *pair):
            parts += [text[at:start], pair[1 - which]]
            present.add(pair[which])
            at = stop
        return "".join([*parts, text[at:]]), present

    return _swapped(prompts, entities, swap)


def swap_tokens(
    prompts: Sequence[Sequence[int]], entities: Sequence[tuple[int, int]] | tuple[int, int]
) -> list[list[int]]:
    """Prompts of token ids in which two ids change places, everywhere.

    `entities` is a pair for all prompts, or one for each. Raises `ProblemError` where one of them
    is missing.

    >>> swap_tokens([[0, 5, 7, 5]], (5, 7))
    [[0, 7, 5, 7]]
    """

    def swap(row: Sequence[int], pair: tuple[int, int]) -> tuple[list[int], set[int]]:
        partner = dict(zip(pair, reversed(pair), strict=True))
        return [partner.get(token, token) for token in row], {*pair} & {*row}

    return _swapped(prompts, entities, swap)


def _swapped(
    prompts: Sequence[Any],
    entities: Sequence[Any],
    swap: Callable[[Any, Any], tuple[Prompt, set[Any]]],
) -> list[Prompt]:
    """Each prompt with its two entities swapped, both of which it must have."""
    is_shared = len(entities) == 2 and not isinstance(entities[0], tuple | list)
    pairs = [entities] * len(prompts) if is_shared else entities
    if len(pairs) != len(prompts):
        raise ProblemError("swap", [f"there are {len(pairs)} pairs for {len(prompts)} prompts."])
    both = list(zip(pairs, map(swap, prompts, pairs), strict=True))
    faults = [
        Fault(f"it does not have {entity!r}.", where=f"prompt {i}")
        for i, (pair, (_, present)) in enumerate(both)
        for entity in pair
        if entity not in present
    ]
    if faults:
        raise ProblemError("swap", faults)
    return [prompt for _, (prompt, _) in both]


def shuffled(pairs: PromptPairs, *, seed: int = 0) -> PromptPairs:
    """These pairs, each corrupted with the clean prompt of another, of equal length.

    No prompt gets its own text, not even from a duplicate. Raises `ProblemError`, naming every
    prompt that has no partner; `SettingError` for whole answers, which are part of prompts.
    """
    if pairs.whole_answers:
        raise SettingError(
            f"whole answers stand behind the prompts of {pairs.source}; those of another prompt "
            "would take their place. Give corrupted prompts, or use random tokens."
        )
    generator = torch.Generator().manual_seed(check_seed(seed))
    corrupted = pairs.clean.clone()
    faults: list[Fault] = []
    for length in pairs.lengths.unique().tolist():
        group = (pairs.lengths == length).nonzero().flatten().tolist()
        classes: dict[tuple[int, ...], list[int]] = {}
        for k in torch.randperm(len(group), generator=generator).tolist():
            i = group[k]
            classes.setdefault(tuple(pairs.clean[i][pairs.real[i]].tolist()), []).append(i)
        # Equal prompts side by side, each moved on by the largest class: none meets its like.
        order = [i for equal in sorted(classes.values(), key=len, reverse=True) for i in equal]
        step = max(map(len, classes.values()))
        if 2 * step > len(group):
            text = f"no other prompt of its {length} tokens is left to be its corrupted one."
            alone = sorted(order[:step])  # the largest class
            faults += [Fault(text, where=f"pair {i}", column="corrupted") for i in alone]
            continue
        for k, i in enumerate(order):
            corrupted[i] = pairs.clean[order[(k + step) % len(order)]]
    if faults:
        raise ProblemError(f"shuffling {pairs.source}", faults)
    return replace(pairs, corrupted=corrupted)


def random_tokens(
    pairs: PromptPairs,
    vocabulary: int | Sequence[int],
    *,
    special: Sequence[int] = (),
    at: str | Bool[Tensor, "batch pos"] | None = None,
    seed: int = 0,
) -> PromptPairs:
    """These pairs, corrupted with random tokens in place of the clean ones.

    `vocabulary` is the ids to draw from, or how many there are. `special` ids are neither drawn nor
    replaced. `at` is the name of a span or a [batch pos] mask; by default all positions change.
    A token is never replaced by itself.
    """
    ids = list(range(vocabulary)) if isinstance(vocabulary, int) else list(vocabulary)
    drawn = torch.tensor(sorted(set(ids) - set(special)))
    if len(drawn) < 2:
        raise SettingError(f"{len(drawn)} tokens to draw from; there must be at least 2.")
    if isinstance(at, str) and at not in (pairs.spans or {}):
        raise unknown_name("span", at, pairs.spans or ())
    mask = (pairs.spans or {})[at] if isinstance(at, str) else pairs.real if at is None else at
    if mask.shape != pairs.clean.shape or mask.dtype != torch.bool:
        raise SettingError(
            f"at is a {mask.dtype} tensor of shape {tuple(mask.shape)}; it must be a boolean mask "
            f"{tuple(pairs.clean.shape)}, or the name of a span."
        )
    chosen = pairs.real & mask & ~pairs.forced
    for token in special:
        chosen = chosen & (pairs.clean != token)
    nothing = (~chosen.any(dim=1)).nonzero().flatten().tolist()
    if nothing:
        text = "no token of it may be replaced."
        raise ProblemError(
            f"random tokens for {pairs.source}", [Fault(text, where=f"pair {i}") for i in nothing]
        )
    generator = torch.Generator().manual_seed(check_seed(seed))
    own = torch.searchsorted(drawn, pairs.clean).clamp(max=len(drawn) - 1)
    among = drawn[own] == pairs.clean  # the clean token is one of those to draw
    draws = torch.randint(len(drawn) - 1, pairs.clean.shape, generator=generator)
    anything = torch.randint(len(drawn), pairs.clean.shape, generator=generator)
    draws = torch.where(among, draws + (draws >= own), anything)  # skip the clean token itself
    return replace(pairs, corrupted=torch.where(chosen, drawn[draws], pairs.clean))


def corrupt(
    pairs: PromptPairs, how: str, *, n_tokens: int, tokenizer: Tokenizer | None, seed: int = 0
) -> PromptPairs:
    """Pairs without corrupted prompts, with them: "shuffle", "random", or "random:SPAN".

    Raises `UnknownName` for another word, `SettingError` if there are corrupted prompts already.
    """
    name, _, span = how.partition(":")
    if name not in CORRUPTIONS or (span and name != "random"):
        raise unknown_name("corruption", how, (*CORRUPTIONS, "random:SPAN"))
    if pairs.corrupted is not None:
        raise SettingError(
            f"{pairs.source} has corrupted prompts; to make others, leave its own out: "
            'columns={"corrupted": None}, or --columns corrupted=.'
        )
    if name == "shuffle":
        return shuffled(pairs, seed=seed)
    n_tokens = min(n_tokens, getattr(tokenizer, "n_tokens", n_tokens))  # rows that only pad W_E
    return random_tokens(
        pairs, n_tokens, special=special_ids(tokenizer), at=span or None, seed=seed
    )


def special_ids(tokenizer: Tokenizer | None) -> tuple[int, ...]:
    """The ids of a tokenizer that are no part of text: BOS, and others if it says so."""
    if tokenizer is None:
        return ()
    ids = {*getattr(tokenizer, "special_ids", ()), tokenizer.bos}
    return tuple(sorted(i for i in ids if i is not None))
