"""A model process: `python -m runtime.child PID pipeline.lanes.process RUN DEVICE LISTENER EVENTS`.

It takes calls from a socket that it shares with its like, so that whoever is idle takes the next one, and says on a
pipe what it is at. It loads a model when it is asked for first. LISTENER and EVENTS are descriptors it inherits.
"""

import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.build_models import LocalModels, Models
from pipeline.editors.protocol import Editor
from pipeline.lanes.answer import answers, refusal, together
from pipeline.lanes.calls import DETECTOR, EDITOR, OUTLINER
from pipeline.models.protocols import Detector, PromptSegmenter
from pipeline.prepare import run_info
from pipeline.run.workers import use_one_thread
from runtime.messages import Message, pack, receive, send_packed
from runtime.processes import ready

Model = TypeVar("Model")

#: On a GPU calls of other parts are taken along until so many images wait: what a batch holds. Not on the CPU, where it
#: gains nothing, and a result would depend in its last digits on who else asked.
FILL_IMAGES = 32
#: A caller has its message in memory before it connects, so that it sends at once or never.
RECEIVE_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Call:
    """A call and where its answer goes."""

    connection: socket.socket
    message: Message


def serve(listener: socket.socket, models: Models, device: str, say: Callable[..., None]) -> None:
    """Answers calls for ever. say: called with what it is at.

    listener: non-blocking, perhaps shared with other processes.
    """
    fill = 0 if device.startswith("cpu") else FILL_IMAGES
    while True:
        taken = take_calls(listener, fill)
        connections = iter([call.connection for call in taken])
        for group in together([call.message for call in taken]):
            say(state="working", parts=sorted({message.document["part"] for message in group} - {""}))
            packed = [_packed(*one, device) for one in zip(answers(group, models, device), group, strict=True)]
            say(state="idle", calls=len(group), images=sum(len(message.arrays) for message in group))
            for descriptor in packed:
                with next(connections) as connection, suppress(OSError):  # who asked may be gone
                    send_packed(connection, descriptor)
                os.close(descriptor)


def _packed(answer: Message, call: Message, device: str) -> int:
    """An answer in memory, or why it cannot be."""
    try:
        return pack(answer)
    except Exception as error:  # of a model of others: what is no number, an array of objects; or no memory is left
        return pack(refusal(error, call, device))


def take_calls(listener: socket.socket, fill: int) -> list[Call]:
    """The next call, and what else waits until there are `fill` images; an edit comes alone, others take the next."""
    taken: list[Call] = []
    while not taken or (_is_small(taken, fill) and _waits(listener)):
        call = _accept(listener, wait=not taken)
        if call is not None:
            taken.append(call)
    return taken


def _is_small(taken: Sequence[Call], fill: int) -> bool:
    if any(call.message.document["model"] == EDITOR for call in taken):
        return False
    return sum(len(call.message.arrays) for call in taken) < fill


def _waits(listener: socket.socket) -> bool:
    return ready(listener.fileno(), 0)


def _accept(listener: socket.socket, wait: bool) -> Call | None:
    """A call, or None where another process was faster or the caller hung up."""
    if wait:
        ready(listener.fileno(), None)
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return None
    connection.settimeout(RECEIVE_TIMEOUT_S)
    try:
        message = receive(connection)
    except (ConnectionError, TimeoutError):
        message = None
    if message is None:
        connection.close()
        return None
    return Call(connection, message)


class AnnouncedModels:
    """Models that say when they are loaded."""

    def __init__(self, models: Models, say: Callable[..., None]) -> None:
        self._models, self._say = models, say
        self._loaded: set[str] = set()

    def detector(self) -> Detector:
        """The detector."""
        return self._announced(DETECTOR, self._models.detector)

    def outliner(self) -> PromptSegmenter:
        """The prompted segmenter."""
        return self._announced(OUTLINER, self._models.outliner)

    def editor(self) -> Editor:
        """The editor."""
        return self._announced(EDITOR, self._models.editor)

    def _announced(self, name: str, load: Callable[[], Model]) -> Model:
        if name in self._loaded:
            return load()
        self._say(state="loading", model=name)
        model = load()
        self._loaded.add(name)
        self._say(state="loaded", model=name)
        return model


def main(arguments: Sequence[str]) -> None:
    """Serves models on one device."""
    run, device, listener, events = arguments
    for descriptor in (int(listener), int(events)):
        os.set_inheritable(descriptor, False)  # what a model starts shall not keep them open
    models = LocalModels(run_info(Path(run))[1].model_copy(update={"device": device}), Path(run))
    use_one_thread()
    out = os.fdopen(int(events), "w", encoding="utf-8", buffering=1)

    def say(**event: object) -> None:
        print(json.dumps(event), file=out)

    with socket.socket(fileno=int(listener)) as shared:
        say(state="idle", calls=0, images=0)
        serve(shared, AnnouncedModels(models, say), device, say)


if __name__ == "__main__":
    main(sys.argv[1:])
