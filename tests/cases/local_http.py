"""What the small servers of the tests share: a free port on 127.0.0.1, threads, and an end that nobody waits for."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self


class LocalHttp:
    """A server that runs while its block does. over: set at its end, for answers that stall; lock: of its records."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.over, self.lock = Event(), Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)
