"""Real models compute what Hugging Face's modules do: whole, and with an ablation by hooks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
import transformers

import edgewise as ew

pytestmark = pytest.mark.real_quick

MODELS = ("smollm2", "gemma3")
CLEAN = ["The keys to the old cabinet", "Yesterday the pictures of my best friend"]
CORRUPTED = ["The key to the old cabinet", "Yesterday the picture of my best friend"]


@pytest.fixture(scope="module")
def sources(folders) -> Callable[[str], Any]:
    return cache(
        lambda name: transformers.AutoModelForCausalLM.from_pretrained(folders[name]).eval()
    )


def error(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.fixture(params=MODELS)
def real(request, loaded, sources):
    """A model, its source, and the tokens of a clean and a corrupted prompt of one length."""
    model, source = loaded(request.param), sources(request.param)
    tokens = [torch.tensor([model.tokenizer.encode(t[0])]) for t in (CLEAN, CORRUPTED)]
    assert tokens[0].shape == tokens[1].shape
    return model, source, *tokens


@pytest.mark.parametrize("name", MODELS)
def test_loads_and_proves_itself(loaded, name):
    model = loaded(name)
    assert max(model.proof["relative_errors"].values()) < 1e-4
    assert model.tokenizer.decode(model.tokenizer.encode(CLEAN[0])) == CLEAN[0]


@pytest.mark.parametrize(("name", "adds_bos"), [("smollm2", False), ("gemma3", True)])
def test_the_tokenizer_keeps_its_convention(loaded, name, adds_bos):
    assert loaded(name).tokenizer.adds_bos is adds_bos
    digits = loaded(name).tokenizer.encode("1732")
    assert len(digits) == 4, "numbers are cut into digits"


def test_a_gguf_file_is_the_folder_made_of_it(loaded, gguf_files):
    model, folder = ew.load_model(gguf_files["smollm2"]), loaded("smollm2")
    tokens = torch.tensor([folder.tokenizer.encode(CLEAN[0])])
    assert model.tokenizer.encode(CLEAN[0]) == tokens[0].tolist()
    assert torch.equal(model(tokens), folder(tokens))
    assert model.n_parameters == folder.n_parameters == 134_515_008  # tied, counted once


def test_logits_are_the_sources_with_padding_on_the_left_too(real):
    model, source, *_ = real
    prompts = [model.tokenizer.encode(text) for text in CLEAN]
    width = max(map(len, prompts)) + 2
    tokens = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in prompts])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        theirs = source(tokens, attention_mask=mask.long(), position_ids=positions).logits
        alone = [source(torch.tensor([p])).logits[0] for p in prompts]
    ours = model(tokens, mask)
    assert error(ours[mask], theirs[mask]) < 1e-4
    for row, expected in zip(ours, alone, strict=True):
        assert error(row[-len(expected) :], expected) < 1e-4


# --- ablations by hooks on the source


def written(source, layer: int, head: int, tokens) -> torch.Tensor:
    """What one head writes to the residual stream in a plain forward pass."""
    block, seen = source.model.layers[layer], {}
    projection = block.self_attn.o_proj
    with (
        torch.no_grad(),
        hooked((projection, lambda _, args, out: seen.update(z=args[0], out=out))),
    ):
        source(tokens)
    d_head = block.self_attn.head_dim
    at = slice(head * d_head, (head + 1) * d_head)
    part = seen["z"][..., at] @ projection.weight[:, at].T
    if not hasattr(block, "pre_feedforward_layernorm"):
        return part
    norm = block.post_attention_layernorm  # Gemma's: of all heads together
    size = (seen["out"].pow(2).mean(-1, keepdim=True) + norm.eps).sqrt()
    return part / size * (1 + norm.weight)


@contextmanager
def hooked(*hooks: tuple[Any, Callable[..., Any]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def assert_same_change(plain, theirs, ours):
    """One part in ten thousand of the logits, and one in twenty of the ablation's own effect."""
    assert error(ours, theirs) < min(1e-4, 0.05 * error(plain, theirs))


def ablated_logits(model, circuit, clean, corrupted):
    pairs = ew.PromptPairs.from_tokens(clean.tolist(), corrupted.tolist(), answers=[[0]])
    return ew.run_circuit(ew.Problem(model, pairs, "kl"), circuit)


def test_an_ablated_node_is_that_of_hooks(real):
    model, source, clean, corrupted = real
    layer, head = model.config.n_layers // 2, 2
    change = written(source, layer, head, corrupted) - written(source, layer, head, clean)
    block = source.model.layers[layer]
    last = (
        block.post_attention_layernorm
        if hasattr(block, "pre_feedforward_layernorm")
        else block.self_attn.o_proj
    )
    with torch.no_grad():
        plain = source(clean).logits
        with hooked((last, lambda _, args, out: out + change)):
            theirs = source(clean).logits
    node = f"a{layer}.h{head}"
    edges = [edge for edge in model.graph.edges if str(edge).startswith(f"{node}->")]
    circuit = ew.Circuit.full(model.graph).without(*edges)
    ours = ablated_logits(model, circuit, clean, corrupted)
    assert_same_change(plain, theirs, ours)


def test_an_ablated_edge_is_that_of_hooks(real):
    model, source, clean, corrupted = real
    sender, receiver = (0, 1), (1, 1)
    change = written(source, *sender, corrupted) - written(source, *sender, clean)
    block = source.model.layers[receiver[0]]
    seen: dict[str, torch.Tensor] = {}
    d_head = block.self_attn.head_dim
    rows = slice(receiver[1] * d_head, (receiver[1] + 1) * d_head)

    def remember(_, args, out):
        seen.setdefault("stream", args[0])  # `query` runs this norm again

    def query(projection, args, out):
        moved = block.input_layernorm(seen["stream"] + change)
        out = out.clone()
        out[..., rows] = moved @ projection.weight[rows].T
        return out

    with torch.no_grad():
        plain = source(clean).logits
        with hooked((block.input_layernorm, remember), (block.self_attn.q_proj, query)):
            theirs = source(clean).logits
    edge = f"a{sender[0]}.h{sender[1]}->a{receiver[0]}.h{receiver[1]}.q"
    ours = ablated_logits(model, ew.Circuit.full(model.graph).without(edge), clean, corrupted)
    assert_same_change(plain, theirs, ours)
