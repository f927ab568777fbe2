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

SPREAD = ["gpt2", "shortformer", "parallel", "no norm, relu"]
FAMILIES = ["llama", "gemma2", "olmo2", "falcon, rw shape", "mixtral", "gpt_neox"]


def spread(model):
    """On two cards, layer by layer."""
    return model.spread(CARDS)


def alike(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.fixture(autouse=True)
def _cards():
    with cards():
        yield


@pytest.mark.parametrize(
    ("shape", "ablation", "how"),
    [
        *((shape, "corrupted", {}) for shape in SPREAD),
        *(("gpt2", ablation, {}) for ablation in ("zero", "mean", "mean-positional")),
        *(("gpt2", "mean-positional", how) for how in ({"switches": True}, {"split_heads": False})),
    ],
)
def test_circuits_on_two_cards_are_those_on_one(shape, ablation, how):
    model = random_model(**SHAPES[shape])
    pairs, graph = random_pairs(model, lengths=[6, 4]), ew.Graph.of(model, **how)
    circuit = random_circuit(graph)
    expected = ew.run_circuit(ew.Problem(model, pairs, "kl", ablation, graph=graph), circuit)
    there = spread(model)
    assert there.is_spread
    assert not model.is_spread
    found = ew.run_circuit(ew.Problem(there, pairs, "kl", ablation, graph=graph), circuit)
    alike(found.cpu(), expected)


@pytest.mark.parametrize("case", FAMILIES)
def test_acdc_of_families_on_two_cards(case):
    _, model = loaded(case)
    pairs = random_pairs(model, lengths=[5, 3])
    one, two = (ew.acdc(ew.Problem(m, pairs, "kl"), threshold=0.03) for m in (model, spread(model)))
    assert one.circuit == two.circuit
    for a, b in zip(one.trace, two.trace, strict=True):
        assert a.delta == pytest.approx(b.delta, abs=1e-9)


METHODS = {
    "acdc": {"threshold": 0.05},
    "acdc-bisect": {"threshold": 0.05},
    "atp-star": {"edges": 9},
    "eap": {"edges": 9},
    "eap-ig": {"edges": 9},
    "edge-pruning": {"steps": 2, "sparsity": 0.5},
    "exact": {"edges": 9},
    "hisp": {"activations": 3},
    "relp": {"edges": 9},
    "sp": {"steps": 2, "regularisation": 0.1},
    "ugs": {"steps": 2, "regularisation": 0.1},
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_on_two_cards_find_what_they_find_on_one(method):
    model = random_model(n_layers=3)
    for how in ({}, {"switches": True}):
        if how and method in ("hisp", "sp"):
            continue
        graph, pairs = ew.Graph.of(model, **how), random_pairs(model, lengths=[5, 3])
        runs = [
            ew.discover(ew.Problem(m, pairs, "logit-diff", graph=graph), method, **METHODS[method])
            for m in (model, spread(model))
        ]
        assert runs[1].circuit == runs[0].circuit
        if runs[0].scores is not None:
            alike(runs[1].scores.values, runs[0].scores.values)


@pytest.mark.parametrize(("n_layers", "n"), [(6, 3), (5, 2), (4, 4), (3, 2), (32, 4)])
def test_layers_are_shared_out_in_their_order_and_evenly(n_layers, n):
    devices = [torch.device("meta", i) for i in range(n)]
    place = layers_in_turn(random_model(n_layers=n_layers).weights, devices)
    found = [place[f"blocks.{i}"].index for i in range(n_layers)]
    assert found == sorted(found)
    counts = [found.count(i) for i in range(n)]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 1
    assert place["the stream"] == devices[0]


def test_a_large_vocabulary_takes_its_room_on_the_first_device():
    devices = [torch.device("meta", i) for i in range(2)]
    place = layers_in_turn(random_model(n_layers=6, d_vocab=400).weights, devices)
    assert [place[f"blocks.{i}"].index for i in range(6)] == [0, 1, 1, 1, 1, 1]


def test_tied_weights_stay_tied():
    _, model = loaded("gpt2")
    there = spread(model)
    embed, unembed = there.weights["embed.W_E"], there.weights["unembed.W_U"]
    assert embed.untyped_storage().data_ptr() == unembed.untyped_storage().data_ptr()
    assert {str(t.device) for t in there.weights.values()} == {"lazy:0", "lazy:1"}


# --- the proof is repeated where a model goes


def test_a_model_proves_itself_again_where_it_goes(tmp_path):
    model = random_model()
    assert "moved" not in model.to(device="cpu").proof
    for there in (model.to(device=CARDS[1]), spread(model), model.to(dtype=torch.float32)):
        moved = there.proof["moved"]
        assert moved["relative_error"] <= moved["tolerance"]
    assert spread(model).proof["moved"]["devices"] == "lazy:0, lazy:1"
    placed = ew.load_model(llama_folder(tmp_path, num_hidden_layers=2), device=["lazy:0", "lazy:1"])
    assert placed.proof["moved"]["devices"] == "lazy:0, lazy:1"
    assert placed.proof["relative_errors"], "what was proved at load stays"


@pytest.mark.parametrize("operation", ["bmm", "_safe_softmax", "gelu"])
def test_a_device_that_computes_wrong_numbers_is_refused(operation, monkeypatch):
    def wrong(func, args, kwargs):
        found = computed(func, args, kwargs)
        is_wrong = func.overloadpacket.__name__ == operation and isinstance(found, OnCard)
        return OnCard(found.held * 1.01, found.device) if is_wrong else found

    computed = pretend._computed
    monkeypatch.setattr(pretend, "_computed", wrong)
    model = random_model()
    message = (
        r"on lazy:1 in float64 its logits differ from those on cpu in float64 by .* device='cpu'"
    )
    with pytest.raises(ProofFailed, match=message):
        model.to(device=CARDS[1])
    with pytest.raises(ProofFailed, match=r"on lazy:0, lazy:1 in float64"):
        spread(model)


def test_a_module_that_came_on_an_unproven_device_is_compared_with_a_cpu(monkeypatch):
    module, _ = loaded("llama")
    assert "moved" not in ew.load_model(module).proof
    monkeypatch.setattr("edgewise.model.loading.UNPROVEN", {"cpu"})
    assert ew.load_model(module).proof["moved"]["relative_error"] == 0


# --- asking for devices


def test_a_checkpoint_over_all_devices_there_are(tmp_path):
    folder = llama_folder(tmp_path, num_hidden_layers=2)
    model, placed = ew.load_model(folder), ew.load_model(folder, device="auto")
    tokens = torch.arange(8).view(1, 8)
    alike(placed(tokens), model(tokens))


def test_several_devices_by_name_or_list(tmp_path):
    folder = llama_folder(tmp_path, num_hidden_layers=2)
    for device in ("lazy:0,lazy:1", ["lazy:0", "lazy:1"]):
        assert ew.load_model(folder, device=device).is_spread
    assert ew.load_model("tracr-reverse", device=["lazy:0", "lazy:1"]).is_spread
    assert not ew.load_model(folder, device=["cpu"]).is_spread


def test_auto_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr("edgewise.model.checkpoints.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"needs accelerate: pip install 'edgewise\[cards\]'"):
        ew.load_model(llama_folder(tmp_path, num_hidden_layers=2), device="auto")


def test_a_layer_in_two_places_is_refused():
    model = random_model()
    weights = {
        **model.weights,
        "blocks.1.attn.W_K": model.weights["blocks.1.attn.W_K"].to(CARDS[1]),
    }
    with pytest.raises(
        UnsupportedModel, match=r"blocks\.1 lies on cpu and lazy:1\. Layers may lie"
    ):
        ew.Model(model.config, weights)
