"""The page about the trained models, from their cards: every number in it was measured.

Its text is `page.md`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FIRST = "small-lm"

_TEXT = Path(__file__).with_suffix(".md")


def write_page(folder: Path, page: Path) -> None:
    """Write the page about all models in `folder`."""
    cards = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    cards.sort(key=lambda card: (not card["name"].startswith(_FIRST), card["name"]))
    first = next(card for card in cards if card["name"] == _FIRST)
    results = [found for card in cards for found in card["accuracy"].values()]
    text = _TEXT.read_text(encoding="utf-8").format(
        first=_FIRST,
        n_ctx=first["config"]["n_ctx"],
        d_vocab=f"{first['config']['d_vocab']:,}",
        activation=first["config"]["activation"].upper(),
        n=first["accuracy"]["ioi"]["prompts"],
        batch=f"{first['training']['rows'] * first['config']['n_ctx']:,}",
        steps=f"{first['training']['steps']:,}",
        last_steps=f"{first['training']['last_steps']:,}",
        seeds=_seeds(cards),
        shorter=_shorter(cards),
        rounds=_rounds(cards),
        models="\n".join(_model_row(card, folder) for card in cards),
        accuracy=_accuracy(cards),
        bos=100 * max(abs(found["accuracy"] - found["with_bos"]) for found in results),
        falls=_falls(cards),
    )
    real = page.read_text(encoding="utf-8").partition("\n## Real pretrained models")
    page.write_text(text + "".join(real[1:]), encoding="utf-8")  # other models' part stays


def _model_row(card: dict[str, Any], folder: Path) -> str:
    config, training = card["config"], card["training"]
    size = (folder / f"{card['name']}.safetensors").stat().st_size
    size += (folder / f"{card['name']}.json").stat().st_size
    cells = [
        f"`{card['name']}`",
        config["n_layers"],
        config["n_heads"],
        config["d_model"],
        "none" if config["attention_only"] else config["d_mlp"],
        card["seed"],
        f"{card['parameters']:,}",
        f"{training['tokens'] / 1e6:.1f} million",
        f"{training['core_minutes']:.0f}",
        f"{size:,}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _accuracy(cards: list[dict[str, Any]]) -> str:
    heads = ["task", "chance", *(f"`{card['name']}`: accuracy, first" for card in cards)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for task, found in cards[0]["accuracy"].items():
        cells = [task, f"{100 * found['chance']:.1f} %"]
        for card in cards:
            row = card["accuracy"][task]
            cells.append(f"{100 * row['accuracy']:.1f} %, {100 * row['first']:.1f} %")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _seeds(cards: list[dict[str, Any]]) -> str:
    others = [f"`{card['name']}`" for card in cards if card["name"].startswith(f"{_FIRST}-seed")]
    if not others:
        return ""
    return (
        f" {' and '.join(others)} differ from\n`{_FIRST}` by the seed alone, which draws the "
        "weights, the sentences and the order of the batches."
    )


def _shorter(cards: list[dict[str, Any]]) -> str:
    """The models that were trained for less than the first."""
    steps = {
        card["name"]: (card["training"]["steps"], card["training"]["last_steps"]) for card in cards
    }
    others = [
        f" `{name}` has {first:,} and {last:,} steps."
        for name, (first, last) in steps.items()
        if (first, last) != steps[_FIRST]
    ]
    return "".join(others)


def _rounds(cards: list[dict[str, Any]]) -> str:
    """The models that were trained in word rounds, and how many."""
    times = {card["name"]: card["training"].get("word_rounds", 0) for card in cards}
    several = [f"`{name}` {n}" for name, n in times.items() if n]
    return ", ".join(several) or "none"


def _falls(cards: list[dict[str, Any]]) -> str:
    """The tasks that a model is not reliable at, said in words."""
    weak = [
        f"`{card['name']}` is right in {100 * row['accuracy']:.0f} % of {task}"
        for card in cards
        for task, row in card["accuracy"].items()
        if row["accuracy"] < 0.95
    ]
    return f"Below 95 %: {'; '.join(weak)}." if weak else "No task is below 95 %."
