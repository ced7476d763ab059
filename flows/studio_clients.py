"""How the Label Studio projects of a run are reached: whose server, which token, and a client for each of them."""

import os
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from annotation.raters.routing import QueueName
from annotation.store import AnnotationStore
from annotation.studio.account import account_in, local_address
from annotation.studio.client import StudioClient, open_studio
from annotation.studio.http import StudioSettings
from annotation.studio.interface import Kind, labels_config, ranking_config
from annotation.studio.link import StudioLink, read_link
from schemas.errors import BadInput
from schemas.record import first_fault
from schemas.sample import ImageRef


def studio_settings(
    run: Path, url: str | None, token_env: str, studio: Path | None, batch_tasks: int = 250
) -> tuple[StudioSettings, Path | None]:
    """How Label Studio is spoken to, and its document root where that is known.

    studio: the data folder of a local server, whose token then stands in `token_env` of this process.
    Raises: BadInput where nothing says where the server is.
    """
    documents = None
    if studio is not None:
        local = local_address(studio)
        url, documents = url or local.url, Path(local.documents)
        os.environ.setdefault(token_env, account_in(studio).token)
    link = read_link(run)
    url = url or (link.url if link else None)
    if url is None:
        raise BadInput(str(run), "was pushed nowhere yet", "give --url, or --studio for a local server")
    try:
        return StudioSettings(url=url, token_env=token_env, batch_tasks=batch_tasks), documents
    except ValidationError as error:
        raise BadInput("Label Studio", first_fault(error), "see `regionwise push --help`") from None


def task_kind(queue: QueueName) -> Kind:
    """Which interface the tasks of a queue have."""
    return "ranking" if queue == "ranking" else "regions"


def open_clients(
    link: StudioLink, settings: StudioSettings, store: AnnotationStore, image_url: Callable[[ImageRef], str]
) -> dict[QueueName, StudioClient]:
    """A client for each of the link's projects."""
    configs = {"regions": labels_config(), "ranking": ranking_config()}
    return {
        name: open_studio(
            settings.model_copy(update={"project": number}), store, configs[task_kind(name)], image_url, task_kind(name)
        )
        for name, number in link.projects.items()
    }
