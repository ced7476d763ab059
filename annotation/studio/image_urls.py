"""How the annotator's browser comes by the images: files that Label Studio serves, S3-compatible storage, or data URIs.

| place | the images | what the project needs |
|---|---|---|
| `LocalImages` | files below the server's document root | a local storage (`connect`) |
| `S3Images` | files in a folder, laid out as in the bucket, to be copied there before | an S3 storage (`connect`) |
| `DataImages` | inside the tasks, a third larger | nothing; for few or small images |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from runtime.files import write_whole
from runtime.images import EXTENSIONS, data_url
from schemas.errors import BadInput
from schemas.sample import ImageRef

#: The encoded bytes of an image of the run.
ReadImage = Callable[[ImageRef], bytes]
#: Asks a Label Studio: method, path, JSON body; gives its JSON.
Ask = Callable[[str, str, Mapping[str, Any] | None], Any]


class ImagePlace(Protocol):
    """Where a project's images are."""

    def url(self, ref: ImageRef) -> str:
        """What stands in the task for this image, which is there once this returns."""
        ...

    def picture_url(self, path: Path) -> str | None:
        """The address of a picture of the guidelines, None where this place has none for it."""
        ...

    def connect(self, ask: Ask, project: int) -> None:
        """Lets the project find its images; again it changes nothing."""
        ...


@dataclass(frozen=True)
class LocalImages:
    """Files in `folder` below the server's document root: /data/local-files/?d=FOLDER/NAME.

    Raises: BadInput where `folder` is not below `documents`; the root itself is refused by Label Studio.
    """

    read: ReadImage
    documents: Path
    folder: str

    def __post_init__(self) -> None:
        path = Path(self.folder)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise BadInput(f"image folder {self.folder!r}", "is not below the document root", "give a folder's name")

    def url(self, ref: ImageRef) -> str:
        """See `ImagePlace.url`."""
        name = f"{self.folder}/{file_name(ref)}"
        _write_once(self.documents / name, lambda: self.read(ref))
        return f"/data/local-files/?d={quote(name)}"

    def picture_url(self, path: Path) -> str | None:
        """See `ImagePlace.picture_url`."""
        data = path.read_bytes()
        name = f"{self.folder}/{sha256(data).hexdigest()[:32]}{path.suffix}"
        _write_once(self.documents / name, lambda: data)
        return f"/data/local-files/?d={quote(name)}"

    def connect(self, ask: Ask, project: int) -> None:
        """See `ImagePlace.connect`; without a local storage the images answer 404."""
        folder = self.documents / self.folder
        folder.mkdir(parents=True, exist_ok=True)
        known = ask("GET", f"/api/storages/localfiles/?project={project}", None)
        if not any(storage.get("path") == str(folder) for storage in known):
            body = {"project": project, "title": "regionwise", "path": str(folder), "use_blob_urls": False}
            ask("POST", "/api/storages/localfiles/", body)


@dataclass(frozen=True)
class S3Images:
    """s3://BUCKET/PREFIX/NAME; Label Studio signs an address for each look. Written to `folder`/PREFIX to be copied.

    Without keys Label Studio uses those of its own environment. endpoint: of another S3-compatible service than AWS.
    """

    read: ReadImage
    folder: Path
    bucket: str
    prefix: str = "regionwise"
    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)

    def url(self, ref: ImageRef) -> str:
        """See `ImagePlace.url`; the user copies `folder` into the bucket."""
        name = f"{self.prefix}/{file_name(ref)}"
        _write_once(self.folder / name, lambda: self.read(ref))
        return f"s3://{self.bucket}/{name}"

    def picture_url(self, path: Path) -> str | None:
        """None: Label Studio signs addresses in tasks alone."""
        return None

    def connect(self, ask: Ask, project: int) -> None:
        """See `ImagePlace.connect`. Label Studio looks into the bucket, so the images must be there already."""
        known = ask("GET", f"/api/storages/s3/?project={project}", None)
        if any((storage.get("bucket"), storage.get("prefix")) == (self.bucket, self.prefix) for storage in known):
            return
        keys = {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}
        where = {"s3_endpoint": self.endpoint, "region_name": self.region}
        given = {name: value for name, value in {**keys, **where}.items() if value is not None}
        body = {"project": project, "title": "regionwise", "bucket": self.bucket, "prefix": self.prefix}
        ask("POST", "/api/storages/s3/", {**body, **given, "use_blob_urls": True, "presign": True})


@dataclass(frozen=True)
class DataImages:
    """data:image/png;base64,... in the task itself."""

    read: ReadImage

    def url(self, ref: ImageRef) -> str:
        """See `ImagePlace.url`."""
        return data_url(self.read(ref), ref.format)

    def picture_url(self, path: Path) -> str | None:
        """None: Label Studio drops data URIs from its guidelines."""
        return None

    def connect(self, ask: Ask, project: int) -> None:
        """Nothing is needed."""


def file_name(ref: ImageRef) -> str:
    """The name of an image's file, by its content."""
    return f"{ref.sha256[:32]}.{EXTENSIONS[ref.format]}"


def _write_once(path: Path, read: Callable[[], bytes]) -> None:
    """A file at `path`, whole; what is there already is the same, for the name says what is in it."""
    if path.exists():
        return
    write_whole(path, read())
