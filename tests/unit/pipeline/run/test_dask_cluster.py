"""Work that an executor gave up is handed over again, a bounded number of times."""

from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.run.dask_cluster import Resubmitting


class GivenUp(Exception):
    """Its workers died."""


GONE = RuntimeError("went away")


class Dying(Executor):
    """Gives up what it gets `times` times, on a thread of its own as Dask's client does."""

    def __init__(self, times: int) -> None:
        self.times, self.thread, self.got = times, ThreadPoolExecutor(1), 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        self.got += 1
        return self.thread.submit(self._died) if self.got <= self.times else self.thread.submit(fn, *args, **kwargs)

    def _died(self) -> None:
        raise GivenUp


def test_given_up_work_is_handed_over_again() -> None:
    executor = Dying(3)
    assert Resubmitting(executor, GivenUp, GONE).submit(pow, 2, 5).result(5) == 32
    assert executor.got == 4
    executor.got = 0
    assert list(Resubmitting(executor, GivenUp, GONE).map(pow, [2, 3], [2, 2])) == [4, 9]


def test_an_end_is_put_to_it() -> None:
    executor = Dying(100)
    with pytest.raises(GivenUp):
        Resubmitting(executor, GivenUp, GONE, most=5).submit(pow, 2, 5).result(5)
    assert executor.got == 6


def test_a_fault_of_the_work_itself_is_not_tried_again() -> None:
    executor = Dying(0)
    with pytest.raises(ZeroDivisionError):
        Resubmitting(executor, GivenUp, GONE).submit(divmod, 1, 0).result(5)
    assert executor.got == 1


class Waiting(Executor):
    """Begins nothing."""

    def __init__(self) -> None:
        self.work: Future[Any] = Future()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        return self.work


def test_cancelled_work_is_cancelled_below() -> None:
    executor = Waiting()
    work = Resubmitting(executor, GivenUp, GONE).submit(pow, 2, 5)
    assert work.cancel()
    assert executor.work.cancelled()
    with pytest.raises(CancelledError):
        work.result(0)


def test_work_that_is_cancelled_below_says_why() -> None:
    executor = Waiting()
    work = Resubmitting(executor, GivenUp, GONE).submit(pow, 2, 5)
    executor.work.cancel()
    assert work.exception(0) is GONE
