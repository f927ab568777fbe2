"""The RASP programs that Edgewise bundles as compiled transformers.

Read by `compile_programs.py`; needs `tracr-pypi`. A program with a library builder (`lib.make_…`)
is used as tracr ships it; the others are ours. `source` says the same as `build` in the notation
of the RASP paper (arXiv 2106.06981): `select(keys, queries, predicate(key, query))`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from tracr.compiler import lib
from tracr.rasp import rasp


@dataclass(frozen=True)
class Program:
    """One RASP program and the inputs it is compiled for."""

    name: str
    description: str
    build: Callable[[], rasp.SOp]
    source: str
    vocab: tuple[int | str, ...]
    max_length: int  # tokens besides the beginning-of-sequence token
    causal: bool = False
    distinct: bool = False  # True: no token may occur twice in an input


def fresh(program: Program) -> rasp.SOp:
    """Build `program` with basis labels that do not depend on what was built before it.

    tracr numbers expressions with one global counter, and `lib.make_reverse` and others share one
    `lib.length` that keeps the number it got first.
    """
    rasp.RASPExpr._ids = itertools.count(1)
    lib.length = lib.make_length()
    return program.build()


def tokens_with_index() -> rasp.SOp:
    """Token and position as one value, e.g. "a2": tracr compiles no `and` of two selectors."""
    join = rasp.SequenceMap(lambda token, index: f"{token}{index}", rasp.tokens, rasp.indices)
    return join.named("token_at")


def times_seen_before() -> rasp.SOp:
    """How often the token at each position occurs at earlier positions (not causal)."""
    token_at = tokens_with_index()
    earlier = rasp.Select(token_at, token_at, lambda k, q: k[0] == q[0] and int(k[1]) < int(q[1]))
    return rasp.SelectorWidth(earlier.named("same_token_earlier")).named("seen_before")


def first_or_dash(seen: rasp.SOp, count_at_first: int) -> rasp.SOp:
    """The token where `seen == count_at_first`, otherwise "-"."""
    keep = rasp.SequenceMap(lambda t, n: t if n == count_at_first else "-", rasp.tokens, seen)
    return keep.named("first_or_dash")


def remove_duplicates() -> rasp.SOp:
    return first_or_dash(times_seen_before(), 0)


def double_histogram() -> rasp.SOp:
    hist = lib.make_hist().named("hist")
    # Only the first occurrence of a token votes, so that each distinct token counts once.
    vote = rasp.SequenceMap(lambda n, seen: n if seen == 0 else 0, hist, times_seen_before())
    same_count = rasp.Select(vote.named("vote"), hist, rasp.Comparison.EQ).named("same_count")
    return rasp.SelectorWidth(same_count).named("double_histogram")


def induction() -> rasp.SOp:
    same = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ).named("same_token")
    first = first_or_dash(rasp.SelectorWidth(same).named("seen_so_far"), 1)
    previous = lib.shift_by(1, first).named("previous_first")
    # A plain function, because `Comparison.EQ` refuses the None that `previous` has at the start.
    follows = rasp.Select(previous, rasp.tokens, lambda key, query: key == query).named("follows")
    return rasp.Aggregate(follows, rasp.tokens).named("induction")


def palindrome() -> rasp.SOp:
    reverse = lib.make_reverse(rasp.tokens)
    differs = rasp.SequenceMap(lambda x, y: int(x != y), rasp.tokens, reverse).named("differs")
    differs = rasp.numerical(rasp.Map(lambda x: x, differs)).named("differs_number")
    everywhere = rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.TRUE).named("everywhere")
    fraction = rasp.numerical(rasp.Aggregate(everywhere, differs, default=0)).named("fraction")
    return rasp.Map(lambda x: x == 0, fraction).named("palindrome")


def first_equals_last() -> rasp.SOp:
    at_first = rasp.Select(rasp.indices, rasp.indices, lambda key, query: key == 0)
    last_index = (lib.length - 1).named("last_index")
    at_last = rasp.Select(rasp.indices, last_index, rasp.Comparison.EQ)
    first = rasp.Aggregate(at_first.named("at_first"), rasp.tokens).named("first")
    last = rasp.Aggregate(at_last.named("at_last"), rasp.tokens).named("last")
    return rasp.SequenceMap(lambda x, y: x == y, first, last).named("first_equals_last")


def parity() -> rasp.SOp:
    return rasp.Map(lambda n: n % 2, lib.make_count(rasp.tokens, "a")).named("parity")


PROGRAMS: tuple[Program, ...] = (
    Program(
        "tracr-reverse",
        "Reverses its input; the tracr-reverse task of the ACDC paper.",
        lambda: lib.make_reverse(rasp.tokens),
        "length = selector_width(select(tokens, tokens, True))\n"
        "flip = select(indices, length - indices - 1, ==)\n"
        "reverse = aggregate(flip, tokens)",
        vocab=(1, 2, 3),
        max_length=5,
    ),
    Program(
        "tracr-xproportion",
        "The fraction of tokens so far that are x; the tracr-xproportion task of the ACDC paper.",
        lambda: lib.make_frac_prevs(rasp.tokens == "x"),
        'is_x = numerical(tokens == "x")\n'
        "previous = select(indices, indices, <=)\n"
        "fraction = aggregate(previous, is_x, default=0)",
        vocab=("w", "x", "y", "z"),
        max_length=5,
    ),
    Program(
        "tracr-length",
        "The length of the input, at every position.",
        lib.make_length,
        "length = selector_width(select(tokens, tokens, True))",
        vocab=("a", "b", "c"),
        max_length=5,
    ),
    Program(
        "tracr-count",
        "How many tokens are a, at every position.",
        lambda: lib.make_count(rasp.tokens, "a"),
        'count = selector_width(select(tokens, tokens, key == "a"))',
        vocab=("a", "b", "c"),
        max_length=5,
    ),
    Program(
        "tracr-parity",
        "Whether the number of a is odd (1) or even (0), at every position.",
        parity,
        'count = selector_width(select(tokens, tokens, key == "a"))\nparity = count % 2',
        vocab=("a", "b", "c"),
        max_length=5,
    ),
    Program(
        "tracr-histogram",
        "How often the token at each position occurs in the whole input.",
        lib.make_hist,
        "histogram = selector_width(select(tokens, tokens, ==))",
        vocab=("a", "b", "c", "d"),
        max_length=5,
    ),
    Program(
        "tracr-count-less-frequent",
        "How many tokens occur at most twice in the input, at every position.",
        lambda: lib.make_count_less_freq(2),
        "histogram = selector_width(select(tokens, tokens, ==))\n"
        "count = selector_width(select(histogram, histogram, key <= 2))",
        vocab=("a", "b", "c"),
        max_length=5,
    ),
    Program(
        "tracr-double-histogram",
        "How many distinct tokens occur as often as the token at each position.",
        double_histogram,
        "histogram = selector_width(select(tokens, tokens, ==))\n"
        "token_at = (tokens, indices)\n"
        "earlier = select(token_at, token_at, same token and key.index < query.index)\n"
        "vote = histogram if selector_width(earlier) == 0 else 0\n"
        "double_histogram = selector_width(select(vote, histogram, ==))",
        vocab=("a", "b", "c"),
        max_length=4,
    ),
    Program(
        "tracr-remove-duplicates",
        "The token where it occurs for the first time, otherwise a dash.",
        remove_duplicates,
        "token_at = (tokens, indices)\n"
        "earlier = select(token_at, token_at, same token and key.index < query.index)\n"
        'output = tokens if selector_width(earlier) == 0 else "-"',
        vocab=("a", "b", "c"),
        max_length=4,
    ),
    Program(
        "tracr-sort",
        "Sorts its input in ascending order; equal tokens are allowed.",
        lambda: lib.make_sort(rasp.tokens, rasp.tokens, max_seq_len=4, min_key=1),
        "key = tokens + indices / 4\n"
        "target = selector_width(select(key, key, <))\n"
        "sort = aggregate(select(target, indices, ==), tokens)",
        vocab=(1, 2, 3),
        max_length=4,
    ),
    Program(
        "tracr-sort-unique",
        "Sorts an input of distinct tokens in ascending order.",
        lambda: lib.make_sort_unique(rasp.tokens, rasp.tokens),
        "target = selector_width(select(tokens, tokens, <))\n"
        "sort = aggregate(select(target, indices, ==), tokens)",
        vocab=(1, 2, 3, 4, 5),
        max_length=5,
        distinct=True,
    ),
    Program(
        "tracr-most-frequent",
        "Sorts its input by falling frequency, ties in input order: the most frequent token leads.",
        lambda: lib.make_sort_freq(max_seq_len=4),
        "histogram = selector_width(select(tokens, tokens, ==))\n"
        "key = -histogram + indices / 4\n"
        "target = selector_width(select(key, key, <))\n"
        "sort = aggregate(select(target, indices, ==), tokens)",
        vocab=("a", "b", "c"),
        max_length=4,
    ),
    Program(
        "tracr-pair-balance",
        "The fraction of ( minus the fraction of ) among the tokens so far.",
        lambda: lib.make_pair_balance(rasp.tokens, "(", ")"),
        "previous = select(indices, indices, <=)\n"
        'opens = aggregate(previous, numerical(tokens == "("), default=0)\n'
        'closes = aggregate(previous, numerical(tokens == ")"), default=0)\n'
        "balance = opens - closes",
        vocab=("(", ")", "a"),
        max_length=5,
    ),
    # `lib.make_shuffle_dyck2`, with two kinds of bracket, compiles to 638 KB: too large to ship.
    Program(
        "tracr-dyck",
        "Whether the brackets of the whole input are balanced (Dyck-1), at every position.",
        lambda: lib.make_shuffle_dyck(["()"]),
        "balance = the program tracr-pair-balance\n"
        "negative = numerical(balance < 0)\n"
        "any_negative = aggregate(select(indices, indices, True), negative, default=0)\n"
        "length = selector_width(select(tokens, tokens, True))\n"
        "last_zero = aggregate(select(indices, length - 1, ==), balance == 0)\n"
        "dyck = last_zero and not any_negative",
        vocab=("(", ")", "a"),
        max_length=4,
    ),
    Program(
        "tracr-palindrome",
        "Whether the input reads the same backwards, at every position.",
        palindrome,
        "length = selector_width(select(tokens, tokens, True))\n"
        "reverse = aggregate(select(indices, length - indices - 1, ==), tokens)\n"
        "differs = numerical(tokens != reverse)\n"
        "palindrome = aggregate(select(indices, indices, True), differs, default=0) == 0",
        vocab=("a", "b", "c"),
        max_length=5,
    ),
    Program(
        "tracr-first-equals-last",
        "Whether the first token equals the last, at every position.",
        first_equals_last,
        "length = selector_width(select(tokens, tokens, True))\n"
        "first = aggregate(select(indices, indices, key == 0), tokens)\n"
        "last = aggregate(select(indices, length - 1, ==), tokens)\n"
        "output = first == last",
        vocab=("a", "b", "c"),
        max_length=5,
    ),
    Program(
        "tracr-detect",
        "Whether the pattern a b ends at each position; undefined at the first.",
        lambda: lib.detect_pattern(rasp.tokens, "ab"),
        "shift = select(indices, indices, query == key + 1)\n"
        'detect = aggregate(shift, tokens == "a") and tokens == "b"',
        vocab=("a", "b", "c"),
        max_length=5,
    ),
    Program(
        "tracr-induction",
        "The token that followed the first earlier occurrence of the current token; causal.",
        induction,
        "seen = selector_width(select(tokens, tokens, ==))  # causal: so far\n"
        'first = tokens if seen == 1 else "-"\n'
        "previous = aggregate(select(indices, indices, query == key + 1), first)\n"
        "induction = aggregate(select(previous, tokens, ==), tokens)",
        vocab=("a", "b", "c"),
        max_length=6,
        causal=True,
    ),
)
