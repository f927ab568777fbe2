"""Tiny tokenizers of every kind that models come with, trained on a few sentences; no download."""

from __future__ import annotations

from functools import cache

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

TEXTS = (
    "The cat saw the dog, and the dog saw Ann. Ann's hat is on the table.",
    "Paris is the capital of France; Rome is the capital of Italy.",
    "王丽和李强去了公园，李强把花给了王丽。",
    "京都は古い町です。奈良も古い町です。",
    "นกกินแมลงและแมวกินนก",
    "Zoë drank 2 cafés 🍊 with José 🍋 in Ａｔｈｅｎｓ.",
)
KINDS = ("byte-level", "metaspace", "prepend", "wordpiece", "characters")


@cache
def tiny(kind: str, *, bos: bool = False, eos: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer that begins a text with `<s>`, ends it with `</s>`, or neither, by itself.

    byte-level: as GPT-2's. metaspace: SentencePiece's unigrams under NFKC. prepend: Llama 2's, a
    space put first by the normalizer, bytes for unknown characters. wordpiece: BERT's, in lower
    case without accents. characters: one token for each.
    """
    tokenizer, trainer = globals()[f"_{kind.replace('-', '_')}"]()
    if trainer is not None:
        tokenizer.train_from_iterator(TEXTS, trainer)
    if bos or eos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{'<s> ' if bos else ''}$A{' </s>' if eos else ''}",
            special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("<s>", "</s>")],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


_SPECIAL = ["<unk>", "<s>", "</s>"]


def _byte_level() -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return tokenizer, trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=alphabet, special_tokens=_SPECIAL, show_progress=False
    )


def _metaspace() -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer, trainers.UnigramTrainer(
        vocab_size=180, special_tokens=_SPECIAL, unk_token="<unk>", show_progress=False
    )


def _prepend() -> tuple[Tokenizer, None]:
    vocab = {token: i for i, token in enumerate(_SPECIAL)}
    vocab |= {f"<0x{byte:02X}>": len(vocab) + byte for byte in range(256)}
    merges: list[tuple[str, str]] = []
    for text in TEXTS[:2]:
        for word in text.split():
            pieces = f"▁{word}"
            for piece in pieces:
                vocab.setdefault(piece, len(vocab))
            for k in range(1, len(pieces)):
                if (pieces[:k], pieces[k]) not in merges:
                    merges.append((pieces[:k], pieces[k]))
                    vocab.setdefault(pieces[: k + 1], len(vocab))
    tokenizer = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer, None


def _wordpiece() -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer, trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=_SPECIAL, show_progress=False
    )


def _characters() -> tuple[Tokenizer, None]:
    letters = sorted({letter for text in TEXTS for letter in text})
    vocab = {token: i for i, token in enumerate([*_SPECIAL, *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer, None
