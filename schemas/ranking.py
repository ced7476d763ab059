"""Rankings of all candidates of one request: what one rater said, and what all raters of a snapshot say together."""

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from schemas.record import Document, Id, Record
from schemas.score import AnnotationState, SnapshotName, UtcTime

Count = Annotated[int, Field(ge=0)]


class Ranking(Document):
    """One rater's order of a request's candidates, as validated after the pull. Times: UTC, ISO 8601.

    candidates: best first, each of the request's once where it was submitted; none where nobody ranked them.
    """

    schema_name: ClassVar[str] = "ranking"

    id: Annotated[str, Field(min_length=1, max_length=200)]
    task: Annotated[str, Field(min_length=1, max_length=200)]
    request: Id
    rater: Annotated[str, Field(min_length=1, max_length=200)]
    synthetic: bool
    candidates: tuple[Id, ...]
    state: AnnotationState
    comment: Annotated[str, Field(max_length=10_000)] = ""
    lead_time_s: Annotated[float, Field(ge=0)] | None
    created_at: UtcTime
    updated_at: UtcTime

    @model_validator(mode="after")
    def _order(self) -> "Ranking":
        if len(set(self.candidates)) < len(self.candidates):
            raise ValueError("a ranking has a candidate twice")
        if self.state == "submitted" and len(self.candidates) < 2:
            raise ValueError("a submitted ranking has at least two candidates")
        return self


class RankedCandidate(Record):
    """One candidate over all rankings. mean_rank: 1 is best; wins: pairs, over all raters, in which it came first."""

    candidate: Id
    mean_rank: Annotated[float, Field(ge=1)]
    wins: Count


class PairWins(Record):
    """Two candidates, the lower id first, and how many raters put which before the other."""

    first: Id
    second: Id
    first_wins: Count
    second_wins: Count


class RankingConsensus(Document):
    """All rankings of one request together: plain means and counts, every rater alike.

    candidates: by mean rank, the best first, ties by id; none where nobody ranked them. n_not_judged: raters who
    skipped the request or could not judge it.
    """

    schema_name: ClassVar[str] = "ranking-consensus"

    request: Id
    snapshot: SnapshotName
    synthetic: bool
    n_raters: Count
    n_not_judged: Count
    candidates: tuple[RankedCandidate, ...]
    pairs: tuple[PairWins, ...]
