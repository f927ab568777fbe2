"""What does one circuit evaluation cost, beside the model's own forward pass?

Command:  python benchmarks/bench_plain_evaluator.py        (2 cores, about a minute, 2 GB)
Model:    GPT-2-small shape, random weights, 10 prompts of 15 tokens, float32.

Measures, alternately in one process, five times each after a warm-up: Hugging Face's forward pass,
ours on the plain stream, a full, a half, a small and an empty circuit through the plain evaluator,
one ACDC edge test.
Work is reported beside time. Writes benchmarks/results/plain_evaluator.json.
"""

import statistics
import time
from collections.abc import Callable

import torch
import transformers

import edgewise as ew
from edgewise.work.store import peak_memory_bytes
from results import write_result

REPEATS = 5


def main() -> None:
    """Time everything and write the result."""
    torch.manual_seed(0)
    hf = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    model = ew.load_model(hf)
    generator = torch.Generator().manual_seed(0)
    clean, corrupted = torch.randint(50257, (2, 10, 15), generator=generator)
    pairs = ew.PromptPairs.from_tokens(clean, corrupted)
    problem = ew.Problem(model, pairs, "kl", "corrupted")
    full = ew.Circuit.full(model.graph)
    chances = torch.rand(model.graph.exists.shape, generator=generator)
    half, sparse = (
        ew.Circuit(model.graph, model.graph.exists & (chances < share))
        for share in (0.5, 300 / model.graph.n_edges)
    )
    empty = ew.Circuit.empty(model.graph)
    one_less = full.without("a5.h3->a9.h7.q")
    with torch.no_grad():
        tasks: dict[str, Callable[[], object]] = {
            "hugging_face_forward": lambda: hf(clean).logits,
            "clean_forward": lambda: model(clean),
            "full_circuit": lambda: problem.loss(full),
            "half_circuit": lambda: problem.loss(half),
            "circuit_of_300_edges": lambda: problem.loss(sparse),
            "empty_circuit": lambda: problem.loss(empty),
            "edge_test": lambda: problem.loss(one_less),
        }
        times: dict[str, list[float]] = {name: [] for name in tasks}
        for _ in range(REPEATS + 1):
            for name, task in tasks.items():
                start = time.perf_counter()
                task()
                times[name].append(time.perf_counter() - start)
    seconds = {
        name: {
            "median": statistics.median(t[1:]),
            "min": min(t[1:]),
            "max": max(t[1:]),
        }
        for name, t in times.items()
    }
    forward = seconds["hugging_face_forward"]["median"]
    write_result(
        "plain_evaluator",
        model,
        {
            "prompts": 10,
            "tokens_per_prompt": 15,
            "edges": model.graph.n_edges,
            "repeats": REPEATS,
            "seconds": seconds,
            "in_forward_passes": {n: s["median"] / forward for n, s in seconds.items()},
            "full_acdc_at_most_hours": seconds["edge_test"]["median"] * model.graph.n_edges / 3600,
            "peak_memory_bytes": peak_memory_bytes(model.device),
        },
    )


if __name__ == "__main__":
    main()
