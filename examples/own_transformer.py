"""Find the circuit in a small transformer of your own: define it, train it, map it, take it apart.

Question: which connections carry a behaviour whose mechanism is known? The transformer is that of
toy_transformer.py. Two behaviours to choose from:
  induction          two layers of attention alone: a previous-token head writes into the keys of an
                     induction head (Elhage et al. 2021, A Mathematical Framework for Transformer
                     Circuits; Olsson et al. 2022, arXiv 2209.11895)
  modular-addition   one layer that groks a + b mod p with few frequencies, its logits from the MLP
                     (Nanda et al. 2023, arXiv 2301.05217)
Command:  python examples/own_transformer.py [--task modular-addition] [--seed 0] [--out own]
Expected: under half a minute, modular addition a minute or two, on one core and without a download;
every line of the last table says "yes". docs/own-model.md walks through it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

import edgewise as ew
from edgewise.evaluation.roles import Role, head_roles
from edgewise.model.weights import heads_that_read, heads_that_write
from toy_transformer import Transformer, train

# --- Its tensors under the names of edgewise.model.weights.schema.


def as_edgewise(module: Transformer, name: str) -> ew.Model:
    """The module as a model that Edgewise can take apart, proven equal to it."""
    layers = list(module.layers)
    words, width = module.words.weight.shape
    heads, up = layers[0].heads, layers[0].up
    config = ew.ModelConfig(
        n_layers=len(layers),
        n_heads=heads,
        d_model=width,
        d_head=width // heads,
        d_mlp=0 if up is None else up.out_features,
        d_vocab=words,
        d_vocab_out=words,
        n_ctx=len(module.places.weight),
        norm="layernorm",
        activation="relu",
        attention_only=up is None,
    )
    tensors = {
        "embed.W_E": module.words.weight,
        "pos_embed.W_pos": module.places.weight,
        "unembed.W_U": module.head.weight.T,  # a linear layer of torch is [out, in]
    }
    norms = {"ln_final": module.norm}
    for i, layer in enumerate(layers):
        at = f"blocks.{i}"
        norms[f"{at}.ln1"] = layer.norm1
        for letter, rows in zip("QKV", layer.qkv.weight.chunk(3), strict=True):
            tensors[f"{at}.attn.W_{letter}"] = heads_that_read(rows, heads)
        tensors[f"{at}.attn.W_O"] = heads_that_write(layer.mix.weight, heads)
        if layer.up is not None:
            norms[f"{at}.ln2"] = layer.norm2
            for part, linear in (("in", layer.up), ("out", layer.down)):
                tensors[f"{at}.mlp.W_{part}"] = linear.weight.T
                tensors[f"{at}.mlp.b_{part}"] = linear.bias
    for place, norm in norms.items():
        tensors |= {f"{place}.w": norm.weight, f"{place}.b": norm.bias}
    return ew.Model.from_torch(config, tensors, source=module, name=name)


@dataclass(frozen=True)
class Found:
    """What the example says about a behaviour: runs for the report, and checks with answers."""

    module: Transformer
    runs: list[ew.Run]
    checks: dict[str, bool]
    lines: list[str]


# --- Induction: "… A B … A" is followed by B.

WORDS, LIST = 24, 10


def induction_batch(draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ten different tokens, then nine of them again in any order: what came after each?"""
    listed = torch.rand(64, WORDS, generator=draw).argsort(dim=1)[:, :LIST]
    asked = torch.rand(64, LIST - 1, generator=draw).argsort(dim=1)
    tokens = torch.cat([listed, listed.gather(1, asked)], dim=1)
    return tokens, listed.gather(1, asked + 1)


def induction_pairs(n: int, seed: int) -> ew.PromptPairs:
    """A list and one question. Corrupted: what stood before B and before D has changed places."""
    draw = torch.Generator().manual_seed(seed)
    clean, corrupted, answers, wrong, first = [], [], [], [], []
    for _ in range(n):
        listed = torch.randperm(WORDS, generator=draw)[:LIST].tolist()
        i, j = (2 * place for place in torch.randperm(LIST // 2, generator=draw)[:2].tolist())
        swapped = list(listed)
        swapped[i], swapped[j] = listed[j], listed[i]
        clean.append([*listed, listed[i]])
        corrupted.append([*swapped, listed[i]])
        answers.append(listed[i + 1])
        wrong.append(listed[j + 1])
        first.append(i)
    spans = {"A": first, "B": [i + 1 for i in first], "end": -1}
    return ew.PromptPairs.from_tokens(
        clean, corrupted, answers=answers, wrong=wrong, spans=spans, source="induction"
    )


def induction(seed: int, steps: int = 600, n: int = 50) -> Found:
    """Train two layers of attention, find their circuit, and compare it with what is known."""
    torch.manual_seed(seed)
    module = Transformer(WORDS, 2 * LIST - 1, width=32, heads=2, hidden=[0, 0])
    loss = train(module, induction_batch, steps=steps, decay=0.01, seed=seed)
    model = as_edgewise(module, "induction-2l")
    problem = ew.Problem(model, induction_pairs(n, seed=0), metric="logit-diff")
    test = problem.with_(pairs=induction_pairs(2 * n, seed=1))

    rules = [Role("previous token", "B", "A"), Role("induction", "end", "B", "raises")]
    roles = head_roles(test, rules)
    before, after = (roles.groups.get(rule.name, ()) for rule in rules)
    run = ew.acdc(problem, threshold=1.0)
    judged = ew.evaluate(test, run, split="test")
    other = ew.eap_ig(problem, edges=run.circuit.n_edges)
    # With means in their place, removed edges no longer know the prompt: the parts that clean and
    # corrupted prompts have in common show up, each embedding by itself.
    apart = ew.Graph.of(model, split_embed=True)
    whole = ew.acdc(problem.with_(graph=apart, ablation="mean"), threshold=1.5)

    kept = {edge.name for edge in run.circuit.edges}
    known = {f"input->{p}.v" for p in before} | {f"{i}->logits" for i in after}
    joints = {f"{p}->{i}.k" for p in before for i in after}
    share = len(kept & {edge.name for edge in other.circuit.edges}) / len(kept)
    checks = {
        "a head of layer 0 looks at the token before": any(p[:2] == "a0" for p in before),
        "a head of layer 1 looks at B from the second A": any(i[:2] == "a1" for i in after),
        "ACDC keeps previous-token head -> induction head's key": bool(kept & joints),
        "and nothing but token -> previous-token head -> key -> logits": kept <= known | joints,
        "the circuit keeps over 80 % on held-out prompts": kept_share(judged) > 0.8,
        "no random circuit of its size does as well": beats_chance(judged),
        "EAP-IG agrees on over 70 % of the edges": share > 0.7,
        "with means, a whole textbook path of seven edges is kept": any(
            textbook(p, i) <= {edge.name for edge in whole.circuit.edges}
            for p in before
            for i in after
        ),
    }
    lines = [f"trained to {loss:.3f} nats, {accuracy(test):.0%} right on {len(test.pairs)} prompts"]
    lines += [f"{h.head}: {h.role}, {h.attention:.0%} of its attention" for h in roles.heads]
    lines += [*judged.sentences(), f"With means: {', '.join(e.name for e in whole.circuit.edges)}"]
    measured = {"groups": roles.to_json()}
    run = run.with_(measurements={**measured, "evaluation": judged.to_json()})
    others = [one.with_(measurements=measured) for one in (other, whole)]
    return Found(module, [run, *others], checks, lines)


def textbook(before: str, after: str) -> set[str]:
    """The circuit of induction, of one previous-token head and one induction head."""
    own = {f"pos_embed->{before}.q", f"pos_embed->{before}.k", f"tok_embed->{before}.v"}
    then = {f"tok_embed->{after}.q", f"{before}->{after}.k", f"tok_embed->{after}.v"}
    return own | then | {f"{after}->logits"}


# --- Modular addition: a, b, "=" is followed by (a + b) mod p.

PRIME = 37


def addition_pairs(sums: Tensor, n: int, seed: int) -> ew.PromptPairs:
    """Sums from the rows (a, b), each with another sum of another answer as its twin."""
    draw = torch.Generator().manual_seed(seed)
    one = sums[torch.randperm(len(sums), generator=draw)]
    two = sums[torch.randperm(len(sums), generator=draw)]
    differs = (one.sum(dim=1) - two.sum(dim=1)) % PRIME != 0
    one, two = one[differs][:n], two[differs][:n]
    return ew.PromptPairs.from_tokens(
        asked(one),
        asked(two),
        answers=one.sum(dim=1) % PRIME,
        wrong=two.sum(dim=1) % PRIME,
        spans={"a": 0, "b": 1, "equals": 2},
        source="modular-addition",
    )


def asked(sums: Tensor) -> Tensor:
    """Rows (a, b) as prompts a, b, "="."""
    return functional.pad(sums, (0, 1), value=PRIME)


def modular_addition(seed: int, steps: int = 600, n: int = 50) -> Found:
    """Grok addition on 60 % of the sums, find the circuit, judge it on sums never trained on."""
    torch.manual_seed(seed)
    every = torch.cartesian_prod(torch.arange(PRIME), torch.arange(PRIME))
    every = every[torch.randperm(len(every))]
    seen, unseen = every.split([6 * len(every) // 10, len(every) - 6 * len(every) // 10])
    module = Transformer(PRIME + 1, 3, width=48, heads=4, hidden=[192])
    answers = seen.sum(dim=1, keepdim=True) % PRIME
    loss = train(module, lambda _: (asked(seen), answers), steps=steps, decay=1.0, seed=seed)
    model = as_edgewise(module, "modular-addition-1l")
    problem = ew.Problem(model, addition_pairs(seen, n, seed=0), metric="logit-diff")
    test = problem.with_(pairs=addition_pairs(unseen, 2 * n, seed=1))

    run = ew.acdc(problem, threshold=1.2)
    judged = ew.evaluate(test, run, split="test")
    other = ew.eap_ig(problem, edges=run.circuit.n_edges)
    kept = {edge.name for edge in run.circuit.edges}
    share = len(kept & {edge.name for edge in other.circuit.edges}) / len(kept)
    heads = [f"a0.h{i}" for i in range(4)]
    path = {f"input->{head}.v" for head in heads} | {f"{head}->m0" for head in heads}
    by_mlp, by_heads = worth(test, ["m0"]), worth(test, heads)
    strongest = frequencies(module)
    with_them, without = (addition_accuracy(module, unseen, strongest, keep) for keep in (1, 0))
    checks = {
        "over 95 % of the sums never trained on are right": accuracy(test) > 0.95,
        "ACDC keeps numbers -> heads' values -> MLP": bool(kept & path),
        "and nothing but that, and MLP -> logits": kept <= path | {"m0->logits"},
        "the MLP is worth over twice what heads write to the logits": by_mlp > 2 * by_heads,
        "the circuit keeps over 60 % on sums never trained on": kept_share(judged) > 0.6,
        "no random circuit of its size does as well": beats_chance(judged),
        "EAP-IG agrees on over 70 % of the edges": share > 0.7,
        "numbers cut to five frequencies still add up": with_them > 0.9,
        "and without those five they do not": without < 0.2,
    }
    lines = [
        f"trained to {loss:.3f} nats, {accuracy(test):.0%} right on {len(test.pairs)} prompts",
        *judged.sentences(),
        f"Of the effect, m0->logits is worth {by_mlp:.0%}, all heads' own edges to the logits "
        f"{by_heads:.0%}.",
        f"Strongest frequencies of the embedding: {strongest}; all sums never trained on: "
        f"{with_them:.0%} right with them alone, {without:.0%} without them.",
    ]
    run = run.with_(measurements={"evaluation": judged.to_json()})
    return Found(module, [run, other], checks, lines)


def worth(problem: ew.Problem, senders: list[str]) -> float:
    """The share of the effect that goes when these nodes no longer write to the logits."""
    circuit = ew.Circuit.full(problem.model.graph)
    for name in senders:
        circuit = circuit.without(f"{name}->logits")
    return 1 - (ew.faithfulness(problem, circuit).normalized or 0.0)


def frequencies(module: Transformer, n: int = 5) -> list[int]:
    """The frequencies of numbers with most of the embedding's power; there are PRIME // 2."""
    power = torch.fft.rfft(module.words.weight[:PRIME].detach(), dim=0).abs().square().sum(dim=1)
    return sorted((1 + power[1:].topk(n).indices).tolist())


@torch.no_grad()
def addition_accuracy(module: Transformer, sums: Tensor, chosen: list[int], keep: bool) -> float:
    """How often the sums are right with only the chosen frequencies of numbers, or without them."""
    words = module.words.weight
    parts = torch.fft.rfft(words[:PRIME], dim=0)
    off = torch.ones(len(parts), dtype=torch.bool)
    off[chosen] = False
    off = off if keep else ~off
    off[0] = False  # the mean number stays
    cut = torch.fft.irfft(parts.masked_fill(off[:, None], 0), n=PRIME, dim=0)
    weights = {"words.weight": torch.cat([cut, words[PRIME:]])}
    logits = torch.func.functional_call(module, weights, (asked(sums),))
    return (logits[:, -1].argmax(dim=-1) == sums.sum(dim=1) % PRIME).double().mean().item()


# --- What both say.


def accuracy(problem: ew.Problem) -> float:
    """How often the full model is right."""
    return problem.with_(metric="accuracy").value(ew.Circuit.full(problem.model.graph))


def kept_share(judged: ew.Evaluation) -> float:
    """Normalised faithfulness; 0 where there is no effect to keep."""
    return judged.faithfulness.normalized or 0.0


def beats_chance(judged: ew.Evaluation) -> bool:
    """Whether no random circuit is as good as this one."""
    return not any(band.as_good_as(judged.faithfulness.circuit) for band in judged.random)


TASKS = {"induction": induction, "modular-addition": modular_addition}


def main() -> int:
    """Run a behaviour, print what was found, write the page; 1 if something is not as known."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", choices=TASKS, default="induction")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("own"), help="folder of the report")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    found = TASKS[given.task](given.seed)
    console = Console()
    for line in found.lines:
        console.print(line, soft_wrap=True, highlight=False)
    kept = ", ".join(edge.name for edge in found.runs[0].circuit.edges)
    console.print(f"\nkept: {kept}\n", soft_wrap=True)
    for what, holds in found.checks.items():
        console.print(f"{'yes' if holds else 'NO':4}{what}", highlight=False)
    page = ew.report(found.runs, given.out / f"{given.task}.html")
    console.print(f"Open {page} in a browser to see the circuits.", soft_wrap=True)
    return 0 if all(found.checks.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
