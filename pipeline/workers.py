"""Who does a part's work: a thread of this process, a pool of local processes, or the Dask cluster at an address.

All three are a `concurrent.futures.Executor`, so nothing else knows which it is.
"""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import Any, cast

from schemas.errors import BadInput


@contextmanager
def workers(count: int, dask_address: str | None = None) -> Iterator[Executor]:
    """An executor over `count` processes, or over the Dask cluster at `dask_address`. Raises: BadInput."""
    if dask_address:
        with _dask_client(dask_address) as client:
            yield cast(Executor, client.get_executor())
    elif count == 1:
        with ThreadPoolExecutor(1, initializer=use_one_thread) as thread:
            yield thread
    else:
        with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
            yield pool


def use_one_thread() -> None:
    """One thread a worker, so that workers do not fight over cores and every run sums in the same order."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    import cv2

    cv2.setNumThreads(1)


def _start_worker() -> None:
    use_one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot end its workers; each ends itself."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _dask_client(address: str) -> Any:
    from distributed import Client

    try:
        client = Client(address, timeout=20)
    except (OSError, ValueError) as error:
        remedy = "start it, or leave --dask out"
        raise BadInput(f"Dask scheduler {address}", f"cannot be reached: {error}", remedy) from None
    client.run(use_one_thread)
    return client
