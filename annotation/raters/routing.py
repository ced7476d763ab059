"""Which tasks to send next, and where: plain functions over what is known, for any server that shows tasks in order.

The open-source server has no hidden gold, no order by value and no second round. A plan therefore speaks of *queues*:
one project each, whose tasks are shown in the order in which they were pushed and are done after `raters` answers. One
queue a round: in the first, a share of candidates has several raters and the rest one; what they disagree on goes to
the second round for more raters, and what stays open to adjudication by one trusted person. Gold stands among the other
tasks and looks like them: only the plan knows which are gold, and nothing of it may go into a task's data.

Everything is a function of ids, answers and settings: the same state gives the same plan, on any machine, and a task
that is already in its queue is not planned again.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Literal

from annotation.raters.answers import questions
from annotation.raters.masks import overlaps
from annotation.raters.matching import Group, match_regions
from schemas.errors import BadInput
from schemas.record import short_hash
from schemas.score import Annotation

QueueName = Literal["first-many", "first-one", "second", "adjudication", "ranking"]
#: No more work; more raters; one person who decides.
Need = Literal["nothing", "first", "second", "adjudication"]


@dataclass(frozen=True)
class RoutingSettings:
    """How much is asked of whom. Raises: BadInput for settings that contradict each other."""

    #: raters on a candidate of the overlap; three are the fewest of whom two can be right
    overlap_raters: int = 3
    #: share of candidates that several raters see; the rest has one
    overlap_share: float = 1.0
    #: raters added in the second round
    second_raters: int = 2
    #: share of a queue's tasks that are gold
    gold_share: float = 0.1
    #: raters agree on a question where this share of their answers lies within one level
    agreed_share: float = 2 / 3
    #: raters agree on a region's outline from this mean IoU on
    agreed_iou: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks that the settings fit."""
        if self.overlap_raters < 2 or self.second_raters < 1:
            raise BadInput("routing", "asks for too few raters", "overlap_raters from 2, second_raters from 1")
        for name in ("overlap_share", "gold_share", "agreed_share", "agreed_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"routing {name}", f"is {getattr(self, name)}", "give a share from 0 to 1")
        if self.gold_share > 0.5:
            raise BadInput("routing gold_share", f"is {self.gold_share}", "give at most 0.5: gold is not the work")


@dataclass(frozen=True)
class Value:
    """What is known of a candidate before annotators see it; None where it was not measured.

    reward_std: the reward's standard deviation, points of 25; mask_doubt: 1 less the segmenter's confidence, 0..1.
    """

    candidate: str
    reward_std: float | None = None
    mask_doubt: float | None = None


@dataclass(frozen=True)
class Queue:
    """Tasks to push into one project, in this order. raters: answers after which a task is done.

    gold: which of the tasks have known answers; never to be shown to a rater.
    """

    name: QueueName
    raters: int
    candidates: tuple[str, ...]
    gold: frozenset[str] = frozenset()


def by_value(values: Sequence[Value]) -> list[str]:
    """Candidates by reward uncertainty times segmenter uncertainty, the most telling first.

    Where that is the same, as 0 is for all masks beyond doubt, by the reward's alone, and then by id. What was not
    measured counts as the median of what was, so that a missing figure neither wins nor loses.
    """
    rewards = _filled([value.reward_std for value in values])
    doubts = _filled([value.mask_doubt for value in values])
    worth = {value.candidate: (-a * b, -a) for value, a, b in zip(values, rewards, doubts, strict=True)}
    return sorted(worth, key=lambda candidate: (*worth[candidate], candidate))


def _filled(measured: Sequence[float | None]) -> list[float]:
    known = [value for value in measured if value is not None]
    middle = median(known) if known else 1.0
    return [middle if value is None else value for value in measured]


def in_overlap(candidate: str, settings: RoutingSettings) -> bool:
    """Whether several raters see a candidate in the first round: by its id, so that it stays so whatever comes."""
    return _share_of("overlap", candidate, settings.seed) < settings.overlap_share


def _share_of(*parts: str | int) -> float:
    return int(short_hash(*parts), 16) / 16**16


def agreed(annotations: Sequence[Annotation], settings: RoutingSettings) -> bool:
    """Whether the raters of one candidate agree: on every question, and on the outline of every region.

    annotations: what stands. On a question the largest share of answers within one level of each other counts, so two
    raters two levels apart do not agree, and one of three who is far off does not stop the others. An unplanned region
    is agreed on where the same share of raters saw it, or did not.
    """
    submitted = [row for row in annotations if row.state == "submitted"]
    if len(submitted) < 2:
        return False
    groups = match_regions(submitted)
    levels = (list(question.levels.values()) for question in questions(submitted, groups))
    near = all(_within_one_level(answers) >= settings.agreed_share for answers in levels if len(answers) > 1)
    return near and all(_region_agreed(group, len(submitted), settings) for group in groups)


def _within_one_level(levels: Sequence[int]) -> float:
    counts = Counter(levels)
    return max(counts[level] + counts[level + 1] for level in counts) / len(levels)


def _region_agreed(group: Group, n_raters: int, settings: RoutingSettings) -> bool:
    seen = len({*group.scores, *group.masks}) / n_raters
    if group.key.startswith("extra-") and max(seen, 1 - seen) < settings.agreed_share:
        return False
    masks = [group.masks[rater].mask for rater in sorted(group.masks)]
    if len(masks) < 2:
        return True
    found = overlaps(masks, masks)
    return float((found.sum() - len(masks)) / (len(masks) * (len(masks) - 1))) >= settings.agreed_iou


def need_of(
    candidate: str, annotations: Sequence[Annotation], settings: RoutingSettings, distrusted: Collection[str] = ()
) -> Need:
    """What a candidate still needs. annotations: what stands of it; distrusted: raters whose answers do not count.

    Skipped tasks and "cannot judge" count as asked: where at least half say so, nobody else is asked but the
    adjudicator. So do distrusted raters, whose place in the queue is gone. A candidate outside the overlap is done with
    its one answer.
    """
    counted = [row for row in annotations if row.scores.rater not in distrusted]
    submitted = [row for row in counted if row.state == "submitted"]
    wanted = settings.overlap_raters if in_overlap(candidate, settings) else 1
    if len(annotations) < wanted:
        return "first"
    if (wanted == 1 and len(submitted) == 1) or agreed(submitted, settings):
        return "nothing"
    if len(counted) >= 2 and 2 * len(submitted) <= len(counted):
        return "adjudication"
    return "second" if len(annotations) < wanted + settings.second_raters else "adjudication"


def plan(
    values: Sequence[Value],
    answers: Mapping[str, Sequence[Annotation]],
    placed: Mapping[str, Collection[str]],
    gold: Sequence[str],
    settings: RoutingSettings,
    *,
    distrusted: Collection[str] = (),
    adjudicated: Collection[str] = (),
) -> list[Queue]:
    """The queues with what is to be pushed now; empty ones are left out.

    values: the candidates to rate. answers: by candidate, what stands. placed: by queue, the candidates that the ledger
    has there; they are not sent again. gold: candidates with known answers, in the order in which to use them; they are
    never among the others. adjudicated: candidates that the adjudicator has answered.
    """
    wanted: dict[QueueName, list[str]] = {"first-many": [], "first-one": [], "second": [], "adjudication": []}
    for candidate in by_value([value for value in values if value.candidate not in set(gold)]):
        need = need_of(candidate, answers.get(candidate, ()), settings, distrusted)
        if need == "nothing" or (need == "adjudication" and candidate in adjudicated):
            continue
        queue: QueueName = (
            ("first-many" if in_overlap(candidate, settings) else "first-one") if need == "first" else need
        )
        if candidate not in placed.get(queue, ()):
            wanted[queue].append(candidate)
    raters = {
        "first-many": settings.overlap_raters,
        "first-one": 1,
        "second": settings.second_raters,
        "adjudication": 1,
    }
    queues = []
    for name, tasks in wanted.items():
        fresh = [] if name == "adjudication" else [one for one in gold if one not in placed.get(name, ())]
        mixed, chosen = mix_gold(tasks, fresh, settings)
        if tasks:
            queues.append(Queue(name, raters[name], tuple(mixed), frozenset(chosen)))
    return queues


def plan_rankings(
    requests: Mapping[str, Collection[str]], values: Sequence[Value], placed: Collection[str]
) -> list[str]:
    """The requests to rank now: those with two candidates or more that are not placed yet.

    requests: the candidates of each. They come in the order of their most telling candidate.
    """
    order = {candidate: place for place, candidate in enumerate(by_value(values))}
    several = {
        request: min(order[candidate] for candidate in candidates)
        for request, candidates in requests.items()
        if len(candidates) > 1 and request not in placed
    }
    return sorted(several, key=lambda request: several[request])


def mix_gold(tasks: Sequence[str], gold: Sequence[str], settings: RoutingSettings) -> tuple[list[str], list[str]]:
    """(tasks with gold among them, the gold that was used), so that gold is `gold_share` of a queue while it lasts.

    One gold task a stretch, at a place in it that follows from the seed and the tasks' ids: spread, and not to be
    guessed by counting.
    """
    if not gold or not settings.gold_share or not tasks:
        return list(tasks), []
    stretch = max(1, round((1 - settings.gold_share) / settings.gold_share))
    mixed: list[str] = []
    used = list(gold[: ceil(len(tasks) / stretch)])
    for number in range(ceil(len(tasks) / stretch)):
        some = list(tasks[number * stretch : (number + 1) * stretch])
        if number < len(used):
            some.insert(int(_share_of("gold", settings.seed, some[0]) * (len(some) + 1)), used[number])
        mixed += some
    return mixed, used
