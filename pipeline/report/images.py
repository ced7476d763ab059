"""Pictures for the report: thumbnails as data addresses, each source once, and masks as outlines to lay over them."""

from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.images import ImageU8, data_url, decode_image, fit_size_px, resize_image, resize_mask
from runtime.masks import MaskBool

THUMBNAIL_PX = 256
JPEG_QUALITY = 85
#: Outlines are traced on the mask at twice its size, so that a line one pixel wide keeps an area.
OUTLINE_SCALE = 2
#: How far a traced line may be off, in those half pixels; below 1, or thin masks would vanish.
TOLERANCE = 0.9
MOST_OUTLINES = 150


def jpeg_address(image_hwc_u8: ImageU8) -> str:
    """`image_hwc_u8` (RGB) as a JPEG data address, at most 256 px a side."""
    width, height = fit_size_px(image_hwc_u8.shape[1], image_hwc_u8.shape[0], THUMBNAIL_PX)
    buffer = BytesIO()
    Image.fromarray(resize_image(image_hwc_u8, width, height), "RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
    return data_url(buffer.getvalue(), "jpeg")


def outline(mask_hw: MaskBool, width_px: int, height_px: int) -> str:
    """The mask as SVG path data, scaled to an image of this size, in units of half a pixel; '' for an empty mask."""
    mask = resize_mask(mask_hw, width_px, height_px)
    fine: ImageU8 = mask.astype(np.uint8).repeat(OUTLINE_SCALE, axis=0).repeat(OUTLINE_SCALE, axis=1)
    found, _ = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    largest = sorted(found, key=cv2.contourArea, reverse=True)[:MOST_OUTLINES]
    return "".join(
        _closed(np.asarray(cv2.approxPolyDP(contour, TOLERANCE, True)[:, 0], dtype=np.int32)) for contour in largest
    )


def _closed(points_xy: NDArray[np.int32]) -> str:
    start = f"M{points_xy[0][0]} {points_xy[0][1]}"
    steps = "".join(f"l{dx} {dy}" for dx, dy in np.diff(points_xy, axis=0))
    return f"{start}{steps}z"


class Pictures:
    """The images that stand on the page once and are shown by their name wherever they are needed."""

    def __init__(self) -> None:
        self.shared: dict[str, tuple[str, str, int, int]] = {}

    def share(self, key: str, data: bytes) -> tuple[str, int, int]:
        """Puts an image on the page under `key` unless it is there; returns its name and the size it is drawn in.

        That size has 256 units on the longest side, for small images too, so that signs and lines look alike on all.
        """
        if key not in self.shared:
            image = decode_image(data)
            scale = THUMBNAIL_PX / max(image.shape[:2])
            width, height = (max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
            self.shared[key] = f"picture-{len(self.shared)}", jpeg_address(image), width, height
        name, _, width, height = self.shared[key]
        return name, width, height
