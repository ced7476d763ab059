"""Rankings: what an editor submits is read or refused with its reason; put together by hand; sent and read once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.client import RankedImage, RankingTask, sent_record
from annotation.exchange import Collected, Sent, collect, send
from annotation.raters.consensus import current
from annotation.raters.rankings import rank_consensus
from annotation.raters.routing import Value, plan_rankings
from annotation.store import AnnotationStore, open_store, store_path
from annotation.studio.client import StudioClient, open_studio
from annotation.studio.controls import RANKING, read_controls
from annotation.studio.http import StudioSettings
from annotation.studio.interface import labels_config, ranking_config
from annotation.studio.items import Unreadable
from annotation.studio.rankings import ranking_task, read_ranking
from schemas.errors import BadInput
from schemas.record import short_hash
from tests.cases.examples import few_examples
from tests.cases.rater_cases import IMAGE, ranking
from tests.cases.studio_cases import received
from tests.cases.studio_server import TOKEN, StudioServer

A, B, C = ("a" * 16, "b" * 16, "c" * 16)
CONTROLS = read_controls(ranking_config(), RANKING, RANKING)


def _task(number: int = 0) -> RankingTask:
    candidates = tuple(RankedImage(candidate=candidate, edited=IMAGE) for candidate in (A, B, C))
    request = short_hash("request", number)
    return RankingTask(request=request, instruction="make it red", sources=(IMAGE,), candidates=candidates)


SENT = sent_record(_task())


def _ranked(*order: str, left: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """What the editor submits: the order, and what was left in the pool."""
    value = {"ranker": {"_": list(left), "ranked": list(order)}}
    return {"id": "r", "from_name": "rank", "to_name": "candidates", "type": "ranker", "value": value} | more


def _cannot_judge() -> dict[str, Any]:
    choice = {"id": "j", "from_name": "cannot_judge", "to_name": "source", "type": "choices"}
    return {**choice, "value": {"choices": ["cannot judge"]}}


def _read(result: list[dict[str, Any]], **fields: Any) -> Any:
    return read_ranking(received(result, **fields), SENT, "7", "p", CONTROLS, "person:x")[0]


def test_a_submitted_ranking_is_read_best_first() -> None:
    words = {"id": "w", "from_name": "comment", "to_name": "source", "type": "textarea", "value": {"text": ["a", "b"]}}
    found = _read([_ranked(B, A, C), words])
    assert (found.candidates, found.state, found.comment) == ((B, A, C), "submitted", "a\nb")
    assert (found.id, found.request, found.rater, found.synthetic) == ("p/70", SENT.request, "person:x", False)
    assert found.lead_time_s == 12.5


def test_who_cannot_judge_or_skips_ranks_nothing() -> None:
    # the editor hands in an untouched list with "cannot judge"
    assert _read([_cannot_judge(), _ranked(left=(A, B, C))]).state == "cannot_judge"
    assert _read([_cannot_judge(), _ranked(A, B, C)]).candidates == ()
    for result in ([], [_ranked(A, left=(B, C))]):
        found = _read(result, was_cancelled=True)
        assert (found.state, found.candidates) == ("skipped", ())


HOSTILE = {
    "nothing": ([], "incomplete"),
    "one left": ([_ranked(B, A, left=(C,))], "incomplete"),
    "one missing": ([_ranked(B, A)], "incomplete"),
    "untouched": ([_ranked(left=(A, B, C))], "incomplete"),
    "unknown": ([_ranked(B, A, C, "d" * 16)], "bad_value"),
    "unknown in the pool": ([_ranked(B, A, C, left=("<script>",))], "bad_value"),
    "twice": ([_ranked(B, A, C, A)], "bad_value"),
    "twice over both": ([_ranked(B, A, C, left=(A,))], "bad_value"),
    "other bucket": ([_ranked(value={"ranker": {"best": [A, B, C]}})], "bad_value"),
    "no object": ([_ranked(value={"ranker": [A, B, C]})], "bad_value"),
    "no lists": ([_ranked(value={"ranker": {"ranked": {A: 1, B: 2, C: 3}}})], "bad_value"),
    "a text": ([_ranked(value={"ranker": {"ranked": A}})], "bad_value"),
    "numbers": ([_ranked(value={"ranker": {"ranked": [1, 2, 3]}})], "bad_value"),
    "lists in it": ([_ranked(value={"ranker": {"ranked": [[A], [B], [C]]}})], "bad_value"),
    "null": ([_ranked(value={"ranker": None})], "bad_value"),
    "no ranker": ([_ranked(value={})], "bad_value"),
    "two rankings": ([_ranked(A, B, C), _ranked(B, A, C)], "answered_twice"),
    "of another type": ([_ranked(A, B, C, type="choices")], "wrong_type"),
    "about another": ([_ranked(A, B, C, to_name="source")], "wrong_type"),
    "another answer": ([_ranked(A, B, C), _cannot_judge() | {"value": {"choices": ["yes"]}}], "bad_value"),
}


@pytest.mark.parametrize(("result", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_anything_else_is_refused_with_its_reason(result: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(Unreadable) as fault:
        _read(result)
    assert fault.value.reason == reason


def test_what_cannot_be_used_beside_the_order_is_left_out_and_the_order_stays() -> None:
    words = {"id": "w", "from_name": "comment", "to_name": "source", "type": "textarea", "value": {"text": [1]}}
    result = [_ranked(B, A, C), _ranked(A, B, C, from_name="x"), words, 3, _ranked(B, A, C)]
    raw = received(result, lead_time=-1)  # type: ignore[arg-type]
    found, dropped = read_ranking(raw, SENT, "7", "p", CONTROLS, "person:x")
    assert (found.candidates, found.comment, found.lead_time_s) == ((B, A, C), "", None)
    wanted = {
        "result[3]": "malformed", "result[1]": "unknown_control", "result[2]": "bad_value", "lead_time": "bad_value"
    }  # fmt: skip
    assert {drop.part: drop.reason for drop in dropped} == wanted


def test_who_skips_needs_no_order_that_can_be_read() -> None:
    assert _read([_ranked(A, A)], was_cancelled=True).state == "skipped"


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([A, B, C]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["_", "ranked", "ranker"]), inner),
)


@few_examples
@given(value=ANY_JSON, raw=ANY_JSON)
def test_no_json_is_more_than_unreadable(value: Any, raw: Any) -> None:
    for tried in (received([_ranked(value={"ranker": value})]), received([_ranked(value=value)]), raw):
        with pytest.raises(Unreadable):
            read_ranking(tried, SENT, "7", "p", CONTROLS, "person:x")


def test_a_ranking_of_another_task_is_refused() -> None:
    with pytest.raises(Unreadable) as fault:
        _read([_ranked(A, B, C)], task=8)
    assert fault.value.reason == "other_task"


def test_all_rankings_together_by_hand() -> None:
    rankings = [
        ranking("abc", rater="rater-1"),
        ranking("bac", rater="rater-2"),
        ranking("bca", rater="rater-3"),
        ranking("", rater="rater-4", state="cannot_judge"),
    ]
    found = rank_consensus(rankings, "s")
    assert [(one.candidate, one.mean_rank, one.wins) for one in found.candidates] == [
        (B, 1.3333, 5),
        (A, 2.0, 3),
        (C, 2.6667, 1),
    ]
    assert [(one.first, one.second, one.first_wins, one.second_wins) for one in found.pairs] == [
        (A, B, 1, 2),
        (A, C, 2, 1),
        (B, C, 3, 0),
    ]
    assert (found.n_raters, found.n_not_judged, found.synthetic) == (3, 1, False)
    nobody = rank_consensus(rankings[3:], "s")
    assert (nobody.candidates, nobody.pairs, nobody.n_raters) == ((), (), 0)


def test_of_each_rater_the_latest_ranking_stands() -> None:
    later = "2026-02-01T00:00:00+00:00"
    gone = ranking("cab", rater="rater-2")
    rows = [
        ranking("abc"),
        ranking("bac", updated_at=later),
        gone,
        gone.model_copy(update={"state": "deleted", "updated_at": later}),
    ]
    assert [(row.rater, row.candidates) for row in current(rows)] == [("rater-1", (B, A, C))]


def test_requests_with_the_most_telling_candidate_come_first_and_those_with_one_never() -> None:
    values = [Value(A, 1.0, 0.5), Value(B, 9.0, 0.5), Value(C, 4.0, 0.5), Value("d" * 16, 5.0, 0.5)]
    requests = {"one": [B], "low": [A, C], "high": [A, "d" * 16], "placed": [C, B]}
    assert plan_rankings(requests, values, {"placed"}) == ["high", "low"]


# sending and collecting


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StudioServer]:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    with StudioServer(ranking_config()) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnnotationStore]:
    with open_store(store_path(tmp_path), create=True) as found:
        yield found


def _client(server: StudioServer, store: AnnotationStore) -> StudioClient:
    settings = StudioSettings(url=server.url, project=1, batch_tasks=2, overlap_s=0.0)
    return open_studio(settings, store, ranking_config(), lambda image: f"/{image.sha256}.png", "ranking")


def test_a_request_is_sent_once_even_where_the_store_forgot(
    server: StudioServer, store: AnnotationStore, tmp_path: Path
) -> None:
    tasks = [_task(number) for number in range(3)]
    assert send(_client(server, store), store, tasks) == Sent(new=3, found=0, known=0)
    assert send(_client(server, store), store, tasks) == Sent(new=0, found=0, known=3)
    (tmp_path / "other").mkdir()
    with open_store(store_path(tmp_path / "other"), create=True) as other:
        assert send(_client(server, other), other, tasks) == Sent(new=0, found=3, known=0)
    data = [task["data"] for task in server.tasks.values()]
    assert [one["request"] for one in data] == [task.request for task in tasks]
    assert [item["id"] for item in data[0]["candidates"]] == [A, B, C]
    assert data[0] == ranking_task(tasks[0], f"/{IMAGE.sha256}.png", [f"/{IMAGE.sha256}.png"] * 3)["data"]


def test_rankings_come_back_once_changed_deleted_and_refused(server: StudioServer, store: AnnotationStore) -> None:
    client, task = _client(server, store), _task()
    send(client, store, [task])
    assert collect(client, store) == Collected(0, 0, 0)
    server.annotate(1, received([_ranked(B, A, C)], id=70, completed_by=5))
    server.annotate(1, received([_ranked(A, left=(B, C))], id=71, completed_by=6))
    assert collect(client, store) == Collected(1, 1, 1)
    assert collect(client, store) == Collected(0, 0, 0)
    (found,) = store.rankings(task.request, 10**6)
    assert (found.candidates, found.rater) == ((B, A, C), store.pseudonym(f"{client.server}/5"))
    (reject,) = store.rejects(client.project)
    assert (reject.task, reject.annotation, reject.reason) == ("1", "71", "incomplete")
    assert "2 of 3 candidates" in reject.detail
    assert "completed_by" not in json.loads(reject.received)
    server.annotate(1, received([_ranked(C, A, B)], id=70, completed_by=5))
    collect(client, store)
    server.delete(1, 70)
    collect(client, store)
    states = [(row.candidates, row.state) for row in store.rankings(task.request, 10**6)]
    assert states == [((B, A, C), "submitted"), ((C, A, B), "submitted"), ((C, A, B), "deleted")]
    assert current(store.rankings(task.request, 10**6)) == []
    assert store.count() == 0


def test_a_project_with_another_interface_is_refused(server: StudioServer, store: AnnotationStore) -> None:
    for config, fault in (
        (labels_config(), "rank is missing"),
        (ranking_config().replace('name="ranked"', 'name="best"'), "rank has other values"),
    ):
        server.config = config
        with pytest.raises(BadInput, match=rf"{fault}.*annotation/studio/ranking\.xml"):
            _client(server, store)
