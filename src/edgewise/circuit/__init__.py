"""Scores and circuits on a graph."""

from edgewise.circuit.circuit import Circuit, Found, HasCircuit, circuit_of
from edgewise.circuit.coarsening import coarsened, common_graph
from edgewise.circuit.scores import EdgeScores

__all__ = [
    "Circuit",
    "EdgeScores",
    "Found",
    "HasCircuit",
    "circuit_of",
    "coarsened",
    "common_graph",
]
