"""The one file of the golden answers that knows the library's names.

Whoever renames something in the library edits this file, and neither the problems nor the recorded
answers. All functions return plain dictionaries in the golden answers' own words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import seeded
import torch

import edgewise as ew
from edgewise.evaluation import Role, completeness, head_roles, jaccard, minimality, spearman
from edgewise.methods.catalogue import METHODS
from edgewise.metrics import METRICS
from edgewise.model.weights import schema
from edgewise.patching import ABLATION_KINDS
from problems import FAMILIES

# The golden answers' word -> the library's, where they differ.
SETTING_NAMES = {"units": "activations", "unit_share": "activation_share"}
_OWN = {
    "n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_mlp": 12, "d_vocab": 11,
    "n_ctx": 10, "d_vocab_out": 11,
}  # fmt: skip


def catalogue() -> dict[str, set[str]]:
    """What the library has of methods, metrics and ablations, in our words."""
    return {"methods": set(METHODS), "metrics": set(METRICS), "ablations": set(ABLATION_KINDS)}


# --- problems


def build_model(spec: Mapping[str, Any]) -> ew.Model:
    """The model of a problem, in float64."""
    return _model(json.dumps(spec, sort_keys=True))


@cache
def _model(text: str) -> ew.Model:
    spec = json.loads(text)
    if "bundled" in spec:
        return ew.load_model(spec["bundled"], dtype="float64")
    if "family" in spec:
        return ew.load_model(seeded.hf_model(*FAMILIES[spec["family"]], spec["seed"]))
    config = ew.ModelConfig(**{**_OWN, **spec["own"]})
    shapes = {name: entry.shape for name, entry in schema(config).items()}
    weights = {name: seeded.values(name, shape, spec["seed"]) for name, shape in shapes.items()}
    return ew.Model(config, weights, name="own")


def build_problem(spec: Mapping[str, Any]) -> ew.Problem:
    """The problem of an entry of `problems.PROBLEMS`."""
    model = build_model(spec["model"])
    how: dict[str, Any] = {"batch_size": spec.get("batch_size")}
    if "target" in spec:
        how["target"] = build_model(spec["target"])
    pairs = _task(spec).problem.pairs if "task" in spec else _pairs(model, spec["prompts"])
    graph = _task(spec).problem.graph if "task" in spec else ew.Graph.of(model, **spec["grain"])
    return ew.Problem(model, pairs, spec["metric"], _ablation(model, spec), graph=graph, **how)


def _task(spec: Mapping[str, Any]) -> Any:
    n = {"n": spec["n"]} if "n" in spec else {}
    return ew.load_task(spec["task"], build_model(spec["model"]), **n)


def _pairs(model: ew.Model, spec: Mapping[str, Any]) -> ew.PromptPairs:
    config = model.config
    drawn = seeded.prompts(config.d_vocab, config.d_vocab_out, dict(spec))
    n, how = len(drawn["clean"]), {"padding": spec.get("padding", "right")}
    asked = spec.get("asked")
    if asked == "all":
        how["answer_positions"] = [list(range(len(row))) for row in drawn["clean"]]
    elif asked is not None:
        how["answer_positions"] = [list(asked)] * n
    if "spans" in spec:
        how["spans"] = {name: [list(places)] * n for name, places in spec["spans"].items()}
    return ew.PromptPairs.from_tokens(**drawn, **how)


def _ablation(model: ew.Model, spec: Mapping[str, Any]) -> Any:
    asked = spec["ablation"]
    if isinstance(asked, str):
        return asked
    if "moved" in asked:
        return ew.Ablation("corrupted", position_permutation=tuple(asked["moved"]))
    return ew.Ablation("mean", prompts=_pairs(model, {"seed": asked["mean over"]}))


# --- what is found


def edge_names(problem: ew.Problem) -> list[str]:
    """Every edge by name, in the canonical order; other answers give edges by their place here."""
    return [edge.name for edge in problem.graph.edges]


def _places(circuit: ew.Circuit) -> list[int]:
    """The places of a circuit's edges among all edges of its graph."""
    place = {edge.name: i for i, edge in enumerate(circuit.graph.edges)}
    return [place[edge.name] for edge in circuit.edges]


def _circuit(problem: ew.Problem, places: Iterable[int]) -> ew.Circuit:
    edges = problem.graph.edges
    return ew.Circuit.of(problem.graph, [edges[i] for i in places])


def _list(scores: ew.EdgeScores) -> list[float]:
    return [scores.of(edge) for edge in scores.graph.edges]


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {SETTING_NAMES.get(name, name): value for name, value in settings.items()}


def discover(problem: ew.Problem, method: str, settings: Mapping[str, Any]) -> Any:
    """The library's own result of a method, as `found` and `judge` take it."""
    return ew.discover(problem, method, **_settings(settings))


def found(run: Any) -> dict[str, Any]:
    """What a method found: circuit, scores, and each decision in order."""
    place = {edge.name: i for i, edge in enumerate(run.circuit.graph.edges)}
    plain: dict[str, Any] = {"circuit": _places(run.circuit)}
    if run.settings.get("precision") == "reduced":  # its deltas are estimates
        return plain | {"decisions": [[place[d.edge.name], d.kept] for d in run.trace]}
    plain["scores"] = _list(run.scores)
    if run.trace:
        plain["decisions"] = [[place[d.edge.name], d.kept, d.delta, d.loss] for d in run.trace]
        plain["margin"] = run.margin
        plain["interval"] = list(run.threshold_interval or [])
    tested = [d.evidence for d in run.trace if d.evidence is not None]
    if tested:
        plain["tests"] = [[e.p_above, e.p_below, e.n_prompts, e.verdict] for e in tested]
    return plain


def several(problem: ew.Problem, thresholds: Sequence[float]) -> Any:
    """The circuits of ACDC at several thresholds, found together."""
    return [_places(run.circuit) for run in ew.sweep(problem, "acdc", threshold=list(thresholds))]


def values(problem: ew.Problem) -> dict[str, Any]:
    """What the plain evaluator says of the full, the empty and two random circuits."""
    n = problem.graph.n_edges
    chosen = [_circuit(problem, seeded.chosen(n, share, 1)) for share in (0.4, 0.8)]
    logits = ew.run_circuit(problem, chosen[1])[problem.pairs.real]
    return {
        "baselines": list(problem.baselines()),
        "per prompt": [problem.per_prompt(circuit).tolist() for circuit in chosen],
        "losses": [problem.loss(circuit) for circuit in chosen],
        "logits": [logits.sum().item(), logits.abs().max().item(), logits.std().item()],
    }


# --- what is judged


def judge(problem: ew.Problem, run: Any, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Every evaluation that the problem asks for, of one run; none that draws random circuits."""
    wanted, circuit = spec.get("judge"), run.circuit
    result = _faithful(problem, run) if wanted else {}
    if wanted in ("all", "sure"):
        result |= _sure(problem) | _tested(problem, circuit)
    if wanted == "all":
        result |= _beside(problem, run)
    if wanted == "roles":
        result |= _roles(problem, spec)
    if wanted == "known":
        task = _task(spec)
        known = {"published": task.published, "truth": task.truth}
        result |= {
            f"{name} circuit": _places(circuit)
            for name, circuit in known.items()
            if circuit is not None
        }
        result |= _recovered(problem, run, task.published or task.truth)
    return result


def _faithful(problem: ew.Problem, run: Any) -> dict[str, Any]:
    circuit = run.circuit
    faith = ew.faithfulness(problem, circuit)
    small = minimality(problem, circuit)
    graph = circuit.graph
    layer = [n.name for n in graph.nodes if n.layer == 1 and n.kind != "kv"]
    rest = completeness(problem, circuit, random=0, greedy=0, groups={"last layer": layer})
    points = ew.curve(problem, run, sizes=[0, 3, 10, 30]).points
    curve = ew.curve(problem, run)
    points += ew.curve(problem, run, sizes=[5, 20], select="greedy", prune=True).points
    return {
        "faithfulness": {
            "full": faith.full, "empty": faith.empty, "circuit": faith.circuit,
            "normalized": faith.normalized, "per prompt": faith.per_prompt.tolist(),
            "loss": faith.loss, "worst": faith.spread.worst, "median": faith.spread.median,
            "std": faith.spread.std,
        },
        "minimality": [small.effects[edge.name] for edge in circuit.edges],
        "needed, idle, harmful": [small.needed, small.idle, small.harmful],
        "completeness": [rest.complement.circuit]
        + [x for k in rest.knock_outs for x in (k.circuit, k.model)],
        "curve": [[p.n_edges, p.loss, p.normalized] for p in points],
        "areas": [curve.cpr, curve.cmd, len(curve.pareto)],
        "weighted edges": circuit.weighted_edge_count,
        "pruned": _places(circuit.pruned()),
    }  # fmt: skip


def _recovered(problem: ew.Problem, run: Any, truth: ew.Circuit) -> dict[str, Any]:
    result: dict[str, Any] = {}
    circuits = [run.circuit, run.scores.top(8), run.scores.top(20)]
    for nodes in ("plain", "paper") if problem.graph.switches else ("plain",):
        found = ew.recovery(circuits, truth, nodes=nodes)
        result[f"recovery, {nodes} nodes"] = [found.edge_auc, found.node_auc] + [
            [c.true_positives, c.false_positives, c.tpr, c.fpr, c.precision]
            for point in found.points
            for c in (point.edges, point.nodes)
        ]
    for by in ("absolute", "signed"):
        ranked = ew.score_recovery(run.scores, truth, by=by)
        result[f"score recovery, {by}"] = [ranked.roc_auc, ranked.average_precision]
    return result


def _beside(problem: ew.Problem, run: Any) -> dict[str, Any]:
    """Recovery of a circuit that stands for a known one, and comparisons of two runs."""
    other = ew.discover(problem, "exact", share=0.3)
    pair = ew.compare({"one": run, "other": other}, problems=problem).pairs[0]
    stand_in = _circuit(problem, seeded.chosen(problem.graph.n_edges, 0.2))
    return _recovered(problem, run, stand_in) | {
        "comparison": [
            pair.edge_jaccard, pair.node_jaccard, pair.shared_edges, pair.shared_nodes,
            pair.rank_correlation,
        ],
        "agreement": [
            jaccard(set(run.circuit.edges), set(other.circuit.edges)),
            spearman(*(torch.tensor(_list(one.scores)) for one in (run, other))),
        ],
    }  # fmt: skip


def _sure(problem: ew.Problem) -> dict[str, Any]:
    """Replicates and votes: what is drawn is the prompts, orders and thresholds, seeded."""
    result: dict[str, Any] = {}
    for over, method, settings in (
        ("prompts", "acdc", {"threshold": 0.1}),
        ("prompts", "eap-ig", {"edges": 20}),
        ("head-order", "acdc", {"threshold": 0.1}),
        ("threshold", "acdc", {"threshold": 0.1}),
        ("seed", "random", {"edges": 20}),
    ):
        how = {"n": 5, "over": over, "seed": 3, "core": 0.4, "interval": "wilson"}
        kept = ew.stability(problem, method, **how, **settings)
        result[f"stability of {method} over {over}"] = {
            "circuit": _places(kept.circuit),
            "replicates": [list(r.edges) for r in kept.replicates],
            "losses": [r.loss for r in kept.replicates],
            "inclusion": [[i.count, i.low, i.high, i.kind] for i in kept.table],
            "jaccard": kept.jaccard.mean,
        }
    for size, n in ((2, 10), (3, 4)):
        votes = ew.certify(problem, "acdc", n=n, size=size, seed=1, threshold=0.1)
        result[f"certificate of {size} prompts, {n} votes"] = {
            "exact": votes.exact,
            "votes": [[v.count, v.n, v.kept, v.vote, v.deletions] for v in votes.table],
            "kept": _places(votes.kept(0)),
        }
    return result


def _tested(problem: ew.Problem, circuit: ew.Circuit) -> dict[str, Any]:
    """The hypothesis tests that need no random circuits."""
    tests = ew.hypothesis_tests(problem, circuit, n_random=1, n_permutations=50, seed=2)
    kept = [tests.of(name) for name in ("equivalence", "independence")]
    return {f"test of {test.name}": [test.statistic, test.p_value] for test in kept}


def _roles(problem: ew.Problem, spec: Mapping[str, Any]) -> dict[str, Any]:
    names = list(problem.pairs.spans or {})
    roles = [
        Role("reader", names[-1], names[0], "raises"),
        Role("hinderer", names[-1], names[1], "lowers"),
        Role("looks", names[-1], names[1]),
        Role("previous", None, None),
    ]
    found = head_roles(problem, roles, least_attention=0.05).heads
    return {"roles": [[h.head, h.role, h.attention, h.effect] for h in found]}


def plain(value: Any) -> Any:
    """A value as JSON keeps it: infinite numbers in words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, torch.Tensor):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


# --- files


def open_folder(path: Path) -> Any:
    """What a saved file or folder of the first edition holds, by its name; None for mere data."""
    name = path.name
    if name == "each":
        return {run.name: open_folder(run) for run in sorted(path.iterdir())}
    if (path / "circuit.json").exists():
        run = ew.Run.load(path)
        kept = {"method": run.method, "settings": dict(run.settings), "metric": run.problem.metric}
        return found(run) | kept | {"edges": [edge.name for edge in run.circuit.edges]}
    if name == "sweep":
        grid = ew.Sweep.load(path)
        return [[row["method"], [e.name for e in grid.circuit(row).edges]] for row in grid.done]
    if name == "leaderboard":
        board = ew.Leaderboard.load(path)
        return [[row.method, row.n_problems] for row in board.rows]
    if name == "stability.json":
        kept = ew.Stability.load(path)
        return [[i.edge.name, i.count, i.low, i.high, i.kind] for i in kept.table]
    if name == "certified.json":
        return [[v.edge.name, v.count, v.vote, v.deletions] for v in ew.Certified.load(path).table]
    if name == "eap-ig-scores.json":
        return _list(ew.EdgeScores.load(path))
    if name in ("circuit.json", "eap-ig.json", "eap-ig.pt"):
        return [edge.name for edge in ew.Circuit.load(path).edges]
    return None
