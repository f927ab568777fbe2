"""Where benchmark results go: one JSON file per script, with the machine it ran on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import edgewise as ew
from edgewise.work.store import environment

FOLDER = Path(__file__).parent / "results"


def write_result(name: str, model: ew.Model, values: dict[str, Any]) -> None:
    """Write results/NAME.json and print it."""
    write(name, environment(model), values)


def write(
    name: str, where: Mapping[str, Any], values: dict[str, Any], folder: Path | None = FOLDER
) -> None:
    """Write FOLDER/NAME.json, with the environment it was measured in, and print it.

    Without a folder it is only printed: numbers of tiny problems are no results.
    """
    text = json.dumps({"benchmark": name, **values, "environment": where}, indent=1)
    if folder is not None:
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)
