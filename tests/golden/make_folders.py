"""Make every kind of file that the first edition saved, into `folders/`.

It is kept to say how the folders came about, and works with the code of commit 5477a5e alone: later
code must read what this wrote, which `test_golden.py` checks.
"""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import edgewise as ew

HERE = Path(__file__).parent / "folders"


def command(words: str) -> str:
    """What a command prints; it runs in the folder, so that files hold no path of a machine."""
    code = "from edgewise.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words.split()], cwd=HERE, stdout=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, f"{words}: exit code {done.returncode}"
    return done.stdout


def write(name: str, document: Any) -> None:
    text = document if isinstance(document, str) else json.dumps(document, indent=1)
    (HERE / name).write_text(text.rstrip() + "\n")


def stopped(problem: ew.Problem, folder: str, method: str, steps: int, **settings: Any) -> None:
    """Work with a journal that ends after some steps."""
    seen = []

    def stop(progress: Any) -> None:
        seen.append(progress)
        if len(seen) > steps:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        ew.discover(problem, method, journal=HERE / folder, on_progress=stop, **settings)


def runs() -> None:
    command("discover --task tracr-reverse --threshold 0.01 --out run-acdc")
    command("discover --task tracr-xproportion --method eap-ig --edges 9 --out run-eap-ig")
    command(
        "discover --task tracr-reverse --method sp --regularisation 0.01 --steps 4 --out run-sp"
    )
    command("discover --task tracr-xproportion --method hisp --units 3 --allow-zero-gradient"
            " --out run-hisp")  # fmt: skip
    command("discover --task tracr-xproportion --method acdc-test --first 4 --threshold 0.001"
            " --out run-acdc-test")  # fmt: skip
    rows = [{"clean": [0, 2, 1, 3], "corrupted": [0, 1, 2, 3], "answers": i % 2} for i in range(3)]
    write("pairs.jsonl", "\n".join(map(json.dumps, rows)))
    command("discover --pairs pairs.jsonl --model tracr-reverse --metric l2 --reference mean "
            "--threshold 0.01 --joined-qkv --out run-own-pairs")  # fmt: skip
    command("discover --task ioi --model small-lm --n 3 --method eap --metric logit-diff --layers"
            " --spans S2,END --edges 20 --out run-spans")  # fmt: skip
    problem = ew.load_task("tracr-reverse").problem
    each = {kind: problem.with_(reference=kind) for kind in ("zero", "mean")}
    ew.discover_each(each, "acdc", out=HERE / "each", threshold=0.05)
    stopped(problem, "stopped-acdc", "acdc", 40, threshold=0.01)


def results() -> None:
    task = ew.load_task("tracr-xproportion")
    run = ew.exact(task.problem, edges=8)
    ew.stability(
        task.problem, "acdc", n=6, core=0.4, threshold=0.01, journal=HERE / "stability.jsonl"
    ).save(HERE / "stability.json")
    ew.certify(
        task.problem, "acdc", n=6, size=2, threshold=0.01, journal=HERE / "certified.jsonl"
    ).save(HERE / "certified.json")
    ew.hypothesis_tests(task.test, run, n_random=5).save(HERE / "tests.json")
    write("evaluation.json", ew.evaluate(task.test, run, random=3, knock_outs=2).to_json())
    write("curve.json", ew.curve(task.test, run).to_json())
    write("recovery.json", ew.recovery(run, task.published).to_json())
    write("score-recovery.json", ew.score_recovery(run, task.published).to_json())
    write("comparison.json", command("compare run-acdc run-sp --json"))
    write("evaluated-run.json", command("evaluate run-acdc --random 3 --knock-outs 2 --json"))
    run.circuit.save(HERE / "circuit.json")
    model = task.problem.model
    width = model.config.d_model
    run = ew.exact(task.problem.with_(graph=ew.Graph.of(model)), edges=8)
    run.circuit.save_for_eap_ig(HERE / "eap-ig.json", d_model=width, scores=run.scores)
    run.circuit.save_for_eap_ig(HERE / "eap-ig.pt", d_model=width, scores=run.scores)
    run.scores.save_for_eap_ig(HERE / "eap-ig-scores.json", d_model=width)


def grids() -> None:
    methods = {"acdc": {"threshold": [0.01, 0.1]}, "eap-ig": {"edges": [5, 8]}}
    ew.sweep_grid(methods, over={"task": "tracr-xproportion"}, out=HERE / "sweep")
    command("leaderboard --method exact --program tracr-xproportion --reference zero --seeds 1"
            " --out leaderboard")  # fmt: skip
    command("reproduce --offline --quick --only tracr-xproportion --method acdc --out reproduction")


if __name__ == "__main__":
    HERE.mkdir()
    runs()
    results()
    grids()
