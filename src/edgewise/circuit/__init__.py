"""Scores and circuits on a graph."""

from edgewise.circuit.circuit import Circuit
from edgewise.circuit.coarsening import coarsened, common_graph
from edgewise.circuit.scores import EdgeScores

__all__ = ["Circuit", "EdgeScores", "coarsened", "common_graph"]
