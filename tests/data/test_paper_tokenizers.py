"""Layouts of the language tasks under real tokenizers: the bundled one, and the papers'.

The papers' come from the hub (`-m network`); with EDGEWISE_TOKENIZERS=FOLDER, GPT-2's is read from
FOLDER/gpt2 (a folder with its `tokenizer.json`), and needs no network.
"""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import transformers

import edgewise as ew
from edgewise.data.tokenizers import as_tokenizer
from models import random_model

GPT2 = "gpt2"
DIGITS = "NeelNanda/gpt-neox-tokenizer-digits"  # of attn-only-4l
network = pytest.mark.network


@cache
def model_reading(source: str) -> ew.Model:
    """A random model with the tokenizer of a bundled model, of a folder, or of the hub."""
    if source == "small-lm":
        return ew.load_model(source)
    folder = Path(os.environ.get("EDGEWISE_TOKENIZERS", "")) / source
    found = str(folder) if os.environ.get("EDGEWISE_TOKENIZERS") and folder.is_dir() else source
    known = as_tokenizer(transformers.AutoTokenizer.from_pretrained(found))
    size = max(known.n_tokens, 50_400)
    shape = {"d_vocab": size, "d_vocab_out": size, "n_ctx": 64, "d_model": 4}
    return replace(random_model(**shape), tokenizer=known, name=source)


@pytest.mark.parametrize("source", ["small-lm", pytest.param(GPT2, marks=network)])
def test_the_papers_places(source):
    model = model_reading(source)
    places = {
        "ioi": {"IO": 2, "S1": 4, "S1+1": 5, "place": 8, "S2": 10, "object": 13, "END": 14},
        "greater-than": {"noun": 1, "XX1": 6, "YY": 7, "END": 9},
    }
    for name, positions in places.items():
        pairs = ew.load_task(name, model, n=60).problem.pairs
        found = {k: v.nonzero()[:, 1].unique().tolist() for k, v in pairs.spans.items()}
        assert found == {span: [at] for span, at in positions.items()}
    assert (pairs.clean != pairs.corrupted).nonzero()[:, 1].unique().tolist() == [7]
    assert {model.tokenizer.decode([k]) for k in pairs.corrupted[:, 7].tolist()} == {"01"}


@network
def test_names_and_years_are_those_that_gpt2_says_in_one_and_two_tokens():
    """The ACDC paper's rule: years of two tokens, without each century's first and last."""
    tokenizer = model_reading(GPT2).tokenizer
    assert tokenizer.encode("Then, Mary and John went to the park. John gave a book to") == [
        6423, 11, 5335, 290, 1757, 1816, 284, 262, 3952, 13, 1757, 2921, 257, 1492, 284
    ]  # fmt: skip
    assert tokenizer.encode("01") == [486]
    expected = set()
    for century in range(11, 18):
        valid = [
            yy
            for yy in (f"{i:02}" for i in range(2, 99))
            if [tokenizer.decode([k]) for k in tokenizer.encode(f" {century}{yy}")]
            == [f" {century}", yy]
        ]
        expected |= {(str(century), yy) for yy in valid[1:-1]}
    task = ew.load_task("greater-than", model_reading(GPT2), n=300)
    rows = task.problem.pairs.clean.tolist()
    drawn = {(tokenizer.decode([row[6]])[1:], tokenizer.decode([row[7]])) for row in rows}
    assert len(drawn) > 100
    assert drawn <= expected


@network
@pytest.mark.parametrize(("source", "n_tokens"), [(DIGITS, 41), (GPT2, 53)])
def test_docstring_has_41_tokens_for_its_papers_tokenizer(source, n_tokens):
    """GPT-2 cuts an indent into its spaces: 53 tokens with BOS, the same answers."""
    pairs = ew.load_task("docstring", model_reading(source), n=40).problem.pairs
    assert pairs.lengths.unique().tolist() == [n_tokens]
    assert {"A_def", "B_def", "C_def", "END"} <= set(pairs.spans)
