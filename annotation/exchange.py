"""Sends tasks to a client and collects its answers through the store, so that no crash loses or doubles anything.

Sending goes batch by batch, and one process at a time sends one (`AnnotationStore.turn`): it is written down, the
project is asked which of its tasks it has (unless it has as many tasks as the ledger knows), the rest is sent, and
what was taken is written down. Where an answer is lost, or a process died between the first and the last of these, the
project is asked before anything is sent a second time; as it may still be busy with the first, it is asked until it has
the tasks or `settle_s` are over.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from annotation.client import AnnotationClient, LostAnswer, TaskT, sent_record
from annotation.store import AnnotationStore

#: How long a server may be busy with tasks whose sender is gone.
SETTLE_S = 60.0
ATTEMPTS = 5
PAUSE_S = 1.0


@dataclass(frozen=True)
class Sent:
    """How many tasks were sent now, were there without the ledger's knowledge, and were known to be there."""

    new: int
    found: int
    known: int


@dataclass(frozen=True)
class Collected:
    """How many annotations and rejects (parts counted, too) are new, and how many tasks had their answers read."""

    annotations: int
    rejects: int
    tasks_read: int


def send(
    client: AnnotationClient[TaskT],
    store: AnnotationStore,
    tasks: Sequence[TaskT],
    *,
    settle_s: float = SETTLE_S,
    pause_s: float = PAUSE_S,
    after_batch: Callable[[int], None] = lambda done: None,
) -> Sent:
    """Sends those of `tasks` (one a key) that the project lacks. after_batch: called with the number of tasks done.

    Raises: LostAnswer after `ATTEMPTS` lost answers on a batch, RunInUse, and what `client` raises. Started again it
    goes on.
    """
    placed = store.tasks(client.project)
    rest = [task for task in tasks if task.key not in placed]
    new = found = 0
    batches = [rest[begin : begin + client.batch_tasks] for begin in range(0, len(rest), client.batch_tasks)]
    for number, batch in enumerate(batches):
        for coming in batches[number : number + 2]:  # the next one is made ready while the server takes this one
            client.get_ready(coming)
        with store.turn():
            by_key = {task.key: task for task in batch}
            batch_new, batch_found = _send_batch(client, store, by_key, settle_s, pause_s)
        new, found = new + batch_new, found + batch_found
        after_batch(len(tasks) - len(rest) + number * client.batch_tasks + len(batch))
    return Sent(new, found, len(tasks) - new - found)


def _send_batch(
    client: AnnotationClient[TaskT],
    store: AnnotationStore,
    batch: Mapping[str, TaskT],
    settle_s: float,
    pause_s: float,
) -> tuple[int, int]:
    """(tasks sent, tasks found); only by who has the turn."""
    placed = store.tasks(client.project)
    left = {key: task for key, task in batch.items() if key not in placed}
    if not left:
        return 0, 0
    doubts = {key: at for key, at in store.in_doubt(client.project).items() if key in left}
    is_known = client.count() == len(placed) and not doubts
    store.remember(client.project, (sent_record(task) for task in left.values()))
    store.intend(client.project, left)
    until = max(doubts.values(), default=datetime.min.replace(tzinfo=UTC)) + timedelta(seconds=settle_s)
    found = {} if is_known else _find(client, list(left), list(doubts), until, pause_s)
    store.place(client.project, found.items())
    count, left = len(found), {key: task for key, task in left.items() if key not in found}
    new, lost = _push(client, store, left, settle_s, pause_s) if left else (0, False)
    if doubts or lost:
        client.find(list(batch))  # sees to it that each is there once
    return new, count


def _push(
    client: AnnotationClient[TaskT],
    store: AnnotationStore,
    left: Mapping[str, TaskT],
    settle_s: float,
    pause_s: float,
) -> tuple[int, bool]:
    """Sends `left` until the project has all: (how many, whether an answer was lost on the way)."""
    todo = dict(left)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            ids = client.push(list(todo.values()))
            store.place(client.project, zip(todo, ids, strict=True))
            return len(left), attempt > 1
        except LostAnswer as lost:
            time.sleep(pause_s * 2.0 ** (attempt - 1))
            until = datetime.now(UTC) + timedelta(seconds=0 if lost.over else settle_s)
            found = _find(client, list(todo), list(todo), until, pause_s)
            store.place(client.project, found.items())
            todo = {key: task for key, task in todo.items() if key not in found}
            if not todo:
                return len(left), True
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def _find(
    client: AnnotationClient[TaskT], keys: Sequence[str], doubtful: Sequence[str], until: datetime, pause_s: float
) -> dict[str, str]:
    """Which of `keys` the project has; asked again until it has all the doubtful ones, or the time is over."""
    while True:
        found = client.find(keys)
        if all(key in found for key in doubtful) or datetime.now(UTC) >= until:
            return found
        time.sleep(pause_s)


def collect(client: AnnotationClient[TaskT], store: AnnotationStore) -> Collected:
    """Pulls what is new or changed into the store, from where the last one stopped. Raises: what `client` raises."""
    new = rejects = read = 0
    more = True
    while more:
        page = client.pull(store.cursor(client.project))
        page_new, page_rejects = store.receive(client.project, page)
        new, rejects, read, more = new + page_new, rejects + page_rejects, read + page.tasks_read, page.more
    return Collected(new, rejects, read)
