"""A small Label Studio on 127.0.0.1, in memory: what the client asks of one, and every fault that a test gives it.

It stands in where a real one cannot be made to fail (`tests/integration/test_studio.py` talks to a real one).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from annotation.studio.interface import labels_config
from tests.cases.local_http import LocalHttp

TOKEN = "0123456789abcdef0123456789abcdef01234567"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Asked:
    """One request. body: its JSON."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any

    @property
    def is_import(self) -> bool:
        """Whether it sends tasks."""
        return self.path.endswith("/import")


@dataclass(frozen=True)
class Fault:
    """What is sent in the place of the answer. after: the request is done all the same, and its answer lost.

    close: hangs up without an answer; stall: says nothing until the test is over.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    close: bool = False
    stall: bool = False


Faults = Callable[[Asked], Fault | None]


class StudioServer(LocalHttp):
    """The server, as a context manager. faults: asked before every request; may be changed while it runs."""

    def __init__(self, config: str | None = None) -> None:
        self.config = labels_config() if config is None else config
        self.faults: Faults = lambda asked: None
        self.asked: list[Asked] = []
        self.tasks: dict[int, dict[str, Any]] = {}
        self.hooks: list[dict[str, Any]] = []
        self.delay_s = 0.0
        self._ticks = 0
        super().__init__(_handler(self))
        self.url = self.address

    def now(self) -> str:
        """A time that grows by a second with every change."""
        self._ticks += 1
        return (BEGAN + timedelta(seconds=self._ticks)).isoformat().replace("+00:00", ".000000Z")

    def add(self, data: dict[str, Any]) -> int:
        """A task, as if imported."""
        number = max(self.tasks, default=0) + 1
        at = self.now()
        self.tasks[number] = {"id": number, "data": data, "annotations": [], "created_at": at, "updated_at": at}
        return number

    def annotate(self, task: int, annotation: dict[str, Any]) -> None:
        """Puts an annotation in the place of one of its id, as if submitted now; its times are those of now."""
        at = self.now()
        found = self.tasks[task]
        others = [other for other in found["annotations"] if other["id"] != annotation["id"]]
        found["annotations"] = [*others, annotation | {"task": task, "updated_at": at, "created_at": at}]
        found["updated_at"] = at

    def delete(self, task: int, annotation: int) -> None:
        """Takes an annotation away."""
        found = self.tasks[task]
        found["annotations"] = [other for other in found["annotations"] if other["id"] != annotation]
        found["updated_at"] = self.now()

    def candidates(self) -> list[str]:
        """Of all tasks, in order."""
        return [task["data"]["candidate"] for task in self.tasks.values()]

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """(status, JSON)."""
        if asked.headers.get("Authorization") != f"Token {TOKEN}":
            return 401, {"detail": "Invalid token."}
        if asked.path == "/api/projects/1/":
            project = {"id": 1, "created_at": "2026-01-01T00:00:00Z", "organization": 1, "label_config": self.config}
            return 200, project | {"task_number": len(self.tasks)}
        if asked.path == "/api/organizations/1":
            return 200, {"id": 1, "created_at": "2025-01-01T00:00:00Z"}
        if asked.path == "/api/projects/1/import":
            return 201, {"task_ids": [self.add(task["data"]) for task in asked.body]}
        if asked.path == "/api/tasks/":
            return 200, self._listing(asked.query)
        if asked.path.startswith("/api/webhooks/"):
            return self._hook(asked)
        if asked.method == "DELETE":
            del self.tasks[int(asked.path.strip("/").split("/")[-1])]
            return 204, None
        return 404, {"detail": "Not found."}

    def _hook(self, asked: Asked) -> tuple[int, Any]:
        number = asked.path.removeprefix("/api/webhooks/").rstrip("/")
        if asked.method == "DELETE":
            self.hooks = [hook for hook in self.hooks if str(hook["id"]) != number]
            return 204, None
        if asked.method == "GET":
            return 200, self.hooks
        hook = asked.body | {"id": int(number or len(self.hooks) + 1)}
        self.hooks = [other for other in self.hooks if other["id"] != hook["id"]] + [hook]
        return 201, hook

    def _listing(self, query: dict[str, str]) -> dict[str, Any]:
        wanted = json.loads(query["query"])
        found = [_counted(task) for task in self.tasks.values()]
        items = wanted.get("filters", {}).get("items", [])
        if items:
            both = all if wanted["filters"]["conjunction"] == "and" else any
            found = [task for task in found if both(_passes(task, item) for item in items)]
        if "selectedItems" in wanted:
            found = [task for task in found if task["id"] in wanted["selectedItems"]["included"]]
        (order,) = wanted["ordering"]
        found.sort(key=lambda task: task[order.rpartition(":")[2]], reverse=order.startswith("-"))
        page = found[: int(query["page_size"])]
        whole = query["fields"] == "all"
        return {"total": len(found), "tasks": [task if whole else task | {"annotations": []} for task in page]}


def _counted(task: dict[str, Any]) -> dict[str, Any]:
    skipped = sum(bool(annotation.get("was_cancelled")) for annotation in task["annotations"])
    return task | {"cancelled_annotations": skipped, "total_annotations": len(task["annotations"]) - skipped}


def _passes(task: dict[str, Any], item: dict[str, Any]) -> bool:
    name, wanted = item["filter"].removeprefix("filter:tasks:"), item["value"]
    value = task["data"].get(name.removeprefix("data.")) if name.startswith("data.") else task[name]
    if "child_filter" in item and not _passes(task, item["child_filter"]):
        return False
    return {
        "equal": lambda: value == wanted,
        "greater": lambda: value > wanted,
        "greater_or_equal": lambda: value >= wanted,
        "less_or_equal": lambda: value <= wanted,
        "in": lambda: wanted["min"] <= value <= wanted["max"],
        "in_list": lambda: value in wanted,
    }[item["operator"]]()


def _handler(server: StudioServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            body = json.loads(content) if content else None
            asked = Asked(self.command, parts.path, query, dict(self.headers), body)
            with server.lock:
                server.asked.append(asked)
                fault = server.faults(asked)
                done = (0, None) if fault and not fault.after else server.answer(asked)
            server.over.wait(server.delay_s)
            if fault is None:
                self._send(done[0], b"" if done[1] is None else json.dumps(done[1]).encode(), {})
            elif fault.stall:
                server.over.wait(30)
                self.close_connection = True
            elif fault.close:
                self.close_connection = True
            else:
                self._send(fault.status, fault.body, fault.headers)

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.close_connection = True
            self.send_response(status)
            for name, value in (
                {"Content-Type": "application/json", "Content-Length": str(len(body))} | headers
            ).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = do_PATCH = _serve

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    return Handler
