"""How good a circuit is: faithfulness to the model, recovery of a published circuit."""

from edgewise.evaluation.faithfulness import Faithfulness, Spread, faithfulness
from edgewise.evaluation.recovery import (
    Confusion,
    Recovery,
    against_known,
    pessimistic_auc,
    recovery,
)

__all__ = [
    "Confusion",
    "Faithfulness",
    "Recovery",
    "Spread",
    "against_known",
    "faithfulness",
    "pessimistic_auc",
    "recovery",
]
