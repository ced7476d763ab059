"""The folder that a training writes into: held by one process, and looked at before the work begins.

A training may take hours before it first writes, so that it cannot write is to be known at its start.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch import Tensor

from runtime.disk import MAKE_ROOM, keep_room, place_of
from runtime.locks import locked
from training.checkpoint import NO_ROOM, CheckpointFailed, NoRoomForCheckpoint, reported_as_failed

#: What else a training writes: settings, figures, some pictures.
MARGIN_BYTES = 4 << 20


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Holds a training's folder, so that no second training writes into it.

    Raises: RunInUse, naming the process that holds it; CheckpointFailed where it cannot be written.
    """
    with ExitStack() as stack:
        with reported_as_failed(out):
            stack.enter_context(locked(out))
        yield


def bytes_of(*groups: Mapping[str, Tensor]) -> int:
    """The bytes of all these tensors."""
    return sum(tensor.nbytes for tensors in groups for tensor in tensors.values())


def look_for_room(out: Path, n_bytes: int) -> None:
    """Looks whether `out`, which need not be there yet, takes `n_bytes` and `MARGIN_BYTES` more; nothing is left there.

    Raises: CheckpointFailed, naming what is in the way and what to do.
    """
    wanted = n_bytes + MARGIN_BYTES
    try:
        keep_room(place_of(out), wanted)
    except OSError as error:
        if error.errno not in NO_ROOM:
            remedy = "make it writable, or train into another folder"
            raise CheckpointFailed(str(out), f"cannot be written: {error.strerror or error}", remedy) from None
        fault = f"has no room for {-(-wanted >> 20)} MiB of checkpoints: {error.strerror}"
        raise NoRoomForCheckpoint(str(out), fault, MAKE_ROOM) from None
