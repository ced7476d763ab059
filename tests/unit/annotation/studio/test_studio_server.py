"""What a local Label Studio is told, and what is kept of it; a real one is in tests/integration/test_studio_server."""

import stat
import sys
from pathlib import Path

import pytest

from annotation.studio.account import Account, account_in
from annotation.studio.installation import ENVIRONMENT_SETTING, set_up
from annotation.studio.server_environment import studio_environment
from runtime.processes import choose_port, free_port, process, tail, wait_until
from schemas.errors import BadInput, RegionwiseError

ACCOUNT = Account("somebody@localhost", "secret password", "f" * 40)


def test_the_account_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    account = account_in(tmp_path)
    assert account_in(tmp_path) == account
    assert stat.S_IMODE((tmp_path / "account.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["account.json"]
    assert len(account.token) == 40
    assert len(account.password) >= 16
    assert account.token not in repr(account)
    assert account.password not in repr(account)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"user": "a", "password": 1, "token": "b"}', '{"more": 1}'])
def test_an_account_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "account.json").write_text(text)
    with pytest.raises(BadInput, match=r"account\.json: is no account"):
        account_in(tmp_path)


def test_it_is_told_to_be_silent_closed_and_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "of somebody else")
    monkeypatch.setenv("DEBUG", "true")
    settings = studio_environment(tmp_path, 8123, ACCOUNT, tmp_path / "documents")
    assert "PASSWORD" not in settings
    assert "DEBUG" not in settings
    assert settings["COLLECT_ANALYTICS"] == settings["LATEST_VERSION_CHECK"] == "false"
    assert settings["SENTRY_DSN"] == settings["FRONTEND_SENTRY_DSN"] == ""
    assert settings["LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK"] == "true"
    assert settings["LABEL_STUDIO_DJANGO_DB"] == "sqlite"


def test_postgresql_by_its_address(tmp_path: Path) -> None:
    address = "postgresql://rater:p%40ss@db.example:6543/studio"
    settings = studio_environment(tmp_path, 8123, ACCOUNT, tmp_path, address)
    found = {name: value for name, value in settings.items() if "POSTGRE" in name or "DJANGO" in name}
    assert found == {
        "LABEL_STUDIO_DJANGO_DB": "default",
        "LABEL_STUDIO_POSTGRE_USER": "rater",
        "LABEL_STUDIO_POSTGRE_PASSWORD": "p@ss",
        "LABEL_STUDIO_POSTGRE_NAME": "studio",
        "LABEL_STUDIO_POSTGRE_HOST": "db.example",
        "LABEL_STUDIO_POSTGRE_PORT": "6543",
    }


@pytest.mark.parametrize(
    "address",
    ["", "sqlite:///x", "postgresql://host/name", "postgresql://user@host", "postgresql://user:secret@host:port/name"],
)
def test_another_address_is_refused_without_its_password(tmp_path: Path, address: str) -> None:
    with pytest.raises(BadInput, match="database: is no PostgreSQL address") as refused:
        studio_environment(tmp_path, 8123, ACCOUNT, tmp_path, address)
    assert "secret" not in str(refused.value)


def test_an_environment_without_label_studio_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annotation.studio.installation.ENVIRONMENT", tmp_path / "own")
    monkeypatch.setenv(ENVIRONMENT_SETTING, str(tmp_path))
    with pytest.raises(BadInput, match="has no Label Studio in it"):
        set_up()
    (tmp_path / "lib" / "python3.11" / "site-packages" / "label_studio-1.0.0.dist-info").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "label-studio").touch()
    with pytest.raises(BadInput, match=r"has Label Studio 1\.0\.0, expected"):
        set_up()


def test_a_server_that_ends_is_one_line_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", "print('first\\n' * 200 + 'the reason'); raise SystemExit(3)"]
    with process(command, {}, log, tmp_path) as started:
        with pytest.raises(RegionwiseError, match=r"ended with exit code 3: .*the reason; read") as failed:
            wait_until(lambda: False, "a server", log, started, 20)
    assert "\n" not in str(failed.value)
    assert len(tail(log)) <= 250


def test_a_server_that_never_answers_is_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with process(command, {}, tmp_path / "log", tmp_path) as started:
        with pytest.raises(RegionwiseError, match=r"was not ready after 0\.5 s: nothing was logged"):
            wait_until(lambda: False, "a server", tmp_path / "log", started, 0.5)
    assert started.returncode is not None


def test_a_taken_port_is_refused_or_gone_around() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match="is taken"):
            choose_port(port, port)
        assert choose_port(None, port) != port
    assert choose_port(None, free := free_port()) == free
