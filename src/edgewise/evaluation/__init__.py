"""How good a circuit is: faithfulness, completeness, minimality, recovery, comparison."""

from edgewise.evaluation.agreement import jaccard, spearman
from edgewise.evaluation.compare import compare
from edgewise.evaluation.comparison import Comparison, GroupPresence, Judgement, Pair
from edgewise.evaluation.completeness import Completeness, KnockOut, completeness, knocked_out
from edgewise.evaluation.curves import MIB_SHARES, Curve, CurvePoint, curve
from edgewise.evaluation.evaluate import Evaluation, Split, evaluate
from edgewise.evaluation.faithfulness import Faithfulness, Spread, faithfulness
from edgewise.evaluation.minimality import Minimality, minimality
from edgewise.evaluation.paper_nodes import paper_nodes
from edgewise.evaluation.random_circuits import (
    RandomBand,
    RandomKind,
    random_band,
    random_circuits,
)
from edgewise.evaluation.ranking import ScoreRecovery, score_recovery
from edgewise.evaluation.recovery import (
    Confusion,
    NodeCounting,
    Recovery,
    against_known,
    pessimistic_auc,
    recovery,
)
from edgewise.evaluation.roles import HeadRole, HeadRoles, Role, head_roles

__all__ = [
    "MIB_SHARES",
    "Comparison",
    "Completeness",
    "Confusion",
    "Curve",
    "CurvePoint",
    "Evaluation",
    "Faithfulness",
    "GroupPresence",
    "HeadRole",
    "HeadRoles",
    "Judgement",
    "KnockOut",
    "Minimality",
    "NodeCounting",
    "Pair",
    "RandomBand",
    "RandomKind",
    "Recovery",
    "Role",
    "ScoreRecovery",
    "Split",
    "Spread",
    "against_known",
    "compare",
    "completeness",
    "curve",
    "evaluate",
    "faithfulness",
    "head_roles",
    "jaccard",
    "knocked_out",
    "minimality",
    "paper_nodes",
    "pessimistic_auc",
    "random_band",
    "random_circuits",
    "recovery",
    "score_recovery",
    "spearman",
]
