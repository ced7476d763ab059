"""The reward `endpoint:URL`: any vision-language model behind an OpenAI-compatible chat-completions API.

Two calls per edited image, one for all its regions and one for the image. Whatever a server answers, a score is an
integer 0..25 or missing with its reason, counted in `Judge.report()`. A server that never answered at all is an error.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from pipeline.models.chat_http import FATAL_STATUSES, CallFailure, ChatClient, Completion, Outcome, open_chat, run_async
from schemas.errors import BadInput, RegionwiseError
from schemas.record import short_hash
from schemas.score import REGION_SCORES
from training.judge.judgement import Judgement, assemble, by_key, number_regions, read_call
from training.judge.parse import ParsedAnswer, all_missing
from training.judge.prompt import PROMPT_DIGEST, Call, calls, response_format
from training.judge.report import JudgeReport, Tally, write_report
from training.judge.settings import JudgeSettings
from training.reward_protocol import Prediction, RewardQuery

#: Statuses with which servers answer a `response_format` that they do not know.
_UNSTRUCTURED_STATUSES = (400, 422)


@dataclass
class _Run:
    """One pass over queries. silent: calls in a row without an answer; fault: the last one's."""

    silent: int = 0
    fault: str = ""
    stopped: bool = False


class Judge:
    """A `Reward`; made by `make_judge`. name: the model, with ` (blind)` behind it where it is shown no images.

    revision: the versions that the server reported so far, and a digest of prompts and sampling settings.
    """

    def __init__(self, client: ChatClient, model: str, settings: JudgeSettings) -> None:
        self.settings = settings
        self.name = f"{model} (blind)" if self.settings.blind else model
        self.tally = Tally()
        self._client, self._model = client, model
        self._structured, self._ever_answered = True, False
        self.revision = self._revision()

    def score(self, queries: Sequence[RewardQuery]) -> list[Prediction]:
        """As `Reward.score`. Raises: as `judge`."""
        return [judgement.prediction for judgement in self.judge(queries)]

    def judge(self, queries: Sequence[RewardQuery]) -> list[Judgement]:
        """One judgement per query, in order.

        Raises: BadInput where images and masks of a query differ in size; RegionwiseError where the server has not
        answered a single call since this judge was made.
        """
        for index, query in enumerate(queries):
            _check(query, index)
        run = _Run()
        judgements = run_async(lambda: self._judge_all(queries, run))
        self.revision = self._revision()
        if queries and not self._ever_answered:
            raise RegionwiseError(self._thing(), f"answered not one call ({run.fault})", "see docs/judge.md")
        return judgements

    def report(self) -> JudgeReport:
        """Everything since this judge was made: settings, versions, coverage, what is missing and why, tokens, cost."""
        return write_report(self._client.base_url, self._model, self.settings, PROMPT_DIGEST, self.tally)

    def _thing(self) -> str:
        return f"judge {self._client.base_url}"

    def _revision(self) -> str:
        versions = "+".join(sorted(self.tally.versions)) or "unreported"
        sampling = (self.settings.temperature, self.settings.seed, self.settings.max_tokens, self.settings.blind)
        shown = (self.settings.upscale_to_px, self.settings.longest_side_px)
        return f"{versions}@{short_hash(PROMPT_DIGEST, sampling, shown)}"

    async def _judge_all(self, queries: Sequence[RewardQuery], run: _Run) -> list[Judgement]:
        judgements: dict[int, Judgement] = {}
        queue = iter(enumerate(queries))

        async def worker(connections: httpx.AsyncClient) -> None:
            for index, query in queue:
                judgements[index] = await self._judge_one(connections, query, run)

        async with self._client.open() as connections, asyncio.TaskGroup() as group:
            for _ in range(min(self.settings.concurrency, len(queries))):
                group.create_task(worker(connections))
        return [judgements[index] for index in range(len(queries))]

    async def _judge_one(self, connections: httpx.AsyncClient, query: RewardQuery, run: _Run) -> Judgement:
        labels = number_regions(query)
        for_regions, for_image = calls(
            query,
            labels,
            blind=self.settings.blind or run.stopped,  # no pictures for what is not sent
            upscale_to_px=self.settings.upscale_to_px,
            longest_side_px=self.settings.longest_side_px,
        )
        no_place = {key: REGION_SCORES for key in query.masks if key not in labels.values()}
        regions = [all_missing(no_place, "empty_mask")]
        if len(labels) > self.settings.max_regions:
            regions.append(all_missing(dict.fromkeys(labels.values(), REGION_SCORES), "too_many_regions"))
        elif for_regions is not None:
            regions.append(by_key(await self._call(connections, for_regions, run), labels))
        judgement = assemble(query, regions, await self._call(connections, for_image, run))
        self.tally.add_judged(judgement.prediction, judgement.missing)
        return judgement

    async def _call(self, connections: httpx.AsyncClient, call: Call, run: _Run) -> ParsedAnswer:
        """One call, read; a call that brings nothing is all missing."""
        if run.stopped:
            return all_missing(call.asked, "given_up")
        outcome = await self._complete(connections, call)
        result = outcome.result
        if isinstance(result, CallFailure):
            return self._silent(call, run, result.reason, result.detail, fatal=result.status in FATAL_STATUSES)
        self.tally.add_completion(result)
        if not self._is_the_model(result.model):
            detail = f"answers as model {str(result.model)[:80]!r}, asked for {self._model!r}"
            return self._silent(call, run, "wrong_model", detail)
        run.silent, self._ever_answered = 0, True
        self.tally.versions[result.model or "unreported"] += 1
        reading = read_call(result, call)
        self.tally.unknown_places += reading.unknown_places
        return reading

    def _silent(self, call: Call, run: _Run, reason: str, detail: str, *, fatal: bool = False) -> ParsedAnswer:
        run.silent, run.fault = run.silent + 1, f"{reason}: {detail}"
        run.stopped = run.stopped or fatal or run.silent >= self.settings.give_up_after
        self.tally.last_fault = run.fault
        return all_missing(call.asked, reason)

    async def _complete(self, connections: httpx.AsyncClient, call: Call) -> Outcome:
        """The call with structured output; without it from the first time on that only so it is accepted."""
        if self._structured:
            body = self._body(call) | {"response_format": response_format(call.asked)}
            outcome = self.tally.add_outcome(await self._client.complete(connections, body))
            refusal = outcome.result
            if not (isinstance(refusal, CallFailure) and refusal.status in _UNSTRUCTURED_STATUSES):
                return outcome
        outcome = self.tally.add_outcome(await self._client.complete(connections, self._body(call)))
        if isinstance(outcome.result, Completion):
            self._structured = self.tally.structured = False
        return outcome

    def _body(self, call: Call) -> dict[str, Any]:
        settings = self.settings
        optional = {
            "temperature": settings.temperature,
            "seed": settings.seed,
            settings.max_tokens_field: settings.max_tokens,
        }
        sent = {name: value for name, value in optional.items() if value is not None}
        return {"model": self._model, "messages": call.messages(), "stream": False, **sent}

    def _is_the_model(self, reported: str | None) -> bool:
        """Its own name, a dated version of it (`name-2024-08-06`), one that the settings accept, or none at all."""
        names = (self._model, *self.settings.accept_models)
        return reported is None or reported in names or reported.startswith(f"{self._model}-2")


def make_judge(url: str, settings: JudgeSettings | None = None) -> Judge:
    """The judge behind `url` (`https://host/v1`, with `#model` behind it or the model in the settings).

    Where neither names a model the server is asked once, and must list exactly one.
    Raises: BadInput for a bad URL, model or key; RegionwiseError where the server does not list its models.
    """
    settings = settings or JudgeSettings()
    return Judge(*open_chat(url, settings, "judge"), settings)


def _check(query: RewardQuery, index: int) -> None:
    if query.source.shape != query.edited.shape:
        raise BadInput(
            f"question {index}",
            f"source is {query.source.shape}, edited image {query.edited.shape}",
            "give two images of one size",
        )
    for key, mask in query.masks.items():
        if mask.shape != query.edited.shape[:2]:
            raise BadInput(
                f"question {index}, region {key}",
                f"its mask is {mask.shape}, the edited image {query.edited.shape[:2]}",
                "give masks in the edited image's size",
            )
