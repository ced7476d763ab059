"""A Python module in a process that ends with its parent: `python -m runtime.child PARENT_PID MODULE ARGUMENTS...`.

It runs as `python -m MODULE ARGUMENTS...` would. A parent that was killed cannot end its children, so each looks for
itself: where its parent is gone it asks itself to end (SIGTERM), and after `GRACE_S` it is gone, too.
"""

import gc
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable

from runtime.checkout import CHECKOUT

LOOK_S = 0.2
GRACE_S = 10.0
#: New objects between two collections. Importing torch and diffusers makes half a million that stay; at the usual 700
#: the collector takes a fifth of that time.
COLLECT_AFTER = 20_000


def end_with(parent_pid: int) -> None:
    """From now on this process ends where its parent does; for a process that is none's child already, at once."""

    def wait() -> None:
        while os.getppid() == parent_pid:
            time.sleep(LOOK_S)

    end_after(wait)


def end_after(wait: Callable[[], None]) -> None:
    """From now on this process ends once `wait`, called in a thread, comes back."""
    threading.Thread(target=_end, args=(wait,), name="end-with-parent", daemon=True).start()


def _end(wait: Callable[[], None]) -> None:
    wait()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def child_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module as a child of this process."""
    return [sys.executable, "-m", "runtime.child", str(os.getpid()), module, *arguments]


def child_environment() -> dict[str, str]:
    """This process's environment, in which a child finds the checkout's modules from whatever folder it runs in.

    So a child can run where its parent does, and a relative path means the same to both.
    """
    path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def main(arguments: list[str]) -> None:
    """Runs the module to its end."""
    parent_pid, module, *rest = arguments
    end_with(int(parent_pid))
    gc.set_threshold(COLLECT_AFTER)
    sys.argv = [module, *rest]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever was to read is gone, and what was made is there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would fail once more, at its end
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
