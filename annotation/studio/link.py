"""A run's link to its Label Studio projects: `RUN/studio.json`, written by a push, read by a collect.

It never holds a token, only the name of the environment variable that does.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from annotation.raters.routing import QueueName
from runtime.files import write_whole
from runtime.locks import locked_file
from schemas.errors import BadInput
from schemas.record import Document

FILE_NAME = "studio.json"


class StudioLink(Document):
    """A run's projects. url: the server; token_env: where its token is; projects: number there by queue."""

    schema_name: ClassVar[str] = "studio-link"

    url: Annotated[str, Field(max_length=2000)]
    token_env: Annotated[str, Field(max_length=200)]
    title: Annotated[str, Field(min_length=1, max_length=100)]
    projects: dict[QueueName, Annotated[int, Field(gt=0)]] = {}


def read_link(run: Path) -> StudioLink | None:
    """The run's link, None where nothing was pushed. Raises: BadInput for a damaged file."""
    path = run / FILE_NAME
    try:
        return StudioLink.from_json(path.read_bytes(), thing=str(path))
    except FileNotFoundError:
        return None


def require_link(run: Path) -> StudioLink:
    """The run's link. Raises: BadInput where nothing was pushed."""
    link = read_link(run)
    if link is None:
        raise BadInput(str(run), "was pushed to no Label Studio", "push it first: `regionwise push`")
    return link


def add_project(run: Path, link: StudioLink, queue: QueueName, make: Callable[[], int]) -> StudioLink:
    """The link with the queue's project, as `make` finds or makes it, written down beside those of other pushes.

    One process at a time does so for a run: two would make a project each, or forget the other's.
    """
    with locked_file(run / f"{FILE_NAME}.lock"):
        number = make()
        there = read_link(run)
        others = there.projects if there else {}
        link = link.model_copy(update={"projects": {**link.projects, **others, queue: number}})
        write_whole(run / FILE_NAME, link.model_dump_json(indent=1) + "\n")
    return link
