"""Models over several devices compute what they compute on one; weights move as they are shared."""

import pytest
import torch

import cards as pretend
import edgewise as ew
from cards import CARDS, OnCard, cards
from edgewise.errors import ProofFailed, SettingError, UnsupportedModel
from edgewise.model.weights import layers_in_turn
from hf import llama_folder, loaded
from models import SHAPES, random_circuit, random_model, random_pairs

FAMILIES = ["llama", "gemma2", "olmo2", "falcon, rw shape", "mixtral", "gpt_neox"]


def alike(result, expected):
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-9)


@pytest.fixture(autouse=True)
def _cards():
    with cards():
        yield


@pytest.mark.parametrize(
    ("shape", "ablation", "how"),
    [
        *((shape, "corrupted", {}) for shape in ("gpt2", "shortformer", "no norm, relu")),
        ("parallel", "zero", {}),
        ("gpt2", "mean", {}),
        *(("gpt2", "mean-positional", how) for how in ({"switches": True}, {"split_heads": False})),
    ],
)
def test_circuits_on_two_cards_are_those_on_one(shape, ablation, how):
    model = random_model(**SHAPES[shape])
    pairs, graph = random_pairs(model, lengths=[6, 4]), ew.Graph.of(model, **how)
    there = model.spread(CARDS)
    assert (there.is_spread, model.is_spread) == (True, False)
    expected, result = (
        ew.run_circuit(ew.Problem(m, pairs, "kl", ablation, graph=graph), random_circuit(graph))
        for m in (model, there)
    )
    alike(result.cpu(), expected)


@pytest.mark.parametrize("case", FAMILIES)
def test_acdc_of_families_on_two_cards(case):
    _, model = loaded(case)
    pairs = random_pairs(model, lengths=[5, 3])
    runs = [
        ew.acdc(ew.Problem(m, pairs, "kl"), threshold=0.03) for m in (model, model.spread(CARDS))
    ]
    assert runs[0].circuit == runs[1].circuit
    first, second = ([decision.delta for decision in run.trace] for run in runs)
    assert second == pytest.approx(first, abs=1e-9)


METHODS = {
    **{key: {"threshold": 0.05} for key in ("acdc", "acdc-bisect")},
    **{key: {"edges": 9} for key in ("atp-star", "eap", "eap-ig", "exact", "relp")},
    **{key: {"steps": 2, "regularisation": 0.1} for key in ("sp", "ugs")},
    "edge-pruning": {"steps": 2, "sparsity": 0.5},
    "hisp": {"activations": 3},
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_on_two_cards_find_what_they_find_on_one(method):
    model = random_model(n_layers=3)
    graph = ew.Graph.of(model, switches=method not in ("hisp", "sp"))
    pairs = random_pairs(model, lengths=[5, 3])
    here, there = (
        ew.discover(ew.Problem(m, pairs, "logit-diff", graph=graph), method, **METHODS[method])
        for m in (model, model.spread(CARDS))
    )
    assert there.circuit == here.circuit
    if here.scores is not None:
        alike(there.scores.values, here.scores.values)


@pytest.mark.parametrize(
    ("n_layers", "d_vocab", "n", "devices"),
    [
        (6, 11, 3, [0, 0, 1, 1, 2, 2]),
        (4, 11, 4, [0, 1, 2, 3]),
        (3, 11, 2, [0, 1, 1]),
        (6, 400, 2, [0, 1, 1, 1, 1, 1]),  # a large vocabulary takes its room on the first
    ],
)
def test_layers_are_shared_out_in_their_order_and_evenly(n_layers, d_vocab, n, devices):
    model = random_model(n_layers=n_layers, d_vocab=d_vocab)
    place = layers_in_turn(model.weights, [torch.device("meta", i) for i in range(n)])
    assert [place[f"blocks.{i}"].index for i in range(n_layers)] == devices
    assert place["the stream"].index == 0


def test_tied_weights_stay_tied():
    there = loaded("gpt2")[1].spread(CARDS)
    embed, unembed = there.weights["embed.W_E"], there.weights["unembed.W_U"]
    assert embed.untyped_storage().data_ptr() == unembed.untyped_storage().data_ptr()
    assert {str(t.device) for t in there.weights.values()} == {"lazy:0", "lazy:1"}


# --- the proof is repeated where a model goes


def test_a_model_proves_itself_again_where_it_goes():
    model = random_model()
    assert "moved" not in model.to(device="cpu").proof
    for there in (
        model.to(device=CARDS[1]),
        model.spread(CARDS),
        model.to(dtype=torch.float32),
    ):
        moved = there.proof["moved"]
        assert moved["relative_error"] <= moved["tolerance"]
    assert model.spread(CARDS).proof["moved"]["devices"] == "lazy:0, lazy:1"


@pytest.mark.parametrize("operation", ["bmm", "_safe_softmax", "gelu"])
def test_a_device_that_computes_wrong_numbers_is_refused(operation, monkeypatch):
    def wrong(func, args, kwargs):
        result = computed(func, args, kwargs)
        is_wrong = func.overloadpacket.__name__ == operation and isinstance(result, OnCard)
        return OnCard(result.held * 1.01, result.device) if is_wrong else result

    computed = pretend._computed
    monkeypatch.setattr(pretend, "_computed", wrong)
    with pytest.raises(ProofFailed, match=r"on lazy:1 in float64 .* on cpu in .* device='cpu'"):
        random_model().to(device=CARDS[1])
    with pytest.raises(ProofFailed, match=r"on lazy:0, lazy:1 in float64"):
        random_model().spread(CARDS)


def test_a_module_that_came_on_an_unproven_device_is_compared_with_a_cpu(monkeypatch):
    module, _ = loaded("llama")
    assert "moved" not in ew.load_model(module).proof
    monkeypatch.setattr("edgewise.model.proof.UNPROVEN", {"cpu"})
    assert ew.load_model(module).proof["moved"]["relative_error"] == 0


# --- asking for devices


def test_a_checkpoint_over_several_devices(tmp_path, monkeypatch):
    folder = llama_folder(tmp_path, num_hidden_layers=2)
    model, tokens = ew.load_model(folder), torch.arange(8).view(1, 8)
    alike(ew.load_model(folder, device="auto")(tokens), model(tokens))
    for device in ("lazy:0,lazy:1", ["lazy:0", "lazy:1"]):
        placed = ew.load_model(folder, device=device)
        assert placed.is_spread
        assert placed.proof["moved"]["devices"] == "lazy:0, lazy:1"
        assert placed.proof["relative_errors"], "what was proved at load stays"
    assert ew.load_model("tracr-reverse", device=["lazy:0", "lazy:1"]).is_spread
    assert not ew.load_model(folder, device=["cpu"]).is_spread
    monkeypatch.setattr("edgewise.model.checkpoints.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"needs accelerate: pip install 'edgewise\[cards\]'"):
        ew.load_model(folder, device="auto")


def test_a_layer_in_two_places_is_refused():
    model = random_model()
    elsewhere = {"blocks.1.attn.W_K": model.weights["blocks.1.attn.W_K"].to(CARDS[1])}
    with pytest.raises(UnsupportedModel, match=r"blocks\.1 lies on cpu and lazy:1"):
        ew.Model(model.config, {**model.weights, **elsewhere})
