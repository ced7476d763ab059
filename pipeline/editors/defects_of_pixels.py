"""Defects of the picture itself: drifted colours, a seam, noise, compression and warped geometry."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.editors.defect_strength import (
    COMPRESSION_LAB,
    DRIFT_LAB,
    NOISE_RGB,
    SEAM_LIGHTNESS,
    SEAM_PX,
    WARP_LAB,
    WARP_PX,
    defect_place,
    grade,
    lab_distance,
    lab_shift,
    length_px,
    opacity,
    target_of,
)
from pipeline.editors.operations import compose, from_lab, soft, to_lab
from pipeline.editors.plan import Plan
from runtime.images import ImageU8
from runtime.masks import MaskBool, mask_box
from schemas.candidate import Defect

#: Full-size colour: blocks and ringing show, not a soft bleeding of colour.
_JPEG_SAMPLING = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def background_drift(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """Colour and brightness of the whole background shift."""
    place = defect_place(plan, defect)
    shift = lab_shift(grade(DRIFT_LAB, defect.strength), to_lab(image)[place].mean(axis=0), rng, 0.6)
    return compose(image, from_lab(to_lab(image) + shift), opacity(plan, defect))


def seam(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """A visible line along the region's border, lighter or darker than what lies there."""
    region = plan.step(target_of(defect)).region.astype(np.uint8)
    inwards, outwards = cv2.distanceTransform(region, cv2.DIST_L2, 3), cv2.distanceTransform(1 - region, cv2.DIST_L2, 3)
    line = (inwards + outwards) <= length_px(plan, defect, SEAM_PX)
    lab = to_lab(image)
    sign = -1.0 if float(lab[..., 0][line].mean()) > 50 else 1.0
    lab[..., 0] = np.clip(lab[..., 0] + sign * grade(SEAM_LIGHTNESS, defect.strength), 0, 100)
    return compose(image, from_lab(lab), np.minimum(soft(line) * np.float32(1.4), 1))


def noise(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """Grainy noise, independent in every pixel."""
    grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(grade(NOISE_RGB, defect.strength))
    return compose(image, np.clip(image + grain, 0, 255), opacity(plan, defect))


def compression(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """JPEG artefacts, at the quality that does the visible damage that the strength stands for."""
    place = defect_place(plan, defect)
    aim = grade(COMPRESSION_LAB, defect.strength)
    low, high = 1, 50
    while low < high:
        middle = (low + high + 1) // 2
        harm = lab_distance(_jpeg(image, place, middle), image, place)
        low, high = (middle, high) if harm >= aim else (low, middle - 1)
    return compose(image, _jpeg(image, place, low), opacity(plan, defect))


def _jpeg(image: ImageU8, place: MaskBool, quality: int) -> ImageU8:
    """`image` with the box around `place` sent through JPEG."""
    x1, y1, x2, y2 = mask_box(place) or (0, 0, 1, 1)
    data = cv2.imencode(".jpg", image[y1:y2, x1:x2, ::-1], [*_JPEG_SAMPLING, cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    result = image.copy()
    result[y1:y2, x1:x2] = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
    return result


def warp(image: ImageU8, plan: Plan, defect: Defect, rng: np.random.Generator) -> ImageU8:
    """The geometry is bent in waves that die out at the border of the place."""
    place = defect_place(plan, defect)
    field = _wave_field(place, rng)
    amplitude = length_px(plan, defect, WARP_PX)
    seen = lab_distance(_bent(image, field, amplitude), image, place)
    amplitude *= float(np.clip(grade(WARP_LAB, defect.strength) / max(seen, 1e-3), 0.4, 2.5))
    return compose(image, _bent(image, field, amplitude), opacity(plan, defect))


def _wave_field(place: MaskBool, rng: np.random.Generator) -> NDArray[np.float32]:
    """Displacements (H, W, 2) of up to 1, faded out towards the border of `place`."""
    x1, y1, x2, y2 = mask_box(place) or (0, 0, 1, 1)
    wave_px = max(12.0, min(x2 - x1, y2 - y1) / 1.3)
    ys, xs = np.mgrid[0 : place.shape[0], 0 : place.shape[1]].astype(np.float32) * np.float32(2 * np.pi / wave_px)
    phases = rng.uniform(0, 2 * np.pi, 4)
    dx = np.sin(ys + phases[0]) * 0.7 + np.sin(0.6 * xs + 0.5 * ys + phases[1]) * 0.3
    dy = np.sin(xs + phases[2]) * 0.7 + np.sin(0.5 * xs - 0.6 * ys + phases[3]) * 0.3
    depth = cv2.distanceTransform(place.astype(np.uint8), cv2.DIST_L2, 3)
    fade = np.clip(depth / max(2.0, 0.12 * min(x2 - x1, y2 - y1)), 0, 1)
    return np.asarray(np.stack([dx, dy], axis=-1) * fade[..., None], dtype=np.float32)


def _bent(image: ImageU8, field: NDArray[np.float32], amplitude_px: float) -> ImageU8:
    ys, xs = np.mgrid[0 : image.shape[0], 0 : image.shape[1]].astype(np.float32)
    map_x, map_y = xs + np.float32(amplitude_px) * field[..., 0], ys + np.float32(amplitude_px) * field[..., 1]
    bent = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(bent, dtype=np.uint8)
