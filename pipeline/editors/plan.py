"""A request carried out cleanly, once: its steps, their regions, the wanted image. Candidates start from it."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from pipeline.editors import operations
from pipeline.editors.operations import Lab, Painted, to_lab
from pipeline.editors.orders import Order, order_of
from pipeline.editors.protocol import CannotEdit
from pipeline.editors.shapes import ImageF32, colour_lab
from pipeline.editors.target_mask import clip_box, target_mask, thing_in_box
from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.candidate import AppliedEdit
from schemas.record import short_hash
from schemas.region import region_id
from schemas.request import EditRequest, Target

#: Operations that may have the whole image as their target, and the labels that mean it.
GLOBAL_OPERATIONS = ("recolour", "relight")
WHOLE_IMAGE = {"image", "picture", "photo", "photograph", "scene", "everything"}
_BESIDE_IT = {"the", "this", "whole", "entire", "full"}
#: How far the soft border of an edit reaches over its region.
BORDER_PX = 2


@dataclass(frozen=True)
class Step:
    """One target's clean edit. thing: the mask it acts on; region: all it means to change, old place and new."""

    target: int
    order: Order
    thing: MaskBool
    before: ImageU8
    region: MaskBool

    def applied(self) -> AppliedEdit:
        """The record of this step."""
        return AppliedEdit(target=self.target, operation=self.order.operation, parameters=self.order.parameters)


@dataclass(frozen=True)
class Plan:
    """The clean edit of a request. source, wanted: HWC uint8; steps: in the order of turns."""

    request: str
    sources: tuple[ImageU8, ...]
    steps: tuple[Step, ...]
    wanted: ImageU8

    @property
    def source(self) -> ImageU8:
        """The canvas."""
        return self.sources[0]

    @cached_property
    def wanted_lab(self) -> ImageF32:
        """CIE Lab of the wanted image."""
        return to_lab(self.wanted)

    @cached_property
    def background(self) -> MaskBool:
        """Everything that no step may touch, its soft border included."""
        touched = np.zeros(self.wanted.shape[:2], dtype=np.bool_)
        for step in self.steps:
            touched |= grown(step.region, BORDER_PX)
        return ~touched

    def step(self, target: int) -> Step:
        """The step of a target. Raises: ValueError where there is none."""
        for step in self.steps:
            if step.target == target:
                return step
        raise ValueError(f"request {self.request} has no target {target}")

    def others(self, target: int) -> MaskBool:
        """The regions of all other targets together."""
        union = np.zeros(self.wanted.shape[:2], dtype=np.bool_)
        for step in self.steps:
            if step.target != target:
                union |= step.region
        return union

    def masks(self) -> dict[str, MaskBool]:
        """Planned region id -> what its edit means to change, (H, W, bool)."""
        return {region_id(self.request, step.target): step.region for step in self.steps}


def grown(mask: MaskBool, by_px: int) -> MaskBool:
    """`mask` and all within `by_px` of it (square neighbourhood)."""
    kernel = np.ones((2 * by_px + 1, 2 * by_px + 1), dtype=np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel), dtype=np.bool_)


def make_plan(request: EditRequest, sources: list[ImageU8]) -> Plan:
    """Carries out `request` without a flaw, turn by turn.

    Raises: CannotEdit with reason `no_target`, `no_target_box`, `bad_target_box`, `no_source`, or as `order_of`.
    """
    if not request.targets:
        raise CannotEdit("no_target", "the request names no target; give targets, or build with --detector")
    canvas = sources[0]
    steps: list[Step] = []
    image = canvas
    for index, target in sorted(enumerate(request.targets), key=lambda item: (item[1].turn, item[0])):
        thing = _mask(canvas, target)
        rng = np.random.default_rng(int(short_hash("order", request.id, index), 16))
        order = order_of(target, canvas, thing, rng)
        painted, region = carry_out(order, image, thing, sources)
        steps.append(Step(target=index, order=order, thing=thing, before=image, region=region))
        image = painted
    return Plan(request=request.id, sources=tuple(sources), steps=tuple(steps), wanted=image)


def _means_everything(label: str) -> bool:
    words = set(label.casefold().split()) - _BESIDE_IT
    return bool(words) and words <= WHOLE_IMAGE


def _mask(canvas: ImageU8, target: Target) -> MaskBool:
    if target.box is None and target.mask is None:
        if target.operation in GLOBAL_OPERATIONS and _means_everything(target.label):
            return np.ones(canvas.shape[:2], dtype=np.bool_)
        raise CannotEdit("no_target_box", f"target {target.label!r} has neither box nor mask; give it a box")
    try:
        mask = target_mask(canvas, target)
    except ValueError as error:
        raise CannotEdit("bad_target_box", str(error)) from None
    if mask.any():
        return mask
    raise CannotEdit("bad_target_box", f"target {target.label!r} covers no pixel; give it a box inside the image")


def carry_out(order: Order, image: ImageU8, thing: MaskBool, sources: list[ImageU8] | tuple[ImageU8, ...]) -> Painted:
    """Carries out one order on `image`: (edited image, region)."""
    given = order.parameters
    match order.operation:
        case "recolour":
            return operations.recolour(image, thing, _colour(order))
        case "remove":
            return operations.remove(image, thing)
        case "texture":
            return operations.texture(image, thing, str(given["texture"]), int(given["phase"] or 0))
        case "blur":
            return operations.blur(image, thing, float(given["sigma_px"] or 0))
        case "relight":
            return operations.relight(image, thing, float(given["gain"] or 0))
        case "text":
            return operations.text(image, thing, str(given["text"]), _colour(order))
        case "replace" | "insert" if order.reference is not None:
            return _from_reference(order, image, thing, sources)
        case "replace":
            return operations.replace(image, thing, str(given["shape"]), _colour(order))
        case "insert":
            return operations.insert(image, _box(order, image), str(given["shape"]), _colour(order))
        case "move" | "resize" if order.destination is not None:
            return operations.relocate(image, thing, order.destination)
    raise CannotEdit("unknown_operation", f"the procedural editor has no operation {order.operation}")


def _colour(order: Order) -> Lab:
    return colour_lab(str(order.parameters["color"]))


def _box(order: Order, image: ImageU8) -> tuple[int, int, int, int]:
    if order.box is None:
        raise CannotEdit("no_target_box", "something to be put in needs a box; give it one")
    return clip_box(order.box, image.shape[1], image.shape[0])


def _from_reference(
    order: Order, image: ImageU8, thing: MaskBool, sources: list[ImageU8] | tuple[ImageU8, ...]
) -> Painted:
    """Puts the thing that the reference names (or the whole of its source) into the target's box."""
    reference = order.reference
    if reference is None or reference.source >= len(sources):
        raise CannotEdit("no_source", "a target refers to a source that is not there")
    other = sources[reference.source]
    cut = np.ones(other.shape[:2], dtype=np.bool_)
    if reference.box is not None:
        cut = thing_in_box(other, clip_box(reference.box, other.shape[1], other.shape[0]))
    emptied = operations.remove(image, thing)[0] if order.operation == "replace" else image
    painted, region = operations.paste(emptied, _box(order, image), other, cut)
    return painted, region | thing if order.operation == "replace" else region
