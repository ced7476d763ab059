"""What does the work of a part: a thread of this process, a pool of local processes, or the Dask cluster at an address.

All three are a `concurrent.futures.Executor`, so nothing else knows which it is.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path

from pipeline.run.dask_cluster import Resubmitting, dask_workers
from pipeline.run.in_flight import work_of
from runtime.child import end_after
from schemas.errors import RegionwiseError

#: What a worker needs: the stages, and what pyarrow imports with the first table.
PRELOAD = ["pipeline.build", "pandas"]


@contextmanager
def workers(count: int, dask_address: str | None = None, run: Path | None = None) -> Iterator[Executor]:
    """An executor over `count` processes, or over the Dask cluster at `dask_address`.

    run: the folder that the work is on, to name what a process was at that was killed. Where the block ends with an
    error (an interrupt, too), what no worker has begun is dropped.
    Raises: BadInput where no scheduler answers; RegionwiseError where a worker process was killed.
    """
    if dask_address:
        with dask_workers(dask_address) as cluster:
            yield cluster
    elif count == 1:
        with _shut_down(ThreadPoolExecutor(1, initializer=use_one_thread)) as thread:
            yield thread
    else:
        processes: Mapping[int, BaseProcess] = {}
        try:
            pool = start_processes(count)
            processes = pool._processes  # kept here: the pool forgets which of them ended by themselves
            with _shut_down(pool):
                yield pool
        except KeyboardInterrupt:
            for process in processes.values():  # those of a second interrupt, which waits for nothing
                process.kill()
            raise
        except BrokenProcessPool:
            work = work_of(run, _lost(processes)) if run else ""
            fault = f"ended while it worked{f' on {work}' if work else ''} (out of memory, or killed)"
            raise RegionwiseError("a worker process", fault, "start again: what is done is kept") from None


def at_once(executor: Executor, count: int) -> Callable[[], int]:
    """How many parts to have under way: two more than there are workers, so that none waits. A cluster's may change.

    count: of local workers.
    """
    return lambda: 2 + (executor.threads() if isinstance(executor, Resubmitting) else count)


@contextmanager
def _shut_down(executor: Executor) -> Iterator[Executor]:
    """Waits for what workers have begun, never for what still queues: an interrupted build ends within a part, one that
    is interrupted again at once."""
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _lost(processes: Mapping[int, BaseProcess]) -> set[int]:
    """The pids of those that ended by themselves or were killed; the pool ends the others (SIGTERM)."""
    return {pid for pid, process in processes.items() if process.exitcode not in (None, 0, -signal.SIGTERM)}


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


def start_processes(count: int) -> ProcessPoolExecutor:
    """A pool whose processes have begun, forked from one that imported what they need: once, not `count` times.

    Ctrl-C, which a terminal sends to them, too, is blocked in all of them, so that it cannot reach them while they
    start either: they finish their part, and their parent drops the rest. All import from where this process does: a
    folder `pipeline` in the working directory is not taken for ours.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    resource_tracker.ensure_running()  # it lets Ctrl-C in where it starts
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        path = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
        with _added_environment({**path, "OPENBLAS_NUM_THREADS": "1"}):
            ensure_running()
        pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker)
        for _ in range(count):  # a pool starts one process for each unit that finds none idle
            pool.submit(os.getpid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pool


@contextmanager
def _added_environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update({name: before[name] for name in variables if name in before})


def _start_worker() -> None:
    use_one_thread()
    starter = parent_process()  # not the one that it is forked from
    if starter is not None:
        end_after(starter.join)
