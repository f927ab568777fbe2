"""Prompts, answers and phrases from text, as one tokenizer reads them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import regex

from edgewise.data.rows import RowFault, whole
from edgewise.data.tokenizers import Offsets, Tokenizer, adds_bos
from edgewise.errors import ProblemError

AnswerTokens = tuple[int, ...]  # of one answer, in order
_MARK = "\ue000"  # stands for the user's text in a chat; private use, so no template has it


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

    Without a tokenizer it reads token ids only. What cannot be read raises `RowFault`.
    """

    def __init__(
        self, tokenizer: Tokenizer | None, source: str, *, bos: bool | None, chat: bool = False
    ) -> None:
        """Raises `ProblemError` if there is no such token, or no such template."""
        self.tokenizer, self.bos, self.chat = tokenizer, bos, chat
        self.start: list[int] = []  # of a prompt, where it does not begin so itself
        self._known: dict[str, list[int] | None] = {}
        self._run_on: dict[str, str] = {}  # answer that runs into the last word -> respaced
        if tokenizer is None:
            return
        if chat and not getattr(tokenizer, "chat_template", None):
            name = getattr(tokenizer, "name", type(tokenizer).__name__)
            fault = f"the tokenizer ({name}) has no chat template, as of an -Instruct model has."
            raise ProblemError(source, [f"chat is asked for, but {fault} Drop chat."])
        if chat and bos is not None:
            fault = "chat and bos are both asked for; a chat template says where BOS is. Drop bos."
            raise ProblemError(source, [fault])
        if bos and tokenizer.bos is None:
            raise ProblemError(source, ["bos is asked for, but the tokenizer has no BOS token."])
        own = [] if tokenizer.bos is None else [tokenizer.bos]
        if bos:
            self.start = own
        elif bos is None and adds_bos(tokenizer) and not chat:
            self.start = list(getattr(tokenizer, "prefix", own))

    def prompt(self, text: str) -> Prompt:
        """A text's tokens, after BOS or inside the template; one that has BOS keeps its own."""
        around, at = self._in_template(text) if self.chat else (text, 0)
        ids, start = self._encode(around), self.start
        if start and ids[: len(start)] == start:
            if self.bos:
                raise RowFault("the text begins with the BOS token already; drop bos.")
            start = []
        return Prompt(start + ids, len(start), around, text, at)

    def _in_template(self, text: str) -> tuple[str, int]:
        """A text as the user's turn of a chat, and where it begins there; templates may trim it."""
        in_chat = self.tokenizer.in_chat  # type: ignore[union-attr]  # it has a template
        try:
            around, at = in_chat(text), in_chat(_MARK).find(_MARK)
        except Exception as reason:  # whatever a template raises
            fault = f"the chat template refuses it: {type(reason).__name__}: {reason}"
            raise RowFault(fault) from reason
        if around.startswith(text, at):
            return around, at
        if not around.startswith(text.strip(), at):
            raise RowFault("the chat template does not leave the text as it is.")
        return around, at - (len(text) - len(text.lstrip()))

    # --- answers

    def answer(self, value: Any, prompt: Prompt) -> AnswerTokens:
        """The tokens of an answer: a token id, or a text as it stands behind its prompt.

        A text is read alone where it would run into the prompt's last word. A reply begins a line
        of a chat: no space stands before it.
        """
        token = whole(value)
        if token is not None:
            return (token,)
        if isinstance(value, list | tuple):
            raise RowFault(
                "it has a list in a list. Pairs cannot hold an answer for each position; leave the "
                "column out (--columns answers=) and use kl."
            )
        if not isinstance(value, str):
            raise RowFault(f"{value!r:.60} is neither text nor a token id.")
        if self.tokenizer is None:
            raise RowFault(f"{value!r:.60} is text; pass the model's tokenizer, or token ids.")
        if len(prompt.ids) > prompt.n_before and not prompt.text and value.strip().isdecimal():
            raise RowFault(f"{value!r:.60} is text, beside token ids. Is it one? Say answer_ids=.")
        text = value.lstrip(" ") if self.chat and prompt.text[-1:].isspace() else value
        alone, behind = self._encode(text), self._behind(prompt, text)
        ids = behind if behind and (len(alone) != 1 or len(behind) == 1) else alone
        if not ids:
            raise RowFault(f"{text!r} is no token.")
        if not behind:
            self._check_space(text, ids, prompt)
        return tuple(ids)

    def _check_space(self, text: str, ids: list[int], prompt: Prompt) -> None:
        """Refuse several tokens where another leading space gives one; note it if both do."""
        assert self.tokenizer is not None
        respaced = text[1:] if text.startswith(" ") else f" {text}"
        behind, alone = self._behind(prompt, respaced), self._ids(respaced)
        single = next((tokens for tokens in (behind, alone) if tokens and len(tokens) == 1), None)
        if single is None:
            return
        if len(ids) > 1:
            pieces = [self.tokenizer.decode([i]) for i in ids]
            how = "without its" if text.startswith(" ") else "with a"
            raise RowFault(
                f"{text!r:.60} is {len(ids)} tokens {pieces}; {how} leading space it is a single "
                f"one: {respaced!r:.60}."
            )
        is_number = prompt.text[-1:].isdecimal() and text[:1].isdecimal()  # of several tokens
        if prompt.text and not is_number and single != ids:
            self._run_on[text] = respaced

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
        is_number = last[-1:].isdecimal() and text[:1].isdecimal()
        if not last or (divides(last + text, len(last)) and not is_number):
            return None
        before, both = self._ids(last), self._ids(last + text)
        if before is None or both is None or both[: len(before)] != before:
            return None
        return both[len(before) :]

    # --- spans

    def phrase(self, phrase: str, prompt: Prompt, nth: Any = None) -> list[int]:
        """The positions of a phrase: every token of its only occurrence, or of the nth, from 1.

        It is found in the text that was given, where the tokenizer says which characters a token
        is; else in what the tokens decode to.
        """
        if self.tokenizer is None:
            raise RowFault(f"it is the text {phrase!r:.60}; pass the model's tokenizer.")
        n_before = prompt.n_before
        try:
            text, ranges = token_ranges(self.tokenizer, prompt.text, prompt.ids[n_before:])
        except (IndexError, KeyError, OverflowError, TypeError, ValueError) as reason:
            raise RowFault(f"the tokenizer has no text for its ids: {reason}.") from reason
        at, own = (prompt.at, prompt.own) if text == prompt.text else (0, text)
        matches = occurrences(own, phrase.strip())
        n = len(matches)
        which = whole(nth) if nth is not None else 1 if n == 1 else None
        if not which or abs(which) > n:
            hint = f'["{phrase}", 2] takes the second' if nth is None else f"none is {nth!r:.60}"
            raise RowFault(f"the clean prompt has {phrase!r:.60} {n} times; {hint}.")
        start, stop, _ = matches[which - (which > 0)]
        return [n_before + k for k in tokens_at(ranges, at + start, at + stop)]

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


# --- phrases, by characters of the text that was given: whole words where words have spaces
# between, whole characters else

# Scripts whose words stand side by side, or carry their particles (Korean).
_NO_SPACES = "".join(
    rf"\p{{{script}}}"
    for script in (
        *("Han", "Hiragana", "Katakana", "Bopomofo", "Hangul", "Thai", "Lao", "Khmer", "Myanmar"),
        *("Tibetan", "Tai_Le", "New_Tai_Lue"),
    )
)
_LETTER = rf"[\w--[{_NO_SPACES}ー々ｰ]]"  # of a script with spaces between words
_COMBINING = (
    r"[\p{M}--[\ufe0f]]"  # changes the letter before it; the one that asks for colour does not
)
# Inside a word, or inside a character of several code points: an emoji made of several, one with a
# tone of skin, two letters that are a flag.
_INSIDE = (
    rf"(?<={_LETTER})(?={_LETTER})|(?<=.)(?={_COMBINING}|\p{{Emoji_Modifier}}|\u200d)|(?<=\u200d)(?=.)"
    r"|(?<=(?<!\p{RI})(?:\p{RI}\p{RI})*\p{RI})(?=\p{RI})"
)
_DIVIDED = regex.compile(_INSIDE, regex.V1 | regex.DOTALL)


def occurrences(text: str, *phrases: str) -> list[tuple[int, int, int]]:
    """Where phrases are in a text: from, to, and which of them; none overlaps another.

    At a place where several begin, the longest counts. A phrase may be composed of other code
    points than the text (é as one or as two).

    >>> occurrences("Anna saw Ann", "Ann")
    [(9, 12, 0)]
    >>> occurrences("王丽和李强", "李强")
    [(3, 5, 0)]
    """
    which = {
        form: k
        for k, phrase in reversed(list(enumerate(phrases)))
        for form in (*(unicodedata.normalize(f, phrase) for f in ("NFC", "NFD")), phrase)
        if form
    }
    forms = "|".join(regex.escape(form) for form in sorted(which, key=len, reverse=True))
    pattern = rf"(?!{_INSIDE})(?:{forms})(?!{_INSIDE})"
    matches = regex.finditer(pattern, text, regex.V1 | regex.DOTALL) if which else ()
    return [(*match.span(), which[match[0]]) for match in matches]


def divides(text: str, index: int) -> bool:
    """Whether an index is inside a word, or inside a character of several code points."""
    return _DIVIDED.match(text, index) is not None


def token_ranges(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> tuple[str, Offsets]:
    """A text's tokens as ranges of characters of it; without offsets, of the decoded tokens.

    A token that is no character of the text (a space of the tokenizer's own) is an empty range.
    """
    offsets = getattr(tokenizer, "offsets", None)
    ranges = None if offsets is None or not text else offsets(text)
    if ranges is not None and len(ranges) == len(ids):
        return text, ranges
    ranges, end = [], 0
    for k in range(len(ids)):
        # A character may be several tokens, at most four: until its last one it decodes to a
        # stand-in. How a token reads may depend on the one before it (its space).
        before, after = (tokenizer.decode(ids[max(0, k - 4) : stop]) for stop in (k, k + 1))
        start = end - (len(before) - len(before.rstrip("\ufffd")))
        end += len(after) - len(before)
        ranges.append((start, end))
    return tokenizer.decode(ids), ranges


def tokens_at(ranges: Offsets, start: int, stop: int) -> list[int]:
    """Which tokens have a character of a range."""
    return [k for k, (low, high) in enumerate(ranges) if low < stop and high > start and low < high]
