"""The requests of a dataset's tars as cases for a policy: sources, planned regions, and goals where they are known.

The mask of a planned region is what its edit means to change, old place and new. Where the embedded editor can carry
the request out, masks and goal are those of its clean edit; else the masks come from the targets' own masks and boxes.
Requests of several sources or turns, and those without a place to edit, are left out and counted by reason.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from pipeline.dataset.shards import read_dataset
from pipeline.editors.plan import make_plan
from pipeline.editors.protocol import CannotEdit
from pipeline.editors.target_mask import clip_box, target_mask
from runtime.images import ImageU8, box_mask, decode_image
from runtime.masks import MaskBool
from schemas.dataset_row import DatasetRow
from schemas.errors import BadInput
from schemas.region import region_id
from schemas.request import EditRequest, Source, Split
from training.policy.edit_cases import PolicyCase


@dataclass(frozen=True)
class _Kept:
    """A request as the tar has it. source: the encoded picture; regions: how many its case has."""

    row: DatasetRow
    source: bytes
    regions: int


class Cases(Sequence[PolicyCase]):
    """Requests whose pictures stay encoded; a case is decoded on every access, the same each time.

    Decoded, the sources, goals and masks of 14,000 requests of 512 px would take some 22 GB.
    """

    def __init__(self, kept: Iterable[_Kept]) -> None:
        self._kept = tuple(kept)

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, place: int) -> PolicyCase: ...

    @overload
    def __getitem__(self, place: slice) -> "Cases": ...

    def __getitem__(self, place: int | slice) -> "PolicyCase | Cases":
        if isinstance(place, slice):
            return Cases(self._kept[place])
        kept = self._kept[place]
        made = case_of(kept.row, decode_image(kept.source))
        assert isinstance(made, PolicyCase)  # it was one when it was read
        return made

    @property
    def most_regions(self) -> int:
        """The largest number of regions in one request."""
        return max((kept.regions for kept in self._kept), default=0)

    def of_regions(self, least: int) -> "Cases":
        """The cases with at least `least` regions."""
        return Cases(kept for kept in self._kept if kept.regions >= least)


def load_cases(dataset: Path, split: Split) -> tuple[Cases, Counter[str]]:
    """(one case for each request of a split, in the order of the tars; why requests were left out, counted).

    Raises: BadInput where nothing is left, or as `pipeline.dataset.shards.read_dataset`.
    """
    cases: dict[str, _Kept] = {}
    left_out: dict[str, str] = {}
    for _, row, members in read_dataset(dataset, split):
        if row.request in cases or row.request in left_out:
            continue
        source = next(data for name, data in members.items() if name.startswith("source."))
        made = case_of(row, decode_image(source))
        if isinstance(made, PolicyCase):
            cases[row.request] = _Kept(row, source, len(made.masks))
        else:
            left_out[row.request] = made
    if not cases:
        reasons = ", ".join(sorted(set(left_out.values()))) or "it has no rows"
        fault = f"has no request of the split {split!r} that a policy can be asked ({reasons})"
        raise BadInput(str(dataset), fault, "build it from requests with targets")
    return Cases(cases.values()), Counter(left_out.values())


def case_of(row: DatasetRow, source: ImageU8) -> PolicyCase | str:
    """The case of a dataset's row, or the reason why there is none."""
    if row.kind != "single":
        return row.kind
    request = _request(row)
    try:
        plan = make_plan(request, [source])
        return PolicyCase(request, source, plan.masks(), plan.wanted)
    except CannotEdit:
        pass  # a request of the user's own words: it has places, but no goal
    try:
        masks = _placed(request, source)
    except ValueError:
        return "no_place"
    return PolicyCase(request, source, masks) if masks else "no_target"


def _request(row: DatasetRow) -> EditRequest:
    digest = row.source_pixels_sha256[0]
    source = Source(
        name=row.source_names[0],
        origin_sha256=digest,
        pixels_sha256=digest,
        width_px=row.width_px,
        height_px=row.height_px,
    )
    return EditRequest(
        id=row.request,
        name=row.request_name,
        kind=row.kind,
        sources=(source,),
        instruction=row.instruction,
        targets=row.targets,
        edit_type=row.edit_type,
        split=row.split,
        synthetic="source" in row.synthetic_parts,
    )


def _placed(request: EditRequest, source: ImageU8) -> dict[str, MaskBool]:
    """Planned region id -> mask of the target and its destination. Raises: ValueError for a target without a place."""
    height, width = source.shape[:2]
    masks = {}
    for index, target in enumerate(request.targets):
        mask = np.array(target_mask(source, target))
        if target.destination is not None:
            mask |= box_mask(clip_box(target.destination, width, height), height, width)
        masks[region_id(request.id, index)] = mask
    return masks
