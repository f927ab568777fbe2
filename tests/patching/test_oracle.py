"""The oracle judges the fast code; these tests judge the oracle.

It is held against the Hugging Face model itself, against a second circuit run written from the
formulas and the bare weights (below), and against numbers of three other implementations.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import GPT2LMHeadModel

from oracle import acdc, edges, loss, random_gpt2, run_circuit
from peers import load_peers

ABLATIONS = ("corrupted", "zero")


def prompts(hf: GPT2LMHeadModel, seed: int = 0, batch: int = 3, pos: int = 7) -> list[Tensor]:
    """Random clean and corrupted tokens [batch pos]."""
    generator = torch.Generator().manual_seed(seed)
    vocab = hf.config.vocab_size
    return [torch.randint(vocab, (batch, pos), generator=generator) for _ in range(2)]


def all_edges(hf: GPT2LMHeadModel, switches: bool = False) -> list[str]:
    return edges(hf.config.n_layer, hf.config.n_head, switches)


def random_edges(hf: GPT2LMHeadModel, share: float, seed: int, switches: bool = False) -> set[str]:
    names = all_edges(hf, switches)
    draws = torch.rand(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    return {name for name, draw in zip(names, draws, strict=True) if draw < share}


@torch.no_grad()
def logits_of(hf: GPT2LMHeadModel, tokens: Tensor) -> Tensor:
    return hf(tokens).logits


# --- a second implementation: no hooks, no Hugging Face forward, one prompt at a time -------------


def layer_norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    spread = (centred.pow(2).mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def forward_by_formula(hf, tokens, read, choose):
    """One prompt [pos]; `read(receiver, live)` and `choose(port, fresh)` as in the oracle."""
    w = {name.removeprefix("transformer."): value for name, value in hf.state_dict().items()}
    n_pos, n_head, d_model = len(tokens), hf.config.n_head, hf.config.n_embd
    d_head = d_model // n_head
    activation = {
        "relu": functional.relu,
        "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
    }[hf.config.activation_function]

    live, vectors = {"input": w["wte.weight"][tokens] + w["wpe.weight"][:n_pos]}, {}
    for layer in range(hf.config.n_layer):
        for head in range(n_head):
            used = {}
            for third, letter in enumerate("qkv"):
                port = f"a{layer}.h{head}.{letter}"
                start = third * d_model + head * d_head
                x = layer_norm(read(port, live), w, f"h.{layer}.ln_1")
                weight = w[f"h.{layer}.attn.c_attn.weight"][:, start : start + d_head]
                bias = w[f"h.{layer}.attn.c_attn.bias"][start : start + d_head]
                vectors[port] = x @ weight + bias
                used[letter] = choose(port, vectors[port])
            mixed = torch.zeros(n_pos, d_head, dtype=x.dtype)
            for i in range(n_pos):
                scores = used["k"][: i + 1] @ used["q"][i] / math.sqrt(d_head)
                mixed[i] = scores.softmax(dim=0) @ used["v"][: i + 1]
            rows = slice(head * d_head, (head + 1) * d_head)
            live[f"a{layer}.h{head}"] = mixed @ w[f"h.{layer}.attn.c_proj.weight"][rows]
        x = layer_norm(read(f"m{layer}", live), w, f"h.{layer}.ln_2")
        hidden = activation(x @ w[f"h.{layer}.mlp.c_fc.weight"] + w[f"h.{layer}.mlp.c_fc.bias"])
        live[f"m{layer}"] = (
            hidden @ w[f"h.{layer}.mlp.c_proj.weight"] + w[f"h.{layer}.mlp.c_proj.bias"]
        )
    logits = layer_norm(read("logits", live), w, "ln_f") @ w["lm_head.weight"].T
    return logits, live, vectors


def circuit_by_formula(hf, kept, clean, corrupted, ablation, switches):
    """One prompt [pos] -> logits [pos vocab]. `live` holds exactly the senders computed so far."""

    def biases(receiver):
        last = len(hf.transformer.h) - 1 if receiver == "logits" else int(receiver[1])
        if receiver.startswith("a"):
            last -= 1
        return sum(block.attn.c_proj.bias for block in hf.transformer.h[: last + 1])

    def before(receiver, live):
        # Heads of one layer are computed one after the other, but do not read each other.
        same_layer = receiver[:2] if receiver.startswith("a") else "none"
        return [sender for sender in live if not sender.startswith(same_layer)]

    def plain(receiver, live):
        return sum(live[s] for s in before(receiver, live)) + biases(receiver)

    def nothing(receiver, live):
        return torch.zeros_like(live["input"]) + biases(receiver)

    if ablation == "corrupted":
        _, old, old_vectors = forward_by_formula(hf, corrupted, plain, lambda port, fresh: fresh)
    else:
        _, old, old_vectors = forward_by_formula(hf, clean, nothing, lambda port, fresh: fresh)
        old = {sender: 0 * value for sender, value in old.items()}

    def patched(receiver, live):
        total = biases(receiver)
        for sender in before(receiver, live):
            total = total + (live if f"{sender}->{receiver}" in kept else old)[sender]
        return total

    def chosen(port, fresh):
        is_cut = switches and f"{port}->{port.rpartition('.')[0]}" not in kept
        return old_vectors[port] if is_cut else fresh

    return forward_by_formula(hf, clean, patched, chosen)[0]


@pytest.mark.parametrize("switches", [False, True])
@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
@torch.no_grad()
def test_random_circuits_equal_the_formulas(activation, ablation, switches):
    hf = random_gpt2(1, n_layer=3, n_head=2, activation=activation)
    clean, corrupted = prompts(hf)
    for seed, share in enumerate((0.9, 0.5, 0.2)):
        kept = random_edges(hf, share, seed, switches)
        logits = run_circuit(hf, kept, clean, corrupted, ablation, switches)
        for i in range(len(clean)):
            expected = circuit_by_formula(hf, kept, clean[i], corrupted[i], ablation, switches)
            torch.testing.assert_close(logits[i], expected, rtol=0, atol=1e-10)


# --- identities -----------------------------------------------------------------------------------


def test_random_model_has_no_idle_parameter():
    hf = random_gpt2(0)
    for name, parameter in hf.named_parameters():
        assert parameter.abs().min() > 0, name
        assert parameter.std() > 0.1, name
    assert random_gpt2(0, dtype=torch.float32).dtype == torch.float32
    with torch.no_grad():
        attentions = hf(prompts(hf)[0], output_attentions=True).attentions
    for pattern in attentions:  # [batch head pos pos]: neither uniform nor all on one position
        last_row = pattern[:, :, -1].flatten(0, 1)
        assert 0.2 < last_row.max(dim=-1).values.mean() < 0.99


@torch.no_grad()
def test_the_full_circuit_is_the_model_and_the_empty_one_its_ablation_run():
    hf = random_gpt2(3)
    clean, corrupted = prompts(hf)
    for switches in (False, True):
        whole = set(all_edges(hf, switches))
        logits = run_circuit(hf, whole, clean, corrupted, "corrupted", switches)
        torch.testing.assert_close(logits, logits_of(hf, clean), rtol=0, atol=1e-10)
        logits = run_circuit(hf, set(), clean, corrupted, "corrupted", switches)
        torch.testing.assert_close(logits, logits_of(hf, corrupted), rtol=0, atol=1e-10)
        logits = run_circuit(hf, set(), clean, None, "zero", switches)
        biases = sum(block.attn.c_proj.bias for block in hf.transformer.h)
        expected = hf.lm_head(hf.transformer.ln_f(biases)).expand_as(logits)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


def test_unknown_names_are_refused_and_the_model_is_left_as_it_was():
    hf = random_gpt2(5)
    clean, corrupted = prompts(hf)
    before = logits_of(hf, clean)
    with pytest.raises(ValueError, match="not edges of this model"):
        run_circuit(hf, {"m1->m0"}, clean, corrupted, "corrupted")
    with pytest.raises(ValueError, match="not edges of this model"):  # a switch, not asked for
        run_circuit(hf, {"a0.h0.q->a0.h0"}, clean, corrupted, "corrupted")
    with pytest.raises(ValueError, match="ablation is"):
        run_circuit(hf, set(), clean, corrupted, "mean")
    with pytest.raises(IndexError):  # fails inside the forward pass: hooks have to go all the same
        run_circuit(hf, set(), clean + 1000, corrupted, "corrupted")
    run_circuit(hf, set(), clean, corrupted, "corrupted")
    assert torch.equal(logits_of(hf, clean), before)
    for module in hf.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


# --- ACDC: order, decision, skipping --------------------------------------------------------------


def order_of_tests(hf, head_order, switches):
    """With threshold -inf nothing is removed, so nothing is skipped."""
    clean, corrupted = prompts(hf, batch=1, pos=2)
    tests, kept = acdc(
        hf, clean, corrupted, threshold=-math.inf, ablation="corrupted",
        head_order=head_order, metric="kl", switches=switches,
    )  # fmt: skip
    assert kept == set(all_edges(hf, switches))
    assert all(was_kept for _, _, was_kept in tests)
    return [edge for edge, _, _ in tests]


def test_order_with_switches_written_out():
    assert order_of_tests(random_gpt2(0, n_layer=1), "descending", True) == [
        *("m0->logits", "a0.h1->logits", "a0.h0->logits", "input->logits"),
        *("a0.h1->m0", "a0.h0->m0", "input->m0"),
        *("a0.h1.v->a0.h1", "a0.h0.v->a0.h0"),
        *("a0.h1.k->a0.h1", "a0.h0.k->a0.h0"),
        *("a0.h1.q->a0.h1", "a0.h0.q->a0.h0"),
        *("input->a0.h1.v", "input->a0.h0.v"),
        *("input->a0.h1.k", "input->a0.h0.k"),
        *("input->a0.h1.q", "input->a0.h0.q"),
    ]


def test_a_cut_switch_skips_its_port_only():
    """A head with a cut q switch has no q-port tests; a head that sends nothing has no tests."""
    hf = random_gpt2(7, n_layer=3)
    clean, corrupted = prompts(hf)
    tests, kept = acdc(
        hf, clean, corrupted, threshold=0.02, ablation="corrupted", switches=True
    )  # fmt: skip
    tested = {edge for edge, _, _ in tests}
    cut_but_head_in_use = 0
    for name in all_edges(hf, switches=True):
        if name.endswith((".h0", ".h1")):  # a switch: "a1.h0.q->a1.h0"
            port, head = name.split("->")
            in_use = any(edge.startswith(f"{head}->") for edge in kept)
            assert (name in tested) == in_use
            assert any(edge.endswith(f"->{port}") for edge in tested) == (name in kept)
            cut_but_head_in_use += in_use and name not in kept
    assert cut_but_head_in_use > 0
    assert {edge for edge, _, was_kept in tests if was_kept} == kept


@pytest.mark.parametrize("metric", ["kl", "logit-diff"])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_deltas_add_up_and_the_comparison_is_strict(metric, ablation):
    hf = random_gpt2(8)
    clean, corrupted = prompts(hf)
    answers, wrong = torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])

    def run(threshold):
        return acdc(
            hf, clean, corrupted, threshold=threshold, ablation=ablation, metric=metric,
            answers=answers, wrong=wrong,
        )  # fmt: skip

    tests, kept = run(0.05)
    clean_logits = logits_of(hf, clean)
    circuit_logits = run_circuit(hf, kept, clean, corrupted, ablation)
    before = loss(clean_logits, clean_logits, metric, answers, wrong)
    after = loss(circuit_logits, clean_logits, metric, answers, wrong)
    removed = sum(delta for _, delta, was_kept in tests if not was_kept)
    # Skipped edges change nothing, so the removed edges' deltas are all there is.
    assert after - before == pytest.approx(removed, abs=1e-10)
    assert 0 < len(kept) < len(all_edges(hf))

    first_edge, first_delta, _ = tests[0]
    assert run(first_delta)[0][0] == (first_edge, first_delta, True)
    just_above = math.nextafter(first_delta, math.inf)
    assert run(just_above)[0][0] == (first_edge, first_delta, False)


# --- against three other implementations ----------------------------------------------------------
# Their numbers are float32. They were computed by adding differences to cached sums, so the last
# bits differ from any other order of summation.


@pytest.fixture(scope="module")
def ablation_model():
    hf, tokens, data = load_peers()
    return hf, data, tokens, logits_of(hf, tokens["clean"])


@pytest.mark.parametrize("index", range(6))
def test_ablation_evaluations(ablation_model, index):
    hf, data, tokens, clean_logits = ablation_model
    expected = data["evaluations"][index]
    logits = run_circuit(
        hf, set(expected["kept"]), tokens["clean"], tokens["corrupted"], "corrupted"
    )
    assert loss(logits, clean_logits, "kl") == pytest.approx(expected["kl"], abs=1e-6)
    # 1.1e-5 is what we see (root mean square 3e-6); the Hugging Face model's own float32 logits
    # differ from its float64 logits by 6e-6 on these prompts, so a tighter bound would test noise.
    expected_logits = torch.tensor(expected["logits_last"], dtype=logits.dtype)
    torch.testing.assert_close(logits[:3, -1], expected_logits, rtol=0, atol=1.5e-5)


@pytest.mark.parametrize("index", range(3))
def test_ablation_acdc(ablation_model, index):
    hf, data, tokens, _ = ablation_model
    expected = data["acdc_kl"][index]
    tests, kept = acdc(
        hf, tokens["clean"], tokens["corrupted"], threshold=expected["threshold"],
        ablation="corrupted", head_order="ascending", metric="kl",
    )  # fmt: skip
    assert [(edge, was_kept) for edge, _, was_kept in tests] == [
        (edge, was_kept) for edge, _, was_kept in expected["tests"]
    ]
    assert kept == set(expected["kept"])
    for (edge, delta, _), (_, expected_delta, _) in zip(tests, expected["tests"], strict=True):
        assert delta == pytest.approx(expected_delta, abs=1e-6), edge


def test_ablation_exact_scores(ablation_model):
    """One edge at a time off the full graph: score = loss without the edge - loss with it."""
    hf, data, tokens, clean_logits = ablation_model
    names = all_edges(hf)
    targets = (tokens["answers"], tokens["wrong"])
    before = loss(clean_logits, clean_logits, "logit-diff", *targets)
    for edge in names:
        logits = run_circuit(
            hf, set(names) - {edge}, tokens["clean"], tokens["corrupted"], "corrupted"
        )
        kl = loss(logits, clean_logits, "kl")
        assert kl == pytest.approx(data["eap_ig"]["exact_kl"][edge], abs=2e-6), edge
        change = loss(logits, clean_logits, "logit-diff", *targets) - before
        assert change == pytest.approx(data["eap_ig"]["exact_logitdiff"][edge], abs=2e-6), edge
