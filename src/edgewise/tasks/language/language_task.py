"""Language tasks on a model: examples become prompts for its tokenizer, prompts a problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from edgewise.data import PromptPairs, Tokenizer, adds_bos
from edgewise.data.rows import RowFault
from edgewise.data.texts import Prompt, TextReader, token_ranges
from edgewise.errors import Fault, ProblemError, SettingError
from edgewise.model import Model
from edgewise.tasks.language import (
    BEHAVIOURS,
    Behaviour,
    Example,
    Words,
    examples,
    induction,
    split_of,
)
from edgewise.tasks.published import PUBLISHED, published_circuit
from edgewise.tasks.task import Task, TaskRequest, task_of

DEFAULT_MODEL = "small-lm"
# GPT-2 and the papers' small models; attn-only-4l. Their tokenizers add no BOS, unless
# TransformerLens has told them to.
_PAPERS_BOS = ("<|endoftext|>", "<|BOS|>")
# Some tokenizers treat the beginning of a text in a way of their own: what stands before words with
# a space, and without.
_ANCHORS = ("The", "\n")


def make_language_task(model: Model, request: TaskRequest) -> Task:
    """Prompts of a language task for the model's tokenizer, in two splits.

    The published circuit, and its graph (with switches), where the model has the paper's shape.
    """
    behaviour = BEHAVIOURS[request.spec.name]
    n = behaviour.n if request.n is None else request.n
    splits = [_pairs(model, request, behaviour, n, split=s) for s in ("validation", "test")]
    published = published_circuit(behaviour.name) if behaviour.name in PUBLISHED else None
    if published is not None and replace(published.graph, switches=False) != model.graph:
        published = None  # the paper's model had another shape
    origin = {"n": n, "template": request.template, "corruption": request.corruption}
    if request.bos is not None:
        origin["bos"] = request.bos  # asked for; otherwise the task and the tokenizer know
    if request.chat:
        origin["chat"] = True
    graph = None if published is None else published.graph
    return task_of(model, request, splits, origin=origin, graph=graph, published=published)


def _pairs(
    model: Model, request: TaskRequest, behaviour: Behaviour, n: int, *, split: str
) -> PromptPairs:
    """The prompts of a split, with BOS where the paper has it.

    That is on the paper's tokenizers, and on those that have no convention of their own. Others
    add by themselves what they add, as their models were trained; a chat template says where it is.
    """
    tokenizer, bos = model.tokenizer, request.bos
    if tokenizer is None:
        if behaviour is induction.INDUCTION and not request.chat:
            return _induction_of_ids(model, request, n, split=split)
        raise SettingError(
            f"{behaviour.name} is a task of text, and {model.name} has no tokenizer. Load the "
            "model with one: load_model(…, tokenizer=…)."
        )
    if bos is None and not request.chat and tokenizer.bos is not None:
        is_papers = tokenizer.decode([tokenizer.bos]) in _PAPERS_BOS
        bos = behaviour.bos if is_papers or adds_bos(tokenizer) is None else None
    reader = TokenFit(tokenizer, f"{model.name}'s tokenizer")
    drawn = examples(
        behaviour.name,
        n,
        request.seed,
        split=split,
        template=request.template,
        corruption=request.corruption,
        words=Words(reader.fits, reader.length, reader.name),
    )
    return reader.pairs(drawn, bos=bos, chat=request.chat, source=behaviour.name)


def _induction_of_ids(model: Model, request: TaskRequest, n: int, *, split: str) -> PromptPairs:
    """Induction on token ids alone, for a model without a tokenizer."""
    template, corruption, symbols = (
        request.template,
        request.corruption,
        range(model.config.d_vocab),
    )
    half = min(induction.HALF, len(symbols) // 4)
    if half < 4:
        raise SettingError(
            f"{model.name} knows {len(symbols)} tokens; induction needs at least 16 to choose from."
        )
    if n < 1:
        raise SettingError(f"asked for {n} prompts; a task needs at least 1.")
    rng, noise = Random(request.seed), Random(f"{request.seed} {corruption}")
    clean, corrupted = list[list[int]](), list[list[int]]()
    while len(clean) < n:
        row = induction.draw_sequence(rng, symbols, template, half=half)
        if induction.completions(row) and split_of(str(row)) == split and row not in clean:
            clean.append(row)
            changed = induction.corrupted_sequence(noise, symbols, row, corruption=corruption)
            corrupted.append(changed[:-1])
    has_answers = template == "single"
    spans = [induction.roles(row, template) for row in clean]
    return PromptPairs.from_tokens(
        [row[:-1] for row in clean],
        corrupted,
        answers=[row[-1] for row in clean] if has_answers else None,
        wrong=[sorted({*row} - {row[-1]}) for row in clean] if has_answers else None,
        answer_positions=[list(induction.completions(row)) for row in clean],
        spans={name: [list(places[name]) for places in spans] for name in spans[0]},
        source=request.spec.name,
    )


class TokenFit:
    """What one tokenizer makes of words. `name` is how errors call it."""

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        self.name = name
        self._tokenizer = tokenizer
        self._known: dict[str, tuple[int, ...] | None] = {}

    def fits(self, run: tuple[str, ...]) -> bool:
        """Whether the run of words, as it stands in a prompt, is one token a word.

        A token for unknown words is none.
        """
        text = "".join(run)
        ids = self._inside(text)
        if ids is None or len(ids) != len(run):
            return False
        if "".join(self._tokenizer.decode(ids).split()) != "".join(text.split()):
            return False
        return all(self._inside("".join(run[:k])) == ids[:k] for k in range(1, len(run)))

    def length(self, text: str) -> int:
        """How many tokens a text is within a prompt; 0 if it has words the tokenizer lacks."""
        return len(self._inside(text) or ())

    def pairs(
        self, examples: Sequence[Example], *, bos: bool | None, chat: bool = False, source: str
    ) -> PromptPairs:
        """The examples as prompt pairs with spans. Raises `ProblemError`.

        A span that some prompt lacks, or whose words are not tokens of their own, is left out.
        """
        reader = TextReader(self._tokenizer, source, bos=bos, chat=chat)
        try:
            prompts = [reader.prompt(example.clean) for example in examples]
        except RowFault as reason:
            raise ProblemError(f"{source} with {self.name}", [Fault(reason.text)]) from reason
        ends = [self._ends(e.clean_words, p) for e, p in zip(examples, prompts, strict=True)]
        answer_at = [
            # Where a token crosses a word's end, the answer is read at the next end that is one.
            [next(end for end in of_prompt[i + 1 :] if end is not None) - 1 for i in e.answer_at]
            for e, of_prompt in zip(examples, ends, strict=True)
        ]
        single = all(len(e.answer_at) == 1 for e in examples)
        at_ends = all(at == [len(p.ids) - 1] for at, p in zip(answer_at, prompts, strict=True))
        spans = {
            name: [_positions(e, end, name) for e, end in zip(examples, ends, strict=True)]
            for name in examples[0].spans
        }
        return PromptPairs.from_text(
            [e.clean for e in examples],
            [e.corrupted for e in examples],
            tokenizer=self._tokenizer,
            answers=[list(e.answers) for e in examples] if single else None,
            wrong=[list(e.wrong) for e in examples] if single and examples[0].wrong else None,
            answer_positions=None if at_ends else answer_at,
            spans={name: rows for name, rows in spans.items() if all(rows)} or None,
            bos=bos,
            chat=chat,
            source=source,
        )

    def _ends(self, words: Sequence[str], prompt: Prompt) -> list[int | None]:
        """How many tokens there are before the words, and up to each word's end.

        None where a token crosses it. The last word's end is the prompt's, where the answer is
        read: a chat template goes on behind it.
        """
        ids = prompt.ids[prompt.n_before :]
        _, ranges = token_ranges(self._tokenizer, prompt.text, ids)
        at, ends = prompt.at, []
        for word in ("", *words):
            at += len(word)
            before = sum(low < at for low, _ in ranges)
            crossed = any(low < at < high for low, high in ranges)
            ends.append(None if crossed else prompt.n_before + before)
        return [*ends[:-1], len(prompt.ids)]

    def _inside(self, text: str) -> tuple[int, ...] | None:
        """The tokens of a text as it stands within a prompt; None if there are none."""
        before = _ANCHORS[0 if text.startswith(" ") else 1]
        anchor, ids = self._ids(before), self._ids(before + text)
        if anchor and ids is not None and ids[: len(anchor)] == anchor:
            return ids[len(anchor) :]
        return self._ids(text)

    def _ids(self, text: str) -> tuple[int, ...] | None:
        if text not in self._known:
            try:
                self._known[text] = tuple(self._tokenizer.encode(text))
            except (KeyError, ValueError):  # a word tokenizer that lacks a word
                self._known[text] = None
        return self._known[text]


def _positions(example: Example, ends: Sequence[int | None], name: str) -> list[int]:
    """Token positions of a span; empty if its words are not tokens of their own.

    `END` is the last token, where the answer is read, also of a word of several.
    """
    words = example.spans.get(name, ())
    positions: list[int] = []
    start = stop = None
    for word in words:
        if word - 1 not in words:
            start = ends[word]
        stop = ends[word + 1]
        if start is None or (stop is None and word + 1 not in words):
            return []
        if stop is not None:  # else one token holds the next word too
            positions += range(start, stop)
            start = stop
    return positions[-1:] if name == "END" else positions
