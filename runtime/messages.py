"""Messages between processes of one machine: a JSON document and arrays, in memory that both map. No pickle.

The sender writes a message into a file that only memory holds and hands its descriptor over a Unix socket; the receiver
maps it. Arrays are copied once, where they are written, and the memory goes with the last who maps it: nothing is left
behind by a process that was killed. `to_bytes` and `from_bytes` are the same message for those who share no memory.
"""

import errno
import json
import mmap
import os
import socket
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: Arrays begin at multiples of it, in bytes.
ALIGNMENT = 64
#: What an array may be of.
DTYPES = ("bool", "uint8", "float32")
_LENGTH_BYTES = 8
_SENT = b"m"


@dataclass(frozen=True)
class Message:
    """A JSON document and arrays; what was received is read-only."""

    document: dict[str, Any]
    arrays: tuple[Array, ...] = ()


def to_bytes(message: Message) -> bytes:
    """A message as one string of bytes."""
    buffer = bytearray(_size(message, head := _head(message)))
    _write(buffer, message, head)
    return bytes(buffer)


def from_bytes(data: "bytes | mmap.mmap") -> Message:
    """A message whose arrays lie in `data`. Raises: ValueError where it is none."""
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    head = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
    start = _aligned(_LENGTH_BYTES + length)
    arrays = []
    for dtype, shape in head["arrays"]:
        if dtype not in DTYPES:
            raise ValueError(f"an array of {dtype!r}")
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(data, dtype=dtype, count=count, offset=start).reshape(shape)
        array.flags.writeable = False
        arrays.append(array)
        start = _aligned(start + array.nbytes)
    return Message(head["document"], tuple(arrays))


def pack(message: Message) -> int:
    """The descriptor of a message in memory; whoever packed it closes it. Raises: OSError where there is no memory."""
    descriptor = _memory_file()
    try:
        head = _head(message)
        os.ftruncate(descriptor, size := _size(message, head))
        with mmap.mmap(descriptor, size) as memory:
            _write(memory, message, head)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def send_packed(connection: socket.socket, descriptor: int) -> None:
    """Hands a packed message over a Unix socket. Raises: OSError where the other side is gone."""
    socket.send_fds(connection, [_SENT], [descriptor])


def receive(connection: socket.socket) -> Message | None:
    """The next message, or None where the other side hung up. Raises: OSError."""
    data, descriptors, _, _ = socket.recv_fds(connection, len(_SENT), 1)
    if not data:
        return None
    if not descriptors:
        raise OSError(errno.EMFILE, "a message came without its descriptor: too many files are open")
    try:
        return from_bytes(mmap.mmap(descriptors[0], 0, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptors[0])


def _memory_file() -> int:
    """The descriptor of a file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("message", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _head(message: Message) -> bytes:
    arrays = [(str(array.dtype), array.shape) for array in message.arrays]
    if wrong := [dtype for dtype, _ in arrays if dtype not in DTYPES]:
        raise ValueError(f"an array of {wrong[0]!r}")
    return json.dumps({"document": message.document, "arrays": arrays}).encode()


def _size(message: Message, head: bytes) -> int:
    size = _aligned(_LENGTH_BYTES + len(head))
    for array in message.arrays:
        size = _aligned(size + array.nbytes)
    return size


def _write(buffer: "bytearray | mmap.mmap", message: Message, head: bytes) -> None:
    buffer[:_LENGTH_BYTES] = len(head).to_bytes(_LENGTH_BYTES, "little")
    buffer[_LENGTH_BYTES : _LENGTH_BYTES + len(head)] = head
    start = _aligned(_LENGTH_BYTES + len(head))
    for array in message.arrays:
        place = np.frombuffer(buffer, dtype=array.dtype, count=array.size, offset=start).reshape(array.shape)
        place[...] = array
        start = _aligned(start + array.nbytes)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
