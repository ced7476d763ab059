"""The answers to listed tasks as records: what is new, what cannot be used, and what was withdrawn."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from annotation.client import Answer, RejectedAnnotation
from annotation.store import MAX_SEQ, AnnotationStore
from annotation.studio.annotations import read_annotation
from annotation.studio.controls import Control
from annotation.studio.interface import Kind
from annotation.studio.items import Dropped, Unreadable, moment
from annotation.studio.listing import ListedTask
from annotation.studio.rankings import read_ranking
from schemas.errors import printable

#: What is kept of an annotation that cannot be used; who made it stands elsewhere in it, and stays behind.
RECEIVED = ("id", "task", "result", "was_cancelled", "lead_time", "created_at", "updated_at", "value")


class AnswerReader:
    """Reads the answers to the tasks of one project, against what the store has of them already.

    project: its name in the store; server: stands for the server among raters' identities.
    """

    def __init__(
        self, store: AnnotationStore, controls: Mapping[str, Control], project: str, server: str, kind: Kind
    ) -> None:
        self._store, self._controls, self._project, self._server = store, controls, project, server
        self._is_ranking = kind == "ranking"

    def key(self, task: ListedTask) -> str:
        """The candidate, or of a ranking the request, that a task is about; '' where it says none."""
        return task.key(self._is_ranking)

    def new_answers(self, task: ListedTask) -> tuple[list[Answer], list[RejectedAnnotation]]:
        """A task's new annotations, and rejects, whole or in part; of one rater's several the newest counts.

        What went is `deleted`.
        """
        key = self.key(task)
        stored = sorted(self._stored(key), key=lambda found: moment(found.updated_at))
        known, latest = {(found.id, found.updated_at) for found in stored}, {found.id: found for found in stored}
        annotations, rejects = list[Answer](), []
        raters, present = set[str](), set[str]()
        for raw in sorted(task.annotations, key=_time_and_id, reverse=True):
            rater = ""
            try:
                rater = self._rater(raw)
                found, dropped = self._read(raw, key, task, rater)
                present.add(found.id)
                if rater in raters:
                    raise Unreadable("second_by_rater", "is older than another annotation of the same rater")
                raters.add(rater)
                last = latest.get(found.id)
                if last is not None and last.state == "deleted":  # an earlier version could not read it, and this can
                    later = _later(moment(found.updated_at), last)
                    annotations.append(found.model_copy(update={"updated_at": later}))
                elif (found.id, found.updated_at) not in known:
                    annotations.append(found)
                rejects += [_part(task, raw, one) for one in dropped]
            except Unreadable as fault:
                rejects.append(_reject(task, raw, rater, fault))
        return annotations + self.withdrawn(key, present, task), rejects

    def refused(self) -> set[int]:
        """The tasks of which the store has a whole answer that could not be used."""
        numbers = {reject.task for reject in self._store.rejects(self._project)}
        return {int(number) for number in numbers if number.isdecimal()}

    def withdrawn(self, key: str, present: set[str], task: ListedTask | None) -> list[Answer]:
        """Stored annotations of a task that are not there (any more, or in a form that can be used), as deleted."""
        latest = {
            found.id: found
            for found in sorted(self._stored(key), key=lambda found: moment(found.updated_at))
            if found.id.startswith(f"{self._project}/") and (task is None or found.task == str(task.id))
        }
        now = datetime.now(UTC) if task is None else task.updated_at
        return [
            found.model_copy(update={"state": "deleted", "updated_at": _later(now, found)})
            for found in latest.values()
            if found.state != "deleted" and found.id not in present
        ]

    def _read(self, raw: Any, key: str, task: ListedTask, rater: str) -> tuple[Answer, list[Dropped]]:
        """An answer as a record, and what of it cannot be used. Raises: Unreadable."""
        number = str(task.id)
        if self._is_ranking:
            ranking = self._store.sent_ranking(self._project, key)
            if ranking is not None and ranking[1] == number:
                return read_ranking(raw, ranking[0], number, self._project, self._controls, rater)
        else:
            sent = self._store.sent(self._project, key)
            if sent is not None and sent[1] == number:
                return read_annotation(raw, sent[0], number, self._project, self._controls, rater)
        raise Unreadable("unknown_task", f"is of task {number}, which was not sent from here")

    def _stored(self, key: str) -> Sequence[Answer]:
        """Every version of every answer of a key that is in the store."""
        return self._store.rankings(key, MAX_SEQ) if self._is_ranking else self._store.annotations(key, MAX_SEQ)

    def _rater(self, raw: Any) -> str:
        """The pseudonym of who made an annotation. Raises: Unreadable."""
        by = raw.get("completed_by") if isinstance(raw, dict) else None
        number = by.get("id") if isinstance(by, dict) else by
        if not isinstance(number, int) or isinstance(number, bool):
            raise Unreadable("malformed", "does not say who made it")
        return self._store.pseudonym(f"{self._server}/{number}")


def _time_and_id(raw: Any) -> tuple[str, int]:
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), int):
        return "", 0
    return str(raw.get("updated_at")), raw["id"]


def _later(now: datetime, found: Answer) -> str:
    """`now`, and in any case later than a stored version."""
    return max(now.astimezone(UTC), moment(found.updated_at) + timedelta(microseconds=1)).isoformat(
        timespec="microseconds"
    )


def _reject(task: ListedTask, raw: Any, rater: str, fault: Unreadable) -> RejectedAnnotation:
    """The record of an annotation that cannot be used, without who made it."""
    fields = raw if isinstance(raw, dict) else {"value": raw}
    kept = {name: fields[name] for name in RECEIVED if name in fields}
    return RejectedAnnotation(
        task=str(task.id),
        annotation=str(fields.get("id"))[:200],
        updated_at=str(fields.get("updated_at"))[:40],
        reason=fault.reason,
        detail=printable(str(fault))[:500],
        received=json.dumps(kept | {"rater": rater}),
    )


def _part(task: ListedTask, raw: Mapping[str, Any], dropped: Dropped) -> RejectedAnnotation:
    """The record of a part of an annotation whose rest is used."""
    place = dropped.part.removeprefix("result[").removesuffix("]")
    return RejectedAnnotation(
        task=str(task.id),
        annotation=str(raw["id"])[:200],
        updated_at=str(raw["updated_at"])[:40],
        reason=dropped.reason,
        detail=printable(dropped.detail)[:500],
        received=json.dumps(raw["result"][int(place)] if place.isdecimal() else raw[dropped.part]),
        part=dropped.part,
    )
