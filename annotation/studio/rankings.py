"""Rankings of a request's candidates: the task as Label Studio imports it, and the answer read and checked.

A submitted ranking names each of the request's candidates once, in the one bucket that stands for the order. The editor
keeps what was not ranked in a list of its own, `_`: an order with gaps says nothing of what was left there, and is a
reject, but where the annotator skips the task or says that it cannot be judged. Of the rest (a comment, an answer that
nobody asks for) what cannot be used is left out with its reason.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from annotation.client import RankingTask, SentRanking
from annotation.studio.controls import Control
from annotation.studio.interface import ranking_candidates
from annotation.studio.items import (
    Dropped,
    Item,
    Unreadable,
    check_item,
    comment_of,
    control_of,
    lead_time_s,
    once,
    read_received,
    usable,
    utc,
)
from schemas.ranking import Ranking
from schemas.record import first_fault
from schemas.score import AnnotationState

TASK_SCHEMA = "studio-ranking/1"
#: Where the editor keeps what was not dragged into a bucket.
POOL = "_"


def ranking_task(task: RankingTask, source_image: str, edited_images: Sequence[str]) -> dict[str, Any]:
    """The task as Label Studio imports it. Images: URLs that the annotator's browser can read, one a candidate."""
    urls = {one.candidate: url for one, url in zip(task.candidates, edited_images, strict=True)}
    data = {
        "schema": TASK_SCHEMA,
        "request": task.request,
        "instruction": task.instruction,
        "source_image": source_image,
        "candidates": ranking_candidates(urls),
    }
    return {"data": data}


def read_ranking(
    raw: Any, sent: SentRanking, task: str, project: str, controls: Mapping[str, Control], rater: str
) -> tuple[Ranking, list[Dropped]]:
    """The ranking in Label Studio's JSON `raw`, of a task that was sent, and what beside the order cannot be used.

    rater: the pseudonym that it gets. Raises: Unreadable where nothing of it can be used.
    """
    dropped: list[Dropped] = []
    received, items = read_received(raw, task, dropped)
    rankers = frozenset(name for name, control in controls.items() if control.kind == "ranker")
    others = [item for item in items if item.from_name not in rankers]
    others = usable(once(others, dropped), lambda item: check_item(item, controls, frozenset()), dropped)
    state = _state(received.was_cancelled, others, controls)
    ranked = [item for item in items if item.from_name in rankers]
    order = _one_order(ranked, controls, sent) if state == "submitted" else ()
    texts = [item for item in others if controls[item.from_name].kind == "textarea"]
    try:
        ranking = Ranking(
            id=f"{project}/{received.id}",
            task=task,
            request=sent.request,
            rater=rater,
            synthetic=False,
            candidates=order,
            state=state,
            comment=comment_of(texts, dropped),
            lead_time_s=lead_time_s(received, dropped),
            created_at=utc(received.created_at),
            updated_at=utc(received.updated_at),
        )
    except ValidationError as error:
        raise Unreadable("malformed", first_fault(error)) from None
    return ranking, dropped


def _one_order(items: Sequence[Item], controls: Mapping[str, Control], sent: SentRanking) -> tuple[str, ...]:
    """The order of all candidates. Raises: Unreadable where there is none, a part of one, or two that differ."""
    orders = {_order(item, controls, sent) for item in items if control_of(item, controls)}
    if len(orders) > 1:
        raise Unreadable("answered_twice", "has two rankings")
    order = orders.pop() if orders else ()
    if len(order) < len(sent.candidates):
        fault = f"leaves {len(sent.candidates) - len(order)} of {len(sent.candidates)} candidates without a rank"
        raise Unreadable("incomplete", fault)
    return order


def _order(item: Item, controls: Mapping[str, Control], sent: SentRanking) -> tuple[str, ...]:
    """What stands in the buckets, best first, without what was not ranked. Raises: Unreadable for anything else."""
    (bucket,) = controls[item.from_name].values
    lists = item.value.get("ranker")
    if not isinstance(lists, dict) or not lists.keys() <= {bucket, POOL}:
        raise Unreadable("bad_value", f"{item.from_name} holds no ranking")
    named: list[Any] = []
    for some in lists.values():
        if not isinstance(some, list):
            raise Unreadable("bad_value", f"{item.from_name} holds a list that is none")
        named += some
    if not all(isinstance(name, str) for name in named):
        raise Unreadable("bad_value", f"{item.from_name} holds something that is no candidate")
    unknown = [name for name in named if name not in sent.candidates]
    twice = [name for name, count in Counter(named).items() if count > 1]
    if unknown:
        raise Unreadable("bad_value", f"{item.from_name} names {unknown[0][:40]!r}, which is not among the candidates")
    if twice:
        raise Unreadable("bad_value", f"{item.from_name} names {twice[0]} twice")
    return tuple(lists.get(bucket, ()))


def _state(was_cancelled: bool, items: Sequence[Item], controls: Mapping[str, Control]) -> AnnotationState:
    if was_cancelled:
        return "skipped"
    chosen = [item for item in items if controls[item.from_name].kind == "choices" and item.value["choices"]]
    return "cannot_judge" if chosen else "submitted"
