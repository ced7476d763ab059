"""The calls of models as messages, both ways: what is asked, what is answered, and what went wrong.

A call's document has `model` (`detector`, `outliner` or `editor`), `part` (for people) and its arguments; images and
masks are its arrays. An answer's document has `answer`, `cannot_edit` or `error`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

import schemas.errors
from pipeline.editors.protocol import CannotEdit, Edit
from pipeline.models.protocols import Detection, Prompt, Segment
from runtime.images import ImageU8
from runtime.messages import Message
from schemas.candidate import AppliedEdit, Defect
from schemas.errors import RegionwiseError
from schemas.request import EditRequest

DETECTOR, OUTLINER, EDITOR = "detector", "outliner", "editor"


def describe_call(model: str) -> Message:
    """Asks a model for its name and revision."""
    return Message({"model": model, "part": "", "describe": True})


def detect_call(part: str, images: Sequence[ImageU8], phrases: Sequence[Sequence[str]]) -> Message:
    """`Detector.detect`."""
    return Message({"model": DETECTOR, "part": part, "phrases": [list(some) for some in phrases]}, tuple(images))


def segment_call(part: str, images: Sequence[ImageU8], prompts: Sequence[Sequence[Prompt]]) -> Message:
    """`PromptSegmenter.segment`."""
    asked = [[asdict(prompt) for prompt in some] for some in prompts]
    return Message({"model": OUTLINER, "part": part, "prompts": asked}, tuple(images))


def edit_call(part: str, request: EditRequest, sources: Sequence[ImageU8], index: int, seed: int) -> Message:
    """`Editor.edit`."""
    document = {"model": EDITOR, "part": part, "request": request.model_dump_json(), "index": index, "seed": seed}
    return Message(document, tuple(sources))


def read_prompts(document: dict[str, Any]) -> list[list[Prompt]]:
    """The prompts of a `segment_call`."""
    return [[_prompt(prompt) for prompt in some] for some in document["prompts"]]


def _prompt(fields: dict[str, Any]) -> Prompt:
    box = tuple(fields["box"]) if fields["box"] is not None else None
    return Prompt(box, tuple((x, y, bool(on)) for x, y, on in fields["points"]))


def detections_answer(found: Sequence[Sequence[Detection]]) -> Message:
    """What `Detector.detect` returned; a number that is none crosses as it is."""
    return Message({"answer": [[_detection(one) for one in some] for some in found]})


def _detection(one: Detection) -> tuple[list[float], float, int]:
    return [float(side) for side in one.box], float(one.score), int(one.phrase)


def read_detections(message: Message) -> list[list[Detection]]:
    """The other way of `detections_answer`."""
    return [[Detection(tuple(box), score, phrase) for box, score, phrase in some] for some in _answer(message)]


def segments_answer(found: Sequence[Sequence[Segment]]) -> Message:
    """What `PromptSegmenter.segment` returned."""
    confidences = [[float(segment.confidence) for segment in some] for some in found]
    return Message(
        {"answer": confidences}, tuple(np.asarray(segment.mask, dtype=np.bool_) for some in found for segment in some)
    )


def read_segments(message: Message) -> list[list[Segment]]:
    """The other way of `segments_answer`."""
    masks = iter(message.arrays)
    return [[Segment(next(masks), confidence) for confidence in some] for some in _answer(message)]


def edit_answer(made: Edit) -> Message:
    """What `Editor.edit` returned."""
    return Message(
        {
            "answer": {
                "seed": _plain(made.seed),
                "parameters": {key: _plain(one) for key, one in made.parameters.items()},
            },
            "edits": [edit.model_dump_json() for edit in made.edits],
            "defects": [defect.model_dump_json() for defect in made.defects],
        },
        (made.image,),
    )


def _plain(value: Any) -> Any:
    """A scalar of numpy as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def read_edit(message: Message) -> Edit:
    """The other way of `edit_answer`. Raises: CannotEdit as the editor did."""
    if "cannot_edit" in message.document:
        raise CannotEdit(*message.document["cannot_edit"])
    told = _answer(message)
    edits = tuple(AppliedEdit.model_validate_json(text) for text in message.document["edits"])
    defects = tuple(Defect.model_validate_json(text) for text in message.document["defects"])
    return Edit(message.arrays[0], told["seed"], told["parameters"], edits, defects)


def description_answer(model: Any) -> Message:
    """Name and revision of a model; of an editor also whether it is synthetic."""
    return Message({"answer": [model.name, model.revision, getattr(model, "synthetic", None)]})


def read_description(message: Message) -> tuple[str, str, bool | None]:
    """The other way of `description_answer`."""
    name, revision, synthetic = _answer(message)
    return name, revision, synthetic


def cannot_edit_answer(error: CannotEdit) -> Message:
    """The reason why an editor cannot carry out a request."""
    return Message({"cannot_edit": [error.reason, error.detail]})


def error_answer(error: RegionwiseError) -> Message:
    """An error, to be raised where the call came from."""
    return Message({"error": [type(error).__name__, error.thing, error.fault, error.remedy]})


def _answer(message: Message) -> Any:
    """The answer. Raises: RegionwiseError, of the class that was raised by the model."""
    if "error" in message.document:
        name, thing, fault, remedy = message.document["error"]
        raise getattr(schemas.errors, name, RegionwiseError)(thing, fault, remedy)
    return message.document["answer"]
