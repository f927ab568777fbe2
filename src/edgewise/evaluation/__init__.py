"""How good a circuit is: faithfulness, completeness, minimality, recovery, comparison."""

from edgewise.evaluation.certified import Certified, Vote, certify
from edgewise.evaluation.compare import compare
from edgewise.evaluation.comparison import (
    Comparison,
    GroupPresence,
    KeptEffect,
    Pair,
    jaccard,
    spearman,
)
from edgewise.evaluation.completeness import Completeness, KnockOut, completeness, knocked_out
from edgewise.evaluation.curves import MIB_SHARES, Curve, CurvePoint, curve
from edgewise.evaluation.evaluate import Evaluation, Split, evaluate
from edgewise.evaluation.faithfulness import Faithfulness, Spread, faithfulness
from edgewise.evaluation.hypotheses import hypothesis_tests
from edgewise.evaluation.hypothesis_results import EdgeMinimality, HypothesisTest, HypothesisTests
from edgewise.evaluation.minimality import Minimality, minimality
from edgewise.evaluation.random_circuits import (
    RandomBand,
    RandomKind,
    random_band,
    random_circuits,
)
from edgewise.evaluation.recovery import (
    Confusion,
    NodeCounting,
    Recovery,
    ScoreRecovery,
    against_known,
    paper_nodes,
    pessimistic_auc,
    recovery,
    score_recovery,
)
from edgewise.evaluation.roles import HeadRole, HeadRoles, Role, head_roles
from edgewise.evaluation.stability import Inclusion, Stability, stability

__all__ = [
    "MIB_SHARES",
    "Certified",
    "Comparison",
    "Completeness",
    "Confusion",
    "Curve",
    "CurvePoint",
    "EdgeMinimality",
    "Evaluation",
    "Faithfulness",
    "GroupPresence",
    "HeadRole",
    "HeadRoles",
    "HypothesisTest",
    "HypothesisTests",
    "Inclusion",
    "KeptEffect",
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
    "Stability",
    "Vote",
    "against_known",
    "certify",
    "compare",
    "completeness",
    "curve",
    "evaluate",
    "faithfulness",
    "head_roles",
    "hypothesis_tests",
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
    "stability",
]
