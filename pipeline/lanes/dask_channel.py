"""Model calls on a Dask cluster: each is a task of its own, for a worker that offers the resource `GPU`.

Such a worker is started with `dask worker ADDRESS --resources GPU=1` and asks one model at a time. Dask gives a call
whose worker died to another one. Calls of several parts are not batched together here.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from uuid import uuid4

from pipeline.build_models import LocalModels, Models
from pipeline.lanes import calls
from pipeline.lanes.answer import answers, refusal
from pipeline.prepare import run_info
from pipeline.run.dask_cluster import connected, give_thread_up
from runtime.messages import Message, from_bytes, to_bytes
from schemas.errors import BadInput, RegionwiseError

RESOURCE = "GPU"
#: One call at a time in a process: models are not to be asked by two threads at once.
_MODELS = Lock()
_CONNECTING = Lock()


@dataclass(frozen=True)
class DaskChannel:
    """A `pipeline.lanes.remote.Channel` from within a task of the cluster.

    run: of the build whose models are asked. id: of the command, whose models have one name and revision.
    """

    run: str
    id: str = field(default_factory=lambda: uuid4().hex)

    def call(self, message: Message) -> Message:
        """As `Channel.call`. The task that calls gives its thread up to others, who may be the ones to answer."""
        from distributed import KilledWorker

        give_thread_up()
        client = _client()
        data = client.scatter(to_bytes(message), direct=True, hash=False)
        answer = client.submit(answer_bytes, self.run, data, resources={RESOURCE: 1}, pure=False)
        try:
            return from_bytes(answer.result())
        except KilledWorker:
            what = f"the {message.document['model']}, asked for {message.document['part']}"
            fault = f"ended its worker again and again (those with the resource {RESOURCE})"
            raise RegionwiseError(what, fault, "start again: what is done is kept") from None


def _client() -> Any:
    """The client of this worker, connected.

    One thread at a time: `distributed` hands a client that another thread is still connecting to who comes second: its
    messages are lost, or come before the greeting that the first one waits for.
    """
    from distributed import get_client

    with _CONNECTING:
        return get_client()


def check_cluster(address: str) -> None:
    """Raises: BadInput where no worker of a cluster offers the resource that model calls need, or nobody answers."""
    with connected(address) as client:
        found = client.scheduler_info(n_workers=-1)["workers"].values()
    if not any(worker["resources"].get(RESOURCE) for worker in found):
        raise BadInput(
            f"Dask cluster {address}",
            f"has no worker that offers the resource {RESOURCE}, and this build asks models",
            f"start those that have the models' files and device with `dask worker {address} --resources {RESOURCE}=1`",
        )


def answer_bytes(run: str, data: bytes) -> bytes:
    """The answer to one call, by the models of a run, loaded once in this process."""
    call = from_bytes(data)
    config = run_info(Path(run))[1]
    found: list[Message] = []

    place = f"device {config.device} of a Dask worker"

    def ask() -> None:
        try:
            with _MODELS:
                found.extend(answers([call], _models(run, id(config)), place))
        except BaseException as error:  # SystemExit of a model ends its thread, and is no silence
            found.append(refusal(RuntimeError(repr(error)), call, place))

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(config.model_timeout_s)
    if not found:
        fault = f"gave no answer for {call.document['part']} in {config.model_timeout_s:g} s"
        remedy = "restart that worker; start again: what is done is kept"
        found.append(calls.error_answer(RegionwiseError(f"the {call.document['model']}", fault, remedy)))
    return to_bytes(found[0])


@lru_cache(maxsize=1)
def _models(run: str, _config: int) -> Models:
    """_config: the id of the run's config, which the kept models hold, so that no other one has it meanwhile."""
    return LocalModels(run_info(Path(run))[1], Path(run))
