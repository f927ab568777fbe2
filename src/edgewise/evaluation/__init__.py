"""How good a circuit is: faithfulness, recovery of a published one, comparison with others."""

from edgewise.evaluation.agreement import jaccard, spearman
from edgewise.evaluation.compare import compare
from edgewise.evaluation.comparison import Comparison, GroupPresence, Judgement, Pair
from edgewise.evaluation.faithfulness import Faithfulness, Spread, faithfulness
from edgewise.evaluation.recovery import (
    Confusion,
    Recovery,
    against_known,
    pessimistic_auc,
    recovery,
)
from edgewise.evaluation.roles import HeadRole, HeadRoles, Role, head_roles

__all__ = [
    "Comparison",
    "Confusion",
    "Faithfulness",
    "GroupPresence",
    "HeadRole",
    "HeadRoles",
    "Judgement",
    "Pair",
    "Recovery",
    "Role",
    "Spread",
    "against_known",
    "compare",
    "faithfulness",
    "head_roles",
    "jaccard",
    "pessimistic_auc",
    "recovery",
    "spearman",
]
