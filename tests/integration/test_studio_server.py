"""A real Label Studio, started as `make studio` starts it: who gets in, what it serves, and how it ends."""

from pathlib import Path

import httpx
import pytest
from PIL import Image

from annotation.studio.account import account_in
from annotation.studio.image_urls import DataImages, LocalImages, S3Images
from annotation.studio.project_setup import open_project
from annotation.studio.server import Studio, asker, personal_token, studio
from flows.studio import prepare_project
from runtime.processes import HOST, free_port
from schemas.errors import BadInput, RegionwiseError, RunInUse
from tests.cases.studio import MadeUp


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, timeout=30, trust_env=False)


def test_both_kinds_of_token_get_in_and_nothing_else_does(running_studio: Studio) -> None:
    projects = f"{running_studio.url}/api/projects/"
    refresh = personal_token(running_studio)
    assert personal_token(running_studio) == refresh
    exchange = {"url": f"{running_studio.url}/api/token/refresh/", "json": {"refresh": refresh}}
    access = httpx.post(**exchange, timeout=30, trust_env=False).json()["access"]  # type: ignore[arg-type]
    assert get(projects, Authorization=f"Token {running_studio.account.token}").status_code == 200
    assert get(projects, Authorization=f"Bearer {access}").status_code == 200
    assert get(projects, Authorization=f"Token {'0' * 40}").status_code == 401
    assert get(projects).status_code == 401


def test_nobody_signs_up_uninvited(running_studio: Studio) -> None:
    with httpx.Client(base_url=running_studio.url, timeout=30, trust_env=False) as client:
        client.get("/user/signup/")
        body = {"email": "stranger@localhost.com", "password": "a long password"}
        headers = {"X-CSRFToken": client.cookies["csrftoken"]}
        assert client.post("/user/signup/", data=body, headers=headers).status_code == 403
    users = asker(running_studio)("GET", "/api/users/", None)
    assert running_studio.account.user in (emails := [user["email"] for user in users])
    assert "stranger@localhost.com" not in emails


def test_it_listens_on_loopback_and_keeps_its_secrets_out_of_the_log(running_studio: Studio) -> None:
    assert running_studio.url.startswith(f"http://{HOST}:")
    log = running_studio.log.read_text()
    assert "GET /api/current-user/whoami" in log
    account = account_in(running_studio.data)
    for secret in (account.password, account.token, account.personal_token):
        assert secret is None or secret not in log


def test_images_of_the_project_are_served_to_those_who_are_in(running_studio: Studio) -> None:
    ask, made_up = asker(running_studio), MadeUp({})
    ref = made_up.add(Image.new("RGB", (20, 10), "blue"))
    place = LocalImages(made_up.read, running_studio.documents, "served")
    url = f"{running_studio.url}{place.url(ref)}"
    token = f"Token {running_studio.account.token}"
    assert get(url, Authorization=token).status_code == 404
    number = open_project(ask, "served images", place)
    assert get(url, Authorization=token).content == made_up.read(ref)
    assert get(url).status_code in (401, 403)
    outside = get(f"{running_studio.url}/data/local-files/?d=../account.json", Authorization=token)
    assert outside.is_error
    assert running_studio.account.password not in outside.text
    assert open_project(ask, "served images", place) == number
    assert len(ask("GET", f"/api/storages/localfiles/?project={number}", None)) == 1


def test_an_interface_that_was_changed_by_hand_is_put_right(running_studio: Studio) -> None:
    ask, place = asker(running_studio), DataImages(MadeUp({}).read)
    number = open_project(ask, "put right", place)
    ours = ask("GET", f"/api/projects/{number}/", None)["label_config"]
    other = '<View><Text name="t" value="$t"/><Choices name="c" toName="t"><Choice value="x"/></Choices></View>'
    ask("PATCH", f"/api/projects/{number}/", {"label_config": other})
    assert open_project(ask, "put right", place) == number
    assert ask("GET", f"/api/projects/{number}/", None)["label_config"] == ours


def test_both_interfaces_are_taken(running_studio: Studio) -> None:
    ask, place = asker(running_studio), DataImages(MadeUp({}).read)
    number = open_project(ask, "a ranking", place, "ranking")
    parsed = ask("GET", f"/api/projects/{number}/", None)["parsed_label_config"]
    assert parsed["rank"]["type"] == "Ranker"


def test_a_bucket_that_is_not_there_is_refused_without_its_keys(running_studio: Studio, tmp_path: Path) -> None:
    nowhere = f"http://{HOST}:{free_port()}"
    place = S3Images(MadeUp({}).read, tmp_path, "bucket", endpoint=nowhere, access_key="known", secret_key="hidden key")
    with pytest.raises(RegionwiseError, match="POST /api/storages/s3/ with HTTP") as refused:
        open_project(asker(running_studio), "in a bucket", place)
    assert "hidden" not in str(refused.value)


def test_a_folder_that_is_served_is_refused(running_studio: Studio) -> None:
    with pytest.raises(RunInUse, match="is served by another process already"), studio(running_studio.data):
        raise AssertionError("it started")


def test_another_account_than_the_servers_is_one_line(tmp_path: Path) -> None:
    with studio(tmp_path, port=free_port()) as running:
        assert running.process.poll() is None
    assert running.process.poll() is not None
    (tmp_path / "account.json").unlink()
    with (
        pytest.raises(RegionwiseError, match=r"does not know the account in .*account\.json.*: HTTP 401") as failed,
        studio(tmp_path, port=free_port()),
    ):
        raise AssertionError("it started")
    assert "\n" not in str(failed.value)


def test_a_folder_that_is_no_run_is_refused(running_studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        prepare_project(running_studio, tmp_path)
