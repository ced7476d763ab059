"""The members of a sample as WebDataset loaders read them: image files and the row as JSON.

`source.png` (`source1`, ... for further sources), `edited.png`, `regions.png`, in which one sees where the regions
lie, and `json`, a `DatasetRow` with their masks. Samples have the same members however many regions they have, as
the loaders of dataset hubs want it. Rows of `dataset-row/1` had the masks in `masks.png`, stacked top to bottom.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np

from pipeline.dataset.formats.protocol import EncodedImage, SampleImages
from pipeline.dataset.rows import row_fault
from runtime.images import (
    EXTENSIONS,
    BadImage,
    LabelsU16,
    check_form,
    decode_image,
    decode_labels_png,
    encode_labels_png,
    encode_mask_png,
    pixels_sha256,
)
from runtime.masks import MaskBool, rle_to_mask
from schemas.dataset_row import DatasetRow
from schemas.errors import BadInput
from schemas.geometry import CocoRle
from schemas.record import canonical_json, other_value
from schemas.request import Split

#: Of the masks of a row, so many bytes are kept while it is looked at.
KEPT_MASK_BYTES = 1 << 26


class WebDatasetFormat:
    """Images, masks and row of a sample as a member each."""

    name = "webdataset"

    def members(self, row: DatasetRow, images: SampleImages) -> dict[str, bytes]:
        """The members by name, in the order of the tar."""
        members = {_image_name(_source(index), image): image.data for index, image in enumerate(images.sources)}
        members[_image_name("edited", images.edited)] = images.edited.data
        members["regions.png"] = encode_labels_png(label_map(row))
        members["json"] = canonical_json(row.model_dump(mode="json"))
        return members

    def row(self, key: str, members: Mapping[str, bytes]) -> DatasetRow:
        """The row in the JSON member. Raises: BadInput, naming `key`."""
        return DatasetRow.from_json(members.get("json", b""), thing=key)

    def fault(self, key: str, members: Mapping[str, bytes], split: Split, row: DatasetRow | None = None) -> str | None:
        """What is wrong with one sample, or None. row: where it was read already."""
        try:
            row = row or self.row(key, members)
            masks = lru_cache(max(1, KEPT_MASK_BYTES // max(1, row.height_px * row.width_px)))(rle_to_mask)
            if _pixels_sha256(members, "edited") != row.edited_pixels_sha256:
                return "the edited image has other pixels than its row says"
            if row.key != key or row.split != split:
                return "the row has another key or split"
            if fault := row_fault(row, masks) or _regions_fault(row, members, masks):
                return fault
            if place := _other_value(row, members):
                return f"{place} is not of the type that it should have"
            for index, digest in enumerate(row.source_pixels_sha256):
                if _pixels_sha256(members, _source(index)) != digest:
                    return f"source image {index} has other pixels than its row says"
        except (BadInput, BadImage, ValueError) as error:
            return str(error)
        return None


def label_map(row: DatasetRow, masks: Callable[[CocoRle], MaskBool] = rle_to_mask) -> LabelsU16:
    """(H, W): where regions lie, by their number in the row from 1; 0 for none, smaller ones over larger.

    masks: what decodes a mask.
    """
    labels = np.zeros((row.height_px, row.width_px), dtype=np.uint16)
    for number in sorted(range(len(row.regions)), key=lambda number: -row.regions[number].area_px):
        labels[masks(row.regions[number].mask)] = number + 1
    return labels


def _other_value(row: DatasetRow, members: Mapping[str, bytes]) -> str | None:
    document = json.loads(members["json"])
    return other_value(document, row.model_dump(mode="json") | {"schema": document.get("schema")})


def _regions_fault(row: DatasetRow, members: Mapping[str, bytes], masks: Callable[[CocoRle], MaskBool]) -> str | None:
    """What is wrong with the picture of the regions, by its pixels. Raises: BadImage, ValueError."""
    stacked = json.loads(members["json"]).get("schema") == "dataset-row/1"
    name, expected = ("masks.png", _stacked_masks(row)) if stacked else ("regions.png", label_map(row, masks))
    data = members.get(name, b"")
    check_form(data, "PNG")
    same = stacked and data == encode_mask_png(expected > 0)  # whatever its size
    same = same or np.array_equal(decode_labels_png(data) > 0 if stacked else decode_labels_png(data), expected)
    return None if same else f"{name} does not show the masks of its row"


def _source(index: int) -> str:
    return f"source{index or ''}"


def _image_name(stem: str, image: EncodedImage) -> str:
    return f"{stem}.{EXTENSIONS[image.format]}"


def _pixels_sha256(members: Mapping[str, bytes], stem: str) -> str:
    """Of the image that is called `stem`, in whichever file format. Raises: BadImage."""
    name, data = next(((name, data) for name, data in members.items() if name.startswith(f"{stem}.")), ("", b""))
    return _pixels_of_file(data, "JPEG" if name.endswith(EXTENSIONS["jpeg"]) else "PNG")


@lru_cache(2)  # candidates of a request lie side by side and have one source
def _pixels_of_file(data: bytes, form: str) -> str:
    check_form(data, form, "RGB")
    return pixels_sha256(decode_image(data))


def _stacked_masks(row: DatasetRow) -> MaskBool:
    """The masks of a row's regions, top to bottom: (regions * H, W) bool; one empty mask where it has no region."""
    if not row.regions:
        return np.zeros((row.height_px, row.width_px), dtype=np.bool_)
    return np.concatenate([rle_to_mask(region.mask) for region in row.regions])
