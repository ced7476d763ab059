"""A relay before a real server: it counts requests, is slow, and loses answers."""

import time
from http.server import BaseHTTPRequestHandler

import httpx

from tests.cases.local_http import LocalHttp

PASSED_ON = ("Host", "Connection")


class Relay(LocalHttp):
    """Passes requests on to the server at `url`. lose: answers of the first imports that are lost.

    answered: requests that the server has answered; each answer is then held back for `delay_s`.
    """

    def __init__(self, url: str, *, lose: int = 0, delay_s: float = 0.0) -> None:
        self.left, self.delay_s, self.answered = lose, delay_s, 0
        super().__init__(_handler(self, url))
        self.url = self.address

    def loses(self, path: str) -> bool:
        """Whether the answer to a request of this path, which the server has done, is lost."""
        with self.lock:
            self.answered += 1
            is_lost = "/import" in path and self.left > 0
            self.left -= is_lost
        time.sleep(self.delay_s)
        return is_lost


def _handler(relay: Relay, url: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name not in PASSED_ON}
            answer = httpx.request(
                self.command, url + self.path, content=content, headers=headers, timeout=60, trust_env=False
            )
            self.close_connection = True
            if relay.loses(self.path):
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def handle(self) -> None:
            try:
                super().handle()
            except (BrokenPipeError, ConnectionResetError):
                return  # the client was killed

        do_GET = do_POST = do_PATCH = do_DELETE = _pass_on

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
