"""Messages as a caller of a model process sends them."""

import os
import socket

from runtime.messages import Message, pack, send_packed


def send(connection: socket.socket, message: Message) -> None:
    """Packs a message and hands it over."""
    descriptor = pack(message)
    send_packed(connection, descriptor)
    os.close(descriptor)
