"""How the Label Studio projects of a run are reached: whose server, which token, and a client for each of them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import ValidationError

from annotation.raters.routing import QueueName
from annotation.store import AnnotationStore
from annotation.studio.account import local_address
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

    studio: the data folder of a local server, whose account is signed in with whatever stands in `token_env`.
    Raises: BadInput where nothing says where the server is.
    """
    documents = None
    if studio is not None:
        local = local_address(studio)
        url, documents = url or local.url, Path(local.documents)
    link = read_link(run)
    url = url or (link.url if link else None)
    if url is None:
        raise BadInput(str(run), "was pushed nowhere yet", "give --url, or --studio for a local server")
    try:
        return StudioSettings(url=url, token_env=token_env, studio=studio, batch_tasks=batch_tasks), documents
    except ValidationError as error:
        raise BadInput("Label Studio", first_fault(error), "see `regionwise push --help`") from None


def task_kind(queue: QueueName) -> Kind:
    """Which interface the tasks of a queue have."""
    return "ranking" if queue == "ranking" else "regions"


def open_queue(
    link: StudioLink,
    settings: StudioSettings,
    store: AnnotationStore,
    image_url: Callable[[ImageRef], str],
    queue: QueueName,
) -> StudioClient:
    """A client, to be closed, of the project of one of the link's queues."""
    kind = task_kind(queue)
    config = ranking_config() if kind == "ranking" else labels_config()
    return open_studio(settings.model_copy(update={"project": link.projects[queue]}), store, config, image_url, kind)


@contextmanager
def open_clients(
    link: StudioLink, settings: StudioSettings, store: AnnotationStore, image_url: Callable[[ImageRef], str]
) -> Iterator[dict[QueueName, StudioClient]]:
    """A client for each of the link's projects, closed with the block."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(open_queue(link, settings, store, image_url, name)) for name in link.projects}
