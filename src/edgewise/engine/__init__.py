"""The incremental evaluator: the plain evaluator's answers with far less work."""

from edgewise.engine.removals import Removals
from edgewise.engine.speculation import Outcome, decide

__all__ = ["Outcome", "Removals", "decide"]
