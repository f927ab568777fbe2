"""Language tasks on a model: examples become prompts for its tokenizer, prompts a problem."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from edgewise.data import PromptPairs, adds_bos
from edgewise.errors import SettingError
from edgewise.model import Model
from edgewise.tasks.language import BEHAVIOURS
from edgewise.tasks.language.behaviour import Behaviour, Words, draw_examples, split_of
from edgewise.tasks.language.induction import (
    HALF,
    INDUCTION,
    completions,
    corrupted_sequence,
    draw_sequence,
    roles,
)
from edgewise.tasks.language.token_fit import TokenFit
from edgewise.tasks.published import PUBLISHED, published_circuit
from edgewise.tasks.task import Task, TaskRequest, task_of

DEFAULT_MODEL = "small-lm"
# GPT-2 and the papers' small models; attn-only-4l. Their tokenizers add no BOS, unless
# TransformerLens has told them to.
_PAPERS_BOS = ("<|endoftext|>", "<|BOS|>")


def make_language_task(model: Model, request: TaskRequest) -> Task:
    """Prompts of a language task for the model's tokenizer, in two splits.

    The published circuit, and its graph (with switches), where the model has the paper's shape.
    """
    behaviour = BEHAVIOURS[request.spec.name]
    n = behaviour.n if request.n is None else request.n
    papers = request.bos is None and not request.chat  # a template says where BOS is
    bos = _bos(model, behaviour) if papers else request.bos
    splits = [_pairs(model, behaviour, n, split, request, bos) for split in ("validation", "test")]
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


def _bos(model: Model, behaviour: Behaviour) -> bool | None:
    """BOS where the paper has it, on its tokenizer or one that has no convention of its own.

    Else None: what the tokenizer adds by itself, as its model was trained.
    """
    tokenizer = model.tokenizer
    if tokenizer is None or tokenizer.bos is None:
        return None
    papers = tokenizer.decode([tokenizer.bos]) in _PAPERS_BOS
    return behaviour.bos if papers or adds_bos(tokenizer) is None else None


def _pairs(
    model: Model,
    behaviour: Behaviour,
    n: int,
    split: str,
    request: TaskRequest,
    bos: bool | None,
) -> PromptPairs:
    seed, template, corruption = request.seed, request.template, request.corruption
    if model.tokenizer is None:
        if behaviour is INDUCTION and not request.chat:
            return _induction_of_ids(model, n, seed, split, template, corruption)
        raise SettingError(
            f"{behaviour.name} is a task of text, and {model.name} has no tokenizer. Load the "
            "model with one: load_model(…, tokenizer=…)."
        )
    reader = TokenFit(model.tokenizer, f"{model.name}'s tokenizer")
    words = Words(reader.fits, reader.length, reader.name)
    choices = {"split": split, "template": template, "corruption": corruption}
    drawn = draw_examples(behaviour, words, n, seed=seed, **choices)
    return reader.pairs(drawn, bos=bos, chat=request.chat, source=behaviour.name)


def _induction_of_ids(
    model: Model, n: int, seed: int, split: str, template: str, corruption: str
) -> PromptPairs:
    """Induction on token ids alone, for a model without a tokenizer."""
    symbols = range(model.config.d_vocab)
    half = min(HALF, len(symbols) // 4)
    if half < 4:
        raise SettingError(
            f"{model.name} knows {len(symbols)} tokens; induction needs at least 16 to choose from."
        )
    if n < 1:
        raise SettingError(f"asked for {n} prompts; a task needs at least 1.")
    rng, noise = Random(seed), Random(f"{seed} {corruption}")
    clean: list[list[int]] = []
    corrupted: list[list[int]] = []
    while len(clean) < n:
        sequence = draw_sequence(rng, symbols, template, half=half)
        if completions(sequence) and split_of(str(sequence)) == split and sequence not in clean:
            clean.append(sequence)
            corrupted.append(
                corrupted_sequence(noise, symbols, sequence, corruption=corruption)[:-1]
            )
    single = template == "single"
    names = roles(clean[0], template)
    return PromptPairs.from_tokens(
        [sequence[:-1] for sequence in clean],
        corrupted,
        answers=[sequence[-1] for sequence in clean] if single else None,
        wrong=[sorted({*s} - {s[-1]}) for s in clean] if single else None,
        answer_positions=[list(completions(sequence)) for sequence in clean],
        spans={name: [list(roles(s, template)[name]) for s in clean] for name in names},
        source=INDUCTION.name,
    )
