"""The members of a sample as WebDataset loaders read them: an image file each, the masks as one, and the row as JSON.

`source.png` (`source1`, ... for further sources), `edited.png`, `masks.png` with the masks of the row's regions
stacked top to bottom, and `json`, a `DatasetRow`. Samples have the same members however many regions they have, as the
loaders of dataset hubs want it.
"""

from collections.abc import Mapping

import numpy as np

from pipeline.dataset.formats.protocol import EncodedImage, SampleImages
from runtime.images import EXTENSIONS, BadImage, decode_image, encode_mask_png, pixels_sha256
from runtime.masks import MaskBool, rle_to_mask
from schemas.dataset_row import DatasetRow
from schemas.errors import BadInput
from schemas.record import canonical_json
from schemas.request import Split


class WebDatasetFormat:
    """Images, masks and row of a sample as a member each."""

    name = "webdataset"

    def members(self, row: DatasetRow, images: SampleImages) -> dict[str, bytes]:
        """The members by name, in the order of the tar."""
        members = {_image_name(_source(index), image): image.data for index, image in enumerate(images.sources)}
        members[_image_name("edited", images.edited)] = images.edited.data
        members["masks.png"] = encode_mask_png(_stacked_masks(row))
        members["json"] = canonical_json(row.model_dump(mode="json"))
        return members

    def row(self, key: str, members: Mapping[str, bytes]) -> DatasetRow:
        """The row in the JSON member. Raises: BadInput, naming `key`."""
        return DatasetRow.from_json(members.get("json", b""), thing=key)

    def fault(self, key: str, members: Mapping[str, bytes], split: Split) -> str | None:
        """What is wrong with one sample, or None."""
        try:
            row = self.row(key, members)
            if _pixels_sha256(members, "edited") != row.edited_pixels_sha256:
                return "the edited image has other pixels than its row says"
            if row.key != key or row.split != split:
                return "the row has another key or split"
            if members.get("masks.png") != encode_mask_png(_stacked_masks(row)):
                return "masks.png does not hold the masks of its row"
            for index, digest in enumerate(row.source_pixels_sha256):
                if _pixels_sha256(members, _source(index)) != digest:
                    return f"source image {index} has other pixels than its row says"
        except (BadInput, BadImage, ValueError) as error:
            return str(error)
        return None


def _source(index: int) -> str:
    return f"source{index or ''}"


def _image_name(stem: str, image: EncodedImage) -> str:
    return f"{stem}.{EXTENSIONS[image.format]}"


def _pixels_sha256(members: Mapping[str, bytes], stem: str) -> str:
    """Of the image that is called `stem`, in whichever file format. Raises: BadImage."""
    data = next((data for name, data in members.items() if name.startswith(f"{stem}.")), b"")
    return pixels_sha256(decode_image(data))


def _stacked_masks(row: DatasetRow) -> MaskBool:
    """The masks of a row's regions, top to bottom: (regions * H, W) bool; one empty mask where it has no region."""
    if not row.regions:
        return np.zeros((row.height_px, row.width_px), dtype=np.bool_)
    return np.concatenate([rle_to_mask(region.mask) for region in row.regions])
