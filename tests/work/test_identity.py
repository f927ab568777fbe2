"""The same work is reused, and nothing else: every thing that resumes, with every change."""

import dataclasses
import functools
import json
import random
import shutil
import warnings
from contextlib import suppress

import numpy as np
import pytest
import torch

import edgewise as ew
from edgewise.errors import FormatError, ModelChanged, OutputError
from edgewise.methods import METHODS
from edgewise.model.checksums import checksum
from edgewise.sweeps import sweep_grid
from edgewise.tasks import Task
from edgewise.work import identity
from edgewise.work.identity import difference, of_function, of_problem, untold
from edgewise.work.journal import line_of
from models import random_model, random_pairs


def squares(factor, power=2):
    """A metric of the user's own; what it multiplies with is in its closure."""

    def far(logits, rows):
        return factor * (logits - rows.clean_logits).abs().pow(power).mean(dim=-1)

    return ew.Metric("far", "", False, far)


@functools.cache
def base():
    model, target = random_model(1, n_layers=1), random_model(2, n_layers=1)
    prompts = random_pairs(model, 5, n=4)
    return ew.Problem(
        model,
        random_pairs(model, 3, n=4),
        squares(1.5),
        ew.Ablation("mean", prompts),
        target=target,
    )


# --- what resumes or reuses: each works on (problem, method, settings) in a folder


def in_journal(folder, problem, method, settings):
    ew.discover(problem, method, journal=folder / "j", **settings)


def finished_runs(folder, problem, method, settings):
    ew.discover_each({"one": problem}, method, out=folder, **settings)


def stability(folder, problem, method, settings):
    ew.stability(problem, method, n=4, core=0.4, journal=folder / "s", **settings)


def certify(folder, problem, method, settings):
    ew.certify(problem, method, n=3, size=2, journal=folder / "c", **settings)


def points(folder, problem, method, settings):
    def load(task):
        return Task("own", problem=problem, test=problem)

    found = sweep_grid({method: settings}, over={"task": "own"}, load=load, out=folder, workers=1)
    assert {row["status"] for row in found.rows} == {"done"}


THINGS = [in_journal, finished_runs, stability, certify, points]
ASKED = "acdc", {"threshold": 0.01}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder for each thing, with the base's work done."""
    made = {}
    for thing in THINGS:
        made[thing] = tmp_path_factory.mktemp(thing.__name__)
        thing(made[thing], base(), *ASKED)
    return made


def contents(folder):
    """All but what is made anew at each end of a sweep."""
    files = (f for f in sorted(folder.rglob("*")) if f.is_file() and "points." not in f.name)
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def is_reused(thing, kept, tmp_path, problem, method=ASKED[0], settings=ASKED[1]):
    """Whether work in a copy of what was kept is taken as it is; else it is refused or added."""
    folder = tmp_path / "copy"
    shutil.copytree(kept[thing], folder)
    before, refused = contents(folder), ""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* they stay beside the new ones")
        try:
            thing(folder, problem, method, settings)
        except OutputError as error:
            refused = str(error)
    if refused:
        assert contents(folder) == before
        assert "other work: " in refused
        assert "\n" not in refused
        assert len(refused) < 500
    return not refused and contents(folder) == before


# --- changes that make it other work


def by_one_ulp(model, name="blocks.0.attn.W_Q"):
    weights = {key: tensor.clone() for key, tensor in model.weights.items()}
    flat = weights[name].view(-1)
    flat[-1] = torch.nextafter(flat[-1], flat[-1] + 1)
    return ew.Model(model.config, weights, name=model.name)


def other_pairs(change):
    pairs = base().pairs
    rows = {
        name: getattr(pairs, name).clone() for name in ("clean", "corrupted", "answers", "wrong")
    }
    rows[change].view(-1)[0] = (rows[change].view(-1)[0] + 1) % 11
    return ew.PromptPairs.from_tokens(**rows)


def metric(function):
    return base().with_(metric=ew.Metric("far", "", False, function))


def like_squares(logits, rows):
    return 1.5 * (logits - rows.clean_logits).abs().pow(2).mean(dim=-1)


def model_as(**changes):
    return base().with_(model=dataclasses.replace(base().model, **changes))


def to_float32(problem):
    target = problem.target.to(dtype=torch.float32)
    return problem.with_(model=problem.model.to(dtype=torch.float32), target=target)


OTHER_PROBLEMS = {
    "a weight, by one ulp": lambda: base().with_(model=by_one_ulp(base().model)),
    "dtype": lambda: to_float32(base()),
    "processing": lambda: model_as(processing="folded"),
    "configuration": lambda: model_as(
        config=dataclasses.replace(base().model.config, activation="relu")
    ),
    "graph": lambda: base().with_(graph=ew.Graph.of(base().model, split_qkv=False)),
    "clean prompts": lambda: base().with_(pairs=other_pairs("clean")),
    "corrupted prompts": lambda: base().with_(pairs=other_pairs("corrupted")),
    "answers": lambda: base().with_(pairs=other_pairs("answers")),
    "wrong answers": lambda: base().with_(pairs=other_pairs("wrong")),
    "metric's closure": lambda: base().with_(metric=squares(1.5000001)),
    "metric's code": lambda: metric(like_squares),
    "metric's direction": lambda: base().with_(
        metric=dataclasses.replace(base().metric, higher_is_better=True)
    ),
    "a metric of ours": lambda: base().with_(metric="l2"),
    "no target": lambda: base().with_(target=None),
    "target, by one ulp": lambda: base().with_(target=by_one_ulp(base().target)),
    "ablation": lambda: base().with_(ablation="zero"),
    "ablation's prompts": lambda: base().with_(
        ablation=ew.Ablation("mean", random_pairs(base().model, 6, n=4))
    ),
}
OTHER_ASKED = {
    "method": ("acdc-bisect", {"threshold": 0.01}),
    "threshold, by one ulp": ("acdc", {"threshold": float(np.nextafter(0.01, 1))}),
    "head_order": ("acdc", {"threshold": 0.01, "head_order": "ascending"}),
    "absolute": ("acdc", {"threshold": 0.01, "absolute": True}),
    "engine": ("acdc", {"threshold": 0.01, "engine": "plain"}),
    "verify": ("acdc", {"threshold": 0.01, "verify": True}),
}


# --- changes that leave it the same


def laid_out_otherwise(model):
    """The same values, last dimension slowest in memory; under another name."""
    weights = {
        name: tensor.transpose(0, -1).contiguous().transpose(0, -1)
        for name, tensor in model.weights.items()
    }
    return ew.Model(model.config, weights, name="a copy")


def padded_left():
    pairs = base().pairs
    rows = {
        name: getattr(pairs, name).tolist() for name in ("clean", "corrupted", "answers", "wrong")
    }
    return ew.PromptPairs.from_tokens(**rows, padding="left", source="another file")


SAME_PROBLEMS = {
    "itself": base,
    "other strides and name": lambda: base().with_(model=laid_out_otherwise(base().model)),
    "padding and source": lambda: base().with_(pairs=padded_left()),
    "batch size": lambda: base().with_(batch_size=1),
    "function made again": lambda: base().with_(metric=squares(1.5)),
    "settings said": base,
}


# --- who asks


def work_of(problem, method=ASKED[0], settings=ASKED[1]):
    chosen = METHODS[method]
    return chosen.identity(problem, chosen.resolve(settings))


@pytest.mark.parametrize("change", OTHER_PROBLEMS)
def test_another_problem_is_other_work(change):
    assert difference(work_of(base()), work_of(OTHER_PROBLEMS[change]()))


@pytest.mark.parametrize("change", OTHER_ASKED)
def test_another_method_or_setting_is_other_work(change):
    assert difference(work_of(base()), work_of(base(), *OTHER_ASKED[change]))


@pytest.mark.parametrize("change", SAME_PROBLEMS)
def test_what_decides_nothing_leaves_it_the_same(change):
    said = {"head_order": "descending"} if change == "settings said" else {}
    again = work_of(SAME_PROBLEMS[change](), settings={**ASKED[1], **said})
    assert difference(work_of(base()), again) == ""


@pytest.mark.parametrize("thing", THINGS)
def test_every_thing_that_resumes_asks_whether_it_is_the_same_work(
    thing, kept, tmp_path, monkeypatch
):
    def reused(name, *asked):
        (tmp_path / name).mkdir()
        return is_reused(thing, kept, tmp_path / name, *asked)

    assert reused("same", SAME_PROBLEMS["function made again"]())
    for name in ("a weight, by one ulp", "metric's closure", "ablation's prompts"):
        assert not reused(name, OTHER_PROBLEMS[name]())
    for name in ("method", "threshold, by one ulp"):
        assert not reused(name, base(), *OTHER_ASKED[name])
    with monkeypatch.context() as patch:
        patch.setitem(METHODS, "acdc", dataclasses.replace(METHODS["acdc"], revision=2))
        assert not reused("revision", base())
    monkeypatch.setattr(identity, "_FORMAT", 2)
    assert not reused("format", base())


def test_another_seed_is_other_work_before_the_first_record_too(tmp_path, monkeypatch):
    """A training keeps its state, and no records."""
    monkeypatch.setattr("edgewise.work.store.STATE_SECONDS", 0.0)
    kept, asked = {in_journal: tmp_path / "kept"}, {"regularisation": 0.1, "steps": 3}
    in_journal(kept[in_journal], base(), "sp", asked)
    for seed, same in ((0, True), (1, False)):
        (tmp_path / str(seed)).mkdir()
        where = in_journal, kept, tmp_path / str(seed), base()
        assert is_reused(*where, "sp", {**asked, "seed": seed}) is same


def test_other_draws_of_replicates_are_other_work(kept, tmp_path):
    """Seeds, and for stability what is varied and where losses are taken."""
    method, settings = ASKED
    test = base().with_(pairs=other_pairs("clean"))
    draws = {"stability": {"n": 4, "core": 0.4}, "certify": {"n": 3, "size": 2}}
    for more in ({"seed": 1}, {"spread": 3.0}, {"over": "head-order"}, {"test": test}, {"size": 1}):
        verb = "certify" if "size" in more else "stability"
        thing = certify if verb == "certify" else stability
        asked = {"journal": shutil.copy(next(kept[thing].iterdir()), tmp_path / "journal")}
        asked |= {**draws[verb], **more, **settings}
        with pytest.raises(OutputError, match=f"other work: {next(iter(more))}"):
            getattr(ew, verb)(base(), method, **asked)


# --- what says too little


def holding(value):
    def far(logits, rows):
        assert value is not None
        return (logits - rows.clean_logits).square().mean(dim=-1)

    return ew.Metric("far", "", False, far)


@pytest.mark.parametrize("thing", THINGS)
def test_a_function_of_unknown_content_is_never_reused_and_said(thing, tmp_path):
    problem = base().with_(metric=holding(random.Random(0)))
    kept, told = {thing: tmp_path / "kept"}, r"it uses a random.Random, .* is never reused\.$"
    kept[thing].mkdir()
    with pytest.warns(UserWarning, match=told):
        thing(kept[thing], problem, *ASKED)
    with suppress(OutputError), pytest.warns(UserWarning, match=told):
        assert not is_reused(thing, kept, tmp_path, problem)


# --- functions


GLOBAL = 1.0


def uses_global(x):
    return GLOBAL * x


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, logits, rows):
        return self.factor * logits.mean(dim=-1)

    def method(self, logits, rows):
        return self(logits, rows)


def calls_itself(n):
    return n if n < 2 else calls_itself(n - 1)


def test_functions_count_by_code_and_all_they_hold(monkeypatch):
    def by_default(default):
        def times(x, by=default):
            return x * by

        return times

    first = of_function(uses_global)
    monkeypatch.setitem(globals(), "GLOBAL", 2.0)
    ours = [
        first,
        of_function(uses_global),
        of_function(by_default(torch.ones(2))),
        of_function(by_default(torch.zeros(2))),
        of_function(lambda x: x + 1),
        of_function(lambda x: x + 2),
        of_function(functools.partial(uses_global, 1)),
        of_function(functools.partial(uses_global, 2)),
        of_function(calls_itself),
        of_function(torch.relu),
        of_function(torch.sigmoid),
        of_function(np.exp),
        *(of_function(Scaled(k)) for k in (1, 2, True)),
        *(of_function(Scaled(k).method) for k in (1, 2)),
        *(of_function(Scaled({"a": [k]})) for k in (1, 2)),
        *(of_function(holding(k).function) for k in (torch.float32, base().model, torch.nn.ReLU())),
    ]
    assert [untold(content) for content in ours] == [None] * len(ours)
    assert len(set(ours)) == len(ours)
    assert of_function(Scaled({1, "b", "c"})) == of_function(Scaled({"c", 1, "b"}))
    assert of_function(lambda x: x + 1) == of_function(lambda x: x + 1)


def test_a_helper_of_another_module_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for which, factor in (("one", 2), ("two", 2), ("six", 3)):
        (tmp_path / f"help_{which}.py").write_text(f"def scale(x):\n    return {factor} * x\n")
        text = f"import help_{which} as h\ndef f(x):\n    return h.scale(x)\n"
        names = {"__name__": "mine"}
        exec(compile(text, "mine.py", "exec"), names)
        found.append(of_function(names["f"]))
    assert len(set(found)) == 3  # the module's name counts as well
    monkeypatch.setattr("help_one.scale", lambda x: 5 * x)
    assert untold(found[0]) is None


def test_a_difference_is_said_in_one_line():
    work = of_problem(base())
    assert difference(work, work) == ""
    assert difference({}, work).startswith("it does not say of which weights")
    assert difference(work, of_problem(base().with_(metric=squares(2)))) == "metric: other function"
    assert difference(work, of_problem(base().with_(target=None))).startswith("target was ")
    assert difference(work, of_problem(base().with_(pairs=other_pairs("wrong")))) == "other prompts"


# --- models that change


def trained_further(problem, how):
    tensor = problem.model.weights["blocks.0.mlp.W_in"]
    if how == "in place":
        tensor.add_(0.01)
    elif how == "through .data":
        tensor.data[0, 0] = torch.nextafter(tensor[0, 0], tensor[0, 0] + 1)
    else:
        problem.target.weights["unembed.W_U"].data.mul_(1.01)


def fresh(**more):
    model, target = random_model(1, n_layers=1), random_model(2, n_layers=1)
    return ew.Problem(model, random_pairs(model, 3), "l2", target=target, **more)


STARTS = {
    "discover": lambda p: ew.discover(p, threshold=0.01),
    "sweep": lambda p: ew.sweep(p, "eap", edges=[1, 2]),
    "faithfulness": lambda p: ew.faithfulness(p, ew.Circuit.full(p.graph)),
    "stability": lambda p: ew.stability(p, threshold=0.01, n=4, core=0.4),
    "certify": lambda p: ew.certify(p, threshold=0.01, size=2, n=3),
    "baselines": lambda p: p.baselines(),
}


@pytest.mark.parametrize("how", ["in place", "through .data", "target"])
@pytest.mark.parametrize("start", STARTS)
def test_a_model_that_changed_is_refused_by_name(start, how):
    problem = fresh()
    first = problem.baselines()
    trained_further(problem, how)
    tensor = "unembed.W_U" if how == "target" else r"blocks\.0\.mlp\.W_in"
    for same in (problem, problem.with_(batch_size=2)):
        with pytest.raises(ModelChanged, match=f"{tensor} changed since .* build the Problem"):
            STARTS[start](same)
    anew = ew.Problem(problem.model, problem.pairs, "l2", target=problem.target)
    STARTS[start](anew)
    assert anew.baselines() != first or how == "through .data"  # by one ulp


def test_a_model_that_changes_between_or_during_its_uses_is_seen():
    problem = fresh()
    problem.baselines()
    problem.model.weights["unembed.W_U"].mul_(1)  # which changes nothing
    ew.discover(problem, threshold=0.01)
    untouched = fresh()
    trained_further(untouched, "in place")
    with pytest.raises(ModelChanged, match=r"random-1: blocks\.0\.mlp\.W_in changed since"):
        untouched.value(ew.Circuit.full(untouched.graph))

    def train(step):
        problem.model.weights["unembed.W_U"].data.mul_(1.01)

    with pytest.raises(ModelChanged, match="unembed.W_U changed"):
        ew.discover(problem, threshold=0.01, on_progress=train)


def test_tensors_of_inference_mode_are_watched_by_their_checksums():
    with torch.inference_mode():
        model = random_model(1, n_layers=1)
        problem = ew.Problem(model, random_pairs(model), "l2")
        problem.baselines()
        model.weights["unembed.W_U"].mul_(1.01)
        with pytest.raises(ModelChanged, match="unembed.W_U changed"):
            problem.baselines()


def test_checksums_are_of_values_not_of_memory():
    tensor = torch.randn(7, 300, 5, dtype=torch.float32)
    turned = tensor.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert not turned.is_contiguous()
    assert checksum(tensor) == checksum(turned) == checksum(tensor.clone().requires_grad_())
    for dtype in (torch.bfloat16, torch.float16, torch.int8, torch.bool):
        assert checksum(tensor.to(dtype)) == checksum(turned.to(dtype))
    swapped = tensor.clone()
    swapped[0, 0, 0], swapped[0, 0, 1] = tensor[0, 0, 1], tensor[0, 0, 0]
    assert checksum(swapped) != checksum(tensor)
    assert checksum(torch.zeros(0, 3)) == 0


# --- decisions that are not what was decided


def decided(folder, change):
    """The journal of a finished run, its fourth decision changed, its checksum made to fit."""
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    record = json.loads(lines[4])
    del record["crc32"]
    if "evidence" in change:
        change = {"evidence": {**record["evidence"], **change["evidence"]}}
    lines[4] = line_of({**record, **change})
    (folder / "journal.jsonl").write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        ("acdc", lambda d: {"kept": not d.kept}, "contradicts itself: with"),
        ("acdc", lambda d: {"delta": 1.0 if d.delta < 0.01 else 0.0}, "contradicts itself: with"),
        ("acdc-test", lambda d: {"kept": not d.kept}, "contradicts itself: .*its p-values"),
        (
            "acdc-test",
            lambda d: {"evidence": {"p_above": 0.0, "p_below": 1.0}},
            "contradicts itself: .*its p-values",
        ),
    ],
)
def test_a_decision_that_contradicts_itself_is_found(method, change, message, tmp_path):
    problem = fresh()
    run = ew.discover(problem, method, threshold=0.01, journal=tmp_path / "j")
    if method == "acdc-test":
        assert run.trace[3].evidence.verdict != "above"
    decided(tmp_path / "j", change(run.trace[3]))
    with pytest.raises(FormatError, match=message):
        ew.discover(problem, method, threshold=0.01, journal=tmp_path / "j")
