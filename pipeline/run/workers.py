"""What does the work of a part: a thread of this process, a pool of local processes, or the Dask cluster at an address.

All three are a `concurrent.futures.Executor`, so nothing else knows which it is.
"""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any, cast

from runtime.child import end_with
from schemas.errors import BadInput, RegionwiseError


@contextmanager
def workers(count: int, dask_address: str | None = None) -> Iterator[Executor]:
    """An executor over `count` processes, or over the Dask cluster at `dask_address`.

    Where the block ends with an error (an interrupt, too), what no worker has begun is dropped.
    Raises: BadInput where no scheduler answers; RegionwiseError where a worker process was killed.
    """
    if dask_address:
        with _dask_workers(dask_address) as cluster:
            yield cluster
    elif count == 1:
        with _shut_down(ThreadPoolExecutor(1, initializer=use_one_thread)) as thread:
            yield thread
    else:
        pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_start_worker)
        try:
            with _shut_down(pool):
                _start_processes(pool, count)
                yield pool
        except BrokenProcessPool:
            raise _killed_worker("ended while it worked (out of memory, or killed)") from None


def at_once(executor: Executor, count: int) -> Callable[[], int]:
    """How many parts to have under way: two more than there are workers, so that none waits. A cluster's may change.

    count: of local workers.
    """
    client = getattr(executor, "_client", None)  # of Dask's executor
    return lambda: 2 + (sum(client.nthreads().values()) if client else count)


@contextmanager
def _shut_down(executor: Executor) -> Iterator[Executor]:
    """Waits for what workers have begun, never for what still queues: an interrupted build ends within a part."""
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _killed_worker(fault: str) -> RegionwiseError:
    return RegionwiseError("a worker process", fault, "start again: what is done is kept")


def use_one_thread() -> None:
    """One thread a worker, so that workers do not fight over cores and every run sums in the same order.

    The variables are for what is not loaded yet and for child processes: the BLAS of numpy read its own at import.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    import cv2
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    cv2.setNumThreads(1)
    threadpool_limits(1, user_api="blas")


def _start_processes(pool: ProcessPoolExecutor, count: int) -> None:
    """Starts a pool's processes with Ctrl-C blocked, which a terminal sends to them, too.

    They finish their part and their parent drops the rest. They inherit the blocked signal, so that it cannot reach
    them while they start either.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for _ in range(count):  # a pool starts one process for each unit that finds none idle
            pool.submit(os.getpid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    use_one_thread()
    parent = parent_process()
    if parent is not None and parent.pid is not None:
        end_with(parent.pid)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """A client of the Dask cluster at an address. Raises: BadInput where no scheduler answers."""
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
def _dask_workers(address: str) -> Iterator[Executor]:
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    with connected(address) as client:
        client.run(use_one_thread)
        try:
            yield cast(Executor, client.get_executor())
        except KilledWorker as error:
            raise _killed_worker(f"of {address} was lost again and again: {error}") from None
        except CommClosedError:
            raise RegionwiseError(f"Dask scheduler {address}", "went away", "start it and then this again") from None
