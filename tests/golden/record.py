"""Record the answers of today's code: `python tests/golden/record.py [PROBLEM …]`.

Each problem is answered under three seeds of Python's hashes, in processes of their own, which must
agree exactly. It also says where an answer would hang on rounding: a decision close to its
threshold.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import replay

HASH_SEEDS = ("0", "1", "20")


def record(names: list[str]) -> None:
    """Write the answers of problems; none if they depend on the seed of hashes."""
    outputs = [_answered(names, seed) for seed in HASH_SEEDS]
    for name, *answers in zip(names, *outputs, strict=True):
        assert all(answer == answers[0] for answer in answers), f"{name} depends on hashes"
        margins = [find["margin"] for find in answers[0]["find"] if find.get("margin")]
        assert min(margins, default=1.0) > 1e-8, f"{name} has a decision close to its threshold"
        for find in answers[0]["find"]:
            if 0 < abs(_cut(find)) < 1e-9:  # scores that are equal bit by bit have an order
                sys.stderr.write(f"{name}: {find['method']} cuts between scores that all but tie\n")
        replay.ANSWERS.mkdir(exist_ok=True)
        (replay.ANSWERS / f"{name}.json").write_text(_lines(answers[0]))


def _answered(names: list[str], hash_seed: str) -> list[dict[str, Any]]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, __file__, "--answer", *names]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _cut(find: dict[str, Any]) -> float:
    """How far the worst edge that was selected by score is from the best that was not."""
    ways = {"share", "edges"} & set(find["settings"])
    if not ways or "by" in find["settings"] or "select" in find["settings"]:
        return 1.0
    sizes, kept = [abs(score) for score in find["scores"]], set(find["circuit"])
    rest = max((size for i, size in enumerate(sizes) if i not in kept), default=-1.0)
    return min((sizes[i] for i in kept), default=1.0) - rest


def _lines(answers: dict[str, Any]) -> str:
    """JSON with a line for each thing that was found or judged."""
    parts = []
    for key, value in answers.items():
        if key == "find":
            assert isinstance(value, list)
            text = "[\n" + ",\n".join(json.dumps(one) for one in value) + "\n]"
        else:
            text = json.dumps(value)
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--answer"]:
        for each in sys.argv[2:]:
            sys.stdout.write(json.dumps(replay.answers(each)) + "\n")
    else:
        record(sys.argv[1:] or list(replay.PROBLEMS))
