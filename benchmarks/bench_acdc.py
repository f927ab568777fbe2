"""How long does a complete, exact ACDC run take at GPT-2-small size, beside the plain evaluator?

Command:  python benchmarks/bench_acdc.py [PROMPTS]    (2 cores, 10 prompts: 4 minutes, 2 GB)
Model:    GPT-2-small shape, random weights scaled so that a few hundred edges stay, float32.
Problem:  PROMPTS prompts of 15 tokens, two of them changed in the corrupted twin; KL; 0.005.

The incremental run is complete. The plain evaluator is timed on edge tests of the same run, drawn
at random and replayed in the state they were decided in, which also checks their decisions; its
total is that time multiplied by the number of tests. Writes benchmarks/results/acdc.json.
"""

import random
import statistics
import sys
import time

import torch
import transformers

import edgewise as ew
from edgewise.record.environment import peak_memory_bytes
from results import write_result

THRESHOLD = 0.005
REPLAYED = 24


def main(n_prompts: int) -> None:
    """Run, replay a sample, write the result."""
    model, problem = make_problem(n_prompts)
    run = ew.acdc(problem, threshold=THRESHOLD)
    memory = peak_memory_bytes(model.device)
    times, agree, largest = replay(problem, run)
    tests = run.cost.edge_tests
    plain = statistics.median(times)
    write_result(
        "acdc",
        model,
        {
            "prompts": n_prompts,
            "tokens_per_prompt": 15,
            "threshold": THRESHOLD,
            "edges": model.graph.n_edges,
            "edges_kept": run.circuit.n_edges,
            "edge_tests": tests,
            "edges_skipped": run.cost.edges_skipped,
            "removals_evaluated": run.cost.variants,
            "margin": run.margin,
            "incremental": {
                "seconds": run.cost.seconds,
                "ms_per_edge_test": 1000 * run.cost.seconds / tests,
                "peak_memory_bytes": memory,
            },
            "plain": {
                "edge_tests_timed": len(times),
                "seconds_per_edge_test": {
                    "median": plain,
                    "min": min(times),
                    "max": max(times),
                },
                "seconds_for_all_tests": plain * tests,
                "peak_memory_bytes": peak_memory_bytes(model.device),
            },
            "times_faster": plain * tests / run.cost.seconds,
            "replayed_decisions_that_agree": f"{agree} of {len(times)}",
            "largest_difference_of_a_delta": largest,
        },
    )


def make_problem(n_prompts: int) -> tuple[ew.Model, ew.Problem]:
    """Random weights whose blocks and unembedding matter as much as a trained model's."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(tie_word_embeddings=False)
    module = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1 and ".h." in name:
                parameter.mul_(6)
        module.lm_head.weight.mul_(5)
    model = ew.load_model(module)
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(config.vocab_size, (n_prompts, 15), generator=generator)
    corrupted = clean.clone()
    for position in (3, 9):
        corrupted[:, position] = torch.randint(config.vocab_size, (n_prompts,), generator=generator)
    pairs = ew.PromptPairs.from_tokens(clean, corrupted)
    return model, ew.Problem(model, pairs, "kl", "corrupted")


def replay(problem: ew.Problem, run: ew.Run) -> tuple[list[float], int, float]:
    """Seconds of plain edge tests, how many decide alike, and the largest difference of a delta."""
    chosen = set(random.Random(0).sample(range(len(run.trace)), REPLAYED))
    keep = problem.graph.exists.clone()
    times, agree, largest = [], 0, 0.0
    for index, decision in enumerate(run.trace):
        at = problem.graph.index(decision.edge)
        if index in chosen:
            loss = problem.loss(ew.Circuit(problem.graph, keep))
            keep[at] = False
            start = time.perf_counter()
            without = problem.loss(ew.Circuit(problem.graph, keep))
            times.append(time.perf_counter() - start)
            delta = without - loss
            agree += (not delta < THRESHOLD) == decision.kept
            largest = max(largest, abs(delta - decision.delta))
        keep[at] = decision.kept
    return times, agree, largest


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
