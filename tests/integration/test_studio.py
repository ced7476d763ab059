"""Sending to and collecting from a real Label Studio: what it keeps, what it loses, and what it lets pass."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from annotation.client import Task
from annotation.exchange import Collected, Sent, collect, send
from annotation.store import MAX_SEQ, AnnotationStore, open_store, store_path
from annotation.studio.brush_rle import decode_brush, encode_brush
from annotation.studio.client import StudioClient, open_studio
from annotation.studio.controls import read_controls
from annotation.studio.http import StudioSettings
from annotation.studio.interface import labels_config
from annotation.studio.server import Studio, personal_token, studio
from annotation.studio.tasks import studio_task
from annotation.studio.webhook import WebhookReceiver
from benchmarks.mask_cases import mask_case
from runtime.masks import rle_to_mask
from runtime.processes import free_port
from schemas.errors import BadInput
from tests.cases.relay import Relay
from tests.cases.studio_cases import box, brush, choice, ring, studio_case, whole_result

SPAWN = multiprocessing.get_context("spawn")
TASKS = [studio_case(number, extras=1) for number in range(40)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with studio(tmp_path_factory.mktemp("studio"), port=free_port()) as started:
        yield started


class Server:
    """A project of its own on the server, and what people do there."""

    def __init__(self, running: Studio) -> None:
        self.url = running.url
        self.http = httpx.Client(
            base_url=running.url, headers={"Authorization": f"Token {running.account.token}"}, timeout=60
        )
        self.project = self.ask("POST", "/api/projects/", {"title": "a test", "label_config": labels_config()})["id"]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.http.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def annotate(self, task: str, result: list[dict[str, Any]], **fields: Any) -> int:
        return int(self.ask("POST", f"/api/tasks/{task}/annotations/", {"result": result, **fields})["id"])

    def tasks(self) -> list[dict[str, Any]]:
        query = {"project": self.project, "page_size": 1000, "fields": "all"}
        return list(self.http.get("/api/tasks/", params=query).json()["tasks"])

    def candidates(self) -> list[str]:
        return sorted(task["data"]["candidate"] for task in self.tasks())

    def client(self, store: AnnotationStore, url: str | None = None, **changes: Any) -> StudioClient:
        settings = {"url": url or self.url, "project": self.project, "overlap_s": 0.0, "batch_tasks": 15} | changes
        return open_studio(StudioSettings.model_validate(settings), store, labels_config(), lambda image: "/e.png")


@pytest.fixture
def server(running: Studio, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", running.account.token)
    found = Server(running)
    yield found
    found.http.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnnotationStore]:
    with open_store(store_path(tmp_path), create=True) as found:
        yield found


def _states(store: AnnotationStore, task: Task) -> list[str]:
    return [found.state for found in store.annotations(task.candidate, MAX_SEQ)]


def test_tasks_arrive_once_whole_and_under_the_ids_of_the_ledger(server: Server, store: AnnotationStore) -> None:
    client = server.client(store)
    assert send(client, store, TASKS, settle_s=0) == Sent(new=40, found=0, known=0)
    placed = store.tasks(client.project)
    controls = read_controls(labels_config(), "labels.xml")
    there = server.tasks()
    assert {task["data"]["candidate"]: str(task["id"]) for task in there} == placed
    sent = {task.candidate: studio_task(task, "/e.png", "/e.png", controls) for task in TASKS}
    for task in there:
        wanted = sent[task["data"]["candidate"]]
        assert task["data"] == wanted["data"]
        assert task["predictions"][0]["result"] == wanted["predictions"][0]["result"]
    assert send(client, store, TASKS, settle_s=0) == Sent(new=0, found=0, known=40)
    assert client.find([task.candidate for task in TASKS]) == placed
    assert len(server.tasks()) == 40


def test_masks_of_all_shapes_come_back_bit_by_bit(server: Server, store: AnnotationStore) -> None:
    client = server.client(store)
    (task,) = TASKS[:1]
    send(client, store, [task], settle_s=0)
    number = store.tasks(client.project)[task.candidate]
    masks = [mask_case(case) for case in range(150)]
    result = [brush(f"m{case}", "new region", mask) for case, mask in enumerate(masks)]
    stored = server.ask("GET", f"/api/annotations/{server.annotate(number, result)}/")["result"]
    for mask, item in zip(masks, stored, strict=True):
        assert item["value"]["rle"] == encode_brush(mask)
        assert np.array_equal(decode_brush(item["value"]["rle"], *mask.shape), mask)


def test_what_annotators_do_is_collected_as_they_did_it_and_only_that_is_read(
    server: Server, store: AnnotationStore
) -> None:
    client = server.client(store)
    send(client, store, TASKS, settle_s=0)
    placed = [store.tasks(client.project)[task.candidate] for task in TASKS]
    edited = whole_result(TASKS[0], level=2)
    edited[5]["value"]["rle"] = encode_brush(ring())
    first = server.annotate(placed[0], edited, lead_time=7.25)
    server.annotate(placed[1], [choice("success", "1")], was_cancelled=True)
    server.annotate(placed[2], [choice("cannot_judge", "cannot judge")])
    assert collect(client, store) == Collected(annotations=3, rejects=0, tasks_read=3)
    (found,) = store.annotations(TASKS[0].candidate, MAX_SEQ)
    assert (found.scores.success, found.scores.regions[2].preserve, found.lead_time_s) == (13, 13, 7.25)
    assert [mask.region for mask in found.masks] == [region.mask.region for region in TASKS[0].regions]
    assert np.array_equal(rle_to_mask(found.masks[0].mask), ring())
    assert found.masks[1].mask == TASKS[0].regions[1].mask.mask
    assert [_states(store, task) for task in TASKS[:4]] == [["submitted"], ["skipped"], ["cannot_judge"], []]
    assert collect(client, store) == Collected(0, 0, 0)
    server.ask("PATCH", f"/api/annotations/{first}/", {"result": whole_result(TASKS[0], level=4)})
    second = server.annotate(placed[5], [choice("success", "3")])
    assert collect(client, store) == Collected(2, 0, 2)
    assert [one.scores.success for one in store.annotations(TASKS[0].candidate, MAX_SEQ)] == [13, 25]
    server.ask("DELETE", f"/api/annotations/{second}/")
    assert collect(client, store) == Collected(1, 0, 0)
    assert _states(store, TASKS[5]) == ["submitted", "deleted"]
    server.ask("DELETE", f"/api/tasks/{placed[0]}/")
    assert collect(client, store) == Collected(1, 0, 0)
    assert _states(store, TASKS[0]) == ["submitted", "submitted", "deleted"]
    assert collect(client, store) == Collected(0, 0, 0)


def test_annotations_deleted_by_the_data_manager_are_noticed(server: Server, store: AnnotationStore) -> None:
    client = server.client(store, overlap_s=60.0)
    send(client, store, TASKS, settle_s=0)
    placed = store.tasks(client.project)
    for task in TASKS[:3]:
        server.annotate(placed[task.candidate], [choice("success", "3")])
    assert collect(client, store).annotations == 3
    body = {"selectedItems": {"all": False, "included": [int(placed[task.candidate]) for task in TASKS[:2]]}}
    server.ask("POST", f"/api/dm/actions?id=delete_tasks_annotations&project={server.project}", body)
    assert collect(client, store) == Collected(2, 0, 0)
    assert [_states(store, task) for task in TASKS[:3]] == [["submitted", "deleted"]] * 2 + [["submitted"]]


def test_more_than_a_listing_is_collected_in_pages(server: Server, store: AnnotationStore) -> None:
    client = server.client(store, page_tasks=7, body_tasks=3)
    send(client, store, TASKS, settle_s=0)
    placed = store.tasks(client.project)
    for number, task in enumerate(TASKS[:20]):
        server.annotate(placed[task.candidate], [choice("success", "3")], was_cancelled=number % 4 == 0)
    assert collect(client, store) == Collected(20, 0, 20)
    assert [_states(store, task) for task in TASKS] == [
        (["skipped"] if number % 4 == 0 else ["submitted"]) if number < 20 else [] for number in range(40)
    ]


def test_what_the_server_lets_pass_is_left_out_with_its_reason(server: Server, store: AnnotationStore) -> None:
    client = server.client(store)
    send(client, store, TASKS, settle_s=0)
    placed = [store.tasks(client.project)[task.candidate] for task in TASKS]
    key, name = TASKS[2].regions[0].mask.region, "1 cup 0"
    cases: dict[int, tuple[list[dict[str, Any]], str]] = {
        0: ([choice("nosuch", "1")], "unknown_control"),
        1: ([box("b", name, 140, 0, 9, 9)], "bad_box"),
        2: ([brush(key, name, ring(31))], "wrong_size"),
        3: ([choice("success", "99")], "bad_value"),
        4: ([{**choice("success", "1"), "type": "rating", "value": {"rating": 99}}], "wrong_type"),
    }
    for number, (result, _) in cases.items():
        server.annotate(placed[number], result)
    server.annotate(placed[5], [choice("success", "1")])
    server.annotate(placed[5], [choice("success", "2")])
    server.annotate(placed[6], [choice("background", "1")])
    assert collect(client, store) == Collected(annotations=7, rejects=6, tasks_read=7)
    dropped = {drop.task: drop for drop in store.dropped(client.project)}
    assert {task: drop.reason for task, drop in dropped.items()} == {
        placed[number]: reason for number, (_, reason) in cases.items()
    }
    assert json.loads(dropped[placed[1]].received) == cases[1][0][0]
    assert [(one.task, one.reason) for one in store.rejects(client.project)] == [(placed[5], "second_by_rater")]
    (last,) = store.annotations(TASKS[6].candidate, MAX_SEQ)
    assert (last.scores.background, last.scores.success) == (6, None)


def test_personal_and_legacy_tokens_both_work_and_a_wrong_one_is_one_line(
    running: Studio, server: Server, store: AnnotationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = personal_token(running)
    assert token.count(".") == 2
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
    client = server.client(store)
    assert send(client, store, TASKS[:5], settle_s=0) == Sent(5, 0, 0)
    for wrong in ("f" * 40, token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")):
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", wrong)
        with pytest.raises(BadInput, match="refuses the token: HTTP 401") as caught:
            server.client(store)
        assert wrong not in str(caught.value)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", running.account.token)
    with pytest.raises(BadInput, match="has no project 99999 for this token"):
        server.client(store, project=99_999)


def test_an_interface_changed_by_hand_is_told_before_anything_is_sent(server: Server, store: AnnotationStore) -> None:
    client = server.client(store)
    changed = labels_config().replace('name="naturalness"', 'name="natural"')
    server.ask("PATCH", f"/api/projects/{server.project}/", {"label_config": changed})
    for act in (lambda: send(client, store, TASKS), lambda: collect(client, store)):
        with pytest.raises(BadInput, match="naturalness is missing; natural is not ours; put"):
            act()
    assert server.tasks() == []


def test_a_call_of_the_server_wakes_the_poller(server: Server, store: AnnotationStore) -> None:
    client = server.client(store)
    send(client, store, TASKS[:2], settle_s=0)
    with WebhookReceiver("a secret of the test's own") as receiver:
        with client.called_at(receiver.url, "a secret of a process that was killed"):
            with client.called_at(receiver.url, "a secret of the test's own"):
                assert len(server.ask("GET", f"/api/webhooks/?project={server.project}")) == 1
                assert not receiver.wait(0)
                server.annotate(store.tasks(client.project)[TASKS[0].candidate], [choice("success", "3")])
                assert receiver.wait(20)
                assert collect(client, store).annotations == 1
            assert server.ask("GET", f"/api/webhooks/?project={server.project}") == []


def test_lost_answers_make_no_second_tasks(server: Server, store: AnnotationStore) -> None:
    with Relay(server.url, lose=2) as relay:
        client = server.client(store, url=relay.url)
        assert send(client, store, TASKS, settle_s=5, pause_s=0.1) == Sent(40, 0, 0)
        assert relay.left == 0
    assert server.candidates() == sorted(task.candidate for task in TASKS)
    assert {task["data"]["candidate"]: str(task["id"]) for task in server.tasks()} == store.tasks(client.project)


def _push(url: str, project: int, token: str, folder: str) -> None:
    os.environ["LABEL_STUDIO_API_KEY"] = token
    with open_store(store_path(Path(folder)), create=True) as store:
        settings = StudioSettings(url=url, project=project, batch_tasks=5)
        client = open_studio(settings, store, labels_config(), lambda image: "/e.png")
        send(client, store, TASKS, settle_s=3, pause_s=0.2)


def test_a_push_that_is_killed_and_two_that_repeat_it_at_once_make_every_task_once(
    running: Studio, server: Server, tmp_path: Path
) -> None:
    arguments = (server.url, server.project, running.account.token, str(tmp_path))
    first = SPAWN.Process(target=_push, args=arguments)
    first.start()
    until = time.monotonic() + 60
    while not (there := len(server.tasks())) and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join()
    assert 0 < there < 40
    again = [SPAWN.Process(target=_push, args=arguments) for _ in range(2)]
    for process in again:
        process.start()
    for process in again:
        process.join(120)
    assert [process.exitcode for process in again] == [0, 0]
    assert server.candidates() == sorted(task.candidate for task in TASKS)
    with open_store(store_path(tmp_path)) as store:
        client = server.client(store)
        assert {task["data"]["candidate"]: str(task["id"]) for task in server.tasks()} == store.tasks(client.project)
        assert store.in_doubt(client.project) == {}
