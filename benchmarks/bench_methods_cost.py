"""What does each method cost, in the model's own forward passes, at GPT-2-small size?

Command:  python benchmarks/bench_methods_cost.py     (2 cores, 10 prompts: 3 minutes, 4 GB)
Model:    GPT-2-small shape, random weights, 10 prompts of 15 tokens, logit difference, float32.

Each method runs in a process of its own: two times after a warm-up, the faster counts, beside
Hugging Face's forward pass of all logits in the same process. Trained methods are timed by a step:
the difference of runs of 3 and of 1 steps. Peak memory is the process's, less what it held with the
model loaded. Also EAP on 100 prompts in micro-batches of 10. Writes methods_cost.json.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers

import edgewise as ew
from edgewise.methods import method_of
from edgewise.methods.execution import run_method
from edgewise.work.store import peak_memory_bytes
from results import write_result

SCORED: dict[str, dict[str, Any]] = {
    "eap": {},
    "eap-ig": {"steps": 5},
    "clean-corrupted": {},
    "atp-star": {},
    "relp": {},
    "information-flow": {},
    "magnitude": {},
    "hisp": {},
}
TRAINED: dict[str, dict[str, Any]] = {
    "sp": {"regularisation": 0.1},
    "sp-edges": {"regularisation": 0.1},
    "edge-pruning": {"sparsity": 0.95},
    "ugs": {"regularisation": 0.1},
}


def problem_of(n_prompts: int, batch_size: int | None) -> tuple[Any, ew.Problem]:
    """Hugging Face's module, and a problem on it."""
    torch.manual_seed(0)
    hf = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    generator = torch.Generator().manual_seed(0)
    clean, corrupted = torch.randint(50257, (2, n_prompts, 15), generator=generator)
    answers, wrong = torch.randint(50257, (2, n_prompts), generator=generator)
    pairs = ew.PromptPairs.from_tokens(clean, corrupted, answers=answers, wrong=wrong)
    model = ew.load_model(hf)
    return hf, ew.Problem(model, pairs, "logit-diff", "corrupted", batch_size=batch_size)


def fastest(function: Callable[[], Any], times: int = 3) -> float:
    """Seconds of the fastest call."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def measure(method: str, n_prompts: int, batch_size: int | None) -> dict[str, Any]:
    """Seconds and memory of one method."""
    hf, problem = problem_of(n_prompts, batch_size)
    with torch.no_grad():
        forward = fastest(lambda: hf(problem.pairs.clean[:10]), 5)
    chosen, before = method_of(method), _resident()

    def run(**settings: Any) -> Callable[[], Any]:
        fresh = problem.with_(batch_size=batch_size)  # nothing kept from an earlier run
        return lambda: run_method(chosen, fresh.with_(), chosen.resolve(settings))

    if method in TRAINED:
        few, more = (fastest(run(**TRAINED[method], steps=steps)) for steps in (1, 3))
        seconds = (more - few) / 2
    else:
        seconds = fastest(run(**SCORED[method]))
    with torch.no_grad():
        forward = min(forward, fastest(lambda: hf(problem.pairs.clean[:10]), 5))
    return {
        "method": method,
        "prompts": n_prompts,
        "batch_size": batch_size,
        "what": "a step" if method in TRAINED else "the whole",
        "seconds": seconds,
        "seconds_of_a_forward_pass": forward,
        "forward_passes": seconds / forward * 10 / n_prompts,
        "memory_above_the_model_bytes": peak_memory_bytes(torch.device("cpu")) - before,
    }


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def main() -> None:
    """Measure every method in a process of its own."""
    jobs = [(m, 10, 0) for m in (*SCORED, *TRAINED)] + [("eap", 100, 10)]
    rows = []
    for method, n_prompts, batch_size in jobs:
        command = [sys.executable, __file__, "--one", method, str(n_prompts), str(batch_size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        row = rows[-1]
        memory = row["memory_above_the_model_bytes"] / 1e9
        print(f"{method:18} {row['forward_passes']:6.2f} forward passes, {memory:.2f} GB")
    write_result("methods_cost", problem_of(10, None)[1].model, {"rows": rows})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", nargs=3, metavar=("METHOD", "PROMPTS", "BATCH"))
    given = parser.parse_args().one
    if given:
        print(json.dumps(measure(given[0], int(given[1]), int(given[2]) or None)))
    else:
        main()
