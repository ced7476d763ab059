"""What else could be asked of an edit: other wordings of its instruction, and instructions that it does not carry out.

Only where the product itself worded the instruction, so that what another one asks is known and not guessed.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.editors.oracle import LOWERS, WRONG_SHARE
from pipeline.editors.shapes import COLOURS, SHAPES, colour_distance, colour_lab
from pipeline.requests.instructions import instruction_for
from pipeline.requests.scenes.requests import PATTERNS
from schemas.dataset_row import DatasetRow
from schemas.record import Scalar, short_hash
from schemas.region import region_id
from schemas.request import Operation, Target
from training.reward.network_io import ASKED

OPERATIONS: tuple[Operation, ...] = (
    "recolour", "remove", "replace", "insert", "texture", "blur", "relight", "move", "resize", "text", "other",
)  # fmt: skip
CLASSES = {"operation": OPERATIONS, "color": tuple(COLOURS), "shape": SHAPES, "texture": PATTERNS}
#: Other wordings of an instruction that training draws from.
WORDINGS = 12
#: Other instructions that a carried out edit is judged under, how often training does so, and what counts as such an
#: edit and as another colour (CIE Lab).
SWAPS, SWAP_SHARE = 12, 0.4
CARRIED_OUT, _ANOTHER_LAB = 24.0, 40.0
#: What any thing in a picture could have been asked for.
_ANY_THING: tuple[tuple[Operation, dict[str, Scalar]], ...] = (
    ("remove", {}),
    ("blur", {}),
    ("relight", {"gain": 1.7}),
    ("relight", {"gain": 0.5}),
    ("texture", {"texture": "stripes"}),
    ("texture", {"texture": "dots"}),
    ("recolour", {"color": "red"}),
    ("recolour", {"color": "blue"}),
    ("recolour", {"color": "yellow"}),
)


@dataclass(frozen=True)
class Swap:
    """Another instruction for the same edit: one region was asked to look otherwise than it does.

    region: its row; asked: its classes of `ASKED`; success_left: the share of its success that is left.
    """

    instruction: str
    region: int
    asked: tuple[int, ...]
    success_left: float


def wordings(row: DatasetRow) -> tuple[str, ...]:
    """`WORDINGS` other ways to give a row's instruction; none where a person worded it."""
    if not _is_of_own_making(row):
        return ()
    size = row.width_px, row.height_px
    orders = [row.targets[n % len(row.targets) :] + row.targets[: n % len(row.targets)] for n in range(WORDINGS)]
    return tuple(instruction_for(order, size, wording=n) for n, order in enumerate(orders))


def _is_of_own_making(row: DatasetRow) -> bool:
    """Whether the product worded the instruction, and so can word another for the same source."""
    size = row.width_px, row.height_px
    return row.kind == "single" and bool(row.targets) and row.instruction == instruction_for(row.targets, size)


def swaps(row: DatasetRow) -> tuple[Swap, ...]:
    """Up to `SWAPS` instructions under which a region that shows what was asked would show the wrong attribute."""
    if not _is_of_own_making(row):
        return ()
    planned = {region_id(row.request, index): index for index in range(len(row.targets))}
    shown = [
        (place, planned[region.region])
        for place, region in enumerate(row.regions)
        if region.region in planned and (region.success or 0) >= CARRIED_OUT
    ]
    found = [(place, index, other) for place, index in shown for other in _otherwise(row.targets[index])]
    rng = np.random.default_rng(int(short_hash("swaps", row.key), 16))
    return tuple(_swap(row, *found[n]) for n in rng.permutation(len(found))[:SWAPS])


def _swap(row: DatasetRow, place: int, index: int, other: Target) -> Swap:
    targets = (*row.targets[:index], other, *row.targets[index + 1 :])
    loss = LOWERS["wrong_attribute", True]["success"].loss(1.0)
    loss *= WRONG_SHARE.get(other.operation, 1.0) if other.operation == row.targets[index].operation else 1.0
    return Swap(instruction_for(targets, (row.width_px, row.height_px)), place, tuple(classes_of(other)), 1 - loss)


def _otherwise(target: Target) -> list[Target]:
    """What else could have been asked of the same thing: another colour or pattern, or another operation."""
    return [
        target.model_copy(update={"parameters": {**target.parameters, **other}}) for other in _attributes(target)
    ] + [
        target.model_copy(update={"operation": operation, "parameters": parameters, "destination": None})
        for operation, parameters in _ANY_THING
        if operation != target.operation and target.role != "add" and target.operation != "other"
    ]


def _attributes(target: Target) -> list[dict[str, Scalar]]:
    given = target.parameters
    if given.get("color") in COLOURS and target.operation in ("recolour", "insert", "replace"):
        asked = colour_lab(str(given["color"]))
        return [{"color": c} for c in COLOURS if colour_distance(colour_lab(c), asked) >= _ANOTHER_LAB]
    if given.get("texture") in PATTERNS and target.operation == "texture":
        return [{"texture": name} for name in PATTERNS if name != given["texture"]]
    return []


def classes_of(target: Target) -> list[int]:
    """What a target asks for, in the classes of `ASKED`; 0 where it does not say."""
    words = {"operation": target.operation, **target.parameters}
    return [CLASSES[name].index(str(words[name])) + 1 if words.get(name) in CLASSES[name] else 0 for name in ASKED]
