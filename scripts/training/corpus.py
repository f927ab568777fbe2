"""What the small models read: documents of task sentences and of random words that come again.

    1. A *line* is a task's prompt with an answer, a twin that leaves the answer open, or a sentence
       of `sentences.py`. Every line carries a weight for each of its tokens in the loss.
    2. A *text* is one to three lines. Half of the texts begin with BOS.
    3. A *repetition* is a run of random tokens of the vocabulary, said again: at once, or in pieces
       between new ones. Only tokens that follow from what was said count in its loss. *Narrow* ones
       use few tokens of the vocabulary, so that each is met often: induction forms on them
       several times sooner, and spreads to the others.
    4. Texts and repetitions are packed into rows; `Network` keeps them apart.

What is held out, beyond the tasks' own splits (no prompt of `validation` or `test` is ever read):
a tenth of the pairs of names in IOI, of the start years in Greater-Than, and of the pairs of last
documented and next argument in Docstring; a tenth of the names in the pronoun task, and of the
nouns as subjects of agreement. Each of these words is met in other contexts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

from edgewise.data.tokenizers import SpacedWordTokenizer, spaced_words
from edgewise.tasks.language import (
    BEHAVIOURS,
    Example,
    Words,
    behaviour_named,
    split_of,
    vocabulary,
)
from edgewise.tasks.language import words as lists
from training.sentences import named, sentence

BOS = 0
Spans = Mapping[str, tuple[int, ...]]
Line = tuple[np.ndarray, np.ndarray]  # token ids, and the weight of each in the loss


@dataclass(frozen=True)
class Mix:
    """What a batch is made of."""

    repetitions: float  # share of documents that are such
    narrow: float  # share of narrow ones among them
    lines: Mapping[str, float]  # shares of the kinds of lines in texts


# IOI and agreement need the most lines.
LINES = {
    "ioi": 0.22,
    "greater-than": 0.10,
    "docstring": 0.07,
    "pronouns": 0.09,
    "agreement": 0.12,
    "capitals": 0.04,
    "addition": 0.12,
    "colours": 0.06,
    "sports": 0.03,
    "sentence": 0.15,
}
# For the last steps: more of what is learned last.
LAST_LINES = {
    "ioi": 0.15,
    "greater-than": 0.06,
    "docstring": 0.05,
    "pronouns": 0.08,
    "agreement": 0.10,
    "capitals": 0.02,
    "addition": 0.12,
    "colours": 0.25,
    "sports": 0.02,
    "sentence": 0.15,
}
# For word rounds: sentences, from which held-out names and nouns are known.
WORD_LINES = {
    "ioi": 0.10,
    "greater-than": 0.04,
    "docstring": 0.04,
    "pronouns": 0.20,
    "agreement": 0.12,
    "capitals": 0.02,
    "addition": 0.05,
    "colours": 0.02,
    "sports": 0.02,
    "sentence": 0.39,
}
# What stands behind the answer.
_ENDS = {"docstring": ":", "addition": ","}
_ANSWER, _OTHER = 4.0, 0.4  # weights in the loss
_NARROW = (64, 300)  # tokens of narrow repetitions
_LINES = 20_000  # of each task, drawn once
# Twins that leave the answer open, so that the answer is given only where it follows.
_OPEN = {"ioi": "abc", "greater-than": "01", "pronouns": "neutral"}
_OPEN_SHARE = 0.15
# Tasks of which only the texts are held out: what they ask for is a fact, or follows from random
# words.
_BY_TEXT = ("induction", "capitals", "addition", "colours", "sports")


def model_vocabulary() -> tuple[str, ...]:
    """BOS, then every word of the tasks and of the other sentences, sorted."""
    rng = Random(0)
    said = {word for _ in range(20_000) for word in spaced_words(sentence(rng))}
    ends = {word for end in [".", "\n", *_ENDS.values()] for word in spaced_words(end)}
    return ("<bos>", *sorted({*vocabulary(), *said, *ends}))


def is_held_out(task: str, words: tuple[str, ...], spans: Spans) -> bool:
    """Whether a prompt of `task` asks about something that training keeps out of it."""

    def said(*names: str) -> list[str]:
        return [words[i].strip() for name in names for i in spans[name]]

    match task:
        case "ioi":
            key = sorted(said("IO", "S1"))
        case "greater-than":
            key = said("XX1", "YY")
        case "docstring":
            key = said("B_def", "C_def")
        case "pronouns":
            key = said("name")
        case "agreement":
            (subject,) = said("subject")
            key = [next(one for one, several in lists.COUNTED if subject in (one, several))]
        case _:
            return False
    return hashlib.sha256(" ".join([task, *key]).encode()).digest()[0] < 256 // 10


def task_examples(
    task: str, rng: Random, split: str, *, held_out: bool, template: str | None = None
) -> Iterator[Example]:
    """Prompts of a split without end, held-out ones or the others."""
    behaviour, words = behaviour_named(task), Words()
    templates = [template] if template else list(behaviour.templates)
    corruption = _OPEN.get(task, next(iter(behaviour.corruptions)))
    is_split = task in _BY_TEXT
    while True:
        chosen = rng.choice(templates)
        example = behaviour.example(words, rng, rng, template=chosen, corruption=corruption)
        fits = is_split or is_held_out(task, example.clean_words, example.spans) == held_out
        if fits and split_of(example.clean) == split:
            yield example


class Corpus:
    """Documents without end. `draw` packs a batch of them."""

    def __init__(self, tokenizer: SpacedWordTokenizer, n_ctx: int, seed: int) -> None:
        self._tokenizer, self._n_ctx = tokenizer, n_ctx
        self._newline = (np.array(tokenizer.encode("\n")), np.array([_OTHER], dtype=np.float32))
        rng = Random(seed)
        self._lines = {task: self._draw_lines(task, rng) for task in LINES if task in BEHAVIOURS}
        self._lines["sentence"] = [self._encoded(sentence(rng)) for _ in range(_LINES)]
        d_vocab = len(tokenizer.words)
        self._shuffled = 1 + np.random.default_rng(seed).permutation(d_vocab - 1)  # without BOS
        self._names = [self._encoded(named(rng)) for _ in range(_LINES)]

    @property
    def words(self) -> tuple[str, ...]:
        return self._tokenizer.words

    def _draw_lines(self, task: str, rng: Random) -> list[Line]:
        stream = task_examples(task, rng, "train", held_out=False)
        lines = []
        while len(lines) < _LINES:
            example = next(stream)
            if task in _OPEN and rng.random() < _OPEN_SHARE:
                text, answer = self._open(task, example, rng)
            else:
                text, answer = example.clean, rng.choice(example.answers)
            lines.append(self._encoded(text, answer, _ENDS.get(task, ".")))
        return lines

    def _open(self, task: str, example: Example, rng: Random) -> tuple[str, str]:
        """A twin's text, and an answer that is as good as the others of it."""
        words = example.corrupted_words
        if task == "ioi":
            if is_held_out(task, words, example.spans):
                return example.clean, example.answers[0]
            return example.corrupted, words[example.spans[rng.choice(("IO", "S1"))][0]]
        if task == "greater-than":
            return example.corrupted, f"{rng.randrange(2, 100):02}"
        return example.corrupted, rng.choice((" he", " she"))

    def _encoded(self, text: str, answer: str = "", end: str = "") -> Line:
        ids = self._tokenizer.encode(text + answer + end)
        weights = np.full(len(ids), _OTHER, dtype=np.float32)
        if answer:
            weights[len(self._tokenizer.encode(text))] = _ANSWER
        return np.array(ids), weights

    def draw(self, rng: np.random.Generator, rows: int, mix: Mix) -> dict[str, Tensor]:
        """A batch of `rows` packed rows.

        `tokens`, `places`, `documents`, `targets` and `weights`, each [row pos].
        """
        width = self._n_ctx + 1  # the last token of a row is a target only
        fields = ("tokens", "places", "documents")
        batch = {name: np.zeros((rows, width), dtype=np.int64) for name in fields}
        weights = np.zeros((rows, width), dtype=np.float32)
        for row in range(rows):
            at = document = misses = 0
            while at < width - 4 and misses < 4:
                if rng.random() < mix.repetitions:
                    ids, weight = self._repetition(rng, mix.narrow)
                else:
                    ids, weight = self._text(rng, mix.lines)
                if at + len(ids) > width:
                    misses += 1
                    continue
                document += 1
                here = slice(at, at + len(ids))
                batch["tokens"][row, here], weights[row, here] = ids, weight
                batch["places"][row, here] = np.arange(len(ids)).clip(max=self._n_ctx - 1)
                batch["documents"][row, here] = document
                at += len(ids)
        tensors = {name: torch.from_numpy(array[:, :-1]) for name, array in batch.items()}
        tensors["targets"] = torch.from_numpy(batch["tokens"][:, 1:])
        tensors["weights"] = torch.from_numpy(weights[:, 1:])
        return tensors

    def _text(self, rng: np.random.Generator, lines_of: Mapping[str, float]) -> Line:
        kinds, shares = list(lines_of), list(lines_of.values())
        lines = []
        for _ in range(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])):
            kind = kinds[rng.choice(len(kinds), p=shares)]
            # Somebody else is often named before IOI, so that names earlier are no answer.
            if kind == "ioi" and rng.random() < 0.2:
                lines.append(self._names[rng.integers(_LINES)])
            lines.append(self._lines[kind][rng.integers(_LINES)])
        parts: list[Line] = []
        for line in lines:
            parts += [self._newline, line] if parts else [line]
            if sum(len(ids) for ids, _ in parts) > self._n_ctx:
                parts = parts[:-2] or parts
                break
        return self._begun(rng, parts)

    def _repetition(self, rng: np.random.Generator, narrow: float) -> Line:
        known = self._shuffled
        if rng.random() < narrow:
            known = known[: _NARROW[int(rng.integers(len(_NARROW)))]]
        said = rng.permutation(known)[: self._n_ctx]
        half = int(rng.integers(3, rng.choice((10, 30))))
        if rng.random() < 0.6:
            before = int(rng.integers(0, 6))
            once = said[before : before + half]
            ids = np.concatenate([said[:before], *[once] * 6])[: self._n_ctx - 1]
            ids = ids[: before + half + int(rng.integers(2, 2 * half + 1))]
            follows = np.arange(len(ids)) > before + half
        else:
            ids, follows = _remixed(rng, said, half)
        return self._begun(rng, [(ids, follows.astype(np.float32))])

    def _begun(self, rng: np.random.Generator, parts: list[Line]) -> Line:
        ids = np.concatenate([ids for ids, _ in parts])
        weights = np.concatenate([weights for _, weights in parts])
        if rng.random() < 0.5:
            return np.concatenate([[BOS], ids]), np.concatenate([[0], weights])
        weights[0] = 0  # nothing says how a text begins
        return ids, weights


def _remixed(rng: np.random.Generator, fresh: np.ndarray, half: int) -> Line:
    """Runs of what was said between new tokens, and which tokens follow from an earlier bigram."""
    said, follows, used = list(fresh[: half + 2]), [False] * (half + 2), half + 2
    while len(said) < min(2 * half + 8, len(fresh) - 6):
        if rng.random() < 0.6:
            start, length = int(rng.integers(0, len(said) - 2)), int(rng.integers(2, 6))
            run = said[start : start + length]
            said += run
            follows += [False] + [True] * (len(run) - 1)
        else:
            said.append(fresh[used])
            follows.append(False)
            used += 1
    return np.array(said), np.array(follows)
