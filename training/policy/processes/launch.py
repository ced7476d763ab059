"""Trains on several processes of one machine: `python -m training.policy.processes.launch N --out FOLDER ...`.

The processes meet in a file and talk on loopback, by NCCL where there are GPUs, else by gloo. torchrun would do as
well, but its store listens on every address of the machine, whatever it is told.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from runtime.child import child_command
from runtime.exits import failed, leave
from runtime.processes import Process, end_at_once, running
from schemas.errors import BadInput, RegionwiseError

#: In the environment of each process: the file in which they meet.
STORE = "REGIONWISE_STORE"
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_LOOK_S = 0.2


def launch(n_processes: int, arguments: Sequence[str]) -> int:
    """Runs `n_processes` processes of one training to completion; if one fails, the others are killed.

    Returns: 0, or the exit code of the first that failed.
    """
    command = child_command("training.policy.processes.launch", "rank", *arguments)
    with TemporaryDirectory(prefix="regionwise-") as folder, ExitStack() as stack:
        store = Path(folder) / "store"
        processes = [
            stack.enter_context(running(command, rank_environment(rank, n_processes, store), end=end_at_once))
            for rank in range(n_processes)
        ]
        return _first_failure(processes)


def rank_environment(rank: int, n_processes: int, store: Path) -> dict[str, str]:
    """The environment of process `rank`: its rank, and loopback as the only network interface."""
    return {
        "OMP_NUM_THREADS": "1",  # else accelerate chooses a number over the config's `threads`
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(n_processes),
        "LOCAL_WORLD_SIZE": str(n_processes),
        "GLOO_SOCKET_IFNAME": LOOPBACK,
        "NCCL_SOCKET_IFNAME": LOOPBACK,
        STORE: str(store),
    }


def _first_failure(processes: Sequence[Process]) -> int:
    """Waits for all, or for the first that fails. A signal that ended it counts as 1."""
    while True:
        codes = [process.poll() for process in processes]
        failed = [code for code in codes if code]
        if failed:
            return failed[0] if failed[0] > 0 else 1
        if None not in codes:
            return 0
        time.sleep(_LOOK_S)


def train_rank(arguments: list[str]) -> int:
    """Entry point of one rank: joins the process group and trains. Returns: exit code."""
    import torch

    from training.policy.train import main as train

    rank, n_processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    gpus = torch.cuda.device_count()
    if gpus and n_processes > gpus:
        raise BadInput(f"{n_processes} processes", f"are more than there are GPUs ({gpus})", "ask for fewer")

    @contextmanager
    def joined(longest_wait: timedelta) -> Iterator[None]:
        store = torch.distributed.FileStore(os.environ[STORE], n_processes)  # type: ignore[attr-defined]
        backend = "nccl" if gpus else "gloo"
        torch.distributed.init_process_group(
            backend, timeout=longest_wait, store=store, rank=rank, world_size=n_processes
        )
        try:
            yield
        finally:
            torch.distributed.destroy_process_group()

    return train(arguments, joined)


def main(arguments: Sequence[str]) -> int:
    """The process. Returns: exit code."""
    first, rest = arguments[0], list(arguments[1:])
    try:
        return train_rank(rest) if first == "rank" else launch(int(first), rest)
    except (RegionwiseError, OSError) as error:
        return failed(error)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    leave(main(sys.argv[1:]))
