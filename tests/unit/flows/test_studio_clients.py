"""How commands reach a Label Studio: with which token, and what they leave behind there and here."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from annotation.store import open_store, store_path
from annotation.studio import authorize
from annotation.studio.account import USER, Account, LocalAddress, write_account, write_address
from annotation.studio.http import StudioSettings, read_token
from annotation.studio.link import FILE_NAME, StudioLink, add_project, require_link
from annotation.studio.webhook import SECRET_HEADER
from flows.collect import Watch, collect_run, watch_run
from flows.studio_clients import studio_settings
from schemas.errors import BadInput
from tests.cases.studio_server import TOKEN, Asked, Fault, StudioServer

VARIABLE = "LABEL_STUDIO_API_KEY"
WRONG = "f" * 40


@pytest.fixture
def server() -> Iterator[StudioServer]:
    with StudioServer() as running:
        yield running


@pytest.fixture
def run(server: StudioServer, tmp_path: Path) -> Path:
    """A run that was pushed to the server."""
    folder = tmp_path / "run"
    folder.mkdir()
    link = StudioLink(url=server.url, token_env=VARIABLE, title="run", projects={"first-many": 1})
    (folder / FILE_NAME).write_text(link.model_dump_json())
    with open_store(store_path(folder), create=True):
        return folder


@pytest.fixture
def studio(server: StudioServer, tmp_path: Path) -> Path:
    """The data folder of the server."""
    folder = tmp_path / "studio"
    write_account(Account(USER, "password", TOKEN), folder)
    write_address(LocalAddress(server.url, str(folder / "documents")), folder)
    return folder


def test_the_token_of_a_local_server_wins_and_child_processes_get_none(
    run: Path, studio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given in (WRONG, None):
        if given is None:
            monkeypatch.delenv(VARIABLE)
        else:
            monkeypatch.setenv(VARIABLE, given)
        settings, documents = studio_settings(run, None, VARIABLE, studio)
        assert collect_run(run, settings, None)["new"] == 0
        assert (os.environ.get(VARIABLE), documents) == (given, studio / "documents")
        assert TOKEN not in os.environ.values()
        assert TOKEN not in repr(settings) + settings.model_dump_json()


def test_the_token_of_a_local_server_is_sent_to_this_machine_alone(
    run: Path, studio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, WRONG)
    settings, _ = studio_settings(run, "https://studio.example", VARIABLE, studio)
    assert read_token(settings) == WRONG


def test_an_account_that_is_not_there_is_named_and_not_made_up(run: Path, studio: Path) -> None:
    (studio / "account.json").unlink()
    settings, _ = studio_settings(run, None, VARIABLE, studio)
    with pytest.raises(BadInput, match=r"account\.json: is not there; start the server: `make studio`"):
        collect_run(run, settings, None)
    assert not (studio / "account.json").exists()


def test_a_token_that_the_local_server_refuses_is_told_by_its_folder(run: Path, studio: Path) -> None:
    write_account(Account(USER, "password", WRONG), studio)
    settings, _ = studio_settings(run, None, VARIABLE, studio)
    with pytest.raises(BadInput, match=rf"refuses the token: HTTP 401.*{studio}/account\.json"):
        collect_run(run, settings, None)


def test_two_pushes_of_a_run_keep_each_others_projects(run: Path) -> None:
    old = require_link(run)
    assert add_project(run, old, "ranking", lambda: 2).projects == {"first-many": 1, "ranking": 2}
    wanted = {"first-many": 1, "ranking": 2, "second": 3}
    assert add_project(run, old, "second", lambda: 3).projects == wanted
    assert require_link(run).projects == wanted


# what is left behind


def _settings(server: StudioServer, monkeypatch: pytest.MonkeyPatch) -> StudioSettings:
    monkeypatch.setenv(VARIABLE, TOKEN)
    return StudioSettings(url=server.url, attempts=1)


def _dead_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_hooks_of_a_watch_go_with_it_and_so_do_those_of_one_that_was_killed(
    server: StudioServer, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {"headers": {SECRET_HEADER: "x" * 16}}
    others = [
        {"id": 101, "url": f"http://127.0.0.1:{_dead_port()}/", "headers": {}},
        {"id": 102, "url": f"http://elsewhere.example:{_dead_port()}/", **ours},
        {"id": 103, "url": f"http://127.0.0.1:{server.url.rpartition(':')[2]}/", **ours},
        {"id": 104, "url": "http://[", **ours},
    ]
    server.hooks = [*others, {"id": 105, "url": f"http://127.0.0.1:{_dead_port()}/", **ours}]
    seen: list[list[dict[str, Any]]] = []
    watch = Watch(0.01, ("127.0.0.1", 0), looks=2)
    watch_run(run, _settings(server, monkeypatch), watch, lambda facts: seen.append(server.hooks))
    assert [len(hooks) for hooks in seen] == [len(others) + 1] * 2
    assert server.hooks == others


def test_hooks_go_where_a_watch_is_stopped_and_a_server_that_is_down_stops_nothing(
    server: StudioServer, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(facts: object) -> None:
        raise KeyboardInterrupt

    settings, watch = _settings(server, monkeypatch), Watch(0.01, ("127.0.0.1", 0), looks=1)
    with pytest.raises(KeyboardInterrupt):
        watch_run(run, settings, watch, stop)
    assert server.hooks == []

    def fails(asked: Asked) -> Fault | None:
        return Fault(500) if asked.method == "DELETE" else None

    server.faults = fails
    watch_run(run, settings, watch, lambda facts: None)
    assert len(server.hooks) == 1


def test_every_connection_that_is_opened_is_closed(
    server: StudioServer, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[httpx.Client] = []
    connect = authorize.connect

    def noted(settings: StudioSettings) -> httpx.Client:
        opened.append(connect(settings))
        return opened[-1]

    monkeypatch.setattr(authorize, "connect", noted)
    settings = _settings(server, monkeypatch)
    watch_run(run, settings, Watch(0.01, ("127.0.0.1", 0), looks=2), lambda facts: None)
    server.config = "<View/>"
    with pytest.raises(BadInput, match="another labelling interface"):
        collect_run(run, settings, None)
    assert len(opened) == 4
    assert all(client.is_closed for client in opened)
