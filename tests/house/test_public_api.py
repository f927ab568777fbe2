"""The public face is what DESIGN promises: changing it is a decision, not an accident."""

import inspect
import re
from pathlib import Path

import pytest

import edgewise as ew
from edgewise.methods import METHODS

PUBLIC = {
    "ACDCSettings",
    "AnswerRows",
    "Certified",
    "Circuit",
    "Comparison",
    "Curve",
    "Edge",
    "EdgeScores",
    "EdgewiseError",
    "Evaluation",
    "Faithfulness",
    "Graph",
    "HypothesisTests",
    "Leaderboard",
    "Metric",
    "Model",
    "ModelConfig",
    "Node",
    "Port",
    "Problem",
    "PromptPairs",
    "Recovery",
    "Ablation",
    "Run",
    "Stability",
    "Sweep",
    "Task",
    "__version__",
    "acdc",
    "acdc_bisect",
    "acdc_ordered",
    "acdc_screened",
    "acdc_test",
    "atp_star",
    "certify",
    "clean_corrupted",
    "compare",
    "curve",
    "discover",
    "discover_each",
    "eap",
    "eap_ig",
    "edge_pruning",
    "evaluate",
    "exact",
    "faithfulness",
    "hisp",
    "hypothesis_tests",
    "information_flow",
    "leaderboard",
    "list_methods",
    "list_models",
    "list_tasks",
    "load_model",
    "load_task",
    "load_variants",
    "magnitude",
    "pessimistic_auc",
    "process",
    "random_scores",
    "recovery",
    "relp",
    "report",
    "reset_network",
    "run_circuit",
    "score_recovery",
    "sp",
    "sp_edges",
    "stability",
    "structural_truth",
    "sweep",
    "sweep_grid",
    "ugs",
}


def test_public_names():
    assert set(ew.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_every_public_name_exists_and_is_documented(name):
    documented = inspect.getdoc(getattr(ew, name))
    assert documented
    assert not documented.startswith(f"{name}("), "a dataclass's generated docstring"


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        ("Circuit", "full empty of of_nodes edges n_edges nodes without pruned to_json "
                    "from_json to_networkx weighted_edge_count save load complement id"),
        ("EdgeScores", "top above greedy top_nodes ranked of of_nodes"),
        ("Graph", "build of edges exists senders receivers index n_edges"),
        ("Problem", "loss value per_prompt with_"),
        ("PromptPairs", "from_tokens from_text from_file from_dataset sha256"),
        ("Run", "save load"),
    ],
)  # fmt: skip
def test_methods_of_core_types(owner, names):
    for name in names.split():
        assert inspect.getattr_static(getattr(ew, owner), name) is not None


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'acdx'"):
        ew.acdx  # noqa: B018


def test_type_checkers_see_the_public_names():
    stub = (Path(ew.__file__).parent / "__init__.pyi").read_text()
    functions = {method.function_name for method in METHODS.values()}  # from `functions.pyi`
    assert set(re.findall(r" as (\w+)", stub)) | functions >= PUBLIC - {"__version__"}
