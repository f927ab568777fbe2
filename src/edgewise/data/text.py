"""Prompts, answers and spans from text: as the tokenizer reads them, every fault at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgewise.data.faults import Fault, Label
from edgewise.data.phrases import divides, occurrences, token_ranges, tokens_at
from edgewise.data.positions import whole
from edgewise.data.tokens import NO_ANSWER, AnswerTokens, Tokenizer, adds_bos
from edgewise.errors import ProblemError

Ids = list[list[int]]
ANSWER_NAMES = {"answers": "answer", "wrong": "wrong answer"}


@dataclass(frozen=True)
class Prompt:
    """A prompt's token ids, and the text that they are, if it was text.

    The first `n_before` ids stand before the text (BOS). The user's own text, `given`, begins at
    character `at` of it: a chat template stands around it.
    """

    ids: list[int]
    n_before: int = 0
    text: str = ""
    given: str = ""
    at: int = 0


class TextReader:
    """Texts as one tokenizer reads them: begun with BOS or not, in a chat template or not."""

    def __init__(
        self, tokenizer: Tokenizer | None, source: str, *, bos: bool | None, chat: bool = False
    ) -> None:
        """Raises `ProblemError` if there is no such token, or no such template."""
        self.tokenizer, self.bos, self.chat = tokenizer, bos, chat
        self.start: list[int] = []
        self._known: dict[str, list[int] | None] = {}
        self._run_on: dict[str, str] = {}  # answers that do, and as they would not
        if tokenizer is not None and chat:
            fault = _chat_fault(tokenizer, bos)
            if fault:
                raise ProblemError(source, [fault])
        elif tokenizer is not None:
            self.start = _bos_ids(tokenizer, bos, source)

    def prompt(self, text: Any, where: str, what: str, faults: list[Fault]) -> Prompt:
        """A text's tokens, after BOS or inside the template; one that has BOS keeps its own."""
        if not isinstance(text, str):
            faults.append(Fault(f"{text!r:.60} is not text.", where=where, column=what))
            return Prompt([])
        around, at = self._in_template(text, where, what, faults) if self.chat else (text, 0)
        ids = self._encode(around, where, what, faults)
        start = self.start
        if start and ids[: len(start)] == start:
            if self.bos:
                doubled = "the text begins with the BOS token already; drop bos."
                faults.append(Fault(doubled, where=where, column=what))
            start = []
        return Prompt(start + ids, len(start), around, text, at)

    def _in_template(
        self, text: str, where: str, what: str, faults: list[Fault]
    ) -> tuple[str, int]:
        """A text as the user's turn of a chat, and where it begins there; templates may trim it."""
        assert self.tokenizer is not None
        mark = "\ue000"  # private use: no template has it
        try:
            around = self.tokenizer.in_chat(text)  # type: ignore[attr-defined]  # it has a template
            at = self.tokenizer.in_chat(mark).find(mark)  # type: ignore[attr-defined]
        except Exception as reason:  # whatever a template raises
            fault = f"the chat template refuses it: {type(reason).__name__}: {reason}"
            faults.append(Fault(fault, where=where, column=what))
            return text, 0
        if around.startswith(text, at):
            return around, at
        if not around.startswith(text.strip(), at):
            fault = "the chat template does not leave the text as it is."
            faults.append(Fault(fault, where=where, column=what))
        return around, at - (len(text) - len(text.lstrip()))

    def begins_with_bos(self, first: Sequence[int]) -> bool:
        """Whether prompts are begun with BOS, by us or by the template; `first` is one of them."""
        bos = None if self.tokenizer is None else self.tokenizer.bos
        return bool(self.start) or (self.chat and list(first[:1]) == [bos])

    # --- answers

    def answers(
        self, value: Any, prompt: Prompt, where: str, what: str, faults: list[Fault]
    ) -> list[AnswerTokens]:
        """The tokens of one answer or several, each a token id or a text."""
        several = list(value) if isinstance(value, list | tuple) else [value]
        return [self._answer(one, prompt, where, what, faults) for one in several]

    def _answer(
        self, value: Any, prompt: Prompt, where: str, what: str, faults: list[Fault]
    ) -> AnswerTokens:
        name = ANSWER_NAMES[what]
        known = whole(value)
        if known is not None and not isinstance(value, str):
            return AnswerTokens([known])
        if isinstance(value, list | tuple):
            text = (
                f"{what!r} has a list in a list. If it has an answer for each position: pairs "
                f'cannot hold that; leave it out (columns={{"{what}": None}}, --columns {what}=) '
                "and use kl."
            )
        elif not isinstance(value, str):
            text = f"{what!r} must be text or token ids, not {value!r:.60}."
        elif self.tokenizer is None:
            text = f"the {name} {value!r:.60} is text; pass the model's tokenizer, or token ids."
        else:
            return self._answer_text(value, prompt, where, what, faults)
        faults.append(Fault(text, where=where, column=what))
        return AnswerTokens([NO_ANSWER])

    def _answer_text(
        self, text: str, prompt: Prompt, where: str, what: str, faults: list[Fault]
    ) -> AnswerTokens:
        """An answer as it stands behind its prompt; alone, where it would run into its last word.

        A reply begins a line of a chat: no space stands before it.
        """
        text = text.lstrip(" ") if self.chat and prompt.text[-1:].isspace() else text
        n_faults = len(faults)
        alone = self._encode(text, where, what, faults)
        behind = self._behind(prompt, text)
        ids = behind if behind and (len(alone) != 1 or len(behind) == 1) else alone
        respaced = text[1:] if text.startswith(" ") else f" {text}"
        other = None if behind else self._single(respaced, prompt)
        if len(faults) > n_faults or len(ids) == 1:
            if prompt.text and other not in (None, *ids):
                self._run_on[text] = respaced
            return AnswerTokens(ids or [NO_ANSWER])
        fault = ""
        if not ids:
            fault = f"the {ANSWER_NAMES[what]} {text!r} is no token."
        elif other is not None:
            how = "without its" if text.startswith(" ") else "with a"
            fault = (
                f"the {ANSWER_NAMES[what]} {text!r:.60} is {len(ids)} tokens {self.pieces(ids)}; "
                f"{how} leading space it is a single one: {respaced!r:.60}."
            )
        if fault:
            faults.append(Fault(fault, where=where, column=what))
        return AnswerTokens(ids or [NO_ANSWER], text)

    def _single(self, text: str, prompt: Prompt) -> int | None:
        """The one token that an answer is, behind its prompt or alone; None if it is several."""
        for ids in (self._behind(prompt, text), self._ids(text)):
            if ids is not None and len(ids) == 1:
                return ids[0]
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of the answers read so far: some may lack their space."""
        if not self._run_on:
            return ()
        text, respaced = next(iter(self._run_on.items()))
        n = len(self._run_on)
        runs = "1 answer runs" if n == 1 else f"{n} different answers run"
        return (
            f"{runs} into the prompt's last word, such as {text!r:.60}; {respaced!r:.60} is a "
            "token too. Is a leading space missing?",
        )

    def _behind(self, prompt: Prompt, text: str) -> list[int] | None:
        """The tokens of a text as it goes on after a prompt; None where it would run into it."""
        words = prompt.text.rstrip().rpartition(" ")[0]
        last = prompt.text[len(words) :]  # no tokenizer looks further back than a word
        numbers = last[-1:].isdecimal() and text[:1].isdecimal()
        if not last or (divides(last + text, len(last)) and not numbers):
            return None
        before, both = self._ids(last), self._ids(last + text)
        if before is None or both is None or both[: len(before)] != before:
            return None
        return both[len(before) :]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Tokens as they read, alone."""
        return [] if self.tokenizer is None else [self.tokenizer.decode([i]) for i in ids]

    # --- spans

    def span(self, name: str, given: Any, prompt: Prompt, where: str, faults: list[Fault]) -> Any:
        """The positions of one prompt's span: indices as they are, a phrase where it is found.

        A phrase is a text that occurs once, or a text and which occurrence is meant.
        """
        pair = isinstance(given, list | tuple) and len(given) == 2 and isinstance(given[0], str)
        if not isinstance(given, str) and not pair:
            return given
        phrase, nth = (given[0], whole(given[1])) if pair else (given, None)
        text = None
        if pair and (nth is None or nth == 0 or isinstance(given[1], str)):
            text = f"span {name!r} is {given!r}; the second part must say which occurrence, from 1."
        elif self.tokenizer is None:
            text = f"span {name!r} is the text {phrase!r:.60}; pass the model's tokenizer."
        elif not phrase.strip():
            text = f"span {name!r} is an empty text."
        if text or self.tokenizer is None:
            faults.append(Fault(text or "", where=where, column="spans"))
            return [0]
        found = phrase_places(self.tokenizer, prompt, phrase)
        n = len(found)
        if n == 0:
            text = f"span {name!r}: the clean prompt does not have {phrase!r:.60}."
        elif nth is None and n > 1:
            text = (
                f"span {name!r}: {phrase!r:.60} is there {n} times. "
                f'["{phrase}", 2] takes the second; there are also positions.'
            )
        elif nth is not None and abs(nth) > n:
            text = f"span {name!r}: {phrase!r:.60} is there {n} times, not {abs(nth)}."
        if text:
            faults.append(Fault(text, where=where, column="spans"))
            return [0]
        chosen = 1 if nth is None else nth
        return found[chosen - 1 if chosen > 0 else chosen]

    # --- tokens

    def _encode(self, text: str, where: str, what: str, faults: list[Fault]) -> list[int]:
        assert self.tokenizer is not None
        try:
            return list(self.tokenizer.encode(text))
        except (KeyError, TypeError, ValueError) as reason:
            faults.append(Fault(f"{reason!s}", where=where, column=what))
            return []

    def _ids(self, text: str) -> list[int] | None:
        """The same, of a text that may have none; kept, as prompts share words and answers."""
        if text not in self._known:
            faults: list[Fault] = []
            ids = self._encode(text, "", "", faults)
            self._known[text] = None if faults else ids
        return self._known[text]


def phrase_places(tokenizer: Tokenizer, prompt: Prompt, phrase: str) -> list[list[int]]:
    """The positions of every occurrence of a phrase in a prompt: every token of it.

    It is found in the text that was given, where the tokenizer says which characters a token is;
    else in what the tokens decode to.
    """
    text, ranges = token_ranges(tokenizer, prompt.text, prompt.ids[prompt.n_before :])
    at, given = (prompt.at, prompt.given) if text == prompt.text else (0, text)
    return [
        [prompt.n_before + k for k in tokens_at(ranges, at + start, at + stop)]
        for start, stop, _ in occurrences(given, phrase.strip())
    ]


def tokens_of_text(
    clean: Sequence[str],
    corrupted: Sequence[str] | None,
    answers: Any,
    wrong: Any,
    spans: Any,
    reader: TextReader,
    source: str,
    label: Label = lambda i: f"pair {i}",
) -> dict[str, Any]:
    """The ids of prompts and answers, the positions of spans. Raises `ProblemError`, all faults."""
    if reader.tokenizer is None:
        raise ProblemError(source, ["prompts of text need a tokenizer; pass the model."])
    given = {"clean": clean, "corrupted": corrupted, "answers": answers, "wrong": wrong}
    for what, texts in given.items():
        if isinstance(texts, str):
            raise ProblemError(source, [f"{what} is one text; it must be a list of texts."])
    faults: list[Fault] = []

    def prompts(texts: Sequence[str], what: str) -> list[Prompt]:
        return [reader.prompt(text, label(i), what, faults) for i, text in enumerate(texts)]

    def tokens(values: Any, what: str) -> Any:
        if values is None:
            return None
        behind = [*read, *[Prompt([])] * (len(values) - len(read))]  # too many is told later
        return [
            reader.answers(v, prompt, label(i), what, faults)
            for i, (v, prompt) in enumerate(zip(values, behind, strict=False))
        ]

    read = prompts(clean, "clean")
    twins = None if corrupted is None else prompts(corrupted, "corrupted")
    result: dict[str, Any] = {
        "clean": [prompt.ids for prompt in read],
        "corrupted": None if twins is None else [prompt.ids for prompt in twins],
        "answers": tokens(answers, "answers"),
        "wrong": tokens(wrong, "wrong"),
        "spans": spans,
    }
    if isinstance(spans, Mapping):
        result["spans"] = {
            name: _span_of_each(reader, name, places, read, label, faults)
            for name, places in spans.items()
        }
    if faults:
        raise ProblemError(source, faults)
    return result


def _span_of_each(
    reader: TextReader,
    name: str,
    places: Any,
    prompts: Sequence[Prompt],
    label: Label,
    faults: list[Fault],
) -> Any:
    if isinstance(places, str):
        places = [places] * len(prompts)
    if not isinstance(places, list | tuple) or len(places) != len(prompts):
        return places  # a mask, an index for all, or a fault that is found with the others
    return [
        reader.span(name, place, prompts[i], label(i), faults) for i, place in enumerate(places)
    ]


def _bos_ids(tokenizer: Tokenizer, bos: bool | None, source: str) -> list[int]:
    """What to put before each prompt: None, what the tokenizer adds by itself.

    Raises `ProblemError` if BOS is asked for and there is no such token.
    """
    if bos is None and adds_bos(tokenizer):
        return list(getattr(tokenizer, "prefix", (tokenizer.bos,)))
    if not bos:
        return []
    if tokenizer.bos is None:
        raise ProblemError(source, ["bos is asked for, but the tokenizer has no BOS token."])
    return [tokenizer.bos]


def _chat_fault(tokenizer: Tokenizer, bos: bool | None) -> str:
    if not getattr(tokenizer, "chat_template", None):
        name = getattr(tokenizer, "name", type(tokenizer).__name__)
        return (
            f"chat is asked for, but the tokenizer ({name}) has no chat template; models tuned to "
            "chat have one (…-Instruct, -Chat, -it). Drop chat, or give the tokenizer a template."
        )
    if bos is not None:
        return "chat and bos are both asked for; a chat template says where BOS is. Drop bos."
    return ""
