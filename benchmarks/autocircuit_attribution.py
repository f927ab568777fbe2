"""What do EAP and a step of edge masks cost in AutoCircuit, and does its EAP say the same as ours?

Command:  python benchmarks/autocircuit_attribution.py [SCORES.json]    (2 cores: 2 minutes, 5 GB)
Model:    GPT-2-small shape, the weights of problems.py in TransformerLens, 10 prompts of 15 tokens,
          logit difference, float32.

Runs in the environment of autocircuit_acdc.py (see there), not in ours. EAP is its
mask_gradient_prune_scores with masks of 0, a step is the difference of subnetwork probing runs of
3 and of 1 epochs; each the fastest of three. Given a file of scores by edge name, as
`python benchmarks/autocircuit_attribution.py --ours SCORES.json` writes with our interpreter, it
compares them. Writes benchmarks/results/attribution_autocircuit.json.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

TOKENS, PROMPTS, SEED = 15, 10, 1


def answers_of(n: int) -> torch.Tensor:
    """Right and wrong answers, [2 prompt]."""
    return torch.randint(50257, (2, n), generator=torch.Generator().manual_seed(SEED))


def write_ours(path: Path) -> None:
    """Our EAP scores on this problem, by edge name."""
    import edgewise as ew
    from problems import Shape, make_problem

    kl = make_problem(Shape())
    right, wrong = answers_of(PROMPTS)
    pairs = ew.PromptPairs.from_tokens(
        kl.pairs.clean, kl.pairs.corrupted, answers=right, wrong=wrong
    )
    scores = ew.eap(ew.Problem(kl.model, pairs, "logit-diff")).scores
    path.write_text(json.dumps({e.name: scores.of(e) for e in kl.graph.edges}), encoding="utf-8")


def fastest(function: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    """Seconds of the fastest call, and what it returned."""
    seconds, result = [], None
    for _ in range(times):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def main(ours: Path | None) -> None:
    """Time AutoCircuit, compare scores, write the result."""
    from auto_circuit.data import PromptDataLoader, PromptDataset
    from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores
    from auto_circuit.prune_algos.subnetwork_probing import subnetwork_probing_prune_scores
    from auto_circuit.utils.graph_utils import patchable_model

    from autocircuit_acdc import make_model, make_prompts, peak_memory_bytes

    torch.optim.adam = sys.modules["torch.optim.adam"]  # AutoCircuit's name for it, gone in 2.13
    hooked = make_model()
    clean, corrupted = make_prompts(PROMPTS)
    with torch.inference_mode():
        forward, _ = fastest(lambda: hooked(clean), 6)
    held = peak_memory_bytes()
    model = patchable_model(hooked, factorized=True, slice_output="last_seq", separate_qkv=True)
    right, wrong = (list(side[:, None]) for side in answers_of(PROMPTS))
    data = PromptDataset(clean, corrupted, right, wrong)
    loader = PromptDataLoader(data, TOKENS, 0, batch_size=PROMPTS)

    def eap() -> Any:
        model.zero_grad(set_to_none=True)
        return mask_gradient_prune_scores(model, loader, None, "logit", "avg_diff", mask_val=0.0)

    def step(epochs: int) -> Any:
        return subnetwork_probing_prune_scores(model, loader, None, epochs=epochs)

    eap_seconds, scores = fastest(eap)
    eap_memory = peak_memory_bytes() - held
    few, more = (fastest(lambda n=n: step(n))[0] for n in (1, 3))
    result = {
        "benchmark": "attribution_autocircuit",
        "prompts": PROMPTS,
        "forward_seconds": forward,
        "eap": {"seconds": eap_seconds, "memory_above_the_model_bytes": eap_memory},
        "edge_mask_step": {
            "seconds": (more - few) / 2,
            "memory_above_the_model_bytes": peak_memory_bytes() - held,
        },
    }
    for part in ("eap", "edge_mask_step"):
        result[part]["forward_passes"] = result[part]["seconds"] / forward  # type: ignore[index]
    if ours is not None:
        result["eap_scores"] = compared(model, scores, json.loads(ours.read_text()))
    path = Path(__file__).parent / "results" / "attribution_autocircuit.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def compared(model: Any, scores: dict[str, torch.Tensor], ours: dict[str, float]) -> dict[str, Any]:
    """The largest difference from our scores, as a part of the largest score."""
    difference, largest, n = 0.0, 0.0, 0
    for edge in model.edges:
        theirs = float(scores[edge.dest.module_name][edge.patch_idx])
        mine = ours[f"{_name(edge.src.name)}->{_name(edge.dest.name)}"]
        difference, largest = max(difference, abs(theirs - mine)), max(largest, abs(mine))
        n += 1
    return {"edges": n, "largest_difference_relative_to_the_largest_score": difference / largest}


def _name(theirs: str) -> str:
    """AutoCircuit's node name in ours: A3.7.Q, MLP 3, Resid Start, Resid End."""
    if theirs.startswith("A"):
        layer, head, *slot = theirs[1:].split(".")
        return f"a{layer}.h{head}" + (f".{slot[0].lower()}" if slot else "")
    if theirs.startswith("MLP"):
        return f"m{theirs.split()[1]}"
    return {"Resid Start": "input", "Resid End": "logits"}[theirs]


if __name__ == "__main__":
    if "--ours" in sys.argv:
        write_ours(Path(sys.argv[-1]))
    else:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
