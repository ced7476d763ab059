"""The settings of a push in one record, which the command line, the deployment and `make studio` all use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import BadInput
from schemas.record import first_fault

#: The environment variable that holds the token where nothing else is named.
TOKEN_ENV = "LABEL_STUDIO_API_KEY"
#: `gold`: the known scores are the oracle's, of a run that the procedural editor edited.
ORACLE_GOLD = "oracle"


class PushSettings(BaseModel):
    """Where a run's tasks go, how annotators see the images, and what is asked of whom. It never holds a token.

    The descriptions are the help of the command line, which adds a default where there is one to show.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    url: str | None = None
    """where Label Studio is [default: where the run was pushed before]"""
    token_env: str = TOKEN_ENV
    """environment variable with the token"""
    studio: Path | None = None
    """data folder of a Label Studio that `make studio` runs: its URL, token and document root"""
    title: str | None = None
    """what its projects are called [default: the run's name and six digits]"""
    images: Literal["local", "data", "s3"] = "local"
    """how annotators come by them: files that the server serves, inside the tasks, S3"""
    documents: Path | None = None
    """local: the server's document root"""
    bucket: str | None = None
    """s3: the bucket; the run's folder studio-images is to be copied into it"""
    endpoint: str | None = None
    """s3: another S3-compatible service than AWS"""
    raters: Annotated[int, Field(ge=2, le=100)] = 3
    """raters of the overlap"""  # three are the fewest of whom two can be right
    overlap: Annotated[float, Field(ge=0, le=1)] = 1.0
    """share with several raters"""
    gold: str | None = None
    """known scores to mix in: a file of candidate scores, or `oracle`"""
    gold_share: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """gold among the tasks"""
    values: Path | None = None
    """what to rate first (JSONL)"""
    reward: str | None = None
    """rate first what this reward is unsure about: `region`, region:FOLDER ..."""
    ranking: bool = False
    """each request's candidates side by side, to be ranked, and nothing else"""
    batch: Annotated[int, Field(ge=1, le=5000)] = 250
    """tasks in one import"""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.values is not None and self.reward is not None:
            raise BadInput("push", "is given values, and a reward to ask for them", "give one of them")
        if self.ranking and self.gold is not None:
            raise BadInput("push", "mixes gold among rankings, of which none is known", "leave one of them out")
        return self


def push_settings(given: Mapping[str, Any]) -> PushSettings:
    """The settings by their names. Raises: BadInput for a value that does not fit."""
    try:
        return PushSettings.model_validate(dict(given))
    except ValidationError as error:
        raise BadInput("push", first_fault(error), "see `regionwise push --help`") from None
