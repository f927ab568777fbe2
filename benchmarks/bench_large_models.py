"""What do circuits of models people use cost: time and memory, at the sizes of Llama 1B and 8B?

Command:  python benchmarks/bench_large_models.py                     (two CPU cores: 20 minutes)
          python benchmarks/bench_large_models.py --device cuda --shape 8b --batch-size 0
              --methods eap eap-ig acdc --minutes 10                  (one large GPU)
Models:   random weights in the shape of Llama-3.2-1B or Llama-3.1-8B: grouped heads, RMSNorm,
          rotary positions, gated MLPs; made by transformers on the device, in bfloat16.
Problem:  --prompts pairs of 16 tokens, two of them changed in the twin; logit difference.

Every line is a process of its own, so that its peak is its own: the weights, then what the method
took beside them. The same method runs on a quarter of the prompts too: with micro-batches of
`--batch-size` prompts memory must not grow with their number (0: all prompts at once). ACDC is
stopped after --minutes, and what the whole would take is extrapolated by the edges decided.
`--tiny` runs the same code on a small shape and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

import edgewise as ew
from edgewise.work.store import environment, peak_memory_bytes
from problems import Watch, held_at_most
from results import write

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96, "vocab_size": 500,
             "num_attention_heads": 4, "num_key_value_heads": 2},
    "1b": {"num_hidden_layers": 16, "hidden_size": 2048, "intermediate_size": 8192,
           "vocab_size": 128256, "num_attention_heads": 32, "num_key_value_heads": 8},
    "8b": {"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336,
           "vocab_size": 128256, "num_attention_heads": 32, "num_key_value_heads": 8},
}  # fmt: skip
TOKENS = 16
SETTINGS: dict[str, dict[str, Any]] = {
    "eap": {"share": 0.01},
    "eap-ig": {"share": 0.01, "steps": 5},
    "acdc": {"threshold": 0.003},
}


def make_model(shape: str, device: str) -> ew.Model:
    """A random Llama, proved against its source as any other."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SHAPES[shape], tie_word_embeddings=shape == "1b")
    with torch.device(device):
        module = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():  # at their initial size blocks hardly change the stream
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1 and ".layers." in name:
                parameter.mul_(3)
    return ew.load_model(module.eval())


def make_problem(model: ew.Model, prompts: int, batch_size: int) -> ew.Problem:
    """Random prompts, two tokens of each changed, and two random answers."""
    generator = torch.Generator().manual_seed(0)
    vocab = model.config.d_vocab
    clean = torch.randint(vocab, (prompts, TOKENS), generator=generator)
    corrupted = clean.clone()
    corrupted[:, [4, 9]] = torch.randint(vocab, (prompts, 2), generator=generator)
    answers = torch.randint(vocab, (2, prompts), generator=generator)
    pairs = ew.PromptPairs.from_tokens(clean, corrupted, answers=answers[0], wrong=answers[1])
    return ew.Problem(model, pairs, "logit-diff", "corrupted", batch_size=batch_size or None)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """One method in this process."""
    start, before = time.perf_counter(), held_at_most()
    model = make_model(given.shape, given.device)
    problem = make_problem(model, given.prompts, given.batch_size)
    result: dict[str, Any] = {
        "method": given.one,
        "prompts": given.prompts,
        "batch_size": given.batch_size,
        "parameters": model.n_parameters,
        "edges": problem.graph.n_edges,
        "before_bytes": 0 if given.device.startswith("cuda") else before,  # Python and torch
        "weights_bytes": _weights(model),
        "peak_of_loading_bytes": _peak(model),
        "seconds_to_make_and_prove": time.perf_counter() - start,
        "proof": model.proof["relative_errors"],
    }
    if given.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    if given.one == "acdc":
        watch = Watch(seconds=60 * given.minutes).run(problem, **SETTINGS["acdc"])
        seconds = time.perf_counter() - start
        share = watch.done[-1] / problem.graph.n_edges
        result |= {"seconds": seconds, "finished": watch.finished, "edges_tested": len(watch.taken),
                   "share_decided": share, "seconds_for_all": seconds / share}  # fmt: skip
    else:
        run = ew.discover(problem, given.one, **SETTINGS[given.one])
        result |= {
            "seconds": time.perf_counter() - start,
            "forward_passes": run.cost.forward_passes,
            "backward_passes": run.cost.backward_passes,
            "edges_kept": run.circuit.n_edges,
        }
    peak = _peak(model)
    beside = peak - result["weights_bytes"] - result["before_bytes"]
    return result | {"peak_bytes": peak, "peak_beside_weights_bytes": beside,
                     "environment": environment(model)}  # fmt: skip


def _weights(model: ew.Model) -> int:
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in model.weights.values()}
    return sum(storage.nbytes() for storage in storages.values())


def _peak(model: ew.Model) -> int:
    cuda = model.device.type == "cuda"
    return peak_memory_bytes(model.device) if cuda else held_at_most()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--methods", nargs="+", choices=SETTINGS, default=["eap", "eap-ig"])
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--tiny", action="store_true", help="a small shape, to try the script")
    parser.add_argument("--one", choices=SETTINGS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.tiny:
        given.shape, given.prompts, given.methods = "tiny", 2, ["eap", "acdc"]
    if given.one:
        print(json.dumps(measure(given)))
        return
    lines = []
    for method in given.methods:
        few = [max(1, given.prompts // 4)] if method != "acdc" and not given.tiny else []
        for prompts in (*few, given.prompts):
            lines.append(_in_a_process(given, method, prompts))
            print(f"{method}, {prompts} prompts: {lines[-1]['seconds']:.0f} s, "
                  f"{lines[-1]['peak_beside_weights_bytes'] / 2**30:.2f} GiB beside the weights",
                  file=sys.stderr)  # fmt: skip
    where = [line.pop("environment") for line in lines].pop()
    name = f"large_models_{given.shape}_{given.device.partition(':')[0]}"
    values = {"shape": SHAPES[given.shape], "dtype": "bfloat16", "tokens": TOKENS, "runs": lines}
    write(name, where, values, **({"folder": None} if given.shape == "tiny" else {}))


def _in_a_process(given: argparse.Namespace, method: str, prompts: int) -> dict[str, Any]:
    options = {"shape": given.shape, "device": given.device, "minutes": given.minutes,
               "batch-size": given.batch_size, "prompts": prompts, "one": method}  # fmt: skip
    command = [sys.executable, str(Path(__file__)), *(f"--{k}={v}" for k, v in options.items())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
