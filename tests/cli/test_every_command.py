"""Every command and every evaluation on models with shared keys and values, and parallel blocks.

What there is to run is asked of the app, the methods and `edgewise.evaluation`: a new command,
method or evaluation fails here until it is run, too.
"""

import inspect
import json
from dataclasses import fields

import pytest
import torch

import edgewise as ew
from edgewise import evaluation
from edgewise.cli.main import app, main
from edgewise.methods import METHODS
from edgewise.methods.settings import TrainingSettings
from edgewise.tasks import ROLES
from hf import CASES, hf_model
from language_models import byte_pairs

# Families of which the flagship tasks are loaded in the plain tier.
PLAIN = {"gpt2", "llama", "llama, one kv head", "gptj", "falcon, 7b shape", "gemma3", "qwen3_moe"}
# name: (a case of `hf.py`, options of its graph)
MODELS = {
    "grouped": ("llama", []),
    "multi-query": ("llama, one kv head", []),
    "parallel": ("gpt_neox", []),
    "spans of grouped": ("llama", ["--spans", "S2,END"]),
}
PAIRS = [
    {
        "clean": f"Then, {io} and {s} went. {s} gave",
        "corrupted": f"Then, {io} and {s} went. {io} gave",
        "answers": f" {io}",
        "wrong": f" {s}",
        "spans": {"S2": [f" {s}", 2], "END": -1},
    }
    for io, s in (("Mary", "John"), ("John", "Mary"), ("Tom", "James"), ("James", "Tom"))
]
NO_PROBLEM = {"methods", "models list", "tasks list", "leaderboard", "reproduce"}  # they take none


def hf_language_model(case):
    """A random model of a family that reads the words of the language tasks."""
    changes = {"vocab_size": len(byte_pairs()), "max_position_embeddings": 64}
    rope = CASES[case][1].get("rope_parameters", {})
    if rope.get("rope_type") == "longrope":  # knows no prompts that change from short to long
        changes["rope_parameters"] = {**rope, "original_max_position_embeddings": 64}
    return hf_model(case, **changes)


def options_of(method):
    """What a method needs on the command line for a small circuit, quickly."""
    settings = METHODS[method].settings
    names = [f.name for f in fields(settings)]
    for name, value in (("edges", 20), ("activations", 8)):
        if name in names:
            return [f"--{name}", value]
    values = {"threshold": 1e-5, "regularisation": 0.01, "sparsity": 0.9, "screen": 0.7}
    values |= {"steps": 3} if issubclass(settings, TrainingSettings) else {}
    return [word for name in names if name in values for word in (f"--{name}", values[name])]


# What each command is given, in an order in which each finds what it needs. Words in capitals stand
# for options: of the model, of prompts in a file, of a task that has held-out prompts.
COMMANDS = {
    "models check": [["MODEL NAME"]],
    "tasks show": [[task, "MODEL"] for task in ("ioi", "greater-than", "docstring")],
    "tasks check": [["pairs.jsonl", "MODEL"]],
    "discover": [
        *(["PAIRS", "--method", name, *options_of(name), "--out", name] for name in METHODS),
        ["TASK", "--method", "eap-ig", "--edges", 20, "--out", "ioi", "--report", "ioi.html"],
    ],
    "report": [["acdc", "ioi", "sp", "--out", "page.html"]],
    "evaluate": [
        ["ioi", "--random", 3, "--knock-outs", 3, "--greedy", 2, "--curve", "--report", "e.html"],
        ["hisp/circuit.json", "PAIRS", "--random", 2, "--split", "discovery"],
    ],
    "test": [["ioi", "--random", 12, "--max-edges", 6, "--report", "t.html"]],
    "compare": [
        ["acdc", "eap-ig", "sp", "--report", "c.html"],
        ["TASK", "--over", "metric=kl,nll", "--threshold", 0.1, "--cross"],
    ],
    "stability": [
        ["PAIRS", "--method", "eap", "--edges", 20, "--replicates", 16, "--report", "s.html"],
    ],
    "certify": [["PAIRS", "--method", "eap-ig", "--edges", 20, "--subsamples", 12]],
    "sweep": [
        ["TASK", "--method", "acdc,eap-ig", "--threshold", "0.05,0.2", "--edges", 10,
         "--out", "sweep", "--report", "w.html", "--workers", 1],
    ],
}  # fmt: skip


EVALUATIONS = {
    "against_known": lambda p, run, other: evaluation.against_known(run, other.circuit, None),
    "certify": lambda p, run, other: ew.certify(p, "eap", n=12, edges=20),
    "compare": lambda p, run, other: ew.compare([run, other], problems=p, cross=True),
    "completeness": lambda p, run, other: evaluation.completeness(p, run.circuit, greedy=2),
    "curve": lambda p, run, other: ew.curve(p, run),
    "evaluate": lambda p, run, other: ew.evaluate(p, run, random=3, greedy=2),
    "faithfulness": lambda p, run, other: ew.faithfulness(p, run.circuit),
    "head_roles": lambda p, run, other: evaluation.head_roles(p, ROLES["ioi"], least_attention=0.1),
    "hypothesis_tests": lambda p, run, other: ew.hypothesis_tests(p, run.circuit, n_random=12),
    "knocked_out": lambda p, run, other: evaluation.knocked_out(run.circuit, ["a0.h2"]),
    "minimality": lambda p, run, other: evaluation.minimality(p, run.circuit),
    "paper_nodes": lambda p, run, other: sorted(evaluation.paper_nodes(run.circuit)),
    "random_band": lambda p, run, other: evaluation.random_band(p, run.circuit, kind="connected"),
    "recovery": lambda p, run, other: ew.recovery([run], other.circuit),
    "score_recovery": lambda p, run, other: ew.score_recovery(run, other.circuit),
    "stability": lambda p, run, other: ew.stability(p, "eap", n=16, edges=20),
}
NO_MODEL = {
    "jaccard",
    "pessimistic_auc",
    "random_circuits",
    "spearman",
}  # they take numbers, graphs


def test_every_command_method_and_evaluation_is_run():
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    for group in app.registered_groups:
        commands = group.typer_instance.registered_commands
        names |= {f"{group.name} {c.name or c.callback.__name__}" for c in commands}
    assert names - NO_PROBLEM == set(COMMANDS)
    public = {name: getattr(evaluation, name) for name in evaluation.__all__}
    functions = {name for name, value in public.items() if inspect.isfunction(value)}
    assert functions - NO_MODEL == set(EVALUATIONS)


@pytest.fixture(scope="module", params=MODELS)
def place(request, tmp_path_factory):
    """A folder with a model, prompts of one's own, and words that commands are told it by."""
    case, graph = MODELS[request.param]
    folder = tmp_path_factory.mktemp("place")
    hf_language_model(case).save_pretrained(folder / "model")
    byte_pairs().save_pretrained(folder / "model")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    model = ["--model", folder / "model"]
    return folder, {
        "MODEL": model,
        "MODEL NAME": model[1:],
        "PAIRS": ["--pairs", "pairs.jsonl", *model, *graph, "--metric", "logit-diff"],
        "TASK": ["--task", "ioi", "--n", 4, *model, *graph],
    }


def not_a_number(text):
    raise AssertionError(f"{text} in JSON")


def test_every_command(place, capsys, monkeypatch):
    folder, words = place
    monkeypatch.chdir(folder)
    for command, calls in COMMANDS.items():
        for call in calls:
            given = [word for part in call for word in words.get(part, [part])]
            with pytest.raises(SystemExit) as stop:
                main([str(a) for a in (*command.split(), *given, "--json")])
            printed = capsys.readouterr()
            assert stop.value.code in (0, None), f"{command} {call}: {printed.err}"
            json.loads(printed.out, parse_constant=not_a_number)
    circuits = [ew.Run.load(name).circuit for name in METHODS]
    kinds = {node.kind for circuit in circuits for node in circuit.nodes}
    assert ("kv" in kinds) == (circuits[0].graph.kv_heads is not None)


@pytest.mark.parametrize("name", MODELS)
def test_every_evaluation(name):
    case, graph = MODELS[name]
    model = ew.load_model(hf_language_model(case), tokenizer=byte_pairs())
    task = ew.load_task("ioi", model, n=6)
    spans = graph[1].split(",") if graph else None
    problem = task.problem.with_(graph=ew.Graph.of(model, spans=spans), metric="logit-diff")
    runs = ew.eap_ig(problem, edges=25), ew.exact(problem, edges=25)
    for evaluate in EVALUATIONS.values():
        found = evaluate(problem, *runs)
        document = found.to_json() if hasattr(found, "to_json") else found
        json.loads(json.dumps(document), parse_constant=not_a_number)


@pytest.mark.parametrize(
    "case",
    [case if case in PLAIN else pytest.param(case, marks=pytest.mark.slow) for case in CASES],
)
def test_flagship_tasks_load_on_every_family(case):
    model = ew.load_model(hf_language_model(case), tokenizer=byte_pairs())
    for name in ("ioi", "greater-than", "docstring"):
        task = ew.load_task(name, model, n=2)
        assert task.published is None
        assert task.problem.graph == model.graph
        for problem in (task.problem, task.test):
            assert all(torch.tensor(problem.baselines()).isfinite())
            scores = ew.eap_ig(problem, edges=10, steps=2).scores
            assert scores.values.isfinite().all()
