"""The annotation store under several processes at once, and under one that is killed."""

import multiprocessing
import os
import signal
import time
from itertools import count
from pathlib import Path

from annotation.store import open_store, store_path
from schemas.record import short_hash
from tests.cases.rater_cases import numbered

SPAWN = multiprocessing.get_context("spawn")


def _write(path: str, first: int, last: int) -> None:
    """Adds numbered annotations in batches of ten, naming each, into a store that may not be there yet."""
    for begin in range(first, last, 10):
        with open_store(Path(path), create=True) as store:
            store.intend("p", [str(number) for number in range(begin, begin + 10)])
            store.add([numbered(number) for number in range(begin, begin + 10)])
            store.take_snapshot(f"by-{os.getpid()}-{begin}")


def test_two_processes_write_at_once_and_nothing_is_lost_or_stored_twice(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    writers = [SPAWN.Process(target=_write, args=(str(path), *span)) for span in ((0, 120), (60, 180))]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    with open_store(path) as store:
        assert store.count() == 180
        assert store.count(0) == 0
        assert len(store.intend("p", [str(number) for number in range(200)])) == 20
        found = [row.scores.rater for n in range(7) for row in store.annotations(short_hash("candidate", n), 10**6)]
    assert sorted(found) == sorted(f"rater-{number}" for number in range(180))


def _write_for_ever(path: str) -> None:
    for begin in count(_count(Path(path)), 10):
        _write(path, begin, begin + 10)


def _count(path: Path) -> int:
    with open_store(path, create=True) as store:
        return store.count()


def test_a_killed_writer_leaves_whole_batches_and_the_next_goes_on(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    seen = [0]
    for pause_s in (0.0, 0.03):
        writer = SPAWN.Process(target=_write_for_ever, args=(str(path),))
        writer.start()
        while _count(path) <= seen[-1]:
            time.sleep(0.1)
        time.sleep(pause_s)
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        seen.append(_count(path))
    assert [number % 10 for number in seen] == [0, 0, 0]
    with open_store(path) as store:
        before = store.count()
        assert before == seen[-1] > seen[1] > 0
        assert store.add([numbered(n) for n in range(before + 5)]) == 5
