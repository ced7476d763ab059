"""How a process ends: it says on one line of stderr what ended it, and gives its exit code."""

import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from runtime.disk import told
from schemas.errors import RegionwiseError

#: Begins the name of a daemon thread that may wait for good, and is left where it is when its process ends.
LEFT = "left "


def failed(error: RegionwiseError | OSError) -> int:
    """Says on one line what ended this process. Returns: its exit code."""
    said = told(error)
    print(f"regionwise: {said}", file=sys.stderr)
    return said.exit_code


def leave(code: int) -> NoReturn:
    """Ends this process with an exit code, even while threads that `LEFT` names are in the middle of a call.

    At its end Python stops them wherever they are; within C++ (torch) that aborts the process: SIGABRT, no code.
    """
    if not any(thread.name.startswith(LEFT) for thread in threading.enumerate()):
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
