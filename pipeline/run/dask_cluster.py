"""The Dask cluster at an address as an executor that outlives its workers.

What Dask does where a worker is lost, why that is not enough, and what is done here: docs/decisions/0015.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from functools import partial
from threading import local
from typing import Any, cast

from schemas.errors import BadInput, RegionwiseError

#: How often a unit is handed over again after Dask gave it up (each time it was on four workers that died): enough for
#: a part with dozens of requests that kill (`pipeline.run.in_flight`), and an end for what dies where nothing counts.
HANDED_OVER_MAX = 25
_GIVEN_UP = local()


@contextmanager
def dask_workers(address: str) -> Iterator[Executor]:
    """An executor over the cluster's workers, those that join later among them.

    Raises: BadInput where no scheduler answers, or a worker cannot be set up; RegionwiseError where the scheduler goes
    away, or work ends its workers again and again.
    """
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    with _silent_log(), connected(address) as client:
        _set_up_workers(client, address)
        gone = RegionwiseError(f"Dask scheduler {address}", "went away or was restarted", "start this again")
        try:
            executor = Resubmitting(cast(Executor, client.get_executor(pure=False)), KilledWorker, gone)
            executor.threads = lambda: sum(client.nthreads().values())
            yield executor
        except KilledWorker as error:
            fault, remedy = f"of {address} was lost again and again: {error}", "start again: what is done is kept"
            raise RegionwiseError("a worker process", fault, remedy) from None
        except CommClosedError:
            raise gone from None


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """A client of the cluster at an address. Raises: BadInput where no scheduler answers."""
    from distributed import Client

    client_of: Any = Client
    try:
        client = client_of(address, timeout=10)
    except (OSError, ValueError) as error:
        remedy = "start it, or leave --dask out"
        raise BadInput(f"Dask scheduler {address}", f"cannot be reached: {error}", remedy) from None
    with client:
        yield client


@contextmanager
def _silent_log() -> Iterator[None]:
    """Dask's client logs tracebacks of what becomes one line here."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _set_up_workers(client: Any, address: str) -> None:
    """Sets up the workers that are there, and leaves word at the scheduler for those that join or are restarted."""
    try:
        client.register_plugin(_one_thread_plugin(), name="regionwise-one-thread")
    except ImportError as error:
        fault, remedy = (
            f"has a worker that cannot be set up: {error}",
            "start workers in an environment as here",
        )
        raise BadInput(f"Dask cluster {address}", fault, remedy) from None


def _one_thread_plugin() -> Any:
    """What sets up a worker.

    Its class is made here so that it travels by value: a worker without this package logs that it has none, where one
    that cannot unpickle a plug-in does not start.
    """
    from distributed import WorkerPlugin

    class OneThread(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            from pipeline.run.workers import use_one_thread

            use_one_thread()

    return OneThread()


def give_thread_up() -> None:
    """Leaves a worker's thread to other tasks, once for this task and to its end; elsewhere than in a task nothing.

    For who waits for another task: taken back, the thread might be held by one that waits for this one.
    """
    distributed = sys.modules.get("distributed")
    if distributed is None or getattr(_GIVEN_UP, "yes", False):
        return
    with suppress(ValueError):  # in no task
        distributed.get_worker()
        distributed.secede()
        _GIVEN_UP.yes = True


class Resubmitting(Executor):
    """Hands work over again that its executor gave up, because workers died while it was there.

    Dask suspects all that a lost worker had, what only queued there too, and gives up what was on four of them. Here
    each unit knows by its marker on disk what it died of, so it is handed over again and decides.

    given_up: the error of such work. gone: the error of work that is cancelled by nobody here. most: times.
    threads: how many the cluster has at this moment.
    """

    threads: Callable[[], int] = staticmethod(lambda: 1)

    def __init__(
        self, executor: Executor, given_up: type[Exception], gone: Exception, most: int = HANDED_OVER_MAX
    ) -> None:
        self._executor, self._given_up, self._gone, self._most = executor, given_up, gone, most

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """As `Executor.submit`."""
        answer: Future[Any] = Future()
        self._hand_over(answer, partial(self._executor.submit, fn, *args, **kwargs), self._most)
        return answer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `Executor.shutdown`."""
        self._executor.shutdown(wait=wait)

    def _hand_over(self, answer: "Future[Any]", submit: Callable[[], "Future[Any]"], left: int) -> None:
        work = submit()
        answer.add_done_callback(lambda done: work.cancel() if done.cancelled() else None)
        work.add_done_callback(partial(self._ended, answer, submit, left))

    def _ended(
        self, answer: "Future[Any]", submit: Callable[[], "Future[Any]"], left: int, work: "Future[Any]"
    ) -> None:
        error = self._gone if work.cancelled() else work.exception()
        if left and isinstance(error, self._given_up) and not answer.cancelled():
            try:
                return self._hand_over(answer, submit, left - 1)
            except Exception as closed:  # nobody is above a callback: raised, it would leave who waits to wait for ever
                error = closed
        if answer.set_running_or_notify_cancel():  # False where it was cancelled here
            answer.set_exception(error) if error else answer.set_result(work.result())
