"""`regionwise push` and `collect` on a built run and a real Label Studio, as a person types them; two annotate."""

import json
import re
import secrets
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from annotation.raters.routing import Value, by_value
from annotation.store import MAX_SEQ, open_store, store_path
from annotation.studio.link import require_link
from annotation.studio.server import Studio
from flows.cli import main
from flows.push_values import VALUES_FILE
from pipeline.dataset.consensus_files import RANKINGS_FILE, consensus_stage
from pipeline.run.folder import read_build_info, read_kept
from runtime.checkout import CHECKOUT
from schemas.agreement import Agreement
from schemas.ranking import RankingConsensus
from tests.cases.editor_plugin import offer
from tests.cases.relay import Relay
from tests.cases.tiny_policy import random_policy, random_tiny
from tests.chaos.people import HELD_S, People, collect
from tests.chaos.strikes import STRIKES, unharmed
from tests.integration.builds import build, tars

IMAGE_CONTROLS = ("background", "success", "overedit", "naturalness", "artifacts")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve candidates of six scenes."""
    folder = tmp_path_factory.mktemp("people") / "run"
    answer = build(folder, "--scenes", "6", "--k", "2")
    assert answer.returncode == 0, answer.stderr
    return folder


def facts(*arguments: str | Path) -> dict[str, Any]:
    """What a command that succeeds says of itself."""
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments), "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    return dict(json.loads(answer.stdout))


class Person:
    """Somebody who signed up by invitation and works in the browser's way: a session, no token."""

    def __init__(self, running: Studio, name: str) -> None:
        owner = {"Authorization": f"Token {running.account.token}"}
        invitation = httpx.get(f"{running.url}/api/invite", headers=owner, trust_env=False).json()["invite_url"]
        self.http = httpx.Client(base_url=running.url, trust_env=False, timeout=60)
        page = self.http.get(invitation)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token is not None
        form = {
            "csrfmiddlewaretoken": token[1],
            "email": f"{name}-{secrets.token_hex(4)}@localhost.test",
            "password": secrets.token_urlsafe(12),
            "how_find_us": "",
            "elaborate": "",
        }
        answer = self.http.post(invitation, data=form, headers={"Referer": running.url})
        assert answer.status_code in (200, 302), answer.text[:300]
        assert self.http.get("/api/current-user/whoami").json()["email"] == form["email"]

    def tasks(self, project: int) -> list[dict[str, Any]]:
        """The project's tasks with their predictions."""
        query: Mapping[str, str | int] = {"project": project, "page_size": 100, "fields": "all"}
        return list(self.http.get("/api/tasks/", params=query).json()["tasks"])

    def rate(self, task: Mapping[str, Any], level: int) -> None:
        """Submits the task's own masks with one level for every question."""
        masks = task["predictions"][0]["result"]
        result = [*masks]
        for mask in masks:
            value = {"format": "rle", "rle": mask["value"]["rle"], "choices": [str(level)]}
            for name in ("region_success", "region_preserve"):
                result.append({**mask, "from_name": name, "type": "choices", "value": value})
        for name in IMAGE_CONTROLS:
            choice = {"id": name, "from_name": name, "to_name": "edited", "type": "choices"}
            result.append({**choice, "value": {"choices": [str(level)]}})
        self.submit(task, result)

    def rank(self, task: Mapping[str, Any], order: Sequence[str]) -> None:
        """Submits an order as the editor does, what is not in it left where it was."""
        left = [one["id"] for one in task["data"]["candidates"] if one["id"] not in order]
        value = {"ranker": {"_": left, "ranked": list(order)}}
        ranker = {"id": "r", "from_name": "rank", "to_name": "candidates", "type": "ranker", "value": value}
        self.submit(task, [ranker])

    def submit(self, task: Mapping[str, Any], result: Sequence[Mapping[str, Any]]) -> None:
        """Hands an annotation in."""
        headers = {"X-CSRFToken": self.http.cookies["csrftoken"], "Referer": str(self.http.base_url)}
        body = {"result": result, "lead_time": 3.5}
        answer = self.http.post(f"/api/tasks/{task['id']}/annotations/", json=body, headers=headers)
        assert answer.status_code == 201, answer.text[:300]


@pytest.fixture
def people(running_studio: Studio) -> Iterator[Callable[[str], Person]]:
    """Signs people up; their sessions end with the test."""
    with ExitStack() as stack:

        def sign_up(name: str) -> Person:
            person = Person(running_studio, name)
            stack.callback(person.http.close)
            return person

        yield sign_up


@pytest.fixture(scope="module")
def pushed(run: Path, running_studio: Studio) -> Iterator[dict[str, Any]]:
    """What the first push said: two raters for each candidate, gold by the oracle among them."""
    return facts("push", "--run", run, "--studio", running_studio.data, "--raters", 2, "--gold", "oracle")


def test_a_push_sends_every_candidate_once_and_leaves_no_token(
    run: Path, pushed: dict[str, Any], running_studio: Studio, people: Callable[[str], Person]
) -> None:
    new = pushed["new"]["first-many"]
    assert 6 <= new <= 12
    again = facts("push", "--run", run, "--studio", running_studio.data, "--raters", 2)
    assert (again["new"], again["known"]) == ({}, new)
    tasks = people("looker").tasks(pushed["projects"]["first-many"])
    assert len({task["data"]["candidate"] for task in tasks}) == len(tasks) == new
    assert not any("gold" in json.dumps(task["data"]) for task in tasks)
    written = "".join(path.read_text(errors="replace") for path in run.glob("*.json"))
    assert running_studio.account.token not in written


def test_what_two_people_say_comes_back_and_where_they_differ_a_second_round_is_asked(
    run: Path, pushed: dict[str, Any], running_studio: Studio, people: Callable[[str], Person]
) -> None:
    project = pushed["projects"]["first-many"]
    first, second = people("first"), people("second")
    agreed, disputed, half = first.tasks(project)[:3]
    for person, levels in ((first, (3, 4, 2)), (second, (3, 0))):
        for task, level in zip((agreed, disputed, half), levels, strict=False):
            person.rate(task, level)
    collected = facts("collect", "--run", run, "--studio", running_studio.data, "--snapshot", "two-people")
    assert (collected["new"], collected["new_rejects"], collected["tasks_read"]) == (5, 0, 3)
    assert facts("collect", "--run", run, "--studio", running_studio.data)["tasks_read"] == 0
    with open_store(store_path(run)) as store:
        found = store.annotations(disputed["data"]["candidate"], MAX_SEQ)
    assert sorted(row.scores.background for row in found if row.scores.background is not None) == [0, 25]
    assert all(row.scores.rater.startswith("person:") and row.lead_time_s == 3.5 for row in found)
    assert len({row.scores.rater for row in found}) == 2
    assert "localhost.test" not in store_path(run).read_bytes().decode("latin-1")

    facts("consensus", "--run", run, "--snapshot", "two-people")
    agreement = (run / consensus_stage("two-people") / "agreement.json").read_text()
    assert Agreement.from_json(agreement, thing="agreement.json").n_candidates == 3

    pushed_on = facts("push", "--run", run, "--studio", running_studio.data, "--raters", 2)
    assert set(pushed_on["new"]) == {"second"}
    asked = {task["data"]["candidate"] for task in first.tasks(require_link(run).projects["second"])}
    assert disputed["data"]["candidate"] in asked
    assert not {agreed["data"]["candidate"], half["data"]["candidate"]} & asked


def test_what_people_ranked_comes_back_once_into_the_run(
    run: Path, running_studio: Studio, people: Callable[[str], Person]
) -> None:
    parts = range(read_build_info(run).n_parts)
    kept = [sample for part in parts for sample in read_kept(run, "gates", part)]
    several = {request for request, n in Counter(sample.request.id for sample in kept).items() if n > 1}
    studio = ("--run", run, "--studio", running_studio.data)
    before = facts("collect", *studio) if (run / "studio.json").is_file() else {"annotations": 0}
    first_push = facts("push", *studio, "--ranking", "--raters", 2, "--reward", "region")
    assert first_push["new"] == {"ranking": len(several)}
    again = facts("push", *studio, "--ranking", "--raters", 2)
    assert (again["new"], again["known"]) == ({}, len(several))
    first, second = people("first"), people("second")
    tasks = first.tasks(require_link(run).projects["ranking"])
    values = [Value(**json.loads(line)) for line in (run / VALUES_FILE).read_text().splitlines()]
    request_of = {sample.candidate.id: sample.request.id for sample in kept if sample.candidate}
    telling = dict.fromkeys(request_of[candidate] for candidate in by_value(values))
    assert [task["data"]["request"] for task in tasks] == [request for request in telling if request in several]
    agreed, disputed, half = tasks[:3]
    shown = [one["id"] for one in agreed["data"]["candidates"]]
    assert shown == sorted(sample.candidate.id for sample in kept if sample.request.id == agreed["data"]["request"])
    others = [one["id"] for one in disputed["data"]["candidates"]]
    for person, order in ((first, others), (second, others[::-1])):
        person.rank(agreed, shown[::-1])
        person.rank(disputed, order)
    first.rank(half, [half["data"]["candidates"][0]["id"]])
    collected = facts("collect", *studio, "--snapshot", "ranked")
    assert (collected["new"], collected["new_rejects"], collected["rankings"]) == (4, 1, 4)
    assert collected["rejected"]["incomplete"] == 1
    assert collected["annotations"] == before["annotations"]
    assert facts("collect", *studio)["tasks_read"] == 0

    assert facts("consensus", "--run", run, "--snapshot", "ranked")["ranked_requests"] == 2
    path = run / consensus_stage("ranked") / RANKINGS_FILE
    rows = [RankingConsensus.from_json(line, thing=path.name) for line in path.read_text().splitlines()]
    found = {row.request: row for row in rows}
    assert set(found) == {agreed["data"]["request"], disputed["data"]["request"]}
    ranked = found[agreed["data"]["request"]].candidates
    assert [(one.candidate, one.mean_rank, one.wins) for one in ranked] == [(shown[1], 1.0, 2), (shown[0], 2.0, 0)]
    assert {(one.mean_rank, one.wins) for one in found[disputed["data"]["request"]].candidates} == {(1.5, 1)}


def test_a_collect_that_is_killed_loses_no_answer_and_keeps_none_twice(running_studio: Studio, tmp_path: Path) -> None:
    with Relay(running_studio.url, delay_s=HELD_S) as relay:
        people = People(running_studio, relay, tmp_path)
        answers = unharmed(collect(people), tmp_path / "unharmed")
        struck = STRIKES["kill -9"](replace(collect(people), moments=(5,)), tmp_path / "struck")
    assert isinstance(answers, list)
    assert len(answers) == 12
    assert struck[1] == answers


def test_what_a_policy_edits_goes_to_people(
    running_studio: Studio,
    people: Callable[[str], Person],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A policy with random weights: its edits mean nothing, so the gates are told to let them through."""
    policy = random_policy(tmp_path / "policy", random_tiny(tmp_path / "base"))
    offers = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["entry-points"]["regionwise.editors"]
    monkeypatch.setenv("PYTHONPATH", str(offer(tmp_path / "packages", "regionwise-here", offers)))
    config = tmp_path / "build.toml"
    config.write_text(
        f'scene_textures = ["plain"]\nk = 2\npart_requests = 2\neditor = "policy:{policy}"\n'
        "[gates]\nmin_agreement = 0.0\nmax_replaced_outside = 1.0\nmin_spread_levels = 0.0\n"
        "max_preservation_error = 1000.0\n"
    )
    edited, again = tmp_path / "edited", tmp_path / "again"
    for folder, workers in ((edited, "1"), (again, "2")):
        answer = build(folder, "--scenes", "4", "--config", str(config), "--workers", workers)
        assert answer.returncode == 0, answer.stderr
    assert tars(edited) == tars(again)
    rows = [sample for part in range(2) for sample in read_kept(edited, "gates", part)]
    assert {sample.candidate.editor for sample in rows if sample.candidate} == {"policy:tiny"}
    assert {sample.scores for sample in rows} == {()}
    pushed = facts("push", "--run", edited, "--studio", running_studio.data)
    tasks = people("looker").tasks(next(iter(pushed["projects"].values())))
    assert pushed["new"] == {"first-many": len(rows)}
    assert {task["data"]["candidate"] for task in tasks} == {sample.candidate.id for sample in rows if sample.candidate}


def test_what_is_missing_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    fresh = tmp_path / "fresh"
    assert build(fresh, "--scenes", "1", "--k", "1").returncode == 0
    cases = {
        ("collect", "--run", fresh): "was pushed nowhere yet",
        ("push", "--run", fresh, "--url", "http://127.0.0.1:9"): "shall be files that Label Studio serves",
        ("push", "--run", fresh, "--url", "http://127.0.0.1:9", "--images", "data"): "LABEL_STUDIO_API_KEY: is not set",
        ("push", "--run", fresh, "--url", "ftp://x", "--images", "data"): "no http or https URL",
        ("push", "--run", fresh, "--url", "http://127.0.0.1:9", "--images", "s3"): "no bucket is named",
        ("push", "--run", fresh, "--url", "http://127.0.0.1:9", "--images", "data", "--ranking"): "drops them",
        ("push", "--run", fresh, "--url", "http://127.0.0.1:9", "--ranking", "--gold", "oracle"): "mixes gold among",
        ("push", "--run", fresh, "--studio", tmp_path): "data folder of no local Label Studio",
        ("push", "--run", tmp_path / "none", "--url", "http://127.0.0.1:9"): "not a run folder",
    }
    for arguments, said in cases.items():
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        told = capsys.readouterr().err
        assert ended.value.code == 2, (arguments, told)
        assert said in told, (arguments, told)
        assert told.count("\n") == 1
