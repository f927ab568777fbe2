"""Whatever takes a circuit takes a run; other kinds of arguments get a sentence."""

import subprocess
import sys

import pytest

import edgewise as ew
from edgewise.evaluation import completeness, minimality, random_band
from edgewise.tasks import node_groups


@pytest.fixture(scope="module")
def task():
    return ew.load_task("tracr-reverse")


@pytest.fixture(scope="module")
def run(task):
    return ew.acdc(task.problem, threshold=0.01)


TAKE = {
    "faithfulness": lambda task, x: ew.faithfulness(task.test, x).to_json(),
    "evaluate": lambda task, x: ew.evaluate(task.test, x, random=2, knock_outs=1).to_json(),
    "hypothesis_tests": lambda task, x: ew.hypothesis_tests(task.test, x, n_random=4).to_json(),
    "recovery": lambda task, x: ew.recovery(x, task.published).to_json(),
    "recovery of": lambda task, x: ew.recovery(task.published, x).to_json(),
    "compare": lambda task, x: ew.compare({"a": x, "b": task.published}).circuits["a"].id,
    "curve": lambda task, x: ew.curve(task.test, [x]).points[0].n_edges,
    "run_circuit": lambda task, x: ew.run_circuit(task.test, x).tolist(),
    "minimality": lambda task, x: minimality(task.test, x).to_json(),
    "completeness": lambda task, x: completeness(task.test, x, random=1).to_json(),
    "random_band": lambda task, x: random_band(task.test, x, n=2).to_json(),
    "node_groups": lambda task, x: node_groups(task.test, x),
    "per_prompt": lambda task, x: task.test.per_prompt(x).tolist(),
    "&": lambda task, x: (task.published & x).id,
    "-": lambda task, x: (task.published - x).id,
}


@pytest.mark.parametrize("name", TAKE)
def test_a_run_is_taken_for_its_circuit(name, task, run):
    assert TAKE[name](task, run) == TAKE[name](task, run.circuit)


# In a process without the tests' own checks of types.
SCRIPT = """
import edgewise as ew
task = ew.load_task("or-gate")
problem, circuit, graph = task.problem, task.published, task.problem.graph
edge = circuit.edges[0]
calls = {
    "faithfulness takes the problem first": lambda: ew.faithfulness(circuit, problem),
    "takes a Problem, not a Task. Pass task.problem": lambda: ew.faithfulness(task, circuit),
    "of evaluate is a list; pass a Circuit, or a Run": lambda: ew.evaluate(problem, [circuit]),
    "the circuit is a str; pass a Circuit": lambda: ew.recovery(["a"], circuit),
    "discover takes a Problem, not a Circuit": lambda: ew.discover(circuit),
    "stability takes a Problem, not a Task": lambda: ew.stability(task, "acdc", threshold=1),
    "several are passed one by one: circuit.without(*edges)": lambda: circuit.without([edge]),
    "edges is one name": lambda: ew.Circuit.of(graph, edge.name),
    "what is after & is a list": lambda: circuit & [edge],
    "not a str, and then the file": lambda: ew.report("x.html", circuit),
}
for sentence, call in calls.items():
    try:
        call()
    except Exception as error:
        if not isinstance(error, ew.EdgewiseError) or sentence not in str(error):
            print(f"{sentence!r}: {type(error).__name__}: {error}")
    else:
        print(f"{sentence!r}: no error")
"""


def test_other_kinds_of_arguments_get_a_sentence():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout + done.stderr == ""
