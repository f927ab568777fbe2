"""How good a circuit is: faithfulness, completeness, minimality, recovery, comparison."""

from edgewise.evaluation.certified import Certified, certify
from edgewise.evaluation.compare import compare
from edgewise.evaluation.comparison import Comparison
from edgewise.evaluation.completeness import completeness, knocked_out
from edgewise.evaluation.curves import MIB_SHARES, Curve, curve
from edgewise.evaluation.evaluate import Evaluation, evaluate
from edgewise.evaluation.faithfulness import Faithfulness, faithfulness
from edgewise.evaluation.hypotheses import HypothesisTests, hypothesis_tests
from edgewise.evaluation.inference import jaccard, spearman
from edgewise.evaluation.minimality import minimality
from edgewise.evaluation.random_circuits import random_band, random_circuits
from edgewise.evaluation.recovery import (
    Recovery,
    against_known,
    paper_nodes,
    pessimistic_auc,
    recovery,
    score_recovery,
)
from edgewise.evaluation.roles import Role, head_roles
from edgewise.evaluation.stability import Stability, stability

__all__ = [
    "MIB_SHARES",
    "Certified",
    "Comparison",
    "Curve",
    "Evaluation",
    "Faithfulness",
    "HypothesisTests",
    "Recovery",
    "Role",
    "Stability",
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
