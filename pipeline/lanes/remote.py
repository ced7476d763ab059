"""Models that answer from elsewhere: what a stage is given in place of a detector, a segmenter or an editor."""

import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from pipeline.build_models import Models
from pipeline.editors.protocol import Edit, Editor
from pipeline.lanes import calls
from pipeline.models.protocols import Detection, Detector, Prompt, PromptSegmenter, Segment
from runtime.images import ImageU8
from runtime.messages import Message, pack, receive, send_packed
from schemas.errors import RegionwiseError
from schemas.request import EditRequest

SOCKET, FAULT = "calls.sock", "fault.json"
AGAIN_S = 0.1


class Channel(Protocol):
    """How a call travels. Two channels that are equal lead to the same models."""

    def call(self, message: Message) -> Message:
        """The answer to a call. Raises: RegionwiseError where there is nobody any more who could give it."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class LaneChannel:
    """To the model processes of this machine. folder: of their socket, and of the fault that ended them."""

    folder: str

    def call(self, message: Message) -> Message:
        """As `Channel.call`. A call whose process died is made again, to the one that takes its place."""
        packed = pack(message)
        try:
            while (answer := self._answer(packed)) is None:
                self._raise_where_it_ended()
                time.sleep(AGAIN_S)
            return answer
        finally:
            os.close(packed)

    def _answer(self, packed: int) -> Message | None:
        """The answer, or None where nobody listens or who took the call is gone."""
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(Path(self.folder, SOCKET)))
                send_packed(connection, packed)
                return receive(connection)
            except (ConnectionError, FileNotFoundError):
                return None

    def _raise_where_it_ended(self) -> None:
        folder = Path(self.folder)
        if not folder.is_dir():
            raise RegionwiseError("the model processes", "are gone with the build that started them", "start it again")
        if (folder / FAULT).is_file():
            raise RegionwiseError(*json.loads((folder / FAULT).read_bytes()))


@lru_cache(maxsize=64)
def _described(channel: Channel, model: str) -> tuple[str, str, bool | None]:
    return calls.read_description(channel.call(calls.describe_call(model)))


class _Remote:
    """A model at the other end of a channel. part: what asks, for people."""

    model: str

    def __init__(self, channel: Channel, part: str) -> None:
        self.name, self.revision, synthetic = _described(channel, self.model)
        self.synthetic = bool(synthetic)
        self._channel, self._part = channel, part


class RemoteDetector(_Remote):
    """A `Detector` at the other end of a channel."""

    model = calls.DETECTOR

    def detect(self, images: Sequence[ImageU8], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        """As `Detector.detect`."""
        return calls.read_detections(self._channel.call(calls.detect_call(self._part, images, phrases)))


class RemoteOutliner(_Remote):
    """A `PromptSegmenter` at the other end of a channel."""

    model = calls.OUTLINER

    def segment(self, images: Sequence[ImageU8], prompts: Sequence[Sequence[Prompt]]) -> list[list[Segment]]:
        """As `PromptSegmenter.segment`."""
        return calls.read_segments(self._channel.call(calls.segment_call(self._part, images, prompts)))


class RemoteEditor(_Remote):
    """An `Editor` at the other end of a channel."""

    model = calls.EDITOR

    def edit(self, request: EditRequest, sources: list[ImageU8], index: int, seed: int) -> Edit:
        """As `Editor.edit`. Raises: CannotEdit."""
        return calls.read_edit(self._channel.call(calls.edit_call(self._part, request, sources, index, seed)))


@dataclass(frozen=True)
class RemoteModels:
    """`Models` at the other end of a channel.

    part: what asks, for people, as `regions part 3`. roles: those that the build fills with models; what is embedded
    comes from `local`.
    """

    channel: Channel
    part: str
    roles: tuple[str, ...]
    local: Models

    def detector(self) -> Detector:
        """As `Models.detector`."""
        return RemoteDetector(self.channel, self.part)

    def outliner(self) -> PromptSegmenter:
        """As `Models.outliner`."""
        return RemoteOutliner(self.channel, self.part)

    def editor(self) -> Editor:
        """As `Models.editor`."""
        return RemoteEditor(self.channel, self.part) if calls.EDITOR in self.roles else self.local.editor()
