"""How long would AutoCircuit's ACDC take on the problem of bench_acdc.py?

Command:  python benchmarks/autocircuit_acdc.py [PROMPTS]  (2 cores, 10: 90 seconds, 2.1 GB)
Model:    GPT-2-small shape, the weights of problems.py in TransformerLens, float32.
Problem:  PROMPTS prompts (10) of 15 tokens, two changed in the corrupted twin; KL; 0.005.

Runs in an environment of its own (Python 3.11; Edgewise is not imported), made with
    pip install torch==2.13.0 auto-circuit==1.0.1 transformer-lens==1.19 'pyarrow<20' \
        'transformers<4.46' typeguard
where the last two packages are needed because TransformerLens 1.19 imports what newer releases
of its dependencies no longer bring.

Calls AutoCircuit's own acdc_prune_scores on every 150th edge of its order, so that receivers of all
layers are met, with a time stamp at every edge; and on the order's first 60 edges, which all end at
the logits and are the cheapest. The whole run is the mean of the even sample multiplied by the
number of edges: AutoCircuit tests every edge. Masks are dense, so that the time of a test does not
depend on what was removed before.

Writes benchmarks/results/acdc_autocircuit.json, or acdc_autocircuit_PROMPTS.json for other than 10.
"""

import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
import transformer_lens
import transformers
from auto_circuit.data import PromptDataLoader, PromptDataset
from auto_circuit.prune_algos import ACDC
from auto_circuit.types import Edge
from auto_circuit.utils.graph_utils import patchable_model
from auto_circuit.utils.patchable_model import PatchableModel
from transformer_lens.loading_from_pretrained import convert_gpt2_weights

TOKENS = 15
STRIDE, FIRST = 150, 60
FORWARDS = 9


def main(n_prompts: int) -> None:
    """Time the plain forward pass and both samples of edge tests, write the result."""
    hooked = make_model()
    clean, corrupted = make_prompts(n_prompts)
    forward = time_forward(hooked, clean)
    model = patchable_model(hooked, factorized=True, slice_output="last_seq", separate_qkv=True)
    answers = list(torch.zeros(n_prompts, 1, dtype=torch.long))
    loader = PromptDataLoader(
        PromptDataset(clean, corrupted, answers, answers), TOKENS, 0, batch_size=n_prompts
    )
    order = sorted(model.edges, key=lambda edge: (-edge.dest.layer, edge.name))
    first = time_edge_tests(model, loader, order[:FIRST])
    even = time_edge_tests(model, loader, order[STRIDE // 2 :: STRIDE])
    write_result(
        n_prompts,
        {
            "prompts": n_prompts,
            "tokens_per_prompt": TOKENS,
            "threshold": 0.005,
            "edges": len(order),
            "edge_tests_timed": len(even),
            "seconds_per_edge_test": summary(even),
            "seconds_for_all_edges": statistics.mean(even) * len(order),
            "first_edges": {
                "edge_tests_timed": len(first),
                "seconds_per_edge_test": summary(first),
            },
            "forward_seconds": summary(forward),
            "peak_memory_bytes": peak_memory_bytes(),
            "versions": {
                "python": platform.python_version(),
                **{
                    name: version(name)
                    for name in ("auto-circuit", "transformer-lens", "torch", "transformers")
                },
            },
            "platform": f"{platform.system()} {platform.machine()}",
            "device": "cpu",
            "dtype": "float32",
            "threads": torch.get_num_threads(),
            "note": (
                f"seconds_for_all_edges is an estimate: the mean over every {STRIDE}th edge of "
                "AutoCircuit's order multiplied by all edges, for one threshold. The model's "
                "last-position log-probabilities on both prompts were compared with Edgewise's in "
                "bench_acdc.py once, by hand: they differ by at most 1.1e-4, so the weights and "
                "prompts are the same."
            ),
        },
    )


def make_model() -> transformer_lens.HookedTransformer:
    """The weights of problems.py in TransformerLens, with the hook points AutoCircuit needs."""
    torch.manual_seed(0)
    module = transformers.GPT2LMHeadModel(transformers.GPT2Config(tie_word_embeddings=False))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1 and ".h." in name:
                parameter.mul_(6)
        module.lm_head.weight.mul_(5)
    config = transformer_lens.HookedTransformerConfig(
        n_layers=12,
        n_heads=12,
        d_model=768,
        d_head=64,
        d_mlp=3072,
        n_ctx=1024,
        d_vocab=50257,
        act_fn="gelu_new",
        normalization_type="LN",
        use_attn_result=True,
        use_split_qkv_input=True,
        use_hook_mlp_in=True,
        default_prepend_bos=False,
        device="cpu",
    )
    hooked = transformer_lens.HookedTransformer(config).eval()
    missing = hooked.load_state_dict(convert_gpt2_weights(module, config), strict=False)
    buffers = ("attn.mask", "attn.IGNORE", "unembed.b_U")  # b_U is made as zeros
    assert all(name.endswith(buffers) for name in missing.missing_keys), missing
    for parameter in hooked.parameters():
        parameter.requires_grad = False
    return hooked


def make_prompts(n_prompts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The clean and the corrupted tokens of problems.py."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(50257, (n_prompts, TOKENS), generator=generator)
    corrupted = clean.clone()
    for position in (3, 9):
        corrupted[:, position] = torch.randint(50257, (n_prompts,), generator=generator)
    return clean, corrupted


def time_forward(hooked: transformer_lens.HookedTransformer, clean: torch.Tensor) -> list[float]:
    """Seconds of plain forward passes, before AutoCircuit wraps the model."""
    times = []
    with torch.inference_mode():
        for _ in range(FORWARDS + 1):
            start = time.perf_counter()
            hooked(clean)
            times.append(time.perf_counter() - start)
    return times[1:]


class Clock:
    """Stands in for AutoCircuit's progress bar; keeps the seconds spent on each edge."""

    def __init__(self, seconds: list[float], items: Iterable[object]) -> None:
        self.seconds, self.items = seconds, items

    def __iter__(self) -> Iterator[object]:
        """Each item; the time until the next one is asked for is the item's."""
        for item in self.items:
            start = time.perf_counter()
            yield item
            if isinstance(item, Edge):  # the outer loop is over thresholds
                self.seconds.append(time.perf_counter() - start)

    def set_description_str(self, *args: object, **settings: object) -> None:
        """Progress is not shown."""


def time_edge_tests(
    model: PatchableModel, loader: PromptDataLoader, edges: list[Edge]
) -> list[float]:
    """Seconds of each edge test of an AutoCircuit run over only these edges, in its order."""
    every, bar = model.edges, ACDC.tqdm
    seconds: list[float] = []
    model.edges, ACDC.tqdm = edges, partial(Clock, seconds)
    try:
        ACDC.acdc_prune_scores(model, loader, None, tao_exps=[-3], tao_bases=[5])
    finally:
        model.edges, ACDC.tqdm = every, bar
    return seconds


def summary(seconds: list[float]) -> dict[str, float]:
    """Mean, median and range."""
    return {
        "mean": statistics.mean(seconds),
        "median": statistics.median(seconds),
        "min": min(seconds),
        "max": max(seconds),
    }


def peak_memory_bytes() -> int:
    """The most memory the process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def write_result(n_prompts: int, values: dict[str, object]) -> None:
    """Write the result's file and print it."""
    name = "acdc_autocircuit" + ("" if n_prompts == 10 else f"_{n_prompts}")
    text = json.dumps({"benchmark": name, **values}, indent=1)
    path = Path(__file__).parent / "results" / f"{name}.json"
    path.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
