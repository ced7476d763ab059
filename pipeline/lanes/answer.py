"""What a model process makes of calls: it asks its models, several small calls together, and answers each."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from typing import Any

import numpy as np

from pipeline.build_models import Models
from pipeline.editors.protocol import CannotEdit, Edit
from pipeline.lanes import calls
from runtime.images import ImageU8
from runtime.messages import Message
from schemas.errors import BadInput, RegionwiseError
from schemas.request import EditRequest


def together(asked: Sequence[Message]) -> Iterator[list[Message]]:
    """Calls in their order, those of one group to be asked together: neighbours for one detector or segmenter."""
    for _, group in groupby(asked, key=_key):
        yield list(group)


def _key(call: Message) -> tuple[str, bool, int]:
    model, describe = call.document["model"], bool(call.document.get("describe"))
    return model, describe, id(call) if describe or model == calls.EDITOR else 0


def answers(group: Sequence[Message], models: Models, place: str) -> list[Message]:
    """One answer to each call of a group of `together`; where that fails, each is asked by itself.

    place: of the process, for people. An error of one call is that call's answer.
    """
    try:
        return _ask(group, models)
    except Exception as error:  # a model of others raises what it likes, and the caller is another process
        if len(group) == 1:
            return [refusal(error, group[0], place)]
    return [answer for one in group for answer in answers([one], models, place)]


def refusal(error: Exception, call: Message, place: str) -> Message:
    """The answer to a call that raised `error`."""
    if isinstance(error, CannotEdit):
        return calls.cannot_edit_answer(error)
    if isinstance(error, RegionwiseError):
        return calls.error_answer(error)
    traceback.print_exception(error)
    said = (str(error).strip().splitlines() or [""])[0][:200]
    thing = f"the {call.document['model']} on {place}, asked for {call.document['part']}"
    return calls.error_answer(RegionwiseError(thing, f"raised {type(error).__name__}: {said}", "its log has the rest"))


def _ask(some: Sequence[Message], models: Models) -> list[Message]:
    call = some[0].document
    if call.get("describe"):
        described: dict[str, Callable[[], Any]] = {
            calls.DETECTOR: models.detector,
            calls.OUTLINER: models.outliner,
            calls.EDITOR: models.editor,
        }
        return [calls.description_answer(described[call["model"]]())]
    if call["model"] == calls.EDITOR:
        return [_edit(some[0], models)]
    images = [image for one in some for image in one.arrays]
    if call["model"] == calls.DETECTOR:
        phrases = [phrase for one in some for phrase in one.document["phrases"]]
        return [calls.detections_answer(found) for found in _split(models.detector().detect(images, phrases), some)]
    prompts = [prompt for one in some for prompt in calls.read_prompts(one.document)]
    return [calls.segments_answer(found) for found in _split(models.outliner().segment(images, prompts), some)]


def _split(found: Sequence[Any], some: Sequence[Message]) -> list[list[Any]]:
    """The answers for the images of several calls, call by call."""
    rest = iter(found)
    return [list(islice(rest, len(one.arrays))) for one in some]


def _edit(call: Message, models: Models) -> Message:
    editor, sources = models.editor(), [np.array(source) for source in call.arrays]  # an editor may draw on them
    request = EditRequest.model_validate_json(call.document["request"])
    made = editor.edit(request, sources, call.document["index"], call.document["seed"])
    return calls.edit_answer(replace(made, image=_checked(made, f"editor {editor.name} {editor.revision}")))


def _checked(made: Edit, editor: str) -> ImageU8:
    image: ImageU8 = np.asarray(made.image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise BadInput(editor, f"answered {image.dtype} of shape {image.shape}, no RGB image of uint8", "mend it")
    return image
