"""How much does the incremental engine save where the heads of a layer depend on each other?

Command:  python benchmarks/bench_acdc_families.py [--tiny]     (1 thread: 3 minutes, 1 GB)
Models:   6 layers, 8 heads (4 key/value heads), d_model 256, vocabulary 2,000, random weights,
          float32, of three families: Llama, whose heads are apart; Gemma 2, which norms the sum of
          a layer's heads and caps scores and logits; OLMo 2, which norms that sum, and the queries
          and keys of all heads together.
Problem:  5 prompts of 12 tokens, two of them changed in the corrupted twin; KL;
          thresholds at which some 3 to 5 % of the edges stay.

A complete ACDC run by each engine, side by side: seconds of this thread's CPU, which neighbours on
the machine change less than seconds on the wall, what was evaluated, what was kept, and
whether both decided alike. Writes benchmarks/results/acdc_families.json and prints a table.
"""

import argparse
import time
from dataclasses import asdict, replace
from typing import Any

import torch
import transformers

import edgewise as ew
from edgewise.work.store import environment
from problems import TINY, Shape, make_problem, scaled_weights
from results import FOLDER, write
from runs import agreement, described

SHAPE = Shape(layers=6, heads=8, d_model=256, vocab=2000, prompts=5, tokens=12)
# Configuration class, what differs from the shape above, threshold.
FAMILIES: dict[str, tuple[str, dict[str, Any], float]] = {
    "llama": ("LlamaConfig", {}, 0.015),
    "gemma2": ("Gemma2Config", {"sliding_window": 6}, 0.05),
    "olmo2": ("Olmo2Config", {}, 0.02),
}
ENGINES = ("incremental", "plain")


def main(tiny: bool) -> None:
    """Measure every family, write the result, print the table."""
    torch.set_num_threads(1)
    shape = replace(TINY, heads=4) if tiny else SHAPE
    rows = {}
    for name, (_, _, threshold) in FAMILIES.items():
        problem = make_problem(shape, model_of(name, shape))
        rows[name] = measured(problem, threshold)
    values = {"threads": 1, "shape": asdict(shape), "families": rows}
    write("acdc_families", environment(problem.model), values, None if tiny else FOLDER)
    print(table(rows))


def model_of(family: str, shape: Shape) -> ew.Model:
    """A random model of a family, half as many key/value heads as heads."""
    torch.manual_seed(0)
    kind, differs, _ = FAMILIES[family]
    config = getattr(transformers, kind)(
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads // 2,
        hidden_size=shape.d_model,
        head_dim=shape.d_model // shape.heads,
        intermediate_size=4 * shape.d_model,
        vocab_size=shape.vocab,
        pad_token_id=None,
        tie_word_embeddings=False,
        **differs,
    )
    module = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    scaled_weights(module.eval(), "layers.", shape.d_model)
    return ew.load_model(module.float())


def measured(problem: ew.Problem, threshold: float) -> dict[str, Any]:
    """A run by each engine; a first short one so that neither pays for what happens once."""
    ew.acdc(problem, threshold=1e9)
    runs, cpu = {}, {}
    for name in ENGINES:
        start = time.process_time()
        runs[name] = ew.acdc(problem.with_(), threshold=threshold, engine=name)
        cpu[name] = time.process_time() - start
    fast, slow = (runs[name] for name in ENGINES)
    deltas = zip(fast.trace, slow.trace, strict=False)
    return {
        "edges": problem.graph.n_edges,
        "threshold": threshold,
        **{name: {"cpu_seconds": cpu[name], **described(run)} for name, run in runs.items()},
        "times_as_fast": cpu["plain"] / cpu["incremental"],
        "agreement": agreement(fast, slow),
        "largest_difference": max(abs(ours.delta - theirs.delta) for ours, theirs in deltas),
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """A Markdown table."""
    lines = [
        "| family | edges kept | tests | plain | incremental | times as fast |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        fast, slow = (row[engine]["cpu_seconds"] for engine in ENGINES)
        kept, tests = (row["incremental"][what] for what in ("edges_kept", "edge_tests"))
        lines.append(
            f"| {name} | {kept} of {row['edges']:,} | {tests:,} "
            f"| {slow:.0f} s | {fast:.1f} s | {row['times_as_fast']:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Both engines where heads depend on each other.")
    parser.add_argument("--tiny", action="store_true", help="tiny models; writes no result")
    main(parser.parse_args().tiny)
