"""From scores to a circuit, as a method's settings say."""

from __future__ import annotations

from edgewise.circuit import Circuit, EdgeScores
from edgewise.settings import SelectionSettings


def select(scores: EdgeScores, settings: SelectionSettings) -> Circuit:
    """The circuit of the best edges or nodes. Raises `SettingError` if there are not that many."""
    absolute = settings.by == "absolute"
    if settings.above is not None:
        return scores.above(settings.above, absolute=absolute)
    if settings.nodes is not None:
        return scores.top_nodes(settings.nodes, absolute=absolute)
    n = settings.edges
    if n is None:
        assert settings.share is not None  # the settings class fills it in
        n = round(settings.share * scores.graph.n_edges)
    choose = scores.greedy if settings.select == "greedy" else scores.top
    return choose(n, absolute=absolute)
