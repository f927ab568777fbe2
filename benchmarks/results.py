"""Where benchmark results go: one JSON file per script, with the machine it ran on."""

import json
from pathlib import Path
from typing import Any

import edgewise as ew
from edgewise.record.environment import environment

FOLDER = Path(__file__).parent / "results"


def write_result(name: str, model: ew.Model, values: dict[str, Any]) -> None:
    """Write results/NAME.json and print it."""
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps({"benchmark": name, **values, "environment": environment(model)}, indent=1)
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)
