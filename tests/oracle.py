"""The oracle: ACDC and circuit runs on a Hugging Face GPT-2, slow and obvious.

Fast code is compared with it, so it uses none of Edgewise: the Hugging Face module runs its own
forward pass, and hooks on it replace what each part reads. Nodes and edges are plain strings.

    senders    "input" (token + position embedding), "a3.h7" (one head's output, no output bias),
               "m3" (one MLP's output, its output bias included)
    receivers  "a3.h7.q", "a3.h7.k", "a3.h7.v", "m3", "logits"
    edges      "a0.h1->a3.h7.q"; switches, where asked for, "a3.h7.q->a3.h7"

    input(r) = sum over senders s before r of ( live(s) if s->r is kept else ablated(s) )
             + the output biases of all attention layers before r, which are always on

Algorithm: Conmy et al. 2023, "Towards Automated Circuit Discovery for Mechanistic
Interpretability", https://arxiv.org/abs/2304.14997, in the order its published code uses.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

LETTERS = ("q", "k", "v")


def random_gpt2(
    seed: int,
    *,
    n_layer: int = 2,
    n_head: int = 2,
    d_model: int = 8,
    vocab: int = 17,
    n_ctx: int = 12,
    activation: str = "gelu_new",
    dtype: torch.dtype = torch.float64,
    scale: float = 1.5,
) -> GPT2LMHeadModel:
    """A GPT-2 (tied embeddings, eager attention, eval mode) whose every parameter is random.

    Hugging Face starts with zero biases and unit LayerNorms, which would hide most mistakes.
    `scale` multiplies the weights: larger means sharper attention and larger logits.
    The weights are drawn in float64 and then cast, so a seed means one model in every dtype.
    """
    config = GPT2Config(
        vocab_size=vocab, n_positions=n_ctx, n_embd=d_model, n_layer=n_layer, n_head=n_head,
        activation_function=activation, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=None, eos_token_id=None, attn_implementation="eager",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # the constructor draws from the global generator
        hf = GPT2LMHeadModel(config).to(dtype).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():  # the tied unembedding comes up once, as wte
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if name.endswith("bias"):
                value = 0.3 * noise
            elif ".ln_" in name:
                value = 1 + 0.3 * noise
            elif ".wte." in name or ".wpe." in name:
                value = scale * noise
            else:  # a Conv1D weight [n_in, n_out]: keeps the size of what passes through it
                value = scale * noise / math.sqrt(parameter.shape[0])
            parameter.copy_(value)
    return hf


# --- what can talk to what ------------------------------------------------------------------------


def senders_before(
    receiver: str, n_layer: int, n_head: int, head_order: str = "descending"
) -> list[str]:
    """The senders computed before `receiver` reads, in the order in which ACDC tests them.

    Later layer first, in a layer the MLP before the heads, heads by `head_order`, the input last.
    """
    heads = list(range(n_head))
    if head_order == "descending":
        heads.reverse()
    elif head_order != "ascending":
        raise ValueError(f"head_order is 'descending' or 'ascending', not {head_order!r}")

    if receiver == "logits":
        mlps_before, attentions_before = n_layer, n_layer
    elif receiver.startswith("m"):
        layer = int(receiver[1:])
        mlps_before, attentions_before = layer, layer + 1  # an MLP reads its own layer's heads
    else:
        layer = int(receiver[1:].split(".")[0])
        mlps_before, attentions_before = layer, layer

    senders = []
    for layer in reversed(range(n_layer)):
        if layer < mlps_before:
            senders.append(f"m{layer}")
        if layer < attentions_before:
            for head in heads:
                senders.append(f"a{layer}.h{head}")
    senders.append("input")
    return senders


def edges(n_layer: int, n_head: int, switches: bool = False) -> list[str]:
    """All edges, receivers in the order of the forward pass; a switch follows its port's edges."""
    receivers = []
    for layer in range(n_layer):
        for head in range(n_head):
            for letter in LETTERS:
                receivers.append(f"a{layer}.h{head}.{letter}")
        receivers.append(f"m{layer}")
    receivers.append("logits")

    names = []
    for receiver in receivers:
        for sender in reversed(senders_before(receiver, n_layer, n_head)):
            names.append(f"{sender}->{receiver}")
        if switches and receiver.startswith("a"):
            names.append(switch(receiver))
    return names


def switch(port: str) -> str:
    """The edge from a head's port to the head: "a3.h7.q" -> "a3.h7.q->a3.h7"."""
    return f"{port}->{port[:-2]}"


# --- running the model ----------------------------------------------------------------------------


@torch.no_grad()
def hooked_run(
    hf: GPT2LMHeadModel,
    tokens: Tensor,  # [batch pos]
    read: Callable[[str, Tensor, dict[str, Tensor]], Tensor],
    choose: Callable[[str, Tensor], Tensor],
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Run the Hugging Face model with every read of the residual stream going through `read`.

    `read(receiver, residual, live)` gets the module's own residual stream and all sender values so
    far, and returns what the receiver reads. `choose(port, fresh)` returns the q, k or v vector
    that the head uses. Returns the logits, all sender values and all fresh q, k, v vectors.
    """
    n_head, d_head = hf.config.n_head, hf.config.n_embd // hf.config.n_head
    live: dict[str, Tensor] = {}  # sender -> [batch pos d_model]
    vectors: dict[str, Tensor] = {}  # port -> [batch pos d_head]
    handles = []

    def after_embedding(module, args, output):
        live["input"] = output

    handles.append(hf.transformer.drop.register_forward_hook(after_embedding))

    def hook_layer(layer, block):
        residual_before = {}  # what enters ln_1, for the hook on c_attn further down

        def before_ln_1(module, args):
            residual_before["ln_1"] = args[0]

        def after_c_attn(c_attn, args, output):
            # Each port reads its own residual, so LayerNorm and the projection are done again for
            # each, and its columns taken. (.forward is the module without our hooks.)
            columns = []
            for letter in LETTERS:  # c_attn's output is all heads' q, then k, then v
                for head in range(n_head):
                    port = f"a{layer}.h{head}.{letter}"
                    residual = read(port, residual_before["ln_1"], live)
                    projected = c_attn.forward(block.ln_1.forward(residual))
                    start = (LETTERS.index(letter) * n_head + head) * d_head
                    vectors[port] = projected[:, :, start : start + d_head]
                    columns.append(choose(port, vectors[port]))
            return torch.cat(columns, dim=-1)

        def before_c_proj(c_proj, args):
            for head in range(n_head):
                rows = slice(head * d_head, (head + 1) * d_head)
                live[f"a{layer}.h{head}"] = args[0][:, :, rows] @ c_proj.weight[rows, :]

        def before_ln_2(module, args):
            return (read(f"m{layer}", args[0], live),)

        def after_mlp(module, args, output):
            live[f"m{layer}"] = output

        handles.append(block.ln_1.register_forward_pre_hook(before_ln_1))
        handles.append(block.attn.c_attn.register_forward_hook(after_c_attn))
        handles.append(block.attn.c_proj.register_forward_pre_hook(before_c_proj))
        handles.append(block.ln_2.register_forward_pre_hook(before_ln_2))
        handles.append(block.mlp.register_forward_hook(after_mlp))

    def before_ln_f(module, args):
        return (read("logits", args[0], live),)

    for layer, block in enumerate(hf.transformer.h):
        hook_layer(layer, block)
    handles.append(hf.transformer.ln_f.register_forward_pre_hook(before_ln_f))
    try:
        logits = hf(tokens, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    return logits, live, vectors


def run_circuit(
    hf: GPT2LMHeadModel,
    kept: set[str],
    clean: Tensor,  # [batch pos]
    corrupted: Tensor | None,  # [batch pos]; not used with "zero"
    ablation: str,
    switches: bool = False,
    spans: dict[str, Tensor] | None = None,  # name -> [batch pos]; edges are then "a0.h1->m1@S2"
) -> Tensor:
    """The logits [batch pos vocab] of the circuit that keeps the edges named in `kept`.

    `ablation` says what a removed edge carries: "corrupted", its sender's value in a plain run on
    the corrupted prompts; "zero", 0.
    With `switches`, a head whose switch is not kept uses the q (k, v) of the ablation run, which
    for "zero" is that of a residual stream of biases only; without, all switches are on.
    """
    n_layer, n_head = hf.config.n_layer, hf.config.n_head
    positions = {f"@{name}": at[:, :, None] for name, at in (spans or {}).items()}
    positions = positions or {"": torch.tensor(True)}
    names = {edge + at for edge in edges(n_layer, n_head, switches) for at in positions}
    unknown = set(kept) - names
    if unknown:
        raise ValueError(f"not edges of this model: {sorted(unknown)[:5]}")

    def biases_before(receiver):
        total = 0
        for layer, block in enumerate(hf.transformer.h):
            if f"a{layer}.h0" in senders_before(receiver, n_layer, n_head):
                total = total + block.attn.c_proj.bias
        return total

    def read_plain(receiver, residual, live):
        return residual

    def read_biases_only(receiver, residual, live):
        return torch.zeros_like(residual) + biases_before(receiver)

    def read_circuit(receiver, residual, live):
        total = torch.zeros_like(residual) + biases_before(receiver)
        for sender in senders_before(receiver, n_layer, n_head):
            for at, mask in positions.items():
                is_kept = f"{sender}->{receiver}{at}" in kept
                value = live[sender] if is_kept else ablation_senders[sender]
                total = total + torch.where(mask, value, 0.0)
        return total

    def choose_fresh(port, fresh):
        return fresh

    def choose_by_switch(port, fresh):
        return fresh if switch(port) in kept else ablation_vectors[port]

    if ablation == "corrupted":
        _, ablation_senders, ablation_vectors = hooked_run(hf, corrupted, read_plain, choose_fresh)
    elif ablation == "zero":
        _, ran, ablation_vectors = hooked_run(hf, clean, read_biases_only, choose_fresh)
        ablation_senders = {sender: torch.zeros_like(value) for sender, value in ran.items()}
    else:
        raise ValueError(f"ablation is 'corrupted' or 'zero', not {ablation!r}")

    choose = choose_by_switch if switches else choose_fresh
    logits, _, _ = hooked_run(hf, clean, read_circuit, choose)
    return logits


# --- ACDC -----------------------------------------------------------------------------------------


def loss(
    logits: Tensor,  # [batch pos vocab]
    clean_logits: Tensor,  # [batch pos vocab], of the full model on the clean prompts
    metric: str,
    answers: Tensor | None = None,  # [batch]
    wrong: Tensor | None = None,  # [batch]
) -> float:
    """Mean over prompts at the last position, lower is better.

    "kl": KL(clean model || circuit) in nats. "logit-diff": -(logit of answer - logit of wrong).
    """
    total = 0.0
    for prompt in range(len(logits)):
        if metric == "kl":
            log_p = clean_logits[prompt, -1].log_softmax(dim=-1)
            log_q = logits[prompt, -1].log_softmax(dim=-1)
            total += (log_p.exp() * (log_p - log_q)).sum().item()
        elif metric == "logit-diff":
            right = logits[prompt, -1, answers[prompt].item()].item()
            total -= right - logits[prompt, -1, wrong[prompt].item()].item()
        else:
            raise ValueError(f"metric is 'kl' or 'logit-diff', not {metric!r}")
    return total / len(logits)


@torch.no_grad()
def acdc(
    hf: GPT2LMHeadModel,
    clean: Tensor,  # [batch pos]
    corrupted: Tensor | None,  # [batch pos]; not used with "zero"
    *,
    threshold: float,
    ablation: str,
    head_order: str = "descending",
    metric: str = "kl",
    answers: Tensor | None = None,  # [batch]
    wrong: Tensor | None = None,  # [batch]
    switches: bool = False,
) -> tuple[list[tuple[str, float, bool]], set[str]]:
    """ACDC: every test in order as (edge, delta, kept), and the edges kept at the end.

    1. Start from all edges. Go through the receivers from the logits backwards.
    2. A receiver whose node sends nothing any more loses all its edges, without a test.
    3. Otherwise take its edges one by one: delta = loss without the edge - loss with it;
       remove the edge for good if delta < threshold.
    """
    n_layer, n_head = hf.config.n_layer, hf.config.n_head
    clean_logits = hf(clean, use_cache=False).logits

    def loss_of(circuit):
        logits = run_circuit(hf, circuit, clean, corrupted, ablation, switches)
        return loss(logits, clean_logits, metric, answers, wrong)

    # (what has to be still in use, the edges to test), in order
    steps: list[tuple[str, list[str]]] = []

    def add_step(receiver, needed_for):
        senders = senders_before(receiver, n_layer, n_head, head_order)
        steps.append((needed_for, [f"{sender}->{receiver}" for sender in senders]))

    add_step("logits", "always")
    for layer in reversed(range(n_layer)):
        add_step(f"m{layer}", f"m{layer}")
        if switches:  # all switches of a layer come before any port of it
            for letter in ("v", "k", "q"):
                for head in reversed(range(n_head)):
                    steps.append((f"a{layer}.h{head}", [switch(f"a{layer}.h{head}.{letter}")]))
        for letter in ("v", "k", "q"):
            for head in reversed(range(n_head)):  # receiving heads always descend
                port = f"a{layer}.h{head}.{letter}"
                # With switches a port is used through its switch, else by the head directly.
                add_step(port, port if switches else f"a{layer}.h{head}")

    kept = set(edges(n_layer, n_head, switches))
    tests = []
    loss_now = loss_of(kept)
    for needed_for, incoming in steps:
        in_use = needed_for == "always" or any(e.startswith(f"{needed_for}->") for e in kept)
        if not in_use:
            kept -= set(incoming)
            continue
        for edge in incoming:
            loss_without = loss_of(kept - {edge})
            delta = loss_without - loss_now
            if delta < threshold:
                kept.remove(edge)
                loss_now = loss_without
            tests.append((edge, delta, edge in kept))
    return tests, kept
