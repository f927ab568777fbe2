"""What was shown of each family: `proven.json`, written by `scripts/prove_families.py`."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def _document() -> dict[str, Any]:
    text = (files("edgewise.model.families") / "proven.json").read_text(encoding="utf-8")
    return json.loads(text)


def proven(model_type: str) -> list[dict[str, Any]]:
    """The random models of a family that were tried, with the errors found; empty if none was."""
    return [case for case in _document()["cases"] if case["model_type"] == model_type]
