"""Metrics against numbers computed in plain Python, one list at a time."""

import math

import pytest
import torch
from torch import Tensor

from edgewise.errors import MetricError, UnknownName
from edgewise.metrics import METRICS, AnswerRows, check_finite, metric_named

VOCAB = 6


def draw(seed: int, n_rows: int = 5) -> tuple[Tensor, Tensor]:
    """Logits of a circuit and of the full model [row vocab], in float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, n_rows, VOCAB)
    circuit, full = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return circuit, full


def rows_of(full: Tensor, prompt=None, answers=None, wrong=None) -> AnswerRows:
    """Answer rows from lists; short lists of answers are filled up with -1."""

    def ids(lists):
        if lists is None:
            return None
        width = max(map(len, lists))
        return torch.tensor([row + [-1] * (width - len(row)) for row in lists])

    prompt = list(range(len(full))) if prompt is None else prompt
    return AnswerRows(torch.tensor(prompt), full, ids(answers), ids(wrong))


# --- the definitions, in plain Python


def log_softmax(logits: list[float]) -> list[float]:
    total = math.log(sum(math.exp(x) for x in logits))
    return [x - total for x in logits]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def kl(logits, full, answers, wrong):
    p, q = log_softmax(full), log_softmax(logits)
    return sum(math.exp(p[v]) * (p[v] - q[v]) for v in range(len(p)))


def logit_diff(logits, full, answers, wrong):
    return mean([logits[a] for a in answers]) - mean([logits[w] for w in wrong])


def logit_margin(logits, full, answers, wrong):
    return max(logits[a] for a in answers) - max(logits[w] for w in wrong)


def prob_diff(logits, full, answers, wrong):
    p = [math.exp(x) for x in log_softmax(logits)]
    return sum(p[a] for a in answers) - sum(p[w] for w in wrong)


def nll(logits, full, answers, wrong):
    return -math.log(sum(math.exp(log_softmax(logits)[a]) for a in answers))


def match_nll(logits, full, answers, wrong):
    return nll(logits, full, answers, wrong) - nll(full, full, answers, wrong)


def accuracy(logits, full, answers, wrong):
    return float(logits.index(max(logits)) in answers)


def fraction_correct(logits, full, answers, wrong):
    return float(max(logits[a] for a in answers) > max(logits[w] for w in wrong))


def l2(logits, full, answers, wrong):
    return mean([(x - y) ** 2 for x, y in zip(logits, full, strict=True)])


# By name: the definition, the sign that makes it a loss, and the unit.
DEFINITIONS = {
    "kl": (kl, 1, "nats"),
    "logit-diff": (logit_diff, -1, "logits"),
    "logit-margin": (logit_margin, -1, "logits"),
    "prob-diff": (prob_diff, -1, "probability"),
    "nll": (nll, 1, "nats"),
    "match-nll": (match_nll, 1, "nats"),
    "accuracy": (accuracy, -1, "fraction"),
    "fraction-correct": (fraction_correct, -1, "fraction"),
    "l2": (l2, 1, "squared output"),
}
ANSWERS = [[0], [1, 2], [3], [0, 4, 5], [2]]
WRONG = [[1, 2], [0], [4, 5], [3], [0, 1]]


def test_every_metric_has_a_definition_a_direction_and_a_unit():
    assert list(METRICS) == list(DEFINITIONS)
    for name, (_, sign, unit) in DEFINITIONS.items():
        metric = METRICS[name]
        assert (metric.name, metric.loss_sign, metric.unit) == (name, sign, unit)
        assert metric.summary.endswith((".", ")"))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_a_metric_is_its_definition(name, seed):
    circuit, full = draw(seed)
    metric, before = METRICS[name], circuit.clone()
    values = metric.per_prompt(circuit, rows_of(full, None, ANSWERS, WRONG), 5)
    listed = zip(circuit.tolist(), full.tolist(), ANSWERS, WRONG, strict=True)
    expected = [DEFINITIONS[name][0](*row) for row in listed]
    assert values.dtype == torch.float64
    assert values.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert torch.equal(circuit, before), "it changes nothing it is given"
    # A prompt's number is the mean over its answer positions.
    joined = metric.per_prompt(circuit, rows_of(full, [1, 0, 1, 1, 2], ANSWERS, WRONG), 3)
    means = [expected[1], mean([expected[0], expected[2], expected[3]]), expected[4]]
    assert joined.tolist() == pytest.approx(means, rel=1e-12, abs=1e-12)


# --- properties


def test_large_logits_do_not_overflow():
    full = torch.tensor([[1e4, 0.0, -1e4], [0.0, 1e4, 0.0]]).double()
    rows = rows_of(full, None, [[0], [1]], [[1], [0]])
    for metric in METRICS.values():
        check_finite(metric.name, metric.per_prompt(-full, rows, 2))


SMOOTH = ["kl", "logit-diff", "logit-margin", "prob-diff", "nll", "match-nll", "l2"]


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_right_with_padded_answers(name):
    circuit, full = draw(3)
    rows = rows_of(full, [0, 0, 1, 2, 2], ANSWERS, WRONG)
    circuit.requires_grad_()
    metric = METRICS[name]
    assert torch.autograd.gradcheck(lambda x: metric.per_prompt(x, rows, 3), circuit)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", METRICS)
def test_half_precision_is_computed_in_float32(name, dtype):
    circuit, full = (logits.to(dtype) for logits in draw(4))
    values = METRICS[name].per_prompt(circuit, rows_of(full, None, ANSWERS, WRONG), 5)
    rows = rows_of(full.float(), None, ANSWERS, WRONG)
    assert values.dtype == torch.float32
    assert torch.equal(values, METRICS[name].per_prompt(circuit.float(), rows, 5))


# --- a metric of one's own, and names


def first_logit(logits, rows):
    return logits[:, 0]


def test_a_plain_function_is_a_loss():
    circuit, full = draw(9)
    metric = metric_named(first_logit)
    assert (metric.name, metric.loss_sign, metric.needs) == ("first_logit", 1, ())
    assert torch.equal(metric.per_prompt(circuit, rows_of(full), 5), circuit[:, 0])


@pytest.mark.parametrize(
    ("function", "returned"),
    [
        (lambda logits, rows: logits[:, :1], r"\(5, 1\)"),
        (lambda logits, rows: logits.mean(), r"\(\)"),
        (lambda logits, rows: logits[:, 0].numpy(), "ndarray"),
    ],
)
def test_a_function_that_does_not_return_one_number_per_row(function, returned):
    circuit, full = draw(0)
    message = rf"metric '<lambda>' returned {returned}; .* 5 answer positions: .* shape \(5,\)"
    with pytest.raises(MetricError, match=message):
        metric_named(function).per_prompt(circuit, rows_of(full), 5)


def test_an_unknown_metric_brings_suggestions():
    with pytest.raises(UnknownName, match=r"no metric named 'logitdiff'.*'logit-diff'"):
        metric_named("logitdiff")
    with pytest.raises(UnknownName, match=r"Known: 'kl', 'logit-diff', .*'l2'"):
        metric_named("zzz")


# --- not finite


def test_what_is_not_finite_is_named_by_prompt():
    values = torch.tensor([1.0, torch.nan, 2.0, torch.inf])
    with pytest.raises(MetricError, match=r"'kl' is nan for 2 of 4 prompts \(prompt 1, 3\)\."):
        check_finite("kl", values)
    with pytest.raises(MetricError, match=r"'x' is -inf for 1 of 1 prompts \(prompt 0\)\."):
        check_finite("x", torch.tensor([-torch.inf]))
