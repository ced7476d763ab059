"""Calls of models as messages: every answer and error comes back as it was, and calls of several parts together."""

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipeline.editors.protocol import CannotEdit, Edit
from pipeline.lanes import calls, dask_channel
from pipeline.lanes.answer import answers, together
from pipeline.lanes.process import Call, take_calls
from pipeline.lanes.remote import RemoteDetector, RemoteEditor, RemoteOutliner
from pipeline.models.protocols import Detection, Prompt, Segment
from runtime.images import ImageU8
from runtime.messages import Message, from_bytes, to_bytes
from schemas.errors import BadInput, OutOfMemory, RegionwiseError
from schemas.request import EditRequest
from tests.cases.messages import send
from tests.cases.policy_loop_cases import scene_case


class StandIn:
    """Detector, segmenter and editor at once, which keep what they are asked."""

    name, revision, synthetic = "stand-in", "7", True

    def __init__(self) -> None:
        self.asked: list[int] = []

    def detector(self) -> "StandIn":
        return self

    outliner = editor = detector

    def detect(self, images: Sequence[ImageU8], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        self.asked.append(len(images))
        if any("trouble" in some for some in phrases):
            raise BadInput("detector stand-in", "met trouble", "ask for something else")
        return [
            [Detection((0.0, 1.5, float(image.shape[1]), 2.0), image[0, 0, 0] / 255, n) for n, _ in enumerate(some)]
            for image, some in zip(images, phrases, strict=True)
        ]

    def segment(self, images: Sequence[ImageU8], prompts: Sequence[Sequence[Prompt]]) -> list[list[Segment]]:
        self.asked.append(len(images))
        return [
            [Segment(image[..., 0] > len(prompt.points), 0.25 if prompt.box else float("nan")) for prompt in some]
            for image, some in zip(images, prompts, strict=True)
        ]

    def edit(self, request: EditRequest, sources: list[ImageU8], index: int, seed: int) -> Edit:
        if index == 1:
            raise CannotEdit("too_odd", "number 1")
        if index == 2:
            raise OutOfMemory("editor stand-in", "runs out of memory on one image", "take a smaller one")
        if index == 3:
            raise ValueError("broken\nin two lines")
        if index == 4:
            return Edit(np.full((2, 2, 3), np.nan), seed, {})  # type: ignore[arg-type]
        if index == 5:
            sources[0][:] = 0  # its own copy
            return Edit(sources[0], seed, {"strength": np.float32(0.5), "n": np.int64(3)})  # type: ignore[dict-item]
        return Edit(255 - sources[0], seed, {"request": request.id, "index": index})


class Direct:
    """A channel to models in this process, over the bytes of the messages."""

    def __init__(self, models: StandIn) -> None:
        self.models = models

    def call(self, message: Message) -> Message:
        (answer,) = answers([from_bytes(to_bytes(message))], self.models, "cuda:7")
        return from_bytes(to_bytes(answer))


def answered(asked: Sequence[Message], models: StandIn) -> list[Message]:
    return [answer for group in together(asked) for answer in answers(group, models, "cuda:0")]


def pictures(*sizes: int) -> list[ImageU8]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 4, (size, size + 1, 3)).astype(np.uint8) for size in sizes]


def test_a_remote_detector_finds_what_the_model_does() -> None:
    images, phrases = pictures(5, 6, 3), [["a", "b"], [], ["c"]]
    remote = RemoteDetector(Direct(StandIn()), "requests part 0")
    assert (remote.name, remote.revision) == ("stand-in", "7")
    assert remote.detect(images, phrases) == StandIn().detect(images, phrases)


def test_a_remote_outliner_draws_what_the_model_does() -> None:
    images = pictures(5, 6, 3)
    prompts = [[Prompt((0.0, 0.0, 2.5, 3.0)), Prompt(points=((1.0, 2.0, True), (2.0, 2.0, False)))], [], [Prompt()]]
    found = RemoteOutliner(Direct(StandIn()), "regions part 1").segment(images, prompts)
    wanted = StandIn().segment(images, prompts)
    for some, others in zip(found, wanted, strict=True):
        for one, other in zip(some, others, strict=True):
            assert one.mask.dtype == np.bool_
            assert np.array_equal(one.mask, other.mask)
            assert repr(one.confidence) == repr(other.confidence)


def test_a_remote_editor_edits_and_refuses_as_the_model_does() -> None:
    case, remote = scene_case(0), RemoteEditor(Direct(StandIn()), "candidates part 2")
    made = remote.edit(case.request, [case.source], 0, 11)
    assert np.array_equal(made.image, 255 - case.source)
    assert (made.seed, made.parameters, remote.synthetic) == (11, {"request": case.request.id, "index": 0}, True)
    with pytest.raises(CannotEdit, match="number 1") as refused:
        remote.edit(case.request, [case.source], 1, 11)
    assert refused.value.reason == "too_odd"
    with pytest.raises(OutOfMemory, match="runs out of memory on one image; take a smaller one"):
        remote.edit(case.request, [case.source], 2, 11)
    with pytest.raises(RegionwiseError, match=r"on cuda:7, asked for candidates part 2: raised ValueError: broken;"):
        remote.edit(case.request, [case.source], 3, 11)
    with pytest.raises(BadInput, match=r"editor stand-in 7: answered float64 of shape \(2, 2, 3\)"):
        remote.edit(case.request, [case.source], 4, 11)
    assert remote.edit(case.request, [case.source], 5, 11).parameters == {"strength": 0.5, "n": 3}


def test_calls_of_several_parts_are_asked_together_and_each_gets_its_own() -> None:
    sizes, models = ([3, 4], [5], [6, 7, 8]), StandIn()
    asked = [calls.detect_call(f"part {n}", pictures(*some), [["x"]] * len(some)) for n, some in enumerate(sizes)]
    found = [calls.read_detections(answer) for answer in answered(asked, models)]
    assert models.asked == [6]
    assert [[some[0].box[2] for some in one] for one in found] == [[4, 5], [6], [7, 8, 9]]


def test_trouble_with_one_call_is_that_calls_alone() -> None:
    models = StandIn()
    asked = [calls.detect_call("part 0", pictures(3), [[word]]) for word in ("x", "trouble", "y")]
    first, second, third = answered(asked, models)
    assert models.asked == [3, 1, 1, 1]
    with pytest.raises(BadInput, match="met trouble; ask for something else"):
        calls.read_detections(second)
    assert calls.read_detections(first) == calls.read_detections(third) != []


def waiting_calls(folder: Path, messages: Sequence[Message], fill: int) -> tuple[list[Call], list[socket.socket]]:
    """What a process takes of calls that wait already; the connections of those who asked."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "calls.sock"))
    listener.listen()
    listener.setblocking(False)
    asking = []
    for message in messages:
        asking.append(socket.socket(socket.AF_UNIX))
        asking[-1].connect(str(folder / "calls.sock"))
        send(asking[-1], message)
    with listener:
        return take_calls(listener, fill), asking


@pytest.mark.parametrize(
    ("model", "fill", "taken"), [("detector", 4, 2), ("detector", 100, 3), ("detector", 0, 1), ("editor", 100, 1)]
)
def test_what_waits_is_taken_along_until_a_batch_is_full(tmp_path: Path, model: str, fill: int, taken: int) -> None:
    messages = [Message({"model": model, "part": str(n)}, tuple(pictures(3, 3))) for n in range(3)]
    found, asking = waiting_calls(tmp_path, messages, fill)
    assert [call.message.document["part"] for call in found] == ["0", "1", "2"][:taken]
    for connection in [*asking, *(call.connection for call in found)]:
        connection.close()


def test_a_worker_connects_its_client_in_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    connecting, most = [0], [0]

    def get_client() -> str:
        connecting[0] += 1
        most[0] = max(most[0], connecting[0])
        time.sleep(0.05)
        connecting[0] -= 1
        return "client"

    monkeypatch.setattr("distributed.get_client", get_client)
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(lambda _: dask_channel._client(), range(3))) == ["client"] * 3
    assert most == [1]
