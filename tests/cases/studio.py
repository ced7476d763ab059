"""Tasks for a real Label Studio: small made-up images with known masks, predictions as the editor takes them."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from annotation.studio.interface import region_boxes, region_labels
from schemas.sample import ImageRef

Mask = npt.NDArray[np.bool_]
WIDTH_PX, HEIGHT_PX = 256, 192


@dataclass(frozen=True)
class MadeUp:
    """Images by their ref, as a run's tars would give them."""

    images: dict[str, bytes]

    def add(self, image: Image.Image) -> ImageRef:
        """Keeps an image as PNG."""
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        data = buffer.getvalue()
        digest = sha256(data).hexdigest()
        self.images[digest] = data
        return ImageRef(tar="images/candidates/part-00000.tar", offset=0, length=len(data), sha256=digest, format="png")

    def read(self, ref: ImageRef) -> bytes:
        """The bytes of an image."""
        return self.images[ref.sha256]


def disc(x_px: int, y_px: int, radius_px: int) -> Mask:
    """A disc's mask, HW."""
    ys, xs = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    return np.asarray((xs - x_px) ** 2 + (ys - y_px) ** 2 <= radius_px**2)


def picture(masks: list[Mask], colours: list[str]) -> Image.Image:
    """A grey picture with a coloured thing under every mask and a dark frame, so that a cut edge is seen."""
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), "#9aa0a6")
    for mask, colour in zip(masks, colours, strict=True):
        image.paste(colour, mask=Image.fromarray(mask))
    ImageDraw.Draw(image).rectangle((0, 0, WIDTH_PX - 1, HEIGHT_PX - 1), outline="#202124", width=3)
    return image


def task(
    instruction: str, regions: Mapping[str, tuple[str, Mask]], source: str, edited: str, candidate: str = "c" * 16
) -> dict[str, Any]:
    """A task as it is imported. regions: label and mask by key, in order; source, edited: the images' addresses."""
    labels = [label for label, _ in regions.values()]
    names = [label["value"] for label in region_labels(labels)]
    items = [
        {
            "id": key,
            "from_name": "mask",
            "to_name": "edited",
            "type": "brushlabels",
            "original_width": WIDTH_PX,
            "original_height": HEIGHT_PX,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": _rle(mask), "brushlabels": [name]},
        }
        for (key, (_, mask)), name in zip(regions.items(), names, strict=True)
    ]
    data = {
        "schema": "studio-task/1",
        "candidate": candidate,
        "instruction": instruction,
        "source_image": source,
        "edited_image": edited,
        "regions": [{"region": key, "label": label} for key, (label, _) in regions.items()],
        "region_labels": region_labels(labels),
        "region_boxes": region_boxes(labels),
    }
    return {"data": data, "predictions": [{"model_version": "regionwise", "result": items}]}


def _rle(mask: Mask) -> list[int]:
    from label_studio_sdk.converter.brush import encode_rle

    return list(encode_rle(np.repeat(mask.astype(np.uint8).ravel() * 255, 4)))


def alpha(item: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """The alpha channel of a result item's mask, HW."""
    from label_studio_sdk.converter.brush import decode_rle

    values = np.asarray(decode_rle(item["value"]["rle"]), dtype=np.uint8)
    return values.reshape(item["original_height"], item["original_width"], 4)[..., 3]


def iou(first: Mask, second: Mask) -> float:
    """Intersection over union of two masks."""
    return float((first & second).sum() / (first | second).sum())
