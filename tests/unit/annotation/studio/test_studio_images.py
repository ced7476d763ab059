"""Where a project's images are: files below the document root, an S3 bucket, or the tasks themselves."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from annotation.studio.image_urls import DataImages, ImagePlace, LocalImages, S3Images, file_name
from annotation.studio.interface import labels_config
from annotation.studio.project_setup import open_project
from schemas.errors import BadInput
from schemas.sample import ImageRef
from tests.cases.studio import MadeUp


class Server:
    """Remembers what it is asked, and answers from what it was given before."""

    def __init__(self) -> None:
        self.storages: list[dict[str, Any]] = []
        self.projects: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        self.asked.append((method, path))
        kind = self.storages if "/storages/" in path else self.projects
        if method == "POST":
            kind.append({**(body or {}), "id": len(kind) + 1})
            return kind[-1]
        if method == "PATCH":
            kind[0].update(body or {})
            return kind[0]
        return kind if "/storages/" in path else {"results": kind}


@pytest.fixture
def made_up() -> MadeUp:
    return MadeUp({})


@pytest.fixture
def ref(made_up: MadeUp) -> ImageRef:
    return made_up.add(Image.new("RGB", (8, 6), "red"))


def test_local_images_lie_below_the_root_under_the_name_of_their_content(
    made_up: MadeUp, ref: ImageRef, tmp_path: Path
) -> None:
    place = LocalImages(made_up.read, tmp_path, "a run")
    assert place.url(ref) == place.url(ref) == f"/data/local-files/?d=a%20run/{file_name(ref)}"
    (file,) = tmp_path.rglob("*.png")
    assert file == tmp_path / "a run" / file_name(ref)
    assert file.read_bytes() == made_up.read(ref)


@pytest.mark.parametrize("folder", ["", ".", "..", "a/../../b", "/tmp"])
def test_a_folder_that_is_not_below_the_root_is_refused(made_up: MadeUp, tmp_path: Path, folder: str) -> None:
    with pytest.raises(BadInput, match="is not below the document root"):
        LocalImages(made_up.read, tmp_path, folder)


def test_a_local_storage_is_made_once(made_up: MadeUp, tmp_path: Path) -> None:
    server, place = Server(), LocalImages(made_up.read, tmp_path, "run")
    place.connect(server.ask, 7)
    place.connect(server.ask, 7)
    (storage,) = server.storages
    assert (storage["project"], storage["path"]) == (7, str(tmp_path / "run"))
    assert (tmp_path / "run").is_dir()


def test_s3_images_are_laid_out_for_the_bucket_and_its_storage_is_made_once(
    made_up: MadeUp, ref: ImageRef, tmp_path: Path
) -> None:
    server = Server()
    place = S3Images(made_up.read, tmp_path, "bucket", "some/where", "http://127.0.0.1:9", None, "key", "hidden")
    assert place.url(ref) == f"s3://bucket/some/where/{file_name(ref)}"
    assert (tmp_path / "some" / "where" / file_name(ref)).read_bytes() == made_up.read(ref)
    place.connect(server.ask, 7)
    place.connect(server.ask, 7)
    (storage,) = server.storages
    del storage["id"]
    assert storage == {
        "project": 7,
        "title": "regionwise",
        "bucket": "bucket",
        "prefix": "some/where",
        "s3_endpoint": "http://127.0.0.1:9",
        "aws_access_key_id": "key",
        "aws_secret_access_key": "hidden",
        "use_blob_urls": True,
        "presign": True,
    }
    assert "hidden" not in repr(place)


def test_data_images_are_in_the_task(made_up: MadeUp, ref: ImageRef) -> None:
    head, _, data = DataImages(made_up.read).url(ref).partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == made_up.read(ref)


def test_a_project_is_made_once_and_its_interface_put_right(made_up: MadeUp, tmp_path: Path) -> None:
    server, place = Server(), LocalImages(made_up.read, tmp_path, "run")
    assert open_project(server.ask, "a title", place) == open_project(server.ask, "a title", place) == 1
    assert server.projects[0]["label_config"] == labels_config()
    assert "/data/local-files/?d=run/" in server.projects[0]["expert_instruction"]
    assert ("PATCH", "/api/projects/1/") not in server.asked
    server.projects[0]["label_config"] = "<View/>"
    assert open_project(server.ask, "a title", place) == 1
    assert server.projects[0]["label_config"] == labels_config()
    server.projects.append(dict(server.projects[0]))
    with pytest.raises(BadInput, match="is there 2 times"):
        open_project(server.ask, "a title", place)


def test_other_places_have_no_pictures(made_up: MadeUp, tmp_path: Path) -> None:
    places: list[ImagePlace] = [S3Images(made_up.read, tmp_path, "bucket"), DataImages(made_up.read)]
    for place in places:
        server = Server()
        open_project(server.ask, "a title", place)
        assert "<img" not in server.projects[0]["expert_instruction"]
