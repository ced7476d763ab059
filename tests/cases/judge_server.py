"""A small chat-completions server on 127.0.0.1 that answers as a test tells it to: well, badly or not at all."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.cases.local_http import LocalHttp

MODEL = "tiny-vlm"
CHUNK = b" " * 65_536


@dataclass(frozen=True)
class Received:
    """One request as it came in. body: its JSON, empty for a GET."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the server sends. pad_bytes: spaces behind the body; stall: nothing more until the test ends;

    drip: the body byte by byte, 20 a second; close: hangs up before the first byte.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    pad_bytes: int = 0
    stall: bool = False
    drip: bool = False
    close: bool = False


Behaviour = Callable[[Received], Reply]


def completion(text: str | None, **more: Any) -> Reply:
    """A chat completion whose message is `text`; `more` replaces fields of the document."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": more.pop("finish", "stop"),
    }
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    document = {"object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage, **more}
    return Reply(body=json.dumps(document).encode())


def data_of(request: Received) -> dict[str, Any]:
    """The data block of a request, decoded."""
    text = request.body["messages"][1]["content"][0]["text"]
    found: dict[str, Any] = json.loads(text.removeprefix("<data>\n").removesuffix("\n</data>"))
    return found


def asks_for_regions(request: Received) -> bool:
    """Whether it is the call for the regions."""
    return "close-ups, one pair" in request.body["messages"][0]["content"]


def good_scores(request: Received) -> dict[str, dict[str, Any]]:
    """What a judge that follows the prompt answers."""
    if asks_for_regions(request):
        return {label: {"seen": "a", "success": 20, "preserve": 21} for label in data_of(request)["regions"]}
    names = ("background", "success", "overedit", "naturalness", "artifacts")
    return {"image": {"seen": "b", **{name: 15 + n for n, name in enumerate(names)}}}


def good(request: Received) -> Reply:
    """A whole answer."""
    return completion(json.dumps(good_scores(request)))


class JudgeServer(LocalHttp):
    """The server, as a context manager. behave: what it answers; may be changed while it runs."""

    def __init__(self, behave: Behaviour = good, models: tuple[str, ...] = (MODEL,)) -> None:
        self.behave, self.models = behave, models
        self.requests: list[Received] = []
        self.under_way = self.most_under_way = 0
        super().__init__(_handler(self))
        self.url = f"{self.address}/v1"


def _handler(server: JudgeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append(Received(self.path, dict(self.headers), {}))
            models = [{"id": name} for name in server.models]
            _send(self, server, Reply(body=json.dumps({"data": models}).encode()))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request = Received(self.path, dict(self.headers), body)
            with server.lock:
                server.requests.append(request)
                server.under_way += 1
                server.most_under_way = max(server.most_under_way, server.under_way)
            try:
                _send(self, server, server.behave(request))
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with server.lock:
                    server.under_way -= 1

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def _send(handler: BaseHTTPRequestHandler, server: JudgeServer, reply: Reply) -> None:
    handler.close_connection = True
    if reply.close:
        return
    if reply.stall:
        server.over.wait(30)
        return
    handler.send_response(reply.status)
    for name, value in reply.headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    if reply.drip:
        for byte in reply.body:
            handler.wfile.write(bytes([byte]))
            if server.over.wait(0.05):
                return
    handler.wfile.write(reply.body)
    for _ in range(reply.pad_bytes // len(CHUNK)):
        handler.wfile.write(CHUNK)
