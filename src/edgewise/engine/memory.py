"""How much memory removals that are evaluated together may take, and a run will need.

A CPU is fastest while they stay near its caches. A GPU needs far more of them to be busy at all.
When memory runs out nevertheless, `Removals` halves what it evaluates at once.
"""

from __future__ import annotations

import torch

from edgewise.problem import Problem

_ON_CPU = 256 * 2**20
_STEP_ON_CPU = 8 * 2**20
_SHARE_OF_GPU = 0.1


def variant_bytes(device: torch.device) -> int:
    """Of activations alive at a time, for all variants together."""
    if device.type != "cuda":
        return _ON_CPU
    return int(_SHARE_OF_GPU * torch.cuda.get_device_properties(device).total_memory)


def step_bytes(device: torch.device) -> int:
    """Of what one step of a plan reads and writes, for all variants that go through it together."""
    return _STEP_ON_CPU if device.type == "cpu" else variant_bytes(device)


def logits_bytes(device: torch.device) -> int:
    """Of logits alive at a time."""
    return variant_bytes(device) // 4


def memory_bytes(problem: Problem, n_read_ports: int) -> int:
    """Bytes beside the model: caches of all prompts, and what is alive while removals are tried.

    `n_read_ports` is how many ports are still read at the end; it bounds what active nodes keep.
    """
    config, pairs = problem.model.config, problem.pairs
    n_senders = len(problem.graph.whole.senders)
    item = problem.model.compute_dtype.itemsize
    stream = len(pairs) * pairs.n_positions * config.d_model * item
    senders = 2 * n_senders * stream  # ablations, and differences from them
    sites = (4 if config.has_mlps else 3) * config.n_layers * stream  # what every site read
    ports = 2 * n_read_ports * stream  # what each port reads, and what is computed from it
    at_once = min(len(pairs), problem.batch_size or len(pairs))
    clean = n_senders * stream * at_once // len(pairs)  # while being subtracted
    logits = int(pairs.answer_at.sum()) * config.d_vocab_out * item
    candidates = n_senders  # at most so many variants at once
    width = max(4 * config.d_model, config.d_mlp)
    device = problem.model.device
    variants = min(variant_bytes(device), candidates * at_once * pairs.n_positions * width * item)
    chunk = min(logits_bytes(device), candidates * logits)
    return senders + sites + ports + clean + 3 * logits + 3 * variants + 2 * chunk
