"""A judge's report: coverage and why scores are missing, versions, tokens, cost. Counts only, never a key."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.models.chat_http import Completion, Outcome
from schemas.record import Record
from schemas.score import IMAGE_SCORES
from training.judge.settings import JudgeSettings
from training.predictions import as_points
from training.reward_protocol import Prediction


class JudgeReport(Record):
    """A judge's account. coverage: share of the scores asked for that are there, None where none was asked for.

    missing: score -> reason -> count. versions: model as the server reported it -> answers. retries: fault -> attempts
    that were repeated. cost: in the prices' currency, None without prices; a lower bound where calls_without_usage is
    not 0. unknown_places: regions that the judge made up, dropped. last_fault: the last call that brought no answer.
    """

    endpoint: str
    model: str
    versions: dict[str, int]
    settings: dict[str, Any]
    prompt_digest: str
    structured_output: bool
    images: int
    calls: int
    attempts: int
    retries: dict[str, int]
    scores_asked: int
    scores_given: int
    coverage: float | None
    coverage_by_score: dict[str, float]
    missing: dict[str, dict[str, int]]
    unknown_places: int
    prompt_tokens: int
    completion_tokens: int
    calls_without_usage: int
    cost: float | None
    last_fault: str | None


@dataclass
class Tally:
    """The running counts of one judge."""

    images: int = 0
    calls: int = 0
    attempts: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    given: Counter[str] = field(default_factory=Counter)
    missing: Counter[tuple[str, str]] = field(default_factory=Counter)
    unknown_places: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls_without_usage: int = 0
    structured: bool = True
    last_fault: str | None = None

    def add_outcome(self, outcome: Outcome) -> Outcome:
        """Counts a call and its attempts; gives the outcome back."""
        self.calls += 1
        self.attempts += outcome.attempts
        self.retries.update(outcome.retried)
        return outcome

    def add_completion(self, completion: Completion) -> None:
        """Counts the tokens of an answer, usable or not: it is paid for all the same."""
        if completion.usage is None:
            self.calls_without_usage += 1
            return
        self.prompt_tokens += completion.usage.prompt_tokens
        self.completion_tokens += completion.usage.completion_tokens

    def add_judged(self, prediction: Prediction, missing: Mapping[tuple[str, str], int]) -> None:
        """Counts the scores of one edited image. missing: (score, reason) -> how many."""
        self.images += 1
        self.missing.update(missing)
        for region in prediction.regions.values():
            self.given["region success"] += as_points(region.success) is not None
            self.given["region preserve"] += as_points(region.preserve) is not None
        for name in IMAGE_SCORES:
            self.given[name] += as_points(getattr(prediction, name)) is not None


def write_report(endpoint: str, model: str, settings: JudgeSettings, prompt_digest: str, tally: Tally) -> JudgeReport:
    """The account that `tally` gives."""
    missing: dict[str, dict[str, int]] = {}
    for (score, reason), count in sorted(tally.missing.items()):
        missing.setdefault(score, {})[reason] = count
    given, absent = tally.given.total(), tally.missing.total()
    return JudgeReport(
        endpoint=endpoint,
        model=model,
        versions=dict(sorted(tally.versions.items())),
        settings=settings.model_dump(mode="json"),
        prompt_digest=prompt_digest,
        structured_output=tally.structured,
        images=tally.images,
        calls=tally.calls,
        attempts=tally.attempts,
        retries=dict(sorted(tally.retries.items())),
        scores_asked=given + absent,
        scores_given=given,
        coverage=given / (given + absent) if given + absent else None,
        coverage_by_score={
            score: count / (count + sum(missing.get(score, {}).values()))
            for score, count in sorted(tally.given.items())
        },
        missing=missing,
        unknown_places=tally.unknown_places,
        prompt_tokens=tally.prompt_tokens,
        completion_tokens=tally.completion_tokens,
        calls_without_usage=tally.calls_without_usage,
        cost=cost(tally.prompt_tokens, tally.completion_tokens, settings),
        last_fault=tally.last_fault,
    )


def cost(prompt_tokens: int, completion_tokens: int, settings: JudgeSettings) -> float | None:
    """What the tokens cost at the settings' prices per million; None where a price is not given."""
    prompt, completion = settings.price_per_million_prompt_tokens, settings.price_per_million_completion_tokens
    if prompt is None or completion is None:
        return None
    return (prompt_tokens * prompt + completion_tokens * completion) / 1e6
