"""Which tasks of a run a push sends now: the first round with gold among it, then what raters disagreed on."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from annotation.client import RankedImage, RankingTask, Task
from annotation.raters.consensus import current
from annotation.raters.gold import gold_answers, random_verdict
from annotation.raters.routing import Queue, QueueName, RoutingSettings, Value, plan, plan_rankings
from annotation.store import MAX_SEQ, AnnotationStore
from flows.push_settings import PushSettings
from flows.push_values import known_scores
from flows.run_tasks import rating_tasks
from pipeline.run.folder import read_kept
from schemas.manifest import BuildInfo
from schemas.sample import Sample
from schemas.score import Annotation, CandidateScore


def routing(settings: PushSettings) -> RoutingSettings:
    """How much is asked of whom."""
    return RoutingSettings(
        overlap_raters=settings.raters, overlap_share=settings.overlap, gold_share=settings.gold_share
    )


def rating_queues(
    run: Path,
    info: BuildInfo,
    store: AnnotationStore,
    projects: Mapping[QueueName, str],
    values: Sequence[Value],
    placed: Mapping[str, set[str]],
    settings: PushSettings,
) -> list[Queue]:
    """What is to be rated now, candidate by candidate."""
    known = known_scores(run, info, settings)
    answers = _standing_answers(store)
    return plan(
        values,
        answers,
        placed,
        list(known),
        routing(settings),
        distrusted=_distrusted(known, answers),
        adjudicated=_answered_in(projects.get("adjudication"), answers),
    )


def queue_tasks(run: Path, info: BuildInfo, queues: Sequence[Queue]) -> Iterator[tuple[Queue, list[Task]]]:
    """Each queue with its tasks in its order; no others are kept in memory."""
    wanted = {candidate for queue in queues for candidate in queue.candidates}
    found: dict[str, Task] = {}
    first = 0
    for part in range(info.n_parts):
        samples = list(read_kept(run, "gates", part))
        found |= {task.candidate: task for task in rating_tasks(samples, first) if task.candidate in wanted}
        first += len(samples)
    for queue in queues:
        yield queue, [found[candidate] for candidate in queue.candidates if candidate in found]


def _standing_answers(store: AnnotationStore) -> dict[str, list[Annotation]]:
    """What people answered and did not change since, by candidate; simulated raters do not decide who is asked."""
    found = {}
    for candidate in sorted(store.rated(MAX_SEQ)):
        standing = [row for row in current(store.annotations(candidate, MAX_SEQ)) if not row.scores.synthetic]
        if standing:
            found[candidate] = standing
    return found


def _distrusted(known: Mapping[str, CandidateScore], answers: Mapping[str, Sequence[Annotation]]) -> set[str]:
    """Raters whose answers to gold are those of somebody who does not look."""
    by_rater: defaultdict[str, list[Annotation]] = defaultdict(list)
    for candidate in known:
        for row in answers.get(candidate, ()):
            by_rater[row.scores.rater].append(row)
    return {
        rater for rater, rows in by_rater.items() if random_verdict(gold_answers(known, rows)).found_after is not None
    }


def _answered_in(project: str | None, answers: Mapping[str, Sequence[Annotation]]) -> set[str]:
    """The candidates with an answer from a project."""
    if project is None:
        return set()
    begin = f"{project}/"
    return {candidate for candidate, rows in answers.items() if any(row.id.startswith(begin) for row in rows)}


def ranking_queue(
    run: Path, info: BuildInfo, values: Sequence[Value], placed: Mapping[str, set[str]], n_raters: int
) -> list[tuple[Queue, list[RankingTask]]]:
    """The queue of what is to be ranked now, with its tasks; none where there is nothing.

    Candidates stand in the order of their ids, which says nothing of them.
    """
    samples: defaultdict[str, list[Sample]] = defaultdict(list)
    for part in range(info.n_parts):
        for sample in read_kept(run, "gates", part):
            samples[sample.request.id].append(sample)
    found = {request: _ranked_images(some) for request, some in samples.items()}
    requests = {request: [one.candidate for one in images] for request, images in found.items()}
    chosen = plan_rankings(requests, values, placed.get("ranking", ()))
    tasks = [
        RankingTask(
            request=request,
            instruction=samples[request][0].request.instruction,
            sources=samples[request][0].sources,
            candidates=found[request],
        )
        for request in chosen
    ]
    return [(Queue("ranking", n_raters, tuple(chosen)), tasks)] if tasks else []


def _ranked_images(samples: Sequence[Sample]) -> tuple[RankedImage, ...]:
    found = {sample.candidate.id: sample.edited for sample in samples if sample.candidate and sample.edited}
    return tuple(RankedImage(candidate=candidate, edited=found[candidate]) for candidate in sorted(found))
