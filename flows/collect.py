"""`regionwise collect`: annotators' answers on a run's candidates, from Label Studio into the run's annotation store.

It may be stopped and started again at any time, and run beside another.
"""

import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from annotation.exchange import Collected, collect
from annotation.raters.routing import QueueName
from annotation.snapshots import check_snapshot_name
from annotation.store import open_store, store_path
from annotation.studio.http import StudioSettings
from annotation.studio.link import require_link
from annotation.studio.webhook import WebhookReceiver
from flows.facts import show_facts
from flows.studio_clients import open_clients
from runtime.processes import interrupt_on_sigterm
from schemas.errors import BadInput, RegionwiseError
from schemas.sample import ImageRef

#: Takes what a look at the server found.
Report = Callable[[Mapping[str, object]], None]


@dataclass(frozen=True)
class Watch:
    """How to wait for answers. every_s: between looks; webhook: host and port to be woken at, None for never."""

    every_s: float = 30.0
    webhook: tuple[str, int] | None = None
    looks: int | None = None


def webhook_address(text: str | None) -> tuple[str, int] | None:
    """HOST:PORT as a pair. Raises: BadInput."""
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise BadInput(f"--webhook {text[:80]!r}", "is no address", "write HOST:PORT, like 127.0.0.1:8090")
    return host, int(port)


def collect_run(run: Path, settings: StudioSettings, snapshot: str | None) -> dict[str, object]:
    """Reads what is new or changed in the run's projects into its store, and names a snapshot of it if asked.

    Raises: BadInput where nothing was pushed, or the snapshot's name is taken; RegionwiseError where the server does
    not answer.
    """
    started = time.monotonic()
    if snapshot is not None:
        check_snapshot_name(snapshot)
    link = require_link(run)
    with open_store(store_path(run)) as store, open_clients(link, settings, store, _no_image) as clients:
        found = {name: collect(client, store) for name, client in clients.items()}
        projects = [client.project for client in clients.values()]
        rejects = Counter(reject.reason for project in projects for reject in store.rejects(project))
        dropped = Counter(reject.reason for project in projects for reject in store.dropped(project))
        if snapshot is not None:
            store.take_snapshot(snapshot, "label-studio")
        total, rankings = store.count(), store.count_rankings()
    return {
        **_counts(found),
        "rejected": dict(sorted(rejects.items())),
        "dropped_items": dict(sorted(dropped.items())),
        "annotations": total,
        "rankings": rankings,
        "snapshot": snapshot or "",
        "seconds": round(time.monotonic() - started, 2),
    }


def _counts(found: Mapping[QueueName, Collected]) -> dict[str, object]:
    return {
        "new": sum(one.annotations for one in found.values()),
        "new_rejects": sum(one.rejects for one in found.values()),
        "tasks_read": sum(one.tasks_read for one in found.values()),
    }


def _no_image(_ref: ImageRef) -> str:
    raise AssertionError("a collect sends no task")


def collect_and_show(run: Path, settings: StudioSettings, snapshot: str | None, as_json: bool) -> None:
    """`collect_run`, and what it did for a person or a program."""
    show_facts(collect_run(run, settings, snapshot), as_json)


def watch_and_show(run: Path, settings: StudioSettings, watch: Watch, snapshot: str | None, as_json: bool) -> None:
    """`watch_run`, printing every look that found something. Raises: BadInput, also where a snapshot is asked for."""
    if snapshot is not None:
        raise BadInput("--watch", "goes on, and a snapshot has an end", "take it with a `collect` of its own")

    def report(facts: Mapping[str, object]) -> None:
        if as_json:
            print(json.dumps(facts), flush=True)
        elif "error" in facts:
            print(f"regionwise: {facts['error']}", file=sys.stderr, flush=True)
        elif facts["new"] or facts["new_rejects"]:
            print(f"{facts['new']} new, {facts['new_rejects']} rejected, {facts['annotations']} in all", flush=True)

    with interrupt_on_sigterm():  # so that the server is told to call here no more
        watch_run(run, settings, watch, report)


def watch_run(
    run: Path, settings: StudioSettings, watch: Watch, report: Callable[[Mapping[str, object]], None]
) -> None:
    """Collects again and again until interrupted; a server that does not answer is reported and asked again.

    report: called with the facts of every look, or with its `error`. With a webhook the server calls this machine when
    something changes, until this ends; polling stays, for calls get lost.
    """
    link = require_link(run)
    with ExitStack() as stack:
        receiver = None
        if watch.webhook is not None:
            secret = secrets.token_hex(16)
            receiver = stack.enter_context(WebhookReceiver(secret, *watch.webhook))
            store = stack.enter_context(open_store(store_path(run)))
            for client in stack.enter_context(open_clients(link, settings, store, _no_image)).values():
                stack.enter_context(client.called_at(receiver.url, secret))
        looks = 0
        while watch.looks is None or looks < watch.looks:
            looks += 1
            try:
                report(collect_run(run, settings, None))
            except BadInput:
                raise
            except RegionwiseError as error:
                report({"error": str(error)})
            if watch.looks is None or looks < watch.looks:
                _wait(receiver, watch.every_s)


def _wait(receiver: WebhookReceiver | None, every_s: float) -> None:
    if receiver is None:
        time.sleep(every_s)
    else:
        receiver.wait(every_s)
