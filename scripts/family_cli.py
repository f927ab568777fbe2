"""Circuits of a family's model by the command line alone: checkpoint, file of prompts, runs."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import edgewise as ew
from edgewise.cli.main import main

METHODS: dict[str, list[Any]] = {
    "acdc": ["--threshold", 0.001, "--metric", "kl"],
    "eap-ig": ["--edges", 20, "--metric", "logit-diff"],
    "sp": ["--steps", 12, "--learning-rate", 1, "--metric", "logit-diff", "--regularisation", 0.3],
}


def runs_by_command_line(module: Any, folder: Path) -> dict[str, ew.Run]:
    """`edgewise discover` with each method, on a saved module; the runs and pages it wrote.

    A page is `<method>.html` in the folder. Raises `SystemExit` where the command fails.
    """
    module.save_pretrained(folder / "model")
    pairs = {"clean": [1, 2, 3, 4], "corrupted": [5, 2, 3, 4], "answers": [7], "wrong": [8]}
    (folder / "pairs.jsonl").write_text(json.dumps(pairs) + "\n")
    how = ["--pairs", folder / "pairs.jsonl", "--model", folder / "model", "--json"]
    runs = {}
    for method, options in METHODS.items():
        page = ["--out", folder / method, "--report", folder / f"{method}.html"]
        printed = StringIO()
        try:
            with redirect_stdout(printed):
                main([str(a) for a in ("discover", *how, "--method", method, *options, *page)])
        except SystemExit as stop:
            if stop.code:
                raise
        runs[method] = ew.Run.load(folder / method)
        assert runs[method].circuit.n_edges == json.loads(printed.getvalue())["n_edges"]
    return runs
