"""Training batches: cheaply augmented pictures, and prompts on their objects as detectors and people give them.

What is random in a step hangs on seed and step alone, so a resumed training draws the same.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.models.sam_architectures import PIXEL_MEAN, PIXEL_STD, SamSizes
from runtime.masks import mask_box
from training.segmenter.config import SegmenterConfig
from training.segmenter.data import SIZE_PX, Pool

Rgb = NDArray[np.uint8]
Labels = NDArray[np.uint8]

#: A box of a detector is off by up to this share of its size and by up to this many pixels more, each side for itself.
_JITTER_SHARE, _JITTER_PX = 0.04, 2.0
_LEAST_AREA_PX = 60


@dataclass(frozen=True)
class PromptBatch:
    """B pictures with P prompts each, a picture's prompts in a row.

    images: (B, 3, S, S) float32, normalised. boxes: (B * P, 4) float32, XYXY in px of S; a point is its first two.
    is_point: (B * P,) bool. targets: (B * P, m, m) float32 in [0, 1], the share of each cell that the object covers.
    """

    images: Tensor
    boxes: Tensor
    is_point: Tensor
    targets: Tensor


def draw_batch(pool: Pool, config: SegmenterConfig, sizes: SamSizes, step: int) -> PromptBatch:
    """The batch of a step (from 0)."""
    rng = np.random.default_rng((config.seed, step))
    images, boxes, points, targets = [], [], [], []
    for index in rng.choice(len(pool), config.batch_images, replace=config.batch_images > len(pool)):
        image, labels, inside = _varied(pool.images_nhwc_u8[index], pool.labels_nhw[index], config, rng)
        images.append(_normalised(image, inside, sizes.image_px))
        present = [label for label, area_px in enumerate(np.bincount(labels.ravel())) if label and area_px]
        for turn in range(config.prompts):
            if turn % len(present) == 0:
                rng.shuffle(present)
            mask = labels == present[turn % len(present)]
            is_point = bool(rng.random() < config.point_share)
            prompt = point_prompt(mask, rng) if is_point else box_prompt(mask, rng, config.exact_share)
            boxes.append(prompt * (sizes.image_px / SIZE_PX))
            points.append(is_point)
            targets.append(_cells(mask, sizes.mask_px))
    return PromptBatch(
        images=torch.from_numpy(np.stack(images)),
        boxes=torch.from_numpy(np.stack(boxes).astype(np.float32)),
        is_point=torch.tensor(points),
        targets=torch.from_numpy(np.stack(targets)),
    )


def _varied(
    image: Rgb, labels: Labels, config: SegmenterConfig, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Labels, tuple[int, int]]:
    """(picture in 0..255, its labels, (height, width) that is not padding), turned, flipped, toned and at times cut."""
    if rng.random() < 0.5:
        image, labels = image.transpose(1, 0, 2), labels.T
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    if rng.random() < 0.5:
        image, labels = image[::-1], labels[::-1]
    if rng.random() < 0.3:
        image = image[:, :, rng.permutation(3)]
    gain = (rng.uniform(0.75, 1.25) * rng.uniform(0.9, 1.1, 3)).astype(np.float32)
    toned = np.clip(image * gain + np.float32(rng.uniform(-20, 20)), 0, 255)
    inside = (SIZE_PX, SIZE_PX)
    if rng.random() < config.padded_share:
        inside, cut = _cut(labels, rng)
        labels = cut if cut.any() else labels
        inside = inside if cut.any() else (SIZE_PX, SIZE_PX)
    return np.ascontiguousarray(toned), np.ascontiguousarray(labels), inside


def _cut(labels: Labels, rng: np.random.Generator) -> tuple[tuple[int, int], Labels]:
    """A rectangle of the picture, as of a photograph that is not square, and the labels of what is left in it."""
    kept_px = int(rng.uniform(0.55, 0.95) * SIZE_PX)
    height_px, width_px = (kept_px, SIZE_PX) if rng.random() < 0.5 else (SIZE_PX, kept_px)
    cut = labels.copy()
    cut[height_px:], cut[:, width_px:] = 0, 0
    for label, area_px in enumerate(np.bincount(cut.ravel())):
        if area_px < _LEAST_AREA_PX:
            cut[cut == label] = 0
    return (height_px, width_px), cut


def _normalised(image: NDArray[np.float32], inside: tuple[int, int], side_px: int) -> NDArray[np.float32]:
    """(3, side, side) as `Sam.preprocess` leaves it: mean 0, deviation 1, zeros where it is padded."""
    resized = cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA)
    pixels = (np.asarray(resized, dtype=np.float32) - np.array(PIXEL_MEAN, np.float32)) / np.array(
        PIXEL_STD, np.float32
    )
    height_px, width_px = (round(length * side_px / SIZE_PX) for length in inside)
    pixels[height_px:], pixels[:, width_px:] = 0, 0
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _cells(mask: NDArray[np.bool_], cells: int) -> NDArray[np.float32]:
    resized = cv2.resize(mask.astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.float32)


def box_prompt(mask: NDArray[np.bool_], rng: np.random.Generator, exact_share: float) -> NDArray[np.float64]:
    """The tight box of a mask, or a jittered one, XYXY in px."""
    tight = mask_box(mask)
    assert tight is not None, "a label that is present has pixels"
    box = np.array(tight, dtype=np.float64)
    if rng.random() < exact_share:
        return box
    size = np.tile(box[2:] - box[:2], 2)
    moved = np.clip(box + rng.uniform(-1, 1, 4) * (_JITTER_SHARE * size + _JITTER_PX), 0, SIZE_PX)
    return moved if (moved[2:] - moved[:2] >= 4).all() else box


def point_prompt(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
    """A pixel of the mask away from its edge, where a person clicks: x, y (twice)."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    ys, xs = np.nonzero(depth >= 0.5 * depth.max())
    chosen = int(rng.integers(len(ys)))
    return np.array([xs[chosen], ys[chosen], xs[chosen], ys[chosen]], dtype=np.float64)
