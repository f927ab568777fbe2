"""Prompts, answers and spans from text, as one tokenizer reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgewise.data.phrases import divides, occurrences, token_ranges, tokens_at
from edgewise.data.rows import RowFault, whole
from edgewise.data.tokenizers import Tokenizer, adds_bos
from edgewise.errors import ProblemError

_ANSWER_NAMES = {"answers": "answer", "wrong": "wrong answer"}
_MARK = "\ue000"  # stands for the user's text in a chat; private use, so no template has it


class AnswerTokens(tuple[int, ...]):
    """The tokens of one answer, in order, and its text if it was text."""

    text: str

    def __new__(cls, ids: Iterable[int], text: str = "") -> AnswerTokens:
        made = super().__new__(cls, ids)
        made.text = text
        return made


@dataclass(frozen=True)
class Prompt:
    """A prompt's token ids, and the text that they are, if it was text.

    The first `n_before` ids stand before the text (BOS). The user's own text, `own`, begins at
    character `at` of it: a chat template stands around it.
    """

    ids: list[int]
    n_before: int = 0
    text: str = ""
    own: str = ""
    at: int = 0


class TextReader:
    """Texts as one tokenizer reads them: begun with BOS or not, in a chat template or not.

    What cannot be read raises `RowFault`.
    """

    def __init__(
        self, tokenizer: Tokenizer | None, source: str, *, bos: bool | None, chat: bool = False
    ) -> None:
        """Raises `ProblemError` if there is no such token, or no such template."""
        self.tokenizer, self.bos, self.chat = tokenizer, bos, chat
        self._start: list[int] = []
        self._known: dict[str, list[int] | None] = {}
        self._run_on: dict[str, str] = {}  # answer that runs into the last word -> respaced
        if tokenizer is None:
            return
        fault = _chat_fault(tokenizer, bos) if chat else ""
        if bos and tokenizer.bos is None and not chat:
            fault = "bos is asked for, but the tokenizer has no BOS token."
        if fault:
            raise ProblemError(source, [fault])
        own = [] if tokenizer.bos is None else [tokenizer.bos]
        if bos:
            self._start = own
        elif bos is None and adds_bos(tokenizer) and not chat:
            self._start = list(getattr(tokenizer, "prefix", own))

    def prompt(self, text: str) -> Prompt:
        """A text's tokens, after BOS or inside the template; one that has BOS keeps its own."""
        around, at = self._in_template(text) if self.chat else (text, 0)
        ids, start = self._encode(around), self._start
        if start and ids[: len(start)] == start:
            if self.bos:
                raise RowFault("the text begins with the BOS token already; drop bos.")
            start = []
        return Prompt(start + ids, len(start), around, text, at)

    def _in_template(self, text: str) -> tuple[str, int]:
        """A text as the user's turn of a chat, and where it begins there; templates may trim it."""
        assert self.tokenizer is not None
        try:
            around = self.tokenizer.in_chat(text)  # type: ignore[attr-defined]  # it has a template
            at = self.tokenizer.in_chat(_MARK).find(_MARK)  # type: ignore[attr-defined]
        except Exception as reason:  # whatever a template raises
            fault = f"the chat template refuses it: {type(reason).__name__}: {reason}"
            raise RowFault(fault) from reason
        if around.startswith(text, at):
            return around, at
        if not around.startswith(text.strip(), at):
            raise RowFault("the chat template does not leave the text as it is.")
        return around, at - (len(text) - len(text.lstrip()))

    def begins_with_bos(self, first: Sequence[int]) -> bool:
        """Whether prompts are begun with BOS, by us or by the template; `first` is one of them."""
        bos = None if self.tokenizer is None else self.tokenizer.bos
        return bool(self._start) or (self.chat and list(first[:1]) == [bos])

    # --- answers

    def answer(self, value: Any, prompt: Prompt, column: str) -> AnswerTokens:
        """The tokens of an answer, a token id or a text."""
        name = _ANSWER_NAMES[column]
        if isinstance(value, str) and self.tokenizer is not None:
            return self._answer_text(value, prompt, name)
        if isinstance(value, str):
            raise RowFault(
                f"the {name} {value!r:.60} is text; pass the model's tokenizer, or token ids."
            )
        if isinstance(value, list | tuple):
            raise RowFault(
                f"{column!r} has a list in a list. If it has an answer for each position: pairs "
                f'cannot hold that; leave it out (columns={{"{column}": None}}, --columns '
                f"{column}=) and use kl."
            )
        known = whole(value)
        if known is None:
            raise RowFault(f"{column!r} must be text or token ids, not {value!r:.60}.")
        return AnswerTokens([known])

    def _answer_text(self, text: str, prompt: Prompt, name: str) -> AnswerTokens:
        """An answer as it stands behind its prompt; alone, where it would run into its last word.

        A reply begins a line of a chat: no space stands before it.
        """
        text = text.lstrip(" ") if self.chat and prompt.text[-1:].isspace() else text
        alone, behind = self._encode(text), self._behind(prompt, text)
        ids = behind if behind and (len(alone) != 1 or len(behind) == 1) else alone
        if not ids:
            raise RowFault(f"the {name} {text!r} is no token.")
        respaced = text[1:] if text.startswith(" ") else f" {text}"
        single = None if behind else self._single(respaced, prompt)
        if len(ids) > 1 and single is not None:
            assert self.tokenizer is not None
            pieces = [self.tokenizer.decode([i]) for i in ids]
            how = "without its" if text.startswith(" ") else "with a"
            raise RowFault(
                f"the {name} {text!r:.60} is {len(ids)} tokens {pieces}; "
                f"{how} leading space it is a single one: {respaced!r:.60}."
            )
        number = prompt.text[-1:].isdecimal() and text[:1].isdecimal()  # of several tokens
        if prompt.text and not number and single not in (None, *ids):
            self._run_on[text] = respaced
        return AnswerTokens(ids, text if len(ids) > 1 else "")

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

    # --- spans

    def phrase(self, phrase: str, prompt: Prompt, *, name: str, nth: Any) -> list[int]:
        """The positions of a phrase: every token of its only occurrence, or of the nth, from 1."""
        which = whole(nth)
        if nth is not None and not which:
            raise RowFault(
                f"span {name!r} is {(phrase, nth)!r}; the second part must say which occurrence, "
                "from 1."
            )
        if self.tokenizer is None:
            raise RowFault(f"span {name!r} is the text {phrase!r:.60}; pass the model's tokenizer.")
        if not phrase.strip():
            raise RowFault(f"span {name!r} is an empty text.")
        places = self._phrase_positions(phrase.strip(), prompt)
        n = len(places)
        if n == 0:
            raise RowFault(f"span {name!r}: the clean prompt does not have {phrase!r:.60}.")
        if which is None and n > 1:
            raise RowFault(
                f"span {name!r}: {phrase!r:.60} is there {n} times. "
                f'["{phrase}", 2] takes the second; there are also positions.'
            )
        if which is not None and abs(which) > n:
            raise RowFault(f"span {name!r}: {phrase!r:.60} is there {n} times, not {abs(which)}.")
        return places[0 if which is None else which - (which > 0)]

    def _phrase_positions(self, phrase: str, prompt: Prompt) -> list[list[int]]:
        """The positions of every occurrence of a phrase in a prompt: every token of it.

        It is found in the text that was given, where the tokenizer says which characters a token
        is; else in what the tokens decode to.
        """
        assert self.tokenizer is not None
        n_before = prompt.n_before
        try:
            text, ranges = token_ranges(self.tokenizer, prompt.text, prompt.ids[n_before:])
        except (IndexError, KeyError, OverflowError, TypeError, ValueError) as reason:
            raise RowFault(f"the tokenizer has no text for its ids: {reason}.") from reason
        at, own = (prompt.at, prompt.own) if text == prompt.text else (0, text)
        return [
            [n_before + k for k in tokens_at(ranges, at + start, at + stop)]
            for start, stop, _ in occurrences(own, phrase)
        ]

    # --- tokens

    def _encode(self, text: str) -> list[int]:
        assert self.tokenizer is not None
        try:
            return list(self.tokenizer.encode(text))
        except (KeyError, TypeError, ValueError) as reason:
            raise RowFault(f"{reason!s}") from reason

    def _ids(self, text: str) -> list[int] | None:
        """The same, of a text that may have none; kept, as prompts share words and answers."""
        if text not in self._known:
            try:
                self._known[text] = self._encode(text)
            except RowFault:
                self._known[text] = None
        return self._known[text]


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
