"""Pushes by several processes, and by processes that are killed, against a Label Studio in memory that is slow."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotation.exchange import send
from annotation.store import open_store, store_path
from annotation.studio.client import open_studio
from annotation.studio.http import StudioSettings
from annotation.studio.interface import labels_config
from tests.cases.studio_cases import studio_case
from tests.cases.studio_server import TOKEN, StudioServer

SPAWN = multiprocessing.get_context("spawn")
TASKS = [studio_case(number) for number in range(24)]


@pytest.fixture
def server() -> Iterator[StudioServer]:
    with StudioServer() as running:
        running.delay_s = 0.05
        yield running


def _push(url: str, folder: str, settle_s: float) -> None:
    os.environ["LABEL_STUDIO_API_KEY"] = TOKEN
    with open_store(store_path(Path(folder)), create=True) as store:
        client = open_studio(
            StudioSettings(url=url, project=1, batch_tasks=3), store, labels_config(), lambda image: "/"
        )
        send(client, store, TASKS, settle_s=settle_s, pause_s=0.05)


def _is_whole(server: StudioServer, folder: Path) -> None:
    """Every task is there once, and the ledger knows each."""
    assert sorted(server.candidates()) == sorted(task.candidate for task in TASKS)
    with open_store(store_path(folder)) as store:
        client = open_studio(StudioSettings(url=server.url, project=1), store, labels_config(), lambda image: "/")
        assert store.tasks(client.project) == {task["data"]["candidate"]: str(n) for n, task in server.tasks.items()}
        assert store.in_doubt(client.project) == {}


def test_two_pushes_at_once_make_no_task_twice(
    server: StudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    pushing = [SPAWN.Process(target=_push, args=(server.url, str(tmp_path), 5.0)) for _ in range(2)]
    for process in pushing:
        process.start()
    for process in pushing:
        process.join(120)
    assert [process.exitcode for process in pushing] == [0, 0]
    assert sum(asked.path == "/api/organizations/1" for asked in server.asked) == 2
    assert sum(asked.is_import for asked in server.asked) == 8
    _is_whole(server, tmp_path)


def test_a_push_that_is_killed_and_repeated_makes_no_task_twice(
    server: StudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    for at_least in (4, 13):
        process = SPAWN.Process(target=_push, args=(server.url, str(tmp_path), 1.0))
        process.start()
        until = time.monotonic() + 60
        while len(server.tasks) < at_least and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        assert at_least <= len(server.tasks) < 24
    _push(server.url, str(tmp_path), 1.0)
    _is_whole(server, tmp_path)
