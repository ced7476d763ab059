"""A receiver of a labelling server's webhooks that does one thing: it wakes whoever polls.

Nothing of a call is believed or kept, for webhooks get lost and anybody may send them; what is new is asked for. A call
needs the secret in a header and says how long its body is; a long one is refused unread. By default on loopback alone.
"""

import hmac
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Event, Thread
from types import TracebackType
from typing import Any, Self

from schemas.errors import BadInput

SECRET_HEADER = "X-Regionwise-Secret"
MIN_SECRET_CHARS = 16
MAX_BODY_BYTES = 1024 * 1024
#: Longest wait for a caller that sends nothing more.
CALLER_TIMEOUT_S = 2.0
MAX_CALLERS = 16


class WebhookReceiver:
    """Listens in threads of its own while its block runs. url: where calls go."""

    def __init__(self, secret: str, host: str = "127.0.0.1", port: int = 0) -> None:
        """secret: what callers must know, of 16 characters or more. port: 0 for any free one. Raises: BadInput."""
        if len(secret) < MIN_SECRET_CHARS or not (secret.isascii() and secret.isprintable()):
            fault = f"is no secret of {MIN_SECRET_CHARS} printable characters or more"
            raise BadInput("webhook secret", fault, "make one with `openssl rand -hex 32`")
        self._woken, self._callers = Event(), BoundedSemaphore(MAX_CALLERS)
        try:
            self._server = _Server((host, port), _handler(secret, self._woken), self._callers)
        except OSError as error:
            fault = f"cannot be listened on ({error.strerror or error})"
            raise BadInput(f"{host}:{port}", fault, "give another address") from None
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), name="webhook", daemon=True)
        self.url = f"http://{host}:{self._server.server_port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, timeout_s: float) -> bool:
        """Waits for a call, at most `timeout_s`; whether there was one since the last wait."""
        called = self._woken.wait(timeout_s)
        self._woken.clear()
        return called


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], callers: BoundedSemaphore
    ) -> None:
        self._callers = callers
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Takes no more callers at once than it has threads for."""
        if not self._callers.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One caller, whose place is free again afterwards."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._callers.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is nobody's fault."""


def _handler(secret: str, woken: Event) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = CALLER_TIMEOUT_S

        def do_POST(self) -> None:
            given = self.headers.get(SECRET_HEADER, "")
            length = self.headers.get("Content-Length", "")
            if not hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode()):
                self._answer(401)
            elif not (length.isascii() and length.isdecimal()) or "Transfer-Encoding" in self.headers:
                self._answer(411)
            elif len(length) > 12 or int(length) > MAX_BODY_BYTES:
                self._answer(413)
            else:
                woken.set()
                self._answer(204)
                self._drain(int(length))

        def _answer(self, status: int) -> None:
            self.close_connection = True
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()

        def _drain(self, length: int) -> None:
            """Reads what was announced, so that the caller is not cut off before it has the answer."""
            self.connection.shutdown(socket.SHUT_WR)
            while length > 0 and (chunk := self.rfile.read1(min(length, 65_536))):
                length -= len(chunk)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
