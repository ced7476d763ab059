"""What every rater of a snapshot is like: the models of scores and of issues, and what chance would give."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from annotation.raters.answers import Floats
from annotation.raters.issue_model import IssueModel
from annotation.raters.score_model import ScoreModel
from schemas.agreement import Dimension
from schemas.score import Issue


@dataclass(frozen=True)
class PanelModel:
    """All that a consensus takes from the whole snapshot. scores: None where there is too little to tell raters apart.

    reason: why, then. expected: by kind of question, squared distances of levels over what chance would give, (5, 5).
    """

    scores: ScoreModel | None
    issues: Mapping[Issue, IssueModel]
    expected: Mapping[Dimension, Floats] = field(default_factory=dict)
    reason: str = ""
