"""Which small transformers really do the language tasks? Train the bundled ones, and measure them.

Writes weights and cards into `src/edgewise/model/bundled/trained/` and their page,
`docs/models.md`. What they read is in `training/corpus.py`, how they learn in
`training/loop.py`, what is measured in `training/measure.py`.

    python scripts/train_small_models.py [--only NAME …] [--resume] [--work FOLDER] [--out FOLDER]
    python scripts/train_small_models.py --page    (the page alone, from the cards)

Expected time: 20 minutes of one core for each of the three seeds, 7 for the attention-only model,
on a server core of 2023 with bfloat16 matrix instructions; longer on one without.
Checkpoints go to `--work` every two minutes; `--resume` goes on from them. One thread is used, so
that several models can be trained side by side. The data and every batch follow from the seed;
arithmetic differs in its last bits between processors and versions of torch, and training makes
that grow, so other machines give other weights of the same accuracy.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from edgewise.data.tokenizers import SpacedWordTokenizer
from edgewise.model import ModelConfig
from training.corpus import BOS, Corpus, model_vocabulary
from training.export import export
from training.loop import Plan, train
from training.page import write_page

ROOT = Path(__file__).resolve().parents[1]
TRAINED = ROOT / "src" / "edgewise" / "model" / "bundled" / "trained"
PAGE = ROOT / "docs" / "models.md"


def plans(d_vocab: int) -> list[Plan]:
    """The models, the main one first."""
    shared = {"d_vocab": d_vocab, "d_vocab_out": d_vocab, "n_ctx": 64, "activation": "gelu"}
    main = ModelConfig(n_layers=4, n_heads=8, d_model=128, d_head=16, d_mlp=512, **shared)
    two = ModelConfig(
        n_layers=2, n_heads=8, d_model=192, d_head=24, d_mlp=0, attention_only=True, **shared
    )
    about = "a small language model that does the language tasks"
    return [
        Plan("small-lm", about, 0, main, steps=5_000),
        Plan("small-lm-seed1", f"{about}, from another seed", 1, main, steps=5_000, word_rounds=2),
        Plan("small-lm-seed2", f"{about}, from a third seed", 2, main, steps=5_000, word_rounds=1),
        Plan(
            "small-attn-2l",
            "two layers of attention alone, on the same text",
            0,
            two,
            steps=3_000,
            last_steps=1_000,
            word_rounds=4,
        ),
    ]


def main() -> None:
    words = model_vocabulary()
    known = plans(len(words))
    parser = argparse.ArgumentParser(description="Train and measure the bundled language models.")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[plan.name for plan in known])
    parser.add_argument("--resume", action="store_true", help="go on from checkpoints in --work")
    parser.add_argument("--page", action="store_true", help="write the page alone, from the cards")
    default = Path(tempfile.gettempdir()) / "edgewise-training"
    parser.add_argument("--work", type=Path, default=default, help="folder of checkpoints")
    parser.add_argument("--out", type=Path, default=TRAINED, help="folder to write models into")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = SpacedWordTokenizer(words, BOS)
    arguments.work.mkdir(parents=True, exist_ok=True)
    for plan in [] if arguments.page else known:
        if arguments.only is None or plan.name in arguments.only:
            corpus = Corpus(tokenizer, plan.config.n_ctx, plan.seed)
            network, minutes = train(plan, corpus, arguments.work, resume=arguments.resume)
            card = export(plan, network, tokenizer, minutes, arguments.out)
            for task, found in card["accuracy"].items():
                print(f"{plan.name} {task} {found['accuracy']:.3f}", flush=True)
    if arguments.out == TRAINED:
        write_page(TRAINED, PAGE)


if __name__ == "__main__":
    main()
