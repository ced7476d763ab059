"""Sending to and collecting from a Label Studio that fails in all ways: nothing lost, nothing twice, no token shown."""

import base64
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from annotation.client import LostAnswer, Page, RejectedAnnotation
from annotation.exchange import Collected, Sent, collect, send
from annotation.raters.consensus import current
from annotation.store import MAX_SEQ, AnnotationStore, open_store, store_path
from annotation.studio.client import StudioClient, open_studio
from annotation.studio.http import StudioSettings
from annotation.studio.interface import labels_config
from schemas.errors import BadInput, RegionwiseError, RunInUse
from schemas.sample import ImageRef
from tests.cases.studio_cases import box, choice, received, studio_case, whole_result
from tests.cases.studio_server import TOKEN, Asked, Fault, StudioServer

HTML = b"<!doctype html><html><body>Gateway</body></html>"
FAST = {"read_timeout_s": 1.0, "connect_timeout_s": 1.0, "total_timeout_s": 5.0, "attempts": 2, "backoff_s": 0.01}
#: Where a server that says nothing is waited for.
QUICK = {"read_timeout_s": 0.2}
TASKS = [studio_case(number) for number in range(25)]


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The token is set, and in no log of any test, however much is logged."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    caplog.set_level(logging.DEBUG)
    yield
    assert TOKEN not in caplog.text


@pytest.fixture
def server() -> Iterator[StudioServer]:
    with StudioServer() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnnotationStore]:
    with open_store(store_path(tmp_path), create=True) as found:
        yield found


def _url(image: ImageRef) -> str:
    return f"/{image.sha256}.png"


def _client(server: StudioServer, store: AnnotationStore, **changes: Any) -> StudioClient:
    settings = {"url": server.url, "project": 1, "batch_tasks": 10, "overlap_s": 0.0} | FAST | changes
    return open_studio(StudioSettings.model_validate(settings), store, labels_config(), _url)


def _send(client: StudioClient, store: AnnotationStore, settle_s: float = 0.1) -> Sent:
    return send(client, store, TASKS, settle_s=settle_s, pause_s=0.01)


def _first(wanted: Callable[[Asked], bool], fault: Fault) -> Callable[[Asked], Fault | None]:
    """The fault for the first request that is wanted, and none after it."""
    left = [fault]
    return lambda asked: left.pop() if left and wanted(asked) else None


def _is_import(asked: Asked) -> bool:
    return asked.is_import


# sending


def test_every_task_is_sent_once_with_its_prediction(server: StudioServer, store: AnnotationStore) -> None:
    client = _client(server, store)
    assert _send(client, store) == Sent(new=25, found=0, known=0)
    assert server.candidates() == [task.candidate for task in TASKS]
    assert store.tasks(client.project) == {task.candidate: str(n) for n, task in enumerate(TASKS, 1)}
    imports = [asked.body for asked in server.asked if asked.is_import]
    assert [len(body) for body in imports] == [10, 10, 5]
    assert len(imports[0][0]["predictions"][0]["result"]) == 2
    before = len(server.asked)
    assert _send(client, store) == Sent(new=0, found=0, known=25)
    assert len(server.asked) == before


def test_a_new_store_finds_what_the_project_has(server: StudioServer, tmp_path: Path) -> None:
    for name, wanted in (("a", Sent(25, 0, 0)), ("b", Sent(0, 25, 0))):
        (tmp_path / name).mkdir()
        with open_store(store_path(tmp_path / name), create=True) as store:
            client = _client(server, store)
            assert _send(client, store) == wanted
            assert len(store.tasks(client.project)) == 25
    assert len(server.tasks) == 25


LOST = {
    "hung up": Fault(close=True, after=True),
    "timed out": Fault(stall=True, after=True),
    "500": Fault(500, HTML, after=True),
    "502": Fault(502, HTML, after=True),
    "HTML": Fault(200, HTML, {"Content-Type": "text/html"}, after=True),
    "no ids": Fault(201, b"{}", after=True),
    "half a JSON": Fault(201, b'{"task_ids": [1, 2', after=True),
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
def test_after_a_lost_answer_the_project_is_asked_before_anything_is_sent_again(
    server: StudioServer, store: AnnotationStore, fault: Fault, taken: bool
) -> None:
    client = _client(server, store, **(QUICK if fault.stall else {}))
    fault = Fault(**{**fault.__dict__, "after": taken})
    server.faults = _first(_is_import, fault)
    assert _send(client, store) == Sent(new=25, found=0, known=0)
    assert server.candidates() == [task.candidate for task in TASKS]
    assert store.tasks(client.project) == {task["data"]["candidate"]: str(n) for n, task in server.tasks.items()}
    imports = [number for number, asked in enumerate(server.asked) if asked.is_import]
    assert len(imports) == (3 if taken else 4)
    assert "/api/tasks/" in [asked.path for asked in server.asked[imports[0] + 1 : imports[1]]]


def test_a_server_that_stays_silent_is_one_error_and_the_next_push_goes_on(
    server: StudioServer, store: AnnotationStore
) -> None:
    client = _client(server, store)
    imports: list[Asked] = []

    def fails_from_the_second_on(asked: Asked) -> Fault | None:
        if not asked.is_import:
            return None
        imports.append(asked)
        return None if len(imports) == 1 else Fault(500, HTML)

    server.faults = fails_from_the_second_on
    with pytest.raises(LostAnswer, match=r"answers HTTP 500; look into its log"):
        _send(client, store, settle_s=0.05)
    assert (len(server.tasks), len(imports)) == (10, 6)
    assert len(store.in_doubt(client.project)) == 10
    server.faults = lambda asked: None
    assert _send(client, store, settle_s=0.05) == Sent(new=15, found=0, known=10)
    assert sorted(server.candidates()) == sorted(task.candidate for task in TASKS)


def test_an_import_that_is_still_under_way_is_waited_for(server: StudioServer, store: AnnotationStore) -> None:
    client = _client(server, store)
    store.intend(client.project, [task.candidate for task in TASKS[:10]])
    listings: list[Asked] = []

    def late(asked: Asked) -> Fault | None:
        if asked.path == "/api/tasks/":
            listings.append(asked)
        if len(listings) == 5 and not server.tasks:
            for task in TASKS[:10]:
                server.add({"candidate": task.candidate})
        return None

    server.faults = late
    assert _send(client, store, settle_s=20) == Sent(new=15, found=10, known=0)
    assert sorted(server.candidates()) == sorted(task.candidate for task in TASKS)
    assert len(listings) == 6  # the sixth sees to it that none is there twice; nobody asks on until `settle_s` is over


def test_a_second_task_of_a_candidate_on_which_nobody_worked_is_taken_away(
    server: StudioServer, store: AnnotationStore
) -> None:
    client = _client(server, store)
    for copies in (1, 2, 3):
        for _ in range(copies):
            server.add({"candidate": TASKS[copies].candidate})
    worked_on = [number for number, task in server.tasks.items() if task["data"]["candidate"] == TASKS[3].candidate][-1]
    server.annotate(worked_on, received([choice("success", "1")]))
    assert set(client.find([task.candidate for task in TASKS])) == {task.candidate for task in TASKS[1:4]}
    assert server.candidates() == [TASKS[1].candidate, TASKS[2].candidate, TASKS[3].candidate, TASKS[3].candidate]
    assert worked_on in server.tasks


def test_who_waits_too_long_for_the_turn_is_told_so(server: StudioServer, store: AnnotationStore) -> None:
    path = store._path
    with open_store(path) as other, other.turn(), pytest.raises(RunInUse, match="is sent from by another process"):
        with store.turn(timeout_s=0.05):
            pass
    with store.turn(timeout_s=0.05):
        pass


def test_a_task_that_does_not_fit_stops_the_push_before_its_batch(server: StudioServer, store: AnnotationStore) -> None:
    client = _client(server, store)
    bad = TASKS[3].model_copy(update={"size_hw": None})
    with pytest.raises(BadInput, match="does not say how large"):
        send(client, store, [*TASKS[:3], bad], settle_s=0)
    assert server.tasks == {}
    with pytest.raises(BadInput, match=r"^25 tasks: are [\d,]+ bytes in one import, 2,048 fit; lower batch_tasks"):
        send(_client(server, store, max_sent_bytes=2048, batch_tasks=25), store, TASKS, settle_s=0)


# what goes wrong on the way


def _jwt(expires: float) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, {"token_type": "refresh", "exp": int(expires)})
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".c2ln"
    )


FAULTS = {
    "500": (Fault(500, HTML), RegionwiseError, "answers HTTP 500 (2 attempts)"),
    "429": (Fault(429, b"{}"), RegionwiseError, "answers HTTP 429 (2 attempts)"),
    "HTML": (Fault(200, HTML, {"Content-Type": "text/html; x"}), RegionwiseError, "that is no JSON (text/html)"),
    "cut JSON": (Fault(200, b'{"id": '), RegionwiseError, "that is no JSON (application/json)"),
    "deep JSON": (Fault(200, b"[" * 100_000), RegionwiseError, "that is no JSON"),
    "other JSON": (Fault(200, b"[1]"), RegionwiseError, "answers /api/projects/1/ with something else"),
    "slow": (Fault(stall=True), RegionwiseError, "gave no answer within 0.2 s (2 attempts)"),
    "hangs up": (Fault(close=True), RegionwiseError, "broke off the connection"),
    "too long": (Fault(200, b" " * 2_000_000), RegionwiseError, "answers with more than 1,000,000 bytes"),
    "compressed": (Fault(200, b"x", {"Content-Encoding": "gzip"}), RegionwiseError, "compressed, though asked not"),
    "redirect": (
        Fault(302, b"", {"Location": "http://127.0.0.1:9/"}),
        RegionwiseError,
        "redirects elsewhere (HTTP 302)",
    ),
    "401": (
        Fault(401, json.dumps({"detail": f"no {TOKEN}"}).encode()),
        BadInput,
        "refuses the token: HTTP 401: no ***",
    ),
    "403": (Fault(403, b"{}"), BadInput, "does not allow it: HTTP 403"),
    "404": (Fault(404, HTML), BadInput, "has no project 1 for this token"),
    "400": (Fault(400, b'{"detail": "bad\\nquery"}'), BadInput, "refuses what was sent: HTTP 400: bad query"),
}


@pytest.mark.parametrize(("fault", "kind", "said"), FAULTS.values(), ids=FAULTS)
def test_what_a_server_does_wrong_is_one_line_that_names_it(
    server: StudioServer, store: AnnotationStore, fault: Fault, kind: type[RegionwiseError], said: str
) -> None:
    server.faults = lambda asked: fault
    with pytest.raises(RegionwiseError) as caught:
        _client(server, store, max_answer_bytes=1_000_000, **(QUICK if fault.stall else {}))
    assert type(caught.value) is kind
    assert said in caught.value.fault
    assert caught.value.thing == f"Label Studio {server.url}"
    assert TOKEN not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("fault", [Fault(500, HTML), Fault(close=True), Fault(503), Fault(429)])
def test_a_fault_that_goes_by_is_not_noticed(server: StudioServer, store: AnnotationStore, fault: Fault) -> None:
    server.faults = _first(lambda asked: asked.path == "/api/tasks/", fault)
    client = _client(server, store)
    assert _send(client, store) == Sent(25, 0, 0)
    server.faults = _first(lambda asked: asked.path == "/api/tasks/", fault)
    assert collect(client, store) == Collected(0, 0, 0)


def test_a_server_that_is_down_is_one_line(store: AnnotationStore) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        settings = StudioSettings.model_validate({"url": url, "project": 1} | FAST)
        with pytest.raises(RegionwiseError, match=r"cannot be reached \(2 attempts\); start it, or give its URL"):
            open_studio(settings, store, labels_config(), _url)


def test_a_wrong_token_is_one_line_without_it(
    server: StudioServer, store: AnnotationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "f" * 40
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", wrong)
    with pytest.raises(
        BadInput, match=r"refuses the token: HTTP 401: Invalid token\.; put a valid token into LABEL"
    ) as it:
        _client(server, store)
    assert wrong not in str(it.value)
    assert sum(asked.path == "/api/projects/1/" for asked in server.asked) == 1


def test_an_expired_personal_token_is_told_before_anything_is_asked(
    server: StudioServer, store: AnnotationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = _jwt(time.time() - 60)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
    with pytest.raises(BadInput, match="holds a personal access token that has expired; put a new token") as caught:
        _client(server, store)
    assert token not in str(caught.value)
    assert server.asked == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            Fault(401, json.dumps({"detail": f"blacklisted {_jwt(5e9)}"}).encode()),
            "refuses the token: HTTP 401: blackl",
        ),
        (Fault(500, b'{"detail": "oh"}'), "answers HTTP 500"),
        (Fault(500, HTML), "answers the exchange of the token with something that is no JSON"),
        (Fault(200, HTML), "answers the exchange of the token with something that is no JSON"),
        (Fault(200, b"{}"), "answers the exchange of the token with something that is no JSON"),
        (Fault(stall=True), "gave no answer within 0.2 s"),
    ],
)
def test_a_personal_token_that_cannot_be_exchanged_is_one_line(
    server: StudioServer, store: AnnotationStore, monkeypatch: pytest.MonkeyPatch, fault: Fault, said: str
) -> None:
    token = _jwt(time.time() + 3600)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
    server.faults = lambda asked: fault if asked.path == "/api/token/refresh/" else None
    with pytest.raises(RegionwiseError) as caught:
        _client(server, store, **(QUICK if fault.stall else {}))
    assert said in caught.value.fault
    assert "eyJ" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "variable", "said"),
    [
        ({"url": "ftp://x"}, TOKEN, "its URL is no http"),
        ({"url": "http://[::1"}, TOKEN, "its URL is no http"),
        ({"url": "https://me:pass@x"}, TOKEN, "has a user or query in its URL"),
        ({"url": "http://studio.example"}, TOKEN, "would be sent the token unencrypted; use https"),
        ({}, "", "is not set"),
        ({}, "two words", "holds characters that no token has"),
        ({}, "tök", "holds characters that no token has"),
    ],
)
def test_bad_settings_are_one_line(
    server: StudioServer, store: AnnotationStore, monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any], variable: str, said: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", variable)
    with pytest.raises(BadInput) as caught:
        _client(server, store, **changes)
    assert said in str(caught.value)
    assert "pass" not in str(caught.value)


def test_an_interface_changed_by_hand_stops_push_and_collect_and_names_what_changed(
    server: StudioServer, store: AnnotationStore
) -> None:
    client = _client(server, store)
    server.config = (
        labels_config().replace('name="overedit"', 'name="over"').replace('value="4" hotkey="5"', 'value="5"')
    )
    said = (
        "has another labelling interface: overedit is missing; over is not ours; region_success has other values (4, 5)"
    )
    for act in (lambda: _send(client, store, 0), lambda: collect(client, store), lambda: _client(server, store)):
        with pytest.raises(BadInput) as caught:
            act()
        assert caught.value.fault == said
    assert server.tasks == {}
    server.config = labels_config()
    assert _send(client, store, 0) == Sent(25, 0, 0)


# collecting


@contextmanager
def _counted(server: StudioServer) -> Iterator[list[list[int]]]:
    """The tasks that are read with their answers meanwhile, request by request."""
    before, read = len(server.asked), list[list[int]]()
    yield read
    for asked in server.asked[before:]:
        if asked.query.get("fields") == "all":
            read.append(json.loads(asked.query["query"])["selectedItems"]["included"])


def _states(store: AnnotationStore, candidate: str) -> list[tuple[str, int | None]]:
    return [(found.state, found.scores.success) for found in store.annotations(candidate, MAX_SEQ)]


def test_only_what_is_new_or_changed_is_read(server: StudioServer, store: AnnotationStore) -> None:
    client = _client(server, store)
    _send(client, store)
    for number in (3, 4, 20):
        server.annotate(number, received(whole_result(TASKS[number - 1]), id=number))
    with _counted(server) as read:
        assert collect(client, store) == Collected(3, 0, 3)
    assert read == [[3, 4, 20]]
    with _counted(server) as read:
        assert collect(client, store) == Collected(0, 0, 0)
    assert read == []
    server.annotate(4, received([choice("success", "0")], id=4))
    server.annotate(9, received([choice("success", "2")], id=5, was_cancelled=True))
    with _counted(server) as read:
        assert collect(client, store) == Collected(2, 0, 2)
    assert read == [[4, 9]]
    assert _states(store, TASKS[3].candidate) == [("submitted", 19), ("submitted", 0)]
    assert _states(store, TASKS[8].candidate) == [("skipped", 13)]


@pytest.mark.parametrize("page_tasks", [2, 5, 100])
def test_in_pages_and_with_a_crash_after_every_one_all_is_read_and_nothing_twice(
    server: StudioServer, tmp_path: Path, page_tasks: int
) -> None:
    path = store_path(tmp_path)
    with open_store(path, create=True) as store:
        _send(_client(server, store), store)
    for number in range(1, 24):
        skipped = number % 3 == 0
        server.annotate(number, received([choice("success", "1")], id=number, was_cancelled=skipped))
    pages, more = 0, True
    while more:
        with open_store(path) as store:
            client = _client(server, store, page_tasks=page_tasks, body_tasks=3)
            client.pull(store.cursor(client.project))  # answers that are lost
            page = client.pull(store.cursor(client.project))
            store.receive(client.project, page)
            more, pages = page.more, pages + 1
        if pages == 2:
            server.annotate(1, received([choice("success", "4")], id=1))
            server.annotate(25, received([choice("success", "4")], id=25))
    with open_store(path) as store:
        client = _client(server, store, page_tasks=page_tasks)
        collect(client, store)
        found = [_states(store, task.candidate) for task in TASKS]
        late = [] if pages == 1 else [("submitted", 25)]
        assert found[0] == [("submitted", 6), *late]
        assert found[24] == late
        assert found[1:23] == [[("skipped" if number % 3 == 0 else "submitted", 6)] for number in range(2, 24)]
        assert store.rejects(client.project) == []
    assert (pages > 1) == (page_tasks < 25)


@pytest.mark.parametrize("page_tasks", [2, 100])
def test_deleted_annotations_and_tasks_are_noticed_and_kept_as_deleted(
    server: StudioServer, store: AnnotationStore, page_tasks: int
) -> None:
    client = _client(server, store, page_tasks=page_tasks)
    _send(client, store)
    for number in (1, 2, 3, 4, 5):
        server.annotate(number, received([choice("success", "1")], id=number))
        server.annotate(number, received([choice("success", "3")], id=number + 100, completed_by=6))
    assert collect(client, store).annotations == 10
    server.delete(1, 1)
    for annotation in (2, 102):
        server.delete(2, annotation)
    del server.tasks[3]
    assert collect(client, store).annotations == 5
    assert _states(store, TASKS[0].candidate) == [("submitted", 6), ("submitted", 19), ("deleted", 6)]
    assert _states(store, TASKS[1].candidate)[2:] == [("deleted", 6), ("deleted", 19)]
    assert _states(store, TASKS[2].candidate)[2:] == [("deleted", 6), ("deleted", 19)]
    assert collect(client, store) == Collected(0, 0, 0)
    server.annotate(2, received([choice("success", "4")], id=200))
    assert collect(client, store) == Collected(1, 0, 1)


def test_a_change_that_turns_up_late_is_still_seen_and_nothing_is_read_again_for_it(
    server: StudioServer, store: AnnotationStore
) -> None:
    client = _client(server, store, overlap_s=60)
    _send(client, store)
    early = server.now()
    server.annotate(2, received([choice("success", "1")], id=2))
    assert collect(client, store) == Collected(1, 0, 1)
    server.tasks[1]["annotations"] = [received([choice("success", "4")], id=1, task=1, updated_at=early)]
    server.tasks[1]["updated_at"] = early
    with _counted(server) as read:
        assert collect(client, store) == Collected(1, 0, 1)
    assert read == [[1]]


def test_a_pass_over_more_than_a_listing_misses_nothing_that_changes_meanwhile(
    server: StudioServer, store: AnnotationStore
) -> None:
    client = _client(server, store, page_tasks=3, body_tasks=2)
    _send(client, store)
    for number in range(1, 21):
        server.annotate(number, received([choice("success", "1")], id=number))
    changed = iter((1, 9, 17))

    def changes(asked: Asked) -> None:
        if asked.query.get("fields") == "all" and (number := next(changed, None)):
            server.annotate(number, received([choice("success", "4")], id=number))

    server.faults = changes
    collect(client, store)
    server.faults = lambda asked: None
    collect(client, store)
    for number, task in enumerate(TASKS[:20], 1):
        assert _states(store, task.candidate)[-1] == ("submitted", 25 if number in (1, 9, 17) else 6), number


def test_what_cannot_be_used_is_a_reject_with_task_and_reason_and_nothing_of_it_is_lost(
    server: StudioServer, store: AnnotationStore
) -> None:
    client = _client(server, store)
    _send(client, store)
    good = [choice("success", "1")]
    cases = {
        1: (received([choice("cannot_judge", "1")], id=1), "bad_value"),
        2: (received([box("b", "1 cup 0", 1, 0, 9, 9)], id=2, created_at="then"), "malformed"),
        3: (received(good, id=3, was_cancelled="no"), "malformed"),
        4: (received(good, id=4, completed_by=None), "malformed"),
        5: (received(good, id=5) | {"result": {}}, "malformed"),
    }
    for number, (annotation, _) in cases.items():
        server.annotate(number, annotation)
    server.tasks[2]["annotations"][0]["created_at"] = "then"
    server.annotate(6, received(good, id=6))
    server.tasks[6]["annotations"][0]["task"] = 7
    stranger = server.add({"candidate": "f" * 16})
    server.annotate(stranger, received(good, id=7))
    moved = server.add({"candidate": TASKS[9].candidate})
    server.annotate(moved, received(good, id=8))
    nobody = server.add({"other": 1})
    server.annotate(nobody, received(good, id=9))
    server.annotate(10, received(good, id=10, completed_by={"id": 3, "email": "a@b.c"}))
    assert collect(client, store) == Collected(1, 9, 10)
    rejects = {reject.task: reject for reject in store.rejects(client.project)}
    wanted = {str(number): reason for number, (_, reason) in cases.items()} | {"6": "other_task"}
    wanted |= {str(stranger): "unknown_task", str(moved): "unknown_task", str(nobody): "unknown_task"}
    assert {task: reject.reason for task, reject in rejects.items()} == wanted
    assert json.loads(rejects["2"].received)["result"] == cases[2][0]["result"]
    assert (rejects["2"].annotation, rejects["2"].updated_at) == ("2", server.tasks[2]["updated_at"])
    assert collect(client, store) == Collected(0, 0, 0)
    client = _client(server, store, overlap_s=3600)
    assert client.pull(None).rejects != ()
    store.receive(client.project, client.pull(None))
    assert len(store.rejects(client.project)) == 9


def test_a_version_that_cannot_be_used_takes_its_forerunner_out_and_a_good_one_comes_back(
    server: StudioServer, store: AnnotationStore
) -> None:
    client = _client(server, store)
    _send(client, store)
    for level, wanted in (("1", Collected(1, 0, 1)), (None, Collected(1, 1, 1)), ("4", Collected(1, 0, 1))):
        result = [choice("success", level)] if level else [choice("cannot_judge", "99")]
        server.annotate(1, received(result, id=1))
        assert collect(client, store) == wanted
    assert _states(store, TASKS[0].candidate) == [("submitted", 6), ("deleted", 6), ("submitted", 25)]


def test_what_an_earlier_version_refused_is_read_again_once(server: StudioServer, store: AnnotationStore) -> None:
    client = _client(server, store)
    _send(client, store)
    server.annotate(1, received([choice("success", "1")], id=1))
    server.annotate(2, received([choice("success", "2")], id=2, completed_by=6))
    collect(client, store)
    (good,) = store.annotations(TASKS[0].candidate, MAX_SEQ)
    refused = RejectedAnnotation(
        task="1", annotation="1", updated_at=good.updated_at, reason="bad_mask", detail="x", received="{}"
    )
    gone = good.model_copy(update={"state": "deleted", "updated_at": "2026-05-01T00:00:00+00:00"})
    before = json.loads(store.cursor(client.project) or "")
    del before["reads"]
    store.receive(client.project, Page((gone,), json.dumps(before), False, (refused,)))
    with _counted(server) as read:
        assert collect(client, store) == Collected(1, 0, 1)
        assert collect(client, store) == Collected(0, 0, 0)
    assert read == [[1]]
    assert [found.state for found in current(store.annotations(TASKS[0].candidate, MAX_SEQ))] == ["submitted"]


def test_of_two_annotations_by_one_rater_the_newer_counts_and_the_older_is_a_reject(
    server: StudioServer, store: AnnotationStore
) -> None:
    client = _client(server, store)
    _send(client, store)
    server.annotate(1, received([choice("success", "1")], id=1))
    server.annotate(1, received([choice("success", "2")], id=2))
    server.annotate(1, received([choice("success", "3")], id=3, completed_by=6))
    assert collect(client, store) == Collected(2, 1, 1)
    (reject,) = store.rejects(client.project)
    assert (reject.reason, reject.annotation, reject.task) == ("second_by_rater", "1", "1")
    assert sorted(_states(store, TASKS[0].candidate)) == [("submitted", 13), ("submitted", 19)]
    server.delete(1, 2)
    collect(client, store)
    assert sorted(_states(store, TASKS[0].candidate)) == [
        ("deleted", 13), ("submitted", 6), ("submitted", 13), ("submitted", 19),
    ]  # fmt: skip


def test_raters_are_pseudonyms_and_their_names_go_nowhere(
    server: StudioServer, store: AnnotationStore, tmp_path: Path
) -> None:
    client = _client(server, store)
    _send(client, store)
    person = {"id": 31_337, "email": "jane.roe@example.org", "first_name": "Jane"}
    server.annotate(1, received([choice("success", "1")], id=1, completed_by=person, created_username="jane.roe"))
    server.annotate(2, received([choice("success", "1")], id=2, completed_by=31_337))
    server.annotate(3, received([choice("cannot_judge", "9")], id=3, completed_by=person, created_username="jane.roe"))
    collect(client, store)
    first, second = (store.annotations(task.candidate, MAX_SEQ)[0] for task in TASKS[:2])
    assert first.scores.rater == second.scores.rater
    assert first.scores.rater.startswith("person:")
    written = first.model_dump_json() + store.rejects(client.project)[0].model_dump_json()
    for hidden in ("jane", "roe", "31337"):
        assert hidden not in written
    assert json.loads(store.rejects(client.project)[0].received)["rater"] == first.scores.rater
    assert store_path(tmp_path).stat().st_mode & 0o777 == 0o600
    with open_store(tmp_path / "other.sqlite", create=True) as other:
        assert other.pseudonym("x") == other.pseudonym("x") != store.pseudonym("x")


def test_a_cursor_that_is_none_is_one_line(server: StudioServer, store: AnnotationStore) -> None:
    client = _client(server, store)
    for cursor in ("", "{}x", '{"since": "soon"}', '{"nosuch": 1}'):
        with pytest.raises(BadInput, match=f"^cursor of {client.project}: "):
            client.pull(cursor)


@pytest.mark.parametrize("page_tasks", [2, 100])
def test_what_was_answered_and_deleted_within_the_overlap_is_noticed_and_fresh_tasks_are_not_listed(
    server: StudioServer, store: AnnotationStore, page_tasks: int
) -> None:
    client = _client(server, store, overlap_s=3600, page_tasks=page_tasks)
    _send(client, store)
    for number in (1, 7, 8):
        server.annotate(number, received([choice("success", "1")], id=number))
    assert collect(client, store) == Collected(3, 0, 3)
    for number in (1, 8):
        server.delete(number, number)
    before = len(server.asked)
    assert collect(client, store) == Collected(2, 0, 0)
    assert _states(store, TASKS[0].candidate) == [("submitted", 6), ("deleted", 6)]
    queries = [json.loads(asked.query["query"]) for asked in server.asked[before:] if "query" in asked.query]
    assert {number for query in queries for number in query.get("selectedItems", {}).get("included", [])} <= {1, 7, 8}
    assert collect(client, store) == Collected(0, 0, 0)
